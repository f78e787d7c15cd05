//! Evidence from synthetic inputs: what it says, and that it says the same twice.

#![cfg(feature = "tract")]

use std::path::{Path, PathBuf};

use onnx_dcomp_engine::evidence::{EvidenceOptions, gather, layer, moments, synthetic};
use onnx_dcomp_engine::{PreprocessOptions, Tensor};
use onnx_dcomp_ir::{Evidence, Model};
use onnx_dcomp_proto::{
    AttributeProto, GraphProto, Message, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto,
    TypeProto, ValueInfoProto, tensor_shape_proto, type_proto,
};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures").join(name)
}

fn evidence_of(name: &str, options: &EvidenceOptions) -> (Model, Evidence) {
    let path = fixture(name);
    let model = Model::open(&path).expect("the fixture is there");
    let preprocess = PreprocessOptions::beside(&path).expect("readable").unwrap_or_default();
    let options = EvidenceOptions { preprocess, ..options.clone() };
    let evidence = gather(&model, &options, &mut |done, total| assert!(done <= total)).expect("evidence");
    (model, evidence)
}

fn few() -> EvidenceOptions {
    EvidenceOptions { samples: 32, ..EvidenceOptions::default() }
}

#[test]
fn every_kernel_and_bias_of_lenet_gets_a_sensitivity() {
    let (model, evidence) = evidence_of("lenet5.onnx", &few());
    for (_, weight) in model.weights() {
        let sensitivity = evidence.sensitivity.get(&weight.name);
        assert!(sensitivity.is_some_and(|s| s.is_finite() && *s > 0.0), "{}: {sensitivity:?}", weight.name);
    }
    assert!(evidence.source.contains("synthetic images"), "{}", evidence.source);
}

#[test]
fn second_moments_cover_the_rows_and_are_symmetric() {
    let (model, evidence) = evidence_of("lenet5.onnx", &few());
    assert_eq!(evidence.second_moment.len(), 4);
    for (name, moment) in &evidence.second_moment {
        let weight = model.weight(model.weight_named(name).expect("the weight is there"));
        assert_eq!(moment.columns(), weight.len() / weight.shape[0], "{name}");
        for block in &moment.blocks {
            for row in 0..block.size {
                assert!(block.values[row * block.size + row] >= 0.0, "{name}: a mean square is not negative");
                for column in 0..row {
                    let (a, b) = (block.values[row * block.size + column], block.values[column * block.size + row]);
                    assert!((a - b).abs() <= 1e-4 * (1.0 + a.abs()), "{name}: {a} and {b}");
                }
            }
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_evidence_on_any_number_of_threads() {
    let with = |threads: usize, seed: u64| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads start");
        pool.install(|| evidence_of("lenet300.onnx", &EvidenceOptions { seed, ..few() }).1)
    };
    let evidence = with(1, 7);
    assert_eq!(evidence, with(3, 7));
    assert_ne!(evidence, with(1, 8));
}

#[test]
fn a_model_too_large_to_run_is_judged_by_its_weights() {
    let options = EvidenceOptions { largest_model_bytes: 1000, ..few() };
    let (_, evidence) = evidence_of("lenet300.onnx", &options);
    assert!(evidence.sensitivity.is_empty() && evidence.second_moment.is_empty());
    assert!(evidence.source.contains("the weights alone"), "{}", evidence.source);
}

#[test]
fn a_model_that_no_runtime_knows_is_judged_by_its_weights() {
    let (_, evidence) = evidence_of("models/unknown_domain.onnx", &few());
    assert!(evidence.sensitivity.is_empty());
    assert!(evidence.source.contains("the weights alone"), "{}", evidence.source);
}

#[test]
fn recurrent_embedding_and_shared_models_do_not_fail() {
    for name in ["lstm", "embedding", "shared_weight", "grouped_convolutions", "if_branches", "half_precision"] {
        let (_, evidence) = evidence_of(&format!("models/{name}.onnx"), &few());
        assert!(!evidence.source.is_empty(), "{name}");
        assert!(evidence.sensitivity.values().all(|s| s.is_finite() && *s > 0.0), "{name}");
    }
}

/// A model of these inputs (`i` of integers, the others of floats) and nodes, the last of which gives `y`, with a weight
/// `w` and an integer `zero`.
fn product(inputs: &[(&str, &[i64])], nodes: Vec<NodeProto>, weight_shape: [i64; 2]) -> Model {
    let count = (weight_shape[0] * weight_shape[1]) as usize;
    let values = (0..count).flat_map(|index| ((index % 13) as f32 - 6.0).to_le_bytes()).collect::<Vec<u8>>();
    let weight = TensorProto {
        name: Some("w".to_owned()),
        dims: weight_shape.to_vec(),
        data_type: Some(1),
        raw_data: Some(values.into()),
        ..Default::default()
    };
    let zero = TensorProto {
        name: Some("zero".to_owned()),
        data_type: Some(7),
        int64_data: vec![0],
        dims: vec![1],
        ..Default::default()
    };
    let graph = GraphProto {
        name: Some("g".to_owned()),
        node: nodes,
        initializer: vec![weight, zero],
        input: inputs.iter().map(|(name, shape)| value(name, shape, if *name == "i" { 7 } else { 1 })).collect(),
        output: vec![ValueInfoProto { name: Some("y".to_owned()), ..value("y", &[], 1) }],
        ..Default::default()
    };
    let opset = OperatorSetIdProto { domain: None, version: Some(17) };
    let model = ModelProto { ir_version: Some(8), opset_import: vec![opset], graph: Some(graph), ..Default::default() };
    Model::from_bytes(model.encode_to_vec().into(), None).expect("a model")
}

fn value(name: &str, shape: &[i64], element: i32) -> ValueInfoProto {
    let length = |&length: &i64| tensor_shape_proto::Dimension {
        value: Some(tensor_shape_proto::dimension::Value::DimValue(length)),
        ..Default::default()
    };
    // The output's shape is left open.
    let shape = (name != "y").then(|| TensorShapeProto { dim: shape.iter().map(length).collect() });
    let tensor = type_proto::Tensor { elem_type: Some(element), shape };
    let kind = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..Default::default() };
    ValueInfoProto { name: Some(name.to_owned()), r#type: Some(kind), ..Default::default() }
}

fn node(operator: &str, inputs: &[&str], output: &str) -> NodeProto {
    NodeProto {
        op_type: Some(operator.to_owned()),
        input: inputs.iter().map(|&name| name.to_owned()).collect(),
        output: vec![output.to_owned()],
        ..Default::default()
    }
}

fn source_of(model: &Model) -> String {
    gather(model, &few(), &mut |_, _| {}).expect("evidence").source
}

#[test]
fn a_first_input_without_axes_counts_no_samples() {
    let nodes = vec![node("Mul", &["s", "x"], "z"), node("MatMul", &["z", "w"], "y")];
    let source = source_of(&product(&[("s", &[]), ("x", &[1, 64])], nodes, [64, 8]));
    assert!(source.contains("run in tract"), "{source}");
}

#[test]
fn a_runtime_that_panics_is_a_model_that_does_not_run() {
    let cast = NodeProto {
        attribute: vec![AttributeProto {
            name: Some("to".to_owned()),
            r#type: Some(2),
            i: Some(1),
            ..Default::default()
        }],
        ..node("Cast", &["d"], "f")
    };
    let nodes =
        vec![node("Div", &["i", "zero"], "d"), cast, node("MatMul", &["x", "w"], "z"), node("Add", &["z", "f"], "y")];
    let source = source_of(&product(&[("x", &[1, 64]), ("i", &[1])], nodes, [64, 8]));
    assert!(source.contains("the weights alone") && source.contains("divide by zero"), "{source}");
}

#[test]
fn an_input_beyond_all_memory_is_not_drawn() {
    for shape in [&[1 << 40, 64], &[1 << 62, 1 << 62]] {
        let model = product(&[("x", shape)], vec![node("MatMul", &["x", "w"], "y")], [64, 8]);
        let source = source_of(&model);
        assert!(source.contains("the weights alone") && source.contains("`x`"), "{source}");
    }
}

#[test]
fn second_moments_of_a_very_wide_layer_are_bounded() {
    let columns = 1 << 18;
    let model = product(&[("x", &[1, columns])], vec![node("MatMul", &["x", "w"], "y")], [columns, 1]);
    let layer = &layer::layers(&model)[0];
    let mut moment = moments::Accumulator::new(layer, moments::PatchCount::ROUGH);
    let input = Tensor::from_f32(vec![1, columns as usize], vec![0.5; columns as usize]).expect("a tensor");
    moment.add(layer, &input, 1);
    let moment = moment.finish().expect("a moment");
    let elements: usize = moment.blocks.iter().map(|block| block.values.len()).sum();
    assert_eq!(moment.columns(), columns as usize);
    assert!(elements <= 1 << 26, "{elements} elements");
    assert!((moment.mean_square() - 0.25).abs() < 1e-6);
}

#[test]
fn generators_depend_on_their_seed_alone() {
    use rand::RngExt;
    let draw = |seed: u64| synthetic::generator(seed).random_range(0.0f64..1.0);
    assert_eq!(draw(3).to_bits(), draw(3).to_bits());
    assert_ne!(draw(3).to_bits(), draw(4).to_bits());
}
