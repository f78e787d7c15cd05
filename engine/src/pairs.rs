//! Two sessions side by side over a data set.

use rayon::prelude::*;

use crate::backend::Session;
use crate::dataset::{Dataset, Sample};
use crate::error::{EngineError, shape_text};
use crate::tensor::{Dimension, Tensor, TensorInfo};
use crate::validate::ValidateOptions;

/// Elements of one input that a batch may hold: beyond this, batches cost memory and gain nothing.
const BATCH_ELEMENTS: usize = 1 << 20;

/// Takes a sample with what each side gave for it.
type EachSample<'a> = dyn FnMut(&Sample, &[Vec<Tensor>; 2]) -> Result<(), EngineError> + 'a;

/// Runs both sides on every sample, batch by batch, and hands each sample to `each` with both sides' outputs, in order.
pub(crate) fn run_pairs(
    first: &mut dyn Session,
    second: &mut dyn Session,
    data: &dyn Dataset,
    options: &ValidateOptions,
    progress: &mut dyn FnMut(usize, usize),
    each: &mut EachSample<'_>,
) -> Result<(), EngineError> {
    let order = input_order(first, second)?;
    let total = data.len();
    progress(0, total);
    let mut done = 0;
    while done < total {
        let head = data.sample(done)?;
        let size = batch_size(first, second, &head, options).min(total - done);
        let rest: Vec<Sample> =
            (done + 1..done + size).into_par_iter().map(|index| data.sample(index)).collect::<Result<_, _>>()?;
        let mut samples = Vec::with_capacity(size);
        samples.push(head);
        samples.extend(rest);
        // Images that keep their own size run together only with their equals.
        for group in samples.chunk_by(|a, b| shapes(a).eq(shapes(b))) {
            let inputs = stack(group, first)?;
            let reordered: Vec<Tensor> = order.iter().filter_map(|&index| inputs.get(index).cloned()).collect();
            let (a, b) = rayon::join(|| first.run(&inputs), || second.run(&reordered));
            let sides = [a?, b?];
            check_outputs(&sides)?;
            // Inputs that are no batch of samples are one sample, whatever their first axis counts.
            let ran = inputs.first().and_then(|input| input.shape().first()).copied().unwrap_or(1);
            let rows = if group.iter().all(|sample| sample.batches) { ran } else { 1 };
            for (position, sample) in group.iter().enumerate() {
                let single =
                    |outputs: &[Tensor]| outputs.iter().map(|output| unstack(output, rows, position)).collect();
                each(sample, &[single(&sides[0]), single(&sides[1])])?;
            }
        }
        done += size;
        progress(done, total);
    }
    Ok(())
}

fn shapes(sample: &Sample) -> impl Iterator<Item = &[usize]> {
    sample.inputs.iter().map(Tensor::shape)
}

/// For each input of `second` the input of `first` that has its name, or its place.
fn input_order(first: &dyn Session, second: &dyn Session) -> Result<Vec<usize>, EngineError> {
    let (ours, theirs) = (first.inputs(), second.inputs());
    if ours.len() != theirs.len() {
        return Err(EngineError::ModelsDiffer(format!("they take {} and {} inputs", ours.len(), theirs.len())));
    }
    if first.outputs().len() != second.outputs().len() {
        let (a, b) = (first.outputs().len(), second.outputs().len());
        return Err(EngineError::ModelsDiffer(format!("they give {a} and {b} outputs")));
    }
    let place =
        |(index, info): (usize, &TensorInfo)| ours.iter().position(|our| our.name == info.name).unwrap_or(index);
    for (index, their) in theirs.iter().enumerate() {
        if let Some(our) = ours.get(place((index, their))).filter(|our| !our.may_equal(their)) {
            return Err(EngineError::ModelsDiffer(format!("their inputs are {our} and {their}")));
        }
    }
    Ok(theirs.iter().enumerate().map(place).collect())
}

/// How many samples of the kind of `head` run together.
fn batch_size(first: &dyn Session, second: &dyn Session, head: &Sample, options: &ValidateOptions) -> usize {
    let open_axis = |session: &dyn Session| {
        let open = |shape: &Vec<Dimension>| matches!(shape.first(), Some(Dimension::Dynamic(_)));
        let infos = session.inputs().iter().chain(session.outputs());
        infos.map(|info| info.shape.as_ref()).all(|shape| shape.is_some_and(open))
    };
    // A fixed batch is filled up with copies, which costs a whole run for each sample but works for any model.
    if !head.batches || !open_axis(first) || !open_axis(second) {
        return 1;
    }
    let largest = head.inputs.iter().map(Tensor::len).max().unwrap_or(1).max(1);
    options.batch.min(BATCH_ELEMENTS / largest).max(1)
}

/// The samples' inputs one after the other; copies of the last one fill a batch whose size the model fixes.
fn stack(group: &[Sample], session: &dyn Session) -> Result<Vec<Tensor>, EngineError> {
    let of_input = |(index, info): (usize, &TensorInfo)| {
        let mut parts: Vec<&Tensor> = group.iter().filter_map(|sample| sample.inputs.get(index)).collect();
        if let ([only], Some(fixed)) = (parts.as_slice(), batch_axis(info))
            && only.shape().first() == Some(&1)
        {
            parts = vec![*only; fixed.max(1)];
        }
        match parts.as_slice() {
            [only] => Ok((*only).clone()),
            several => Tensor::concatenate(several),
        }
    };
    session.inputs().iter().enumerate().map(of_input).collect()
}

fn batch_axis(info: &TensorInfo) -> Option<usize> {
    info.shape.as_ref().and_then(|shape| shape.first()).and_then(Dimension::fixed)
}

/// The part of a batch's output that belongs to the sample at `position`, where `rows` samples ran.
fn unstack(output: &Tensor, rows: usize, position: usize) -> Tensor {
    match output.shape().first() {
        Some(&count) if rows > 1 && count.is_multiple_of(rows) => {
            let each = count / rows;
            output.rows(position * each, (position + 1) * each)
        }
        _ => output.clone(),
    }
}

fn check_outputs(sides: &[Vec<Tensor>; 2]) -> Result<(), EngineError> {
    match sides[0].iter().zip(&sides[1]).enumerate().find(|(_, (a, b))| a.shape() != b.shape()) {
        Some((index, (a, b))) => Err(EngineError::ModelsDiffer(format!(
            "output {index} has shape {} in one and {} in the other",
            shape_text(a.shape()),
            shape_text(b.shape())
        ))),
        None => Ok(()),
    }
}
