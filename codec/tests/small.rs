//! The coder `small`, from outside: what goes in comes out, it packs well, and no bytes harm it.

use std::collections::HashMap;

use onnx_dcomp_codec::small::{Decoder, Encoder, estimate_bits_levels};
use onnx_dcomp_codec::{DecodeError, Layout};
use onnx_dcomp_forms::{DType, GridKind, Lattice, Mask, Values};
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg32;

fn shapes() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![
        (0usize..300).prop_map(|len| vec![len]),
        (1usize..12, 1usize..40).prop_map(|(rows, columns)| vec![rows, columns]),
        (1usize..6, 1usize..5, 1usize..6, 1usize..6).prop_map(|(o, i, h, w)| vec![o, i, h, w]),
    ]
}

fn element_count(shape: &[usize]) -> usize {
    shape.iter().product()
}

fn kinds() -> impl Strategy<Value = GridKind> {
    let lattice = (prop::sample::select(Lattice::ALL.to_vec()), any::<u64>());
    prop_oneof![
        Just(GridKind::Uniform),
        Just(GridKind::Trellis),
        lattice.prop_map(|(lattice, seed)| GridKind::Lattice { lattice, seed }),
    ]
}

fn levels_bytes(levels: &[i16], layout: &Layout, kind: GridKind) -> Vec<u8> {
    let mut encoder = Encoder::new();
    encoder.levels(levels, layout, kind, 0);
    encoder.finish()
}

fn order0_bits(levels: &[i16]) -> f64 {
    let mut counts = HashMap::<i16, f64>::new();
    levels.iter().for_each(|&level| *counts.entry(level).or_default() += 1.0);
    counts.values().map(|count| count * (levels.len() as f64 / count).log2()).sum()
}

/// Levels of independent Laplacian values of mean magnitude `scale(index)`.
fn laplacian(len: usize, seed: u64, scale: impl Fn(usize) -> f64) -> Vec<i16> {
    let mut random = Pcg32::seed_from_u64(seed);
    (0..len)
        .map(|index| {
            let uniform: f64 = random.random_range(-0.5..0.5);
            (-uniform.signum() * scale(index) * (1.0 - 2.0 * uniform.abs()).max(1e-12).ln()).round() as i16
        })
        .collect()
}

/// Levels of independent Gaussian values.
fn gaussian(len: usize, seed: u64, deviation: f64) -> Vec<i16> {
    let mut random = Pcg32::seed_from_u64(seed);
    let mut sum_of_twelve = || (0..12).map(|_| random.random_range(-0.5..0.5)).sum::<f64>();
    (0..len).map(|_| (deviation * sum_of_twelve()).round() as i16).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn everything_comes_back(
        shape in shapes(),
        spread in 0u32..16,
        kind in kinds(),
        first in 0usize..20,
        dtype in prop::sample::select(DType::ALL.to_vec()),
        centroid_count in 1usize..700,
        seed in any::<u64>(),
    ) {
        let (layout, len) = (Layout::new(&shape, None), element_count(&shape));
        let mut random = Pcg32::seed_from_u64(seed);
        let levels: Vec<i16> = (0..len).map(|_| random.random::<i16>() >> spread).collect();
        let bytes: Vec<u8> = (0..len * dtype.element_bytes()).map(|_| random.random()).collect();
        let values = Values::new(dtype, bytes).unwrap();
        let mask = Mask::from_fn(len, |_| random.random_range(0..5) == 0);
        let mut sorted: Vec<f32> = (0..centroid_count).map(|_| random.random_range(-1.0..1.0)).collect();
        sorted.sort_by(f32::total_cmp);
        if spread.is_multiple_of(2) {
            sorted[0] = 0.0;
        }
        let centroids = Values::from_f32(dtype, &sorted);
        let codes: Vec<u16> = (0..len).map(|_| random.random_range(0..centroid_count) as u16).collect();

        let mut encoder = Encoder::new();
        encoder.levels(&levels, &layout, kind, first);
        encoder.floats(&values);
        encoder.mask(&mask, &layout);
        encoder.sorted_floats(&centroids);
        encoder.codes(&codes, &centroids, &layout);
        encoder.sorted_floats(&values);
        encoder.levels(&levels, &layout, GridKind::Trellis, 0);
        let stream = encoder.finish();

        let mut decoder = Decoder::new(&stream);
        prop_assert_eq!(decoder.levels(len, &layout, kind, first).unwrap(), &levels[..]);
        prop_assert_eq!(&decoder.floats(len, dtype).unwrap(), &values);
        prop_assert_eq!(&decoder.mask(len, &layout).unwrap(), &mask);
        prop_assert_eq!(&decoder.sorted_floats(centroid_count, dtype).unwrap(), &centroids);
        prop_assert_eq!(&decoder.codes(len, &centroids, &layout).unwrap(), &codes);
        prop_assert_eq!(&decoder.sorted_floats(len, dtype).unwrap(), &values);
        prop_assert_eq!(decoder.levels(len, &layout, GridKind::Trellis, 0).unwrap(), &levels[..]);
    }

    #[test]
    fn any_bytes_end_in_elements_or_in_an_error(
        stream in prop::collection::vec(prop_oneof![Just(0u8), Just(255), any::<u8>()], 0..200),
        shape in shapes(),
        kind in kinds(),
        dtype in prop::sample::select(DType::ALL.to_vec()),
        centroid_count in 0usize..600,
    ) {
        let (layout, len) = (Layout::new(&shape, None), element_count(&shape));
        let ascending: Vec<f32> = (0..centroid_count).map(|index| index as f32 - 100.0).collect();
        let centroids = Values::from_f32(dtype, &ascending);
        let codes = Decoder::new(&stream).codes(len, &centroids, &layout);
        if let Ok(codes) = codes {
            prop_assert_eq!(codes.len(), len);
            prop_assert!(codes.iter().all(|&code| usize::from(code) < centroid_count.max(1)));
        }
        let mut decoder = Decoder::new(&stream);
        let results = [
            decoder.levels(len, &layout, GridKind::Trellis, 0).map(|levels| levels.len()),
            decoder.levels(len, &layout, kind, 0).map(|levels| levels.len()),
            decoder.mask(len, &layout).map(|mask| mask.len()),
            decoder.floats(len, dtype).map(|values| values.len()),
            decoder.sorted_floats(len, dtype).map(|values| values.len()),
        ];
        for result in results {
            match result {
                Ok(found) => prop_assert_eq!(found, len),
                Err(error) => {
                    let is_truncated = matches!(error, DecodeError::Truncated { .. });
                    prop_assert!(is_truncated, "{error}");
                }
            }
        }
    }
}

#[test]
fn a_stream_cut_in_half_is_refused() {
    let levels = gaussian(20_000, 1, 3.0);
    let layout = Layout::new(&[100, 200], None);
    let stream = levels_bytes(&levels, &layout, GridKind::Uniform);
    let result = Decoder::new(&stream[..stream.len() / 2]).levels(levels.len(), &layout, GridKind::Uniform, 0);
    assert!(matches!(result, Err(DecodeError::Truncated { .. })), "{result:?}");
}

#[test]
fn nothing_takes_no_bytes() {
    assert_eq!(Encoder::new().finish(), []);
    assert_eq!(levels_bytes(&[], &Layout::new(&[0], None), GridKind::Uniform), []);
}

#[test]
fn independent_levels_cost_what_their_distribution_does() {
    let cases = [
        ("fine Gaussian", gaussian(100_000, 2, 12.0)),
        ("coarse Gaussian", gaussian(100_000, 3, 1.0)),
        ("Laplacian", laplacian(100_000, 4, |_| 2.0)),
        ("sparse Laplacian", laplacian(100_000, 5, |_| 0.2)),
    ];
    for (name, levels) in cases {
        for shape in [[250, 400, 1, 1], [100, 40, 5, 5]] {
            let bits = 8.0 * levels_bytes(&levels, &Layout::new(&shape, None), GridKind::Uniform).len() as f64;
            let ratio = bits / order0_bits(&levels);
            assert!(ratio < 1.02, "{name} as {shape:?}: {ratio:.4} of the order-0 entropy");
        }
    }
}

#[test]
fn rows_of_different_scale_cost_less_than_their_joint_distribution() {
    let levels = laplacian(100_000, 6, |index| if (index / 400).is_multiple_of(2) { 0.3 } else { 4.0 });
    let bits = 8.0 * levels_bytes(&levels, &Layout::new(&[250, 400], None), GridKind::Uniform).len() as f64;
    let ratio = bits / order0_bits(&levels);
    assert!(ratio < 0.9, "{ratio:.4} of the order-0 entropy");
}

#[test]
fn smooth_kernels_cost_less_than_rough_ones() {
    let noise = gaussian(90_000, 7, 2.0);
    let smooth: Vec<i16> =
        noise.iter().zip(noise.iter().step_by(9).flat_map(|n| [n; 9])).map(|(a, b)| a / 2 + 2 * b).collect();
    let layout = Layout::new(&[100, 100, 3, 3], None);
    let bits = 8.0 * levels_bytes(&smooth, &layout, GridKind::Uniform).len() as f64;
    let ratio = bits / order0_bits(&smooth);
    assert!(ratio < 0.75, "{ratio:.4} of the order-0 entropy");
}

#[test]
fn what_was_learnt_goes_on_to_the_next_weight() {
    let levels = laplacian(2_000, 8, |index| (index / 50 % 4) as f64);
    let layout = Layout::new(&[40, 50], None);
    let once = levels_bytes(&levels, &layout, GridKind::Uniform).len();
    let mut encoder = Encoder::new();
    (0..8).for_each(|_| encoder.levels(&levels, &layout, GridKind::Uniform, 0));
    let eight_times = encoder.finish().len();
    assert!(eight_times < 8 * once - 200, "{eight_times} bytes for eight, {once} for one");
}

#[test]
fn the_estimate_is_what_the_stream_takes() {
    let levels = laplacian(5_000, 9, |_| 1.5);
    let layout = Layout::new(&[50, 100], None);
    let estimate = estimate_bits_levels(&levels, &layout, GridKind::Trellis);
    let taken = 8.0 * levels_bytes(&levels, &layout, GridKind::Trellis).len() as f64;
    assert!((estimate - taken).abs() < 40.0, "estimated {estimate}, taken {taken}");
}

#[test]
fn numbers_that_were_shorter_once_cost_less() {
    let mut random = Pcg32::seed_from_u64(10);
    let long: Vec<f32> = (0..2_000).map(|_| random.random_range(-1.0f32..1.0)).collect();
    let short: Vec<f32> = Values::from_f32(DType::F16, &long).to_f32();
    let size = |values: &[f32]| {
        let mut encoder = Encoder::new();
        encoder.floats(&Values::from_f32(DType::F32, values));
        encoder.finish().len()
    };
    assert!(size(&long) < 2_000 * 4, "{} bytes", size(&long));
    assert!(size(&short) < 2_000 * 2 + 100, "{} bytes", size(&short));
}

#[test]
fn centroids_that_ascend_cost_less_than_ones_in_disorder() {
    let mut random = Pcg32::seed_from_u64(11);
    let mut centroids: Vec<f32> = (0..256).map(|_| random.random_range(-1.0f32..1.0)).collect();
    let size = |values: &[f32]| {
        let mut encoder = Encoder::new();
        encoder.sorted_floats(&Values::from_f32(DType::F32, values));
        encoder.finish().len()
    };
    let disorder = size(&centroids);
    centroids.sort_by(f32::total_cmp);
    let order = size(&centroids);
    assert!(order < disorder - 200 && order < 256 * 3, "{order} bytes in order, {disorder} in disorder");
}

#[test]
fn what_is_known_of_the_dither_pays() {
    // Weights much smaller than a step: but for the dither there is nothing to tell.
    for lattice in Lattice::ALL {
        let kind = GridKind::Lattice { lattice, seed: 7 };
        let weights = gaussian(40_000, 3, 300.0);
        let levels = onnx_dcomp_forms::lattice::quantize(weights.iter().map(|&w| f32::from(w)), 1000.0, lattice, 7);
        let layout = Layout::new(&[200, 200], None);
        let (told, untold) =
            (levels_bytes(&levels, &layout, kind).len(), levels_bytes(&levels, &layout, GridKind::Uniform).len());
        assert!(10 * told < 9 * untold, "{lattice:?}: {told} bytes, {untold} without the dither");
    }
}
