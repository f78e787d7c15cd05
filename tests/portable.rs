//! The portable targets: standard operators that both runtimes compute away, bit for bit.

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use onnx_dcomp_ir::Model;
use onnx_dcomp_proto::tensor_proto::DataType;
use onnx_dcomp_proto::{
    GraphProto, Message, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto, TypeProto,
    ValueInfoProto, tensor_shape_proto, type_proto,
};
use serde_json::Value;
use support::{compress, fixture, folder, program, python, run_python, shared_model};
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::DimLike;

/// Pipelines whose forms are written in different ways.
const PIPELINES: [&str; 9] = [
    "fold, recognise, quantize(quality=33), strip",
    "fold, recognise, quantize(quality=20), strip",
    "fold, recognise, quantize(quality=60), strip",
    "prune(sparsity=0.9), share(clusters=16), strip",
    "prune(sparsity=0.97), quantize(quality=25)",
    "share(clusters=300)",
    "quantize(scheme=int8)",
    "quantize(scheme=uniform), strip",
    "quantize(scheme=trellis)",
];

fn portable_and_plain(input: &Path, folder: &Path, passes: &str) -> (PathBuf, PathBuf) {
    let (portable, plain) = (folder.join("portable.onnx"), folder.join("plain.onnx"));
    compress(input, &portable, &["--target", "portable", "--passes", passes]);
    program().arg("decompress").arg(&portable).arg("-o").arg(&plain).assert().success();
    (portable, plain)
}

/// How often each operator occurs in tract's plan of the model, optimised or not, and what it gives for fixed inputs.
fn in_tract(path: &Path, is_optimized: bool) -> (BTreeMap<String, usize>, Vec<Vec<u32>>) {
    let model = tract_onnx::onnx().model_for_path(path).unwrap();
    let model = if is_optimized { model.into_optimized() } else { model.into_typed() }.unwrap();
    let mut operators = BTreeMap::new();
    for node in model.nodes() {
        *operators.entry(node.op.name().to_string()).or_default() += 1;
    }
    let input = |outlet: &OutletId| {
        let fact = model.outlet_fact(*outlet).unwrap();
        let shape: Vec<usize> = fact.shape.iter().map(|length| length.to_usize().unwrap_or(1)).collect();
        let len = shape.iter().product::<usize>();
        let values: Vec<f32> = (0..len).map(|index| ((index * 7919 % 1009) as f32 - 504.0) / 300.0).collect();
        TValue::from(Tensor::from_shape(&shape, &values).unwrap())
    };
    let inputs = model.input_outlets().unwrap().iter().map(input).collect();
    let outputs = model.into_runnable().unwrap().run(inputs).unwrap();
    let bits = |output: &TValue| output.to_plain_array_view::<f32>().unwrap().iter().map(|v| v.to_bits()).collect();
    (operators, outputs.iter().map(bits).collect())
}

/// The values of all weights, in the order of their bytes.
fn values(path: &Path) -> Vec<Vec<u8>> {
    let model = Model::open(path).unwrap();
    let mut all: Vec<Vec<u8>> = model.weights().map(|(_, weight)| weight.original.bytes().to_vec()).collect();
    all.sort();
    all
}

/// Compares plans and outputs of pairs of models in onnxruntime, with optimisation and without.
const IN_ONNXRUNTIME: &str = "
import collections, os, sys, tempfile, numpy, onnx, onnxruntime
def run(path, level):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    options.graph_optimization_level = level
    if level == onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL:
        # Constants of the file are laid out for its kernels, computed ones are not: sums would be made in another order.
        options.add_session_config_entry('session.disable_prepacking', '1')
    with tempfile.TemporaryDirectory() as folder:
        plan = os.path.join(folder, 'plan.onnx')
        options.optimized_model_filepath = plan
        session = onnxruntime.InferenceSession(path, options, providers=['CPUExecutionProvider'])
        operators = collections.Counter(node.op_type for node in onnx.load(plan).graph.node)
    inputs = {}
    for given in session.get_inputs():
        shape = [length if isinstance(length, int) else 1 for length in given.shape]
        count = int(numpy.prod(shape))
        inputs[given.name] = ((numpy.arange(count) * 7919 % 1009 - 504) / 300).astype(numpy.float32).reshape(shape)
    return operators, [output.tobytes() for output in session.run(None, inputs)]
portable, plain = sys.argv[1:3]
levels = onnxruntime.GraphOptimizationLevel
folded, expected = run(portable, levels.ORT_ENABLE_ALL), run(plain, levels.ORT_ENABLE_ALL)
assert folded[0] == expected[0], (folded[0], expected[0])
assert folded[1] == expected[1], 'optimised outputs differ'
assert run(portable, levels.ORT_DISABLE_ALL)[1] == run(plain, levels.ORT_DISABLE_ALL)[1], 'plain outputs differ'
";

fn assert_both_runtimes_fold(portable: &Path, plain: &Path, what: &str) {
    let ((operators, outputs), (expected, same)) = (in_tract(portable, true), in_tract(plain, true));
    assert_eq!(operators, expected, "{what}: tract's plan holds operators that compute weights");
    assert!(outputs == same, "{what}: tract's outputs differ");
    assert!(in_tract(portable, false).1 == in_tract(plain, false).1, "{what}: tract's outputs differ, unoptimised");
    if let Some(python) = python("numpy, onnx, onnxruntime") {
        run_python(python, IN_ONNXRUNTIME, &[portable, plain]);
    }
}

#[test]
fn both_runtimes_fold_every_form_and_give_the_outputs_of_the_plain_file() {
    for passes in PIPELINES {
        let folder = folder();
        let (portable, plain) = portable_and_plain(&fixture("lenet5.onnx"), folder.path(), passes);
        assert!(portable.metadata().unwrap().len() < plain.metadata().unwrap().len(), "{passes}");
        assert_both_runtimes_fold(&portable, &plain, passes);
    }
}

#[test]
fn the_values_are_those_of_the_dense_target() {
    for passes in PIPELINES {
        let folder = folder();
        let (_, plain) = portable_and_plain(&fixture("lenet300.onnx"), folder.path(), passes);
        let dense = folder.path().join("dense.onnx");
        // The portable target quantises for codes of fixed length unless told otherwise.
        let same = passes.replace("quantize(quality", "quantize(scheme=fixed, quality");
        compress(&fixture("lenet300.onnx"), &dense, &["--target", "dense", "--passes", &same]);
        assert!(values(&plain) == values(&dense), "{passes}: the weights have other values");
    }
}

#[test]
fn convolutional_networks_keep_their_speed() {
    let Some(model) = shared_model("resnet20_cifar10.onnx") else { return };
    let folder = folder();
    let portable = folder.path().join("portable.onnx");
    compress(&model, &portable, &["--target", "portable"]);
    let plain = folder.path().join("plain.onnx");
    program().arg("decompress").arg(&portable).arg("-o").arg(&plain).assert().success();
    assert_both_runtimes_fold(&portable, &plain, "resnet20");
}

/// A MatMul of `[1, rows]` with a constant of `[rows, columns]`.
fn product(rows: usize, columns: usize, opset: i64, value: impl Fn(usize) -> f32) -> ModelProto {
    let declared = |name: &str, lengths: [usize; 2]| {
        let dim = lengths.map(|length| tensor_shape_proto::Dimension {
            value: Some(tensor_shape_proto::dimension::Value::DimValue(length as i64)),
            ..Default::default()
        });
        let shape = Some(TensorShapeProto { dim: dim.to_vec() });
        let tensor = type_proto::Tensor { elem_type: Some(DataType::Float as i32), shape };
        ValueInfoProto {
            name: Some(name.into()),
            r#type: Some(TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..Default::default() }),
            ..Default::default()
        }
    };
    let bytes: Vec<u8> = (0..rows * columns).flat_map(|index| value(index).to_le_bytes()).collect();
    let weight = TensorProto {
        name: Some("w".into()),
        dims: vec![rows as i64, columns as i64],
        data_type: Some(DataType::Float as i32),
        raw_data: Some(bytes.into()),
        ..Default::default()
    };
    let node = NodeProto {
        op_type: Some("MatMul".into()),
        input: vec!["x".into(), "w".into()],
        output: vec!["y".into()],
        ..Default::default()
    };
    let graph = GraphProto {
        name: Some("g".into()),
        node: vec![node],
        initializer: vec![weight],
        input: vec![declared("x", [1, rows])],
        output: vec![declared("y", [1, columns])],
        ..Default::default()
    };
    ModelProto {
        ir_version: Some(7),
        opset_import: vec![OperatorSetIdProto { domain: None, version: Some(opset) }],
        graph: Some(graph),
        ..Default::default()
    }
}

fn written(folder: &Path, model: &ModelProto) -> PathBuf {
    let path = folder.join("net.onnx");
    std::fs::write(&path, model.encode_to_vec()).unwrap();
    path
}

/// A number that looks drawn at random.
fn scrambled(index: usize) -> usize {
    let mixed = (index as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    ((mixed ^ mixed >> 29).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 33) as usize
}

#[test]
fn large_weights_are_folded_slab_by_slab() {
    // Two whole slabs and a part, in each of the ways.
    type Value = fn(usize) -> f32;
    let ways: [(&str, Value); 4] = [
        ("codes in one digit", |index| [-1.5, 0.25, 3.0][scrambled(index) % 3]),
        ("codes in two digits", |index| (scrambled(index) % 23) as f32 / 7.0),
        ("codes of a byte", |index| (scrambled(index) % 200) as f32 / 7.0),
        (
            "sparse",
            |index| if scrambled(index).is_multiple_of(20) { (scrambled(index) / 20 % 9) as f32 - 4.5 } else { 0.0 },
        ),
    ];
    for (way, value) in ways {
        let folder = folder();
        let input = written(folder.path(), &product(2111, 1003, 13, value));
        let (portable, plain) = portable_and_plain(&input, folder.path(), "recognise");
        assert!(values(&plain) == values(&input), "{way}: the weight has other values");
        assert!(portable.metadata().unwrap().len() * 3 < input.metadata().unwrap().len(), "{way}");
        assert_both_runtimes_fold(&portable, &plain, way);
    }
    let folder = folder();
    let input = written(folder.path(), &product(2111, 1003, 13, |index| (scrambled(index) % 1000) as f32 - 499.5));
    let (portable, plain) = portable_and_plain(&input, folder.path(), "quantize(scheme=int8)");
    assert_both_runtimes_fold(&portable, &plain, "affine");
}

#[test]
fn every_operator_exists_in_the_operator_set_of_the_model() {
    let Some(python) = python("onnx") else { return };
    let folder = folder();
    for (opset, name) in [(7, "seven"), (9, "nine"), (13, "thirteen"), (18, "eighteen")] {
        let sparse =
            |index| if scrambled(index).is_multiple_of(9) { (scrambled(index) / 9 % 17) as f32 - 8.0 } else { 0.0 };
        let input = written(folder.path(), &product(101, 67, opset, sparse));
        compress(&input, &folder.path().join(format!("{name}.portable.onnx")), &["--target", "portable"]);
    }
    let script = "
import glob, sys, onnx
paths = sorted(glob.glob(sys.argv[1] + '/*.portable.onnx'))
assert len(paths) == 4, paths
for path in paths:
    onnx.checker.check_model(path, full_check=True)
    assert len(onnx.load(path).graph.node) > 2, path
";
    run_python(python, script, &[folder.path()]);
}

#[test]
fn an_operator_set_that_is_too_old_is_named() {
    let folder = folder();
    let input = written(folder.path(), &product(101, 67, 6, |index| (index % 3) as f32));
    let output = folder.path().join("out.onnx");
    program()
        .arg(&input)
        .arg("-o")
        .arg(&output)
        .args(["--target", "portable"])
        .assert()
        .code(1)
        .stderr(predicates::str::contains("`w`"))
        .stderr(predicates::str::contains("operator set 7"));
    assert!(!output.exists());
}

#[test]
fn a_form_that_cannot_be_expressed_is_named_with_the_nearest_that_can() {
    let folder = folder();
    let output = folder.path().join("out.onnx");
    program()
        .arg(fixture("lenet5.onnx"))
        .arg("-o")
        .arg(&output)
        .args(["--target", "portable", "--preset", "universal"])
        .assert()
        .code(1)
        .stderr(predicates::str::contains("fc1.weight"))
        .stderr(predicates::str::contains("scheme=fixed"));
    assert!(!output.exists());
}

#[test]
fn portable_files_are_never_larger_and_open_in_the_checker() {
    let folder = folder();
    let models = std::fs::read_dir(fixture("models")).unwrap().map(|entry| entry.unwrap().path());
    for model in models.filter(|path| path.extension().is_some_and(|extension| extension == "onnx")) {
        for target in ["portable", "portable-int4"] {
            let output = folder.path().join(format!("{target}.{}", model.file_name().unwrap().display()));
            compress(&model, &output, &["--verify-each", "--target", target]);
            let before = Model::open(&model).unwrap().source().total_bytes();
            assert!(output.metadata().unwrap().len() <= before, "{}", model.display());
        }
    }
    let Some(python) = python("onnx") else { return };
    let script = "
import glob, sys, onnx
for path in sorted(glob.glob(sys.argv[1] + '/*.onnx')):
    try:
        onnx.checker.check_model(path)
    except Exception as error:
        raise SystemExit(f'{path}: {error}')
";
    run_python(python, script, &[folder.path()]);
}

fn json_of(arguments: &[&str]) -> Value {
    let done = program().args(arguments).arg("--json").assert().success();
    serde_json::from_slice(&done.get_output().stdout).expect("--json prints JSON")
}

#[test]
fn inspect_accounts_for_every_byte_and_validate_compares_in_both_runtimes() {
    let folder = folder();
    let portable = folder.path().join("portable.onnx");
    compress(&fixture("lenet5.onnx"), &portable, &["--target", "portable"]);
    let path = portable.display().to_string();
    let report = json_of(&["inspect", &path]);
    let weights = report["weights"].as_array().unwrap();
    assert_eq!(weights.len(), 8, "{report}");
    let bytes: u64 = weights.iter().map(|weight| weight["bytes"].as_u64().unwrap()).sum();
    assert_eq!(bytes + report["graph_bytes"].as_u64().unwrap(), portable.metadata().unwrap().len());
    assert!(report["graph_bytes"].as_u64().unwrap() < 2000, "what weights are computed from counts for them: {report}");
    let is_held = |form: &str| weights.iter().any(|weight| weight["form"] == form && weight["coder"].is_null());
    assert!(is_held("codebook"), "{report}");
    let (original, digits) = (fixture("lenet5.onnx").display().to_string(), fixture("digits").display().to_string());
    let report = json_of(&["validate", &original, &path, "--data", &digits, "--limit", "100", "--max-drop", "2"]);
    assert!(report["runs"].as_array().unwrap().iter().any(|run| run["runtime"] == "tract"), "{report}");
}

#[test]
fn a_portable_model_stays_as_it_is_and_a_packed_one_is_not_taken_for_a_plain_one() {
    let folder = folder();
    let [once, twice, packed] = ["once.onnx", "twice.onnx", "packed.onnx"].map(|name| folder.path().join(name));
    compress(&fixture("lenet300.onnx"), &once, &["--target", "portable"]);
    for target in ["portable", "packed"] {
        let done = program().arg(&once).arg("-o").arg(&twice).args(["--target", target]).assert().success();
        done.stderr(predicates::str::contains("already"));
        assert!(std::fs::read(&once).unwrap() == std::fs::read(&twice).unwrap());
    }
    compress(&fixture("lenet300.onnx"), &packed, &[]);
    let refused = program().arg(&packed).arg("-o").arg(&twice).args(["--target", "portable"]).assert().code(2);
    refused.stderr(predicates::str::contains("decompress"));
}

#[test]
fn a_budget_is_searched_for_the_portable_target_too() {
    let folder = folder();
    let portable = folder.path().join("portable.onnx");
    let (input, digits) = (fixture("lenet300.onnx").display().to_string(), fixture("digits").display().to_string());
    let output = portable.display().to_string();
    let arguments = [&input, "-o", &output, "--target", "portable", "--data", &digits, "--max-drop", "1"];
    let report = json_of(&arguments);
    assert!(report["search"]["candidates"].as_array().unwrap().len() > 2, "{report}");
    assert!(portable.metadata().unwrap().len() * 6 < fixture("lenet300.onnx").metadata().unwrap().len());
}

#[test]
fn four_bit_matrices_stay_in_four_bits_and_compute_what_their_levels_say() {
    let folder = folder();
    // 512 inputs suit blocks of 32.
    let input = written(folder.path(), &product(512, 96, 13, |index| (scrambled(index) % 2000) as f32 / 1e4 - 0.1));
    let int4 = folder.path().join("int4.onnx");
    compress(&input, &int4, &["--target", "portable-int4"]);
    assert!(int4.metadata().unwrap().len() * 6 < input.metadata().unwrap().len());
    let model = Model::open(&int4).unwrap();
    assert!(model.graph().node.iter().any(|node| node.op_type() == "MatMulNBits"));
    let (operators, outputs) = in_tract(&int4, true);
    assert!(operators.keys().all(|name| !name.contains("Gather") && !name.contains("Cast")), "{operators:?}");
    let original = in_tract(&input, true).1;
    let float = |bits: &[Vec<u32>]| -> Vec<f64> { bits[0].iter().map(|&v| f64::from(f32::from_bits(v))).collect() };
    let (found, expected) = (float(&outputs), float(&original));
    let error: f64 = found.iter().zip(&expected).map(|(a, b)| (a - b).powi(2)).sum();
    let energy: f64 = expected.iter().map(|v| v * v).sum();
    assert!(error < 0.02 * energy, "relative error {}", error / energy);
}
