//! Probabilities that learn, and the mixer that joins them.
//!
//! Source: the line of Mahoney, "Adaptive weighing of context models for lossless data compression", 2005: predictions
//! are stretched to the logistic domain, added with weights, squashed, and the weights follow the gradient of coding
//! cost. All arithmetic is on integers, so that every host predicts the same.

use super::arithmetic::BinaryCoder;
#[cfg(target_arch = "x86_64")]
use super::mixing::avx2::Wide;
use super::mixing::{Plain, Weights, moved};

/// Largest number in the logistic domain: 8.0 with 8 bits behind the point, exclusive.
pub(super) const LIMIT: i32 = 2048;

/// `2^60 * e^(-1/256)`, rounded.
const DECAY: u128 = 1_148_426_689_630_428_644;

/// `STRETCH[1 + (p >> 4)]` is the logarithm of the odds of `p / 65536`, in 256ths: the inverse of [`squash_table`]. Before
/// each there is another number, so that a pair can be read.
pub(super) static STRETCH: [i16; 4097] = stretch_table();

/// `RATE[n]` is `65536 / (n + 1.5)`, rounded down: how far a probability moves after `n` observations.
pub(super) static RATE: [u32; 1024] = rate_table();

/// At `x + 2048`: `65536 / (1 + e^(-x / 256))`, rounded down.
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

const fn stretch_table() -> [i16; 4097] {
    let squash = squash_table();
    let mut table = [0i16; 4097];
    let mut x = 0;
    let mut index = 0;
    while index < 4096 {
        while x < 4095 && squash[x] < (index * 16 + 8) as u16 {
            x += 1;
        }
        table[index + 1] = x as i16 - 2048;
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

/// [`squash_table`], but never so small that a bit would cost more than 12 bits.
static CODABLE: [u16; 4096] = codable_table();

const fn codable_table() -> [u16; 4096] {
    let mut table = squash_table();
    let mut x = 0;
    while x < table.len() {
        table[x] = codable(table[x] as u32) as u16;
        x += 1;
    }
    table
}

/// The probability of 1 in the logistic domain, as 16 bits, for coding.
#[inline(always)]
fn squash(x: i32) -> u32 {
    u32::from(CODABLE[(x.clamp(1 - LIMIT, LIMIT - 1) + LIMIT) as usize & 4095])
}

/// The probability of a slot's word in the logistic domain.
#[inline(always)]
pub(super) fn stretch(word: u32) -> i32 {
    i32::from(STRETCH[1 + (word >> 20) as usize])
}

/// Observations that a slot remembers: behind them the oldest fade.
pub(super) const COUNT_LIMIT: u32 = 255;
/// How far the weights of a mixer follow an error.
const LEARNING_RATE: i32 = 6;
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
    #[inline(always)]
    pub(super) fn chance(self) -> u32 {
        self.0 >> 16
    }

    /// Moves towards `bit`: by the mean of all observations at first, by `1 / (limit + 1.5)` later.
    #[inline(always)]
    pub(super) fn update(&mut self, bit: bool, limit: u32) {
        let target = if bit { (1 << 22) - 1 } else { 0 };
        self.0 = moved(self.0, target, limit);
    }
}

/// A probability for coding: never so small that a bit would cost more than 12 bits.
#[inline(always)]
const fn codable(chance: u32) -> u32 {
    match chance {
        ..16 => 16,
        65_521.. => 65_520,
        _ => chance,
    }
}

/// Codes `bit` by one slot alone.
#[inline(always)]
pub(super) fn direct<C: BinaryCoder>(coder: &mut C, slot: &mut Slot, bit: bool, limit: u32) -> bool {
    let bit = coder.code(bit, codable(slot.chance()));
    slot.update(bit, limit);
    bit
}

/// Codes the lowest `bits` bits of `value`, highest first, each in a slot that the higher ones choose.
///
/// `slots` holds at least `2^bits`.
#[inline(always)]
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
    weights: &mut Weights,
    bit: bool,
) -> bool {
    let mut joined = at.map(|index| slots[index]);
    let bit = mixed_slots(coder, &mut joined, weights, bit);
    for (&index, slot) in at.iter().zip(joined) {
        slots[index] = slot;
    }
    bit
}

/// Codes `bit` by `slots`, at most eight, joined by `weights`.
///
/// A slot that has seen nothing starts from what the first one believes.
#[inline(always)]
pub(super) fn mixed_slots<C: BinaryCoder, const N: usize>(
    coder: &mut C,
    slots: &mut [Slot; N],
    weights: &mut Weights,
    bit: bool,
) -> bool {
    let words = slots.map(|slot| slot.0);
    #[cfg(target_arch = "x86_64")]
    if C::HAS_AVX2 {
        // SAFETY: the coder says that this processor has the instructions.
        #[allow(unsafe_code)]
        unsafe {
            let wide = Wide::new(words);
            let (bit, error, target) = coded(coder, wide.sum(weights), bit);
            *slots = wide.learn(weights, error, target).map(Slot);
            return bit;
        }
    }
    let plain = Plain::new(words);
    let (bit, error, target) = coded(coder, plain.sum(weights), bit);
    *slots = plain.learn(weights, error, target).map(Slot);
    bit
}

/// Codes `bit`, of which a mixer says `sum`; then how far that was off, and where the slots are to go.
#[inline(always)]
fn coded<C: BinaryCoder>(coder: &mut C, sum: i32, bit: bool) -> (bool, i32, i32) {
    let one = squash(sum >> 12);
    let bit = coder.code(bit, one);
    let error = (((i32::from(bit) << 16) - one as i32) * LEARNING_RATE) >> 6;
    (bit, error, if bit { (1 << 22) - 1 } else { 0 })
}
