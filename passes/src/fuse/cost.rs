//! What a layer takes, dense and on compressed weights.

use onnx_dcomp_forms::Form;

use super::{CODEBOOK, CONVOLUTION, FuseOptions, SPARSE, When};

/// Distinct non-zeros that the sparse operators can hold in two bytes each, and those that they can hold at all.
const SPARSE_VALUES: [usize; 2] = [16, 256];

/// Distinct values that `DcompCodebookGemm` can hold.
const CODEBOOK_VALUES: usize = 16;

/// Bytes of a matrix that stay in a processor's cache from run to run.
const CACHED_BYTES: usize = 1 << 23;

/// Columns of a panel of a matrix.
const PANEL: usize = 4095;

/// What a row of a panel of a matrix takes, in non-zeros.
const ROW: f64 = 12.0;

/// What a filter takes for each panel of channels, in non-zeros, and how many panels there are: one for so many rows of
/// an image as lie in a cache.
const FILTER: f64 = 8.0;
const PANEL_ROWS: usize = 100;

/// The operator for a matrix of `outputs` and `inputs`; `None` where none is suited, or the dense product is expected to be
/// faster.
pub(super) fn of_product(form: &Form, inputs: usize, outputs: usize, options: &FuseOptions) -> Option<&'static str> {
    let values = Values::of(form)?;
    let elements = form.len() as f64;
    let dense = elements * if form.len() * 4 > CACHED_BYTES { options.dense } else { options.cached };
    // A third byte costs about a third more.
    let entry = options.nonzero * if values.nonzeros > SPARSE_VALUES[0] { 1.35 } else { 1.0 };
    let sparse = entry * product_work(form.nonzeros(), inputs, outputs);
    let codes = elements * options.code;
    let choices = [(true, SPARSE, sparse), (values.all <= CODEBOOK_VALUES, CODEBOOK, codes)];
    let best = choices.into_iter().filter(|(can_be, ..)| *can_be).min_by(|a, b| a.2.total_cmp(&b.2))?;
    (options.when == When::Always || best.2 < dense).then_some(best.1)
}

/// The operator for filters of `shape`; `None` where it is not suited, or the dense convolution is expected to be faster.
pub(super) fn of_convolution(form: &Form, shape: &[usize], options: &FuseOptions) -> Option<&'static str> {
    Values::of(form)?;
    // Both costs are for each place of the window.
    let dense = form.len() as f64 * options.multiplication;
    let sparse = options.filter * convolution_work(form.nonzeros(), shape);
    (options.when == When::Always || sparse < dense).then_some(CONVOLUTION)
}

/// How many non-zeros the product of a vector and a sparse matrix is worth, its rows counted in: what the cost `nonzero` is
/// for.
pub fn product_work(nonzeros: usize, inputs: usize, outputs: usize) -> f64 {
    nonzeros as f64 + ROW * inputs.div_ceil(PANEL) as f64 * outputs as f64
}

/// How many non-zeros the convolution with sparse filters of `shape` is worth at one place, its filters counted in: what
/// the cost `filter` is for.
pub fn convolution_work(nonzeros: usize, shape: &[usize]) -> f64 {
    let length = |axis: usize| shape.get(axis).copied().unwrap_or(1);
    let panels = (length(1) * length(2)).div_ceil(PANEL_ROWS);
    nonzeros as f64 + FILTER * panels as f64 * length(0) as f64
}

/// How many distinct values a weight has.
struct Values {
    all: usize,
    nonzeros: usize,
}

impl Values {
    /// `None` where they are more than any operator can hold.
    fn of(form: &Form) -> Option<Self> {
        if matches!(form, Form::Dense(_)) {
            return None;
        }
        let distinct = form.distinct_values(SPARSE_VALUES[1] + 1)?;
        let nonzeros = distinct.iter().filter(|&&value| value != 0.0).count();
        (nonzeros <= SPARSE_VALUES[1]).then_some(Self { all: distinct.len(), nonzeros })
    }
}
