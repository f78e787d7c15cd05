//! Parts of an output that are computed side by side, on threads that belong to whoever runs the model.
//!
//! A part is computed the same way wherever it begins and ends, so that outputs have the same bits on any number of
//! threads.

use std::sync::{Mutex, PoisonError};

/// What is done with a part: it gets the number of the part's first unit, and the part.
pub type Part<'a> = &'a (dyn Fn(usize, &mut [f32]) + Sync);

/// Threads that can be lent.
pub trait Threads {
    /// Cuts `outputs` into parts of whole units, each of `unit` elements, and has `work` compute every part.
    ///
    /// `unit` is not 0. `multiplications` is how much work all of them are, for whoever decides on the number of parts.
    fn run(&self, outputs: &mut [f32], unit: usize, multiplications: usize, work: Part<'_>);
}

/// The thread that is there anyway.
#[derive(Debug, Clone, Copy, Default)]
pub struct OneThread;

impl Threads for OneThread {
    fn run(&self, outputs: &mut [f32], _: usize, _: usize, work: Part<'_>) {
        work(0, outputs);
    }
}

/// Cuts `outputs` into at most `parts` of whole units and gives `spread` how many they are, and a task that computes the
/// one with a number. It is to run the task for every number, in whatever order and at once.
pub fn in_parts(
    outputs: &mut [f32],
    unit: usize,
    parts: usize,
    work: Part<'_>,
    spread: impl FnOnce(usize, &(dyn Fn(usize) + Sync)),
) {
    let units = (outputs.len() / unit).div_ceil(parts.max(1)).max(1);
    let parts: Vec<Mutex<&mut [f32]>> = outputs.chunks_mut(units * unit).map(Mutex::new).collect();
    spread(parts.len(), &|number| {
        if let Some(part) = parts.get(number) {
            work(number * units, &mut part.lock().unwrap_or_else(PoisonError::into_inner));
        }
    });
}
