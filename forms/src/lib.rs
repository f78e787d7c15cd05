//! The ways to represent a weight.
//!
//! A [`Form`] holds the values of one weight, exactly or approximately, and can always say three things of itself:
//! its dense values ([`Form::dense`]), an estimate of its cost ([`Form::order0_bits`]) and its distortion against the
//! values it stands for ([`Form::squared_error`]). This crate knows nothing of ONNX, of bit streams, or of files.
//!
//! | module | what |
//! |---|---|
//! | [`values`] | [`Values`]: a flat, typed, cheaply cloned buffer; [`DType`] |
//! | [`sparse`] | [`Sparse`]: a mask and the values under it |
//! | [`codebook`] | [`Codebook`]: codes and centroids |
//! | [`grid`] | [`Grid`]: integer levels on a uniform grid, on the two grids of a trellis, or of a dithered lattice |
//! | [`trellis`] | the eight-state trellis that tells which of the two grids holds at each element |
//! | [`lattice`] | [`Lattice`]: what the levels of a dithered lattice stand for, and its nearest points |
//! | [`form`] | [`Form`]: one of the above, or dense |

pub mod codebook;
pub mod form;
pub mod grid;
pub mod lattice;
pub mod sparse;
pub mod trellis;
pub mod values;

pub use codebook::Codebook;
pub use form::{Form, FormKind};
pub use grid::{Grid, GridKind, Steps};
pub use lattice::Lattice;
pub use sparse::{Mask, Sparse};
pub use values::{DType, Values};

/// Why a form cannot be built from its parts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FormError {
    /// The buffer does not hold a whole number of elements.
    #[error("{bytes} bytes do not hold a whole number of {dtype} elements of {element_bytes} bytes each")]
    RaggedBuffer {
        /// Size of the buffer.
        bytes: usize,
        /// Element type that was asked for.
        dtype: DType,
        /// Size of one element.
        element_bytes: usize,
    },
    /// A code points behind the last centroid.
    #[error("code {code} has no centroid: the codebook holds {centroids}")]
    CodeOutOfRange {
        /// The offending code.
        code: u16,
        /// Number of centroids.
        centroids: usize,
    },
    /// Two parts that belong together differ in length.
    #[error("{what}: expected {expected} elements, found {found}")]
    LengthMismatch {
        /// What was compared.
        what: &'static str,
        /// Length that the first part asks for.
        expected: usize,
        /// Length of the second part.
        found: usize,
    },
    /// A step that is not a positive finite number.
    #[error("a grid step must be a positive finite number, found {0}")]
    BadStep(String),
}
