//! Bad input: a clear message that names the file, the right exit code, and nothing left behind.

mod support;

use std::path::Path;

use onnx_dcomp_ir::Model;
use onnx_dcomp_proto::{Message, ModelProto};
use support::{compress, fixture, folder, names_in, program};

/// Compresses `input` in `folder`; expects `code`, a message with all of `words`, and no new file.
fn refused(folder: &Path, input: &str, arguments: &[&str], code: i32, words: &[&str]) {
    let before = names_in(folder);
    let output = folder.join("out.onnx");
    let done = program().arg(folder.join(input)).arg("-o").arg(&output).args(arguments).assert().code(code);
    let message = String::from_utf8_lossy(&done.get_output().stderr).into_owned();
    for word in words {
        assert!(message.contains(word), "`{word}` is missing in: {message}");
    }
    assert!(!message.contains("panicked"), "{message}");
    assert_eq!(names_in(folder), before);
}

fn write(folder: &Path, name: &str, bytes: &[u8]) {
    std::fs::write(folder.join(name), bytes).unwrap();
}

fn lenet() -> Vec<u8> {
    std::fs::read(fixture("lenet5.onnx")).unwrap()
}

#[test]
fn a_file_that_is_not_there() {
    refused(folder().path(), "absent.onnx", &[], 1, &["Cannot read", "absent.onnx"]);
}

#[test]
fn a_file_that_is_no_onnx_model() {
    let folder = folder();
    write(folder.path(), "picture.onnx", b"\x89PNG\r\n\x1a\n and some more bytes that are no protobuf");
    refused(folder.path(), "picture.onnx", &[], 1, &["picture.onnx", "not an ONNX model"]);
    write(folder.path(), "empty.onnx", b"");
    refused(folder.path(), "empty.onnx", &[], 1, &["empty.onnx"]);
}

#[test]
fn a_truncated_file() {
    let folder = folder();
    let bytes = lenet();
    for length in [bytes.len() - 1, bytes.len() / 2, 100] {
        write(folder.path(), "cut.onnx", &bytes[..length]);
        refused(folder.path(), "cut.onnx", &[], 1, &["cut.onnx"]);
    }
    write(folder.path(), "cut.onnx", &bytes[..bytes.len() / 2]);
    refused(folder.path(), "cut.onnx", &[], 1, &["truncated"]);
}

/// A packed model, with its payload changed by `change`.
fn with_payload(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let folder = folder();
    let packed = folder.path().join("packed.onnx");
    compress(&fixture("lenet5.onnx"), &packed, &[]);
    let mut model = ModelProto::decode(std::fs::read(packed).unwrap().as_slice()).unwrap();
    let graph = model.graph.as_mut().unwrap();
    let payload_name = graph.node.iter().find(|node| node.domain() == "ai.dcomp").unwrap().input[0].clone();
    let tensor = graph.initializer.iter_mut().find(|tensor| tensor.name() == payload_name).unwrap();
    let mut payload = tensor.raw_data.as_ref().unwrap().to_vec();
    change(&mut payload);
    tensor.dims = vec![payload.len() as i64];
    tensor.raw_data = Some(payload.into());
    model.encode_to_vec()
}

/// Decompresses `bytes`; expects exit code 1, a message with all of `words`, and no file.
fn payload_refused(bytes: &[u8], words: &[&str]) {
    let folder = folder();
    write(folder.path(), "packed.onnx", bytes);
    // Compressing leaves a packed model as it is, but not a broken one.
    for command in [vec!["decompress", "-o", "plain.onnx"], vec!["inspect"], vec!["-o", "out.onnx"]] {
        let done = program().current_dir(folder.path()).args(command).arg("packed.onnx").assert().code(1);
        let message = String::from_utf8_lossy(&done.get_output().stderr).into_owned();
        for word in words.iter().chain(&["packed.onnx", "node"]) {
            assert!(message.contains(word), "`{word}` is missing in: {message}");
        }
        assert_eq!(names_in(folder.path()), ["packed.onnx"]);
    }
}

#[test]
fn a_payload_with_one_byte_changed() {
    for part in [3, 10, 2, 1] {
        let bytes = with_payload(|payload| {
            let at = payload.len() - 1 - (payload.len() - 1) / part;
            payload[at.max(3)] ^= 0x10;
        });
        payload_refused(&bytes, &["checksum"]);
    }
}

#[test]
fn a_payload_of_a_newer_version() {
    let bytes = with_payload(|payload| {
        payload[2] = 200;
        seal(payload);
    });
    payload_refused(&bytes, &["version 200"]);
}

#[test]
fn a_payload_that_declares_a_huge_shape() {
    let bytes = with_payload(|payload| {
        // One dense f32 tensor of 2^40 x 2^20 elements.
        let huge = |bits: usize| {
            let mut varint = vec![0x80u8; bits / 7];
            varint.push(1 << (bits % 7));
            varint
        };
        *payload = [payload[..3].to_vec(), vec![1, 0x40, 2], huge(40), huge(20), vec![4, 0, 0, 0, 0]].concat();
        payload.extend([0; 4]);
        seal(payload);
    });
    payload_refused(&bytes, &["payload"]);
}

/// The fixture `name`, changed.
fn changed(name: &str, change: impl FnOnce(&mut ModelProto)) -> Vec<u8> {
    let mut model = ModelProto::decode(std::fs::read(fixture(name)).unwrap().as_slice()).unwrap();
    change(&mut model);
    model.encode_to_vec()
}

#[test]
fn an_input_that_no_memory_holds_is_not_drawn() {
    use onnx_dcomp_proto::{tensor_shape_proto::dimension, type_proto};
    let folder = folder();
    let huge = changed("lenet300.onnx", |model| {
        let input = &mut model.graph.as_mut().unwrap().input[0];
        let Some(type_proto::Value::TensorType(tensor)) = &mut input.r#type.as_mut().unwrap().value else {
            panic!("it is a tensor")
        };
        let first = &mut tensor.shape.as_mut().unwrap().dim[0];
        first.value = Some(dimension::Value::DimValue(1 << 40));
    });
    write(folder.path(), "net.onnx", &huge);
    let done = program().current_dir(folder.path()).args(["net.onnx", "-o", "out.onnx"]).assert().success();
    let text = String::from_utf8_lossy(&done.get_output().stdout).into_owned();
    assert!(text.contains("the weights alone") && text.contains("elements at once"), "{text}");
    assert_eq!(names_in(folder.path()), ["net.onnx", "out.onnx"]);
}

/// Gives `payload` the checksum that its bytes ask for.
fn seal(payload: &mut [u8]) {
    let end = payload.len() - 4;
    let checksum = crc32(&payload[..end]);
    payload[end..].copy_from_slice(&checksum.to_le_bytes());
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg()))
    })
}

#[test]
fn external_data_that_is_missing_short_or_elsewhere() {
    let folder = folder();
    let model = std::fs::read(fixture("models/external_data.onnx")).unwrap();
    write(folder.path(), "net.onnx", &model);
    refused(folder.path(), "net.onnx", &[], 1, &["net.onnx", "external_data.bin"]);

    let data = std::fs::read(fixture("models/external_data.bin")).unwrap();
    write(folder.path(), "external_data.bin", &data[..data.len() / 2]);
    refused(folder.path(), "net.onnx", &[], 1, &["net.onnx", "external_data.bin", "truncated"]);

    let mut escaping = ModelProto::decode(model.as_slice()).unwrap();
    for tensor in &mut escaping.graph.as_mut().unwrap().initializer {
        for entry in tensor.external_data.iter_mut().filter(|entry| entry.key() == "location") {
            entry.value = Some("../external_data.bin".to_owned());
        }
    }
    write(folder.path(), "net.onnx", &escaping.encode_to_vec());
    refused(folder.path(), "net.onnx", &[], 1, &["net.onnx", "../external_data.bin", "folder"]);
}

#[test]
fn weights_that_are_not_finite_stay_bit_for_bit_and_are_reported() {
    let folder = folder();
    let model = fixture("models/not_finite.onnx");
    let (packed, plain) = (folder.path().join("packed.onnx"), folder.path().join("plain.onnx"));
    let done = program().arg(&model).arg("-o").arg(&packed).arg("-v").assert().success();
    let text = String::from_utf8_lossy(&done.get_output().stdout).into_owned();
    assert!(text.contains("NaN"), "{text}");
    program().arg("decompress").arg(&packed).arg("-o").arg(&plain).assert().success();
    let not_finite = |model: &Model| {
        let held = model.weights().filter(|(_, weight)| !weight.original.all_finite());
        let mut all: Vec<Vec<u8>> = held.map(|(_, weight)| weight.original.bytes().to_vec()).collect();
        all.sort();
        all
    };
    let (before, after) = (Model::open(&model).unwrap(), Model::open(&plain).unwrap());
    assert!(!not_finite(&before).is_empty());
    assert_eq!(not_finite(&before), not_finite(&after));
}

#[test]
fn outputs_that_cannot_be_written() {
    let folder = folder();
    write(folder.path(), "net.onnx", &lenet());
    std::fs::create_dir(folder.path().join("taken")).unwrap();
    let before = names_in(folder.path());
    for output in ["absent/out.onnx", "taken", "net.onnx/out.onnx"] {
        let done = program().current_dir(folder.path()).args(["net.onnx", "-o", output]).assert().code(1);
        let message = String::from_utf8_lossy(&done.get_output().stderr).into_owned();
        assert!(message.contains("Cannot write") && message.contains(output), "{message}");
        assert!(!message.contains(".part"), "{message}");
        assert_eq!(names_in(folder.path()), before);
    }
    assert!(names_in(&folder.path().join("taken")).is_empty());
    program().current_dir(folder.path()).args(["net.onnx", "-o", "/dev/null"]).assert().code(1);
}

#[cfg(unix)]
#[test]
fn a_disk_that_takes_no_more() {
    let folder = folder();
    write(folder.path(), "net.onnx", &lenet());
    let before = names_in(folder.path());
    // The shell forbids files above one block; the program then sees what a full disk looks like: a write that fails.
    let script = "trap '' XFSZ; ulimit -f 1; exec \"$0\" net.onnx -o out.onnx --passes pack";
    let done = std::process::Command::new("bash")
        .args(["-c", script, env!("CARGO_BIN_EXE_onnx-dcomp")])
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert_eq!(done.status.code(), Some(1), "{done:?}");
    let message = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(message.contains("Cannot write out.onnx"), "{message}");
    assert_eq!(names_in(folder.path()), before);
}

#[cfg(unix)]
#[test]
fn an_interrupt_leaves_nothing() {
    use std::process::{Command, Stdio};
    for signal in ["-INT", "-TERM", "-HUP"] {
        let folder = folder();
        write(folder.path(), "net.onnx", &lenet());
        let mut child = Command::new(env!("CARGO_BIN_EXE_onnx-dcomp"))
            .args(["net.onnx", "-o", "out.onnx"])
            .current_dir(folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        while names_in(folder.path()).len() < 2 && child.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
        Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(130), "{signal}");
        assert_eq!(names_in(folder.path()), ["net.onnx"], "{signal}");
    }
}

#[test]
fn a_rule_for_make_never_replaces_a_model() {
    let folder = folder();
    write(folder.path(), "net.onnx", &lenet());
    let path = |name: &str| folder.path().join(name).display().to_string();
    refused(folder.path(), "net.onnx", &["--depfile", &path("out.onnx")], 2, &["out.onnx", "another name"]);
    refused(folder.path(), "net.onnx", &["--depfile", &path("./net.onnx")], 2, &["net.onnx", "another name"]);
    assert!(std::fs::read(folder.path().join("net.onnx")).unwrap() == lenet());
}

#[test]
fn models_of_other_inputs_are_named_with_both_shapes() {
    use onnx_dcomp_proto::{tensor_shape_proto::dimension, type_proto};
    let folder = folder();
    let other = changed("lenet5.onnx", |model| {
        let input = &mut model.graph.as_mut().unwrap().input[0];
        let Some(type_proto::Value::TensorType(tensor)) = &mut input.r#type.as_mut().unwrap().value else {
            panic!("it is a tensor")
        };
        tensor.shape.as_mut().unwrap().dim[1].value = Some(dimension::Value::DimValue(3));
    });
    write(folder.path(), "other.onnx", &other);
    let mut validate = program();
    validate.arg("validate").arg(fixture("lenet5.onnx")).arg(folder.path().join("other.onnx"));
    let done = validate.arg("--data").arg(fixture("digits")).assert().code(1);
    let message = String::from_utf8_lossy(&done.get_output().stderr).into_owned();
    for word in ["lenet5.onnx", "other.onnx", "1x28x28", "3x28x28"] {
        assert!(message.contains(word), "`{word}` is missing in: {message}");
    }
}

#[test]
fn unknown_names_bring_the_nearest() {
    let folder = folder();
    write(folder.path(), "net.onnx", &lenet());
    refused(folder.path(), "net.onnx", &["--passes", "prun"], 2, &["unknown pass `prun`", "did you mean `prune`?"]);
    let wrong_option = ["--passes", "prune(sparcity=0.5)"];
    refused(folder.path(), "net.onnx", &wrong_option, 2, &["unknown option `sparcity`", "did you mean `sparsity`?"]);
    refused(folder.path(), "net.onnx", &["--passes", "prune(sparsity=7)"], 2, &["0.0..1.0", "`7`"]);
    refused(folder.path(), "net.onnx", &["--passes", "prune(select=\"fc1.weigth\")"], 2, &["did you mean"]);
    refused(folder.path(), "net.onnx", &["--preset", "deep-compresion"], 2, &["did you mean `deep-compression`?"]);
    refused(folder.path(), "net.onnx", &["--quality", "hihg"], 2, &["did you mean `high`?"]);
    refused(folder.path(), "net.onnx", &["--print-after", "strp"], 2, &["unknown pass `strp`"]);
    refused(folder.path(), "net.onnx", &["--losless"], 2, &["--lossless"]);
    refused(folder.path(), "net.onnx", &["--quality", "-3"], 2, &["0 to 120 decibels", "`-3`"]);
    program().args(["decompres", "a.onnx"]).assert().code(2).stderr(predicates::str::contains("`decompress`"));
    refused(folder.path(), "net.onnx", &["--lossless", "--quality", "high"], 2, &["cannot be used with"]);
}

#[test]
fn recipes_with_mistakes_show_the_place() {
    let folder = folder();
    write(folder.path(), "net.onnx", &lenet());
    let recipe = folder.path().join("recipe.toml").display().to_string();
    let expect = |text: &str, words: &[&str]| {
        write(folder.path(), "recipe.toml", text.as_bytes());
        refused(folder.path(), "net.onnx", &["--recipe", &recipe], 2, words);
    };
    expect("pipeline = \"share\"\n[[rule]]\nmatch = \"zzz\"\nskip = true\n", &["recipe.toml", "line 2", "no weight"]);
    expect("pipelin = \"share\"\n", &["did you mean `pipeline`?"]);
    expect("pipeline = \"shar\"\n", &["did you mean `share`?"]);
}

#[test]
fn samples_of_another_shape_name_both_shapes() {
    let folder = folder();
    write(folder.path(), "net.onnx", &lenet());
    // A .npy file of zeros, 2 x 5 x 7.
    let mut header = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 5, 7), }".to_owned();
    header.push_str(&" ".repeat(64 - (10 + header.len() + 1) % 64));
    header.push('\n');
    let mut npy = b"\x93NUMPY\x01\x00".to_vec();
    npy.extend((header.len() as u16).to_le_bytes());
    npy.extend(header.as_bytes());
    npy.extend([0; 2 * 5 * 7 * 4]);
    std::fs::create_dir(folder.path().join("samples")).unwrap();
    write(&folder.path().join("samples"), "input.npy", &npy);
    let samples = folder.path().join("samples").display().to_string();
    refused(folder.path(), "net.onnx", &["--data", &samples], 1, &["5x7", "28"]);
}

#[test]
fn no_words_at_all_show_the_help() {
    program().assert().code(2).stderr(predicates::str::contains("Usage:"));
}
