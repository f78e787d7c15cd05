//! Optimal Brain Surgeon: which elements the layer's output would miss least, and what the others make of their loss.
//!
//! With `H` the second moment of the layer's input, zeroing element `p` of a row `w` while the others move to the best
//! they can do costs the output `w_p^2 / [H^-1]_pp`. Elements go one after the other, the cheapest of the row first;
//! after each, the others move and `H^-1` becomes that of the elements which are left. An element's saliency is the
//! root of what its removal cost (a magnitude, where `H` is the identity), so that any threshold on saliencies, over a
//! weight or over the network, gives what the surgeon would have come to.
//!
//! What is left then gets its values from the normal equations, in double precision: that is where the steps of the
//! surgeon lead, without their rounding.
//!
//! Where a weight is large, saliencies see its columns in blocks, as if those of other blocks did not answer; the
//! values of what is left still come from all columns.
//!
//! Sources: Hassibi and Stork, "Second order derivatives for network pruning: Optimal Brain Surgeon", 1993; Frantar and
//! Alistarh, "Optimal Brain Compression", 2022 (one inverse for each row, one order over all rows); Frantar and
//! Alistarh, "SparseGPT", 2023 (blocks of columns).

use onnx_dcomp_ir::SecondMoment;
use rayon::prelude::*;

use crate::curvature::{Damped, Factor, factor, solve};

/// Multiplications that the saliencies of one weight may take: some ten seconds of one core.
const MOST_WORK: f64 = 6e10;

/// Fewest columns of a block, even where that takes longer.
const FEWEST_COLUMNS: usize = 64;

/// Steps whose effect on the inverse is applied at once, so that the matrix is read and written less often.
const DELAYED: usize = 8;

/// What the output of one layer makes of changes of its weight.
#[derive(Debug, Clone)]
pub(super) struct Surgeon {
    row_length: usize,
    blocks: Vec<Damped>,
}

impl Surgeon {
    /// A surgeon for rows of `row_length` elements; `None` where `moment` is for others, or tells nothing.
    pub(super) fn new(moment: &SecondMoment, damping: f64, row_length: usize) -> Option<Self> {
        if moment.columns() != row_length || row_length == 0 {
            return None;
        }
        let blocks = Damped::blocks(moment, damping)?;
        Some(Self { row_length, blocks })
    }

    /// For each element of `values`, whole rows, the root of what its removal adds to the error of the output. Exact
    /// zeros have saliency zero, and are gone when the others are judged; all others have more.
    ///
    /// `None` where the second moment is not positive definite.
    pub(super) fn saliencies(&self, values: &[f32]) -> Option<Vec<f32>> {
        let inverses = self.inverses(values.len())?;
        let mut saliencies = vec![0f32; values.len()];
        let rows = saliencies.par_chunks_mut(self.row_length).zip(values.par_chunks(self.row_length));
        rows.for_each_init(Removal::default, |removal, (saliencies, row)| {
            let mut start = 0;
            for inverse in &inverses {
                let columns = start..start + inverse.size;
                removal.run(inverse, &row[columns.clone()], &mut saliencies[columns]);
                start += inverse.size;
            }
        });
        Some(saliencies)
    }

    /// Zeroes the elements of `values`, whole rows, that are marked in `is_cut`, and moves the others to where the error
    /// of the output is least. Exact zeros stay. Rows that lose nothing stay as they are.
    pub(super) fn remove(&self, values: &mut [f32], is_cut: &[bool]) {
        let rows = values.par_chunks_mut(self.row_length).zip(is_cut.par_chunks(self.row_length));
        rows.for_each(|(row, is_cut)| {
            let mut start = 0;
            for block in &self.blocks {
                let columns = start..start + block.size;
                remove(block, &mut row[columns.clone()], &is_cut[columns]);
                start += block.size;
            }
        });
    }

    /// The inverses of the blocks that saliencies see, for a weight of `len` elements.
    fn inverses(&self, len: usize) -> Option<Vec<Inverse>> {
        // Removing all elements of a row takes a sixth of the cube of a block's columns.
        let most_columns = ((6.0 * MOST_WORK / len as f64).sqrt() as usize).max(FEWEST_COLUMNS);
        let parts: Vec<Damped> = self.blocks.iter().flat_map(|block| parts(block, most_columns)).collect();
        parts.par_iter().map(Inverse::new).collect()
    }
}

/// Equal diagonal blocks of at most `most_columns`.
fn parts(block: &Damped, most_columns: usize) -> impl Iterator<Item = Damped> + '_ {
    let count = block.size.div_ceil(most_columns);
    (0..count).map(move |part| {
        let columns = part * block.size / count..(part + 1) * block.size / count;
        let values = columns.clone().flat_map(|row| block.row(row)[columns.clone()].iter().copied()).collect();
        Damped { size: columns.len(), values }
    })
}

/// Zeroes what is cut from one row, or one block of it.
fn remove(block: &Damped, row: &mut [f32], is_cut: &[bool]) {
    let lost: Vec<(usize, f64)> = (0..row.len())
        .filter(|&column| is_cut[column] && row[column] != 0.0)
        .map(|column| (column, f64::from(row[column])))
        .collect();
    row.iter_mut().zip(is_cut).filter(|(_, is_cut)| **is_cut).for_each(|(value, _)| *value = 0.0);
    if lost.is_empty() {
        return;
    }
    let left: Vec<usize> = (0..row.len()).filter(|&column| row[column] != 0.0).collect();
    // The gradient of the error is zero where the elements that are left have moved by `moves`.
    let gradient = |&column: &usize| lost.iter().map(|&(other, value)| block.row(column)[other] * value).sum();
    let mut moves: Vec<f64> = left.iter().map(gradient).collect();
    let mut matrix = vec![0f64; left.len() * left.len()];
    for (at, (&column, slots)) in left.iter().zip(matrix.chunks_exact_mut(left.len().max(1))).enumerate() {
        slots.iter_mut().zip(&left[..=at]).for_each(|(slot, &other)| *slot = block.row(column)[other]);
    }
    if factor(&mut matrix, left.len()).is_none() {
        return;
    }
    solve(&matrix, &mut moves);
    for (&column, change) in left.iter().zip(moves) {
        let moved = (f64::from(row[column]) + change) as f32;
        if moved.is_finite() {
            row[column] = moved;
        }
    }
}

/// The inverse of a block.
struct Inverse {
    size: usize,
    /// Row-major, `size` squared; only the lower triangle counts.
    values: Vec<f32>,
    /// The least that an element of the diagonal can become, when all other elements are gone.
    least: Vec<f32>,
}

impl Inverse {
    fn new(block: &Damped) -> Option<Self> {
        let n = block.size;
        let factor = Factor::new(block)?;
        let mut values = vec![0f32; n * n];
        for (k, row) in factor.rows.chunks_exact(n.max(1)).enumerate() {
            for (i, slots) in values.chunks_exact_mut(n).enumerate().skip(k) {
                let scale = row[i] / factor.weight[k];
                slots[k..=i].iter_mut().zip(&row[k..=i]).for_each(|(slot, &value)| *slot += scale * value);
            }
        }
        let least = (0..n).map(|i| (1.0 / block.row(i)[i]) as f32).collect();
        Some(Self { size: n, values, least })
    }
}

/// The elements of one row on their way out. Arrays shrink: the last element takes the place of the one that went.
#[derive(Default)]
struct Removal {
    /// The inverse as it was before the delayed steps, row-major with the block's size for a row; lower triangle.
    matrix: Vec<f32>,
    /// Its diagonal, always as it is.
    diagonal: Vec<f32>,
    values: Vec<f32>,
    least: Vec<f32>,
    /// Which column each element is.
    columns: Vec<usize>,
    /// The steps that `matrix` has not heard of: `q q^T` is to be subtracted for each.
    delayed: [Vec<f32>; DELAYED],
    waiting: usize,
}

impl Removal {
    fn run(&mut self, inverse: &Inverse, row: &[f32], saliencies: &mut [f32]) {
        let n = inverse.size;
        self.matrix.clear();
        self.matrix.extend_from_slice(&inverse.values);
        self.diagonal.clear();
        self.diagonal.extend((0..n).map(|i| inverse.values[i * n + i]));
        self.values.clear();
        self.values.extend_from_slice(row);
        self.least.clear();
        self.least.extend_from_slice(&inverse.least);
        self.columns.clear();
        self.columns.extend(0..n);
        self.waiting = 0;
        let mut previous = 0f32;
        while !self.columns.is_empty() {
            let (at, cost) = self.cheapest(row);
            let column = self.columns[at];
            if row[column] != 0.0 {
                // Ascending without ties, so that every threshold takes the elements in the order of their removal.
                previous = cost.max(previous.next_up()).min(f32::MAX);
                saliencies[column] = previous;
            }
            self.step(at, n);
        }
    }

    /// The place of the element to go next, and the root of what that costs. What was zero from the start goes first;
    /// of equals, the first in the row.
    fn cheapest(&self, row: &[f32]) -> (usize, f32) {
        let mut best = (0, (true, f32::INFINITY, usize::MAX));
        for (at, &column) in self.columns.iter().enumerate() {
            let cost = self.values[at].abs() / self.diagonal[at].max(self.least[at]).sqrt();
            let key = (row[column] != 0.0, cost, column);
            if key < best.1 {
                best = (at, key);
            }
        }
        (best.0, best.1.1)
    }

    /// Removes the element at place `at`.
    fn step(&mut self, at: usize, n: usize) {
        let last = self.columns.len() - 1;
        let pivot = self.diagonal[at].max(self.least[at]);
        let mut q = std::mem::take(&mut self.delayed[self.waiting]);
        q.clear();
        q.extend_from_slice(&self.matrix[at * n..at * n + at]);
        q.extend((at..=last).map(|other| self.matrix[other * n + at]));
        for earlier in &self.delayed[..self.waiting] {
            let factor = earlier[at];
            q.iter_mut().zip(earlier).for_each(|(value, &e)| *value -= factor * e);
        }
        let scale = pivot.sqrt().recip();
        q.iter_mut().for_each(|value| *value *= scale);
        let factor = self.values[at] * scale;
        self.values.iter_mut().zip(&q).for_each(|(value, &q)| *value -= factor * q);
        self.diagonal.iter_mut().zip(&q).for_each(|(value, &q)| *value -= q * q);

        self.delayed[self.waiting] = q;
        self.waiting += 1;
        for q in &mut self.delayed[..self.waiting] {
            q.swap_remove(at);
        }
        self.values.swap_remove(at);
        self.diagonal.swap_remove(at);
        self.least.swap_remove(at);
        self.columns.swap_remove(at);
        // Row and column `last` of the triangle become row and column `at`.
        let (above, moved) = self.matrix.split_at_mut(last * n);
        if at < last {
            above[at * n..at * n + at].copy_from_slice(&moved[..at]);
            above[at * n + at] = moved[last];
            (at + 1..last).for_each(|other| above[other * n + at] = moved[other]);
        }
        if self.waiting == DELAYED {
            self.apply(n);
        }
    }

    /// Tells the matrix of the delayed steps.
    fn apply(&mut self, n: usize) {
        self.waiting = 0;
        let [q0, q1, q2, q3, q4, q5, q6, q7] = &self.delayed;
        for i in 0..self.columns.len() {
            let row = &mut self.matrix[i * n..i * n + i + 1];
            let f = [q0[i], q1[i], q2[i], q3[i], q4[i], q5[i], q6[i], q7[i]];
            let (q0, q1, q2, q3) = (&q0[..=i], &q1[..=i], &q2[..=i], &q3[..=i]);
            let (q4, q5, q6, q7) = (&q4[..=i], &q5[..=i], &q6[..=i], &q7[..=i]);
            for (j, slot) in row.iter_mut().enumerate() {
                let first = (f[0] * q0[j] + f[1] * q1[j]) + (f[2] * q2[j] + f[3] * q3[j]);
                let second = (f[4] * q4[j] + f[5] * q5[j]) + (f[6] * q6[j] + f[7] * q7[j]);
                *slot -= first + second;
            }
        }
    }
}
