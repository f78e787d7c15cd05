//! Flat typed buffers.

use std::fmt;

use bytes::Bytes;
use half::{bf16, f16};

use crate::FormError;

/// Element type of a weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum DType {
    /// IEEE 754 binary32.
    F32 = 0,
    /// IEEE 754 binary16.
    F16 = 1,
    /// The upper half of a binary32.
    BF16 = 2,
    /// IEEE 754 binary64.
    F64 = 3,
    /// Two's complement, 8 bits: weights that were quantised before they reached us.
    I8 = 4,
    /// Unsigned, 8 bits: weights that were quantised before they reached us.
    U8 = 5,
}

impl DType {
    /// Every element type, in the order of their numbers.
    pub const ALL: [Self; 6] = [Self::F32, Self::F16, Self::BF16, Self::F64, Self::I8, Self::U8];

    /// Bytes of one element.
    pub const fn element_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
            Self::F64 => 8,
            Self::I8 | Self::U8 => 1,
        }
    }

    /// Whether the type is a floating-point type, and may therefore be approximated.
    pub const fn is_float(self) -> bool {
        !matches!(self, Self::I8 | Self::U8)
    }

    /// The type whose number is `number`.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// Short name, as in tables: `f32`, `bf16`, `i8`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::BF16 => "bf16",
            Self::F64 => "f64",
            Self::I8 => "i8",
            Self::U8 => "u8",
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A flat buffer of elements of one type, little-endian, cheap to clone and to slice.
///
/// The bytes are kept as they came, so that NaN payloads, signed zeros and subnormal numbers survive.
#[derive(Clone, PartialEq, Eq)]
pub struct Values {
    dtype: DType,
    bytes: Bytes,
}

impl Values {
    /// Takes `bytes`, little-endian, as elements of `dtype`.
    ///
    /// # Errors
    /// [`FormError::RaggedBuffer`] where the buffer does not hold a whole number of elements.
    pub fn new(dtype: DType, bytes: impl Into<Bytes>) -> Result<Self, FormError> {
        let bytes = bytes.into();
        let element_bytes = dtype.element_bytes();
        if !bytes.len().is_multiple_of(element_bytes) {
            return Err(FormError::RaggedBuffer { bytes: bytes.len(), dtype, element_bytes });
        }
        Ok(Self { dtype, bytes })
    }

    /// The elements of `source`, rounded to nearest into `dtype` (integers saturate).
    pub fn from_f32(dtype: DType, source: &[f32]) -> Self {
        let mut bytes = Vec::with_capacity(source.len() * dtype.element_bytes());
        for &value in source {
            push_element(dtype, value, &mut bytes);
        }
        Self { dtype, bytes: bytes.into() }
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.bytes.len() / self.dtype.element_bytes()
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The raw little-endian bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The elements `start..end`, sharing the buffer.
    ///
    /// # Panics
    /// Where the range is outside the buffer.
    pub fn slice(&self, start: usize, end: usize) -> Self {
        let size = self.dtype.element_bytes();
        Self { dtype: self.dtype, bytes: self.bytes.slice(start * size..end * size) }
    }

    /// Element `index` as `f32` (`f64` is rounded).
    ///
    /// # Panics
    /// Where `index` is outside the buffer.
    #[inline]
    pub fn get(&self, index: usize) -> f32 {
        let size = self.dtype.element_bytes();
        element(self.dtype, &self.bytes[index * size..(index + 1) * size])
    }

    /// The bit pattern of element `index`, zero-extended.
    ///
    /// # Panics
    /// Where `index` is outside the buffer.
    #[inline]
    pub fn bits(&self, index: usize) -> u64 {
        let size = self.dtype.element_bytes();
        let mut word = [0u8; 8];
        word[..size].copy_from_slice(&self.bytes[index * size..(index + 1) * size]);
        u64::from_le_bytes(word)
    }

    /// The elements as `f32`, one after the other (`f64` is rounded).
    pub fn iter(&self) -> impl ExactSizeIterator<Item = f32> + '_ {
        let dtype = self.dtype;
        self.bytes.chunks_exact(dtype.element_bytes()).map(move |chunk| element(dtype, chunk))
    }

    /// A copy of the elements as `f32` (`f64` is rounded).
    pub fn to_f32(&self) -> Vec<f32> {
        self.iter().collect()
    }

    /// Whether every element is a finite number.
    pub fn all_finite(&self) -> bool {
        !self.dtype.is_float() || self.iter().all(f32::is_finite)
    }
}

impl fmt::Debug for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Values({} x {})", self.len(), self.dtype)
    }
}

#[inline]
fn element(dtype: DType, chunk: &[u8]) -> f32 {
    match dtype {
        DType::F32 => f32::from_le_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]),
        DType::F16 => f16::from_le_bytes([chunk[0], chunk[1]]).to_f32(),
        DType::BF16 => bf16::from_le_bytes([chunk[0], chunk[1]]).to_f32(),
        DType::F64 => {
            let mut word = [0u8; 8];
            word.copy_from_slice(chunk);
            f64::from_le_bytes(word) as f32
        }
        DType::I8 => f32::from(chunk[0] as i8),
        DType::U8 => f32::from(chunk[0]),
    }
}

/// Appends `value`, rounded to nearest into `dtype`, little-endian.
#[inline]
pub fn push_element(dtype: DType, value: f32, into: &mut Vec<u8>) {
    match dtype {
        DType::F32 => into.extend_from_slice(&value.to_le_bytes()),
        DType::F16 => into.extend_from_slice(&f16::from_f32(value).to_le_bytes()),
        DType::BF16 => into.extend_from_slice(&bf16::from_f32(value).to_le_bytes()),
        DType::F64 => into.extend_from_slice(&f64::from(value).to_le_bytes()),
        DType::I8 => into.push((value.round() as i8) as u8),
        DType::U8 => into.push(value.round() as u8),
    }
}
