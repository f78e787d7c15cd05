//! Codes of a codebook: zero flag, sign, and how many centroids lie between the code and zero.

use onnx_dcomp_forms::Values;

use super::arithmetic::BinaryCoder;
use super::context::{Neighbours, half_octaves};
use super::levels::{LevelModel, contexts};
use super::model::{COUNT_LIMIT, Slot, direct, mixed};
use crate::error::DecodeError;
use crate::layout::Layout;

/// Contexts of a bit of a rank.
const INPUTS: usize = 3;
/// Bits of a rank that are shared between weights.
const SHARED_BITS: u32 = 8;

/// The shape of a codebook, as both sides know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Signs {
    has_zero: bool,
    below: usize,
    above: usize,
}

impl Signs {
    /// Counts the centroids on either side of zero, by their sign bits.
    pub(super) fn of(centroids: &Values) -> Self {
        let has_zero = !centroids.is_empty() && centroids.bits(0) == 0;
        let top = 8 * centroids.dtype().element_bytes() - 1;
        let first = usize::from(has_zero);
        let below = (first..centroids.len()).take_while(|&index| centroids.bits(index) >> top & 1 == 1).count();
        Self { has_zero, below, above: centroids.len() - first - below }
    }

    /// Sign and rank of `code`; rank 1 is nearest to zero. `None` for the code of zero.
    fn split(self, code: u16) -> Option<(bool, u32)> {
        let code = usize::from(code) + usize::from(!self.has_zero);
        match code {
            0 => None,
            _ if code <= self.below => Some((true, (self.below + 1 - code) as u32)),
            _ => Some((false, (code - self.below) as u32)),
        }
    }

    fn join(self, negative: bool, rank: u32) -> u16 {
        let code = if negative { self.below as u32 + 1 - rank } else { self.below as u32 + rank };
        (code - u32::from(!self.has_zero)) as u16
    }
}

/// What is learnt of codes, over all weights of a payload.
pub(super) struct CodeModel {
    flags: LevelModel,
    signs: Vec<Slot>,
    shared: Vec<Slot>,
    weights: Vec<[i32; INPUTS]>,
    average: u32,
}

impl CodeModel {
    pub(super) fn new() -> Self {
        Self {
            flags: LevelModel::new(),
            signs: vec![Slot::NEW; 4],
            shared: vec![Slot::NEW; 2 * 64 << SHARED_BITS],
            weights: vec![[30_000; INPUTS]; 32],
            average: 1 << 8,
        }
    }

    /// Codes `codes` in place.
    pub(super) fn code<C: BinaryCoder>(
        &mut self,
        coder: &mut C,
        codes: &mut [u16],
        centroids: &Values,
        layout: &Layout,
    ) -> Result<(), DecodeError> {
        let signs = Signs::of(centroids);
        let most = signs.below.max(signs.above).max(1);
        let bits = usize::BITS - (most - 1).leading_zeros();
        let mut local = vec![Slot::NEW; 2 << bits];
        let mut neighbours = Neighbours::new(layout, codes.len(), self.average);
        for chunk in codes.chunks_mut(4096) {
            for code in chunk {
                let scales = neighbours.scales();
                let wanted = signs.split(*code);
                let contexts = contexts(&scales, 0);
                if signs.has_zero && !self.flags.bin(coder, &contexts, 0, 0, wanted.is_some()) {
                    *code = 0;
                    neighbours.push(0);
                    continue;
                }
                let (negative, rank) = wanted.unwrap_or((false, 1));
                let negative = match (signs.below, signs.above) {
                    (_, 0) => true,
                    (0, _) => false,
                    _ => direct(coder, &mut self.signs[0], negative, COUNT_LIMIT),
                };
                let expected = (scales.left + scales.over + scales.before + scales.above + 4 * scales.row + 4 * scales.column + 2 * scales.recent + 2 * scales.place) / 16;
                let expected = half_octaves(expected).min(31);
                let near = half_octaves((scales.left + scales.before) / 2).min(31);
                let side = usize::from(negative) << bits;
                let limit = if negative { signs.below } else { signs.above } as u32;
                let wanted = rank.wrapping_sub(1);
                let mut node = 1usize;
                let mut value = 0u32;
                for place in (0..bits).rev() {
                    // Where the upper half holds no rank there is nothing to tell.
                    if value + (1 << place) >= limit {
                        node <<= 1;
                        continue;
                    }
                    let bit = wanted >> place & 1 == 1;
                    let depth = bits - 1 - place;
                    let bit = if depth < SHARED_BITS {
                        let key = node | 1<<SHARED_BITS>>1 & 0;
                        let at = [side + node, local.len() + ((expected << SHARED_BITS) | key), local.len() + (((32 + near) << SHARED_BITS) | key)];
                        let _ = at;
                        bit_of(coder, &mut local, &mut self.shared, side + node, [(expected << SHARED_BITS) | key, ((32 + near) << SHARED_BITS) | key], &mut self.weights[depth as usize], bit)
                    } else {
                        direct(coder, &mut local[side + node], bit, COUNT_LIMIT)
                    };
                    node = node << 1 | usize::from(bit);
                    value |= u32::from(bit) << place;
                }
                *code = signs.join(negative, value + 1);
                neighbours.push(2 * (value + 1));
            }
            coder.check()?;
        }
        self.average = neighbours.average();
        Ok(())
    }
}

fn bit_of<C: BinaryCoder>(coder: &mut C, local: &mut [Slot], shared: &mut [Slot], at: usize, others: [usize; 2], weights: &mut [i32; INPUTS], bit: bool) -> bool {
    let mut slots = [local[at], shared[others[0]], shared[others[1]]];
    let bit = mixed(coder, &mut slots, &[0, 1, 2], weights, bit);
    local[at] = slots[0];
    shared[others[0]] = slots[1];
    shared[others[1]] = slots[2];
    bit
}
