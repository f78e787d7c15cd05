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
    SecondMoment { blocks: sizes.iter().enumerate().map(block).collect(), mean: Vec::new(), samples: 1 }
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
