//! How far a network's output moves when a kernel does.

use std::sync::Mutex;

use onnx_dcomp_forms::{Form, Values};
use onnx_dcomp_ir::Model;
use rand::RngExt;
use rayon::prelude::*;

use super::layer::Layer;
use super::{open_in, synthetic};
use crate::backend::RuntimeKind;
use crate::error::EngineError;
use crate::tensor::Tensor;

/// Size of a perturbation, relative to the root mean square of the kernel: small enough that the output moves in
/// proportion, large enough that rounding does not matter.
const RELATIVE_PERTURBATION: f64 = 0.03;

/// Bytes that perturbed copies may take together, and how many times its weights one takes: as a message, as tensors,
/// and as a runtime lays them out for its kernels.
const COPIES_BYTES: u64 = 6 << 30;
const BYTES_PER_WEIGHT_BYTE: u64 = 5;

/// For each layer, the relative squared error of the output for one unit of squared error in its kernel; `None` where
/// the output did not move in finite numbers.
///
/// # Errors
/// What the runtime says of a model that it ran unperturbed.
pub fn measure(
    model: &Model,
    layers: &[Layer],
    runtime: RuntimeKind,
    batches: &[Vec<Tensor>],
    seed: u64,
    progress: &mut (dyn FnMut(usize) + Send),
) -> Result<Vec<Option<f64>>, EngineError> {
    let reference = outputs(model, runtime, batches)?;
    let energy = sums(&reference, centred_energy);
    let progress = Mutex::new((0usize, progress));
    let weight_bytes: u64 = model.weights().map(|(_, weight)| weight.dense_bytes()).sum();
    let copies = (COPIES_BYTES / BYTES_PER_WEIGHT_BYTE.saturating_mul(weight_bytes).max(1)).max(1);
    let at_once = usize::try_from(copies).unwrap_or(usize::MAX).min(layers.len().max(1));
    let numbered: Vec<(usize, &Layer)> = layers.iter().enumerate().collect();
    let mut measured = Vec::new();
    for some in numbered.chunks(at_once) {
        let of_some = some.par_iter().map(|&(number, layer)| {
            let (perturbed, added) = perturb(model, layer, seed.wrapping_add(1 + number as u64));
            let moved = outputs(&perturbed, runtime, batches)?;
            let mut distance = vec![0f64; energy.len()];
            for (moved, reference) in moved.iter().zip(&reference) {
                for ((sum, moved), reference) in distance.iter_mut().zip(moved).zip(reference) {
                    *sum += squared_distance(&moved.values, &reference.values);
                }
            }
            let each = distance.iter().zip(&energy).filter(|&(_, &energy)| energy > 0.0);
            let relative: f64 = each.map(|(distance, energy)| distance / energy).sum();
            if let Ok(mut progress) = progress.lock() {
                progress.0 += 1;
                let done = progress.0;
                (progress.1)(done);
            }
            let sensitivity = relative / added;
            Ok((sensitivity.is_finite() && sensitivity > 0.0).then_some(sensitivity))
        });
        measured.extend(of_some.collect::<Result<Vec<Option<f64>>, EngineError>>()?);
    }
    Ok(measured)
}

/// The model with noise on one kernel, and the noise's energy.
fn perturb(model: &Model, layer: &Layer, seed: u64) -> (Model, f64) {
    let mut perturbed = model.clone();
    let dense = model.weight(layer.id).form.dense();
    let mut values = dense.to_f32();
    let mean_square = values.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>() / values.len().max(1) as f64;
    // Uniform noise, whose extent is the square root of three times its root mean square.
    let extent = (RELATIVE_PERTURBATION * mean_square.sqrt() * 3f64.sqrt()) as f32;
    let mut random = synthetic::generator(seed);
    for value in &mut values {
        *value += random.random_range(-1.0f32..=1.0) * extent;
    }
    let noisy = Values::from_f32(dense.dtype(), &values);
    let added = noisy.iter().zip(dense.iter()).map(|(a, b)| (f64::from(a) - f64::from(b)).powi(2)).sum();
    perturbed.weight_mut(layer.id).form = Form::Dense(noisy);
    (perturbed, added)
}

/// One floating-point output of the model for one batch.
struct Output {
    /// Elements that belong to one channel of one sample.
    inner: usize,
    channels: usize,
    values: Vec<f32>,
}

/// For each output the sum of `of` over all batches.
fn sums(batches: &[Vec<Output>], of: impl Fn(&Output) -> f64) -> Vec<f64> {
    let mut sums = vec![0f64; batches.iter().map(Vec::len).max().unwrap_or(0)];
    for batch in batches {
        sums.iter_mut().zip(batch).for_each(|(sum, output)| *sum += of(output));
    }
    sums
}

/// The floating-point outputs of each batch.
fn outputs(model: &Model, runtime: RuntimeKind, batches: &[Vec<Tensor>]) -> Result<Vec<Vec<Output>>, EngineError> {
    let mut session = open_in(model, runtime)?;
    let mut all = Vec::new();
    for batch in batches {
        let outputs = session.run(batch)?;
        let floats = outputs.iter().filter(|output| output.element().is_float());
        let output = |output: &Tensor| Output {
            channels: output.shape().get(1).copied().unwrap_or(1),
            inner: output.shape().iter().skip(2).product(),
            values: output.to_f32().into_owned(),
        };
        all.push(floats.map(output).collect());
    }
    Ok(all)
}

fn squared_distance(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum()
}

/// Energy around each channel's mean: what a channel always gives says nothing of the input.
fn centred_energy(output: &Output) -> f64 {
    let channel_of = |index: usize| index / output.inner.max(1) % output.channels.max(1);
    let mut sums = vec![(0f64, 0usize); output.channels.max(1)];
    for (index, &value) in output.values.iter().enumerate() {
        let sum = &mut sums[channel_of(index)];
        *sum = (sum.0 + f64::from(value), sum.1 + 1);
    }
    let values = output.values.iter().enumerate();
    values
        .map(|(index, &value)| {
            let (sum, count) = sums[channel_of(index)];
            (f64::from(value) - sum / count as f64).powi(2)
        })
        .sum()
}
