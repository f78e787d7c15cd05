//! The custom operators that let a runtime read packed weights.
//!
//! A packed model holds nodes `ai.dcomp::DcompDecode`: one constant `uint8` tensor in, the payload; the weights that the
//! payload holds out, in its order. Shapes and types come from the payload itself.
//!
//! | module | what |
//! |---|---|
//! | `tract` (feature `tract`) | the operators for tract |

#[cfg(feature = "tract")]
pub mod tract;

/// Type of the operator that turns a payload into weights; a word of its own, since tract knows operators by it alone.
pub const DECODE_OPERATOR: &str = "DcompDecode";

/// Type of the operator that holds a packed model as a whole, for hosts that run it best so.
pub const SESSION_OPERATOR: &str = "DcompSession";

/// Domain of our operators.
pub const DOMAIN: &str = "ai.dcomp";
