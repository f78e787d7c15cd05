//! As `super::sums`, for AVX2.

use std::arch::x86_64::*;

use super::{BLOCK, BYTES, Block, ROWS, Sums, table};

/// Registers that hold the sums of a row: number `register` those of the bytes `4 * register ..` of both halves of a block,
/// which is what interleaving within halves of a register gives.
const REGISTERS: usize = 4;

#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
pub(super) fn sums(rows: [&[Block]; ROWS], input: &[[f32; BLOCK]], values: &[f32; 16]) -> [Sums; ROWS] {
    let tables: [__m256i; 4] = std::array::from_fn(|byte| {
        let table = table(values, byte);
        load_bytes(&std::array::from_fn(|place| table[place % 16]))
    });
    let low = _mm256_set1_epi8(15);
    let mut sums = [[_mm256_setzero_ps(); REGISTERS]; ROWS];
    let mut rows = rows.map(|row| row.iter());
    for input in input {
        let blocks = rows.each_mut().map(|row| row.next().map_or(_mm256_setzero_si256(), |block| load_bytes(block)));
        let (first, second) = input.split_at(BYTES);
        let codes = blocks.map(|block| _mm256_and_si256(block, low));
        add(&mut sums, codes, first, &tables);
        let codes = blocks.map(|block| _mm256_and_si256(_mm256_srli_epi16::<4>(block), low));
        add(&mut sums, codes, second, &tables);
    }
    sums.map(|registers| {
        let mut sums = [0f32; BYTES];
        for (number, register) in registers.into_iter().enumerate() {
            let lanes = crate::registers::store(register);
            sums[4 * number..][..4].copy_from_slice(&lanes[..4]);
            sums[16 + 4 * number..][..4].copy_from_slice(&lanes[4..]);
        }
        sums
    })
}

/// Adds the products of the values that `codes` stand for, one in each byte, and of `inputs`.
#[inline]
#[target_feature(enable = "avx2")]
fn add(sums: &mut [[__m256; REGISTERS]; ROWS], codes: [__m256i; ROWS], inputs: &[f32], tables: &[__m256i; 4]) {
    let inputs: [__m256; REGISTERS] = std::array::from_fn(|register| {
        let half = |start: usize| inputs.get(start..start + 4).and_then(|four| four.first_chunk::<4>());
        match (half(4 * register), half(16 + 4 * register)) {
            (Some(below), Some(above)) => _mm256_set_m128(load_four(above), load_four(below)),
            _ => _mm256_setzero_ps(),
        }
    });
    for (sums, codes) in sums.iter_mut().zip(codes) {
        let [a, b, c, d] = tables.map(|table| _mm256_shuffle_epi8(table, codes));
        let (ab, cd) = (_mm256_unpacklo_epi8(a, b), _mm256_unpacklo_epi8(c, d));
        let (ab_high, cd_high) = (_mm256_unpackhi_epi8(a, b), _mm256_unpackhi_epi8(c, d));
        let values = [
            _mm256_unpacklo_epi16(ab, cd),
            _mm256_unpackhi_epi16(ab, cd),
            _mm256_unpacklo_epi16(ab_high, cd_high),
            _mm256_unpackhi_epi16(ab_high, cd_high),
        ];
        for ((sum, values), inputs) in sums.iter_mut().zip(values).zip(inputs) {
            *sum = _mm256_add_ps(*sum, _mm256_mul_ps(_mm256_castsi256_ps(values), inputs));
        }
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load_bytes(bytes: &[u8; BYTES]) -> __m256i {
    // SAFETY: the 32 bytes that are read are those of the array; the instruction asks for no alignment.
    #[allow(unsafe_code)]
    unsafe {
        _mm256_loadu_si256(bytes.as_ptr().cast())
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load_four(lanes: &[f32; 4]) -> __m128 {
    // SAFETY: the 16 bytes that are read are those of the array; the instruction asks for no alignment.
    #[allow(unsafe_code)]
    unsafe {
        _mm_loadu_ps(lanes.as_ptr())
    }
}
