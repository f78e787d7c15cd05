//! Small models, written out by hand, and what the tests compare.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::path::{Path, PathBuf};

use onnx_dcomp_ir::Model;
use onnx_dcomp_proto::attribute_proto::AttributeType;
use onnx_dcomp_proto::tensor_proto::{DataLocation, DataType};
use onnx_dcomp_proto::{
    AttributeProto, FunctionProto, GraphProto, Message, ModelProto, NodeProto, OperatorSetIdProto,
    StringStringEntryProto, TensorProto, ValueInfoProto,
};

pub(crate) fn tensor(name: &str, dims: &[i64], data_type: DataType) -> TensorProto {
    TensorProto {
        name: Some(name.to_owned()),
        dims: dims.to_vec(),
        data_type: Some(data_type as i32),
        ..TensorProto::default()
    }
}

pub(crate) fn floats(name: &str, dims: &[i64], values: &[f32]) -> TensorProto {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    TensorProto { raw_data: Some(bytes.into()), ..tensor(name, dims, DataType::Float) }
}

/// A tensor of `dims` that counts upwards.
pub(crate) fn ramp(name: &str, dims: &[i64]) -> TensorProto {
    let len: i64 = dims.iter().product();
    floats(name, dims, &(0..len).map(|value| value as f32 * 0.5 - 3.0).collect::<Vec<_>>())
}

pub(crate) fn int64s(name: &str, values: &[i64]) -> TensorProto {
    TensorProto { int64_data: values.to_vec(), ..tensor(name, &[values.len() as i64], DataType::Int64) }
}

pub(crate) fn external(mut tensor: TensorProto, entries: &[(&str, &str)]) -> TensorProto {
    tensor.raw_data = None;
    tensor.set_data_location(DataLocation::External);
    let entry = |(key, value): &(&str, &str)| StringStringEntryProto {
        key: Some((*key).to_owned()),
        value: Some((*value).to_owned()),
    };
    tensor.external_data = entries.iter().map(entry).collect();
    tensor
}

pub(crate) fn value(name: &str) -> ValueInfoProto {
    ValueInfoProto { name: Some(name.to_owned()), ..ValueInfoProto::default() }
}

pub(crate) fn node(operator: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
    NodeProto {
        op_type: Some(operator.to_owned()),
        input: inputs.iter().map(|name| (*name).to_owned()).collect(),
        output: outputs.iter().map(|name| (*name).to_owned()).collect(),
        ..NodeProto::default()
    }
}

pub(crate) fn attribute(name: &str, kind: AttributeType) -> AttributeProto {
    AttributeProto { name: Some(name.to_owned()), r#type: Some(kind as i32), ..AttributeProto::default() }
}

pub(crate) fn integer(name: &str, value: i64) -> AttributeProto {
    AttributeProto { i: Some(value), ..attribute(name, AttributeType::Int) }
}

pub(crate) fn constant(output: &str, tensor: TensorProto) -> NodeProto {
    NodeProto {
        attribute: vec![AttributeProto { t: Some(tensor), ..attribute("value", AttributeType::Tensor) }],
        ..node("Constant", &[], &[output])
    }
}

pub(crate) fn subgraph(name: &str, graph: GraphProto) -> AttributeProto {
    AttributeProto { g: Some(graph), ..attribute(name, AttributeType::Graph) }
}

/// A model of IR version 8 and opset 17 with inputs `x` and output `y`.
pub(crate) fn model(initializers: Vec<TensorProto>, nodes: Vec<NodeProto>) -> ModelProto {
    let graph = GraphProto {
        name: Some("main".to_owned()),
        node: nodes,
        initializer: initializers,
        input: vec![value("x")],
        output: vec![value("y")],
        ..GraphProto::default()
    };
    let import = OperatorSetIdProto { domain: Some(String::new()), version: Some(17) };
    ModelProto { ir_version: Some(8), opset_import: vec![import], graph: Some(graph), ..ModelProto::default() }
}

pub(crate) fn function(name: &str, inputs: &[&str], outputs: &[&str], nodes: Vec<NodeProto>) -> FunctionProto {
    FunctionProto {
        name: Some(name.to_owned()),
        domain: Some("local".to_owned()),
        input: inputs.iter().map(|name| (*name).to_owned()).collect(),
        output: outputs.iter().map(|name| (*name).to_owned()).collect(),
        node: nodes,
        ..FunctionProto::default()
    }
}

pub(crate) fn read(model: &ModelProto) -> Model {
    Model::from_bytes(model.encode_to_vec().into(), None).expect("the model is well-formed")
}

/// What reading `model` complains of.
pub(crate) fn complaint(model: &ModelProto) -> String {
    match Model::from_bytes(model.encode_to_vec().into(), None) {
        Ok(_) => panic!("the model should be refused"),
        Err(error) => error.to_string(),
    }
}

/// The weights' names with their values, in the order of the table.
pub(crate) fn weights(model: &Model) -> Vec<(String, Vec<usize>, Vec<u8>)> {
    let plain = |weight: &onnx_dcomp_ir::Weight| {
        (weight.name.clone(), weight.shape.clone(), weight.form.dense().bytes().to_vec())
    };
    model.weights().map(|(_, weight)| plain(weight)).collect()
}

/// The folder with models and data that are not in the repository.
pub(crate) fn data_folder() -> PathBuf {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    std::env::var_os("DCOMP_DATA").map_or_else(beside, PathBuf::from)
}

/// The models in `folder`, in order; none where there is no such folder.
pub(crate) fn models_in(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.filter_map(Result::ok).map(|entry| entry.path());
    let mut models: Vec<PathBuf> = paths.filter(|path| path.extension().is_some_and(|end| end == "onnx")).collect();
    models.sort();
    models
}

pub(crate) fn fixtures_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures")
}
