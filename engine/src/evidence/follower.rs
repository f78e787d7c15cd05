//! A network on its samples, followed layer by layer while it is being compressed.
//!
//! The original and the compressed network run side by side, each up to the input of the next layer and from there on
//! to the next, so that a whole way through costs one run of each. What the layers of the original meet is remembered, as
//! far as memory allows, since a search goes the same way for every candidate.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use onnx_dcomp_ir::{Drift, Follow, Model, Walk, Weight};

use super::frontier::{Frontier, Route};
use super::layer::{self, Layer, Patch};
use super::moments::PatchCount;
use super::{Probe, drift, samples};
use crate::backend::RuntimeKind;
use crate::dataset::Dataset;
use crate::error::EngineError;
use crate::tensor::Tensor;

/// Samples that are followed; more, up to the second number, where a layer meets each sample but once.
const SAMPLES: [usize; 2] = [128, 1024];

/// Samples for each column of such a layer.
const SAMPLES_PER_COLUMN: usize = 2;

/// Elements that the samples have together at most.
const ELEMENTS: usize = 4_000_000;

/// Elements of what is remembered of the original: 256 MB of `f32`.
const REMEMBERED_ELEMENTS: usize = 1 << 26;

/// Samples of the data that a network is calibrated on, and the runtime that it runs in.
pub struct Follower {
    batches: Vec<Vec<Tensor>>,
    runtime: RuntimeKind,
    memory: Mutex<Memory>,
}

/// What the layers of one original meet.
#[derive(Default)]
struct Memory {
    original: Option<Model>,
    /// Counts the originals.
    generation: u64,
    inputs: HashMap<String, Arc<Vec<Tensor>>>,
    elements: usize,
}

impl Follower {
    /// Takes at most 1,024 samples of `data`, spread evenly over all, as inputs of `model`; fewer where they are large, or
    /// where no layer needs so many.
    ///
    /// # Errors
    /// Where a sample cannot be read, or no runtime takes the model.
    pub fn new(model: &Model, data: &dyn Dataset) -> Result<Self, EngineError> {
        let layers = layer::layers(model);
        let probe = Probe::open(model, &layers)?;
        let vectors = layers.iter().filter_map(|layer| match layer.patch {
            Some(Patch::Vector { columns }) => Some(columns * SAMPLES_PER_COLUMN),
            _ => None,
        });
        let wanted = vectors.max().unwrap_or_default().clamp(SAMPLES[0], SAMPLES[1]);
        let batches = samples::batches(data, wanted, ELEMENTS, probe.session.as_ref())?;
        Ok(Self { batches, runtime: probe.session.runtime(), memory: Mutex::default() })
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        // It is sound after every statement.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Memory {
    /// Begins anew, unless `original` is the one that is remembered; the number of its generation.
    fn turn_to(&mut self, original: &Model) -> u64 {
        let is_known = self.original.as_ref().is_some_and(|known| {
            let same =
                |((id, known), (other, weight)): ((_, &Weight), (_, &Weight))| id == other && known.form == weight.form;
            known.proto == original.proto && known.weights().zip(original.weights()).all(same)
        });
        if !is_known {
            let generation = self.generation + 1;
            *self = Self { original: Some(original.clone()), generation, ..Self::default() };
        }
        self.generation
    }

    fn recall(&self, generation: u64, input: &str) -> Option<Arc<Vec<Tensor>>> {
        self.inputs.get(input).filter(|_| self.generation == generation).cloned()
    }

    fn remember(&mut self, generation: u64, input: &str, values: &Arc<Vec<Tensor>>) {
        let elements: usize = values.iter().map(Tensor::len).sum();
        if self.generation == generation && self.elements + elements <= REMEMBERED_ELEMENTS {
            self.elements += elements;
            self.inputs.insert(input.to_owned(), Arc::clone(values));
        }
    }
}

impl Follow for Follower {
    fn start(&self, original: &Model) -> Box<dyn Walk + '_> {
        let layers = layer::layers(original);
        let route = Route::new(original.graph(), layers.iter().map(|layer| layer.input.as_str()));
        let frontier = || Frontier::new(original.graph(), &self.batches, self.runtime);
        let generation = self.memory().turn_to(original);
        let before = Before { follower: self, original: original.clone(), route, frontier: frontier(), generation };
        Box::new(Way { before, now: frontier(), layers, next: 0 })
    }
}

/// One way through the network.
struct Way<'a> {
    before: Before<'a>,
    /// In what becomes of it.
    now: Frontier,
    layers: Vec<Layer>,
    next: usize,
}

/// The way through the original.
struct Before<'a> {
    follower: &'a Follower,
    original: Model,
    route: Route,
    frontier: Frontier,
    generation: u64,
}

impl Before<'_> {
    /// The values of `input`, for each batch.
    fn values(&mut self, input: &str) -> Result<Arc<Vec<Tensor>>, EngineError> {
        let recalled = self.follower.memory().recall(self.generation, input);
        if let Some(values) = recalled {
            return Ok(values);
        }
        self.frontier.advance(&self.original, &self.route, input)?;
        let values = Arc::new(self.frontier.values(input).to_vec());
        self.follower.memory().remember(self.generation, input, &values);
        Ok(values)
    }
}

impl Walk for Way<'_> {
    fn next(&mut self, model: &Model) -> Result<Option<(String, Option<Drift>)>, String> {
        let Some(layer) = self.layers.get(self.next) else { return Ok(None) };
        let ahead = self.layers[self.next..].iter().map(|layer| layer.input.as_str());
        let route = Route::new(model.graph(), ahead);
        let is_first = self.next == 0;
        self.next += 1;
        let (before, now) = (&mut self.before, &mut self.now);
        let (before, reached) =
            rayon::join(|| before.values(&layer.input), || now.advance(model, &route, &layer.input));
        let before = reached.and(before).map_err(|error| error.to_string())?;
        // Nothing has moved yet; and what one of several readers meets is no reason to move the kernel of all.
        let drift = (!is_first && !layer.is_shared)
            .then(|| drift::measure(layer, &before, now.values(&layer.input), PatchCount::QUICK));
        Ok(Some((layer.weight.clone(), drift.flatten())))
    }
}
