//! `quantize`, `pack` and `lower`, from outside: forms, errors, bytes and graphs that they leave.

use bytes::Bytes;
use onnx_dcomp_forms::{Form, FormKind, Grid, GridKind, Steps, Values};
use onnx_dcomp_ir::{Evidence, Model, MomentBlock, SecondMoment};
use onnx_dcomp_passes::quantize::{Curvature, Target, feedback, viterbi};
use onnx_dcomp_passes::{Pipeline, pack};
use onnx_dcomp_proto::Message;
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;

/// Roughly Gaussian values: sums of uniform ones.
fn values(len: usize, seed: u64) -> Vec<f32> {
    let mut random = Pcg64::seed_from_u64(seed);
    (0..len).map(|_| (0..6).map(|_| random.random_range(-0.5f32..0.5)).sum()).collect()
}

fn dense(values: &[f32]) -> Values {
    Values::from_f32(onnx_dcomp_forms::DType::F32, values)
}

fn squared_error(values: &[f32], levels: Vec<i16>, target: &Target<'_>) -> f64 {
    let steps = Steps::PerTensor(target.steps[0]);
    let grid = Grid::new(levels, steps, target.kind, onnx_dcomp_forms::DType::F32).expect("steps are positive");
    Form::Grid(grid).squared_error(&dense(values))
}

fn fixture(name: &str) -> Model {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures").join(name);
    Model::open(&path).expect("the fixture is there")
}

fn run(pipeline: &str, model: &mut Model, evidence: &Evidence) {
    Pipeline::parse(pipeline).expect("the pipeline parses").run(model, evidence, &mut ()).expect("the passes run");
}

#[test]
fn the_trellis_beats_the_uniform_grid_at_equal_bits() {
    let values = values(60_000, 1);
    let uniform = Target { kind: GridKind::Uniform, steps: &[0.45], row_length: 300, lambda: 0.1, keeps_zeros: false };
    let uniform_result = viterbi::quantize(&dense(&values), &uniform);
    let trellis = Target { kind: GridKind::Trellis, steps: &[0.30], row_length: 300, lambda: 0.2, keeps_zeros: false };
    let trellis_result = viterbi::quantize(&dense(&values), &trellis);
    // 6.02 dB a bit: errors are compared at the uniform grid's rate.
    let at_equal_bits = |error: f64, bits: f64| 10.0 * error.log10() + 6.02 * (bits - uniform_result.bits) / 60_000.0;
    let uniform_error =
        at_equal_bits(squared_error(&values, uniform_result.levels.clone(), &uniform), uniform_result.bits);
    let trellis_error = at_equal_bits(squared_error(&values, trellis_result.levels, &trellis), trellis_result.bits);
    assert!(trellis_error < uniform_error - 0.5, "trellis {trellis_error:.2} dB, uniform {uniform_error:.2} dB");
}

#[test]
fn the_trellis_search_finds_the_best_levels_of_short_weights() {
    // Every sequence of levels in -2..=2 for six elements, against the search at price zero.
    let values = [0.31f32, -0.52, 0.07, 0.93, -0.88, 0.44];
    let target = Target { kind: GridKind::Trellis, steps: &[0.3], row_length: 6, lambda: 0.0, keeps_zeros: false };
    let found = squared_error(&values, viterbi::quantize(&dense(&values), &target).levels, &target);
    let mut best = f64::INFINITY;
    for number in 0..5usize.pow(6) {
        let levels = (0..6).map(|digit| (number / 5usize.pow(digit) % 5) as i16 - 2).collect();
        best = best.min(squared_error(&values, levels, &target));
    }
    assert!((found - best).abs() < 1e-9, "found {found}, best {best}");
}

#[test]
fn a_higher_price_buys_fewer_bits_for_more_error() {
    let values = values(20_000, 2);
    for kind in [GridKind::Uniform, GridKind::Trellis] {
        let at = |lambda: f32| {
            let target = Target { kind, steps: &[0.3], row_length: 100, lambda, keeps_zeros: false };
            let result = viterbi::quantize(&dense(&values), &target);
            (result.bits, squared_error(&values, result.levels, &target))
        };
        let (cheap, dear) = (at(0.02), at(0.6));
        assert!(dear.0 < cheap.0 && dear.1 > cheap.1, "{kind:?}: {cheap:?} then {dear:?}");
    }
}

/// A second moment in which neighbours are correlated by `correlation`.
fn correlated(columns: usize, correlation: f32) -> SecondMoment {
    let values =
        (0..columns * columns).map(|at| correlation.powi((at / columns).abs_diff(at % columns) as i32)).collect();
    SecondMoment { blocks: vec![MomentBlock { size: columns, values }], mean: Vec::new(), samples: 1 }
}

/// `sum over rows of e^T H e`, the error that the layer's output sees.
fn output_error(values: &[f32], levels: Vec<i16>, target: &Target<'_>, moment: &SecondMoment) -> f64 {
    let steps = Steps::PerTensor(target.steps[0]);
    let grid = Grid::new(levels, steps, target.kind, onnx_dcomp_forms::DType::F32).expect("steps are positive");
    let rounded = Form::Grid(grid).dense().to_f32();
    let errors: Vec<f64> = values.iter().zip(&rounded).map(|(a, b)| f64::from(a - b)).collect();
    let h = &moment.blocks[0].values;
    let n = moment.columns();
    let quadratic = |row: &[f64]| -> f64 {
        (0..n).flat_map(|i| (0..n).map(move |j| (i, j))).map(|(i, j)| row[i] * f64::from(h[i * n + j]) * row[j]).sum()
    };
    errors.chunks(n).map(quadratic).sum()
}

#[test]
fn feedback_lowers_the_error_of_the_outputs() {
    let values = values(64 * 90, 3);
    let moment = correlated(90, 0.9);
    let curvature = Curvature::new(&moment, 0.01).expect("the moment is positive definite");
    for kind in [GridKind::Uniform, GridKind::Trellis] {
        let target = Target { kind, steps: &[0.4], row_length: 90, lambda: 0.0, keeps_zeros: false };
        let without = output_error(&values, viterbi::quantize(&dense(&values), &target).levels, &target, &moment);
        let with =
            output_error(&values, feedback::quantize([&values; 2], &target, &curvature).levels, &target, &moment);
        assert!(with < 0.5 * without, "{kind:?}: {with} with feedback, {without} without");
    }
}

#[test]
fn zeros_stay_zeros_where_that_is_asked_for() {
    let mut values = values(40 * 60, 5);
    values.iter_mut().step_by(3).for_each(|value| *value = 0.0);
    let curvature = Curvature::new(&correlated(60, 0.8), 0.01).expect("the moment is positive definite");
    for kind in [GridKind::Uniform, GridKind::Trellis] {
        let target = Target { kind, steps: &[0.1], row_length: 60, lambda: 0.02, keeps_zeros: true };
        let plain = viterbi::quantize(&dense(&values), &target).levels;
        let fed_back = feedback::quantize([&values; 2], &target, &curvature).levels;
        for levels in [plain, fed_back] {
            assert!(levels.iter().step_by(3).all(|&level| level == 0), "{kind:?}");
            assert!(levels.iter().any(|&level| level != 0), "{kind:?}");
        }
    }
    // Otherwise what is fed back to a zero may move it: that is what the option is for.
    let free = Target { kind: GridKind::Trellis, steps: &[0.1], row_length: 60, lambda: 0.0, keeps_zeros: false };
    let levels = feedback::quantize([&values; 2], &free, &curvature).levels;
    assert!(levels.iter().step_by(3).any(|&level| level != 0));
}

#[test]
fn feedback_without_correlation_is_plain_quantisation() {
    let values = values(32 * 40, 4);
    let moment = correlated(40, 0.0);
    let curvature = Curvature::new(&moment, 0.0).expect("the identity is positive definite");
    assert!((curvature.mean_weight() - 1.0).abs() < 1e-6);
    let target = Target { kind: GridKind::Uniform, steps: &[0.2], row_length: 40, lambda: 0.0, keeps_zeros: false };
    let plain = viterbi::quantize(&dense(&values), &target).levels;
    assert_eq!(feedback::quantize([&values; 2], &target, &curvature).levels, plain);
}

#[test]
fn a_moment_that_is_not_positive_definite_is_refused() {
    let of = |values| SecondMoment { blocks: vec![MomentBlock { size: 2, values }], mean: Vec::new(), samples: 1 };
    let moment = of(vec![1.0, 2.0, 2.0, 1.0]);
    assert!(Curvature::new(&moment, 0.0).is_none());
    let nothing = of(vec![0.0; 4]);
    assert!(Curvature::new(&nothing, 0.1).is_none());
}

#[test]
fn quality_moves_every_kernel_and_no_thread_count_changes_a_level() {
    let levels_with = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads start");
        pool.install(|| {
            let mut model = fixture("lenet5.onnx");
            run("fold, quantize(quality=20)", &mut model, &Evidence::default());
            model.weights().map(|(_, weight)| weight.form.clone()).collect::<Vec<_>>()
        })
    };
    let forms = levels_with(1);
    assert_eq!(forms, levels_with(3));
    let kernels = forms.iter().filter(|form| form.kind() == FormKind::Trellis).count();
    assert_eq!(kernels, 4, "two convolutions and two fully connected layers");
}

/// Forms of `name` after the pipeline, the name of each weight beside it.
fn forms_after(pipeline: &str, model: &mut Model) -> Vec<(String, Form)> {
    run(pipeline, model, &Evidence::default());
    model.weights().map(|(_, weight)| (weight.name.clone(), weight.form.clone())).collect()
}

#[test]
fn a_lattice_holds_the_kernels_and_another_seed_moves_every_one_of_them() {
    for lattice in ["z", "d4", "e8"] {
        let after = |seed: u32| {
            let pipeline = format!("fold, quantize(scheme=lattice, lattice={lattice}, seed={seed}, quality=20)");
            forms_after(&pipeline, &mut fixture("lenet5.onnx"))
        };
        let forms = after(1);
        assert_eq!(forms, after(1), "{lattice}");
        let kernels = |forms: &[(String, Form)]| -> Vec<(String, Form)> {
            forms.iter().filter(|(_, form)| form.kind() == FormKind::Lattice).cloned().collect()
        };
        assert_eq!(kernels(&forms).len(), 4, "{lattice}: two convolutions and two fully connected layers");
        for ((name, one), (_, other)) in kernels(&forms).iter().zip(kernels(&after(100))) {
            assert_ne!(one.dense(), other.dense(), "{lattice}: {name}");
        }
    }
}

#[test]
fn at_one_quality_every_lattice_has_the_same_error_as_rounding() {
    let error = |scheme: &str| {
        let mut model = fixture("lenet300.onnx");
        let pipeline = format!("fold, quantize({scheme}, quality=30, bit-price=0)");
        run(&pipeline, &mut model, &Evidence::default());
        let kernels = model.weights().filter(|(_, weight)| weight.role.is_kernel());
        kernels.map(|(_, weight)| weight.form.squared_error(&weight.original)).sum::<f64>()
    };
    let uniform = error("scheme=uniform");
    for lattice in ["z", "d4", "e8"] {
        let ratio = error(&format!("scheme=lattice, lattice={lattice}")) / uniform;
        assert!((0.95..1.1).contains(&ratio), "{lattice}: {ratio} times the error of rounding");
    }
}

#[test]
fn pruned_weights_keep_their_zeros_under_a_scheme_with_dither() {
    let mut model = fixture("lenet5.onnx");
    run("fold, prune(sparsity=0.8)", &mut model, &Evidence::default());
    let is_zero = |model: &Model| -> Vec<Vec<bool>> {
        let kernels = model.weights().filter(|(_, weight)| weight.role.is_kernel());
        kernels.map(|(_, weight)| weight.form.dense().iter().map(|value| value == 0.0).collect()).collect()
    };
    let before = is_zero(&model);
    run("quantize(scheme=lattice, quality=20)", &mut model, &Evidence::default());
    let is_kept = |(before, after): (&Vec<bool>, &Vec<bool>)| before.iter().zip(after).all(|(b, a)| !b || *a);
    assert!(before.iter().zip(&is_zero(&model)).all(is_kept));
    assert!(model.weights().all(|(_, weight)| weight.form.kind() != FormKind::Lattice));
}

#[test]
fn the_universal_preset_packs_and_gives_its_values_back() {
    let preset = onnx_dcomp_passes::pipeline::Preset::find("universal").expect("the preset is there");
    let mut model = fixture("lenet300.onnx");
    let plain = model.plain_bytes().expect("the model has a size");
    run(preset.pipeline, &mut model, &Evidence::default());
    assert!(model.weights().any(|(_, weight)| weight.form.kind() == FormKind::Lattice));
    let packed = model.to_bytes().expect("the model is written");
    assert!((packed.len() as u64) < plain / 5, "{} of {plain} bytes", packed.len());
}

#[test]
fn eight_bit_rounding_stays_within_half_a_step() {
    let mut model = fixture("lenet300.onnx");
    run("quantize(scheme=int8)", &mut model, &Evidence::default());
    let mut seen = 0;
    for (_, weight) in model.weights().filter(|(_, weight)| weight.form.kind() == FormKind::Uniform) {
        seen += 1;
        let Form::Grid(grid) = &weight.form else { panic!("a uniform form is a grid") };
        assert!(grid.levels().iter().all(|level| level.unsigned_abs() <= 127));
        let pairs = weight.form.dense().to_f32().into_iter().zip(weight.original.to_f32());
        for (index, (rounded, original)) in pairs.enumerate() {
            let step = grid.steps().of_channel(grid.steps().channel_of(index));
            assert!(
                (rounded - original).abs() <= 0.5001 * step,
                "{}[{index}]: {original} became {rounded}",
                weight.name
            );
        }
    }
    assert!(seen >= 3);
}

#[test]
fn packing_keeps_values_and_shrinks_the_file() {
    for coder in ["small", "fast", "huffman"] {
        let mut model = fixture("lenet300.onnx");
        run("fold, quantize(quality=24)", &mut model, &Evidence::default());
        let expected: Vec<Values> = model.weights().map(|(_, weight)| weight.form.dense()).collect();
        let plain = model.plain_bytes().expect("the model has a size");
        run(&format!("pack(coder={coder})"), &mut model, &Evidence::default());
        let bytes = Bytes::from(model.to_bytes().expect("the model is written"));
        assert!((bytes.len() as u64) < plain / 5, "{coder}: {} of {plain} bytes", bytes.len());
        let proto = onnx_dcomp_proto::ModelProto::decode(bytes).expect("the file is a protobuf message");
        let graph = proto.graph.expect("a graph");
        let node = graph.node.iter().find(|node| node.op_type() == pack::DECODE).expect("a decode node");
        let payload = graph.initializer.iter().find(|tensor| tensor.name() == node.input[0]).expect("its payload");
        let decoded =
            onnx_dcomp_codec::decode(payload.raw_data(), &onnx_dcomp_codec::Limits::default()).expect("it decodes");
        assert_eq!(decoded.len(), node.output.len());
        let found: Vec<Values> = decoded.into_iter().map(|weight| weight.values).collect();
        assert_eq!(found, expected, "{coder}");
        assert!(proto.opset_import.iter().any(|opset| opset.domain() == pack::DOMAIN));
    }
}

#[test]
fn packing_reaches_subgraphs_and_functions_and_respects_defaults_of_inputs() {
    for name in ["if_branches", "loop_body", "local_function", "inputs_ir3", "input_default"] {
        let mut model = fixture(&format!("models/{name}.onnx"));
        run("quantize(quality=20), pack", &mut model, &Evidence::default());
        model.verify().unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(model.weights().all(|(_, weight)| !(weight.overridable && weight.stored_bytes.is_some())), "{name}");
        if name != "input_default" {
            assert!(model.weights().any(|(_, weight)| weight.stored_bytes.is_some()), "{name}: nothing was packed");
        }
    }
}

#[test]
fn lowering_to_dense_keeps_the_compressed_values() {
    let mut model = fixture("lenet300.onnx");
    run("quantize(quality=20)", &mut model, &Evidence::default());
    let expected: Vec<Values> = model.weights().map(|(_, weight)| weight.form.dense()).collect();
    run("lower(target=dense)", &mut model, &Evidence::default());
    let found: Vec<Values> = model.weights().map(|(_, weight)| weight.form.dense()).collect();
    assert_eq!(found, expected);
    assert!(model.weights().all(|(_, weight)| weight.form.kind() == FormKind::Dense));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever the values and steps, a level never lies further off than the grid's spacing, at price zero.
    #[test]
    fn rounding_is_bounded(
        values in prop::collection::vec(-3f32..3.0, 1..200),
        step in 0.01f32..2.0,
        row_length in 1usize..50,
        is_trellis in any::<bool>(),
    ) {
        let kind = if is_trellis { GridKind::Trellis } else { GridKind::Uniform };
        let target = Target { kind, steps: &[step], row_length, lambda: 0.0, keeps_zeros: false };
        let levels = viterbi::quantize(&dense(&values), &target).levels;
        let grid = Grid::new(levels, Steps::PerTensor(step), kind, onnx_dcomp_forms::DType::F32).unwrap();
        let bound = if is_trellis { 2.0 } else { 0.5 } * step * 1.001;
        let rounded = Form::Grid(grid).dense();
        for (value, rounded) in values.iter().zip(rounded.iter()) {
            prop_assert!((value - rounded).abs() <= bound, "{value} became {rounded} at step {step}");
        }
    }
}
