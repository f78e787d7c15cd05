//! What the layer's outputs make of an error in its kernel.
//!
//! With `H` the second moment of the layer's input, an error `E` of the kernel (a row for each output) costs
//! `tr(E H E^T)`, the mean squared error of the feature map. `H = L L^T` makes that the plain squared error of `E L`:
//! in these whitened rows least squares is ordinary.

use ndarray::{Array2, ArrayView2, ArrayViewMut2, s};
use onnx_dcomp_ir::{MomentBlock, SecondMoment};

/// The metric of a row: a second moment in diagonal blocks, scaled so that a unit of squared error costs one on
/// average; or the identity, where nothing is known.
#[derive(Debug, Clone)]
pub struct Metric {
    /// Lower Cholesky factors of consecutive diagonal blocks; empty for the identity.
    blocks: Vec<Array2<f64>>,
    columns: usize,
}

impl Metric {
    /// The metric in which every element counts the same.
    pub fn identity(columns: usize) -> Self {
        Self { blocks: Vec::new(), columns }
    }

    /// Factors a second moment, scaled to a mean diagonal of one and damped by `damping` times that mean.
    ///
    /// `None` where it is not positive definite even so: it then tells nothing.
    pub fn new(moment: &SecondMoment, damping: f64) -> Option<Self> {
        let diagonal =
            moment.blocks.iter().flat_map(|block| (0..block.size).map(|i| block.values.get(i * block.size + i)));
        let trace: f64 = diagonal.flatten().map(|&value| f64::from(value)).sum();
        let columns = moment.columns();
        let mean = trace / columns as f64;
        if !(mean.is_finite() && mean > 0.0) {
            return None;
        }
        let blocks = moment.blocks.iter().map(|block| cholesky(block, mean, damping)).collect::<Option<_>>()?;
        Some(Self { blocks, columns })
    }

    /// Elements of a row.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Whether every element counts the same.
    pub fn is_identity(&self) -> bool {
        self.blocks.is_empty()
    }

    /// `rows L`: rows whose plain squared error is what counts.
    pub fn whiten(&self, rows: &Array2<f64>) -> Array2<f64> {
        let mut whitened = rows.clone();
        for (start, lower) in self.placed() {
            let columns = s![.., start..start + lower.nrows()];
            whitened.slice_mut(columns).assign(&rows.slice(columns).dot(lower));
        }
        whitened
    }

    /// `rows L^-1`, which takes [`Self::whiten`] back.
    pub fn unwhiten(&self, rows: &Array2<f64>) -> Array2<f64> {
        let mut plain = rows.clone();
        for (start, lower) in self.placed() {
            solve(plain.slice_mut(s![.., start..start + lower.nrows()]), lower.view());
        }
        plain
    }

    /// The row of `L` that `column` meets, and the column that it starts at: what one unit in `column` becomes.
    pub fn direction(&self, column: usize) -> (usize, &[f64]) {
        let found = self.placed().find(|(start, lower)| (*start..start + lower.nrows()).contains(&column));
        match found.and_then(|(start, lower)| Some((start, lower.as_slice()?, lower.ncols()))) {
            Some((start, lower, size)) => {
                let at = column - start;
                (start, &lower[at * size..at * size + at + 1])
            }
            None => (column, &[1.0]),
        }
    }

    /// What a unit of squared error in each column costs alone: the diagonal of `H`.
    pub fn diagonal(&self) -> Vec<f64> {
        let squared = |column| self.direction(column).1.iter().map(|value| value * value).sum();
        (0..self.columns).map(squared).collect()
    }

    /// Geometric mean of what a unit of squared error in a column costs once the other columns have made the best of
    /// it: the determinant of `H`, for each column.
    pub fn mean_weight(&self) -> f64 {
        let pivots = self.blocks.iter().flat_map(|lower| lower.diag().to_vec());
        (pivots.map(|pivot| 2.0 * pivot.ln()).sum::<f64>() / self.columns.max(1) as f64).exp()
    }

    fn placed(&self) -> impl Iterator<Item = (usize, &Array2<f64>)> {
        self.blocks.iter().scan(0, |start, lower| {
            *start += lower.nrows();
            Some((*start - lower.nrows(), lower))
        })
    }
}

/// The lower factor of one block over `mean`; `None` where a pivot is not positive.
fn cholesky(block: &MomentBlock, mean: f64, damping: f64) -> Option<Array2<f64>> {
    let n = block.size;
    let scaled: Vec<f64> = block.values.iter().map(|&value| f64::from(value) / mean).collect();
    let mut lower = Array2::from_shape_vec((n, n), scaled).ok()?;
    lower.diag_mut().mapv_inplace(|value| value + damping);
    factor(&mut lower)?;
    Some(lower)
}

/// Puts the lower Cholesky factor in the place of a symmetric matrix; `None` where that is not positive definite.
fn factor(matrix: &mut Array2<f64>) -> Option<()> {
    let n = matrix.nrows();
    let values = matrix.as_slice_mut()?;
    for i in 0..n {
        let (above, own) = values.split_at_mut(i * n);
        let row = &mut own[..n];
        for j in 0..i {
            let other = &above[j * n..j * n + j + 1];
            let dot: f64 = row[..j].iter().zip(other).map(|(a, b)| a * b).sum();
            row[j] = (row[j] - dot) / other[j];
        }
        let pivot = row[i] - row[..i].iter().map(|value| value * value).sum::<f64>();
        if pivot.is_nan() || pivot <= 0.0 {
            return None;
        }
        row[i] = pivot.sqrt();
        row[i + 1..].fill(0.0);
    }
    Some(())
}

/// Solves `x lower = row` for every row, in place.
fn solve(mut rows: ArrayViewMut2<f64>, lower: ArrayView2<f64>) {
    for mut row in rows.rows_mut() {
        for j in (0..row.len()).rev() {
            row[j] /= lower[[j, j]];
            let value = row[j];
            row.slice_mut(s![..j]).scaled_add(-value, &lower.slice(s![j, ..j]));
        }
    }
}
