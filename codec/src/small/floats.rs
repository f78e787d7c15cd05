//! Numbers that must come back bit by bit.
//!
//! The sign and the exponent are coded by what came before, the top of the mantissa by the exponent; the lowest set
//! bit of the mantissa is found by adaptive flags, so that integers, halves and numbers that were once shorter cost
//! no more than they hold; what is between is written as it is.

use onnx_dcomp_forms::{DType, Values};

use super::arithmetic::{BinaryCoder, On};
use super::mixing::Weights;
use super::model::{COUNT_LIMIT, Slot, direct, mixed, tree};
use crate::error::DecodeError;
use crate::processor::{self, Work};

/// Bits of the exponent and of the mantissa. Integers count as all exponent.
const fn fields(dtype: DType) -> (u32, u32) {
    match dtype {
        DType::F32 => (8, 23),
        DType::F16 => (5, 10),
        DType::BF16 => (8, 7),
        DType::F64 => (11, 52),
        DType::I8 | DType::U8 => (7, 0),
    }
}

/// Bits of the mantissa that are predicted.
const TOP_BITS: u32 = 2;
/// Earlier exponents that are told apart.
const EARLIER: usize = 32;

/// What is learnt of numbers of one type (or of both 8-bit types), over all weights of a payload.
pub(super) struct FloatModel {
    signs: [Slot; 4],
    exponents: Vec<Slot>,
    weights: Vec<Weights>,
    tops: Vec<Slot>,
    tails: [Slot; 64],
    lengths: Vec<Slot>,
    leads: Vec<Slot>,
}

impl FloatModel {
    pub(super) fn new(dtype: DType) -> Self {
        let exponents = 1usize << fields(dtype).0;
        Self {
            signs: [Slot::NEW; 4],
            exponents: vec![Slot::NEW; exponents * (1 + 2 * EARLIER)],
            weights: vec![Weights::new::<3>(26_000); 16],
            tops: vec![Slot::NEW; exponents << TOP_BITS],
            tails: [Slot::NEW; 64],
            lengths: vec![Slot::NEW; 129 * 128],
            leads: vec![Slot::NEW; 65 << TOP_BITS],
        }
    }

    /// Codes `count` numbers in the order in which they stand; `bits` tells an encoder the pattern of each.
    pub(super) fn code<C: BinaryCoder>(
        &mut self,
        coder: &mut C,
        dtype: DType,
        count: usize,
        bits: impl Fn(usize) -> u64,
    ) -> Result<Values, DecodeError> {
        processor::run(Floats { model: self, coder, dtype, count, bits })
    }

    #[inline(always)]
    fn code_here<C: BinaryCoder>(
        &mut self,
        coder: &mut C,
        dtype: DType,
        count: usize,
        bits: impl Fn(usize) -> u64,
    ) -> Result<Values, DecodeError> {
        let size = dtype.element_bytes();
        let (exponent_bits, mantissa_bits) = fields(dtype);
        let mut bytes = Vec::with_capacity(count * size);
        let (mut last, mut earlier, mut last_sign) = (0usize, 0usize, 0usize);
        for index in 0..count {
            let wanted = bits(index);
            let sign = direct(coder, &mut self.signs[last_sign], wanted >> (8 * size - 1) & 1 == 1, COUNT_LIMIT);
            let wanted_exponent = (wanted >> mantissa_bits) as usize & ((1 << exponent_bits) - 1);
            let exponent = self.exponent(coder, exponent_bits, last, earlier, wanted_exponent);
            let mantissa = self.mantissa(coder, exponent, mantissa_bits, wanted & ((1 << mantissa_bits) - 1));
            let pattern = u64::from(sign) << (8 * size - 1) | (exponent as u64) << mantissa_bits | mantissa;
            bytes.extend_from_slice(&pattern.to_le_bytes()[..size]);
            (last, earlier, last_sign) = (exponent, last, usize::from(sign));
            if index % 4096 == 0 {
                coder.check()?;
            }
        }
        coder.check()?;
        Values::new(dtype, bytes).map_err(|_| DecodeError::Corrupt { what: "numbers of a broken size" })
    }

    #[inline(always)]
    fn exponent<C: BinaryCoder>(
        &mut self,
        coder: &mut C,
        bits: u32,
        last: usize,
        earlier: usize,
        wanted: usize,
    ) -> usize {
        let nodes = 1usize << bits;
        let between = (last + earlier) / 2;
        let mut node = 1usize;
        for place in (0..bits).rev() {
            let at = [node, (1 + last % EARLIER) * nodes + node, (1 + EARLIER + between % EARLIER) * nodes + node];
            let weights = &mut self.weights[(bits - 1 - place) as usize];
            let bit = mixed(coder, &mut self.exponents, &at, weights, wanted >> place & 1 == 1);
            node = node << 1 | usize::from(bit);
        }
        node - nodes
    }

    #[inline(always)]
    fn mantissa<C: BinaryCoder>(&mut self, coder: &mut C, exponent: usize, bits: u32, wanted: u64) -> u64 {
        if bits == 0 {
            return 0;
        }
        let low_bits = bits - TOP_BITS;
        let slots = &mut self.tops[exponent << TOP_BITS..][..1 << TOP_BITS];
        let top = tree(coder, slots, (wanted >> low_bits) as u32, TOP_BITS, COUNT_LIMIT);
        let low = wanted & ((1 << low_bits) - 1);
        let mut zeros = 0;
        while zeros < low_bits {
            let slot = &mut self.tails[zeros as usize];
            if direct(coder, slot, low >> zeros & 1 == 1, COUNT_LIMIT) {
                let above = coder.code_raw(low >> (zeros + 1), low_bits - zeros - 1);
                return u64::from(top) << low_bits | (above << 1 | 1) << zeros;
            }
            zeros += 1;
        }
        u64::from(top) << low_bits
    }

    /// Codes `count` numbers that mostly ascend, behind a first one that may be zero.
    pub(super) fn code_sorted<C: BinaryCoder>(
        &mut self,
        coder: &mut C,
        dtype: DType,
        count: usize,
        bits: impl Fn(usize) -> u64,
    ) -> Result<Values, DecodeError> {
        let size = dtype.element_bytes();
        let width = 8 * size as u32;
        let mask = u64::MAX >> (64 - width);
        let (_, mantissa_bits) = fields(dtype);
        let mut bytes = Vec::with_capacity(count * size);
        let mut last: Option<u64> = None;
        let mut spacing = 0i32;
        for index in 0..count {
            if index == 0 && direct(coder, &mut self.signs[2], bits(0) == 0, COUNT_LIMIT) {
                bytes.extend_from_slice(&[0u8; 8][..size]);
                continue;
            }
            let wanted = ordered(bits(index), width);
            let key = match last {
                None => coder.code_raw(wanted, width),
                Some(last) => {
                    let exponent = ((unordered(last, width) & mask >> 1) >> mantissa_bits) as i32;
                    let (delta, length) = self.gap(coder, spacing - exponent, width, wanted.wrapping_sub(last) & mask);
                    spacing = length as i32 + exponent;
                    last.wrapping_add(delta) & mask
                }
            };
            last = Some(key);
            bytes.extend_from_slice(&unordered(key, width).to_le_bytes()[..size]);
            if index % 4096 == 0 {
                coder.check()?;
            }
        }
        coder.check()?;
        Values::new(dtype, bytes).map_err(|_| DecodeError::Corrupt { what: "numbers of a broken size" })
    }

    /// Codes the distance to the next key and returns it with its length in bits, which is about `guess`.
    fn gap<C: BinaryCoder>(&mut self, coder: &mut C, guess: i32, width: u32, wanted: u64) -> (u64, u32) {
        let context = (guess.clamp(-1, 127) & 127) as usize;
        let slots = &mut self.lengths[context * 128..][..128];
        let length = tree(coder, slots, 64 - wanted.leading_zeros(), 7, COUNT_LIMIT).min(width);
        if length < 2 {
            return (u64::from(length), length);
        }
        let few = (length - 1).min(TOP_BITS);
        let left = length - 1 - few;
        let slots = &mut self.leads[(length as usize) << TOP_BITS..][..1 << TOP_BITS];
        let top = tree(coder, slots, (wanted >> left) as u32 & ((1 << few) - 1), few, COUNT_LIMIT);
        ((1 << few | u64::from(top)) << left | coder.code_raw(wanted, left), length)
    }
}

/// [`FloatModel::code`] as work that is compiled twice.
struct Floats<'a, C, F> {
    model: &'a mut FloatModel,
    coder: &'a mut C,
    dtype: DType,
    count: usize,
    bits: F,
}

impl<C: BinaryCoder, F: Fn(usize) -> u64> Work for Floats<'_, C, F> {
    type Output = Result<Values, DecodeError>;

    #[inline(always)]
    fn run<const HAS_AVX2: bool>(self) -> Self::Output {
        self.model.code_here(&mut On::<HAS_AVX2, C>(self.coder), self.dtype, self.count, self.bits)
    }
}

/// A number that ascends with the value of the pattern `bits` of `width` bits.
fn ordered(bits: u64, width: u32) -> u64 {
    let sign = 1u64 << (width - 1);
    if bits & sign == 0 { bits | sign } else { !bits & (sign | (sign - 1)) }
}

/// The inverse of [`ordered`].
fn unordered(key: u64, width: u32) -> u64 {
    let sign = 1u64 << (width - 1);
    if key & sign != 0 { key & !sign } else { !key & (sign | (sign - 1)) }
}
