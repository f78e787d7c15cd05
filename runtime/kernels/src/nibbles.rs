//! A dense matrix of at most 16 distinct values, times vectors: four bits an element, looked up within registers.
//!
//! A product with one vector waits for the matrix to come from memory, and an eighth of the bytes has to come. What is left
//! is the look-up. 16 numbers of 32 bits are four tables of 16 bytes, one for each byte of a number, and every
//! processor looks up bytes in such a table, for a whole register at once; two rounds of interleaving put the numbers
//! together. AVX-512 has an instruction for the whole look-up.
//!
//! | module | instructions |
//! |---|---|
//! | `avx2` | x86-64 since 2013 |
//! | `avx512` | x86-64, many since 2017 |
//! | `neon` | every 64-bit ARM |
//!
//! All of them, and the loop in plain Rust for the rest, add up in the same order: their sums have the same bits.

use std::ops::Range;

#[cfg(target_arch = "x86_64")]
use onnx_dcomp_codec::processor;
use onnx_dcomp_forms::Form;

use crate::Order;
use crate::registers::total;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;

/// Elements of a row that lie in one block.
const BLOCK: usize = 2 * BYTES;
const BYTES: usize = 32;
/// Rows that are worked on at once: so many share the loads of an input.
const ROWS: usize = 2;

/// Codes of 64 elements of a row: those of the first 32 in the low halves of the bytes, those of the others in the high ones.
type Block = [u8; BYTES];

/// Sums of a row, one for each byte of a block.
type Sums = [f32; BYTES];

/// A matrix of `rows` outputs and `columns` inputs.
#[derive(Debug, Clone)]
pub struct NibbleMatrix {
    rows: usize,
    columns: usize,
    /// The blocks of each row; rows are padded.
    blocks: Vec<Block>,
    values: [f32; 16],
}

impl NibbleMatrix {
    /// The matrix that `form` holds; `None` where it has more than 16 values, or one is not finite, or where the form
    /// has not `rows * columns` elements.
    pub fn new(form: &Form, rows: usize, columns: usize, order: Order) -> Option<Self> {
        if rows == 0 || columns == 0 || rows.checked_mul(columns) != Some(form.len()) {
            return None;
        }
        let distinct = form.distinct_values(16)?;
        let row_blocks = columns.div_ceil(BLOCK);
        let mut blocks = vec![[0; BYTES]; rows * row_blocks];
        order.for_each(form, rows, columns, |(row, column), value| {
            let code = distinct.binary_search_by(|other| other.total_cmp(&(value + 0.0))).unwrap_or(0) as u8;
            let is_high = column % BLOCK >= BYTES;
            blocks[row * row_blocks + column / BLOCK][column % BYTES] |= code << if is_high { 4 } else { 0 };
        });
        let values = std::array::from_fn(|code| distinct.get(code).copied().unwrap_or(0.0));
        Some(Self { rows, columns, blocks, values })
    }

    /// Number of outputs.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of inputs.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Bytes of memory that the matrix takes.
    pub fn bytes(&self) -> usize {
        size_of_val(&self.blocks[..])
    }

    /// Adds the products of the rows `rows` of the matrix and each vector of `inputs` to `sums`, which holds for each of
    /// these rows one number for each vector.
    ///
    /// `inputs` holds vectors of [`Self::columns`] elements, one behind the other.
    pub fn multiply_rows(&self, rows: Range<usize>, inputs: &[f32], sums: &mut [f32]) {
        let row_blocks = self.columns.div_ceil(BLOCK);
        let inputs = inputs.chunks_exact(self.columns);
        let count = inputs.len();
        let mut padded = vec![[0f32; BLOCK]; count * row_blocks];
        for (input, padded) in inputs.zip(padded.chunks_exact_mut(row_blocks)) {
            padded.as_flattened_mut()[..self.columns].copy_from_slice(input);
        }
        let blocks = &self.blocks[rows.start * row_blocks..rows.end * row_blocks];
        // The rows of a few sums stay in a cache while all vectors meet them.
        for (blocks, sums) in blocks.chunks(ROWS * row_blocks).zip(sums.chunks_mut(ROWS * count)) {
            // The last rows may be fewer; those that lack repeat the first one, and are not looked at.
            let row = |number: usize| blocks.get(number * row_blocks..(number + 1) * row_blocks);
            let first = &blocks[..row_blocks];
            let rows = std::array::from_fn(|number| row(number).unwrap_or(first));
            for (vector, input) in padded.chunks_exact(row_blocks).enumerate() {
                let products = products(rows, input, &self.values);
                sums.iter_mut().skip(vector).step_by(count).zip(products).for_each(|(sum, product)| *sum += product);
            }
        }
    }
}

fn products(rows: [&[Block]; ROWS], input: &[[f32; BLOCK]], values: &[f32; 16]) -> [f32; ROWS] {
    /// In the widest instructions that this processor has.
    #[cfg(target_arch = "x86_64")]
    fn widest(rows: [&[Block]; ROWS], input: &[[f32; BLOCK]], values: &[f32; 16]) -> [Sums; ROWS] {
        if processor::has_avx512() {
            // SAFETY: this processor has the instructions.
            #[allow(unsafe_code)]
            return unsafe { avx512::sums(rows, input, values) };
        }
        if processor::has_avx2() {
            // SAFETY: this processor has the instructions.
            #[allow(unsafe_code)]
            return unsafe { avx2::sums(rows, input, values) };
        }
        sums(rows, input, values)
    }
    #[cfg(target_arch = "aarch64")]
    use neon::sums as widest;
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    use sums as widest;

    widest(rows, input, values).map(|sums| {
        let sixteen: [f32; 16] = std::array::from_fn(|lane| sums[lane] + sums[lane + 16]);
        total(std::array::from_fn(|lane| sixteen[lane] + sixteen[lane + 8]))
    })
}

/// For each row the sums over the elements of each byte.
#[cfg_attr(target_arch = "aarch64", allow(dead_code, reason = "tests compare with it"))]
fn sums(rows: [&[Block]; ROWS], input: &[[f32; BLOCK]], values: &[f32; 16]) -> [Sums; ROWS] {
    rows.map(|row| {
        let mut sums = [0f32; BYTES];
        for (block, input) in row.iter().zip(input) {
            for (inputs, shift) in input.as_chunks::<BYTES>().0.iter().zip([0, 4]) {
                for byte in 0..BYTES {
                    sums[byte] += values[usize::from(block[byte] >> shift & 15)] * inputs[byte];
                }
            }
        }
        sums
    })
}

/// Byte number `byte` of each of the values.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn table(values: &[f32; 16], byte: usize) -> [u8; 16] {
    values.map(|value| value.to_le_bytes()[byte])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_instructions_give_the_same_sums() {
        let block = |index: u32| {
            std::array::from_fn(|byte| ((32 * index + byte as u32 + 1).wrapping_mul(0x9E37_79B9) >> 20) as u8)
        };
        let rows: [Vec<Block>; ROWS] = std::array::from_fn(|row| (0..9).map(|at| block(9 * row as u32 + at)).collect());
        let input: Vec<[f32; BLOCK]> =
            (0..9).map(|at| std::array::from_fn(|column| ((64 * at + column) as f32 * 0.31).cos())).collect();
        let values = std::array::from_fn(|code| (code as f32 * 0.77).sin());
        let rows = rows.each_ref().map(|row| &row[..]);
        let plainly = sums(rows, &input, &values);
        assert!(plainly.as_flattened().iter().all(|sum| sum.is_finite() && *sum != 0.0));
        #[cfg(target_arch = "x86_64")]
        if processor::has_avx2() {
            // SAFETY: this processor has the instructions.
            #[allow(unsafe_code)]
            let wide = unsafe { avx2::sums(rows, &input, &values) };
            assert_eq!(wide, plainly, "AVX2");
        }
        #[cfg(target_arch = "x86_64")]
        if processor::has_avx512() {
            // SAFETY: this processor has the instructions.
            #[allow(unsafe_code)]
            let wide = unsafe { avx512::sums(rows, &input, &values) };
            assert_eq!(wide, plainly, "AVX-512");
        }
        #[cfg(target_arch = "aarch64")]
        assert_eq!(neon::sums(rows, &input, &values), plainly, "NEON");
    }
}
