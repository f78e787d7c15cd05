//! Payloads that are kept: what was written once must stay readable, and the encoder must not change unnoticed.
//!
//! For each case `golden/` holds `CASE.CODER.dcomp`, one payload for each coder, and `CASE.values`, the dense values of all
//! its weights one after the other. `UPDATE_EXPECT=1` writes them anew; do that only for a new version of the format,
//! or where the encoder chooses better.

use std::fs;
use std::path::PathBuf;

use onnx_dcomp_codec::{Coder, Layout, Limits, Tensor, decode, decode_forms, encode};
use onnx_dcomp_forms::{Codebook, DType, Form, Grid, GridKind, Lattice, Sparse, Steps, Values};

/// Shape, channel axis and form of a weight.
type Weight = (Vec<usize>, Option<usize>, Form);

/// A sequence of numbers that never changes, unlike that of a library.
struct Sequence(u64);

impl Sequence {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }

    /// Zero in `zeros` of a hundred, else within `spread` of zero and mostly near it.
    fn level(&mut self, zeros: u64, spread: u64) -> i16 {
        if self.below(100) < zeros {
            return 0;
        }
        let magnitude = 1 + (self.below(spread) * self.below(spread) / spread) as i16;
        if self.below(2) == 0 { magnitude } else { -magnitude }
    }

    fn levels(&mut self, len: usize, zeros: u64, spread: u64) -> Vec<i16> {
        (0..len).map(|_| self.level(zeros, spread)).collect()
    }

    fn floats(&mut self, dtype: DType, len: usize) -> Values {
        let floats: Vec<f32> = (0..len).map(|_| f32::from(self.level(10, 3000)) / 1024.0).collect();
        Values::from_f32(dtype, &floats)
    }
}

fn grid(levels: Vec<i16>, steps: Steps, kind: GridKind, dtype: DType) -> Form {
    Form::Grid(Grid::new(levels, steps, kind, dtype).unwrap())
}

fn per_channel(inner: usize) -> Steps {
    Steps::PerChannel { base: 0.0123, inner, exponents: vec![0, 5, -9, 127, -128, 2, 3, 1] }
}

fn cases() -> Vec<(&'static str, Vec<Weight>)> {
    let mut sequence = Sequence(2026);
    let mut dense = Vec::new();
    let mut sparse = Vec::new();
    for dtype in DType::ALL {
        dense.push((vec![40, 10], Some(1), Form::Dense(sequence.floats(dtype, 400))));
        let mostly_zero: Vec<f32> = sequence.levels(600, 80, 100).iter().map(|&level| f32::from(level)).collect();
        let values = Values::from_f32(dtype, &mostly_zero);
        sparse.push((vec![10, 5, 3, 4], Some(0), Form::Sparse(Sparse::from_dense(&values))));
    }
    let mut codebook = |len: usize, centroids: u16, zeros: u64| {
        let mut values = sequence.floats(DType::F32, usize::from(centroids)).to_f32();
        values.sort_by(f32::total_cmp);
        values[0] = 0.0;
        let codes =
            (0..len).map(|_| sequence.level(zeros, centroids.into()).unsigned_abs().min(centroids - 1)).collect();
        Form::Codebook(Codebook::new(codes, Values::from_f32(DType::F32, &values)).unwrap())
    };
    let codebooks = vec![
        (vec![50, 120], Some(1), codebook(6000, 16, 60)),
        (vec![20, 4, 3, 3], Some(0), codebook(720, 256, 0)),
        (vec![900], None, codebook(900, 700, 5)),
    ];
    let mut grids = |kind| -> Vec<Weight> {
        let mut levels = |len, zeros, spread| sequence.levels(len, zeros, spread);
        vec![
            (vec![16, 8, 3, 3], Some(0), grid(levels(1152, 50, 7), Steps::PerTensor(0.02), kind, DType::F32)),
            (vec![8, 70], Some(0), grid(levels(560, 20, 30), per_channel(70), kind, DType::F32)),
            (vec![30, 8], Some(1), grid(levels(240, 20, 30), per_channel(1), kind, DType::BF16)),
            (vec![500], None, grid(levels(500, 0, 9000), Steps::PerTensor(0.001), kind, DType::F16)),
            (vec![300], None, grid(levels(300, 30, 100), Steps::PerTensor(1.5), kind, DType::I8)),
            (vec![2, 3, 50], Some(2), grid(levels(300, 30, 100), Steps::PerTensor(0.1), kind, DType::F64)),
        ]
    };
    let (uniform, trellis) = (grids(GridKind::Uniform), grids(GridKind::Trellis));
    let patterns: Vec<u8> =
        [0x7FC0_0001u32, 0xFF80_0000, 0x8000_0000, 0x0000_0001].iter().flat_map(|bits| bits.to_le_bytes()).collect();
    let odd = vec![
        (vec![], None, Form::Dense(Values::from_f32(DType::F32, &[1.25]))),
        (vec![0, 3], Some(0), Form::Dense(Values::from_f32(DType::F16, &[]))),
        (vec![4], None, Form::Dense(Values::new(DType::F32, patterns).unwrap())),
        (
            [vec![1; 15], vec![2, 2]].concat(),
            Some(9),
            grid(vec![1, -1, 0, 2], Steps::PerTensor(1.0), GridKind::Trellis, DType::U8),
        ),
        (vec![70_000], None, grid(vec![0; 70_000], Steps::PerTensor(1.0), GridKind::Uniform, DType::I8)),
        (vec![0], None, Form::Codebook(Codebook::new(vec![], Values::from_f32(DType::F64, &[])).unwrap())),
    ];
    let chunks = vec![(
        vec![2200, 500],
        Some(0),
        grid(sequence.levels(1_100_000, 99, 5), Steps::PerTensor(1.0), GridKind::Trellis, DType::I8),
    )];
    let lattices = Lattice::ALL.into_iter().zip([0, 300, u64::MAX]).flat_map(|(lattice, seed)| {
        let kind = GridKind::Lattice { lattice, seed };
        let mut levels = |len, zeros, spread| sequence.levels(len, zeros, spread);
        [
            (vec![10, 5, 3, 3], Some(0), grid(levels(450, 30, 7), Steps::PerTensor(0.02), kind, DType::F32)),
            (vec![8, 31], Some(0), grid(levels(248, 20, 30), per_channel(31), kind, DType::BF16)),
            (vec![77], None, grid(levels(77, 0, 9000), Steps::PerTensor(0.001), kind, DType::F64)),
        ]
    });
    let lattices = lattices.collect();
    vec![
        ("dense", dense),
        ("sparse", sparse),
        ("codebook", codebooks),
        ("uniform", uniform),
        ("trellis", trellis),
        ("odd", odd),
        ("chunks", chunks),
        ("empty", vec![]),
        ("lattice", lattices),
    ]
}

fn golden(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(file)
}

#[test]
fn golden_payloads_decode_and_are_written_again() {
    let update = std::env::var_os("UPDATE_EXPECT").is_some();
    for (case, weights) in cases() {
        let tensors: Vec<Tensor<'_>> = weights
            .iter()
            .map(|(shape, axis, form)| Tensor { shape, form, layout: Layout::new(shape, *axis) })
            .collect();
        let values: Vec<u8> = weights.iter().flat_map(|(_, _, form)| form.dense().bytes().to_vec()).collect();
        let values_file = golden(&format!("{case}.values"));
        if update {
            fs::write(&values_file, &values).unwrap();
        }
        let kept_values = fs::read(&values_file).unwrap();
        for coder in Coder::ALL {
            let file = golden(&format!("{case}.{coder}.dcomp"));
            let payload = encode(&tensors, coder).unwrap();
            if update {
                fs::write(&file, &payload).unwrap();
            }
            let kept = fs::read(&file).unwrap();
            let decoded = decode(&kept, &Limits::default()).unwrap();
            let bytes: Vec<u8> = decoded.iter().flat_map(|weight| weight.values.bytes().to_vec()).collect();
            assert!(bytes == kept_values, "{case}, {coder}: the kept payload must decode to the kept values");
            for (decoded, (shape, _, form)) in decode_forms(&kept, &Limits::default()).unwrap().iter().zip(&weights) {
                assert_eq!(&decoded.0, shape, "{case}, {coder}");
                assert!(decoded.1 == *form, "{case}, {coder}: the kept payload must decode to its forms");
            }
            assert!(payload == kept, "{case}, {coder}: the encoder writes other bytes than it did");
        }
    }
}
