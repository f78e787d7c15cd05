//! The arithmetic of the mixer over eight lanes, in plain instructions and in those of AVX2.
//!
//! Both give the same numbers to the bit. The plain loops say what is meant; compilers make scalar code of them, for the
//! slots lie apart and their tables want an address each.

use super::model::{COUNT_LIMIT, RATE, stretch};

/// Lanes of a mixer: its arithmetic goes over eight numbers at once, the last of which may be unused.
pub(super) const LANES: usize = 8;
/// The weights of a mixer; behind those of its inputs they are 0 and stay so.
///
/// They are read soon after they are written, which a processor makes quick only within one line of its cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(align(32))]
pub(super) struct Weights([i32; LANES]);

impl Weights {
    /// The weights that a mixer of `N` inputs begins with.
    pub(super) const fn new<const N: usize>(weight: i32) -> Self {
        let mut weights = [0; LANES];
        let mut input = 0;
        while input < N {
            weights[input] = weight;
            input += 1;
        }
        Self(weights)
    }
}

/// Observations that a new slot takes over from the first one.
const INHERITED: u32 = 3;
/// The largest weight, 8.0 with 16 bits behind the point: products stay within 31 bits.
const MOST_WEIGHT: i32 = 1 << 19;
/// Bits of a slot's word that count its observations; the probability is above them.
const COUNT_BITS: u32 = 10;
const COUNT_MASK: u32 = (1 << COUNT_BITS) - 1;

/// The slots of a mixer while a bit is coded, a lane each.
pub(super) struct Plain {
    words: [u32; LANES],
    inputs: [i32; LANES],
}

impl Plain {
    /// The slots with these words. One that has seen nothing starts from what the first one believes.
    #[inline(always)]
    pub(super) fn new<const N: usize>(slots: [u32; N]) -> Self {
        let heir = heir(slots[0]);
        let (mut words, mut inputs) = ([0; LANES], [0; LANES]);
        for lane in 0..N {
            words[lane] = if slots[lane] & COUNT_MASK == 0 { heir } else { slots[lane] };
            inputs[lane] = stretch(words[lane]);
        }
        Self { words, inputs }
    }

    /// What they say together, in the logistic domain with 12 more bits behind the point.
    #[inline(always)]
    pub(super) fn sum(&self, weights: &Weights) -> i32 {
        self.inputs.iter().zip(&weights.0).map(|(input, weight)| (input * weight) >> 4).sum()
    }

    /// Lets the weights follow the error, and moves all slots towards `target`: their words.
    #[inline(always)]
    pub(super) fn learn<const N: usize>(self, weights: &mut Weights, error: i32, target: i32) -> [u32; N] {
        for (weight, input) in weights.0.iter_mut().zip(self.inputs) {
            let step = (input * error + (1 << 13)) >> 14;
            *weight = (*weight + step).clamp(-MOST_WEIGHT, MOST_WEIGHT);
        }
        std::array::from_fn(|lane| moved(self.words[lane], target, COUNT_LIMIT))
    }
}

/// What a slot that has seen nothing starts from, the first one being `first`.
#[inline(always)]
fn heir(first: u32) -> u32 {
    first & !COUNT_MASK | (first & COUNT_MASK).min(INHERITED)
}

/// A slot's word, moved towards `target`: by the mean of all observations at first, by `1 / (limit + 1.5)` later.
#[inline(always)]
pub(super) fn moved(word: u32, target: i32, limit: u32) -> u32 {
    let (chance, count) = ((word >> COUNT_BITS) as i32, word & COUNT_MASK);
    let (distance, rate) = (target - chance, RATE[count as usize] as i32);
    // The product has 39 bits: its two halves are multiplied apart, of which only the upper one has a sign.
    let low = ((distance & 0xFFFF) as u32 * rate as u32) >> 16;
    let step = (distance >> 16) * rate + low as i32;
    ((chance + step) as u32) << COUNT_BITS | (count + u32::from(count < limit))
}

/// [`Plain`] in a register each.
#[cfg(target_arch = "x86_64")]
pub(super) mod avx2 {
    use std::arch::x86_64::*;

    use super::{COUNT_BITS, COUNT_LIMIT, COUNT_MASK, LANES, MOST_WEIGHT, Weights, heir, stretch};

    /// The slots of a mixer while a bit is coded.
    ///
    /// What leads to the sum goes number by number, because it is short and all else waits for it: a gather would take
    /// longer than the eight look-ups that it does.
    pub(in crate::small) struct Wide<const N: usize> {
        words: [u32; N],
        inputs: [i32; N],
    }

    impl<const N: usize> Wide<N> {
        /// As [`super::Plain::new`].
        #[inline]
        #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
        pub(in crate::small) fn new(slots: [u32; N]) -> Self {
            let heir = heir(slots[0]);
            let words: [u32; N] =
                std::array::from_fn(|lane| if slots[lane] & COUNT_MASK == 0 { heir } else { slots[lane] });
            Self { words, inputs: words.map(stretch) }
        }

        /// As [`super::Plain::sum`].
        #[inline(always)]
        pub(in crate::small) fn sum(&self, weights: &Weights) -> i32 {
            self.inputs.iter().zip(&weights.0).map(|(input, weight)| (input * weight) >> 4).sum()
        }

        /// As [`super::Plain::learn`].
        #[inline]
        #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
        pub(in crate::small) fn learn(self, weights: &mut Weights, error: i32, target: i32) -> [u32; N] {
            let inputs = lanes(self.inputs.map(i32::cast_unsigned));
            let products = _mm256_mullo_epi32(inputs, _mm256_set1_epi32(error));
            let steps = _mm256_srai_epi32::<14>(_mm256_add_epi32(products, _mm256_set1_epi32(1 << 13)));
            let moved = _mm256_add_epi32(load(&weights.0), steps);
            let moved = _mm256_min_epi32(moved, _mm256_set1_epi32(MOST_WEIGHT));
            weights.0 = store(_mm256_max_epi32(moved, _mm256_set1_epi32(-MOST_WEIGHT))).map(u32::cast_signed);
            let words = store(self::moved(lanes(self.words), target));
            std::array::from_fn(|lane| words[lane])
        }
    }

    /// As [`super::moved`], for all words. A rate is the quotient of two small numbers, which is never so near below a
    /// whole number that a floating-point quotient would be rounded up to it.
    #[inline]
    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
    fn moved(words: __m256i, target: i32) -> __m256i {
        let counts = _mm256_and_si256(words, all(COUNT_MASK));
        let chances = _mm256_srli_epi32::<{ COUNT_BITS as i32 }>(words);
        let divisors = _mm256_add_epi32(_mm256_add_epi32(counts, counts), all(3));
        let rates = _mm256_cvttps_epi32(_mm256_div_ps(_mm256_set1_ps(131_072.0), _mm256_cvtepi32_ps(divisors)));
        let distances = _mm256_sub_epi32(_mm256_set1_epi32(target), chances);
        let low = _mm256_mullo_epi32(_mm256_and_si256(distances, all(0xFFFF)), rates);
        let high = _mm256_mullo_epi32(_mm256_srai_epi32::<16>(distances), rates);
        let steps = _mm256_add_epi32(high, _mm256_srli_epi32::<16>(low));
        let chances = _mm256_slli_epi32::<{ COUNT_BITS as i32 }>(_mm256_add_epi32(chances, steps));
        let is_below = _mm256_cmpgt_epi32(all(COUNT_LIMIT), counts);
        _mm256_or_si256(chances, _mm256_sub_epi32(counts, is_below))
    }

    /// At most eight numbers, zeros behind them.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn lanes<const N: usize>(numbers: [u32; N]) -> __m256i {
        let lane = |lane: usize| if lane < N { numbers[lane] as i32 } else { 0 };
        _mm256_setr_epi32(lane(0), lane(1), lane(2), lane(3), lane(4), lane(5), lane(6), lane(7))
    }

    /// The same number in each lane.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn all(number: u32) -> __m256i {
        _mm256_set1_epi32(number as i32)
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn load(lanes: &[i32; LANES]) -> __m256i {
        // SAFETY: the 32 bytes that are read are those of the array; the instruction asks for no alignment.
        #[allow(unsafe_code)]
        unsafe {
            _mm256_loadu_si256(lanes.as_ptr().cast())
        }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn store(register: __m256i) -> [u32; LANES] {
        let mut lanes = [0; LANES];
        // SAFETY: the 32 bytes that are written are those of the array; the instruction asks for no alignment.
        #[allow(unsafe_code)]
        unsafe {
            _mm256_storeu_si256(lanes.as_mut_ptr().cast(), register);
        }
        lanes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        #[cfg(target_arch = "x86_64")]
        #[cfg_attr(miri, ignore = "Miri does not know these instructions")]
        fn wide_instructions_give_the_numbers_of_plain_ones(
            chances in proptest::array::uniform6(0u32..1 << 22),
            counts in proptest::array::uniform6(prop_oneof![Just(0u32), 0u32..=COUNT_LIMIT]),
            weights in proptest::array::uniform6(-MOST_WEIGHT..=MOST_WEIGHT),
            error in -6144..=6144,
            bit: bool,
        ) {
            if !crate::processor::has_avx2() {
                return Ok(());
            }
            let words: [u32; 6] = std::array::from_fn(|lane| chances[lane] << COUNT_BITS | counts[lane]);
            let mut plain_weights = Weights::new::<6>(0);
            plain_weights.0[..6].copy_from_slice(&weights);
            let mut wide_weights = plain_weights;
            let target = if bit { (1 << 22) - 1 } else { 0 };
            let plain = Plain::new(words);
            let plain_sum = plain.sum(&plain_weights);
            let plain_words: [u32; 6] = plain.learn(&mut plain_weights, error, target);
            // SAFETY: this processor has the instructions.
            #[allow(unsafe_code)]
            let (wide_sum, wide_words) = unsafe {
                let wide = avx2::Wide::new(words);
                (wide.sum(&wide_weights), wide.learn(&mut wide_weights, error, target))
            };
            prop_assert_eq!(plain_sum, wide_sum);
            prop_assert_eq!(plain_words, wide_words);
            prop_assert_eq!(plain_weights, wide_weights);
        }

        #[test]
        #[cfg(target_arch = "x86_64")]
        #[cfg_attr(miri, ignore = "Miri does not know these instructions")]
        fn every_rate_is_the_one_of_the_table(count in 0u32..=COUNT_LIMIT, chance in 0u32..1 << 22) {
            if !crate::processor::has_avx2() {
                return Ok(());
            }
            let word = chance << COUNT_BITS | count;
            let expected = moved(if count == 0 { chance << COUNT_BITS } else { word }, 0, COUNT_LIMIT);
            // SAFETY: this processor has the instructions.
            #[allow(unsafe_code)]
            let [moved] = unsafe { avx2::Wide::new([word]).learn(&mut Weights::new::<1>(0), 0, 0) };
            prop_assert_eq!(moved, expected);
        }
    }
}
