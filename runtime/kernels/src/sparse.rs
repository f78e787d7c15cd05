//! A sparse matrix whose non-zeros have few distinct values, times one vector or a few.
//!
//! The columns are cut into panels whose inputs stay in the level 1 cache. A non-zero is sixteen bits: twelve for its
//! column within the panel, four for its value; with up to 256 values it is three bytes. The non-zeros of a row within a
//! panel are padded to a multiple of eight with ones that meet the panel's last place, where a zero stands.
//!
//! What limits such a product on today's processors is the number of loads, three a cycle at best: so eight non-zeros
//! are loaded at once, their values are permuted within registers, and only the inputs are loaded one by one (gather
//! instructions do the same and take longer on many processors).
//!
//! Source of the form: Han et al., "EIE: Efficient inference engine on compressed deep neural network", 2016, which
//! has relative indices of four bits in their place.

use onnx_dcomp_codec::processor::{self, Work};
use onnx_dcomp_forms::Form;

use crate::Order;
use crate::registers::total;

/// Columns of a panel.
const PANEL: usize = 1 << COLUMN_BITS;
const COLUMN_BITS: u32 = 12;
/// The column that padding reads: no element of the matrix stands there.
const PADDING: u16 = PANEL as u16 - 1;
/// Columns of the matrix in a panel.
const USED: usize = PANEL - 1;
/// Non-zeros that are worked on at once.
const GROUP: usize = 8;
/// Distinct non-zeros.
const MOST_VALUES: usize = 256;
/// Vectors that are worked on at once, where there are several.
const LANES: usize = 8;

/// A matrix of `rows` outputs and `columns` inputs.
#[derive(Debug, Clone)]
pub struct SparseMatrix {
    rows: usize,
    columns: usize,
    entries: Entries,
    /// Groups up to the end of each row, row by row within panel by panel.
    ends: Vec<u32>,
}

/// The non-zeros.
#[derive(Debug, Clone)]
enum Entries {
    /// Column below, value above.
    Words { words: Vec<[u16; GROUP]>, values: [f32; 16] },
    /// Columns, and values by number.
    Bytes { columns: Vec<[u16; GROUP]>, codes: Vec<[u8; GROUP]>, values: Box<[f32; 256]> },
}

impl SparseMatrix {
    /// The matrix that `form` holds; `None` where its non-zeros have more than 256 values, or one is not finite, or
    /// where the form has not `rows * columns` elements.
    pub fn new(form: &Form, rows: usize, columns: usize, order: Order) -> Option<Self> {
        if rows == 0 || columns == 0 || rows.checked_mul(columns) != Some(form.len()) {
            return None;
        }
        let mut distinct = form.distinct_values(MOST_VALUES + 1)?;
        distinct.retain(|&value| value != 0.0);
        if distinct.len() > MOST_VALUES {
            return None;
        }
        let segment = |(row, column): (usize, usize)| (column / USED * rows + row, (column % USED) as u16);
        let mut ends = vec![0u32; columns.div_ceil(USED) * rows];
        order.for_each(form, rows, columns, |place, value| ends[segment(place).0] += u32::from(value != 0.0));
        let mut groups = 0u32;
        let mut places = Vec::with_capacity(ends.len());
        for end in &mut ends {
            places.push(groups as usize * GROUP);
            groups = groups.checked_add(end.div_ceil(GROUP as u32))?;
            *end = groups;
        }
        let mut indices = vec![[PADDING; GROUP]; groups as usize];
        let mut codes = vec![[0u8; GROUP]; groups as usize];
        order.for_each(form, rows, columns, |place, value| {
            if value == 0.0 {
                return;
            }
            let (segment, column) = segment(place);
            let place = places[segment];
            places[segment] += 1;
            indices.as_flattened_mut()[place] = column;
            let code = distinct.binary_search_by(|other| other.total_cmp(&value)).unwrap_or(0);
            codes.as_flattened_mut()[place] = code as u8;
        });
        let value = |code: usize| distinct.get(code).copied().unwrap_or(0.0);
        let entries = if distinct.len() <= 16 {
            let words = indices.as_flattened_mut().iter_mut().zip(codes.as_flattened());
            words.for_each(|(word, &code)| *word |= u16::from(code) << COLUMN_BITS);
            Entries::Words { words: indices, values: std::array::from_fn(value) }
        } else {
            Entries::Bytes { columns: indices, codes, values: Box::new(std::array::from_fn(value)) }
        };
        Some(Self { rows, columns, entries, ends })
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
        let entries = match &self.entries {
            Entries::Words { words, .. } => size_of_val(&words[..]),
            Entries::Bytes { columns, codes, .. } => size_of_val(&columns[..]) + size_of_val(&codes[..]) + 1024,
        };
        entries + size_of_val(&self.ends[..])
    }

    /// Adds the products of the matrix and each vector of `inputs` to `outputs`: vectors of [`Self::columns`] and of
    /// [`Self::rows`] elements, one behind the other.
    pub fn multiply_add(&self, inputs: &[f32], outputs: &mut [f32]) {
        let inputs = inputs.chunks_exact(self.columns);
        let count = inputs.len();
        let mut vectors = inputs.zip(outputs.chunks_exact_mut(self.rows));
        if count < LANES / 2 {
            vectors.for_each(|(input, output)| self.multiply_add_one(input, output));
            return;
        }
        let mut left = count;
        while left > 0 {
            let several = vectors.by_ref().take(LANES).collect();
            processor::run(Several { matrix: self, vectors: several });
            left = left.saturating_sub(LANES);
        }
    }

    fn multiply_add_one(&self, input: &[f32], output: &mut [f32]) {
        let mut start = 0;
        for (inputs, ends) in input.chunks(USED).zip(self.ends.chunks_exact(self.rows)) {
            let mut panel = [0f32; PANEL];
            panel[..inputs.len()].copy_from_slice(inputs);
            start = match &self.entries {
                Entries::Words { words, values } => words_times(words, values, &panel, start, ends, output),
                Entries::Bytes { columns, codes, values } => rows(start, ends, output, |groups| {
                    let mut sums = [0f32; GROUP];
                    for (columns, codes) in columns[groups.clone()].iter().zip(&codes[groups]) {
                        for lane in 0..GROUP {
                            let input = panel[usize::from(columns[lane]) % PANEL];
                            sums[lane] += input * values[usize::from(codes[lane])];
                        }
                    }
                    sums
                }),
            };
        }
    }
}

/// Goes over the rows of a panel, whose groups begin at `start`, and adds to each output what `sums` makes of its groups;
/// where the next panel begins.
#[inline(always)]
fn rows(
    start: usize,
    ends: &[u32],
    outputs: &mut [f32],
    mut sums: impl FnMut(std::ops::Range<usize>) -> [f32; GROUP],
) -> usize {
    let mut start = start;
    for (&end, output) in ends.iter().zip(outputs) {
        let end = end as usize;
        *output += total(sums(start..end));
        start = end;
    }
    start
}

fn words_times(
    words: &[[u16; GROUP]],
    values: &[f32; 16],
    panel: &[f32; PANEL],
    start: usize,
    ends: &[u32],
    outputs: &mut [f32],
) -> usize {
    #[cfg(target_arch = "x86_64")]
    if processor::has_avx2() {
        // SAFETY: this processor has the instructions.
        #[allow(unsafe_code)]
        return unsafe { avx2::words_times(words, values, panel, start, ends, outputs) };
    }
    rows(start, ends, outputs, |groups| plain(&words[groups], values, panel))
}

/// Eight sums of products, one for each place in a group.
#[inline(always)]
fn plain(words: &[[u16; GROUP]], values: &[f32; 16], panel: &[f32; PANEL]) -> [f32; GROUP] {
    let mut sums = [0f32; GROUP];
    for group in words {
        for (sum, &word) in sums.iter_mut().zip(group) {
            *sum += panel[usize::from(word) % PANEL] * values[usize::from(word >> COLUMN_BITS)];
        }
    }
    sums
}

/// The columns of a panel for all lanes.
type Panels = [[f32; LANES]; PANEL];

/// Several vectors at once: a non-zero meets the same column of all of them, which lie beside each other.
struct Several<'a> {
    matrix: &'a SparseMatrix,
    /// At most [`LANES`] inputs and their outputs.
    vectors: Vec<(&'a [f32], &'a mut [f32])>,
}

impl Work for Several<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const HAS_AVX2: bool>(mut self) {
        let matrix = self.matrix;
        let Ok(mut panel) = <Box<Panels>>::try_from(vec![[0f32; LANES]; PANEL]) else { return };
        let mut start = 0;
        for (number, ends) in matrix.ends.chunks_exact(matrix.rows).enumerate() {
            let columns = number * USED..matrix.columns.min((number + 1) * USED);
            panel[columns.len()..].fill([0.0; LANES]);
            for (lane, (input, _)) in self.vectors.iter().enumerate() {
                panel.iter_mut().zip(&input[columns.clone()]).for_each(|(place, &value)| place[lane] = value);
            }
            for (row, &end) in ends.iter().enumerate() {
                let groups = start..end as usize;
                let sums = match &matrix.entries {
                    Entries::Words { words, values } => {
                        let entry = |&word: &u16| (word, values[usize::from(word >> COLUMN_BITS)]);
                        beside(&panel, words[groups].as_flattened().iter().map(entry))
                    }
                    Entries::Bytes { columns, codes, values } => {
                        let codes = codes[groups.clone()].as_flattened();
                        let entry = |(&column, &code): (&u16, &u8)| (column, values[usize::from(code)]);
                        beside(&panel, columns[groups].as_flattened().iter().zip(codes).map(entry))
                    }
                };
                start = end as usize;
                for ((_, output), sum) in self.vectors.iter_mut().zip(sums) {
                    output[row] += sum;
                }
            }
        }
    }
}

/// For each lane the sum of its inputs times the values at their columns.
#[inline(always)]
fn beside(panel: &Panels, entries: impl Iterator<Item = (u16, f32)>) -> [f32; LANES] {
    let mut sums = [0f32; LANES];
    for (column, value) in entries {
        let inputs = &panel[usize::from(column) % PANEL];
        for lane in 0..LANES {
            sums[lane] += inputs[lane] * value;
        }
    }
    sums
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::*;

    use super::{COLUMN_BITS, GROUP, PADDING, PANEL, rows};
    use crate::registers;

    /// As `rows` with `plain`.
    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
    pub(super) fn words_times(
        words: &[[u16; GROUP]],
        values: &[f32; 16],
        panel: &[f32; PANEL],
        start: usize,
        ends: &[u32],
        outputs: &mut [f32],
    ) -> usize {
        let half = |at: usize| registers::load(std::array::from_fn(|lane| values[at + lane]));
        let (low, high) = (half(0), half(8));
        rows(start, ends, outputs, |groups| {
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
                let wide = _mm256_cvtepu16_epi32(group);
                let codes = _mm256_srli_epi32::<{ COLUMN_BITS as i32 }>(wide);
                let is_high = _mm256_castsi256_ps(_mm256_slli_epi32::<16>(wide));
                let [low, high] = [low, high].map(|half| _mm256_permutevar8x32_ps(half, codes));
                let values = _mm256_blendv_ps(low, high, is_high);
                sums = _mm256_add_ps(sums, _mm256_mul_ps(inputs, values));
            }
            registers::store(sums)
        })
    }

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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_instructions_give_the_same_sums() {
        let words: Vec<[u16; GROUP]> = (0..300u32)
            .map(|group| std::array::from_fn(|lane| (((8 * group + lane as u32) * 40_503) >> 3) as u16))
            .collect();
        let values = std::array::from_fn(|code| (code as f32 * 0.77).sin());
        let panel = std::array::from_fn(|column| (column as f32 * 0.31).cos());
        let ends = [7, 7, 30, 299, 300];
        let (mut plainly, mut widely) = ([0.5f32; 5], [0.5f32; 5]);
        rows(2, &ends, &mut plainly, |groups| plain(&words[groups], &values, &panel));
        words_times(&words, &values, &panel, 2, &ends, &mut widely);
        assert_eq!(plainly.map(f32::to_bits), widely.map(f32::to_bits));
    }
}
