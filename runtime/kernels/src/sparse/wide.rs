//! Groups of non-zeros in registers of AVX2, looked up by what AVX2 has, or AVX-512.

use std::arch::x86_64::*;

use super::{COLUMN_BITS, GROUP, PADDING, PANEL, rows};
use crate::registers;

/// As `rows` with `plain`, in the instructions `features`; `lookup` takes both halves of the values, and words whose
/// upper four bits are codes, and gives the values that these stand for.
macro_rules! words_times {
    ($name:ident, $features:literal, $lookup:expr) => {
        #[target_feature(enable = $features)]
        pub(super) fn $name<'a>(
            words: &[[u16; GROUP]],
            values: &[f32; 16],
            panel: &[f32; PANEL],
            start: usize,
            ends: &[u32],
            sums: impl Iterator<Item = &'a mut f32>,
        ) {
            let half = |at: usize| registers::load(std::array::from_fn(|lane| values[at + lane]));
            let (low, high) = (half(0), half(8));
            rows(start, ends, sums, |groups| {
                let mut sums = _mm256_setzero_ps();
                for group in &words[groups] {
                    let group = load(group);
                    let columns = _mm_and_si128(group, _mm_set1_epi16(PADDING as i16));
                    let (near, far) = (_mm_cvtsi128_si64(columns) as u64, _mm_extract_epi64::<1>(columns) as u64);
                    let at = |columns: u64, place: u32| input(panel, (columns >> (16 * place)) as u16);
                    let inputs = _mm256_setr_ps(
                        at(near, 0),
                        at(near, 1),
                        at(near, 2),
                        at(near, 3),
                        at(far, 0),
                        at(far, 1),
                        at(far, 2),
                        at(far, 3),
                    );
                    let values = $lookup(low, high, _mm256_cvtepu16_epi32(group));
                    sums = _mm256_add_ps(sums, _mm256_mul_ps(inputs, values));
                }
                registers::store(sums)
            });
        }
    };
}

words_times!(avx2, "avx2,bmi1,bmi2,lzcnt,popcnt", |low, high, words| {
    let codes = _mm256_srli_epi32::<{ COLUMN_BITS as i32 }>(words);
    let is_high = _mm256_castsi256_ps(_mm256_slli_epi32::<16>(words));
    let [low, high] = [low, high].map(|half| _mm256_permutevar8x32_ps(half, codes));
    _mm256_blendv_ps(low, high, is_high)
});

words_times!(avx512, "avx512f,avx512vl,avx2,bmi1,bmi2,lzcnt,popcnt", |low, high, words| {
    _mm256_permutex2var_ps(low, _mm256_srli_epi32::<{ COLUMN_BITS as i32 }>(words), high)
});

/// The input at `column`, from which all but twelve bits are taken out.
#[inline(always)]
fn input(panel: &[f32; PANEL], column: u16) -> f32 {
    debug_assert!(usize::from(column) < PANEL);
    // SAFETY: the caller has masked each of the four columns with `PADDING`, the last place of the panel.
    #[allow(unsafe_code)]
    unsafe {
        *panel.get_unchecked(usize::from(column))
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load(group: &[u16; GROUP]) -> __m128i {
    // SAFETY: the 16 bytes that are read are those of the array; the instruction asks for no alignment.
    #[allow(unsafe_code)]
    unsafe {
        _mm_loadu_si128(group.as_ptr().cast())
    }
}
