//! Kernels that compute on compressed weights, which stay compressed in memory.
//!
//! | module | what |
//! |---|---|
//! | [`fused`] | a matrix out of a payload, in the memory of one of the others |
//! | [`sparse`] | a matrix with few non-zeros, of few distinct values, times vectors |
//! | [`nibbles`] | a matrix of at most 16 distinct values, times vectors |
//!
//! Sums are taken in another order than a dense product takes them, and what a zero weight meets is not looked at: an
//! infinite input does not become a NaN. On every processor the sums are the same to the bit.

pub mod fused;
pub mod nibbles;
pub mod sparse;

use onnx_dcomp_forms::Form;

pub use fused::{CODEBOOK_OPERATOR, FusedError, FusedMatrix, SPARSE_OPERATOR, TRANSPOSED_ATTRIBUTE};
pub use nibbles::NibbleMatrix;
pub use sparse::SparseMatrix;

/// How the elements of a weight lie in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// A row of the matrix, which makes one output, lies together: `Gemm` with `transB = 1`.
    Rows,
    /// A column, which one input meets, lies together: `MatMul`.
    Columns,
}

impl Order {
    /// Row and column of the element `index` of a matrix of `rows` and `columns`.
    #[inline(always)]
    fn place(self, index: usize, rows: usize, columns: usize) -> (usize, usize) {
        match self {
            Self::Rows => (index / columns, index % columns),
            Self::Columns => (index % rows, index / rows),
        }
    }
}

/// Shows every element of `form` to `visit`, with its index.
fn for_each_value(form: &Form, mut visit: impl FnMut(usize, f32)) {
    let mut index = 0;
    let mut next = |value: f32| {
        visit(index, value);
        index += 1;
    };
    match form {
        Form::Grid(grid) => grid.for_each_value(next),
        Form::Codebook(codebook) => {
            let centroids = codebook.centroids().to_f32();
            codebook.codes().iter().for_each(|&code| next(centroids[usize::from(code)]));
        }
        Form::Sparse(sparse) => {
            let mut values = sparse.values().iter();
            for element in 0..sparse.mask().len() {
                next(if sparse.mask().get(element) { values.next().unwrap_or(0.0) } else { 0.0 });
            }
        }
        Form::Dense(values) => values.iter().for_each(next),
    }
}

/// The distinct values of `form`, ascending, zero among them only where `with_zero`; `None` where there are more than
/// `most`, or one is not finite.
fn distinct_values(form: &Form, most: usize, with_zero: bool) -> Option<Vec<f32>> {
    let (mut distinct, mut last, mut fits) = (Vec::<f32>::new(), f32::NAN, true);
    for_each_value(form, |_, value| {
        if value == last || !fits || (value == 0.0 && !with_zero) {
            return;
        }
        last = value;
        if let Err(place) = distinct.binary_search_by(|other| other.total_cmp(&(value + 0.0))) {
            fits = value.is_finite() && distinct.len() < most;
            // A negative zero becomes a zero.
            distinct.insert(place, value + 0.0);
        }
    });
    fits.then_some(distinct)
}

#[cfg(test)]
mod tests {
    use onnx_dcomp_forms::{Codebook, DType, Grid, GridKind, Sparse, Steps, Values};

    use super::*;

    fn seen(form: &Form) -> Vec<f32> {
        let mut seen = Vec::new();
        for_each_value(form, |index, value| {
            assert_eq!(index, seen.len());
            seen.push(value);
        });
        seen
    }

    #[test]
    fn every_form_shows_its_dense_values() {
        let dense = Values::from_f32(DType::F32, &[0.0, 1.5, -0.5, 0.0, 1.5, 0.0, 0.0, 2.0]);
        let forms = [
            Form::Dense(dense.clone()),
            Form::Sparse(Sparse::from_dense(&dense)),
            Form::Codebook(Codebook::recognise(&dense, 16).unwrap()),
            Form::Grid(
                Grid::new(vec![0, 3, -1, 0, 3, 0], Steps::PerTensor(0.5), GridKind::Trellis, DType::F32).unwrap(),
            ),
        ];
        for form in forms {
            assert_eq!(seen(&form), form.dense().to_f32());
        }
    }

    #[test]
    fn distinct_values_are_counted_up_to_a_bound() {
        let form = |values: &[f32]| Form::Dense(Values::from_f32(DType::F32, values));
        let some = form(&[0.0, 1.0, -2.0, 1.0, -0.0, -2.0]);
        assert_eq!(distinct_values(&some, 3, true), Some(vec![-2.0, 0.0, 1.0]));
        assert_eq!(distinct_values(&some, 2, false), Some(vec![-2.0, 1.0]));
        assert_eq!(distinct_values(&some, 2, true), None);
        assert_eq!(distinct_values(&form(&[1.0, f32::INFINITY]), 9, false), None);
    }
}
