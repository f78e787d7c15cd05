//! Small constant tensors: their values, and the shortest way to write them.

use bytes::Bytes;
use half::{bf16, f16};
use onnx_dcomp_forms::FormKind;
use onnx_dcomp_ir::Model;
use onnx_dcomp_proto::tensor_proto::{DataLocation, DataType};
use onnx_dcomp_proto::{Message, TensorProto};

/// Elements of the largest weight that is read where it is not dense.
const MAX_DECODED: usize = 1 << 16;

/// A constant tensor of any numeric type of whole bytes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tensor {
    /// The type of an element.
    pub(crate) element: DataType,
    /// Elements along each axis.
    pub(crate) dims: Vec<usize>,
    /// The elements, little-endian.
    pub(crate) bytes: Bytes,
}

/// Bytes of one element of type `element`; `None` for strings and for types of less than a byte.
pub(crate) fn element_bytes(element: DataType) -> Option<usize> {
    use DataType::{Bfloat16, Bool, Double, Float, Float16, Int8, Int16, Int32, Int64, Uint8, Uint16, Uint32, Uint64};
    match element {
        Bool | Int8 | Uint8 => Some(1),
        Int16 | Uint16 | Float16 | Bfloat16 => Some(2),
        Int32 | Uint32 | Float => Some(4),
        Int64 | Uint64 | Double => Some(8),
        _ => None,
    }
}

impl Tensor {
    /// A tensor of `dims` over `bytes`; `None` where the two do not fit, or the type is not supported.
    pub(crate) fn new(element: DataType, dims: Vec<usize>, bytes: impl Into<Bytes>) -> Option<Self> {
        let bytes = bytes.into();
        // An empty tensor may declare anything along its other axes; their product must not overflow either.
        element_count(&dims.iter().map(|&dim| dim.max(1)).collect::<Vec<_>>())?.checked_mul(8)?;
        let expected = element_count(&dims)?.checked_mul(element_bytes(element)?)?;
        (bytes.len() == expected).then_some(Self { element, dims, bytes })
    }

    /// The values of `proto`, a weight of `model` or not; `None` where they are not at hand or not supported.
    pub(crate) fn read(model: &Model, proto: &TensorProto) -> Option<Self> {
        let element = DataType::try_from(proto.data_type()).ok()?;
        let dims = proto.dims.iter().map(|&dim| usize::try_from(dim).ok()).collect::<Option<Vec<_>>>()?;
        if let Some(id) = super::store::weight_of(model, proto) {
            let form = &model.weight(id).form;
            // Other forms would have to be decoded, which is work that only small ones are worth.
            let is_cheap = form.kind() == FormKind::Dense || form.len() <= MAX_DECODED;
            return is_cheap.then(|| Self::new(element, dims, form.dense().bytes().clone()))?;
        }
        if proto.data_location() == DataLocation::External || proto.segment.is_some() {
            return None;
        }
        if let Some(raw) = &proto.raw_data {
            return Self::new(element, dims, raw.clone());
        }
        let count = element_count(&dims)?;
        let bytes: Vec<u8> = match element {
            DataType::Int64 => proto.int64_data.iter().flat_map(|v| v.to_le_bytes()).collect(),
            DataType::Uint64 => proto.uint64_data.iter().flat_map(|v| v.to_le_bytes()).collect(),
            DataType::Uint32 => proto.uint64_data.iter().flat_map(|&v| (v as u32).to_le_bytes()).collect(),
            DataType::Float => proto.float_data.iter().flat_map(|v| v.to_le_bytes()).collect(),
            DataType::Double => proto.double_data.iter().flat_map(|v| v.to_le_bytes()).collect(),
            _ => {
                let size = element_bytes(element)?;
                proto.int32_data.iter().flat_map(|v| v.to_le_bytes().into_iter().take(size)).collect()
            }
        };
        if bytes.is_empty() && count > 0 { None } else { Self::new(element, dims, bytes) }
    }

    /// Number of elements.
    pub(crate) fn len(&self) -> usize {
        element_bytes(self.element).map_or(0, |size| self.bytes.len() / size)
    }

    /// Whether the elements are floating-point numbers.
    pub(crate) fn is_float(&self) -> bool {
        matches!(self.element, DataType::Float | DataType::Double | DataType::Float16 | DataType::Bfloat16)
    }

    /// The elements as integers; `None` for floating-point types, and for unsigned numbers that do not fit.
    pub(crate) fn ints(&self) -> Option<Vec<i64>> {
        let size = element_bytes(self.element)?;
        if self.is_float() {
            return None;
        }
        let signed = matches!(self.element, DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64);
        self.bytes
            .chunks_exact(size)
            .map(|chunk| {
                let fill = if signed && chunk.last().is_some_and(|b| b & 0x80 != 0) { 0xff } else { 0 };
                let mut word = [fill; 8];
                word[..size].copy_from_slice(chunk);
                if signed { Some(i64::from_le_bytes(word)) } else { i64::try_from(u64::from_le_bytes(word)).ok() }
            })
            .collect()
    }

    /// The elements as `f64`; `None` for integers.
    pub(crate) fn floats(&self) -> Option<Vec<f64>> {
        let floats = match self.element {
            DataType::Float => self.words::<4>().map(|w| f64::from(f32::from_le_bytes(w))).collect(),
            DataType::Double => self.words::<8>().map(f64::from_le_bytes).collect(),
            DataType::Float16 => self.words::<2>().map(|w| f16::from_le_bytes(w).to_f64()).collect(),
            DataType::Bfloat16 => self.words::<2>().map(|w| bf16::from_le_bytes(w).to_f64()).collect(),
            _ => return None,
        };
        Some(floats)
    }

    fn words<const N: usize>(&self) -> impl Iterator<Item = [u8; N]> + '_ {
        self.bytes.as_chunks::<N>().0.iter().copied()
    }

    /// Integers (or truth values) as a tensor of `element`, cut to its width as C does.
    pub(crate) fn from_ints(element: DataType, dims: Vec<usize>, values: &[i64]) -> Option<Self> {
        let size = element_bytes(element)?;
        let bytes: Vec<u8> = if element == DataType::Bool {
            values.iter().map(|&v| u8::from(v != 0)).collect()
        } else {
            values.iter().flat_map(|v| v.to_le_bytes().into_iter().take(size)).collect()
        };
        Self::new(element, dims, bytes)
    }

    /// Floating-point numbers as a tensor of `element`, each rounded to nearest.
    pub(crate) fn from_floats(element: DataType, dims: Vec<usize>, values: &[f64]) -> Option<Self> {
        let bytes: Vec<u8> = match element {
            DataType::Float => values.iter().flat_map(|&v| (v as f32).to_le_bytes()).collect(),
            DataType::Double => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            DataType::Float16 => values.iter().flat_map(|&v| f16::from_f64(v).to_le_bytes()).collect(),
            DataType::Bfloat16 => values.iter().flat_map(|&v| bf16::from_f64(v).to_le_bytes()).collect(),
            _ => return None,
        };
        Self::new(element, dims, bytes)
    }

    /// A vector of 64-bit integers.
    pub(crate) fn vector(values: &[i64]) -> Self {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Self { element: DataType::Int64, dims: vec![values.len()], bytes: bytes.into() }
    }

    /// The shortest `TensorProto` of this name and these values.
    ///
    /// Small 32- and 64-bit integers take one byte each as variable-length numbers, four or eight in `raw_data`.
    pub(crate) fn write(&self, name: &str) -> TensorProto {
        let mut proto = TensorProto {
            name: Some(name.into()),
            data_type: Some(self.element as i32),
            dims: self.dims.iter().map(|&dim| dim as i64).collect(),
            raw_data: Some(self.bytes.clone()),
            ..TensorProto::default()
        };
        shorten(&mut proto);
        proto
    }
}

/// Moves the integers of `proto` from `raw_data` to the typed field, or back, where that takes fewer bytes.
///
/// Returns whether anything changed. Types that a runtime is known to misread in the typed field stay in `raw_data`.
pub(crate) fn shorten(proto: &mut TensorProto) -> bool {
    let Some(raw) = proto.raw_data.clone() else { return false };
    if raw.is_empty() || proto.data_location() == DataLocation::External {
        return false;
    }
    let before = proto.encoded_len();
    match DataType::try_from(proto.data_type()) {
        Ok(DataType::Int64) => proto.int64_data = raw.as_chunks().0.iter().map(|&w| i64::from_le_bytes(w)).collect(),
        Ok(DataType::Int32) => proto.int32_data = raw.as_chunks().0.iter().map(|&w| i32::from_le_bytes(w)).collect(),
        _ => return false,
    }
    proto.raw_data = None;
    if proto.encoded_len() < before {
        return true;
    }
    proto.int64_data.clear();
    proto.int32_data.clear();
    proto.raw_data = Some(raw);
    false
}

/// Number of elements of a tensor of `dims`; `None` where that overflows.
pub(crate) fn element_count(dims: &[usize]) -> Option<usize> {
    dims.iter().try_fold(1usize, |product, &dim| product.checked_mul(dim))
}
