//! What the output of a layer makes of errors in its weight, factored so that errors can be made good.
//!
//! With `H` the second moment of the layer's input, the error of its outputs is `tr(E H E^T)`. With `U` the upper
//! Cholesky factor of the inverse of `H`, an error `e` in column `j` of a row costs `(e / U_jj)^2`, provided that the
//! columns behind it move by `-e U_jk / U_jj`.
//!
//! Sources: Hassibi and Stork, "Second order derivatives for network pruning: Optimal Brain Surgeon", 1993; Frantar et
//! al., "GPTQ", 2023 (the factor). Cost: a third of the cube of a block's columns, in multiplications.

use onnx_dcomp_ir::{MomentBlock, SecondMoment};
use rayon::prelude::*;

/// What the output makes of an error in one row of the weight.
#[derive(Debug, Clone)]
pub struct Curvature {
    /// Consecutive diagonal blocks that cover a row.
    pub(crate) blocks: Vec<Factor>,
}

/// The upper Cholesky factor of the inverse of one diagonal block of the second moment.
#[derive(Debug, Clone)]
pub(crate) struct Factor {
    pub(crate) size: usize,
    /// Row-major, `size` squared; row `j` is divided by its diagonal element.
    pub(crate) rows: Vec<f32>,
    /// `1 / U_jj^2`: what a unit of squared error in column `j` costs after compensation.
    pub(crate) weight: Vec<f32>,
}

/// A diagonal block of a second moment, scaled and damped; symmetric.
#[derive(Debug, Clone)]
pub(crate) struct Damped {
    pub(crate) size: usize,
    /// Row-major, `size` squared.
    pub(crate) values: Vec<f64>,
}

impl Curvature {
    /// Factors a second moment, scaled to a mean diagonal of one and damped by `damping` times that mean.
    ///
    /// `None` where it is not positive definite even so: it then tells nothing.
    pub fn new(moment: &SecondMoment, damping: f64) -> Option<Self> {
        Self::of(&Damped::blocks(moment, damping)?)
    }

    /// Factors blocks that are scaled and damped already; `None` where one is not positive definite.
    pub(crate) fn of(blocks: &[Damped]) -> Option<Self> {
        let blocks = blocks.par_iter().map(Factor::new).collect::<Option<_>>()?;
        Some(Self { blocks })
    }

    /// Geometric mean of what a unit of squared error costs, at most one: how much coarser the grid may be.
    pub fn mean_weight(&self) -> f64 {
        let weights = || self.blocks.iter().flat_map(|block| &block.weight);
        (weights().map(|&weight| f64::from(weight).ln()).sum::<f64>() / weights().count() as f64).exp()
    }
}

impl Damped {
    /// The blocks of `moment`, scaled to a mean diagonal of one over all of them, with `damping` times that mean added
    /// to the diagonal. `None` where the mean is not positive, or not finite.
    pub(crate) fn blocks(moment: &SecondMoment, damping: f64) -> Option<Vec<Self>> {
        let trace: f64 =
            moment.blocks.iter().flat_map(|b| (0..b.size).map(|i| f64::from(b.values[i * b.size + i]))).sum();
        let mean = trace / moment.columns() as f64;
        if !(mean.is_finite() && mean > 0.0) {
            return None;
        }
        Some(moment.blocks.iter().map(|block| Self::new(block, mean, damping)).collect())
    }

    fn new(moment: &MomentBlock, mean: f64, damping: f64) -> Self {
        let size = moment.size;
        let mut values: Vec<f64> = moment.values.iter().map(|&value| f64::from(value) / mean).collect();
        (0..size).for_each(|i| values[i * size + i] += damping);
        Self { size, values }
    }

    /// Row `index`.
    pub(crate) fn row(&self, index: usize) -> &[f64] {
        &self.values[index * self.size..(index + 1) * self.size]
    }
}

impl Factor {
    pub(crate) fn new(damped: &Damped) -> Option<Self> {
        let n = damped.size;
        // The Cholesky factor of the reversed matrix, read backwards, gives H = V V^T with V upper triangular, hence
        // H^-1 = (V^-1)^T (V^-1): U = V^-1, with rows in natural order.
        let mut v: Vec<f64> = damped.values.iter().rev().copied().collect();
        factor(&mut v, n)?;
        v.reverse();
        let inverse = inverted_upper(&v, n);
        let mut rows = vec![0f32; n * n];
        for i in 0..n {
            let diagonal = v[i * n + i];
            for (slot, value) in rows[i * n + i..(i + 1) * n].iter_mut().zip(&inverse[i * n + i..(i + 1) * n]) {
                *slot = (value * diagonal) as f32;
            }
        }
        let weight = (0..n).map(|i| (v[i * n + i] * v[i * n + i]) as f32).collect();
        Some(Self { size: n, rows, weight })
    }
}

/// Columns that are factored before the rest of the matrix hears of them: their part of the rows stays in the cache.
const PANEL: usize = 48;

/// Overwrites the lower triangle of the row-major `matrix` of `n` rows with its Cholesky factor `L`, where
/// `matrix = L L^T`. What is above the diagonal is neither read nor written.
///
/// `None` where the matrix is not positive definite; it is then half overwritten.
pub(crate) fn factor(matrix: &mut [f64], n: usize) -> Option<()> {
    for start in (0..n).step_by(PANEL) {
        let end = (start + PANEL).min(n);
        for i in start..n {
            let (above, row) = matrix.split_at_mut(i * n);
            for j in start..end.min(i) {
                let other = &above[j * n..(j + 1) * n];
                row[j] = (row[j] - dot(&row[start..j], &other[start..j])) / other[j];
            }
            if i < end {
                let pivot = row[i] - dot(&row[start..i], &row[start..i]);
                if pivot.is_nan() || pivot <= 0.0 {
                    return None;
                }
                row[i] = pivot.sqrt();
            }
        }
        for i in end..n {
            let (above, row) = matrix.split_at_mut(i * n);
            let (panel, rest) = row[start..n].split_at_mut(end - start);
            for j in end..i {
                rest[j - end] -= dot(panel, &above[j * n + start..j * n + end]);
            }
            rest[i - end] -= dot(panel, panel);
        }
    }
    Some(())
}

/// Solves `L L^T x = b` for the factor `L` that [`factor`] left in `lower`; `x` holds `b` before, the solution after.
pub(crate) fn solve(lower: &[f64], x: &mut [f64]) {
    let n = x.len();
    for i in 0..n {
        let row = &lower[i * n..i * n + i + 1];
        x[i] = (x[i] - dot(&row[..i], &x[..i])) / row[i];
    }
    for i in (0..n).rev() {
        let row = &lower[i * n..i * n + i + 1];
        let solved = x[i] / row[i];
        x[i] = solved;
        x[..i].iter_mut().zip(row).for_each(|(value, &l)| *value -= l * solved);
    }
}

/// The inverse of an upper triangular matrix, upper triangular too.
fn inverted_upper(upper: &[f64], n: usize) -> Vec<f64> {
    /// Rows that go through the finished rows below them together, so that those are read less often.
    const ROWS: usize = 8;
    let mut inverse = vec![0f64; n * n];
    for end in (1..=n).rev().step_by(ROWS) {
        let start = end.saturating_sub(ROWS);
        let (open, done) = inverse[start * n..].split_at_mut((end - start) * n);
        for (k, finished) in (end..n).zip(done.chunks_exact(n)) {
            for (i, row) in (start..end).zip(open.chunks_exact_mut(n)) {
                subtract(&mut row[k..], upper[i * n + k], &finished[k..]);
            }
        }
        for i in (start..end).rev() {
            let (row, below) = open[(i - start) * n..].split_at_mut(n);
            for (k, finished) in (i + 1..end).zip(below.chunks_exact(n)) {
                subtract(&mut row[k..], upper[i * n + k], &finished[k..]);
            }
            row[i] = 1.0;
            let diagonal = upper[i * n + i];
            row[i..].iter_mut().for_each(|value| *value /= diagonal);
        }
    }
    inverse
}

fn subtract(row: &mut [f64], factor: f64, other: &[f64]) {
    row.iter_mut().zip(other).for_each(|(value, &o)| *value -= factor * o);
}

/// The sum of products, in eight sums that do not wait for each other: the order is fixed, whatever the processor.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let ((a_chunks, a_rest), (b_chunks, b_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    let mut sums = [0f64; 8];
    for (a, b) in a_chunks.iter().zip(b_chunks) {
        for lane in 0..8 {
            sums[lane] += a[lane] * b[lane];
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    ((sums[0] + sums[4]) + (sums[1] + sums[5])) + ((sums[2] + sums[6]) + (sums[3] + sums[7])) + rest
}
