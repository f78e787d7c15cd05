//! Each kind of bad input gets a message that names the file, the tensor and what was expected.

mod support;

use std::path::{Path, PathBuf};

use onnx_dcomp_ir::Model;
use onnx_dcomp_proto::tensor_proto::DataType;
use onnx_dcomp_proto::{Message, ModelProto, StringStringEntryProto, TensorProto};
use proptest::prelude::*;
use support::*;
use tempfile::TempDir;

/// What opening a file with these bytes complains of.
fn complaint_of_file(name: &str, bytes: &[u8]) -> String {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    open_complaint(&path)
}

fn open_complaint(path: &Path) -> String {
    match Model::open(path) {
        Ok(_) => panic!("{} should be refused", path.display()),
        Err(error) => error.to_string(),
    }
}

fn assert_says(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "`{part}` is not in: {message}");
    }
}

#[test]
fn files_that_are_no_models_say_so() {
    let missing = open_complaint(Path::new("no/such/model.onnx"));
    assert_says(&missing, &["Cannot read no/such/model.onnx", "No such file"]);
    assert_says(&open_complaint(&std::env::temp_dir()), &["Cannot read", "not a regular file"]);
    assert_says(&complaint_of_file("a.onnx", b""), &["a.onnx is not an ONNX model", "empty"]);
    assert_says(
        &complaint_of_file("b.onnx", b"<html>not found</html>"),
        &["b.onnx is not an ONNX model", "ModelProto"],
    );
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n";
    assert_says(&complaint_of_file("c.onnx", pointer), &["Git LFS pointer", "git lfs pull"]);
    let no_graph = ModelProto { ir_version: Some(8), ..ModelProto::default() }.encode_to_vec();
    assert_says(&complaint_of_file("d.onnx", &no_graph), &["d.onnx is not an ONNX model", "graph, found none"]);
}

#[test]
fn a_truncated_file_says_what_is_missing() {
    let bytes = std::fs::read(fixtures_folder().join("lenet300.onnx")).unwrap();
    let message = complaint_of_file("cut.onnx", &bytes[..bytes.len() / 2]);
    assert_says(&message, &["cut.onnx is truncated", "its graph takes 1,06", "bytes, found 533,"]);
}

#[test]
fn data_that_does_not_fit_the_shape_is_refused() {
    let raw = |bytes: usize| TensorProto {
        raw_data: Some(vec![0u8; bytes].into()),
        ..tensor("fc1.weight", &[500, 800], DataType::Float)
    };
    let cases = [
        (raw(1_599_996), "shape 500×800 needs 1,600,000 bytes of raw data, found 1,599,996; the file is truncated"),
        (raw(1_600_004), "shape 500×800 needs 1,600,000 bytes of raw data, found 1,600,004; the file is damaged"),
        (tensor("fc1.weight", &[500, 800], DataType::Float), "needs 1,600,000 bytes of raw data, found 0"),
        (
            TensorProto { float_data: vec![0.0; 7], ..tensor("fc1.weight", &[2, 4], DataType::Float) },
            "shape 2×4 needs 8 elements of float_data, found 7",
        ),
        (
            TensorProto { float_data: vec![0.0; 8], ..tensor("fc1.weight", &[2, 4], DataType::Double) },
            "shape 2×4 needs 8 elements of double_data, found 0",
        ),
        (
            TensorProto { int32_data: vec![0, 0, 1 << 16, 0], ..tensor("fc1.weight", &[4], DataType::Float16) },
            "entry 2 of int32_data is 65536, which is no f16",
        ),
        (
            TensorProto { int32_data: vec![0, -129, 0, 0], ..tensor("fc1.weight", &[4], DataType::Int8) },
            "entry 1 of int32_data is -129, which is no i8",
        ),
        (tensor("fc1.weight", &[5, -2], DataType::Float), "axis 1 of its shape is -2"),
        (tensor("fc1.weight", &[1 << 31, 1 << 31, 4], DataType::Float), "more elements than any memory holds"),
        (tensor("fc1.weight", &[1 << 40], DataType::Float), "found 0; the file is truncated"),
    ];
    for (tensor, expected) in cases {
        let bytes = model(vec![tensor], vec![]).encode_to_vec();
        assert_says(&complaint_of_file("in.onnx", &bytes), &["Cannot read `fc1.weight` (", "in.onnx)", expected]);
    }
}

#[test]
fn our_own_markers_are_refused_in_files() {
    let mut forged = ramp("w", &[4]);
    forged
        .external_data
        .push(StringStringEntryProto { key: Some("dcomp.weight".to_owned()), value: Some("0".to_owned()) });
    assert_says(&complaint(&model(vec![forged], vec![])), &["`w`", "dcomp.weight", "reserved"]);
}

/// Keys and values of a tensor's external data.
type Entries<'a> = &'a [(&'a str, &'a str)];

/// A folder `inside` with a model whose tensor `w` has the given external data, and a file `secret.bin` outside.
fn folder_with(entries: Entries) -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("secret.bin"), [1u8; 64]).unwrap();
    let inside = folder.path().join("inside");
    std::fs::create_dir_all(inside.join("sub")).unwrap();
    let data: Vec<u8> = (0..16u32).flat_map(|value| (value as f32).to_le_bytes()).collect();
    std::fs::write(inside.join("w.bin"), &data).unwrap();
    std::fs::write(inside.join("sub/w.bin"), &data).unwrap();
    let path = inside.join("m.onnx");
    let proto = model(vec![external(tensor("w", &[2, 4], DataType::Float), entries)], vec![]);
    std::fs::write(&path, proto.encode_to_vec()).unwrap();
    (folder, path)
}

#[test]
fn external_data_is_read_by_offset_and_length() {
    let cases: [(Entries, f32); 4] = [
        (&[("location", "w.bin"), ("offset", "16"), ("length", "32")], 4.0),
        (&[("location", "w.bin"), ("offset", "32")], 8.0),
        (&[("location", "./sub/w.bin"), ("length", "32")], 0.0),
        (&[("location", "w.bin"), ("checksum", "unused")], 0.0),
    ];
    for (entries, first) in cases {
        let (_folder, path) = folder_with(entries);
        let model = Model::open(&path).unwrap();
        let weight = model.weight(model.weight_named("w").unwrap());
        let expected: Vec<f32> = (0..8).map(|value| value as f32 + first).collect();
        assert_eq!(weight.original.to_f32(), expected);
        assert_eq!(model.source().total_bytes(), std::fs::metadata(&path).unwrap().len() + 64);
        assert_eq!(model.source().external_files().count(), 1);
    }
}

#[test]
fn external_data_of_tensors_that_are_no_weights_comes_in_too() {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("i.bin"), 7i64.to_le_bytes()).unwrap();
    let shape = external(tensor("shape", &[1], DataType::Int64), &[("location", "i.bin")]);
    let bytes = model(vec![shape], vec![]).encode_to_vec();
    let model = Model::from_bytes(bytes.into(), Some(folder.path())).unwrap();
    drop(folder);
    assert_eq!(model.constant(model.graph(), "shape").and_then(|constant| constant.integers()), Some(vec![7]));
    let written = ModelProto::decode(model.to_bytes().unwrap().as_slice()).unwrap();
    assert!(written.graph.unwrap().initializer[0].external_data.is_empty());
}

#[test]
fn external_data_that_is_missing_short_or_outside_is_refused() {
    let absolute = std::env::temp_dir().join("w.bin").display().to_string();
    let cases: [(Entries, &[&str]); 10] = [
        (&[("location", "gone.bin")], &["gone.bin cannot be read", "No such file"]),
        (&[("location", "w.bin"), ("offset", "40")], &["w.bin ends at byte 64", "bytes 40 to 72", "truncated"]),
        (&[("location", "w.bin"), ("offset", "18446744073709551615")], &["ends at byte 64"]),
        (&[("location", "../secret.bin")], &["`../secret.bin` climbs out of the folder"]),
        (&[("location", "sub/../../secret.bin")], &["climbs out of the folder"]),
        (&[("location", &absolute)], &["is an absolute path"]),
        (&[("offset", "0")], &["entry `location`", "missing"]),
        (&[("location", "w.bin"), ("offset", "-4")], &["entry `offset`", "`-4`", "a number of bytes"]),
        (&[("location", "w.bin"), ("length", "16")], &["shape 2×4 needs 32 bytes of external data, found 16"]),
        (&[("location", "sub")], &["sub cannot be read", "not a regular file"]),
    ];
    for (entries, expected) in cases {
        let (_folder, path) = folder_with(entries);
        let message = open_complaint(&path);
        assert_says(&message, &["Cannot read `w` (", "m.onnx)"]);
        assert_says(&message, expected);
    }
    let proto = model(vec![external(tensor("w", &[4], DataType::Float), &[("location", "w.bin")])], vec![]);
    assert_says(&complaint(&proto), &["`w`", "`w.bin`", "not read from a folder"]);
}

#[cfg(unix)]
#[test]
fn links_may_stay_in_the_folder_but_not_leave_it() {
    let (folder, path) = folder_with(&[("location", "link.bin")]);
    let link = folder.path().join("inside/link.bin");
    std::os::unix::fs::symlink("../secret.bin", &link).unwrap();
    assert_says(&open_complaint(&path), &["`link.bin` is a link that leads out of the folder"]);
    std::fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink("sub/w.bin", &link).unwrap();
    assert!(Model::open(&path).is_ok());
}

/// Reads, and where that works does all that reads the whole model; nothing may panic.
fn exercise(bytes: Vec<u8>) {
    if let Ok(model) = Model::from_bytes(bytes.into(), None) {
        let _ = model.verify();
        let _ = model.unknown_fields();
        let written = model.to_bytes().unwrap();
        // What we write we can read.
        assert!(Model::from_bytes(written.into(), None).is_ok());
    }
}

/// The head of a real model, and small models with everything in them that the reader knows.
fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = vec![std::fs::read(fixtures_folder().join("lenet300.onnx")).unwrap()];
    for name in ["if_branches", "sparse_initializer", "typed_fields", "local_function", "constant_value_floats"] {
        seeds.extend(std::fs::read(fixtures_folder().join(format!("models/{name}.onnx"))).ok());
    }
    seeds
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn truncated_models_never_panic(which in 0usize..6, at in 0usize..4096) {
        let seeds = seeds();
        let seed = &seeds[which % seeds.len()];
        exercise(seed[..at.min(seed.len())].to_vec());
    }

    #[test]
    fn changed_bytes_never_panic(
        which in 0usize..6,
        changes in proptest::collection::vec((0usize..4096, any::<u8>()), 1..6),
    ) {
        let seeds = seeds();
        let mut bytes = seeds[which % seeds.len()].clone();
        for (at, byte) in changes {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        exercise(bytes);
    }
}
