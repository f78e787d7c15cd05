//! Inputs from samples of a data set, in batches.

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use crate::backend::Session;
use crate::dataset::{Dataset, Sample};
use crate::error::EngineError;
use crate::tensor::{Dimension, Tensor, TensorData};

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
    let each = elements_of(&first);
    let read: Vec<Sample> =
        places(data, each, most, elements).into_par_iter().map(|place| data.sample(place)).collect::<Result<_, _>>()?;
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

/// SHA-256 of the inputs that [`batches`] takes from the same samples: their types, shapes and values, in their order.
/// Where the samples lie, what they are called and what their labels say does not matter.
///
/// # Errors
/// Where a sample cannot be read.
pub fn digest(data: &dyn Dataset, most: usize, elements: usize) -> Result<[u8; 32], EngineError> {
    let each = elements_of(&data.sample(0)?);
    let of_sample = |place: usize| -> Result<[u8; 32], EngineError> {
        let sample = data.sample(place)?;
        let mut hash = Sha256::new();
        hash.update([u8::from(sample.batches)]);
        sample.inputs.iter().for_each(|input| hash_tensor(input, &mut hash));
        Ok(hash.finalize().into())
    };
    let digests: Vec<[u8; 32]> =
        places(data, each, most, elements).into_par_iter().map(of_sample).collect::<Result<_, _>>()?;
    let mut hash = Sha256::new();
    digests.iter().for_each(|digest| hash.update(digest));
    Ok(hash.finalize().into())
}

fn hash_tensor(tensor: &Tensor, hash: &mut Sha256) {
    macro_rules! hash_values {
        ($($kind:ident),+) => {
            match tensor.data() {
                $(TensorData::$kind(values) => values.iter().for_each(|value| hash.update(value.to_le_bytes())),)+
                TensorData::Bool(values) => values.iter().for_each(|&value| hash.update([u8::from(value)])),
            }
        };
    }
    hash.update(format!("{} {:?};", tensor.element(), tensor.shape()));
    hash_values!(F32, F64, F16, BF16, I8, I16, I32, I64, U8, U16, U32, U64);
}

/// Elements of all inputs of `sample`, at least one.
fn elements_of(sample: &Sample) -> usize {
    sample.inputs.iter().map(Tensor::len).sum::<usize>().max(1)
}

/// Which samples of `data` are taken, where each has `each` elements: at most `most`, of at most `elements` elements
/// together, spread evenly over all.
fn places(data: &dyn Dataset, each: usize, most: usize, elements: usize) -> Vec<usize> {
    let count = (elements / each).clamp(1, most.max(1)).min(data.len());
    (0..count).map(|index| (index as u128 * data.len() as u128 / count as u128) as usize).collect()
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
