//! `prune`: the smallest elements become zero.
//!
//! The weight stays in its form, so that later passes can go on: dense weights keep their zeros among the values (a
//! later `share` or `quantize` keeps exact zeros exact, and the coders see sparsity by themselves), codebooks send
//! them to code 0, grids to level 0. Levels of a trellis or a lattice depend on each other, so that these are left alone.
//!
//! The number of zeros is exact: of equal magnitudes those that come first are taken.
//!
//! With `criterion=obs` an element counts by what the layer's output loses with it once the elements that are left have
//! moved to make up for it; they then do move. That takes the second moment of the layer's input and a weight whose
//! values are free; other weights are pruned by magnitude, which is the same for an input without correlations.
//!
//! Sources: Han et al., "Learning both Weights and Connections for Efficient Neural Networks", 2015, section 3;
//! LeCun, Denker and Solla, "Optimal Brain Damage", 1990, for what `sensitivity` approximates: the error of the output
//! that zeroing an element adds is its square times the weight's sensitivity. `obs` names its own in `obs.rs`.
//! Cost: four reads of each weight, no copy for the choice. `obs`: for each row a sixth of the cube of its length in
//! multiplications, or some ten seconds of one core a weight, whichever is less; memory beside the weight: five bytes
//! an element, and for each thread the square of a row.

mod obs;
mod threshold;

use onnx_dcomp_forms::{Codebook, DType, Form, Grid, GridKind, Sparse, Values};
use onnx_dcomp_ir::{Evidence, Model, Weight, WeightId};
use rayon::prelude::*;

use crate::registry::Configured;
use crate::selection::{NOT_FINITE, NamePattern, Settings, check_select, reason_to_leave};
use crate::{Pass, PassError, PassReport};
use obs::Surgeon;
use threshold::{Cut, Scored, cuts};

crate::choices! {
    /// What makes an element worth keeping.
    pub enum Criterion {
        /// Its magnitude.
        Magnitude = "magnitude",
        /// What the layer's output loses with it when the elements that are left make up for it, which they then do:
        /// Optimal Brain Surgeon. Weights of whose input nothing is known go by magnitude.
        Obs = "obs",
    }
}

crate::choices! {
    /// Which elements compete with each other.
    pub enum Scope {
        /// Those of one weight: each weight reaches the sparsity.
        Layer = "layer",
        /// Those of all weights, by their plain magnitude. May empty layers of small values.
        Global = "global",
        /// Those of all weights, by their magnitude over the standard deviation of their weight.
        Normalised = "normalised",
        /// Those of all weights, by how much the network's output would feel their loss.
        Sensitivity = "sensitivity",
    }
}

crate::options! {
    /// Options of [`Prune`].
    pub struct PruneOptions {
        /// Fraction of the elements to zero; those that are zero already count.
        pub sparsity: f64 = 0.5, within 0.0..1.0;
        /// What makes an element worth keeping.
        pub criterion: Criterion = Criterion::Magnitude;
        /// Which elements compete: those of one weight, or those of all weights that have the same options.
        pub scope: Scope = Scope::Layer;
        /// With `criterion=obs`: what is added to the second moment's diagonal, as a fraction of its mean, for distrust
        /// in the evidence.
        pub damping: f64 = 0.02, within 0.0..=1000.0;
        /// Weights to prune, by name.
        pub select: NamePattern = NamePattern::all();
    }
}

/// Zeroes the elements that are missed least; see [the module](crate::prune).
pub struct Prune {
    settings: Settings<PruneOptions>,
}

impl Configured for Prune {
    type Options = PruneOptions;
    const NAME: &'static str = "prune";
    const SUMMARY: &'static str = "zeroes the elements of smallest magnitude, or those that the outputs miss least";
    const SOURCE: &'static str = "Han et al., Learning both Weights and Connections, 2015; Frantar and Alistarh, \
                                  Optimal Brain Compression, 2022, and SparseGPT, 2023";

    fn configured(settings: Settings<PruneOptions>) -> Self {
        Self { settings }
    }
}

impl From<PruneOptions> for Prune {
    fn from(options: PruneOptions) -> Self {
        Self::configured(options.into())
    }
}

/// One weight that may be pruned.
struct Task {
    id: WeightId,
    options: PruneOptions,
    dense: Values,
    /// With [`Criterion::Obs`] and evidence: who removes elements, and the saliency of each.
    surgery: Option<(Surgeon, Values)>,
}

impl Task {
    /// What says which elements go: the smallest do.
    fn scores(&self) -> &Values {
        self.surgery.as_ref().map_or(&self.dense, |(_, saliencies)| saliencies)
    }

    /// The weight, now `form`, without what `cut` takes.
    fn pruned(&self, form: &Form, cut: &Cut) -> Form {
        let Some((surgeon, saliencies)) = &self.surgery else { return zeroed(form, &self.dense, cut) };
        let mut values = self.dense.to_f32();
        let mut is_cut = vec![false; values.len()];
        cut.for_each(saliencies, |index| is_cut[index] = true);
        surgeon.remove(&mut values, &is_cut);
        let mut dense = Values::from_f32(self.dense.dtype(), &values);
        if !dense.all_finite() {
            // A narrow type does not hold what was moved.
            let zeroed = self.dense.iter().zip(is_cut).map(|(value, is_cut)| if is_cut { 0.0 } else { value });
            dense = Values::from_f32(dense.dtype(), &zeroed.collect::<Vec<_>>());
        }
        match form {
            Form::Sparse(_) => Form::Sparse(Sparse::from_dense(&dense)),
            _ => Form::Dense(dense),
        }
    }
}

impl Pass for Prune {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn run(&self, model: &mut Model, evidence: &Evidence) -> Result<PassReport, PassError> {
        check_select(Self::NAME, &self.settings.base().select, model)?;
        let mut tasks = self.tasks(model);
        let shared: &Model = model;
        tasks.par_iter_mut().for_each(|task| task.surgery = surgery(task, shared.weight(task.id), evidence));
        let mut pruned: Vec<(WeightId, Form)> = Vec::with_capacity(tasks.len());
        for group in groups(&tasks) {
            let scope = group.first().map_or(Scope::Layer, |task| task.options.scope);
            let factors: Vec<f32> =
                group.par_iter().map(|task| factor(task, scope, shared.weight(task.id), evidence)).collect();
            let scored: Vec<Scored<'_>> =
                group.iter().zip(factors).map(|(task, factor)| Scored { values: task.scores(), factor }).collect();
            let len: usize = scored.iter().map(|weight| weight.values.len()).sum();
            let sparsity = group.first().map_or(0.0, |task| task.options.sparsity);
            let cuts = cuts(&scored, (sparsity * len as f64).round() as usize);
            let forms = group
                .par_iter()
                .zip(cuts)
                .map(|(task, cut)| (task.id, task.pruned(&shared.weight(task.id).form, &cut)));
            pruned.extend(forms.collect::<Vec<_>>());
        }

        let mut report = PassReport::default();
        if let Some(note) = unknown_inputs(&tasks, shared) {
            report.note(note);
        }
        let (mut zeros, mut elements) = (0, 0);
        for (id, form) in pruned {
            let weight = model.weight_mut(id);
            let nonzeros = form.nonzeros();
            if nonzeros == 0 {
                report.note(format!("`{}` lost all its elements", weight.name));
            }
            zeros += form.len() - nonzeros;
            elements += form.len();
            weight.form = form;
        }
        if elements > 0 {
            let percent = 100.0 * zeros as f64 / elements as f64;
            report.note(format!("{zeros} of {elements} elements are zero in {} weights ({percent:.1} %)", tasks.len()));
        }
        Ok(report)
    }
}

impl Prune {
    /// The weights to prune. Those that may not be touched get the reason written down.
    fn tasks(&self, model: &mut Model) -> Vec<Task> {
        let candidates: Vec<(WeightId, PruneOptions)> = model
            .weights()
            .filter_map(|(id, weight)| Some((id, self.settings.for_weight(weight)?)))
            .filter(|(id, options)| options.select.matches(&model.weight(*id).name))
            .collect();
        let mut tasks = Vec::new();
        for (id, options) in candidates {
            let weight = model.weight_mut(id);
            // On these grids no level is a zero that leaves its neighbours what they are.
            if matches!(&weight.form, Form::Grid(grid) if grid.kind() != GridKind::Uniform) {
                continue;
            }
            let reason = reason_to_leave(weight).or_else(|| {
                let dense = weight.form.dense();
                if !dense.all_finite() {
                    return Some(NOT_FINITE.to_owned());
                }
                tasks.push(Task { id, options, dense, surgery: None });
                None
            });
            weight.left_alone = reason;
        }
        tasks
    }
}

/// What `task` needs to remove elements by [`Criterion::Obs`]; `None` where it asks for another, where nothing is known
/// of the input, or where the form ties the values to each other.
fn surgery(task: &Task, weight: &Weight, evidence: &Evidence) -> Option<(Surgeon, Values)> {
    if task.options.criterion != Criterion::Obs || !matches!(weight.form, Form::Dense(_) | Form::Sparse(_)) {
        return None;
    }
    let moment = evidence.second_moment.get(&weight.name)?;
    let row_length = weight.len() / weight.shape.first().copied()?.max(1);
    let surgeon = Surgeon::new(moment, task.options.damping, row_length)?;
    let saliencies = surgeon.saliencies(&task.dense.to_f32())?;
    Some((surgeon, Values::from_f32(DType::F32, &saliencies)))
}

/// Which weights went by magnitude although `obs` was asked for.
fn unknown_inputs(tasks: &[Task], model: &Model) -> Option<String> {
    let is_unknown = |task: &&Task| task.options.criterion == Criterion::Obs && task.surgery.is_none();
    let names: Vec<String> =
        tasks.iter().filter(is_unknown).map(|task| format!("`{}`", model.weight(task.id).name)).collect();
    let reason = "by magnitude, since the moments of their inputs are not known, or their values not free";
    (!names.is_empty()).then(|| format!("{} weights went {reason}: {}", names.len(), names.join(", ")))
}

/// The weights whose elements compete with each other.
fn groups(tasks: &[Task]) -> Vec<Vec<&Task>> {
    let mut groups: Vec<Vec<&Task>> = Vec::new();
    for task in tasks {
        let is_alike = |group: &&mut Vec<&Task>| group.first().is_some_and(|first| first.options == task.options);
        match groups.iter_mut().find(is_alike) {
            Some(group) if task.options.scope != Scope::Layer => group.push(task),
            _ => groups.push(vec![task]),
        }
    }
    groups
}

/// What the magnitudes of a weight are multiplied by, so that those of different weights compare.
fn factor(task: &Task, scope: Scope, weight: &Weight, evidence: &Evidence) -> f32 {
    let len = task.dense.len() as f64;
    let energy = || -> f64 { task.dense.iter().map(|value| f64::from(value).powi(2)).sum() };
    let factor = match scope {
        Scope::Layer | Scope::Global => 1.0,
        Scope::Normalised => {
            let mean = task.dense.iter().map(f64::from).sum::<f64>() / len;
            (energy() / len - mean * mean).max(0.0).sqrt().recip()
        }
        Scope::Sensitivity => evidence.sensitivity_of(&weight.name, energy()).sqrt(),
    };
    // A constant weight has no deviation to measure by; nothing of it is worth less than elsewhere.
    factor.clamp(f64::from(f32::MIN_POSITIVE), f64::from(f32::MAX)) as f32
}

/// `form` with the elements of `cut` at exact positive zero. Only uniform grids come here.
fn zeroed(form: &Form, dense: &Values, cut: &Cut) -> Form {
    match form {
        Form::Codebook(codebook) => zeroed_codebook(codebook, dense, cut),
        Form::Grid(grid) => {
            let mut levels = grid.levels().to_vec();
            cut.for_each(dense, |index| levels[index] = 0);
            let grid = Grid::new(levels, grid.steps().clone(), grid.kind(), grid.dtype());
            Form::Grid(grid.expect("the steps were taken from a grid"))
        }
        Form::Dense(_) => Form::Dense(zeroed_values(dense, cut)),
        Form::Sparse(_) => Form::Sparse(Sparse::from_dense(&zeroed_values(dense, cut))),
    }
}

fn zeroed_values(dense: &Values, cut: &Cut) -> Values {
    let size = dense.dtype().element_bytes();
    let mut bytes = dense.bytes().to_vec();
    cut.for_each(dense, |index| bytes[index * size..(index + 1) * size].fill(0));
    Values::new(dense.dtype(), bytes).expect("the buffer keeps its length")
}

/// Code 0 becomes the exact zero, where it was not yet. A codebook that is full of other values has no room for it.
fn zeroed_codebook(codebook: &Codebook, dense: &Values, cut: &Cut) -> Form {
    let mut codes = codebook.codes().to_vec();
    let mut centroids = codebook.centroids().clone();
    if !codebook.has_zero() {
        if centroids.len() == Codebook::MAX_CENTROIDS {
            return Form::Dense(zeroed_values(dense, cut));
        }
        codes.iter_mut().for_each(|code| *code += 1);
        let mut bytes = vec![0u8; centroids.dtype().element_bytes()];
        bytes.extend_from_slice(centroids.bytes());
        centroids = Values::new(centroids.dtype(), bytes).expect("one whole element was put in front");
    }
    cut.for_each(dense, |index| codes[index] = 0);
    Form::Codebook(Codebook::new(codes, centroids).expect("every code keeps its centroid"))
}
