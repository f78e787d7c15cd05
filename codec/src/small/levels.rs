//! Integer levels: zero flag, sign, magnitude; and masks, which have the flag alone.

use onnx_dcomp_forms::{Mask, trellis};

use super::arithmetic::BinaryCoder;
use super::context::{Neighbours, Scales, half_octaves, octaves};
use super::model::{COUNT_LIMIT, Slot, direct, mixed};
use crate::error::DecodeError;
use crate::layout::Layout;

/// Contexts of a bit that is mixed.
pub(super) const INPUTS: usize = 6;
/// Places of the mixed bits of one element: not zero, more than 1, more than 2, and 13 for the length of the rest.
const BINS: usize = 16;
/// Numbers that a context can have.
const CONTEXTS: usize = 4096;
/// Elements between two looks at whether a stream has run out.
const CHECK_INTERVAL: usize = 4096;

/// What is learnt of levels, over all weights of a payload.
pub(super) struct LevelModel {
    slots: Vec<Slot>,
    weights: Vec<[i32; INPUTS]>,
    signs: Vec<Slot>,
    rests: Vec<[Slot; 16]>,
    average: u32,
}

impl LevelModel {
    pub(super) fn new() -> Self {
        Self {
            slots: vec![Slot::NEW; INPUTS * CONTEXTS * BINS],
            weights: vec![[13_107; INPUTS]; BINS * 2],
            signs: vec![Slot::NEW; 27],
            rests: vec![[Slot::NEW; 16]; 16],
            average: 1 << 8,
        }
    }

    /// Codes levels in place: an encoder leaves them as they are, a decoder fills them in.
    pub(super) fn code<C: BinaryCoder>(
        &mut self,
        coder: &mut C,
        levels: &mut [i16],
        layout: &Layout,
        is_trellis: bool,
    ) -> Result<(), DecodeError> {
        let mut neighbours = Neighbours::new(layout, levels.len(), self.average);
        let mut state = trellis::START;
        for chunk in levels.chunks_mut(CHECK_INTERVAL) {
            for level in chunk {
                let odd = is_trellis && trellis::is_odd(state);
                *level = self.element(coder, &neighbours.scales(), usize::from(odd), *level);
                if is_trellis {
                    state = trellis::advance(state, *level);
                }
                neighbours.push(2 * u32::from(level.unsigned_abs()) - u32::from(odd && *level != 0));
            }
            coder.check()?;
        }
        self.average = neighbours.average();
        Ok(())
    }

    /// Codes a mask of `len` elements; `is_set` tells an encoder which are set.
    pub(super) fn code_mask<C: BinaryCoder>(
        &mut self,
        coder: &mut C,
        len: usize,
        layout: &Layout,
        is_set: impl Fn(usize) -> bool,
    ) -> Result<Mask, DecodeError> {
        let mut neighbours = Neighbours::new(layout, len, self.average);
        let mut run_out = Ok(());
        let mask = Mask::from_fn(len, |index| {
            if run_out.is_err() {
                return false;
            }
            let contexts = contexts(&neighbours.scales(), 0);
            let bit = self.bin(coder, &contexts, 0, 0, is_set(index));
            neighbours.push(2 * u32::from(bit));
            if index % CHECK_INTERVAL == 0 {
                run_out = coder.check();
            }
            bit
        });
        self.average = neighbours.average();
        run_out?;
        coder.check()?;
        Ok(mask)
    }

    #[inline]
    pub(super) fn bin<C: BinaryCoder>(
        &mut self,
        coder: &mut C,
        contexts: &[usize; INPUTS],
        bin: usize,
        odd: usize,
        bit: bool,
    ) -> bool {
        let at = contexts.map(|context| context * BINS + bin);
        mixed(coder, &mut self.slots, &at, &mut self.weights[odd * BINS + bin], bit)
    }

    #[inline]
    fn element<C: BinaryCoder>(&mut self, coder: &mut C, scales: &Scales, odd: usize, level: i16) -> i16 {
        let contexts = contexts(scales, odd);
        let wanted = u32::from(level.unsigned_abs());
        if !self.bin(coder, &contexts, 0, odd, wanted > 0) {
            return 0;
        }
        let negative = direct(coder, &mut self.signs[0], level < 0, COUNT_LIMIT);
        let mut magnitude = 1;
        while magnitude < 3 && self.bin(coder, &contexts, magnitude as usize, odd, wanted > magnitude) {
            magnitude += 1;
        }
        if magnitude == 3 {
            magnitude = 2 + self.rest(coder, &contexts, odd, wanted.wrapping_sub(2));
        }
        let value = if negative { -(magnitude as i32) } else { magnitude as i32 };
        value.clamp(i32::from(i16::MIN), i32::from(i16::MAX)) as i16
    }

    /// A number from 1: its length in bits, then the bits behind the first.
    fn rest<C: BinaryCoder>(&mut self, coder: &mut C, contexts: &[usize; INPUTS], odd: usize, wanted: u32) -> u32 {
        let mut length = 0;
        while length < 13 && self.bin(coder, contexts, 3 + length, odd, wanted >> (length + 1) != 0) {
            length += 1;
        }
        if length == 13 {
            length += usize::from(coder.code(wanted >> 14 != 0, 1 << 15));
        }
        let mut value = 1u32;
        for place in (0..length).rev() {
            let bit = wanted >> place & 1 == 1;
            let bit = if length - place <= 3 {
                direct(coder, &mut self.rests[length][value as usize & 15], bit, COUNT_LIMIT)
            } else {
                coder.code(bit, 1 << 15)
            };
            value = value << 1 | u32::from(bit);
        }
        value
    }
}

/// The places of an element's contexts among the slots, before the bin is added.
#[inline]
pub(super) fn contexts(s: &Scales, odd: usize) -> [usize; INPUTS] {
    let expected = (s.left
        + s.over
        + s.before
        + s.above
        + 2 * s.place
        + 3 * s.column
        + 4 * s.row
        + 2 * s.recent
        + s.position_average)
        / 16;
    let pair = |a: u32, b: u32| (half_octaves(a).min(31) * 32 + half_octaves(b).min(31)) * 2 + odd;
    let contexts = [
        octaves::<2>(expected) * 2 + odd,
        pair(s.row, s.column),
        pair((s.left * 2 + s.left2) / 3, s.recent),
        pair(s.place, (s.over + s.before) / 2),
        (s.position.min(63) * 32 + half_octaves(expected).min(31)) * 2 + odd,
        pair(s.all, s.position_average),
    ];
    let mut input = 0;
    contexts.map(|context| {
        input += CONTEXTS;
        input - CONTEXTS + context
    })
}
