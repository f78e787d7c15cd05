//! Scaling the output channels of a weight.

use onnx_dcomp_proto::tensor_proto::DataType;

use super::affine::Affine;
use super::tensor::{Tensor, element_bytes};

/// How the output channels lie in a weight.
pub(crate) struct Layout {
    /// Position of the initializer.
    pub(crate) position: usize,
    /// Channels of one row.
    pub(crate) channels: usize,
    /// Elements of one channel in one row.
    pub(crate) inner: usize,
    /// Rows that belong to one group; each group has channels of its own.
    pub(crate) rows_per_group: usize,
}

impl Layout {
    /// `tensor` with each output channel scaled.
    pub(crate) fn scaled(&self, tensor: &Tensor, affine: &Affine) -> Option<Tensor> {
        let size = element_bytes(tensor.element)?;
        let mut bytes = Vec::with_capacity(tensor.bytes.len());
        for (block, chunk) in tensor.bytes.chunks(self.inner * size).enumerate() {
            let group = block / self.channels / self.rows_per_group;
            let scale = affine.scale_at(group * self.channels + block % self.channels);
            scale_into(tensor.element, chunk, scale, &mut bytes);
        }
        Tensor::new(tensor.element, tensor.dims.clone(), bytes)
    }
}

/// Appends the elements of `chunk`, times `scale`.
fn scale_into(element: DataType, chunk: &[u8], scale: f64, into: &mut Vec<u8>) {
    if element == DataType::Float {
        let start = into.len();
        into.resize(start + chunk.len(), 0);
        // Plain pairs of words, so that the loop runs on several at once.
        for (from, to) in chunk.as_chunks::<4>().0.iter().zip(into[start..].as_chunks_mut::<4>().0) {
            *to = ((f64::from(f32::from_le_bytes(*from)) * scale) as f32).to_le_bytes();
        }
        return;
    }
    let count = chunk.len() / element_bytes(element).unwrap_or(1);
    let scaled = Tensor::new(element, vec![count], chunk.to_vec()).and_then(|part| {
        let values: Vec<f64> = part.floats()?.iter().map(|v| v * scale).collect();
        Tensor::from_floats(element, vec![count], &values)
    });
    into.extend_from_slice(scaled.as_ref().map_or(chunk, |part| &part.bytes));
}

/// Whether all elements are finite floating-point numbers.
pub(crate) fn is_finite(tensor: &Tensor) -> bool {
    tensor.floats().is_some_and(|values| values.iter().all(|v| v.is_finite()))
}
