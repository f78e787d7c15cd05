//! Work on weights in the order of the network, each with what has become of its layer's inputs.

use onnx_dcomp_ir::{Drift, Follow, Model};

/// Does what `work` says with each of `tasks` whose weight the way through `model` meets, in that order, and takes it from
/// the list; those that are left were not met. `name` is the weight's, and `follows` says whether a task asks for it: the
/// way ends where no task that is left does.
///
/// Returns why not all layers were met, where that is so.
pub(crate) fn in_order<T>(
    follow: &dyn Follow,
    model: &mut Model,
    tasks: &mut Vec<T>,
    name: impl Fn(&Model, &T) -> String,
    follows: impl Fn(&T) -> bool,
    mut work: impl FnMut(&mut Model, T, Option<&Drift>),
) -> Option<String> {
    let mut walk = follow.start(model);
    while tasks.iter().any(&follows) {
        match walk.next(model) {
            Ok(Some((met, drift))) => {
                let Some(place) = tasks.iter().position(|task| name(model, task) == met) else { continue };
                let task = tasks.remove(place);
                let drift = drift.filter(|_| follows(&task));
                work(model, task, drift.as_ref());
            }
            Ok(None) => break,
            Err(reason) => return Some(format!("{} layers were not followed: {reason}", tasks.len())),
        }
    }
    None
}
