//! What goes into a model and what comes out.

use std::borrow::Cow;
use std::fmt;

use half::{bf16, f16};

use crate::error::{EngineError, dimensions_text};

/// Calls `$body` with `$values` bound to the vector inside `$data`, whatever its type.
macro_rules! each_type {
    ($data:expr, $values:ident => $body:expr) => {
        match $data {
            TensorData::F32($values) => $body,
            TensorData::F64($values) => $body,
            TensorData::F16($values) => $body,
            TensorData::BF16($values) => $body,
            TensorData::I8($values) => $body,
            TensorData::I16($values) => $body,
            TensorData::I32($values) => $body,
            TensorData::I64($values) => $body,
            TensorData::U8($values) => $body,
            TensorData::U16($values) => $body,
            TensorData::U32($values) => $body,
            TensorData::U64($values) => $body,
            TensorData::Bool($values) => $body,
        }
    };
}

/// Type of the elements that a model takes or gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names say it: float, integer, unsigned, and the number of bits")]
pub enum ElementType {
    F32,
    F64,
    F16,
    BF16,
    I8,
    I16,
    I32,
    I64,
    U8,
    U16,
    U32,
    U64,
    Bool,
}

impl ElementType {
    /// The type that ONNX's `TensorProto.DataType` has under `number`; none for strings, complex and sub-byte types.
    pub fn from_onnx(number: i32) -> Option<Self> {
        Some(match number {
            1 => Self::F32,
            2 => Self::U8,
            3 => Self::I8,
            4 => Self::U16,
            5 => Self::I16,
            6 => Self::I32,
            7 => Self::I64,
            9 => Self::Bool,
            10 => Self::F16,
            11 => Self::F64,
            12 => Self::U32,
            13 => Self::U64,
            16 => Self::BF16,
            _ => return None,
        })
    }

    /// Its number in ONNX's `TensorProto.DataType`.
    pub const fn to_onnx(self) -> i32 {
        match self {
            Self::F32 => 1,
            Self::U8 => 2,
            Self::I8 => 3,
            Self::U16 => 4,
            Self::I16 => 5,
            Self::I32 => 6,
            Self::I64 => 7,
            Self::Bool => 9,
            Self::F16 => 10,
            Self::F64 => 11,
            Self::U32 => 12,
            Self::U64 => 13,
            Self::BF16 => 16,
        }
    }

    /// Whether the type is a floating-point type.
    pub const fn is_float(self) -> bool {
        matches!(self, Self::F32 | Self::F64 | Self::F16 | Self::BF16)
    }

    /// Bytes of one element.
    pub const fn bytes(self) -> usize {
        match self {
            Self::I8 | Self::U8 | Self::Bool => 1,
            Self::F16 | Self::BF16 | Self::I16 | Self::U16 => 2,
            Self::F32 | Self::I32 | Self::U32 => 4,
            Self::F64 | Self::I64 | Self::U64 => 8,
        }
    }
}

impl fmt::Display for ElementType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::F64 => "f64",
            Self::F16 => "f16",
            Self::BF16 => "bf16",
            Self::I8 => "i8",
            Self::I16 => "i16",
            Self::I32 => "i32",
            Self::I64 => "i64",
            Self::U8 => "u8",
            Self::U16 => "u16",
            Self::U32 => "u32",
            Self::U64 => "u64",
            Self::Bool => "bool",
        })
    }
}

/// The elements of a tensor, in row-major order.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "one variant for each `ElementType`")]
pub enum TensorData {
    F32(Vec<f32>),
    F64(Vec<f64>),
    F16(Vec<f16>),
    BF16(Vec<bf16>),
    I8(Vec<i8>),
    I16(Vec<i16>),
    I32(Vec<i32>),
    I64(Vec<i64>),
    U8(Vec<u8>),
    U16(Vec<u16>),
    U32(Vec<u32>),
    U64(Vec<u64>),
    Bool(Vec<bool>),
}

impl TensorData {
    /// Number of elements.
    pub fn len(&self) -> usize {
        each_type!(self, values => values.len())
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Type of the elements.
    pub fn element(&self) -> ElementType {
        match self {
            Self::F32(_) => ElementType::F32,
            Self::F64(_) => ElementType::F64,
            Self::F16(_) => ElementType::F16,
            Self::BF16(_) => ElementType::BF16,
            Self::I8(_) => ElementType::I8,
            Self::I16(_) => ElementType::I16,
            Self::I32(_) => ElementType::I32,
            Self::I64(_) => ElementType::I64,
            Self::U8(_) => ElementType::U8,
            Self::U16(_) => ElementType::U16,
            Self::U32(_) => ElementType::U32,
            Self::U64(_) => ElementType::U64,
            Self::Bool(_) => ElementType::Bool,
        }
    }

    /// The elements that `bytes` holds, little-endian.
    ///
    /// Bytes behind the last whole element are ignored.
    pub fn from_le_bytes(element: ElementType, bytes: &[u8]) -> Self {
        macro_rules! read {
            ($type:ty) => {
                bytes
                    .chunks_exact(size_of::<$type>())
                    .filter_map(|word| word.try_into().ok())
                    .map(<$type>::from_le_bytes)
                    .collect()
            };
        }
        match element {
            ElementType::F32 => Self::F32(read!(f32)),
            ElementType::F64 => Self::F64(read!(f64)),
            ElementType::F16 => Self::F16(read!(f16)),
            ElementType::BF16 => Self::BF16(read!(bf16)),
            ElementType::I8 => Self::I8(read!(i8)),
            ElementType::I16 => Self::I16(read!(i16)),
            ElementType::I32 => Self::I32(read!(i32)),
            ElementType::I64 => Self::I64(read!(i64)),
            ElementType::U8 => Self::U8(bytes.to_vec()),
            ElementType::U16 => Self::U16(read!(u16)),
            ElementType::U32 => Self::U32(read!(u32)),
            ElementType::U64 => Self::U64(read!(u64)),
            ElementType::Bool => Self::Bool(bytes.iter().map(|&byte| byte != 0).collect()),
        }
    }
}

/// A dense array with a shape.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    shape: Vec<usize>,
    data: TensorData,
}

impl Tensor {
    /// A tensor of `shape` that holds `data`.
    ///
    /// # Errors
    /// [`EngineError::TensorLength`] where the number of elements is not the product of the shape.
    pub fn new(shape: Vec<usize>, data: TensorData) -> Result<Self, EngineError> {
        let expected = shape.iter().try_fold(1usize, |product, &length| product.checked_mul(length));
        if expected != Some(data.len()) {
            return Err(EngineError::TensorLength { shape, found: data.len() });
        }
        Ok(Self { shape, data })
    }

    /// A tensor of `f32`.
    ///
    /// # Errors
    /// As [`Tensor::new`].
    pub fn from_f32(shape: Vec<usize>, values: Vec<f32>) -> Result<Self, EngineError> {
        Self::new(shape, TensorData::F32(values))
    }

    /// Shape.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Elements.
    pub fn data(&self) -> &TensorData {
        &self.data
    }

    /// Shape and elements.
    pub fn into_parts(self) -> (Vec<usize>, TensorData) {
        (self.shape, self.data)
    }

    /// Type of the elements.
    pub fn element(&self) -> ElementType {
        self.data.element()
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.data.len()
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// The same elements under another shape.
    ///
    /// # Errors
    /// As [`Tensor::new`].
    pub fn reshape(self, shape: Vec<usize>) -> Result<Self, EngineError> {
        Self::new(shape, self.data)
    }

    /// The elements as `f32`: borrowed where they are, converted (rounded to nearest) where they are not.
    pub fn to_f32(&self) -> Cow<'_, [f32]> {
        match &self.data {
            TensorData::F32(values) => Cow::Borrowed(values),
            TensorData::F64(values) => values.iter().map(|&value| value as f32).collect(),
            TensorData::F16(values) => values.iter().map(|value| value.to_f32()).collect(),
            TensorData::BF16(values) => values.iter().map(|value| value.to_f32()).collect(),
            TensorData::I8(values) => values.iter().map(|&value| f32::from(value)).collect(),
            TensorData::I16(values) => values.iter().map(|&value| f32::from(value)).collect(),
            TensorData::I32(values) => values.iter().map(|&value| value as f32).collect(),
            TensorData::I64(values) => values.iter().map(|&value| value as f32).collect(),
            TensorData::U8(values) => values.iter().map(|&value| f32::from(value)).collect(),
            TensorData::U16(values) => values.iter().map(|&value| f32::from(value)).collect(),
            TensorData::U32(values) => values.iter().map(|&value| value as f32).collect(),
            TensorData::U64(values) => values.iter().map(|&value| value as f32).collect(),
            TensorData::Bool(values) => values.iter().map(|&value| f32::from(u8::from(value))).collect(),
        }
    }

    /// The elements converted to `element`: rounded to nearest, and saturated where the target is an integer type.
    pub fn cast(self, element: ElementType) -> Self {
        if self.element() == element {
            return self;
        }
        // Labels and indices may exceed what f32 counts exactly; f64 counts every integer up to 2^53.
        let wide: Vec<f64> = match &self.data {
            TensorData::F64(values) => values.clone(),
            TensorData::I64(values) => values.iter().map(|&value| value as f64).collect(),
            TensorData::U64(values) => values.iter().map(|&value| value as f64).collect(),
            TensorData::I32(values) => values.iter().map(|&value| f64::from(value)).collect(),
            TensorData::U32(values) => values.iter().map(|&value| f64::from(value)).collect(),
            _ => self.to_f32().iter().map(|&value| f64::from(value)).collect(),
        };
        macro_rules! convert {
            ($type:ty) => {
                wide.iter().map(|value| value.round() as $type).collect()
            };
        }
        let data = match element {
            ElementType::F32 => TensorData::F32(wide.iter().map(|&value| value as f32).collect()),
            ElementType::F64 => TensorData::F64(wide),
            ElementType::F16 => TensorData::F16(wide.iter().map(|&value| f16::from_f64(value)).collect()),
            ElementType::BF16 => TensorData::BF16(wide.iter().map(|&value| bf16::from_f64(value)).collect()),
            ElementType::I8 => TensorData::I8(convert!(i8)),
            ElementType::I16 => TensorData::I16(convert!(i16)),
            ElementType::I32 => TensorData::I32(convert!(i32)),
            ElementType::I64 => TensorData::I64(convert!(i64)),
            ElementType::U8 => TensorData::U8(convert!(u8)),
            ElementType::U16 => TensorData::U16(convert!(u16)),
            ElementType::U32 => TensorData::U32(convert!(u32)),
            ElementType::U64 => TensorData::U64(convert!(u64)),
            ElementType::Bool => TensorData::Bool(wide.iter().map(|&value| value != 0.0).collect()),
        };
        Self { shape: self.shape, data }
    }

    /// Rows `start..end` along the first axis.
    ///
    /// A range outside the tensor is cut to what is there.
    pub fn rows(&self, start: usize, end: usize) -> Self {
        let Some((&count, rest)) = self.shape.split_first() else { return self.clone() };
        let (start, end) = (start.min(count), end.min(count).max(start.min(count)));
        let row: usize = rest.iter().product();
        macro_rules! take {
            ($($kind:ident),*) => {
                match &self.data {
                    $(TensorData::$kind(values) => {
                        TensorData::$kind(values.get(start * row..end * row).unwrap_or_default().to_vec())
                    })*
                }
            };
        }
        let data = take!(F32, F64, F16, BF16, I8, I16, I32, I64, U8, U16, U32, U64, Bool);
        let mut shape = self.shape.clone();
        shape[0] = end - start;
        Self { shape, data }
    }

    /// The tensors one after the other along the first axis.
    ///
    /// # Errors
    /// [`EngineError::ModelsDiffer`] where they differ in type, or in any axis but the first.
    pub fn concatenate(tensors: &[&Self]) -> Result<Self, EngineError> {
        let Some(first) = tensors.first() else { return Self::from_f32(vec![0], Vec::new()) };
        let mut shape = first.shape.clone();
        let fits = |tensor: &Self| {
            tensor.element() == first.element() && !shape.is_empty() && tensor.shape.get(1..) == shape.get(1..)
        };
        if !tensors.iter().all(|tensor| fits(tensor)) {
            return Err(EngineError::ModelsDiffer("tensors of different shapes cannot form a batch".to_owned()));
        }
        shape[0] = tensors.iter().filter_map(|tensor| tensor.shape.first()).sum();
        macro_rules! join {
            ($($kind:ident),*) => {
                match first.data {
                    $(TensorData::$kind(_) => {
                        let mut all = Vec::with_capacity(tensors.iter().map(|tensor| tensor.len()).sum());
                        for tensor in tensors {
                            if let TensorData::$kind(values) = &tensor.data {
                                all.extend_from_slice(values);
                            }
                        }
                        TensorData::$kind(all)
                    })*
                }
            };
        }
        let data = join!(F32, F64, F16, BF16, I8, I16, I32, I64, U8, U16, U32, U64, Bool);
        Self::new(shape, data)
    }
}

/// One axis of a declared shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dimension {
    /// The length is part of the model.
    Fixed(usize),
    /// The length comes with the input; the name, if there is one, ties axes together.
    Dynamic(Option<String>),
}

impl Dimension {
    /// The length, where the model fixes it.
    pub fn fixed(&self) -> Option<usize> {
        match self {
            Self::Fixed(length) => Some(*length),
            Self::Dynamic(_) => None,
        }
    }
}

impl fmt::Display for Dimension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(length) => write!(f, "{length}"),
            Self::Dynamic(Some(name)) => f.write_str(name),
            Self::Dynamic(None) => f.write_str("?"),
        }
    }
}

/// What a model says of one of its inputs or outputs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Name in the graph.
    pub name: String,
    /// Type of the elements.
    pub element: ElementType,
    /// Declared shape; `None` where the model declares none.
    pub shape: Option<Vec<Dimension>>,
}

impl TensorInfo {
    /// Whether a tensor of this shape and type may be fed here.
    pub fn accepts(&self, shape: &[usize], element: ElementType) -> bool {
        let fits = self.shape.as_ref().is_none_or(|dimensions| {
            dimensions.len() == shape.len()
                && dimensions
                    .iter()
                    .zip(shape)
                    .all(|(dimension, &length)| dimension.fixed().is_none_or(|fixed| fixed == length))
        });
        fits && element == self.element
    }

    /// Whether there is a tensor that fits here and there.
    pub fn may_equal(&self, other: &Self) -> bool {
        let fits = |(a, b): (&Dimension, &Dimension)| match (a, b) {
            (Dimension::Fixed(a), Dimension::Fixed(b)) => a == b,
            _ => true,
        };
        let same_shape = match (&self.shape, &other.shape) {
            (Some(a), Some(b)) => a.len() == b.len() && a.iter().zip(b).all(fits),
            _ => true,
        };
        same_shape && self.element == other.element
    }

    /// The error that says that a sample does not fit.
    pub fn mismatch(&self, sample: &str, shape: &[usize], element: ElementType) -> EngineError {
        EngineError::SampleShape {
            sample: sample.to_owned(),
            shape: shape.to_vec(),
            element,
            input: self.name.clone(),
            expected: self.shape.clone().unwrap_or_default(),
            expected_element: self.element,
        }
    }
}

/// As `` `x` (Nx3x32x32 of f32) ``.
impl fmt::Display for TensorInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shape = self.shape.as_deref().map_or_else(|| "any shape".to_owned(), dimensions_text);
        write!(f, "`{}` ({shape} of {})", self.name, self.element)
    }
}
