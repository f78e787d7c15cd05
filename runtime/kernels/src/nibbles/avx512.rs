//! As `super::sums`, for AVX-512.

use std::arch::x86_64::*;

use super::{BLOCK, BYTES, Block, ROWS, Sums};

/// Lanes of a register: half a block has a byte for each.
const LANES: usize = 16;

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,bmi1,bmi2,lzcnt,popcnt")]
pub(super) fn sums(rows: [&[Block]; ROWS], input: &[[f32; BLOCK]], values: &[f32; 16]) -> [Sums; ROWS] {
    let values = load(values);
    // Of the two halves of a block.
    let mut sums = [[_mm512_setzero_ps(); 2]; ROWS];
    let mut rows = rows.map(|row| row.iter());
    for input in input {
        let [low, high] = input.as_chunks::<BYTES>().0 else { continue };
        let (low, high) = (low.as_chunks::<LANES>().0, high.as_chunks::<LANES>().0);
        for (row, sums) in rows.iter_mut().zip(&mut sums) {
            let Some(block) = row.next() else { continue };
            let halves = block.as_chunks::<LANES>().0.iter().zip(low.iter().zip(high));
            for (sum, (bytes, (low, high))) in sums.iter_mut().zip(halves) {
                // Only the low four bits of a lane are looked at.
                let codes = _mm512_cvtepu8_epi32(load_bytes(bytes));
                let first = _mm512_mul_ps(_mm512_permutexvar_ps(codes, values), load(low));
                let codes = _mm512_srli_epi32::<4>(codes);
                let second = _mm512_mul_ps(_mm512_permutexvar_ps(codes, values), load(high));
                *sum = _mm512_add_ps(_mm512_add_ps(*sum, first), second);
            }
        }
    }
    sums.map(|halves| {
        let mut sums = [0f32; BYTES];
        for (target, half) in sums.as_chunks_mut::<LANES>().0.iter_mut().zip(halves) {
            *target = store(half);
        }
        sums
    })
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load(lanes: &[f32; LANES]) -> __m512 {
    // SAFETY: the 64 bytes that are read are those of the array; the instruction asks for no alignment.
    #[allow(unsafe_code)]
    unsafe {
        _mm512_loadu_ps(lanes.as_ptr())
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store(lanes: __m512) -> [f32; LANES] {
    let mut array = [0f32; LANES];
    // SAFETY: the 64 bytes that are written are those of the array; the instruction asks for no alignment.
    #[allow(unsafe_code)]
    unsafe {
        _mm512_storeu_ps(array.as_mut_ptr(), lanes);
    }
    array
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load_bytes(bytes: &[u8; LANES]) -> __m128i {
    // SAFETY: the 16 bytes that are read are those of the array; the instruction asks for no alignment.
    #[allow(unsafe_code)]
    unsafe {
        _mm_loadu_si128(bytes.as_ptr().cast())
    }
}
