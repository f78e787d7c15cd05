//! Codebooks for codes of fixed length: how many values pay for their bits.
//!
//! Without an entropy coder behind it a code takes the same bits whatever it says, so that what counts is the number of
//! values. K-means is run for each number that fills its codes; squared error and the price of bits decide. Where the
//! layer's input is known, the codebook that is chosen is then fitted to the layer's outputs.
//!
//! Sources: Lloyd, "Least squares quantization in PCM", 1957/1982; Max, "Quantizing for minimum distortion", 1960;
//! [`feedback`] names those of the fit. Cost: sixteen runs of k-means over sorted points.

use onnx_dcomp_forms::{Codebook, Form, Values};
use onnx_dcomp_ir::Weight;

use crate::curvature::Damped;
use crate::portable::radix::{code_bits, full_counts};
use crate::share::{Atoms, Clusters, Init, Method, apply, feedback};

/// The most values that are tried: with more, codes would take more than a byte.
const MOST_VALUES: usize = 256;

const MAX_ITERATIONS: usize = 100;

/// The codebook of `weight`, whose values are `dense` now, at `price` for a bit in squared error. `None` where the weight
/// is better left as it is: a vector beside a kernel, or a codebook already.
pub(super) fn codebook(weight: &Weight, dense: &Values, blocks: Option<&[Damped]>, price: f64) -> Option<Codebook> {
    if !weight.role.is_kernel() {
        return None;
    }
    let atoms = Atoms::new(dense);
    let lengths = Lengths::of(&atoms, weight.len());
    let method = Method { init: Init::Density, seed: 0, lambda: 0.0, max_iterations: MAX_ITERATIONS };
    let candidates = full_counts(MOST_VALUES).into_iter().map(|count| {
        let clusters = Clusters::find(&atoms, count, &method);
        let cost = clusters.distortion + price * lengths.bits(count);
        (cost, clusters)
    });
    let (cost, clusters) = candidates.min_by(|a, b| a.0.total_cmp(&b.0))?;
    // What changes nothing costs only its bits.
    if let Form::Codebook(held) = &weight.form
        && price * lengths.bits(held.centroids().len()) <= cost
    {
        return None;
    }
    let start = apply(dense, &clusters);
    Some(blocks.and_then(|blocks| feedback::improve(dense, start.clone(), blocks, 0.0)).unwrap_or(start))
}

/// What codes take.
struct Lengths {
    elements: f64,
    nonzeros: f64,
}

impl Lengths {
    fn of(atoms: &Atoms, elements: usize) -> Self {
        Self { elements: elements as f64, nonzeros: atoms.nonzeros() }
    }

    /// Bits of a weight with `count` values: every element coded, or those that are not zero with the gaps between them.
    fn bits(&self, count: usize) -> f64 {
        let table = 32.0 * count as f64;
        // Gaps of a geometric distribution take about the logarithm of their mean, and a bit and a half.
        let gap = (self.elements / self.nonzeros.max(1.0)).log2() + 1.5;
        let code = code_bits(count);
        table + (self.elements * code).min(self.nonzeros * (code + gap))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use onnx_dcomp_forms::DType;
    use onnx_dcomp_ir::Model;
    use onnx_dcomp_ir::Role;

    fn weight(values: &[f32]) -> Weight {
        let mut model = Model::from_bytes(bytes::Bytes::new(), None).unwrap();
        let values = Values::from_f32(DType::F32, values);
        let id = model.add_weight("w", &[values.len() / 32, 32], values, Role::Gemm, Some(0));
        model.weight(id).clone()
    }

    /// Sums of uniform numbers: nearly normal.
    fn normal(count: usize) -> Vec<f32> {
        let mut state = 1u32;
        let mut uniform = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32 - 0.5
        };
        (0..count).map(|_| (0..6).map(|_| uniform()).sum()).collect()
    }

    #[test]
    fn cheaper_bits_buy_more_values() {
        let weight = weight(&normal(4096));
        let count = |price: f64| {
            codebook(&weight, &weight.form.dense(), None, price).unwrap().centroids().len()
        };
        let counts = [1.0, 0.1, 0.01, 1e-3, 1e-4, 1e-6].map(count);
        assert!(counts.is_sorted() && counts[0] < counts[5], "{counts:?}");
        assert!(counts.iter().all(|count| full_counts(256).contains(count)), "{counts:?}");
    }

    #[test]
    fn zeros_stay_and_what_is_a_codebook_already_is_kept_where_bits_are_cheap() {
        let values: Vec<f32> = normal(4096).iter().map(|&v| if v.abs() < 0.7 { 0.0 } else { v }).collect();
        let mut weight = weight(&values);
        let found = codebook(&weight, &weight.form.dense(), None, 1e-3).unwrap();
        let dense = Form::Codebook(found.clone()).dense();
        assert!(dense.iter().zip(&values).all(|(new, &old)| (new == 0.0) == (old == 0.0)));
        weight.form = Form::Codebook(found);
        assert!(codebook(&weight, &weight.form.dense(), None, 1e-9).is_none());
    }
}
