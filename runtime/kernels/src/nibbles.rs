//! A dense matrix of at most 16 distinct values, times vectors: four bits an element, looked up within registers.
//!
//! A product with one vector waits for the matrix to come from memory; that a look-up costs instructions matters less
//! than that an eighth of the bytes has to come.

use std::ops::Range;

use onnx_dcomp_codec::processor;
use onnx_dcomp_forms::Form;

use crate::Order;
use crate::registers::total;

/// Elements of a row that lie in one block.
const BLOCK: usize = LANES * NIBBLES;
const LANES: usize = 8;
/// Elements in a word of a block.
const NIBBLES: usize = 8;
/// Rows that are worked on at once: so many sums hide how long an addition takes.
const ROWS: usize = 4;

/// Codes of 64 elements of a row: element `8 * nibble + lane` in nibble `nibble`, from the lowest, of word `lane`.
type Block = [u32; LANES];

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
        let mut blocks = vec![[0; LANES]; rows * row_blocks];
        order.for_each(form, rows, columns, |(row, column), value| {
            let code = distinct.binary_search_by(|other| other.total_cmp(&(value + 0.0))).unwrap_or(0) as u32;
            let (lane, nibble) = (column % LANES, column % BLOCK / LANES);
            blocks[row * row_blocks + column / BLOCK][lane] |= code << (4 * nibble);
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
    #[cfg(target_arch = "x86_64")]
    let sums = if processor::has_avx2() {
        // SAFETY: this processor has the instructions.
        #[allow(unsafe_code)]
        unsafe {
            avx2::sums(rows, input, values)
        }
    } else {
        sums(rows, input, values)
    };
    #[cfg(not(target_arch = "x86_64"))]
    let sums = sums(rows, input, values);
    sums.map(total)
}

/// For each row the sums over the elements of each lane.
fn sums(rows: [&[Block]; ROWS], input: &[[f32; BLOCK]], values: &[f32; 16]) -> [[f32; LANES]; ROWS] {
    rows.map(|row| {
        let mut sums = [0f32; LANES];
        for (block, input) in row.iter().zip(input) {
            for (nibble, inputs) in input.as_chunks::<LANES>().0.iter().enumerate() {
                for lane in 0..LANES {
                    sums[lane] += values[(block[lane] >> (4 * nibble) & 15) as usize] * inputs[lane];
                }
            }
        }
        sums
    })
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::*;

    use super::{BLOCK, Block, LANES, ROWS};
    use crate::registers::{load, store};

    /// As [`super::sums`].
    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
    pub(super) fn sums(rows: [&[Block]; ROWS], input: &[[f32; BLOCK]], values: &[f32; 16]) -> [[f32; LANES]; ROWS] {
        let half = |at: usize| load(std::array::from_fn(|lane| values[at + lane]));
        let (low, high) = (half(0), half(8));
        let mut sums = [_mm256_setzero_ps(); ROWS];
        let mut rows = rows.map(|row| row.iter());
        for input in input {
            let mut blocks =
                rows.each_mut().map(|row| row.next().map_or(_mm256_setzero_si256(), |block| load_block(block)));
            for inputs in input.as_chunks::<LANES>().0 {
                let inputs = load(*inputs);
                for (sum, block) in sums.iter_mut().zip(&mut blocks) {
                    let [low, high] = [low, high].map(|half| _mm256_permutevar8x32_ps(half, *block));
                    let is_high = _mm256_castsi256_ps(_mm256_slli_epi32::<28>(*block));
                    let values = _mm256_blendv_ps(low, high, is_high);
                    *sum = _mm256_add_ps(*sum, _mm256_mul_ps(values, inputs));
                    *block = _mm256_srli_epi32::<4>(*block);
                }
            }
        }
        sums.map(|lanes| store(lanes))
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn load_block(block: &Block) -> __m256i {
        // SAFETY: the 32 bytes that are read are those of the array; the instruction asks for no alignment.
        #[allow(unsafe_code)]
        unsafe {
            _mm256_loadu_si256(block.as_ptr().cast())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn all_instructions_give_the_same_sums() {
        if !processor::has_avx2() {
            return;
        }
        let block = |index: u32| std::array::from_fn(|lane| (8 * index + lane as u32).wrapping_mul(0x9E37_79B1));
        let rows: [Vec<Block>; ROWS] = std::array::from_fn(|row| (0..9).map(|at| block(9 * row as u32 + at)).collect());
        let input: Vec<[f32; BLOCK]> =
            (0..9).map(|at| std::array::from_fn(|column| ((64 * at + column) as f32 * 0.31).cos())).collect();
        let values = std::array::from_fn(|code| (code as f32 * 0.77).sin());
        let rows = rows.each_ref().map(|row| &row[..]);
        // SAFETY: this processor has the instructions.
        #[allow(unsafe_code)]
        let wide = unsafe { avx2::sums(rows, &input, &values) };
        assert_eq!(wide, sums(rows, &input, &values));
    }
}
