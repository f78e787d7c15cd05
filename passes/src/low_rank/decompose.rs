//! Low rank plus sparse, by greedy bilateral updates.
//!
//! Minimises `|(W - U V - S) L|^2` over `U` and `V` of a given rank and `S` of a given number of elements, `L` being
//! the factor of the layer's [metric](super::metric). `U` and `V` are updated in turn by least squares, which takes a
//! product and an orthonormalisation each, and no singular values; the rank grows in steps, by directions sketched from
//! what is left. `S` takes the elements of the rest that cost most, and is then fitted to the metric column by column.
//! Whatever an update would make worse is not taken: the error never rises.
//!
//! Sources: Zhou and Tao, "Greedy bilateral sketch, completion and smoothing", 2013 (GreBsmo); Yu, Liu, Wang and Tao,
//! "On compressing deep models by low rank and sparse decomposition", 2017, which fits feature maps.
//! Cost of an update: six times rows times columns times rank; memory: some five copies of the matrix in `f64`.

use ndarray::{Array2, ArrayView1, Axis, concatenate, s};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;
use rayon::prelude::*;

use super::metric::Metric;

/// Times that the values of `S` are fitted column by column in an update.
const SWEEPS: usize = 2;

/// What is left of a row by orthogonalisation, relative to its length, where it is only rounding.
const NEGLIGIBLE: f64 = 1e-10;

/// A matrix, taken apart as far as the last update went.
#[derive(Debug, Clone)]
pub struct Decomposition<'m> {
    metric: &'m Metric,
    diagonal: Vec<f64>,
    target: Array2<f64>,
    whitened: Array2<f64>,
    /// Orthonormal columns.
    left: Array2<f64>,
    /// Whitened rows.
    right: Array2<f64>,
    sparse: Sparse,
    nonzeros: usize,
    error: f64,
}

/// Elements of a matrix, row after row.
#[derive(Debug, Clone, Default)]
struct Sparse {
    /// For each row the columns, in order, and the values there.
    rows: Vec<Vec<(usize, f64)>>,
}

impl<'m> Decomposition<'m> {
    /// Nothing taken out of `target` yet, which has a row for each output; `S` may have `nonzeros` elements.
    ///
    /// `target` may be another matrix than the weight: what the weight should be, given inputs that have changed.
    ///
    /// # Panics
    /// Where `metric` is of another number of columns.
    pub fn new(target: Array2<f64>, metric: &'m Metric, nonzeros: usize) -> Self {
        assert_eq!(target.ncols(), metric.columns(), "the metric is one for the rows of the target");
        let whitened = metric.whiten(&target);
        Self {
            metric,
            diagonal: metric.diagonal(),
            error: squared(&whitened),
            left: Array2::zeros((target.nrows(), 0)),
            right: Array2::zeros((0, target.ncols())),
            sparse: Sparse { rows: vec![Vec::new(); target.nrows()] },
            nonzeros: nonzeros.min(target.len()),
            target,
            whitened,
        }
    }

    /// Columns of `U`.
    pub fn rank(&self) -> usize {
        self.left.ncols()
    }

    /// `tr(E H E^T)` of what is left, in squared units of the target.
    pub fn error(&self) -> f64 {
        self.error
    }

    /// `U`, of orthonormal columns.
    pub fn left(&self) -> &Array2<f64> {
        &self.left
    }

    /// `V`.
    pub fn right(&self) -> Array2<f64> {
        self.metric.unwhiten(&self.right)
    }

    /// `V L`, whose squares weigh what an error in `U` costs.
    pub fn whitened_right(&self) -> &Array2<f64> {
        &self.right
    }

    /// `S`.
    pub fn sparse(&self) -> Array2<f64> {
        let mut dense = Array2::zeros(self.target.raw_dim());
        for (row, elements) in self.sparse.rows.iter().enumerate() {
            elements.iter().for_each(|&(column, value)| dense[[row, column]] = value);
        }
        dense
    }

    /// The values of `S`.
    pub fn sparse_values(&self) -> Vec<f64> {
        self.sparse.rows.iter().flatten().map(|&(_, value)| value).filter(|&value| value != 0.0).collect()
    }

    /// `U V + S`.
    pub fn sum(&self) -> Array2<f64> {
        self.left.dot(&self.right()) + self.sparse()
    }

    /// Makes room for `ranks` more, in directions sketched from what is left.
    pub fn grow(&mut self, ranks: usize) {
        let most = self.target.nrows().min(self.target.ncols());
        let ranks = ranks.min(most.saturating_sub(self.rank()));
        // One seed for each rank, so that the result depends on nothing but the matrix and the steps taken.
        let mut random = Pcg64::seed_from_u64(self.rank() as u64);
        let signs = Array2::from_shape_simple_fn((ranks, self.target.nrows()), || {
            if random.random::<bool>() { 1.0 } else { -1.0 }
        });
        let rest = self.without_sparse() - self.left.dot(&self.right);
        let sketch = signs.dot(&rest);
        if let Ok(grown) = concatenate(Axis(0), &[self.right.view(), sketch.view()]) {
            self.right = grown;
        }
    }

    /// Updates `U`, `V` and `S` once; returns the error.
    pub fn update(&mut self) -> f64 {
        let rest = self.without_sparse();
        // The best U for this V spans what V's rows meet in the rest; the best V for that span is a projection.
        let spanned = orthonormal_rows(self.right.dot(&rest.t()));
        self.right = spanned.dot(&rest);
        self.left = spanned.reversed_axes().as_standard_layout().into_owned();
        if self.nonzeros == 0 {
            self.error = (squared(&rest) - squared(&self.right)).max(0.0);
        } else {
            self.update_sparse();
        }
        self.error
    }

    /// Updates until an update takes off less than `tolerance` of the error, or `most` times.
    pub fn settle(&mut self, tolerance: f64, most: usize) {
        for _ in 0..most {
            let before = self.error;
            if self.update() >= before * (1.0 - tolerance) {
                return;
            }
        }
    }

    /// `(W - S) L`.
    fn without_sparse(&self) -> Array2<f64> {
        let mut rest = self.whitened.clone();
        rest.rows_mut().into_iter().zip(&self.sparse.rows).for_each(|(mut row, elements)| {
            for &(column, value) in elements {
                let (start, direction) = self.metric.direction(column);
                row.slice_mut(s![start..start + direction.len()]).scaled_add(-value, &ArrayView1::from(direction));
            }
        });
        rest
    }

    fn update_sparse(&mut self) {
        let product = self.left.dot(&self.right);
        let rest = &self.whitened - &product;
        let plain = if self.metric.is_identity() { rest.clone() } else { &self.target - &self.left.dot(&self.right()) };
        let (moved, moved_error) = self.fitted(&self.costliest(&plain), &rest);
        if self.metric.is_identity() {
            (self.sparse, self.error) = (moved, moved_error);
            return;
        }
        // The costliest elements one by one need not be the best ones together.
        let (kept, kept_error) = self.fitted(&self.sparse, &rest);
        (self.sparse, self.error) = if moved_error < kept_error { (moved, moved_error) } else { (kept, kept_error) };
    }

    /// The elements of `rest` that would cost most alone, as many as are allowed.
    fn costliest(&self, rest: &Array2<f64>) -> Sparse {
        let columns = rest.ncols();
        let cost = |index: usize| rest[[index / columns, index % columns]].powi(2) * self.diagonal[index % columns];
        let mut order: Vec<(f64, usize)> = (0..rest.len()).map(|index| (cost(index), index)).collect();
        if self.nonzeros < order.len() {
            order.select_nth_unstable_by(self.nonzeros, |a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
            order.truncate(self.nonzeros);
        }
        let mut chosen: Vec<usize> = order.into_iter().map(|(_, index)| index).collect();
        chosen.sort_unstable();
        let mut rows = vec![Vec::new(); rest.nrows()];
        for index in chosen {
            let (row, column) = (index / columns, index % columns);
            rows[row].push((column, rest[[row, column]]));
        }
        Sparse { rows }
    }

    /// The elements of `start` with values fitted to the whitened `rest`, and the error that stays.
    fn fitted(&self, start: &Sparse, rest: &Array2<f64>) -> (Sparse, f64) {
        let rows: Vec<_> = rest.rows().into_iter().zip(&start.rows).collect();
        let fitted = rows.into_par_iter().map(|(row, elements)| {
            let mut error = row.to_vec();
            let mut elements = elements.clone();
            for &(column, value) in &elements {
                let (start, direction) = self.metric.direction(column);
                error[start..].iter_mut().zip(direction).for_each(|(error, &along)| *error -= value * along);
            }
            for _ in 0..SWEEPS {
                for (column, value) in &mut elements {
                    let (start, direction) = self.metric.direction(*column);
                    let along: f64 = error[start..].iter().zip(direction).map(|(error, along)| error * along).sum();
                    let step = along / self.diagonal[*column];
                    *value += step;
                    error[start..].iter_mut().zip(direction).for_each(|(error, &along)| *error -= step * along);
                }
            }
            let squared: f64 = error.iter().map(|value| value * value).sum();
            (elements, squared)
        });
        let (rows, errors): (Vec<_>, Vec<f64>) = fitted.unzip();
        (Sparse { rows }, errors.iter().sum())
    }
}

fn squared(matrix: &Array2<f64>) -> f64 {
    matrix.iter().map(|value| value * value).sum()
}

/// An orthonormal basis of what the rows of `rows` span, by Gram and Schmidt's method, twice for each row. Rows that
/// depend on those before them are left out.
fn orthonormal_rows(mut rows: Array2<f64>) -> Array2<f64> {
    let mut kept = 0;
    for at in 0..rows.nrows() {
        let (mut basis, mut left) = rows.view_mut().split_at(Axis(0), at);
        let mut row = left.row_mut(0).to_owned();
        let length = row.dot(&row).sqrt();
        for _ in 0..2 {
            for other in basis.slice(s![..kept, ..]).rows() {
                let along = other.dot(&row);
                row.scaled_add(-along, &other);
            }
        }
        let rest = row.dot(&row).sqrt();
        if rest > NEGLIGIBLE * length {
            row /= rest;
            let mut place = if kept < at { basis.row_mut(kept) } else { left.row_mut(0) };
            place.assign(&row);
            kept += 1;
        }
    }
    rows.slice_move(s![..kept, ..])
}

#[cfg(test)]
mod tests;
