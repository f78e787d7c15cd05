//! Folded and stripped models compute what the originals do, in onnxruntime.

mod support;

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use onnx_dcomp_ir::Model;
use onnx_dcomp_passes::{Fold, Strip};
use support::*;

/// Exit code of the script where onnxruntime is not installed.
const NOT_INSTALLED: i32 = 3;

#[test]
fn outputs_stay_the_same() {
    let folder = std::env::temp_dir().join(format!("dcomp-same-outputs-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder for the models");
    let mut pairs = String::new();
    let mut count = 0;
    for path in fixtures().into_iter().chain(trained()) {
        let mut model = Model::open(&path).expect("a sound model");
        run(&Fold, &mut model);
        run(&Strip, &mut model);
        let rewritten = folder.join(path.file_name().expect("a file"));
        model.save(&rewritten).expect("it can be written");
        pairs += &format!("{}\t{}\n", path.display(), rewritten.display());
        count += 1;
    }
    let verdicts = compare(&pairs);
    std::fs::remove_dir_all(&folder).expect("the folder can go");
    let Some(verdicts) = verdicts else {
        println!("skipped: no python3 with onnxruntime, onnx and numpy");
        return;
    };
    assert_eq!(verdicts.lines().count(), count, "{verdicts}");
    assert!(!verdicts.contains("DIFFERS"), "{verdicts}");
    assert!(verdicts.matches("\tsame").count() * 10 >= count * 9, "too few were compared:\n{verdicts}");
}

/// What the script says; `None` where it cannot run.
fn compare(pairs: &str) -> Option<String> {
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
