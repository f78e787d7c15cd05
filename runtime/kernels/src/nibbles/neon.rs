//! As `super::sums`, for NEON, which every 64-bit ARM has.

use std::arch::aarch64::*;

use super::{BLOCK, BYTES, Block, ROWS, Sums, table};

/// Bytes of a register: half a block.
const LANES: usize = 16;
/// Registers that hold the sums of half a block.
const REGISTERS: usize = 4;

pub(super) fn sums(rows: [&[Block]; ROWS], input: &[[f32; BLOCK]], values: &[f32; 16]) -> [Sums; ROWS] {
    // SAFETY: every processor of this family has NEON.
    #[allow(unsafe_code)]
    unsafe {
        in_registers(rows, input, values)
    }
}

#[target_feature(enable = "neon")]
fn in_registers(rows: [&[Block]; ROWS], input: &[[f32; BLOCK]], values: &[f32; 16]) -> [Sums; ROWS] {
    let tables: [uint8x16_t; 4] = std::array::from_fn(|byte| load_bytes(&table(values, byte)));
    rows.map(|row| {
        let mut sums = [[vdupq_n_f32(0.0); REGISTERS]; 2];
        for (block, input) in row.iter().zip(input) {
            let [low, high] = input.as_chunks::<BYTES>().0 else { continue };
            let halves = block
                .as_chunks::<LANES>()
                .0
                .iter()
                .zip(low.as_chunks::<LANES>().0.iter().zip(high.as_chunks::<LANES>().0));
            for (sums, (bytes, (low, high))) in sums.iter_mut().zip(halves) {
                let bytes = load_bytes(bytes);
                add(sums, vandq_u8(bytes, vdupq_n_u8(15)), low, &tables);
                add(sums, vshrq_n_u8::<4>(bytes), high, &tables);
            }
        }
        let mut array = [0f32; BYTES];
        for (target, sums) in array.as_chunks_mut::<4>().0.iter_mut().zip(sums.as_flattened()) {
            *target = store(*sums);
        }
        array
    })
}

/// Adds the products of the values that `codes` stand for, one in each byte, and of `inputs`.
#[inline]
#[target_feature(enable = "neon")]
fn add(sums: &mut [float32x4_t; REGISTERS], codes: uint8x16_t, inputs: &[f32; LANES], tables: &[uint8x16_t; 4]) {
    let [a, b, c, d] = tables.map(|table| vqtbl1q_u8(table, codes));
    let wide = |bytes: uint8x16_t| vreinterpretq_u16_u8(bytes);
    let (ab, cd) = (wide(vzip1q_u8(a, b)), wide(vzip1q_u8(c, d)));
    let (ab_high, cd_high) = (wide(vzip2q_u8(a, b)), wide(vzip2q_u8(c, d)));
    let values = [vzip1q_u16(ab, cd), vzip2q_u16(ab, cd), vzip1q_u16(ab_high, cd_high), vzip2q_u16(ab_high, cd_high)];
    for ((sum, values), inputs) in sums.iter_mut().zip(values).zip(inputs.as_chunks::<4>().0) {
        *sum = vaddq_f32(*sum, vmulq_f32(vreinterpretq_f32_u16(values), load(inputs)));
    }
}

#[inline]
#[target_feature(enable = "neon")]
fn load_bytes(bytes: &[u8; LANES]) -> uint8x16_t {
    // SAFETY: the 16 bytes that are read are those of the array.
    #[allow(unsafe_code)]
    unsafe {
        vld1q_u8(bytes.as_ptr())
    }
}

#[inline]
#[target_feature(enable = "neon")]
fn load(lanes: &[f32; 4]) -> float32x4_t {
    // SAFETY: the 16 bytes that are read are those of the array.
    #[allow(unsafe_code)]
    unsafe {
        vld1q_f32(lanes.as_ptr())
    }
}

#[inline]
#[target_feature(enable = "neon")]
fn store(lanes: float32x4_t) -> [f32; 4] {
    let mut array = [0f32; 4];
    // SAFETY: the 16 bytes that are written are those of the array.
    #[allow(unsafe_code)]
    unsafe {
        vst1q_f32(array.as_mut_ptr(), lanes);
    }
    array
}
