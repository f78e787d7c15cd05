//! Kernels that compute on compressed weights, which stay compressed in memory.
//!
//! | module | what |
//! |---|---|
//! | [`fused`] | a matrix out of a payload, in the memory of one of the others |
//! | [`sparse`] | a matrix with few non-zeros, of few distinct values, times vectors |
//! | [`convolution`] | a convolution whose filters are such a matrix |
//! | [`epilogue`] | bias and activation, at the end of a sum |
//! | [`threads`] | parts of an output on several threads |
//! | [`window`] | how filters move over an image |
//! | [`nibbles`] | a matrix of at most 16 distinct values, times vectors |
//!
//! Sums are taken in another order than a dense product takes them, and what a zero weight meets is not looked at: an
//! infinite input does not become a NaN. On every processor the sums are the same to the bit.

pub mod convolution;
pub mod epilogue;
pub mod fused;
pub mod nibbles;
mod registers;
pub mod sparse;
pub mod threads;
pub mod window;

pub use convolution::SparseConvolution;
pub use epilogue::{Activation, Epilogue};
pub use fused::{
    ACTIVATION_ATTRIBUTE, CODEBOOK_OPERATOR, CONVOLUTION_OPERATOR, FusedConvolution, FusedError, FusedMatrix,
    SPARSE_OPERATOR, TRANSPOSED_ATTRIBUTE,
};
pub use nibbles::NibbleMatrix;
pub use sparse::SparseMatrix;
pub use threads::{OneThread, Threads};
pub use window::{Padding, Window, WindowAttributes};

use onnx_dcomp_forms::Form;

/// How the elements of a weight lie in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// A row of the matrix, which makes one output, lies together: `Gemm` with `transB = 1`.
    Rows,
    /// A column, which one input meets, lies together: `MatMul`.
    Columns,
}

impl Order {
    /// Shows row, column and value of every element of `form`, a matrix of `rows` and `columns`, in the order of memory.
    fn for_each(self, form: &Form, rows: usize, columns: usize, mut visit: impl FnMut((usize, usize), f32)) {
        let (mut row, mut column) = (0, 0);
        form.for_each_value(|value| {
            visit((row, column), value);
            match self {
                Self::Rows => (row, column) = if column + 1 == columns { (row + 1, 0) } else { (row, column + 1) },
                Self::Columns => (row, column) = if row + 1 == rows { (0, column + 1) } else { (row + 1, column) },
            }
        });
    }
}
