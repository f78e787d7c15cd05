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
    let symbols = planes.iter().map(|plane| plane.symbols(&identity)).collect::<Result<Vec<_>, _>>()?;
    let chunks = bytes.chunks_mut(CHUNK * SIZE).enumerate().collect();
    parallel::map(chunks, |(index, chunk): (usize, &mut [u8])| {
        let words = chunk.as_chunks_mut::<SIZE>().0;
        let mut parts: [&[u8]; SIZE] = [&[]; SIZE];
        for (part, symbols) in parts.iter_mut().zip(&symbols) {
            *part = symbols.get(index * CHUNK..).and_then(|symbols| symbols.get(..words.len())).unwrap_or(&[]);
        }
        join(parts, words, &rotate);
    });
    Ok(bytes)
}

/// Joins the bytes of each word; all of `parts` are as long as `words`.
fn join<const SIZE: usize>(parts: [&[u8]; SIZE], words: &mut [[u8; SIZE]], rotate: impl Fn([u8; SIZE]) -> [u8; SIZE]) {
    // Blocks of known size need no check at each byte, and become vector instructions.
    const BLOCK: usize = 64;
    let (blocks, rest) = words.as_chunks_mut::<BLOCK>();
    let (whole, ends) = (parts.map(|part| part.as_chunks::<BLOCK>().0), parts.map(|part| part.as_chunks::<BLOCK>().1));
    for (index, block) in blocks.iter_mut().enumerate() {
        let bytes = whole.map(|blocks| blocks.get(index).copied().unwrap_or([0; BLOCK]));
        for (place, word) in block.iter_mut().enumerate() {
            *word = rotate(std::array::from_fn(|plane| bytes[plane][place]));
        }
    }
    for (place, word) in rest.iter_mut().enumerate() {
        *word = rotate(ends.map(|end| end.get(place).copied().unwrap_or(0)));
    }
}
