//! Weights for codes of fixed length: how many values pay for their bits.
//!
//! Without an entropy coder behind it a code takes the same bits whatever it says, so that what counts is the number of
//! values. K-means is run for each number that fills its codes; squared error and the price of bits decide. Two others
//! stand beside: 8-bit levels of a uniform grid, which need no table of values, and codebooks of which most elements take
//! the zero, so that positions and values of the others cost less. Where the layer's input is known, what is chosen is
//! then fitted to the layer's outputs.
//!
//! Sources: Lloyd, "Least squares quantization in PCM", 1957/1982; Max, "Quantizing for minimum distortion", 1960;
//! [`share::feedback`](crate::share) and [`feedback`] name those of the fit. Cost: some thirty runs of k-means over
//! sorted points.

use half::f16;
use onnx_dcomp_forms::{Codebook, DType, Form, Grid, GridKind, Steps, Values};
use onnx_dcomp_ir::Weight;

use super::feedback;
use super::target::Target;
use super::{Curvature, row_length, viterbi};
use crate::curvature::Damped;
use crate::portable::radix::{code_bits, full_counts};
use crate::share::{self, Atoms, Clusters, Init, Method, apply};

/// The most values that are tried: with more, codes would take more than a byte.
const MOST_VALUES: usize = 256;

/// Iterations of k-means; companding starts it near its end.
const MAX_ITERATIONS: usize = 30;

/// The largest level of the uniform grid.
const MOST_LEVEL: i16 = 127;

/// Bits of an entry in the table of values: halves are fine enough for what they are the means of.
const ENTRY_BITS: f64 = 16.0;

/// The most values of a weight that is mostly zero.
const MOST_SPARSE_VALUES: usize = 32;

/// How far a codebook may cost more than the other before either is fitted, to be fitted too: fitting takes the most time,
/// and changes both alike.
const WORTH_A_FIT: f64 = 1.15;

/// Elements below this fraction of the root mean square make the zero that a sparse codebook starts with.
const SMALL: f64 = 0.05;

/// What is known of the layer's input.
pub(super) struct Input<'a> {
    /// What a unit of squared error weighs once the elements behind it have made the best of it.
    pub(super) weighted: f64,
    /// The second moment.
    pub(super) blocks: Option<&'a [Damped]>,
    /// The same, factored.
    pub(super) curvature: Option<&'a Curvature>,
}

/// The form of `weight`, whose values are `dense` now, at `price` for a bit in squared error; `rival` is what quantisation
/// for coded levels gives, which has its zeros where they cost least. `None` where the weight is better left as it is: a
/// vector beside a kernel, or a codebook already.
pub(super) fn form(
    weight: &Weight,
    dense: &Values,
    input: &Input<'_>,
    price: f64,
    rival: Option<Grid>,
) -> Option<Form> {
    if !weight.role.is_kernel() {
        return None;
    }
    let mut forms: Vec<Form> = codebooks(dense, input, price).into_iter().map(Form::Codebook).collect();
    let largest = dense.iter().fold(0f32, |largest, value| largest.max(value.abs()));
    let step = largest / f32::from(MOST_LEVEL);
    forms.extend(levels(weight, dense, input, step).into_iter().chain(rival).map(Form::Grid));
    let cost = |form: &Form| input.error(dense, form) + price * input.weighted * bits(form);
    let forms = forms.into_iter().map(|form| (cost(&form), form));
    let (least, best) = forms.min_by(|a, b| a.0.total_cmp(&b.0))?;
    let is_better = !matches!(weight.form, Form::Codebook(_)) || least < cost(&weight.form);
    is_better.then_some(best)
}

/// The best codebook whose codes are as long for every element, and the best that is mostly zero.
fn codebooks(dense: &Values, input: &Input<'_>, price: f64) -> Vec<Codebook> {
    let method = Method { init: Init::Companded, seed: 0, lambda: 0.0, max_iterations: MAX_ITERATIONS };
    let elements = dense.len() as f64;
    let atoms = Atoms::new(dense);
    let even = full_counts(MOST_VALUES).into_iter().map(|count| {
        let clusters = Clusters::find(&atoms, count, &method);
        (clusters.distortion + price * code_table_bits(count, elements, atoms.nonzeros()), clusters)
    });
    let with_zero = Atoms::new(&without_small(dense));
    let sparse = full_counts(MOST_SPARSE_VALUES).into_iter().filter(|&count| count > 2).map(|count| {
        let clusters = Clusters::find(&with_zero, count, &Method { lambda: price, ..method });
        let nonzeros = elements - zeros(&with_zero, &clusters);
        (clusters.distortion + price * code_table_bits(clusters.centroids.len(), elements, nonzeros), clusters)
    });
    let best = |found: Vec<(f64, Clusters)>| found.into_iter().min_by(|a, b| a.0.total_cmp(&b.0));
    let found: Vec<(f64, Clusters)> = [best(even.collect()), best(sparse.collect())].into_iter().flatten().collect();
    let least = found.iter().map(|(cost, _)| *cost).fold(f64::INFINITY, f64::min);
    let fitted = |(_, clusters): (f64, Clusters)| {
        let start = apply(dense, &clusters);
        let lambda = clusters.lambda * input.weighted;
        let fitted = input.blocks.and_then(|blocks| share::feedback::improve(dense, start.clone(), blocks, lambda));
        in_halves(fitted.unwrap_or(start))
    };
    found.into_iter().filter(|(cost, _)| *cost <= WORTH_A_FIT * least).map(fitted).collect()
}

impl Input<'_> {
    /// What the outputs make of the difference between `dense` and `form`; the squared error where nothing is known.
    fn error(&self, dense: &Values, form: &Form) -> f64 {
        let Some(blocks) = self.blocks else { return form.squared_error(dense) };
        let errors: Vec<f64> =
            dense.iter().zip(form.dense().iter()).map(|(a, b)| f64::from(a) - f64::from(b)).collect();
        let row_length: usize = blocks.iter().map(|block| block.size).sum();
        let of_row = |row: &[f64]| {
            let mut start = 0;
            let of_block = |block: &Damped| {
                let errors = &row[start..start + block.size];
                start += block.size;
                let pull = |at: usize| -> f64 { block.row(at).iter().zip(errors).map(|(h, e)| h * e).sum() };
                errors
                    .iter()
                    .enumerate()
                    .map(|(at, error)| if *error == 0.0 { 0.0 } else { error * pull(at) })
                    .sum::<f64>()
            };
            blocks.iter().map(of_block).sum::<f64>()
        };
        errors.chunks_exact(row_length.max(1)).map(of_row).sum()
    }
}

/// Bits of `form` in codes of fixed length.
fn bits(form: &Form) -> f64 {
    let (elements, nonzeros) = (form.len() as f64, form.nonzeros() as f64);
    match form {
        Form::Codebook(codebook) => code_table_bits(codebook.centroids().len(), elements, nonzeros),
        Form::Grid(grid) => {
            let mut levels = grid.levels().to_vec();
            levels.sort_unstable();
            levels.dedup();
            let is_short = levels.iter().all(|&level| i8::try_from(level).is_ok());
            let plain = elements * if is_short { 8.0 } else { 16.0 };
            code_table_bits(levels.len(), elements, nonzeros).min(plain)
        }
        Form::Dense(_) | Form::Sparse(_) => f64::INFINITY,
    }
}

/// Bits of codes that tell `count` values apart, with the table of these: every element coded, or those that are not zero
/// with the gaps between them.
fn code_table_bits(count: usize, elements: f64, nonzeros: f64) -> f64 {
    // Gaps of a geometric distribution take about the logarithm of their mean, and a bit and a half.
    let gap = (elements / nonzeros.max(1.0)).log2() + 1.5;
    let code = code_bits(count);
    ENTRY_BITS * count as f64 + (elements * code).min(nonzeros * (code + gap))
}

/// The values, with zeros in the place of the smallest.
fn without_small(dense: &Values) -> Values {
    let energy: f64 = dense.iter().map(|value| f64::from(value).powi(2)).sum();
    let least = (SMALL * (energy / dense.len().max(1) as f64).sqrt()) as f32;
    let values: Vec<f32> = dense.iter().map(|value| if value.abs() < least { 0.0 } else { value }).collect();
    Values::from_f32(dense.dtype(), &values)
}

/// Number of elements that take the exact zero.
fn zeros(atoms: &Atoms, clusters: &Clusters) -> f64 {
    let Some(zero) = clusters.zero else { return 0.0 };
    let up_to = |number: Option<usize>| number.and_then(|number| clusters.thresholds.get(number)).copied();
    let start = up_to(zero.checked_sub(1)).map_or(0, |threshold| atoms.up_to(threshold));
    let end = up_to(Some(zero)).map_or(atoms.len(), |threshold| atoms.up_to(threshold));
    atoms.zeros() as f64 + atoms.count(start, end.max(start))
}

/// The weight on a uniform grid, each level in 8 bits.
fn levels(weight: &Weight, dense: &Values, input: &Input<'_>, step: f32) -> Option<Grid> {
    if !step.is_normal() {
        return None;
    }
    let row_length = row_length(weight);
    let keeps_zeros = dense.iter().any(|value| value == 0.0);
    let target = Target { kind: GridKind::Uniform, steps: &[step], row_length, lambda: 0.0, keeps_zeros };
    let quantized = match input.curvature {
        Some(curvature) => feedback::quantize([&dense.to_f32(); 2], &target, curvature),
        None => viterbi::quantize(dense, &target),
    };
    // What was fed back may lead a little beyond the largest value.
    let levels = quantized.levels.iter().map(|level| (*level).clamp(-MOST_LEVEL, MOST_LEVEL)).collect();
    Grid::new(levels, Steps::PerTensor(step), GridKind::Uniform, dense.dtype()).ok()
}

/// The codebook with values that 16 bits hold, where none overflows or vanishes.
fn in_halves(codebook: Codebook) -> Codebook {
    let halves: Vec<f32> = codebook.centroids().iter().map(|value| f16::from_f32(value).to_f32()).collect();
    let is_sound =
        |(value, half): (f32, &f32)| half.is_finite() && (value == 0.0 || half.abs() >= f16::MIN_POSITIVE.to_f32());
    if codebook.centroids().dtype() != DType::F32 || !codebook.centroids().iter().zip(&halves).all(is_sound) {
        return codebook;
    }
    let values = Values::from_f32(DType::F32, &halves);
    Codebook::new(codebook.codes().to_vec(), values).unwrap_or(codebook)
}

#[cfg(test)]
mod tests {
    use super::*;
    use onnx_dcomp_ir::{Model, Role};
    use onnx_dcomp_proto::{GraphProto, Message, ModelProto};

    const NOTHING: Input<'_> = Input { weighted: 1.0, blocks: None, curvature: None };

    fn weight(values: &[f32]) -> Weight {
        let proto = ModelProto { ir_version: Some(8), graph: Some(GraphProto::default()), ..ModelProto::default() };
        let mut model = Model::from_bytes(proto.encode_to_vec().into(), None).unwrap();
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
        let count = |price: f64| match form(&weight, &weight.form.dense(), &NOTHING, price, None) {
            Some(Form::Codebook(codebook)) => codebook.centroids().len(),
            Some(Form::Grid(_)) => 255,
            other => panic!("{other:?}"),
        };
        let counts = [1.0, 0.1, 0.01, 1e-3, 1e-4, 1e-6].map(count);
        assert!(counts.is_sorted() && counts[0] < counts[3] && counts[5] >= 255, "{counts:?}");
    }

    #[test]
    fn zeros_stay_and_what_is_a_codebook_already_is_kept_where_bits_are_cheap() {
        let values: Vec<f32> = normal(4096).iter().map(|&v| if v.abs() < 0.7 { 0.0 } else { v }).collect();
        let mut weight = weight(&values);
        let found = form(&weight, &weight.form.dense(), &NOTHING, 1e-3, None).unwrap();
        assert!(found.dense().iter().zip(&values).all(|(new, &old)| old != 0.0 || new == 0.0));
        weight.form = found;
        assert_eq!(form(&weight, &weight.form.dense(), &NOTHING, 1e-9, None), None);
    }

    #[test]
    fn what_hardly_matters_becomes_sparse() {
        // A few large elements among many small ones.
        let values: Vec<f32> =
            normal(8192).iter().enumerate().map(|(at, &v)| if at % 16 == 0 { v } else { 0.02 * v }).collect();
        let weight = weight(&values);
        let found = form(&weight, &weight.form.dense(), &NOTHING, 2e-3, None).unwrap();
        assert!(found.density() < 0.1, "{}", found.density());
    }

    #[test]
    fn small_weights_do_without_a_table_of_values() {
        let weight = weight(&normal(1024));
        let found = form(&weight, &weight.form.dense(), &NOTHING, 2e-5, None);
        assert!(matches!(found, Some(Form::Grid(_))), "{found:?}");
    }
}
