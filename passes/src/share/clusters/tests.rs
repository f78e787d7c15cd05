//! Properties of the clustering, held against plain code and exhaustive search.

use onnx_dcomp_forms::{DType, Values};
use proptest::prelude::*;

use super::*;

const INITS: [Init; 4] = [Init::Linear, Init::Density, Init::Companded, Init::Random];

fn method(init: Init, lambda: f64) -> Method {
    Method { init, seed: 1, lambda, max_iterations: 500 }
}

fn atoms(values: &[f32]) -> Atoms {
    Atoms::new(&Values::from_f32(DType::F32, values))
}

/// The least squared error of `count` intervals over the sorted values, by dynamic programming.
fn optimal_distortion(values: &[f32], count: usize) -> f64 {
    let mut sorted: Vec<f64> = values.iter().map(|&value| f64::from(value)).collect();
    sorted.sort_by(f64::total_cmp);
    let error = |start: usize, end: usize| -> f64 {
        let part = &sorted[start..end];
        let mean = part.iter().sum::<f64>() / part.len() as f64;
        part.iter().map(|value| (value - mean).powi(2)).sum()
    };
    let mut best: Vec<f64> = (0..=sorted.len()).map(|end| if end == 0 { 0.0 } else { f64::INFINITY }).collect();
    for _ in 0..count {
        best = (0..=sorted.len())
            .map(|end| (0..end).map(|start| best[start] + error(start, end)).fold(best[end], f64::min))
            .collect();
    }
    best[sorted.len()]
}

/// Distortion and order-0 bits of what the elements are given, counted one by one.
fn recount(values: &[f32], clusters: &Clusters) -> (f64, f64) {
    let mut counts = vec![0f64; clusters.centroids.len()];
    let mut distortion = 0.0;
    for &value in values {
        let code = clusters.code_of(value);
        counts[code] += 1.0;
        distortion += (f64::from(value) - clusters.centroids[code]).powi(2);
    }
    let bits = counts.iter().filter(|&&n| n > 0.0).map(|n| n * (values.len() as f64 / n).log2()).sum();
    (distortion, bits)
}

fn near(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-6 * (1.0 + a.abs().max(b.abs()))
}

/// Values as weights have them: bell-shaped, with repeated values and zeros.
fn weights() -> impl Strategy<Value = Vec<f32>> {
    let element = prop_oneof![
        4 => (-1.0f32..1.0, -1.0f32..1.0, -1.0f32..1.0).prop_map(|(a, b, c)| a + b + c),
        1 => (-4i8..4).prop_map(|v| f32::from(v) * 0.25),
        1 => Just(0.0f32),
    ];
    prop::collection::vec(element, 1..200)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn the_cost_never_rises(values in weights(), count in 2usize..40, lambda in prop_oneof![Just(0.0), 0.0001f64..0.3]) {
        for init in INITS {
            let clusters = Clusters::find(&atoms(&values), count, &method(init, lambda));
            for pair in clusters.history.windows(2) {
                prop_assert!(pair[1] <= pair[0] * (1.0 + 1e-9) + 1e-9, "{init:?}: {:?}", clusters.history);
            }
            let last = clusters.history.last().copied().unwrap_or(0.0);
            prop_assert!(clusters.cost(lambda) <= last * (1.0 + 1e-9) + 1e-9);
        }
    }

    #[test]
    fn what_is_claimed_is_what_the_elements_get(values in weights(), count in 2usize..40, lambda in prop_oneof![Just(0.0), 0.0001f64..0.3]) {
        for init in INITS {
            let clusters = Clusters::find(&atoms(&values), count, &method(init, lambda));
            let (distortion, bits) = recount(&values, &clusters);
            prop_assert!(near(clusters.distortion, distortion), "{} {distortion}", clusters.distortion);
            prop_assert!(near(clusters.bits, bits), "{} {bits}", clusters.bits);
            prop_assert!(clusters.centroids.len() <= count);
            prop_assert!(clusters.centroids.is_sorted() && clusters.thresholds.is_sorted());
            prop_assert_eq!(clusters.thresholds.len() + 1, clusters.centroids.len());
        }
    }

    #[test]
    fn every_centroid_is_used_and_every_zero_is_exact(values in weights(), count in 2usize..40, lambda in 0.0f64..0.5) {
        let clusters = Clusters::find(&atoms(&values), count, &method(Init::Linear, lambda));
        let mut used = vec![false; clusters.centroids.len()];
        for &value in &values {
            let code = clusters.code_of(value);
            used[code] = true;
            if value == 0.0 {
                prop_assert_eq!((Some(code), clusters.centroids[code]), (clusters.zero, 0.0));
            }
        }
        prop_assert!(used.iter().all(|&used| used));
        prop_assert_eq!(clusters.zero.is_some(), values.contains(&0.0));
    }

    #[test]
    fn plain_clusters_send_each_element_to_the_nearest(values in weights(), count in 2usize..20) {
        let clusters = Clusters::find(&atoms(&values), count, &method(Init::Density, 0.0));
        for &value in &values {
            let distance = |centroid: f64| (centroid - f64::from(value)).abs();
            let nearest = clusters.centroids.iter().map(|&centroid| distance(centroid)).fold(f64::INFINITY, f64::min);
            prop_assert!(distance(clusters.centroids[clusters.code_of(value)]) <= nearest + 1e-9);
        }
    }

    #[test]
    fn bits_that_cost_something_make_the_whole_cheaper(values in weights(), count in 2usize..40, lambda in 0.0001f64..0.5) {
        for init in INITS {
            let plain = Clusters::find(&atoms(&values), count, &method(init, 0.0));
            let constrained = Clusters::find(&atoms(&values), count, &method(init, lambda));
            prop_assert!(constrained.cost(lambda) <= plain.cost(lambda) * (1.0 + 1e-9) + 1e-9);
        }
    }

    #[test]
    fn no_start_beats_the_optimum_and_the_best_comes_close(
        values in prop::collection::vec(-1.0f32..1.0, 8..40).prop_filter("no zeros", |v| !v.contains(&0.0)),
        count in 2usize..6,
    ) {
        let optimum = optimal_distortion(&values, count);
        let found = INITS.map(|init| Clusters::find(&atoms(&values), count, &method(init, 0.0)).distortion);
        prop_assert!(found.iter().all(|&distortion| distortion >= optimum - 1e-9), "{found:?} {optimum}");
        let best = found.into_iter().fold(f64::INFINITY, f64::min);
        let one = optimal_distortion(&values, 1);
        // Lloyd's iteration stops in local optima; of what one cluster costs, it never gives much away.
        prop_assert!(best - optimum <= 0.15 * one, "{best} {optimum} {one}");
    }
}

#[test]
fn as_many_clusters_as_values_lose_nothing() {
    let values = [0.3, -0.1, 0.0, 7.0, 0.3, -0.0, 1e-20];
    let clusters = Clusters::find(&atoms(&values), 5, &method(Init::Random, 0.0));
    for value in values {
        assert_eq!(clusters.centroids[clusters.code_of(value)] as f32, value);
    }
}

#[test]
fn one_cluster_is_the_mean_and_weights_of_zeros_have_one_centroid() {
    let clusters = Clusters::find(&atoms(&[1.0, 2.0, 6.0]), 1, &method(Init::Linear, 0.0));
    assert_eq!(clusters.centroids, [3.0]);
    let zeros = Clusters::find(&atoms(&[0.0; 9]), 8, &method(Init::Density, 0.1));
    assert_eq!((zeros.centroids.as_slice(), zeros.zero, zeros.bits), ([0.0].as_slice(), Some(0), 0.0));
}

#[test]
fn a_high_price_of_bits_leaves_few_clusters() {
    let values: Vec<f32> = (1..500).map(|i| ((i * 37 % 499) as f32 / 250.0 - 1.0).powi(3)).collect();
    let count = |lambda| Clusters::find(&atoms(&values), 64, &method(Init::Linear, lambda)).centroids.len();
    assert!(count(0.0) > 30 && count(0.01) < count(1e-5) && count(10.0) == 1, "{} {}", count(1e-5), count(0.01));
}

#[test]
fn the_seed_decides_where_random_centroids_start() {
    let values: Vec<f32> = (1..2000).map(|i| (i as f32).sin()).collect();
    let find =
        |seed| Clusters::find(&atoms(&values), 16, &Method { seed, max_iterations: 1, ..method(Init::Random, 0.0) });
    assert_eq!(find(5), find(5));
    assert_ne!(find(5).centroids, find(6).centroids);
}

#[test]
fn no_cluster_goes_to_waste_while_there_are_values_left() {
    // A gap in the middle, as pruning leaves it, where linear starts find nothing.
    let values: Vec<f32> = (1..3000).map(|i| (i as f32 * 0.7).sin()).filter(|v| v.abs() > 0.6).collect();
    for init in INITS {
        let clusters = Clusters::find(&atoms(&values), 16, &method(init, 0.0));
        assert_eq!(clusters.centroids.len(), 16, "{init:?}");
    }
}
