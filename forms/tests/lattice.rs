//! Dithered lattices, from outside: nearest points, and errors that say nothing of the values.

use onnx_dcomp_forms::{DType, Grid, GridKind, Lattice, Steps, lattice};

/// Numbers in `-1.0..1.0` that never change.
fn numbers(len: usize, seed: u64) -> Vec<f64> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

fn is_point(lattice: Lattice, point: &[f64]) -> bool {
    let all = |offset: f64| point.iter().all(|x| (x - offset).fract() == 0.0);
    let has_even_sum = point.iter().sum::<f64>() % 2.0 == 0.0;
    match lattice {
        Lattice::Z => all(0.0),
        Lattice::D4 => all(0.0) && has_even_sum,
        Lattice::E8 => (all(0.0) || all(0.5)) && has_even_sum,
    }
}

fn distance(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| (x - y).powi(2)).sum()
}

/// The shortest vectors of the lattice: a point that is nearer than all its neighbours by these is the nearest.
fn neighbours(lattice: Lattice) -> Vec<Vec<f64>> {
    let n = lattice.dimensions();
    let halves = (0..5usize.pow(n as u32)).map(|number| -> Vec<f64> {
        (0..n as u32).map(|place| (number / 5usize.pow(place) % 5) as f64 / 2.0 - 1.0).collect()
    });
    let norm = if lattice == Lattice::Z { 1.0 } else { 2.0 };
    halves.filter(|vector| distance(vector, &vec![0.0; n]) == norm && is_point(lattice, vector)).collect()
}

#[test]
fn the_nearest_point_is_a_point_and_nearer_than_its_neighbours() {
    for (lattice, kissing) in Lattice::ALL.into_iter().zip([2, 24, 240]) {
        let neighbours = neighbours(lattice);
        assert_eq!(neighbours.len(), kissing, "{lattice:?}");
        for place in numbers(lattice.dimensions() * 2000, 3).chunks(lattice.dimensions()) {
            let place: Vec<f64> = place.iter().map(|x| 9.0 * x).collect();
            let mut point = place.clone();
            lattice.to_nearest(&mut point);
            assert!(is_point(lattice, &point), "{lattice:?}: {point:?}");
            for neighbour in &neighbours {
                let other: Vec<f64> = point.iter().zip(neighbour).map(|(x, y)| x + y).collect();
                assert!(distance(&place, &point) <= distance(&place, &other), "{lattice:?}: {place:?} to {point:?}");
            }
        }
    }
}

/// `values` through the lattice and back, in steps of `step`; the levels too.
fn there_and_back(values: &[f32], step: f32, lattice: Lattice, seed: u64) -> (Vec<i16>, Vec<f32>) {
    let levels = lattice::quantize(values.iter().copied(), step, lattice, seed);
    let kind = GridKind::Lattice { lattice, seed };
    let grid = Grid::new(levels.clone(), Steps::PerTensor(step), kind, DType::F32).unwrap();
    let mut dense = Vec::new();
    grid.for_each_value(|value| dense.push(value));
    (levels, dense)
}

#[test]
fn errors_are_uniform_in_the_cell_whatever_the_values() {
    const LEN: usize = 200_000;
    let wide: Vec<f32> = numbers(LEN, 1).iter().map(|x| (20.0 * x.powi(3)) as f32).collect();
    let narrow: Vec<f32> = wide.iter().map(|x| x / 1000.0).collect();
    for lattice in Lattice::ALL {
        for (what, step, values) in [
            ("wide", 0.5, &wide),
            ("narrow", 0.5, &narrow),
            ("constant", 2.0, &vec![0.3f32; LEN]),
            ("zero", 1.0, &vec![0.0; LEN]),
        ] {
            let (_, dense) = there_and_back(values, step, lattice, 42);
            let errors: Vec<f64> = dense.iter().zip(values).map(|(d, v)| f64::from((d - v) / step)).collect();
            let mean = errors.iter().sum::<f64>() / LEN as f64;
            assert!(mean.abs() < 0.003, "{lattice:?}, {what}: mean {mean}");
            let second = errors.iter().map(|e| e * e).sum::<f64>() / LEN as f64;
            let expected = lattice.second_moment();
            assert!((second / expected - 1.0).abs() < 0.01, "{lattice:?}, {what}: {second}, expected {expected}");
            // Nothing of an error lies outside the cell: the lattice point nearest to it is the origin.
            for error in errors.chunks_exact(lattice.dimensions()) {
                let mut point: Vec<f64> = error.iter().map(|e| 0.999 * e).collect();
                lattice.to_nearest(&mut point);
                assert!(point.iter().all(|x| *x == 0.0), "{lattice:?}, {what}: {error:?}");
            }
            // Each coordinate's error is the same whether its value is small or large.
            let magnitude = |at: &usize| values[*at].abs();
            let median = {
                let mut sorted: Vec<f32> = values.iter().map(|v| v.abs()).collect();
                sorted.sort_by(f32::total_cmp);
                sorted[LEN / 2]
            };
            let (small, large): (Vec<usize>, Vec<usize>) = (0..LEN).partition(|at| magnitude(at) < median);
            for half in [small, large].iter().filter(|half| half.len() > 1000) {
                let second = half.iter().map(|&at| errors[at].powi(2)).sum::<f64>() / half.len() as f64;
                assert!((second / expected - 1.0).abs() < 0.015, "{lattice:?}, {what}: {second} in one half");
            }
            let product = errors.iter().zip(values).map(|(e, v)| e * f64::from(*v)).sum::<f64>();
            let energy = values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>();
            let correlation = product / (energy * second * LEN as f64).sqrt().max(f64::MIN_POSITIVE);
            assert!(correlation.abs() < 0.01, "{lattice:?}, {what}: correlation {correlation}");
        }
    }
}

#[test]
fn a_seed_gives_its_levels_and_another_one_gives_others() {
    let values: Vec<f32> = numbers(1003, 7).iter().map(|x| *x as f32).collect();
    for lattice in Lattice::ALL {
        let of_seed = |seed| there_and_back(&values, 0.1, lattice, seed);
        assert_eq!(of_seed(5), of_seed(5));
        assert_ne!(of_seed(5).0, of_seed(6).0, "{lattice:?}");
    }
}

#[test]
fn every_sequence_of_levels_comes_back_from_its_values() {
    for lattice in Lattice::ALL {
        // No whole number of vectors, and levels up to the limits of their type.
        let levels: Vec<i16> = numbers(1003, 9).iter().map(|x| (x.powi(5) * 32_767.0) as i16).collect();
        let mut walk = lattice::Walk::new(lattice, 11);
        let mut again = walk.clone();
        for &level in &levels {
            let coordinate = walk.dither() + walk.multiple(level);
            assert_eq!(again.level(coordinate), level, "{lattice:?}");
        }
    }
}

#[test]
fn levels_are_near_zero_where_values_are() {
    for lattice in Lattice::ALL {
        let (levels, _) = there_and_back(&[0.0; 4000], 1.0, lattice, 3);
        let largest = levels.iter().map(|level| level.unsigned_abs()).max().unwrap();
        // A cell's corner, its dither and half a pitch: further off nothing can be.
        assert!(largest <= if lattice == Lattice::E8 { 2 } else { 1 }, "{lattice:?}: {largest}");
    }
}
