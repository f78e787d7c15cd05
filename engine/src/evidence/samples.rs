//! Inputs from samples of a data set, in batches.

use rayon::prelude::*;

use crate::backend::Session;
use crate::dataset::{Dataset, Sample};
use crate::error::EngineError;
use crate::tensor::{Dimension, Tensor};

/// Samples that run together, where the model's first axis is open and they are small.
const BATCH: usize = 32;

/// Elements of one batch.
const BATCH_ELEMENTS: usize = 1 << 20;

/// At most `most` samples of `data`, spread evenly over all, with at most `elements` elements together (one sample at
/// least): one tensor for each input of the model that `session` runs.
///
/// # Errors
/// Where a sample cannot be read.
pub fn batches(
    data: &dyn Dataset,
    most: usize,
    elements: usize,
    session: &dyn Session,
) -> Result<Vec<Vec<Tensor>>, EngineError> {
    let first = data.sample(0)?;
    let each = first.inputs.iter().map(Tensor::len).sum::<usize>().max(1);
    let count = (elements / each).clamp(1, most.max(1)).min(data.len());
    let place = |index: usize| (index as u128 * data.len() as u128 / count as u128) as usize;
    let read: Vec<Sample> =
        (0..count).into_par_iter().map(|index| data.sample(place(index))).collect::<Result<_, _>>()?;
    let fixed = session.inputs().first().and_then(|info| info.shape.as_ref()?.first().and_then(Dimension::fixed));
    let size = match fixed {
        Some(_) => 1,
        None if first.batches => (BATCH_ELEMENTS / each).clamp(1, BATCH),
        None => 1,
    };
    let mut batches = Vec::new();
    for equals in read.chunk_by(|a, b| shapes(a).eq(shapes(b))) {
        for group in equals.chunks(size) {
            let input = |index: usize| {
                let parts: Vec<&Tensor> = group.iter().filter_map(|sample| sample.inputs.get(index)).collect();
                match (parts.as_slice(), fixed) {
                    // A model of a fixed batch gets copies of its only sample.
                    ([only], Some(rows)) if rows > 1 && only.shape().first() == Some(&1) => {
                        Tensor::concatenate(&vec![*only; rows])
                    }
                    ([only], _) => Ok((*only).clone()),
                    (several, _) => Tensor::concatenate(several),
                }
            };
            batches.push((0..session.inputs().len()).map(input).collect::<Result<Vec<Tensor>, _>>()?);
        }
    }
    Ok(batches)
}

fn shapes(sample: &Sample) -> impl Iterator<Item = &[usize]> {
    sample.inputs.iter().map(Tensor::shape)
}

/// Number of samples in `batches`.
pub fn count(batches: &[Vec<Tensor>]) -> usize {
    batches.iter().map(|batch| batch.first().and_then(|input| input.shape().first().copied()).unwrap_or(1)).sum()
}

/// The first `samples` samples of `batches`.
pub fn take(batches: &[Vec<Tensor>], samples: usize) -> Vec<Vec<Tensor>> {
    let mut left = samples;
    let mut taken = Vec::new();
    for batch in batches {
        if left == 0 {
            break;
        }
        let count = batch.first().and_then(|input| input.shape().first().copied()).unwrap_or(1);
        taken.push(if count <= left { batch.clone() } else { batch.iter().map(|input| input.rows(0, left)).collect() });
        left = left.saturating_sub(count);
    }
    taken
}
