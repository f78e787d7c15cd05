//! Bytes and variable-length integers, read with every step checked.

use crate::DecodeError;

/// What is left of a payload.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Number of bytes that are left.
    pub(crate) fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// Takes the next `len` bytes; `what` names them where they are missing.
    pub(crate) fn take(&mut self, len: usize, what: &'static str) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(DecodeError::Truncated { what })?;
        self.rest = rest;
        Ok(taken)
    }

    /// Takes everything that is left.
    pub(crate) fn take_all(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    pub(crate) fn byte(&mut self, what: &'static str) -> Result<u8, DecodeError> {
        let (&byte, rest) = self.rest.split_first().ok_or(DecodeError::Truncated { what })?;
        self.rest = rest;
        Ok(byte)
    }

    /// A varint: seven bits a byte, the lowest first, the high bit set on every byte but the last.
    pub(crate) fn varint(&mut self, what: &'static str) -> Result<u64, DecodeError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte(what)?;
            let bits = u64::from(byte & 0x7F);
            if bits << shift >> shift != bits {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(DecodeError::Corrupt { what: "a varint exceeds 64 bits" })
    }

    /// A varint that must fit this machine's sizes.
    pub(crate) fn size(&mut self, what: &'static str) -> Result<usize, DecodeError> {
        usize::try_from(self.varint(what)?).map_err(|_| DecodeError::Corrupt { what: "a size exceeds this machine's" })
    }

    /// A signed varint: zigzag, so that 0, -1, 1, -2, … are 0, 1, 2, 3, ….
    pub(crate) fn signed(&mut self, what: &'static str) -> Result<i64, DecodeError> {
        let value = self.varint(what)?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    pub(crate) fn f32(&mut self, what: &'static str) -> Result<f32, DecodeError> {
        let bytes = self.take(4, what)?;
        Ok(f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }
}

/// Appends the varint of `value`, see [`Reader::varint`].
pub(crate) fn push_varint(into: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        into.push(value as u8 | 0x80);
        value >>= 7;
    }
    into.push(value as u8);
}

/// Appends the varint of `value`, see [`Reader::signed`].
pub(crate) fn push_signed(into: &mut Vec<u8>, value: i64) {
    push_varint(into, (value << 1 ^ value >> 63) as u64);
}

/// Reads fields of a few bits, the highest bit of each byte first.
#[derive(Debug, Clone)]
pub(crate) struct BitReader<'a> {
    bytes: &'a [u8],
    /// The bits that were loaded and not consumed, in the highest places.
    window: u64,
    /// Number of bits in the window that came from the bytes.
    loaded: u32,
}

impl<'a> BitReader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, window: 0, loaded: 0 }
    }

    /// Loads until at least 32 bits are there, or the bytes end.
    #[inline]
    pub(crate) fn refill(&mut self) {
        while self.loaded <= 56
            && let Some((&byte, rest)) = self.bytes.split_first()
        {
            self.window |= u64::from(byte) << (56 - self.loaded);
            self.loaded += 8;
            self.bytes = rest;
        }
    }

    /// The next `count` bits (1 to 32), zeros behind the end.
    #[inline]
    pub(crate) fn peek(&self, count: u32) -> u32 {
        (self.window >> (64 - count)) as u32
    }

    /// Drops `count` bits (0 to 32); an error where they were behind the end.
    #[inline]
    pub(crate) fn consume(&mut self, count: u32, what: &'static str) -> Result<(), DecodeError> {
        self.loaded = self.loaded.checked_sub(count).ok_or(DecodeError::Truncated { what })?;
        self.window <<= count;
        Ok(())
    }

    /// The next `count` bits (0 to 32).
    pub(crate) fn bits(&mut self, count: u32, what: &'static str) -> Result<u32, DecodeError> {
        if count == 0 {
            return Ok(0);
        }
        self.refill();
        let bits = self.peek(count);
        self.consume(count, what)?;
        Ok(bits)
    }

    /// Number of bytes that no bit has been consumed of.
    pub(crate) fn untouched_bytes(&self) -> usize {
        self.bytes.len() + (self.loaded / 8) as usize
    }
}

/// Writes fields of a few bits, the highest bit of each byte first.
#[derive(Debug, Default)]
pub(crate) struct BitWriter {
    bytes: Vec<u8>,
    pending: u64,
    pending_bits: u32,
}

impl BitWriter {
    /// Appends the lowest `count` (0 to 32) bits of `bits`, which must have no others.
    #[inline]
    pub(crate) fn push(&mut self, bits: u32, count: u32) {
        self.pending = self.pending << count | u64::from(bits);
        self.pending_bits += count;
        while self.pending_bits >= 8 {
            self.pending_bits -= 8;
            self.bytes.push((self.pending >> self.pending_bits) as u8);
        }
    }

    /// The bytes, the last one filled up with zeros.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        if self.pending_bits > 0 {
            self.push(0, 8 - self.pending_bits);
        }
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn integers_come_back(values in proptest::collection::vec((any::<u64>(), any::<i64>(), 0..64u32), 0..20)) {
            let mut bytes = Vec::new();
            for &(plain, signed, shift) in &values {
                push_varint(&mut bytes, plain >> shift);
                push_signed(&mut bytes, signed >> shift);
            }
            let mut reader = Reader::new(&bytes);
            for &(plain, signed, shift) in &values {
                prop_assert_eq!(reader.varint("test").unwrap(), plain >> shift);
                prop_assert_eq!(reader.signed("test").unwrap(), signed >> shift);
            }
            prop_assert_eq!(reader.remaining(), 0);
        }

        #[test]
        fn bit_fields_come_back(fields in proptest::collection::vec((any::<u32>(), 0..=32u32), 0..50)) {
            let mut writer = BitWriter::default();
            let field = |&(bits, count): &(u32, u32)| if count == 0 { 0 } else { bits >> (32 - count) };
            fields.iter().for_each(|entry| writer.push(field(entry), entry.1));
            let bytes = writer.finish();
            let mut reader = BitReader::new(&bytes);
            for entry in &fields {
                prop_assert_eq!(reader.bits(entry.1, "test").unwrap(), field(entry));
            }
            prop_assert_eq!(reader.untouched_bytes(), 0);
            prop_assert!(reader.bits(8, "test").is_err());
        }
    }

    #[test]
    fn a_varint_of_more_than_64_bits_is_refused() {
        let mut bytes = vec![0xFF; 9];
        bytes.push(0x01);
        assert_eq!(Reader::new(&bytes).varint("test").unwrap(), u64::MAX);
        bytes[9] = 0x02;
        assert!(Reader::new(&bytes).varint("test").is_err());
        assert!(Reader::new(&[0x80; 30]).varint("test").is_err());
        assert!(Reader::new(&[0x80]).varint("test").is_err());
    }
}
