//! How far the compressed network's outputs are from the original's, without data.

use onnx_dcomp_engine::evidence::synthetic::{Inputs, generator};
use onnx_dcomp_engine::{
    EngineError, ModelSource, PreprocessOptions, RuntimeKind, RuntimeOptions, Session, metrics, open,
};
use onnx_dcomp_ir::Model;
use serde::Serialize;

use crate::{Error, Watch};

/// What is known of the outputs.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Fidelity {
    /// Every weight is bit for bit what it was.
    Exact,
    /// Measured on synthetic inputs.
    Measured {
        /// Signal over noise of all outputs, in decibels; `null` in JSON where nothing differs.
        sqnr_db: f64,
        /// Largest absolute difference.
        max_abs_error: f64,
        /// Number of inputs.
        inputs: usize,
        /// The runtime that ran both models.
        runtime: &'static str,
    },
    /// Nothing is known.
    Unknown {
        /// Why.
        reason: String,
    },
}

/// The most inputs.
const SAMPLES: usize = 16;
/// The most elements that all inputs have together: what takes a few seconds in a convolutional network.
const ELEMENTS: usize = 1_000_000;
/// Models with more bytes of weights are not run twice more.
const LARGEST_BYTES: u64 = 256 << 20;
/// Other inputs than those that the evidence comes from.
const SEED_OFFSET: u64 = 0x5EED;

/// Runs both models on the same synthetic inputs.
pub(crate) fn measure(
    original: &Model,
    compressed: &Model,
    preprocess: &PreprocessOptions,
    seed: u64,
    watch: &dyn Watch,
) -> Fidelity {
    let bytes: u64 = original.weights().map(|(_, weight)| weight.dense_bytes()).sum();
    if bytes > LARGEST_BYTES {
        let reason = "not measured, the model is large; `onnx-dcomp validate` measures on samples".to_owned();
        return Fidelity::Unknown { reason };
    }
    watch.begin("measuring fidelity", None);
    let mut reasons = Vec::new();
    for kind in RuntimeKind::ALL {
        match run(kind, original, compressed, preprocess, seed.wrapping_add(SEED_OFFSET)) {
            Ok(found) => {
                watch.end();
                return found;
            }
            Err(error) => {
                let reason = error.to_string();
                if !reasons.contains(&reason) {
                    reasons.push(reason);
                }
            }
        }
    }
    watch.end();
    Fidelity::Unknown { reason: format!("not measured: {}", reasons.join("; ")) }
}

fn run(
    kind: RuntimeKind,
    original: &Model,
    compressed: &Model,
    preprocess: &PreprocessOptions,
    seed: u64,
) -> Result<Fidelity, Error> {
    let (mut reference, mut session) = (session(kind, original)?, session(kind, compressed)?);
    let preprocess = preprocess.resolve(reference.inputs(), reference.outputs())?;
    let mut inputs = Inputs::new(original, &preprocess);
    let mut distance = metrics::fidelity::Fidelity::default();
    let mut count = 0;
    loop {
        let samples = inputs.samples_within(ELEMENTS, SAMPLES);
        let batches = inputs.draw(samples, &mut generator(seed))?;
        let ran = batches.iter().try_for_each(|batch| -> Result<(), EngineError> {
            let (expected, found) = (reference.run(batch)?, session.run(batch)?);
            for (expected, found) in expected.iter().zip(&found) {
                distance.add(&expected.to_f32(), &found.to_f32());
            }
            count += batch.first().and_then(|input| input.shape().first().copied()).unwrap_or(1);
            Ok(())
        });
        match ran {
            Ok(()) => break,
            // Where a size was assumed that the network does not take, its full size is the next to try.
            Err(_) if count == 0 && inputs.use_full_size() => {}
            Err(error) => return Err(error.into()),
        }
    }
    let report = distance.report();
    Ok(Fidelity::Measured {
        sqnr_db: report.sqnr_db,
        max_abs_error: report.max_abs_error,
        inputs: count,
        runtime: kind.name(),
    })
}

/// `model`, packed or not, ready to run in `kind`.
pub(crate) fn session(kind: RuntimeKind, model: &Model) -> Result<Box<dyn Session>, Error> {
    let bytes = model.to_bytes()?;
    Ok(open(kind, ModelSource::bytes(model.source().name(), &bytes), &RuntimeOptions::default())?)
}
