//! What the operators do with a weight.
use crate::Weight;
use onnx_dcomp_proto::ModelProto;

/// What the operators do with a weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Filters of a convolution.
    Conv,
    /// Filters of a transposed convolution.
    ConvTranspose,
    /// Matrix of a fully connected layer.
    Gemm,
    /// Factor of a matrix product.
    MatMul,
    /// Table of a look-up.
    Embedding,
    /// Matrix of a recurrent layer.
    Recurrent,
    /// Bias of a layer.
    Bias,
    /// Scale, shift or statistics of a normalization.
    Normalization,
    /// Part of a quantised computation: must stay bit-exact.
    Quantized,
    /// Slopes of a PRelu.
    Activation,
    /// Anything else.
    Other,
}
/// Finds the roles.
pub(crate) fn assign(_proto: &ModelProto, _table: &mut [Weight]) {}
