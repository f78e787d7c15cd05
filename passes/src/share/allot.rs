//! How many clusters each weight gets.
//!
//! One price of a bit for the whole network: each weight takes the number of clusters that is cheapest at that price,
//! its distortion weighed by how much the output feels it. The price is either given, or found by bisection so that
//! the estimated error of the output meets an aim.
//!
//! Source: Shoham and Gersho, "Efficient bit allocation for an arbitrary set of quantizers", 1988.

use onnx_dcomp_forms::Values;
use rayon::prelude::*;

use super::{Atoms, Clusters, Method, ShareOptions};

/// Numbers of clusters that are tried.
const COUNTS: [usize; 15] = [2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256];

/// Halvings of the range of prices, on a logarithmic scale.
const BISECTIONS: usize = 24;

/// One weight, clustered into every number of clusters at no price.
pub(super) struct Layer {
    atoms: Atoms,
    /// Relative squared error of the output for a unit of squared error.
    sensitivity: f64,
    /// Bits that each entry of the codebook takes in the file.
    entry_bits: f64,
    max_iterations: usize,
    candidates: Vec<Clusters>,
}

impl Layer {
    pub(super) fn new(dense: &Values, sensitivity: f64, options: &ShareOptions) -> Self {
        let atoms = Atoms::new(dense);
        let max_iterations = options.max_iterations as usize;
        let method = Method { init: options.init, seed: options.seed, lambda: 0.0, max_iterations };
        let candidates = COUNTS.iter().map(|&count| Clusters::find(&atoms, count, &method)).collect();
        let entry_bits = 8.0 * dense.dtype().element_bytes() as f64;
        Self { atoms, sensitivity, entry_bits, max_iterations, candidates }
    }

    /// The cheapest clusters where a bit costs `price`; of equally cheap ones, the fewest.
    fn best(&self, price: f64) -> Option<Clusters> {
        if self.sensitivity <= 0.0 {
            return self.candidates.first().cloned();
        }
        let lambda = price / self.sensitivity;
        let mut best: Option<(f64, Clusters)> = None;
        for start in &self.candidates {
            let clusters = start.constrain(&self.atoms, lambda, self.max_iterations);
            let cost = clusters.cost(lambda) + lambda * self.entry_bits * clusters.centroids.len() as f64;
            if best.as_ref().is_none_or(|(other, _)| cost < *other) {
                best = Some((cost, clusters));
            }
        }
        best.map(|(_, clusters)| clusters)
    }
}

/// The clusters of each layer at `price`, or, where that is 0, at the price whose estimated error of the output is
/// `aim`.
pub(super) fn allot(layers: &[Layer], price: f64, aim: f64) -> Vec<Option<Clusters>> {
    let at = |price: f64| -> Vec<Option<Clusters>> { layers.par_iter().map(|layer| layer.best(price)).collect() };
    if price > 0.0 {
        return at(price);
    }
    let error = |found: &[Option<Clusters>]| -> f64 {
        let errors = layers
            .iter()
            .zip(found)
            .map(|(layer, clusters)| clusters.as_ref().map_or(0.0, |clusters| layer.sensitivity * clusters.distortion));
        errors.sum()
    };
    // A bit that buys an error of 1 is worth every price up to that; prices below the other end buy nothing more.
    let (mut low, mut high) = (1e-20f64.ln(), 1f64.ln());
    let mut best = at(low.exp());
    for _ in 0..BISECTIONS {
        let middle = f64::midpoint(low, high);
        let found = at(middle.exp());
        if error(&found) <= aim {
            low = middle;
            best = found;
        } else {
            high = middle;
        }
    }
    best
}
