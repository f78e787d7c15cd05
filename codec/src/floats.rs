//! Values of any element type, without loss, as planes.
//!
//! A float is rotated left by one bit, so that the sign comes last and the exponent fills the first byte; then each
//! byte is a plane. Exponents of weights are few and skewed, so that their plane shrinks; mantissas are noise and stay
//! raw, unless the values came from a narrower type, whose missing bits are planes of zeros. Integers are one plane.

use onnx_dcomp_forms::{DType, Values};

use crate::plane::{self, Backend, CHUNK, Plane};
use crate::reader::Reader;
use crate::{DecodeError, numbers, parallel};

/// Appends `values` as planes, the one with the highest bits first.
pub(crate) fn encode(values: &Values, backend: Backend, into: &mut Vec<u8>) {
    let bytes = values.bytes();
    match values.dtype() {
        DType::I8 | DType::U8 => plane::encode(bytes, backend, into),
        DType::F16 | DType::BF16 => {
            encode_planes::<2>(bytes, |word| u16::from_le_bytes(word).rotate_left(1).to_be_bytes(), backend, into);
        }
        DType::F32 => {
            encode_planes::<4>(bytes, |word| u32::from_le_bytes(word).rotate_left(1).to_be_bytes(), backend, into);
        }
        DType::F64 => {
            encode_planes::<8>(bytes, |word| u64::from_le_bytes(word).rotate_left(1).to_be_bytes(), backend, into);
        }
    }
}

fn encode_planes<const SIZE: usize>(
    bytes: &[u8],
    rotate: impl Fn([u8; SIZE]) -> [u8; SIZE],
    backend: Backend,
    into: &mut Vec<u8>,
) {
    let words = bytes.as_chunks::<SIZE>().0;
    for index in 0..SIZE {
        let symbols: Vec<u8> = words.iter().map(|&word| rotate(word)[index]).collect();
        plane::encode(&symbols, backend, into);
    }
}

/// Reads and decodes `len` values that [`encode`] wrote.
pub(crate) fn decode(
    reader: &mut Reader<'_>,
    dtype: DType,
    len: usize,
    backend: Backend,
) -> Result<Values, DecodeError> {
    let bytes = match dtype {
        DType::I8 | DType::U8 => Plane::read(reader, len, backend)?.decode(&numbers::table(|symbol| symbol))?,
        DType::F16 | DType::BF16 => {
            decode_planes::<2>(reader, len, |word| u16::from_be_bytes(word).rotate_right(1).to_le_bytes(), backend)?
        }
        DType::F32 => {
            decode_planes::<4>(reader, len, |word| u32::from_be_bytes(word).rotate_right(1).to_le_bytes(), backend)?
        }
        DType::F64 => {
            decode_planes::<8>(reader, len, |word| u64::from_be_bytes(word).rotate_right(1).to_le_bytes(), backend)?
        }
    };
    Values::new(dtype, bytes).map_err(|_| DecodeError::RAGGED)
}

fn decode_planes<const SIZE: usize>(
    reader: &mut Reader<'_>,
    len: usize,
    rotate: impl Fn([u8; SIZE]) -> [u8; SIZE] + Sync + Send,
    backend: Backend,
) -> Result<Vec<u8>, DecodeError> {
    let planes = (0..SIZE).map(|_| Plane::read(reader, len, backend)).collect::<Result<Vec<_>, _>>()?;
    let size = len.checked_mul(SIZE).ok_or(DecodeError::TOO_LONG)?;
    let mut bytes = vec![0u8; size];
    let identity = numbers::table(|symbol| symbol);
    let chunks = bytes.chunks_mut(CHUNK * SIZE).enumerate().collect();
    parallel::try_map(chunks, |(index, chunk): (usize, &mut [u8])| {
        let words = chunk.as_chunks_mut::<SIZE>().0;
        let mut symbols: [Vec<u8>; SIZE] = std::array::from_fn(|_| vec![0; words.len()]);
        for (plane, symbols) in planes.iter().zip(&mut symbols) {
            plane.decode_chunk(index, &identity, symbols)?;
        }
        for (place, word) in words.iter_mut().enumerate() {
            *word = rotate(std::array::from_fn(|plane| symbols[plane][place]));
        }
        Ok(())
    })?;
    Ok(bytes)
}
