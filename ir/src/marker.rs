//! How a tensor in the message leads to its weight.
//!
//! A tensor whose data stands in the weight table carries an `external_data` entry with the key [`KEY`] and the
//! weight's number, while its `data_location` stays `DEFAULT`, so that the entry means nothing to ONNX. It travels with
//! the tensor when a pass moves, renames or clones it. Files never contain it.

use onnx_dcomp_proto::{StringStringEntryProto, TensorProto};

use crate::WeightId;

/// Key of the entry.
pub const KEY: &str = "dcomp.weight";

/// The weight whose data belongs into `tensor`; `None` where the tensor holds its data itself.
pub fn weight_of(tensor: &TensorProto) -> Option<WeightId> {
    let entry = tensor.external_data.iter().find(|entry| entry.key() == KEY)?;
    entry.value().parse().ok().map(WeightId)
}

/// Whether `tensor` carries a marker, readable or not.
pub(crate) fn is_marked(tensor: &TensorProto) -> bool {
    tensor.external_data.iter().any(|entry| entry.key() == KEY)
}

/// Makes `tensor` stand for `weight`: its own data goes, its name, type and shape stay.
pub fn mark(tensor: &mut TensorProto, weight: WeightId) {
    clear_data(tensor);
    tensor.external_data.push(StringStringEntryProto { key: Some(KEY.to_owned()), value: Some(weight.0.to_string()) });
}

/// Removes a tensor's data, wherever it is stored, and its marker.
pub(crate) fn clear_data(tensor: &mut TensorProto) {
    tensor.raw_data = None;
    tensor.float_data = Vec::new();
    tensor.int32_data = Vec::new();
    tensor.string_data = Vec::new();
    tensor.int64_data = Vec::new();
    tensor.double_data = Vec::new();
    tensor.uint64_data = Vec::new();
    tensor.external_data = Vec::new();
    tensor.data_location = None;
}
