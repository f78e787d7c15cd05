//! Binary arithmetic coding: one bit and its probability at a time.
//!
//! A range coder with carry: the interval is 32 bits wide, a probability has 16 bits, bytes leave from the top. Source:
//! Martin, "Range encoding: an algorithm for removing redundancy from a digitised message", 1979; the handling of
//! carries follows Schindler's published range coder.

use std::hint::select_unpredictable;

use crate::error::DecodeError;

/// Below this the interval is widened by a byte.
const NARROW: u32 = 1 << 24;

/// Bytes that the last interval may need, and that a decoder may therefore read behind the end.
const FLUSH_BYTES: usize = 4;

/// What codes bits: an encoder, a decoder, or something that only counts.
///
/// The models are written once for all three. They hand over the bit that they want to code and go on with the bit
/// that they are given back: the same one from an encoder, the true one from a decoder, which ignores what it was
/// handed.
pub(super) trait BinaryCoder {
    /// Whether this processor surely has the instructions of AVX2, and models may use them.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "nobody else asks"))]
    const HAS_AVX2: bool = false;

    /// Codes `bit`, which is 1 with probability `one / 65536`; `one` is in `1..=65535`.
    fn code(&mut self, bit: bool, one: u32) -> bool;

    /// Codes the lowest `count` bits of `bits` as they are; `count` is at most 16.
    fn code_few(&mut self, bits: u32, count: u32) -> u32;

    /// Codes the lowest `count` bits of `bits` as they are, 16 at a time, the highest first.
    #[inline(always)]
    fn code_raw(&mut self, bits: u64, count: u32) -> u64 {
        let mut read = 0;
        let mut left = count;
        while left > 0 {
            let few = left.min(16);
            left -= few;
            read = read << few | u64::from(self.code_few((bits >> left) as u32 & ((1 << few) - 1), few));
        }
        read
    }

    /// Whether more was read than there is.
    fn check(&self) -> Result<(), DecodeError>;
}

/// A coder on a processor that [`processor::run`](crate::processor::run) knows.
pub(super) struct On<'a, const HAS_AVX2: bool, C>(pub(super) &'a mut C);

impl<const HAS_AVX2: bool, C: BinaryCoder> BinaryCoder for On<'_, HAS_AVX2, C> {
    const HAS_AVX2: bool = HAS_AVX2;

    #[inline(always)]
    fn code(&mut self, bit: bool, one: u32) -> bool {
        self.0.code(bit, one)
    }

    #[inline(always)]
    fn code_few(&mut self, bits: u32, count: u32) -> u32 {
        self.0.code_few(bits, count)
    }

    #[inline(always)]
    fn check(&self) -> Result<(), DecodeError> {
        self.0.check()
    }
}

/// Writes bits.
#[derive(Debug, Clone)]
pub(super) struct BitEncoder {
    low: u64,
    range: u32,
    /// The last byte that left the interval; a carry can still reach it.
    held: Option<u8>,
    /// Bytes of 255 behind it, which a carry would turn to 0.
    pending: usize,
    bytes: Vec<u8>,
}

impl BitEncoder {
    pub(super) fn new() -> Self {
        Self { low: 0, range: u32::MAX, held: None, pending: 0, bytes: Vec::new() }
    }

    /// Out of line: this happens once for each byte.
    #[inline(never)]
    fn shift(&mut self) {
        if self.low < 0xFF00_0000 || self.low > 0xFFFF_FFFF {
            let carry = (self.low >> 32) as u8;
            if let Some(held) = self.held {
                self.bytes.push(held.wrapping_add(carry));
            }
            self.bytes.resize(self.bytes.len() + self.pending, 0xFFu8.wrapping_add(carry));
            self.pending = 0;
            self.held = Some((self.low >> 24) as u8);
        } else {
            self.pending += 1;
        }
        self.low = (self.low & 0x00FF_FFFF) << 8;
    }

    /// Ends the stream: picks the number in the interval that ends in the most zeros, and leaves those out.
    pub(super) fn finish(mut self) -> Vec<u8> {
        let last = self.low + u64::from(self.range) - 1;
        for zeros in (0..32).rev() {
            let mask = (1u64 << zeros) - 1;
            let round = (self.low + mask) & !mask;
            if round <= last {
                self.low = round;
                break;
            }
        }
        for _ in 0..=FLUSH_BYTES {
            self.shift();
        }
        for _ in 0..FLUSH_BYTES {
            if self.bytes.last() == Some(&0) {
                self.bytes.pop();
            }
        }
        self.bytes
    }
}

impl BinaryCoder for BitEncoder {
    #[inline(always)]
    fn code(&mut self, bit: bool, one: u32) -> bool {
        let bound = ((u64::from(self.range) * u64::from(one)) >> 16) as u32;
        if bit {
            self.range = bound;
        } else {
            self.low += u64::from(bound);
            self.range -= bound;
        }
        while self.range < NARROW {
            self.range <<= 8;
            self.shift();
        }
        bit
    }

    #[inline(always)]
    fn code_few(&mut self, bits: u32, count: u32) -> u32 {
        self.range >>= count;
        self.low += u64::from(self.range) * u64::from(bits);
        while self.range < NARROW {
            self.range <<= 8;
            self.shift();
        }
        bits
    }

    fn check(&self) -> Result<(), DecodeError> {
        Ok(())
    }
}

/// Reads bits.
///
/// The code, which the format compares with the interval, is the upper half of `code`; the lower half is what follows.
#[derive(Debug, Clone)]
pub(super) struct BitDecoder<'a> {
    bytes: &'a [u8],
    next: usize,
    code: u64,
    /// Bits of `code` that are read: at least 32 between two calls.
    loaded: u32,
    range: u32,
}

impl<'a> BitDecoder<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        let mut decoder = Self { bytes, next: 0, code: 0, loaded: 0, range: u32::MAX };
        decoder.load();
        decoder
    }

    /// Reads four bytes, zeros behind the end.
    #[inline(always)]
    fn load(&mut self) {
        let word = match self.bytes.get(self.next..).and_then(<[u8]>::first_chunk) {
            Some(word) => u32::from_be_bytes(*word),
            None => self.last_word(),
        };
        self.code |= u64::from(word) << (32 - self.loaded);
        self.loaded += 32;
        self.next += 4;
    }

    #[cold]
    fn last_word(&self) -> u32 {
        let byte = |place: usize| self.bytes.get(self.next + place).copied().unwrap_or(0);
        u32::from_be_bytes(std::array::from_fn(byte))
    }

    /// Widens a narrow interval by as many bytes as it takes, without a branch that no processor could predict.
    #[inline(always)]
    fn widen(&mut self) {
        let bits = self.range.leading_zeros() & 24;
        self.range <<= bits;
        self.code <<= bits;
        self.loaded -= bits;
        if self.loaded < 32 {
            self.load();
        }
    }
}

impl BinaryCoder for BitDecoder<'_> {
    #[inline(always)]
    fn code(&mut self, _bit: bool, one: u32) -> bool {
        let bound = ((u64::from(self.range) * u64::from(one)) >> 16) as u32;
        let above = self.code.wrapping_sub(u64::from(bound) << 32);
        let bit = self.code < u64::from(bound) << 32;
        self.range = select_unpredictable(bit, bound, self.range - bound);
        self.code = select_unpredictable(bit, self.code, above);
        self.widen();
        bit
    }

    #[inline(always)]
    fn code_few(&mut self, _bits: u32, count: u32) -> u32 {
        self.range >>= count;
        let code = (self.code >> 32) as u32;
        let bits = (code / self.range).min((1 << count) - 1);
        self.code -= u64::from(bits * self.range) << 32;
        self.widen();
        bits
    }

    fn check(&self) -> Result<(), DecodeError> {
        // Whole bytes that have left the lower half are read; what is in it is only looked at.
        let read = self.next - (self.loaded as usize - 32) / 8;
        if read > self.bytes.len() + FLUSH_BYTES {
            return Err(DecodeError::Truncated { what: "an adaptive stream" });
        }
        Ok(())
    }
}

/// Adds up what bits would cost, and writes nothing.
#[derive(Debug, Clone, Default)]
pub(super) struct BitCounter {
    pub(super) bits: f64,
}

impl BinaryCoder for BitCounter {
    #[inline(always)]
    fn code(&mut self, bit: bool, one: u32) -> bool {
        let chance = if bit { one } else { 65_536 - one };
        self.bits -= (f64::from(chance) / 65_536.0).log2();
        bit
    }

    fn code_few(&mut self, bits: u32, count: u32) -> u32 {
        self.bits += f64::from(count);
        bits
    }

    fn check(&self) -> Result<(), DecodeError> {
        Ok(())
    }
}
