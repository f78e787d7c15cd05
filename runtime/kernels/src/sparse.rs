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

use std::ops::Range;

use onnx_dcomp_codec::processor::{self, Work};
use onnx_dcomp_forms::Form;

use crate::Order;
use crate::registers::total;

#[cfg(target_arch = "x86_64")]
mod wide;

/// Columns of a panel.
const PANEL: usize = 1 << COLUMN_BITS;
const COLUMN_BITS: u32 = 12;
/// The column that padding reads: no element of the matrix stands there.
const PADDING: u16 = PANEL as u16 - 1;
/// Columns of the matrix in a panel, at most.
pub(crate) const USED: usize = PANEL - 1;
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
    /// Columns of the matrix in a panel.
    panel: usize,
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
        Self::with_panels(form, rows, columns, order, USED)
    }

    /// The same, with `panel` columns in a panel, 1 to [`USED`].
    pub(crate) fn with_panels(form: &Form, rows: usize, columns: usize, order: Order, panel: usize) -> Option<Self> {
        debug_assert!((1..=USED).contains(&panel));
        if rows == 0 || columns == 0 || rows.checked_mul(columns) != Some(form.len()) {
            return None;
        }
        let mut distinct = form.distinct_values(MOST_VALUES + 1)?;
        distinct.retain(|&value| value != 0.0);
        if distinct.len() > MOST_VALUES {
            return None;
        }
        let segment = |(row, column): (usize, usize)| (column / panel * rows + row, (column % panel) as u16);
        let mut ends = vec![0u32; columns.div_ceil(panel) * rows];
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
        Some(Self { rows, columns, panel, entries, ends })
    }

    /// Non-zeros, and what pads them.
    pub(crate) fn entries(&self) -> usize {
        self.ends.last().map_or(0, |&groups| groups as usize * GROUP)
    }

    /// The columns of each panel.
    pub(crate) fn panels(&self) -> impl Iterator<Item = Range<usize>> {
        let (panel, columns) = (self.panel, self.columns);
        (0..columns.div_ceil(panel)).map(move |number| number * panel..columns.min((number + 1) * panel))
    }

    /// Goes over the rows `rows` of panel number `panel`; `visit` gets the number of a row and its non-zeros.
    ///
    /// Inlined, as all that is called from within [`processor::Work`].
    #[inline(always)]
    pub(crate) fn for_each_row(&self, panel: usize, rows: Range<usize>, mut visit: impl RowVisitor) {
        let (mut start, ends) = self.segments(panel, &rows);
        let ends = rows.zip(ends);
        match &self.entries {
            Entries::Words { words, values } => {
                let entry = |&word: &u16| (word & PADDING, values[usize::from(word >> COLUMN_BITS)]);
                for (row, &end) in ends {
                    visit.row(row, words[start..end as usize].as_flattened().iter().map(entry));
                    start = end as usize;
                }
            }
            Entries::Bytes { columns, codes, values } => {
                let entry = |(&column, &code): (&u16, &u8)| (column, values[usize::from(code)]);
                for (row, &end) in ends {
                    let groups = start..end as usize;
                    let codes = codes[groups.clone()].as_flattened();
                    visit.row(row, columns[groups].as_flattened().iter().zip(codes).map(entry));
                    start = end as usize;
                }
            }
        }
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

    /// Adds the products of the rows `rows` of the matrix and each vector of `inputs` to `sums`, which holds for each of
    /// these rows one number for each vector.
    ///
    /// `inputs` holds vectors of [`Self::columns`] elements, one behind the other.
    pub fn multiply_rows(&self, rows: Range<usize>, inputs: &[f32], sums: &mut [f32]) {
        let count = inputs.len() / self.columns;
        let mut vectors = inputs.chunks_exact(self.columns);
        if count < LANES / 2 {
            for (vector, input) in vectors.enumerate() {
                self.multiply_one(rows.clone(), input, sums.get_mut(vector..).unwrap_or_default(), count);
            }
            return;
        }
        for first in (0..count).step_by(LANES) {
            let several = vectors.by_ref().take(LANES).collect();
            processor::run_widest(Several { matrix: self, rows: rows.clone(), inputs: several, first, count, sums });
        }
    }

    /// The same for one vector; `sums` has its numbers `step` apart.
    fn multiply_one(&self, range: Range<usize>, input: &[f32], sums: &mut [f32], step: usize) {
        for (number, inputs) in input.chunks(self.panel).enumerate() {
            let mut panel = [0f32; PANEL];
            panel[..inputs.len()].copy_from_slice(inputs);
            let (start, ends) = self.segments(number, &range);
            let sums = sums.iter_mut().step_by(step);
            match &self.entries {
                Entries::Words { words, values } => words_times(words, values, &panel, start, ends, sums),
                Entries::Bytes { columns, codes, values } => rows(start, ends, sums, |groups| {
                    let mut sums = [0f32; GROUP];
                    for (columns, codes) in columns[groups.clone()].iter().zip(&codes[groups]) {
                        for lane in 0..GROUP {
                            let input = panel[usize::from(columns[lane]) % PANEL];
                            sums[lane] += input * values[usize::from(codes[lane])];
                        }
                    }
                    sums
                }),
            }
        }
    }

    /// Where the groups of the rows `rows` in panel number `panel` begin, and where those of each end.
    #[inline(always)]
    fn segments(&self, panel: usize, rows: &Range<usize>) -> (usize, &[u32]) {
        let (first, end) = (panel * self.rows + rows.start, panel * self.rows + rows.end);
        let start = first.checked_sub(1).map_or(0, |before| self.ends[before] as usize);
        (start, &self.ends[first..end])
    }
}

/// What is done with the rows of a panel.
pub(crate) trait RowVisitor {
    /// Gets the column within the panel, and the value, of each non-zero of row number `row`. Padding stands at
    /// [`PADDING`]. To be `#[inline(always)]`.
    fn row(&mut self, row: usize, entries: impl Iterator<Item = (u16, f32)>);
}

/// Goes over rows of a panel, whose groups begin at `start`, and adds to each of the sums what `sums` makes of its groups.
#[inline(always)]
fn rows<'a>(
    start: usize,
    ends: &[u32],
    totals: impl Iterator<Item = &'a mut f32>,
    mut sums: impl FnMut(Range<usize>) -> [f32; GROUP],
) {
    let mut start = start;
    for (&end, sum) in ends.iter().zip(totals) {
        let end = end as usize;
        *sum += total(sums(start..end));
        start = end;
    }
}

fn words_times<'a>(
    words: &[[u16; GROUP]],
    values: &[f32; 16],
    panel: &[f32; PANEL],
    start: usize,
    ends: &[u32],
    sums: impl Iterator<Item = &'a mut f32>,
) {
    #[cfg(target_arch = "x86_64")]
    if processor::has_avx512() {
        // SAFETY: this processor has the instructions.
        #[allow(unsafe_code)]
        return unsafe { wide::avx512(words, values, panel, start, ends, sums) };
    } else if processor::has_avx2() {
        // SAFETY: this processor has the instructions.
        #[allow(unsafe_code)]
        return unsafe { wide::avx2(words, values, panel, start, ends, sums) };
    }
    rows(start, ends, sums, |groups| plain(&words[groups], values, panel));
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
    rows: Range<usize>,
    /// At most [`LANES`] vectors.
    inputs: Vec<&'a [f32]>,
    /// The number of the first of them, among `count`.
    first: usize,
    count: usize,
    sums: &'a mut [f32],
}

impl Work for Several<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const HAS_AVX2: bool>(self) {
        let Self { matrix, rows, inputs, first, count, sums } = self;
        let Ok(mut panel) = <Box<Panels>>::try_from(vec![[0f32; LANES]; PANEL]) else { return };
        for (number, columns) in matrix.panels().enumerate() {
            panel[columns.len()..].fill([0.0; LANES]);
            for (lane, input) in inputs.iter().enumerate() {
                panel.iter_mut().zip(&input[columns.clone()]).for_each(|(place, &value)| place[lane] = value);
            }
            let (start, lanes) = (rows.start, first..first + inputs.len());
            matrix.for_each_row(number, rows.clone(), Beside { panel: &panel, sums: &mut *sums, start, count, lanes });
        }
    }
}

/// Adds the products of a row with all lanes to the sums.
struct Beside<'a> {
    panel: &'a Panels,
    /// For each row from `start` on, `count` numbers, of which `lanes` are meant.
    sums: &'a mut [f32],
    start: usize,
    count: usize,
    lanes: Range<usize>,
}

impl RowVisitor for Beside<'_> {
    #[inline(always)]
    fn row(&mut self, row: usize, entries: impl Iterator<Item = (u16, f32)>) {
        let sums = beside(self.panel, entries);
        let before = (row - self.start) * self.count;
        let targets = &mut self.sums[before + self.lanes.start..before + self.lanes.end];
        targets.iter_mut().zip(sums).for_each(|(target, sum)| *target += sum);
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
        let mut plainly = [0.5f32; 5];
        rows(2, &ends, plainly.iter_mut(), |groups| plain(&words[groups], &values, &panel));
        #[cfg(target_arch = "x86_64")]
        for (has, name) in [(processor::has_avx2(), "AVX2"), (processor::has_avx512(), "AVX-512")] {
            let mut widely = [0.5f32; 5];
            let sums = widely.iter_mut();
            // SAFETY: this processor has the instructions.
            #[allow(unsafe_code)]
            match name {
                _ if !has => continue,
                "AVX2" => unsafe { wide::avx2(&words, &values, &panel, 2, &ends, sums) },
                _ => unsafe { wide::avx512(&words, &values, &panel, 2, &ends, sums) },
            }
            assert_eq!(plainly.map(f32::to_bits), widely.map(f32::to_bits), "{name}");
        }
    }
}
