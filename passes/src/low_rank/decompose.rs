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
mod tests {
    use onnx_dcomp_ir::{MomentBlock, SecondMoment};
    use proptest::prelude::*;

    use super::*;

    fn noise(rows: usize, columns: usize, seed: u64) -> Array2<f64> {
        let mut random = Pcg64::seed_from_u64(seed);
        Array2::from_shape_simple_fn((rows, columns), || random.random::<f64>() * 2.0 - 1.0)
    }

    /// The second moment of inputs whose neighbours are alike, in blocks.
    fn correlated(sizes: &[usize], seed: u64) -> SecondMoment {
        let block = |(number, &size): (usize, &usize)| {
            let mut inputs = noise(4 * size, size, seed + number as u64);
            for column in 1..size {
                let before = inputs.column(column - 1).to_owned();
                inputs.column_mut(column).zip_mut_with(&before, |own, before| *own = 0.2 * *own + 0.9 * before);
            }
            MomentBlock { size, values: inputs.t().dot(&inputs).iter().map(|&value| value as f32).collect() }
        };
        SecondMoment { blocks: sizes.iter().enumerate().map(block).collect(), samples: 1 }
    }

    /// What a decomposition costs by the definition: `tr(E H E^T)`, with `H = L L^T` rebuilt column by column.
    fn cost_by_definition(target: &Array2<f64>, state: &Decomposition<'_>, metric: &Metric) -> f64 {
        let n = metric.columns();
        let mut lower = Array2::<f64>::zeros((n, n));
        for column in 0..n {
            let (start, direction) = metric.direction(column);
            direction.iter().enumerate().for_each(|(at, &value)| lower[[column, start + at]] = value);
        }
        let error = target - &state.sum();
        let moment = lower.dot(&lower.t());
        (error.dot(&moment) * &error).sum()
    }

    #[test]
    fn a_planted_low_rank_and_sparse_matrix_is_found_again() {
        let low_rank = noise(60, 4, 1).dot(&noise(4, 90, 2));
        let mut target = low_rank.clone();
        let mut random = Pcg64::seed_from_u64(3);
        let mut planted = std::collections::BTreeSet::new();
        while planted.len() < 100 {
            planted.insert((random.random_range(0..60usize), random.random_range(0..90usize)));
        }
        for &place in &planted {
            target[place] += if random.random::<bool>() { 5.0 } else { -5.0 };
        }
        for metric in [Metric::identity(90), Metric::new(&correlated(&[40, 50], 4), 0.1).unwrap()] {
            let mut state = Decomposition::new(target.clone(), &metric, planted.len());
            let before = state.error();
            state.grow(2);
            state.settle(1e-3, 10);
            state.grow(2);
            state.settle(1e-12, 1000);
            assert!(state.error() < 1e-10 * before, "{} of {before}", state.error());
            let difference = state.left().dot(&state.right()) - &low_rank;
            assert!(difference.iter().all(|value| value.abs() < 1e-3));
            let found: Vec<(usize, usize)> =
                state.sparse().indexed_iter().filter(|(_, value)| **value != 0.0).map(|(place, _)| place).collect();
            assert_eq!(found, planted.iter().copied().collect::<Vec<_>>());
        }
    }

    #[test]
    fn at_full_rank_nothing_is_lost_and_a_matrix_of_lower_rank_needs_no_more() {
        let metric = Metric::new(&correlated(&[12, 8], 1), 0.02).unwrap();
        let mut full = Decomposition::new(noise(9, 20, 2), &metric, 0);
        full.grow(100);
        full.settle(1e-9, 50);
        assert_eq!(full.rank(), 9);
        assert!((full.sum() - noise(9, 20, 2)).iter().all(|value| value.abs() < 1e-9));
        let mut flat = Decomposition::new(noise(9, 2, 3).dot(&noise(2, 20, 4)), &metric, 0);
        flat.grow(5);
        flat.settle(1e-9, 50);
        assert_eq!(flat.rank(), 2);
    }

    #[test]
    fn rank_alone_comes_to_what_singular_values_tell() {
        // Singular values 1, 1/2, 1/4 ...: the best of rank 3 leaves the squares of the others.
        let basis = |size, seed| orthonormal_rows(noise(size, size, seed));
        let scales = Array2::from_diag(&ndarray::Array1::from_iter((0..10).map(|at| 0.5f64.powi(at))));
        let target = basis(10, 1).dot(&scales).dot(&basis(10, 2));
        let metric = Metric::identity(10);
        let mut state = Decomposition::new(target, &metric, 0);
        (0..3).for_each(|_| {
            state.grow(1);
            state.settle(1e-9, 50);
        });
        let best: f64 = (3..10).map(|at| 0.25f64.powi(at)).sum();
        assert!(state.error() < best * 1.0001 && state.error() > best * 0.9999, "{} for {best}", state.error());
    }

    #[test]
    fn fitting_the_feature_map_beats_fitting_the_kernel_on_inputs_that_are_correlated() {
        let target = noise(30, 40, 1);
        let (map, plain) = (Metric::new(&correlated(&[40], 2), 1e-3).unwrap(), Metric::identity(40));
        let cost = |fitted_to: &Metric| {
            let mut state = Decomposition::new(target.clone(), fitted_to, 60);
            state.grow(6);
            state.settle(1e-6, 200);
            cost_by_definition(&target, &state, &map)
        };
        assert!(cost(&map) < 0.5 * cost(&plain), "{} and {}", cost(&map), cost(&plain));
    }

    #[test]
    fn the_number_of_threads_changes_nothing() {
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let metric = Metric::new(&correlated(&[30, 20], 5), 0.02).unwrap();
                let mut state = Decomposition::new(noise(40, 50, 6), &metric, 80);
                state.grow(7);
                state.settle(1e-6, 30);
                (state.left().clone(), state.right(), state.sparse())
            })
        };
        assert_eq!(run(1), run(2));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn no_update_makes_it_worse_and_the_error_is_what_it_says(
            (rows, first, second, seed) in (2usize..24, 1usize..16, 1usize..16, any::<u64>()),
            nonzeros in 0usize..40,
            knows_inputs: bool,
        ) {
            let columns = first + second;
            let target = noise(rows, columns, seed);
            let known = Metric::new(&correlated(&[first, second], seed.wrapping_add(1)), 0.02).unwrap();
            let metric = if knows_inputs { known } else { Metric::identity(columns) };
            let mut state = Decomposition::new(target.clone(), &metric, nonzeros);
            let energy = state.error();
            let mut before = energy;
            for step in 0..12 {
                if step % 3 == 0 {
                    state.grow(2);
                }
                let error = state.update();
                prop_assert!(error <= before + 1e-9 * energy, "update {step}: {error} after {before}");
                let defined = cost_by_definition(&target, &state, &metric);
                prop_assert!((error - defined).abs() <= 1e-6 * energy, "{error} is {defined}");
                before = error;
            }
            prop_assert!(state.rank() <= 8.min(rows).min(columns));
            prop_assert!(state.sparse_values().len() <= nonzeros);
        }
    }
}
