//! Saving is atomic, and large models get external data that other readers can map.

mod support;

use std::path::Path;

use onnx_dcomp_forms::{DType, Form, Grid, GridKind, Steps};
use onnx_dcomp_ir::{IrError, Model, SaveOptions};
use onnx_dcomp_proto::tensor_proto::DataLocation;
use onnx_dcomp_proto::{Message, ModelProto};
use support::*;
use tempfile::TempDir;

fn three_weights() -> Model {
    let nodes = vec![
        node("MatMul", &["x", "a"], &["p"]),
        node("MatMul", &["p", "b"], &["q"]),
        constant("c", ramp("", &[50, 10])),
        node("Add", &["q", "small"], &["r"]),
        node("MatMul", &["r", "c"], &["y"]),
    ];
    read(&model(vec![ramp("a", &[50, 50]), ramp("b", &[50, 50]), ramp("small", &[50])], nodes))
}

fn tiny_limit() -> SaveOptions {
    SaveOptions { largest_file_bytes: 4000, ..SaveOptions::default() }
}

fn files_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<String> = entries.map(|name| name.to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn models_beyond_the_limit_get_one_aligned_file_of_external_data() {
    let model = three_weights();
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("m.onnx");
    let saved = model.save_with(&path, &tiny_limit()).unwrap();
    assert_eq!(files_in(folder.path()), ["m.onnx", "m.onnx.data"]);
    assert_eq!(saved.model_bytes, std::fs::metadata(&path).unwrap().len());
    assert_eq!(saved.external_bytes, std::fs::metadata(folder.path().join("m.onnx.data")).unwrap().len());
    assert!(saved.model_bytes <= 4000);
    let proto = ModelProto::decode(std::fs::read(&path).unwrap().as_slice()).unwrap();
    assert_eq!((proto.ir_version(), proto.opset_import.clone()), (8, model.proto.opset_import.clone()));
    for tensor in &proto.graph.unwrap().initializer {
        let entry = |key: &str| {
            tensor.external_data.iter().find(|entry| entry.key() == key).map(|entry| entry.value().to_owned())
        };
        if tensor.name() == "small" {
            assert_eq!((tensor.data_location(), entry("location")), (DataLocation::Default, None));
        } else {
            assert_eq!(tensor.data_location(), DataLocation::External);
            assert_eq!(entry("location").as_deref(), Some("m.onnx.data"));
            assert_eq!(entry("offset").unwrap().parse::<u64>().unwrap() % 4096, 0);
            assert_eq!(entry("length").as_deref(), Some("10000"));
        }
    }
    let again = Model::open(&path).unwrap();
    assert_eq!(weights(&again), weights(&model));
    assert_eq!(again.verify().map_err(|error| error.to_string()), Ok(()));
}

#[test]
fn a_model_with_external_data_can_be_saved_over_itself() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("m.onnx");
    let model = three_weights();
    model.save_with(&path, &tiny_limit()).unwrap();
    let opened = Model::open(&path).unwrap();
    opened.save_with(&path, &tiny_limit()).unwrap();
    // The map of the old files outlives them.
    assert_eq!(weights(&opened), weights(&model));
    assert_eq!(weights(&Model::open(&path).unwrap()), weights(&model));
    assert_eq!(files_in(folder.path()), ["m.onnx", "m.onnx.data"]);
}

#[test]
fn forms_are_written_as_their_dense_values() {
    let mut model = three_weights();
    let id = model.weight_named("a").unwrap();
    let levels: Vec<i16> = (0..2500).map(|level| level % 7 - 3).collect();
    let grid = Grid::new(levels, Steps::PerTensor(0.25), GridKind::Trellis, DType::F32).unwrap();
    model.set_form(id, Form::Grid(grid)).unwrap();
    let again = Model::from_bytes(model.to_bytes().unwrap().into(), None).unwrap();
    assert_eq!(weights(&again), weights(&model));
}

#[test]
fn a_failed_save_leaves_what_was_there() {
    let model = three_weights();
    let folder = TempDir::new().unwrap();
    let nowhere = folder.path().join("gone/m.onnx");
    assert!(matches!(model.save(&nowhere), Err(IrError::Write { .. })));
    let occupied = folder.path().join("occupied");
    std::fs::create_dir(&occupied).unwrap();
    assert!(matches!(model.save(&occupied), Err(IrError::Write { .. })));
    assert_eq!(files_in(folder.path()), ["occupied"]);

    let path = folder.path().join("m.onnx");
    std::fs::write(&path, b"old").unwrap();
    std::fs::write(folder.path().join("m.onnx.data"), b"old data").unwrap();
    let mut broken = model.clone();
    broken.graph_mut().initializer[0].external_data[0].value = Some("17".to_owned());
    assert!(matches!(broken.save(&path), Err(IrError::Unsound { .. })));
    let impossible = SaveOptions { largest_file_bytes: 100, ..SaveOptions::default() };
    assert!(matches!(model.save_with(&path, &impossible), Err(IrError::TooLarge { .. })));
    assert_eq!(std::fs::read(&path).unwrap(), b"old");
    assert_eq!(std::fs::read(folder.path().join("m.onnx.data")).unwrap(), b"old data");
    assert_eq!(files_in(folder.path()), ["m.onnx", "m.onnx.data", "occupied"]);
}
