//! Why a packed model cannot be opened.

use onnx_dcomp_codec::DecodeError;
use onnx_dcomp_ir::IrError;

/// Why a packed model cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// A model that cannot be read.
    #[error(transparent)]
    Model(#[from] IrError),
    /// A payload that cannot be decoded.
    #[error("{file}: node `{node}`: {source}")]
    Payload {
        /// The file.
        file: String,
        /// The node that decodes the payload.
        node: String,
        /// What is wrong with it.
        source: DecodeError,
    },
    /// Nodes of ours that make no sense.
    #[error("{file}: node `{node}`: {reason}")]
    Packed {
        /// The file.
        file: String,
        /// The node.
        node: String,
        /// What was found and what was expected.
        reason: String,
    },
    /// onnxruntime refuses the model.
    #[cfg(feature = "ort")]
    #[error("{0}")]
    Onnxruntime(String),
}
