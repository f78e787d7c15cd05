//! What other languages get: a C program that decodes and runs a LeNet-5, and a stock onnxruntime in Python that is given
//! the weights beside the graph.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use onnx_dcomp::{Compiler, Plan, RuntimeKind, RuntimeOptions, load};
use onnx_dcomp_engine::Tensor;
use onnx_dcomp_proto::{Message, ModelProto};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The folder of the libraries that this test was built with.
fn libraries() -> PathBuf {
    let test = std::env::current_exe().expect("the system knows this program");
    let folder = test.parent().expect("a program is in a folder").to_owned();
    assert!(folder.join("libonnx_dcomp_c.so").is_file() || !cfg!(target_os = "linux"), "{}", folder.display());
    folder
}

/// LeNet-5, packed, in `folder`.
fn packed(folder: &Path) -> PathBuf {
    let packed = folder.join("packed.onnx");
    let plan = Plan::Passes("share(clusters=32), strip, pack".to_owned());
    Compiler::new(root().join("fixtures/lenet5.onnx")).output(packed.clone()).plan(plan).run().unwrap();
    packed
}

/// The C program, linked to the shared or to the static library; `None`, with a word on the standard error, where there
/// is no C compiler.
fn c_program(folder: &Path, linked: &str) -> Option<PathBuf> {
    if Command::new("cc").arg("--version").output().is_err() {
        eprintln!("skipped: there is no C compiler `cc`");
        return None;
    }
    let (libraries, program) = (libraries(), folder.join(format!("lenet5-{linked}")));
    let mut compiler = Command::new("cc");
    compiler.args(["-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-I"]).arg(root().join("runtime/include"));
    compiler.arg(root().join("runtime/c/tests/lenet5.c")).arg("-o").arg(&program);
    if linked == "static" {
        compiler.arg(libraries.join("libonnx_dcomp_c.a")).args(["-lpthread", "-ldl", "-lm"]);
    } else {
        let path = format!("-Wl,-rpath,{}", libraries.display());
        compiler.arg("-L").arg(&libraries).args(["-lonnx_dcomp_c", &path]);
    }
    let done = compiler.output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    Some(program)
}

fn run(program: &Path, arguments: &[&Path]) -> Output {
    Command::new(program).args(arguments).output().unwrap()
}

fn image() -> Vec<f32> {
    (0..784).map(|index| ((index * 7919) % 256) as f32 / 255.0).collect()
}

#[test]
fn a_c_program_decodes_and_runs_lenet5() {
    let folder = tempfile::tempdir().unwrap();
    let (packed, file) = (packed(folder.path()), folder.path().join("image"));
    std::fs::write(&file, image().iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>()).unwrap();
    let mut session = load(&packed, RuntimeKind::Tract, &RuntimeOptions::default()).unwrap();
    let input = Tensor::from_f32(vec![1, 1, 28, 28], image()).unwrap();
    let expected = session.run(&[input]).unwrap()[0].to_f32().into_owned();
    for linked in ["shared", "static"] {
        let Some(program) = c_program(folder.path(), linked) else { return };
        for memory in [None, Some(Path::new("memory"))] {
            let arguments: Vec<&Path> = [packed.as_path(), &file].into_iter().chain(memory).collect();
            let done = run(&program, &arguments);
            assert!(done.status.success(), "{}: {}", done.status, String::from_utf8_lossy(&done.stderr));
            let found = String::from_utf8(done.stdout).unwrap();
            let found: Vec<f32> = found.lines().map(|line| line.parse().unwrap()).collect();
            assert_eq!(found.len(), expected.len());
            for (found, expected) in found.iter().zip(&expected) {
                assert!((found - expected).abs() <= 1e-4 * (1.0 + expected.abs()), "{found} {expected}");
            }
        }
    }
}

/// `model` with its first payload changed.
fn with_payload(model: &Path, change: impl FnOnce(&mut Vec<u8>)) -> PathBuf {
    let mut proto = ModelProto::decode(std::fs::read(model).unwrap().as_slice()).unwrap();
    let payload = &mut proto.graph.as_mut().unwrap().initializer[0].raw_data;
    let mut bytes = payload.take().unwrap().to_vec();
    change(&mut bytes);
    *payload = Some(bytes.into());
    let changed = model.with_file_name("changed.onnx");
    std::fs::write(&changed, proto.encode_to_vec()).unwrap();
    changed
}

#[test]
fn errors_are_codes_and_text() {
    const UNREADABLE: i32 = 2;
    const BROKEN: i32 = 3;
    const NEWER: i32 = 4;
    let folder = tempfile::tempdir().unwrap();
    let Some(program) = c_program(folder.path(), "shared") else { return };
    let packed = packed(folder.path());
    let expect = |model: &Path, code: i32, words: &[&str]| {
        let done = run(&program, &[model, model]);
        let text = String::from_utf8_lossy(&done.stderr).into_owned();
        assert_eq!(done.status.code(), Some(code), "{text}");
        assert!(words.iter().all(|word| text.contains(word)), "{text}");
    };
    expect(&folder.path().join("missing.onnx"), UNREADABLE, &["missing.onnx"]);
    expect(&root().join("Cargo.toml"), UNREADABLE, &["Cargo.toml"]);
    let damaged = with_payload(&packed, |payload| {
        let middle = payload.len() / 2;
        payload[middle] ^= 1;
    });
    expect(&damaged, BROKEN, &["changed.onnx", "node `a`", "checksum"]);
    let newer = with_payload(&packed, |payload| {
        payload[2] += 1;
        let end = payload.len() - 4;
        let checksum = crc32fast::hash(&payload[..end]);
        payload[end..].copy_from_slice(&checksum.to_le_bytes());
    });
    expect(&newer, NEWER, &["format version 2", "update"]);
}

#[test]
fn a_stock_onnxruntime_in_python_is_given_the_weights() {
    let Some(mut python) = python("numpy, onnxruntime") else { return };
    let folder = tempfile::tempdir().unwrap();
    let (packed, plain) = (packed(folder.path()), folder.path().join("plain.onnx"));
    onnx_dcomp::decompress(&packed, &plain, &()).unwrap();
    let script = root().join("runtime/c/tests/hand_over.py");
    let done = python.arg("-B").arg(script).arg(libraries()).arg(&packed).arg(&plain).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

/// The Python that has `modules`: the one that `DCOMP_PYTHON` names, that of `.venv`, or the system's.
fn python(modules: &str) -> Option<Command> {
    let named = std::env::var_os("DCOMP_PYTHON").map(PathBuf::from);
    for python in named.into_iter().chain([root().join(".venv/bin/python"), PathBuf::from("python3")]) {
        let found = Command::new(&python).args(["-c", &format!("import {modules}")]).output();
        if found.is_ok_and(|found| found.status.success()) {
            return Some(Command::new(python));
        }
    }
    eprintln!("skipped: no Python with {modules} was found");
    None
}
