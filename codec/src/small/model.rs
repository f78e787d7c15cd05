//! Probabilities that learn, and the mixer that joins them.
//!
//! Source: the line of Mahoney, "Adaptive weighing of context models for lossless data compression", 2005: predictions
//! are stretched to the logistic domain, added with weights, squashed, and the weights follow the gradient of coding
//! cost. All arithmetic is on integers, so that every host predicts the same.

use super::arithmetic::BinaryCoder;

/// Largest number in the logistic domain: 8.0 with 8 bits behind the point, exclusive.
pub(super) const LIMIT: i32 = 2048;

/// `2^60 * e^(-1/256)`, rounded.
const DECAY: u128 = 1_148_426_689_630_428_644;

/// `SQUASH[x + 2048]` is `65536 / (1 + e^(-x / 256))`, rounded down.
pub(super) static SQUASH: [u16; 4096] = squash_table();

/// `STRETCH[p >> 4]` is the logarithm of the odds of `p / 65536`, in 256ths: the inverse of [`SQUASH`].
pub(super) static STRETCH: [i16; 4096] = stretch_table();

/// `RATE[n]` is `65536 / (n + 1.5)`, rounded down: how far a probability moves after `n` observations.
pub(super) static RATE: [u32; 1024] = rate_table();

const fn squash_table() -> [u16; 4096] {
    let mut table = [0u16; 4096];
    let mut power = 1u128 << 60;
    let mut x = 0;
    while x < 2048 {
        let share = ((65_536u128 << 60) / ((1 << 60) + power)) as u16;
        table[2048 + x] = share;
        if x > 0 {
            table[2048 - x] = ((65_536u128 * power) / ((1 << 60) + power)) as u16;
        }
        power = (power * DECAY) >> 60;
        x += 1;
    }
    table[0] = table[1];
    table
}

const fn stretch_table() -> [i16; 4096] {
    let squash = squash_table();
    let mut table = [0i16; 4096];
    let mut x = 0;
    let mut index = 0;
    while index < 4096 {
        while x < 4095 && squash[x] < (index * 16 + 8) as u16 {
            x += 1;
        }
        table[index] = x as i16 - 2048;
        index += 1;
    }
    table
}

const fn rate_table() -> [u32; 1024] {
    let mut table = [0u32; 1024];
    let mut n = 0;
    while n < 1024 {
        table[n] = 131_072 / (2 * n as u32 + 3);
        n += 1;
    }
    table
}

/// The probability of 1 in the logistic domain, as 16 bits.
#[inline]
pub(super) fn squash(x: i32) -> u32 {
    u32::from(SQUASH[(x.clamp(1 - LIMIT, LIMIT - 1) + LIMIT) as usize])
}

/// Observations that a slot remembers: behind them the oldest fade.
pub(super) const COUNT_LIMIT: u32 = 255;
/// Observations that a new slot takes over from the first one.
const INHERITED: u32 = 3;
/// How far the weights of a mixer follow an error.
const LEARNING_RATE: i32 = 6;
/// The largest weight, 8.0 with 16 bits behind the point: products stay within 31 bits.
const MOST_WEIGHT: i32 = 1 << 19;

/// A probability with a count of what it has seen: 22 bits and 10 bits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slot(u32);

impl Slot {
    /// Nothing seen, even odds.
    pub(super) const NEW: Self = Self(1 << 31);

    /// The odds `for_one : against`, as if seen `count` times.
    pub(super) fn with_odds(for_one: u64, against: u64, count: u32) -> Self {
        let chance = ((for_one << 16) / (for_one + against)).clamp(64, 65_472) as u32;
        Self(chance << 16 | count)
    }

    /// The probability of 1, 16 bits.
    #[inline]
    pub(super) fn chance(self) -> u32 {
        self.0 >> 16
    }

    /// The probability of 1, in the logistic domain.
    #[inline]
    pub(super) fn stretched(self) -> i32 {
        i32::from(STRETCH[(self.0 >> 20) as usize])
    }

    /// Number of observations, up to a limit.
    #[inline]
    pub(super) fn count(self) -> u32 {
        self.0 & 1023
    }

    /// The same probability, as if seen `count` times.
    #[inline]
    pub(super) fn with_count(self, count: u32) -> Self {
        Self(self.0 & !1023 | count)
    }

    /// Moves towards `bit`: by the mean of all observations at first, by `1 / (limit + 1.5)` later.
    #[inline]
    pub(super) fn update(&mut self, bit: bool, limit: u32) {
        let count = self.0 & 1023;
        let chance = (self.0 >> 10) as i32;
        let target = if bit { (1 << 22) - 1 } else { 0 };
        let step = ((i64::from(target - chance) * i64::from(RATE[count as usize])) >> 16) as i32;
        self.0 = ((chance + step) as u32) << 10 | (count + u32::from(count < limit));
    }
}

/// A probability for coding: never so small that a bit would cost more than 12 bits.
#[inline]
fn codable(chance: u32) -> u32 {
    chance.clamp(16, 65_520)
}

/// Codes `bit` by one slot alone.
#[inline]
pub(super) fn direct<C: BinaryCoder>(coder: &mut C, slot: &mut Slot, bit: bool, limit: u32) -> bool {
    let bit = coder.code(bit, codable(slot.chance()));
    slot.update(bit, limit);
    bit
}

/// Codes the lowest `bits` bits of `value`, highest first, each in a slot that the higher ones choose.
///
/// `slots` holds at least `2^bits`.
#[inline]
pub(super) fn tree<C: BinaryCoder>(coder: &mut C, slots: &mut [Slot], value: u32, bits: u32, limit: u32) -> u32 {
    let mut node = 1;
    for place in (0..bits).rev() {
        let bit = direct(coder, &mut slots[node], value >> place & 1 == 1, limit);
        node = node << 1 | usize::from(bit);
    }
    node as u32 - (1 << bits)
}

/// Codes `bit` by the slots `at`, which differ, joined by `weights`.
#[inline(always)]
pub(super) fn mixed<C: BinaryCoder, const N: usize>(
    coder: &mut C,
    slots: &mut [Slot],
    at: &[usize; N],
    weights: &mut [i32; N],
    bit: bool,
) -> bool {
    let mut joined = [Slot::NEW; N];
    for (slot, &index) in joined.iter_mut().zip(at) {
        *slot = slots[index];
    }
    let bit = mixed_slots(coder, &mut joined, weights, bit);
    for (&index, slot) in at.iter().zip(joined) {
        slots[index] = slot;
    }
    bit
}

/// Codes `bit` by `slots`, joined by `weights`.
///
/// A slot that has seen nothing starts from what the first one believes.
#[inline(always)]
pub(super) fn mixed_slots<C: BinaryCoder, const N: usize>(
    coder: &mut C,
    slots: &mut [Slot; N],
    weights: &mut [i32; N],
    bit: bool,
) -> bool {
    let heir = slots[0].with_count(slots[0].count().min(INHERITED));
    let mut inputs = [0i32; N];
    let mut sum = 0i32;
    for ((input, slot), weight) in inputs.iter_mut().zip(slots.iter_mut()).zip(weights.iter()) {
        if slot.count() == 0 {
            *slot = heir;
        }
        *input = slot.stretched();
        sum += (*input * *weight) >> 4;
    }
    let one = codable(squash(sum >> 12));
    let bit = coder.code(bit, one);
    let error = (((i32::from(bit) << 16) - one as i32) * LEARNING_RATE) >> 6;
    for ((input, slot), weight) in inputs.iter().zip(slots.iter_mut()).zip(weights.iter_mut()) {
        *weight = (*weight + ((*input * error + (1 << 13)) >> 14)).clamp(-MOST_WEIGHT, MOST_WEIGHT);
        slot.update(bit, COUNT_LIMIT);
    }
    bit
}
