//! Every form, in every element type, through every coder, and back to the same bits.

use onnx_dcomp_codec::{Coder, Layout, Limits, Record, Stream, Tensor, decode, decode_forms, encode, inspect};
use onnx_dcomp_forms::{Codebook, DType, Form, Grid, GridKind, Lattice, Sparse, Steps, Values};
use proptest::prelude::*;

/// Encodes and decodes `weights` in one payload with every coder, and compares shapes, forms and dense values.
fn check(weights: &[(Vec<usize>, Form, Option<usize>)]) -> Result<(), TestCaseError> {
    let tensors: Vec<Tensor<'_>> =
        weights.iter().map(|(shape, form, axis)| Tensor { shape, form, layout: Layout::new(shape, *axis) }).collect();
    for coder in Coder::ALL {
        let payload = encode(&tensors, coder).unwrap();
        let forms = decode_forms(&payload, &Limits::default()).unwrap();
        let dense = decode(&payload, &Limits::default()).unwrap();
        let records = inspect(&payload).unwrap();
        prop_assert_eq!(forms.len(), weights.len());
        prop_assert_eq!(dense.len(), weights.len());
        for (index, (shape, form, axis)) in weights.iter().enumerate() {
            prop_assert_eq!(&forms[index].0, shape);
            prop_assert!(forms[index].1 == *form, "{} weight {} differs", coder, index);
            prop_assert_eq!(&dense[index].shape, shape);
            prop_assert!(dense[index].values == form.dense(), "{} dense weight {} differs", coder, index);
            let Record { dtype, form: kind, coder: written, layout, elements, .. } = &records[index];
            let expected = (form.dtype(), form.kind(), coder, Layout::new(shape, *axis), form.len());
            prop_assert_eq!((*dtype, *kind, *written, *layout, *elements), expected);
        }
    }
    Ok(())
}

/// Shapes of up to `max` elements, with and without zeros and ones.
fn shapes() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![
        2 => Just(vec![]),
        2 => (0..200usize).prop_map(|size| vec![size]),
        4 => (1..30usize, 1..30usize).prop_map(|(rows, columns)| vec![rows, columns]),
        4 => (1..8usize, 1..8usize, 1..4usize, 1..4usize).prop_map(|(o, i, h, w)| vec![o, i, h, w]),
        1 => (0..3usize, 0..3usize).prop_map(|(size, more)| [vec![1; 15], vec![size, more]].concat()),
    ]
}

fn dtypes() -> impl Strategy<Value = DType> {
    proptest::sample::select(DType::ALL.to_vec())
}

/// Bytes of `len` elements: bit patterns of all kinds, NaN payloads and signed zeros among them.
fn patterns(len: usize, dtype: DType) -> impl Strategy<Value = Values> {
    let size = dtype.element_bytes();
    let any_bytes = proptest::collection::vec(any::<u8>(), len * size);
    let floats = proptest::collection::vec(prop_oneof![Just(0.0f32), -1.0f32..1.0, Just(-0.0), Just(f32::NAN)], len);
    prop_oneof![
        any_bytes.prop_map(move |bytes| Values::new(dtype, bytes).unwrap()),
        floats.prop_map(move |floats| Values::from_f32(dtype, &floats)),
    ]
}

fn grids(len: usize, dtype: DType) -> impl Strategy<Value = Form> {
    let level = prop_oneof![6 => Just(0i16), 6 => -3..=3i16, 1 => -300..300i16];
    let any_level = any::<i16>();
    let levels =
        prop_oneof![4 => proptest::collection::vec(level, len), 1 => proptest::collection::vec(any_level, len)];
    let per_channel = (1e-6f32..10.0, 1..20usize, proptest::collection::vec(-40..40i8, 1..20))
        .prop_map(|(base, inner, exponents)| Steps::PerChannel { base, inner, exponents });
    let steps = prop_oneof![(1e-6f32..10.0).prop_map(Steps::PerTensor), per_channel];
    let lattice = (proptest::sample::select(Lattice::ALL.to_vec()), any::<u64>());
    let lattice = lattice.prop_map(|(lattice, seed)| GridKind::Lattice { lattice, seed });
    let kind = prop_oneof![Just(GridKind::Uniform), Just(GridKind::Trellis), lattice];
    (levels, steps, kind)
        .prop_map(move |(levels, steps, kind)| Form::Grid(Grid::new(levels, steps, kind, dtype).unwrap()))
}

fn codebooks(len: usize, dtype: DType) -> impl Strategy<Value = Form> {
    (1..600usize, any::<bool>()).prop_flat_map(move |(centroids, zero)| {
        let codes = proptest::collection::vec(0..centroids as u16, len);
        (codes, patterns(centroids, dtype)).prop_map(move |(codes, centroids)| {
            let mut bytes = centroids.bytes().to_vec();
            if zero {
                bytes[..dtype.element_bytes()].fill(0);
            }
            Form::Codebook(Codebook::new(codes, Values::new(dtype, bytes).unwrap()).unwrap())
        })
    })
}

fn weights() -> impl Strategy<Value = (Vec<usize>, Form, Option<usize>)> {
    (shapes(), dtypes(), proptest::option::of(0..5usize)).prop_flat_map(|(shape, dtype, axis)| {
        let len = shape.iter().product();
        let form = prop_oneof![
            patterns(len, dtype).prop_map(Form::Dense),
            patterns(len, dtype).prop_map(|dense| Form::Sparse(Sparse::from_dense(&dense))),
            codebooks(len, dtype),
            grids(len, dtype),
        ];
        (Just(shape), form, Just(axis))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn weights_come_back(weights in proptest::collection::vec(weights(), 0..4)) {
        check(&weights)?;
    }
}

/// A level for each index, mostly zero where `zeros` of a thousand are to be; Laplacian otherwise.
fn synthetic_levels(len: usize, zeros: u64) -> Vec<i16> {
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 33
    };
    (0..len)
        .map(
            |_| if next() % 1000 < zeros { 0 } else { next().trailing_zeros().min(7) as i16 - 3 * (next() % 2) as i16 },
        )
        .collect()
}

#[test]
fn weights_of_several_chunks_come_back() {
    for (zeros, shape) in
        [(0, vec![1100, 1000]), (900, vec![1_100_000]), (999, vec![3, 400_000]), (1000, vec![9, 130_000])]
    {
        let levels = synthetic_levels(shape.iter().product(), zeros);
        let codes: Vec<u16> = levels.iter().map(|&level| level.unsigned_abs()).collect();
        let values: Vec<f32> = levels.iter().map(|&level| f32::from(level) * 0.1).collect();
        let grid = |steps, kind| Form::Grid(Grid::new(levels.clone(), steps, kind, DType::F32).unwrap());
        let per_channel = Steps::PerChannel { base: 0.5, inner: 1000, exponents: vec![3, -4, 5] };
        let dense = Values::from_f32(DType::BF16, &values);
        let forms = [
            grid(Steps::PerTensor(0.01), GridKind::Uniform),
            grid(per_channel.clone(), GridKind::Trellis),
            grid(per_channel, GridKind::Lattice { lattice: Lattice::E8, seed: 5 }),
            Form::Codebook(
                Codebook::new(codes, Values::from_f32(DType::F16, &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0])).unwrap(),
            ),
            Form::Sparse(Sparse::from_dense(&dense)),
            Form::Dense(dense),
        ];
        let weights: Vec<_> = forms.into_iter().map(|form| (shape.clone(), form, Some(0))).collect();
        check(&weights).unwrap();
    }
}

#[test]
fn fixed_cost_is_within_bounds() {
    let form = Form::Grid(Grid::new(vec![], Steps::PerTensor(1.0), GridKind::Uniform, DType::F32).unwrap());
    for coder in Coder::ALL {
        assert!(encode(&[], coder).unwrap().len() <= 8, "a payload costs at most 8 bytes");
        let tensor = Tensor { shape: &[0], form: &form, layout: Layout::new(&[0], None) };
        let payload = encode(&[tensor], coder).unwrap();
        let step_bytes = 4;
        assert!(payload.len() <= 8 + 6 + step_bytes, "a weight costs at most 6 bytes besides its step");
    }
}

#[test]
fn inspection_accounts_for_every_byte() {
    let levels = synthetic_levels(1_200_000, 800);
    let form = Form::Grid(Grid::new(levels, Steps::PerTensor(1.0), GridKind::Uniform, DType::F32).unwrap());
    let small = Form::Dense(Values::from_f32(DType::F32, &[1.0, 2.0, 3.0]));
    let shapes = [vec![1_200_000], vec![3]];
    let tensors = [
        Tensor { shape: &shapes[0], form: &form, layout: Layout::new(&shapes[0], None) },
        Tensor { shape: &shapes[1], form: &small, layout: Layout::new(&shapes[1], None) },
    ];
    for coder in Coder::ALL {
        let payload = encode(&tensors, coder).unwrap();
        let records = inspect(&payload).unwrap();
        let streams: u64 = records
            .iter()
            .map(|record| match record.stream {
                Stream::Own(bytes) | Stream::Shared(bytes) => bytes,
            })
            .sum();
        let record_bytes: usize = records.iter().map(|record| record.record_bytes).sum();
        assert_eq!(8 + record_bytes + streams as usize, payload.len(), "{coder}");
    }
}
