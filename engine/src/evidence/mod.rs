//! Evidence: what running the network tells the passes about its weights.
//!
//! [`gather`] needs no data: it draws seeded synthetic inputs that fit what the model takes. [`calibrate`] takes samples.
//! Both run the model and note two things: for each layer the second moment of what its rows are multiplied with, and
//! for each kernel how far the output moves when the kernel does. No label is looked at.
//!
//! | module | what |
//! |---|---|
//! | [`synthetic`] | inputs: images of overlapping shapes, strokes on a dark ground, or noise |
//! | [`samples`] | inputs: samples of a data set, in batches |
//! | [`layer`] | which layers there are, and the patches that their kernels meet |
//! | [`moments`] | second moments, summed patch by patch in bounded memory |
//! | [`sensitivity`] | how far the output moves with each kernel |
//! | [`follower`] | the network layer by layer, while it is being compressed |
//! | `frontier` | a network that runs piece by piece |
//! | `drift` | how a layer's input has moved |
//! | [`key`] | what evidence was gathered from, in digests |
//! | [`mod@file`] | evidence in a file, to be used again |

mod drift;
pub mod file;
pub mod follower;
mod frontier;
pub mod key;
pub mod layer;
pub mod moments;
pub mod samples;
pub mod sensitivity;
pub mod synthetic;

use onnx_dcomp_ir::{Evidence, Model};
use rayon::prelude::*;

use crate::backend::{ModelSource, RuntimeKind, RuntimeOptions, Session, open};
use crate::dataset::Dataset;
use crate::error::EngineError;
use crate::preprocess::PreprocessOptions;
use crate::tensor::Tensor;
pub use file::{EvidenceFile, EvidenceFileError};
pub use follower::Follower;
pub use key::EvidenceKey;
use layer::Layer;
use moments::{Accumulator, PatchCount};

/// How evidence is gathered.
#[derive(Debug, Clone)]
pub struct EvidenceOptions {
    /// Inputs that second moments are taken from, if they are small; large ones are fewer. Default: 1024.
    pub samples: usize,
    /// Seed of the synthetic inputs and of the perturbations. Default: 0.
    pub seed: u64,
    /// How images become inputs, as far as it is known.
    pub preprocess: PreprocessOptions,
    /// Models with more bytes of weights are not run on synthetic inputs: what their weights alone tell must do.
    /// Default: 256 MiB.
    pub largest_model_bytes: u64,
}

impl Default for EvidenceOptions {
    fn default() -> Self {
        Self { samples: 1024, seed: 0, preprocess: PreprocessOptions::default(), largest_model_bytes: 256 << 20 }
    }
}

/// Elements that all inputs for the second moments may have together: synthetic ones, and samples.
const MOMENT_ELEMENTS: [usize; 2] = [4_000_000, 16_000_000];

/// Elements of the weights of a model that is so large that fewer synthetic inputs must do.
const LARGE_MODEL: usize = 1 << 24;

/// Elements that all its synthetic inputs for the second moments may have together.
const LARGE_MODEL_MOMENT_ELEMENTS: usize = 1_000_000;

/// Elements that all inputs of one sensitivity run may have together: synthetic ones, and samples.
const SENSITIVITY_ELEMENTS: [usize; 2] = [200_000, 800_000];

/// Inputs of one sensitivity run: synthetic ones, and samples.
const SENSITIVITY_SAMPLES: [usize; 2] = [32, 256];

/// Hears of the work done and of all work.
pub type Progress<'a> = dyn FnMut(usize, usize) + Send + 'a;

/// Runs `model` on synthetic inputs. `progress` is called with the work done and all work.
///
/// Where the model cannot be run here (too large, an operator that no runtime knows), the evidence is empty and its
/// [`Evidence::source`] says why; passes then go by the weights alone.
///
/// # Errors
/// Only what is wrong with the options: preprocessing that does not fit the model's inputs.
pub fn gather(model: &Model, options: &EvidenceOptions, progress: &mut Progress<'_>) -> Result<Evidence, EngineError> {
    let weight_bytes: u64 = model.weights().map(|(_, weight)| weight.dense_bytes()).sum();
    let without =
        |reason: String| Ok(Evidence { source: format!("the weights alone, since {reason}"), ..Evidence::default() });
    if weight_bytes > options.largest_model_bytes {
        return without(format!("running {} MB of weights would take long", weight_bytes / 1_000_000));
    }
    let layers = layer::layers(model);
    if layers.is_empty() {
        return without("there is no layer with a kernel".to_owned());
    }
    let mut probe = match Probe::open(model, &layers) {
        Ok(probe) => probe,
        Err(error) => return without(format!("the model does not run here: {error}")),
    };
    let preprocess = options.preprocess.resolve(probe.session.inputs(), probe.session.outputs())?;
    let mut random = synthetic::generator(options.seed);
    let mut inputs = synthetic::Inputs::new(model, &preprocess);
    let weights: usize = model.weights().map(|(_, weight)| weight.len()).sum();
    let most = if weights >= LARGE_MODEL { LARGE_MODEL_MOMENT_ELEMENTS } else { MOMENT_ELEMENTS[0] };
    let (samples, few) = (inputs.samples_within(most, options.samples), {
        inputs.samples_within(SENSITIVITY_ELEMENTS[0], SENSITIVITY_SAMPLES[0]).max(2)
    });
    let mut batches = match inputs.draw(samples.max(few), &mut random) {
        Ok(batches) => batches,
        Err(error) => return without(error.to_string()),
    };
    // Where sizes were assumed that the network does not take, its full size is the next to try.
    if probe.run(&batches[0]).is_err() && inputs.use_full_size() {
        let samples = inputs.samples_within(most, options.samples).max(2);
        batches = match inputs.draw(samples, &mut random) {
            Ok(batches) => batches,
            Err(error) => return without(error.to_string()),
        };
    }
    let runtime = probe.session.runtime();
    let count = samples::count(&batches);
    let source = inputs.describe(count, runtime.name());
    let study = Study { model, layers: &layers, patches: PatchCount::ROUGH, few, seed: options.seed };
    match study.run(probe, &batches, progress) {
        Ok(evidence) => Ok(Evidence { source, ..evidence }),
        Err(error) => without(format!("the model does not run on synthetic inputs: {error}")),
    }
}

/// Runs `model` on samples of `data`, which are the model's own inputs: at most [`EvidenceOptions::samples`], spread
/// evenly over all, fewer where they are large. `progress` is called with the work done and all work.
///
/// # Errors
/// Where a sample cannot be read, or the model does not run on it.
pub fn calibrate(
    model: &Model,
    data: &dyn Dataset,
    options: &EvidenceOptions,
    progress: &mut Progress<'_>,
) -> Result<Evidence, EngineError> {
    let layers = layer::layers(model);
    if layers.is_empty() {
        let source = "the weights alone, since there is no layer with a kernel".to_owned();
        return Ok(Evidence { source, ..Evidence::default() });
    }
    let probe = Probe::open(model, &layers)?;
    let batches = samples::batches(data, options.samples, MOMENT_ELEMENTS[1], probe.session.as_ref())?;
    let count = samples::count(&batches);
    let each = batches.iter().flatten().map(Tensor::len).sum::<usize>() / count.max(1);
    let few = (SENSITIVITY_ELEMENTS[1] / each.max(1)).clamp(2, SENSITIVITY_SAMPLES[1]);
    let source = format!("{count} samples, run in {}", probe.session.runtime().name());
    let study = Study { model, layers: &layers, patches: PatchCount::FINE, few, seed: options.seed };
    Ok(Evidence { source, ..study.run(probe, &batches, progress)? })
}

/// What is to be found out, and how thoroughly.
struct Study<'a> {
    model: &'a Model,
    layers: &'a [Layer],
    patches: PatchCount,
    /// Inputs of a sensitivity run.
    few: usize,
    seed: u64,
}

impl Study<'_> {
    /// Runs the model on all batches, and perturbed copies of it on the first of them.
    fn run(
        &self,
        mut probe: Probe,
        batches: &[Vec<Tensor>],
        progress: &mut Progress<'_>,
    ) -> Result<Evidence, EngineError> {
        let total = batches.len() + self.layers.len();
        let mut moments: Vec<Accumulator> =
            self.layers.iter().map(|layer| Accumulator::new(layer, self.patches)).collect();
        for (done, batch) in batches.iter().enumerate() {
            progress(done, total);
            let activations = probe.run(batch)?;
            let pairs: Vec<_> = self.layers.iter().zip(&mut moments).zip(&activations).collect();
            pairs.into_par_iter().for_each(|((layer, accumulator), activation)| {
                accumulator.add(layer, activation, batches.len());
            });
        }
        let few = samples::take(batches, self.few);
        let runtime = probe.session.runtime();
        drop(probe);
        let measured = sensitivity::measure(self.model, self.layers, runtime, &few, self.seed, &mut |done| {
            progress(batches.len() + done, total);
        })?;
        let moments: Vec<_> = moments.into_iter().map(Accumulator::finish).collect();
        let mut evidence = Evidence::default();
        for ((layer, moment), sensitivity) in self.layers.iter().zip(moments).zip(measured) {
            if let Some(bias) = &layer.bias
                && self.layers.iter().filter(|other| other.bias.as_ref() == Some(bias)).count() == 1
            {
                evidence.bias.insert(layer.weight.clone(), bias.clone());
            }
            if let (Some(sensitivity), Some(bias), Some(moment)) = (sensitivity, &layer.bias, &moment) {
                // One unit of error in a bias is what a unit of error in a row would be if the input were one.
                evidence.sensitivity.insert(bias.clone(), sensitivity / moment.mean_square().max(1e-12));
            }
            if let Some(sensitivity) = sensitivity {
                evidence.sensitivity.insert(layer.weight.clone(), sensitivity);
            }
            if let Some(moment) = moment.filter(|_| layer.rows_are_contiguous) {
                evidence.second_moment.insert(layer.weight.clone(), moment);
            }
        }
        Ok(evidence)
    }
}

/// The model with the inputs of its layers as further outputs.
struct Probe {
    session: Box<dyn Session>,
    /// For each layer the position of its input among the outputs; `None` where it is a graph input itself.
    outputs: Vec<Result<usize, usize>>,
}

impl Probe {
    fn open(model: &Model, layers: &[layer::Layer]) -> Result<Self, EngineError> {
        let (probed, outputs) = layer::with_outputs(model, layers);
        let session = open_bytes(&probed)?;
        Ok(Self { session, outputs })
    }

    /// The input of each layer.
    fn run(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, EngineError> {
        let outputs = self.session.run(inputs)?;
        let pick = |position: &Result<usize, usize>| match position {
            Ok(output) => outputs[*output].clone(),
            Err(input) => inputs[*input].clone(),
        };
        Ok(self.outputs.iter().map(pick).collect())
    }
}

/// Opens `model` in the first runtime that takes it; tract first, so that results do not depend on what is installed.
fn open_bytes(model: &Model) -> Result<Box<dyn Session>, EngineError> {
    open_in(model, RuntimeKind::Tract).or_else(|error| open_in(model, RuntimeKind::Onnxruntime).map_err(|_| error))
}

/// Opens `model` in `runtime`.
fn open_in(model: &Model, runtime: RuntimeKind) -> Result<Box<dyn Session>, EngineError> {
    let name = model.source().name();
    let bytes = model.to_bytes().map_err(|error| EngineError::OpenModel {
        runtime: runtime.name(),
        model: name.to_owned(),
        reason: error.to_string(),
    })?;
    open(runtime, ModelSource::bytes(name, &bytes), &RuntimeOptions::default())
}
