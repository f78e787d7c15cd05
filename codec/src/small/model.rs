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
#[inline(always)]
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
    #[inline(always)]
    pub(super) fn chance(self) -> u32 {
        self.0 >> 16
    }

    /// The probability of 1, in the logistic domain.
    #[inline(always)]
    pub(super) fn stretched(self) -> i32 {
        i32::from(STRETCH[(self.0 >> 20) as usize])
    }

    /// Number of observations, up to a limit.
    #[inline(always)]
    pub(super) fn count(self) -> u32 {
        self.0 & 1023
    }

    /// The same probability, as if seen `count` times.
    #[inline(always)]
    pub(super) fn with_count(self, count: u32) -> Self {
        Self(self.0 & !1023 | count)
    }

    /// Moves towards `bit`: by the mean of all observations at first, by `1 / (limit + 1.5)` later.
    #[inline(always)]
    pub(super) fn update(&mut self, bit: bool, limit: u32) {
        let target = if bit { (1 << 22) - 1 } else { 0 };
        self.0 = moved(self.0, target, RATE[self.count() as usize] as i32, limit);
    }
}

/// A probability for coding: never so small that a bit would cost more than 12 bits.
#[inline(always)]
fn codable(chance: u32) -> u32 {
    chance.clamp(16, 65_520)
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

/// Lanes of a mixer: its arithmetic goes over eight numbers at once, the last of which may be unused.
const LANES: usize = 8;

/// The weights of a mixer; behind those of its inputs they are 0 and stay so.
pub(super) type Weights = [i32; LANES];

/// The weights that a mixer of `INPUTS` inputs begins with.
pub(super) const fn weights<const INPUTS: usize>(weight: i32) -> Weights {
    let mut weights = [0; LANES];
    let mut input = 0;
    while input < INPUTS {
        weights[input] = weight;
        input += 1;
    }
    weights
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
/// A slot that has seen nothing starts from what the first one believes. The loops over all lanes are plain arithmetic
/// on 32 bits, so that they become vector instructions; only the table look-ups go slot by slot.
#[inline(always)]
pub(super) fn mixed_slots<C: BinaryCoder, const N: usize>(
    coder: &mut C,
    slots: &mut [Slot; N],
    weights: &mut Weights,
    bit: bool,
) -> bool {
    let heir = slots[0].with_count(slots[0].count().min(INHERITED));
    let (mut words, mut rates, mut inputs) = ([0u32; LANES], [0i32; LANES], [0i32; LANES]);
    for lane in 0..N {
        let slot = if slots[lane].count() == 0 { heir } else { slots[lane] };
        (words[lane], inputs[lane], rates[lane]) = (slot.0, slot.stretched(), RATE[slot.count() as usize] as i32);
    }
    let mut sum = 0i32;
    for lane in 0..LANES {
        sum += (inputs[lane] * weights[lane]) >> 4;
    }
    let one = codable(squash(sum >> 12));
    let bit = coder.code(bit, one);
    let error = (((i32::from(bit) << 16) - one as i32) * LEARNING_RATE) >> 6;
    let target = if bit { (1 << 22) - 1 } else { 0 };
    for lane in 0..LANES {
        let step = (inputs[lane] * error + (1 << 13)) >> 14;
        weights[lane] = (weights[lane] + step).clamp(-MOST_WEIGHT, MOST_WEIGHT);
        words[lane] = moved(words[lane], target, rates[lane], COUNT_LIMIT);
    }
    for lane in 0..N {
        slots[lane].0 = words[lane];
    }
    bit
}

/// A slot's word, moved towards `target` by `rate / 65536` of the way.
#[inline(always)]
fn moved(word: u32, target: i32, rate: i32, limit: u32) -> u32 {
    let (chance, count) = ((word >> 10) as i32, word & 1023);
    let distance = target - chance;
    // The product has 39 bits: its two halves are multiplied apart, of which only the upper one has a sign.
    let low = ((distance & 0xFFFF) as u32 * rate as u32) >> 16;
    let step = (distance >> 16) * rate + low as i32;
    ((chance + step) as u32) << 10 | (count + u32::from(count < limit))
}
