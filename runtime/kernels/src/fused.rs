//! Products that compute on compressed weights: `DcompSparseGemm` and `DcompCodebookGemm`.
//!
//! Both take an input of shape `[…, columns]` (f32), a constant payload (uint8) that holds one weight, and optionally a
//! bias of `rows` elements; they give the product of shape `[…, rows]`. With the attribute `transB` = 1 the weight has the
//! shape `[rows, columns]`, otherwise `[columns, rows]`: as in `Gemm` and `MatMul`, in whose place they stand. The
//! operator's type says how the weight is held in memory while the model runs: as its non-zeros, or as codes of four
//! bits.

use onnx_dcomp_codec::{DecodeError, Limits, decode_forms};

use crate::{NibbleMatrix, Order, SparseMatrix};

/// The operator whose weight is held as its non-zeros.
pub const SPARSE_OPERATOR: &str = "DcompSparseGemm";

/// The operator whose weight is held as codes of four bits.
pub const CODEBOOK_OPERATOR: &str = "DcompCodebookGemm";

/// The attribute that says how the weight lies, an integer.
pub const TRANSPOSED_ATTRIBUTE: &str = "transB";

/// Why a payload cannot be computed on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FusedError {
    /// The payload is damaged, or of a newer version.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// It holds something else than one matrix.
    #[error("the payload of a fused product must hold one matrix, and holds {found}")]
    NoMatrix {
        /// What it holds.
        found: String,
    },
    /// The matrix cannot be held as the operator asks.
    #[error("a matrix of shape {shape:?} cannot be held as {operator} asks: it has too many distinct values")]
    Unsuited {
        /// The matrix's shape.
        shape: Vec<usize>,
        /// The operator's type.
        operator: String,
    },
}

/// A matrix that stays compressed, ready to multiply.
#[derive(Debug, Clone)]
pub enum FusedMatrix {
    /// Its non-zeros.
    Sparse(SparseMatrix),
    /// Codes of four bits.
    Nibbles(NibbleMatrix),
}

impl FusedMatrix {
    /// The matrix in `payload`, held as the operator of type `operator` asks.
    ///
    /// # Errors
    /// [`FusedError`]: nothing else than a sound payload of one suited matrix is accepted.
    pub fn decode(payload: &[u8], operator: &str, is_transposed: bool) -> Result<Self, FusedError> {
        let forms = decode_forms(payload, &Limits::default())?;
        let [(shape, form)] = &forms[..] else {
            return Err(FusedError::NoMatrix { found: format!("{} weights", forms.len()) });
        };
        let (rows, columns, order) = match (&shape[..], is_transposed) {
            (&[rows, columns], true) => (rows, columns, Order::Rows),
            (&[columns, rows], false) => (rows, columns, Order::Columns),
            _ => return Err(FusedError::NoMatrix { found: format!("a weight of shape {shape:?}") }),
        };
        let matrix = match operator {
            SPARSE_OPERATOR => SparseMatrix::new(form, rows, columns, order).map(Self::Sparse),
            _ => NibbleMatrix::new(form, rows, columns, order).map(Self::Nibbles),
        };
        matrix.ok_or_else(|| FusedError::Unsuited { shape: shape.clone(), operator: operator.to_owned() })
    }

    /// Number of outputs.
    pub fn rows(&self) -> usize {
        match self {
            Self::Sparse(matrix) => matrix.rows(),
            Self::Nibbles(matrix) => matrix.rows(),
        }
    }

    /// Number of inputs.
    pub fn columns(&self) -> usize {
        match self {
            Self::Sparse(matrix) => matrix.columns(),
            Self::Nibbles(matrix) => matrix.columns(),
        }
    }

    /// Bytes of memory that the matrix takes.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Sparse(matrix) => matrix.bytes(),
            Self::Nibbles(matrix) => matrix.bytes(),
        }
    }

    /// The products with each vector of `inputs`, and `bias` where there is one.
    ///
    /// `inputs` and `outputs` hold vectors of [`Self::columns`] and [`Self::rows`] elements, as many of each; a bias has
    /// [`Self::rows`].
    pub fn multiply(&self, inputs: &[f32], bias: Option<&[f32]>, outputs: &mut [f32]) {
        match bias {
            Some(bias) => outputs.chunks_exact_mut(bias.len().max(1)).for_each(|output| output.copy_from_slice(bias)),
            None => outputs.fill(0.0),
        }
        match self {
            Self::Sparse(matrix) => matrix.multiply_add(inputs, outputs),
            Self::Nibbles(matrix) => matrix.multiply_add(inputs, outputs),
        }
    }
}
