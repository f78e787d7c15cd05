//! Eight numbers side by side: in a register of AVX2 and back, and their sum.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx2")]
pub(crate) fn load(lanes: [f32; 8]) -> __m256 {
    // SAFETY: the 32 bytes that are read are those of the array; the instruction asks for no alignment.
    #[allow(unsafe_code)]
    unsafe {
        _mm256_loadu_ps(lanes.as_ptr())
    }
}

#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx2")]
pub(crate) fn store(lanes: __m256) -> [f32; 8] {
    let mut array = [0f32; 8];
    // SAFETY: the 32 bytes that are written are those of the array; the instruction asks for no alignment.
    #[allow(unsafe_code)]
    unsafe {
        _mm256_storeu_ps(array.as_mut_ptr(), lanes);
    }
    array
}

/// The sum of eight numbers, in the order that pairs give.
#[inline(always)]
pub(crate) fn total(lanes: [f32; 8]) -> f32 {
    let four: [f32; 4] = std::array::from_fn(|lane| lanes[lane] + lanes[lane + 4]);
    (four[0] + four[2]) + (four[1] + four[3])
}
