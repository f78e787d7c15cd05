//! Probabilities that learn, and the mixer that joins them.
//!
//! Source: the line of Mahoney, "Adaptive weighing of context models for lossless data compression", 2005: predictions
//! are stretched to the logistic domain, added with weights, squashed, and the weights follow the gradient of coding
//! cost. All arithmetic is on integers, so that every host predicts the same.

use super::arithmetic::BinaryCoder;

/// Largest number in the logistic domain: 8.0 with 8 bits behind the point, exclusive.
pub(crate) const LIMIT: i32 = 2048;

/// `2^60 * e^(-1/256)`, rounded.
const DECAY: u128 = 1_148_426_689_630_428_644;

/// `SQUASH[x + 2048]` is `65536 / (1 + e^(-x / 256))`, rounded down.
pub(crate) static SQUASH: [u16; 4096] = squash_table();

/// `STRETCH[p >> 4]` is the logarithm of the odds of `p / 65536`, in 256ths: the inverse of [`SQUASH`].
pub(crate) static STRETCH: [i16; 4096] = stretch_table();

/// `RATE[n]` is `65536 / (n + 1.5)`, rounded down: how far a probability moves after `n` observations.
pub(crate) static RATE: [u32; 1024] = rate_table();

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
        power = power * DECAY >> 60;
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
pub(crate) fn squash(x: i32) -> u32 {
    u32::from(SQUASH[(x.clamp(1 - LIMIT, LIMIT - 1) + LIMIT) as usize])
}

/// A probability with a count of what it has seen: 22 bits and 10 bits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slot(u32);

impl Slot {
    /// Nothing seen, even odds.
    pub(crate) const NEW: Self = Self(1 << 31);

    /// The probability of 1, 16 bits.
    #[inline]
    pub(crate) fn chance(self) -> u32 {
        self.0 >> 16
    }

    /// The probability of 1, in the logistic domain.
    #[inline]
    pub(crate) fn stretched(self) -> i32 {
        i32::from(STRETCH[(self.0 >> 20) as usize])
    }

    /// Number of observations, up to a limit.
    #[inline]
    pub(crate) fn count(self) -> u32 {
        self.0 & 1023
    }

    /// The same probability, as if seen `count` times.
    #[inline]
    pub(crate) fn with_count(self, count: u32) -> Self {
        Self(self.0 & !1023 | count)
    }

    /// Moves towards `bit`: by the mean of all observations at first, by `1 / (limit + 1.5)` later.
    #[inline]
    pub(crate) fn update(&mut self, bit: bool, limit: u32) {
        let count = self.0 & 1023;
        let chance = (self.0 >> 10) as i32;
        let target = if bit { (1 << 22) - 1 } else { 0 };
        let step = (i64::from(target - chance) * i64::from(RATE[count as usize]) >> 16) as i32;
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
pub(crate) fn direct<C: BinaryCoder>(coder: &mut C, slot: &mut Slot, bit: bool, limit: u32) -> bool {
    let bit = coder.code(bit, codable(slot.chance()));
    slot.update(bit, limit);
    bit
}

/// Codes the lowest `bits` bits of `value`, highest first, each in a slot that the higher ones choose.
///
/// `slots` holds at least `2^bits`.
#[inline]
pub(crate) fn tree<C: BinaryCoder>(coder: &mut C, slots: &mut [Slot], value: u32, bits: u32, limit: u32) -> u32 {
    let mut node = 1;
    for place in (0..bits).rev() {
        let bit = direct(coder, &mut slots[node], value >> place & 1 == 1, limit);
        node = node << 1 | usize::from(bit);
    }
    node as u32 - (1 << bits)
}

/// Codes `bit` by the slots `at`, joined by `weights`.
///
/// A slot that has seen nothing starts from what the first one believes.
#[inline]
pub(crate) fn mixed<C: BinaryCoder, const N: usize>(
    coder: &mut C,
    slots: &mut [Slot],
    at: &[usize; N],
    weights: &mut [i32; N],
    bit: bool,
) -> bool {
    let first = slots[at[0]];
    let heir = first.with_count(first.count().min(INHERITED));
    let mut inputs = [0i32; N];
    let mut sum = 0i32;
    for (input, (&index, weight)) in inputs.iter_mut().zip(at.iter().zip(weights.iter())) {
        let slot = &mut slots[index];
        if slot.count() == 0 {
            *slot = heir;
        }
        *input = slot.stretched();
        sum += *input * *weight >> 4;
    }
    let chance = codable(squash(sum >> 12));
    let bit = coder.code(bit, chance);
    let error = ((i32::from(bit) << 16) - chance as i32) * LEARNING_RATE >> 6;
    for (input, (&index, weight)) in inputs.iter().zip(at.iter().zip(weights.iter_mut())) {
        *weight += (*input * error + (1 << 13)) >> 14;
        slots[index].update(bit, COUNT_LIMIT);
    }
    bit
}

/// Observations that a new slot takes over from the first one.
const INHERITED: u32 = 3;
/// How far the weights of a mixer follow an error.
const LEARNING_RATE: i32 = 6;
/// Observations after which a slot forgets the oldest.
pub(crate) const COUNT_LIMIT: u32 = 255;
