//! A model that nothing was done to comes out as it went in.

mod support;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use onnx_dcomp_ir::Model;
use onnx_dcomp_proto::attribute_proto::AttributeType;
use onnx_dcomp_proto::tensor_proto::{DataLocation, DataType};
use onnx_dcomp_proto::{AttributeProto, GraphProto, Message, ModelProto, NodeProto, SparseTensorProto, TensorProto};
use support::*;

/// Brings a message into one of its equivalent spellings: data inline and raw, sparse tensors and `value_floats` as
/// dense tensors. Written apart from the reader, with its own idea of each.
struct Normaliser {
    folder: PathBuf,
}

impl Normaliser {
    fn model(&self, mut model: ModelProto) -> ModelProto {
        model.graph.iter_mut().for_each(|graph| self.graph(graph));
        for training in &mut model.training_info {
            training.initialization.iter_mut().chain(&mut training.algorithm).for_each(|graph| self.graph(graph));
        }
        for function in &mut model.functions {
            self.nodes(&mut function.node);
            function.attribute_proto.iter_mut().for_each(|attribute| self.attribute(attribute, false));
        }
        model
    }

    fn graph(&self, graph: &mut GraphProto) {
        graph.initializer.iter_mut().for_each(|tensor| self.tensor(tensor));
        for sparse in std::mem::take(&mut graph.sparse_initializer) {
            graph.initializer.push(self.dense(sparse));
        }
        graph.initializer.sort_by(|a, b| a.name().cmp(b.name()));
        self.nodes(&mut graph.node);
    }

    fn nodes(&self, nodes: &mut [NodeProto]) {
        for node in nodes {
            let is_constant = node.op_type() == "Constant";
            node.attribute.iter_mut().for_each(|attribute| self.attribute(attribute, is_constant));
        }
    }

    fn attribute(&self, attribute: &mut AttributeProto, of_constant: bool) {
        if of_constant && attribute.name() == "value_floats" {
            let values = std::mem::take(&mut attribute.floats);
            attribute.t = Some(TensorProto { name: None, ..floats("", &[values.len() as i64], &values) });
            attribute.name = Some("value".to_owned());
            attribute.set_type(AttributeType::Tensor);
        }
        if of_constant && attribute.name() == "sparse_value" {
            let dense = attribute.sparse_tensor.take().map(|sparse| self.dense(sparse));
            attribute.t = dense.map(|dense| TensorProto { name: None, ..dense });
            attribute.name = Some("value".to_owned());
            attribute.set_type(AttributeType::Tensor);
        }
        attribute.t.iter_mut().chain(&mut attribute.tensors).for_each(|tensor| self.tensor(tensor));
        attribute.g.iter_mut().chain(&mut attribute.graphs).for_each(|graph| self.graph(graph));
    }

    fn tensor(&self, tensor: &mut TensorProto) {
        if tensor.data_location() == DataLocation::External {
            let entry = |key: &str| {
                tensor.external_data.iter().find(|entry| entry.key() == key).map(|entry| entry.value().to_owned())
            };
            let bytes = std::fs::read(self.folder.join(entry("location").unwrap())).unwrap();
            let start: usize = entry("offset").map_or(0, |text| text.parse().unwrap());
            let end = entry("length").map_or(bytes.len(), |text| start + text.parse::<usize>().unwrap());
            tensor.raw_data = Some(bytes[start..end].to_vec().into());
        }
        tensor.external_data.clear();
        tensor.data_location = None;
        let raw: Vec<u8> = match tensor.data_type() {
            1 => tensor.float_data.iter().flat_map(|value| value.to_le_bytes()).collect(),
            11 => tensor.double_data.iter().flat_map(|value| value.to_le_bytes()).collect(),
            2 | 3 => tensor.int32_data.iter().map(|&value| value as u8).collect(),
            10 | 16 => tensor.int32_data.iter().flat_map(|&value| (value as u16).to_le_bytes()).collect(),
            6 => tensor.int32_data.iter().flat_map(|value| value.to_le_bytes()).collect(),
            7 => tensor.int64_data.iter().flat_map(|value| value.to_le_bytes()).collect(),
            _ => return,
        };
        if tensor.raw_data.as_ref().is_none_or(|present| present.is_empty()) {
            tensor.raw_data = Some(raw.into());
        }
        tensor.float_data.clear();
        tensor.double_data.clear();
        tensor.int32_data.clear();
        tensor.int64_data.clear();
    }

    fn dense(&self, sparse: SparseTensorProto) -> TensorProto {
        let (mut values, mut indices) = (sparse.values.unwrap(), sparse.indices.unwrap());
        self.tensor(&mut values);
        self.tensor(&mut indices);
        let raw = indices.raw_data.unwrap();
        let indices_flat: Vec<i64> = raw.chunks(8).map(|word| i64::from_le_bytes(word.try_into().unwrap())).collect();
        let each = if indices.dims.len() == 2 { indices.dims[1] as usize } else { 1 };
        let values_raw = values.raw_data.clone().unwrap();
        let size = values_raw.len() / (indices_flat.len() / each);
        let mut bytes = vec![0; sparse.dims.iter().product::<i64>() as usize * size];
        for (place, element) in indices_flat.chunks(each).zip(values_raw.chunks(size)) {
            let strides = sparse.dims[1..].iter().copied().chain([1]);
            let at = match place {
                [linear] => *linear,
                place => place.iter().zip(strides).fold(0, |sum, (&index, stride)| (sum + index) * stride),
            };
            bytes[at as usize * size..][..size].copy_from_slice(element);
        }
        TensorProto { dims: sparse.dims, raw_data: Some(bytes.into()), ..values }
    }
}

fn check(path: &Path) {
    let shown = path.display();
    let normaliser = Normaliser { folder: path.parent().unwrap().to_owned() };
    let original = ModelProto::decode(std::fs::read(path).unwrap().as_slice()).unwrap();
    let model = Model::open(path).unwrap_or_else(|error| panic!("{error}"));
    model.verify().unwrap_or_else(|error| panic!("{shown}: {error}"));
    let bytes = model.to_bytes().unwrap();
    assert_eq!(bytes.len() as u64, model.plain_bytes().unwrap(), "{shown}: the announced size is not the real one");
    let mut streamed = Vec::new();
    assert_eq!(model.write(&mut streamed).unwrap(), bytes.len() as u64);
    assert!(streamed == bytes, "{shown}: streaming gives other bytes");
    let written = ModelProto::decode(bytes.as_slice()).unwrap();
    let (before, after) = (normaliser.model(original), normaliser.model(written));
    // A short assertion, as the messages are long.
    assert!(before == after, "{shown}: reading and writing changed the model");

    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("copy.onnx");
    let saved = model.save(&copy).unwrap();
    assert_eq!(saved.total_bytes(), bytes.len() as u64);
    let again = Model::open(&copy).unwrap();
    assert_eq!(weights(&model), weights(&again), "{shown}");
    assert!(again.to_bytes().unwrap() == bytes, "{shown}: writing twice gives other bytes");
}

#[test]
fn fixtures_come_back_as_they_were() {
    let mut models = models_in(&fixtures_folder());
    models.extend(models_in(&fixtures_folder().join("models")));
    assert!(!models.is_empty(), "the repository holds fixtures");
    models.iter().for_each(|path| check(path));
}

#[test]
fn shared_models_come_back_as_they_were() {
    let models = models_in(&data_folder().join("models"));
    if models.is_empty() {
        eprintln!("skipped: no models in {}", data_folder().display());
    }
    models.iter().for_each(|path| check(path));
}

#[test]
fn what_is_not_understood_stays() {
    let unknown = AttributeProto { s: Some(vec![1u8, 2, 3].into()), ..attribute("blob", AttributeType::String) };
    let mut odd = node("Odd", &["x"], &["y"]);
    odd.domain = Some("com.example".to_owned());
    odd.attribute = vec![unknown];
    let low_bits = TensorProto { raw_data: Some(vec![0x21, 0x43].into()), ..tensor("four", &[4], DataType::Uint4) };
    let text = TensorProto { string_data: vec![vec![b'a'].into(); 5], ..tensor("text", &[5], DataType::String) };
    let proto = model(vec![low_bits, text], vec![odd]);
    assert!(ModelProto::decode(read(&proto).to_bytes().unwrap().as_slice()).unwrap() == proto);
}

#[test]
fn the_source_knows_its_file() {
    let path = fixtures_folder().join("lenet300.onnx");
    let model = Model::open(&path).unwrap();
    let source = model.source();
    assert_eq!(source.path(), Some(path.as_path()));
    assert_eq!(source.total_bytes(), std::fs::metadata(&path).unwrap().len());
    assert_eq!(source.bytes()[..], std::fs::read(&path).unwrap()[..]);
    let empty = Model::from_bytes(model.source().bytes().clone(), None).unwrap();
    assert_eq!(empty.source().sha256_hex(), source.sha256_hex());
    assert_eq!(source.sha256_hex().len(), 64);
}

#[test]
fn names_of_weights_are_unique() {
    for path in models_in(&fixtures_folder().join("models")) {
        let model = Model::open(&path).unwrap();
        let names: BTreeSet<&str> = model.weights().map(|(_, weight)| weight.name.as_str()).collect();
        assert_eq!(names.len(), model.weights().count(), "{}", path.display());
    }
}
