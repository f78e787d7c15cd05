//! What is in onnxruntime's tensors.

use std::ffi::c_void;
use std::ptr;

use ort_sys::{ONNXTensorElementDataType as Kind, OrtTensorTypeAndShapeInfo, OrtTypeInfo, OrtValue};

use crate::api::{Api, Failure, call};

/// The memory of a tensor.
pub(crate) struct Memory {
    pub(crate) shape: Vec<i64>,
    pub(crate) data: *mut u8,
    pub(crate) bytes: usize,
}

/// Shape and memory of `value`, which must be a tensor of `kind` in a processor's memory.
///
/// # Safety
/// `value` is onnxruntime's; nobody else writes to it.
pub(crate) unsafe fn memory(api: Api, value: *mut OrtValue, kind: Kind) -> Result<Memory, Failure> {
    let mut shape = Vec::new();
    // SAFETY: the caller's promise.
    let (found, elements) = unsafe { read_shape(api, value, &mut shape) }?;
    let width = width(kind).filter(|_| found == kind);
    let width = width.ok_or_else(|| format!("a tensor of {found:?} was found where one of {kind:?} belongs"))?;
    let mut data: *mut c_void = ptr::null_mut();
    call!(api, GetTensorMutableData(value, &raw mut data))?;
    Ok(Memory { shape, data: data.cast(), bytes: elements * width })
}

/// Appends the dimensions of `value`, a tensor, to `shape`; gives the type and the number of its elements.
///
/// # Safety
/// `value` is onnxruntime's.
pub(crate) unsafe fn read_shape(
    api: Api,
    value: *const OrtValue,
    shape: &mut Vec<i64>,
) -> Result<(Kind, usize), Failure> {
    let mut info: *mut OrtTensorTypeAndShapeInfo = ptr::null_mut();
    call!(api, GetTensorTypeAndShape(value, &raw mut info))?;
    let (mut rank, mut elements, mut kind) = (0, 0, Kind::ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED);
    let read = call!(api, GetDimensionsCount(info, &raw mut rank))
        .and_then(|()| {
            let before = shape.len();
            shape.resize(before + rank, 0);
            call!(api, GetDimensions(info, shape.as_mut_ptr().wrapping_add(before), rank))
        })
        .and_then(|()| call!(api, GetTensorShapeElementCount(info, &raw mut elements)))
        .and_then(|()| call!(api, GetTensorElementType(info, &raw mut kind)));
    // SAFETY: made above, and not used any more.
    unsafe { ((*api.table()).ReleaseTensorTypeAndShapeInfo)(info) };
    read.map(|()| (kind, elements))
}

/// The element type that `info` tells, and gives it back; `None` for what is no tensor.
///
/// # Safety
/// `info` is onnxruntime's, and the caller's own.
pub(crate) unsafe fn element(api: Api, info: *mut OrtTypeInfo) -> Result<Option<Kind>, Failure> {
    let (mut tensor, mut kind) = (ptr::null(), Kind::ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED);
    let read = call!(api, CastTypeInfoToTensorInfo(info, &raw mut tensor)).and_then(|()| match tensor.is_null() {
        true => Ok(None),
        false => call!(api, GetTensorElementType(tensor, &raw mut kind)).map(|()| Some(kind)),
    });
    // SAFETY: the caller's promise; `tensor` is a part of it.
    unsafe { ((*api.table()).ReleaseTypeInfo)(info) };
    read
}

/// Bytes of an element; `None` where elements are no whole bytes in a row, as strings.
pub(crate) fn width(kind: Kind) -> Option<usize> {
    Some(match kind {
        Kind::ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL
        | Kind::ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8
        | Kind::ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8 => 1,
        Kind::ONNX_TENSOR_ELEMENT_DATA_TYPE_INT16
        | Kind::ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT16
        | Kind::ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16
        | Kind::ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16 => 2,
        Kind::ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32
        | Kind::ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT32
        | Kind::ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT => 4,
        Kind::ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64
        | Kind::ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT64
        | Kind::ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE => 8,
        _ => return None,
    })
}
