//! A network on its samples, followed layer by layer while it is being compressed.
//!
//! The original and the compressed network run side by side, each up to the input of the next layer and from there on
//! to the next, so that a whole way through costs one run of each.

use onnx_dcomp_ir::{Drift, Follow, Model, Walk};

use super::frontier::{Frontier, Route};
use super::layer::{self, Layer};
use super::moments::PatchCount;
use super::{Probe, drift, samples};
use crate::backend::RuntimeKind;
use crate::dataset::Dataset;
use crate::error::EngineError;
use crate::tensor::Tensor;

/// Samples that are followed, and the elements that these have together at most; of small ones more, since each is one
/// input only for a layer that is not a convolution.
const SAMPLES: [usize; 2] = [256, 1024];
const ELEMENTS: [usize; 2] = [4_000_000, 1_000_000];

/// Samples of the data that a network is calibrated on, and the runtime that it runs in.
pub struct Follower {
    batches: Vec<Vec<Tensor>>,
    runtime: RuntimeKind,
}

impl Follower {
    /// Takes at most 1,024 samples of `data`, spread evenly over all, as inputs of `model`; fewer where they are large.
    ///
    /// # Errors
    /// Where a sample cannot be read, or no runtime takes the model.
    pub fn new(model: &Model, data: &dyn Dataset) -> Result<Self, EngineError> {
        let probe = Probe::open(model, &layer::layers(model))?;
        let session = probe.session.as_ref();
        let [few, many] = [0, 1].map(|place| samples::batches(data, SAMPLES[place], ELEMENTS[place], session));
        let [few, many] = [few?, many?];
        let batches = if samples::count(&many) > samples::count(&few) { many } else { few };
        Ok(Self { batches, runtime: probe.session.runtime() })
    }
}

impl Follow for Follower {
    fn start(&self, original: &Model) -> Box<dyn Walk + '_> {
        let layers = layer::layers(original);
        let route = Route::new(original.graph(), layers.iter().map(|layer| layer.input.as_str()));
        let frontier = || Frontier::new(original.graph(), &self.batches, self.runtime);
        Box::new(Way { original: original.clone(), route, layers, next: 0, frontiers: [frontier(), frontier()] })
    }
}

/// One way through the network.
struct Way {
    original: Model,
    route: Route,
    layers: Vec<Layer>,
    next: usize,
    /// In the original, and in what it becomes.
    frontiers: [Frontier; 2],
}

impl Walk for Way {
    fn next(&mut self, model: &Model) -> Result<Option<(String, Option<Drift>)>, String> {
        let Some(layer) = self.layers.get(self.next) else { return Ok(None) };
        let is_first = self.next == 0;
        self.next += 1;
        let [before, now] = &mut self.frontiers;
        let (route, input) = (&self.route, layer.input.as_str());
        let ahead = self.layers[self.next - 1..].iter().map(|layer| layer.input.as_str());
        let new_route = Route::new(model.graph(), ahead);
        let advanced =
            rayon::join(|| before.advance(&self.original, route, input), || now.advance(model, &new_route, input));
        advanced.0.and(advanced.1).map_err(|error| error.to_string())?;
        // Nothing has moved yet.
        let drift =
            (!is_first).then(|| drift::measure(layer, before.values(input), now.values(input), PatchCount::QUICK));
        Ok(Some((layer.weight.clone(), drift.flatten())))
    }
}
