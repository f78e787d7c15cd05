//! Small models built in code, and the models to try passes on.
#![allow(dead_code, unreachable_pub, missing_docs)] // every test file uses another part of it

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use onnx_dcomp_ir::{Evidence, Model};
use onnx_dcomp_passes::{Pass, PassReport};
use onnx_dcomp_proto::attribute_proto::AttributeType;
use onnx_dcomp_proto::tensor_shape_proto::{Dimension, dimension};
use onnx_dcomp_proto::{
    AttributeProto, GraphProto, Message, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto,
    TypeProto, ValueInfoProto, type_proto,
};

pub fn node(operator: &str, inputs: &[&str], output: &str, attributes: Vec<AttributeProto>) -> NodeProto {
    NodeProto {
        op_type: Some(operator.into()),
        name: Some(format!("the node that computes {output}")),
        input: inputs.iter().map(|&n| n.into()).collect(),
        output: vec![output.into()],
        attribute: attributes,
        ..NodeProto::default()
    }
}

pub fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto { i: Some(value), ..attribute(name, AttributeType::Int) }
}

pub fn ints(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto { ints: values.to_vec(), ..attribute(name, AttributeType::Ints) }
}

pub fn float(name: &str, value: f32) -> AttributeProto {
    AttributeProto { f: Some(value), ..attribute(name, AttributeType::Float) }
}

pub fn graph_attribute(name: &str, graph: GraphProto) -> AttributeProto {
    AttributeProto { g: Some(graph), ..attribute(name, AttributeType::Graph) }
}

pub type Attribute = AttributeProto;

fn attribute(name: &str, kind: AttributeType) -> AttributeProto {
    AttributeProto { name: Some(name.into()), r#type: Some(kind as i32), ..AttributeProto::default() }
}

pub fn floats(name: &str, dims: &[i64], values: &[f32]) -> TensorProto {
    assert_eq!(dims.iter().product::<i64>(), values.len() as i64);
    let raw: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    tensor(name, dims, 1, raw)
}

pub fn longs(name: &str, values: &[i64]) -> TensorProto {
    let raw: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    tensor(name, &[values.len() as i64], 7, raw)
}

pub fn tensor(name: &str, dims: &[i64], data_type: i32, raw: Vec<u8>) -> TensorProto {
    TensorProto {
        name: Some(name.into()),
        dims: dims.to_vec(),
        data_type: Some(data_type),
        raw_data: Some(raw.into()),
        ..TensorProto::default()
    }
}

/// Numbers without a pattern, in -1..1.
pub fn noise(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(12_345);
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / 8_388_608.0 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

/// A value of floats; lengths of 0 stand for an axis `N`.
pub fn value(name: &str, dims: &[i64]) -> ValueInfoProto {
    typed_value(name, dims, 1)
}

pub fn typed_value(name: &str, dims: &[i64], element: i32) -> ValueInfoProto {
    let dim = |&length: &i64| {
        let value =
            if length == 0 { dimension::Value::DimParam("N".into()) } else { dimension::Value::DimValue(length) };
        Dimension { value: Some(value), denotation: None }
    };
    let shape = TensorShapeProto { dim: dims.iter().map(dim).collect() };
    let tensor = type_proto::Tensor { elem_type: Some(element), shape: Some(shape) };
    let kind = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), denotation: None };
    ValueInfoProto { name: Some(name.into()), r#type: Some(kind), ..ValueInfoProto::default() }
}

pub fn graph(
    nodes: Vec<NodeProto>,
    initializer: Vec<TensorProto>,
    input: Vec<ValueInfoProto>,
    output: Vec<ValueInfoProto>,
) -> GraphProto {
    GraphProto { node: nodes, name: Some("a graph".into()), initializer, input, output, ..GraphProto::default() }
}

pub fn proto(graph: GraphProto, opset: i64) -> ModelProto {
    ModelProto {
        ir_version: Some(8),
        opset_import: vec![OperatorSetIdProto { domain: None, version: Some(opset) }],
        graph: Some(graph),
        ..ModelProto::default()
    }
}

pub fn model(graph: GraphProto) -> Model {
    open(&proto(graph, 17))
}

pub fn open(proto: &ModelProto) -> Model {
    let model = Model::from_bytes(proto.encode_to_vec().into(), None).expect("a sound model");
    model.verify().expect("a sound model");
    model
}

/// Runs `pass` on `model`, which must stay sound.
pub fn run(pass: &dyn Pass, model: &mut Model) -> PassReport {
    let report = pass.run(model, &Evidence::default()).expect("the pass runs");
    if let Err(error) = model.verify() {
        panic!("{error}\n{}", onnx_dcomp_passes::print_model(model));
    }
    report
}

/// The floats of the initializer `name`, as the saved file will hold them.
pub fn read(model: &Model, name: &str) -> Vec<f32> {
    let tensor = model.graph().initializer.iter().find(|t| t.name() == name).expect("the initializer exists");
    if let Some(id) = onnx_dcomp_ir::marker::weight_of(tensor) {
        return model.weight(id).form.dense().to_f32();
    }
    tensor.raw_data().as_chunks().0.iter().map(|&word| f32::from_le_bytes(word)).collect()
}

pub fn operators(model: &Model) -> Vec<&str> {
    model.graph().node.iter().map(|n| n.op_type()).collect()
}

/// The small models in the repository.
pub fn fixtures() -> Vec<PathBuf> {
    models_in(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fixtures/models"))
}

/// The trained models in the folder that `DCOMP_DATA` names (default: `../shared` beside the repository); none where
/// that is not there.
pub fn trained() -> Vec<PathBuf> {
    let beside = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    let folder = std::env::var_os("DCOMP_DATA").map_or_else(beside, PathBuf::from).join("models");
    let models = models_in(folder);
    if models.is_empty() {
        println!("skipped: DCOMP_DATA names no folder with models");
    }
    models
}

fn models_in(folder: PathBuf) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> =
        entries.map(|e| e.path()).filter(|path| path.extension().is_some_and(|e| e == "onnx")).collect();
    paths.sort();
    paths
}

/// Exit code of `same_outputs.py` where onnxruntime is not installed.
const NOT_INSTALLED: i32 = 3;

/// What `same_outputs.py` says of pairs of models, one pair a line, a tab between; `None` where it cannot run.
pub fn same_outputs(pairs: &str) -> Option<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let local = root.join("../.venv/bin/python");
    let python = if local.exists() { local.into_os_string() } else { "python3".into() };
    let python = std::env::var_os("DCOMP_PYTHON").unwrap_or(python);
    let mut child = Command::new(python)
        .arg(root.join("tests/same_outputs.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .ok()?;
    // A script that ends at once closes the pipe, which is no failure.
    let _ = child.stdin.take()?.write_all(pairs.as_bytes());
    let output = child.wait_with_output().ok()?;
    match output.status.code() {
        Some(NOT_INSTALLED) => None,
        _ => Some(String::from_utf8_lossy(&output.stdout).into_owned()),
    }
}
