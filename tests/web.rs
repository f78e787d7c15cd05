//! Decoder and tract as a WebAssembly module, under Node.

mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use onnx_dcomp::{RuntimeKind, RuntimeOptions, load};
use onnx_dcomp_engine::Tensor;
use onnx_dcomp_ir::{Evidence, Model};
use onnx_dcomp_passes::Pipeline;
use support::{fixture, folder, root};

/// The module; `None`, with a word on the standard error, where Node or the target is not installed.
///
/// A build of the module takes minutes, since tract is compiled for the target: `DCOMP_WASM` asks for it, and names the
/// folder of the build.
fn module() -> Option<PathBuf> {
    let Some(target) = std::env::var_os("DCOMP_WASM") else {
        eprintln!("skipped: DCOMP_WASM names no folder to build the module in");
        return None;
    };
    if Command::new("node").arg("--version").output().is_err() {
        eprintln!("skipped: there is no `node`");
        return None;
    }
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--release", "--target", "wasm32-unknown-unknown", "--package", "onnx-dcomp-runtime"]);
    cargo.args(["--features", "tract", "--example", "web", "--target-dir"]).arg(&target).current_dir(root());
    let built = cargo.output().unwrap();
    let said = String::from_utf8_lossy(&built.stderr);
    if said.contains("can't find crate for `core`") {
        eprintln!("skipped: `rustup target add wasm32-unknown-unknown` was not done");
        return None;
    }
    assert!(built.status.success(), "{said}");
    Some(PathBuf::from(target).join("wasm32-unknown-unknown/release/examples/web.wasm"))
}

fn node(module: &Path, model: &Path, image: &Path) -> Output {
    let script = root().join("runtime/examples/web.mjs");
    Command::new("node").args([&script, module, model, image]).args(["1", "1", "28", "28"]).output().unwrap()
}

#[test]
fn node_decodes_and_runs_lenet5() {
    let Some(module) = module() else { return };
    let folder = folder();
    let (packed, file) = (folder.path().join("packed.onnx"), folder.path().join("image"));
    let mut model = Model::open(&fixture("lenet5.onnx")).unwrap();
    let pipeline = Pipeline::parse("share(clusters=32), pack").unwrap();
    pipeline.run(&mut model, &Evidence::default(), &mut ()).unwrap();
    model.save(&packed).unwrap();
    let image: Vec<f32> = (0..784).map(|index| ((index * 7919) % 256) as f32 / 255.0).collect();
    std::fs::write(&file, image.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>()).unwrap();
    let mut session = load(&packed, RuntimeKind::Tract, &RuntimeOptions::default()).unwrap();
    let expected =
        session.run(&[Tensor::from_f32(vec![1, 1, 28, 28], image).unwrap()]).unwrap()[0].to_f32().into_owned();

    let done = node(&module, &packed, &file);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let found = String::from_utf8(done.stdout).unwrap();
    let found: Vec<f32> = found.lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(&expected) {
        assert!((found - expected).abs() <= 1e-4 * (1.0 + expected.abs()), "{found} {expected}");
    }

    // A damaged payload is an error here too, and no trap.
    let mut bytes = std::fs::read(&packed).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&packed, bytes).unwrap();
    let done = node(&module, &packed, &file);
    let text = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.code() == Some(1) && text.contains("checksum"), "{text}");
}
