//! The ways in which a tensor message stores its elements.

use bytes::Bytes;
use onnx_dcomp_forms::{DType, Values};
use onnx_dcomp_proto::TensorProto;
use onnx_dcomp_proto::tensor_proto::DataType;

use crate::error::{TensorProblem, shape_text};
use crate::tensors;

/// The elements of a tensor of type `dtype`. Raw data is shared, data in typed fields is converted.
pub(crate) fn values(tensor: &TensorProto, dtype: DType) -> Result<Values, TensorProblem> {
    let count = tensors::element_count(&tensor.dims)?;
    if let Some(raw) = raw_data(tensor, count * dtype.element_bytes())? {
        return Ok(Values::new(dtype, raw)?);
    }
    let bytes: Vec<u8> = match dtype {
        DType::F32 => {
            check_count(tensor, count, tensor.float_data.len(), "elements of float_data")?;
            tensor.float_data.iter().flat_map(|value| value.to_le_bytes()).collect()
        }
        DType::F64 => {
            check_count(tensor, count, tensor.double_data.len(), "elements of double_data")?;
            tensor.double_data.iter().flat_map(|value| value.to_le_bytes()).collect()
        }
        DType::F16 | DType::BF16 | DType::I8 | DType::U8 => {
            check_count(tensor, count, tensor.int32_data.len(), "elements of int32_data")?;
            narrow(&tensor.int32_data, dtype)?
        }
    };
    Ok(Values::new(dtype, bytes)?)
}

/// The elements of a tensor of an integer type that is no weight's, or of truth values; `None` for other types.
pub(crate) fn integers(tensor: &TensorProto) -> Result<Option<Vec<i64>>, TensorProblem> {
    let Ok(data_type) = DataType::try_from(tensor.data_type()) else { return Ok(None) };
    let element_bytes = match data_type {
        DataType::Bool => 1,
        DataType::Int16 | DataType::Uint16 => 2,
        DataType::Int32 | DataType::Uint32 => 4,
        DataType::Int64 | DataType::Uint64 => 8,
        _ => return Ok(None),
    };
    let count = tensors::element_count(&tensor.dims)?;
    if let Some(raw) = raw_data(tensor, count * element_bytes)? {
        let signed = matches!(data_type, DataType::Int16 | DataType::Int32 | DataType::Int64);
        return Ok(raw.chunks_exact(element_bytes).map(|element| widen(element, signed)).collect());
    }
    Ok(match data_type {
        DataType::Int64 => {
            check_count(tensor, count, tensor.int64_data.len(), "elements of int64_data")?;
            Some(tensor.int64_data.clone())
        }
        DataType::Uint32 | DataType::Uint64 => {
            check_count(tensor, count, tensor.uint64_data.len(), "elements of uint64_data")?;
            tensor.uint64_data.iter().map(|&value| i64::try_from(value).ok()).collect()
        }
        _ => {
            check_count(tensor, count, tensor.int32_data.len(), "elements of int32_data")?;
            Some(tensor.int32_data.iter().map(|&value| i64::from(value)).collect())
        }
    })
}

/// The raw data, checked to have `needed` bytes; `None` where the tensor uses a typed field.
fn raw_data(tensor: &TensorProto, needed: usize) -> Result<Option<Bytes>, TensorProblem> {
    let typed = !(tensor.float_data.is_empty()
        && tensor.int32_data.is_empty()
        && tensor.int64_data.is_empty()
        && tensor.double_data.is_empty()
        && tensor.uint64_data.is_empty());
    let raw = match &tensor.raw_data {
        Some(raw) if !raw.is_empty() || !typed => raw.clone(),
        None if !typed => Bytes::new(),
        _ => return Ok(None),
    };
    check_count(tensor, needed, raw.len(), "bytes of raw data")?;
    Ok(Some(raw))
}

pub(crate) fn check_count(
    tensor: &TensorProto,
    needed: usize,
    found: usize,
    unit: &'static str,
) -> Result<(), TensorProblem> {
    if needed == found {
        return Ok(());
    }
    Err(TensorProblem::Size { shape: shape_text(&tensor.dims), needed: needed as u64, found: found as u64, unit })
}

/// The low bytes of each entry. Bit patterns may come with or without sign extension; anything else is refused.
fn narrow(entries: &[i32], dtype: DType) -> Result<Vec<u8>, TensorProblem> {
    let bits = 8 * dtype.element_bytes() as u32;
    let allowed = match dtype {
        DType::I8 => -128..=127,
        DType::U8 => 0..=255,
        _ => -(1 << (bits - 1))..=(1 << bits) - 1,
    };
    let mut bytes = Vec::with_capacity(entries.len() * dtype.element_bytes());
    for (index, &value) in entries.iter().enumerate() {
        if !allowed.contains(&value) {
            return Err(TensorProblem::OutOfRange { index, value, dtype });
        }
        bytes.extend_from_slice(&value.to_le_bytes()[..dtype.element_bytes()]);
    }
    Ok(bytes)
}

/// One little-endian integer of at most 8 bytes; `None` where it is beyond `i64`.
fn widen(element: &[u8], signed: bool) -> Option<i64> {
    let negative = signed && element.last().is_some_and(|byte| byte & 0x80 != 0);
    let mut word = [if negative { 0xff } else { 0 }; 8];
    word[..element.len()].copy_from_slice(element);
    if signed { Some(i64::from_le_bytes(word)) } else { i64::try_from(u64::from_le_bytes(word)).ok() }
}
