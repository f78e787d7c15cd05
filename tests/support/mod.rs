//! The program, its fixtures, and folders that must stay clean.

#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]

use std::path::{Path, PathBuf};

use assert_cmd::Command;
use tempfile::TempDir;

/// The program.
pub fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_onnx-dcomp"));
    command.env("NO_COLOR", "1").current_dir(root());
    command
}

/// The repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A checked-in file.
pub fn fixture(name: &str) -> PathBuf {
    root().join("fixtures").join(name)
}

/// A model of the shared folder that `DCOMP_DATA` names (default: `../shared` beside the repository), or `None` with a
/// word on the standard error where it is not there.
pub fn shared_model(name: &str) -> Option<PathBuf> {
    let beside = root().join("../shared");
    let shared = std::env::var_os("DCOMP_DATA").map_or(beside, PathBuf::from);
    let model = shared.join("models").join(name);
    if !model.is_file() {
        eprintln!("skipped: {} is not there; set DCOMP_DATA", model.display());
        return None;
    }
    Some(model)
}

/// An empty folder.
pub fn folder() -> TempDir {
    tempfile::tempdir().expect("the system gives us a temporary folder")
}

/// The names of what is in `folder`, sorted.
pub fn names_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("the folder can be read");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("an entry can be read").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Compresses `input` to `output` with more `arguments`, and expects success.
pub fn compress(input: &Path, output: &Path, arguments: &[&str]) {
    program().arg(input).arg("-o").arg(output).args(arguments).assert().success();
}

/// Runs a Python script of the repository's environment; `None` with a word on the standard error where `module` is not
/// installed.
pub fn python(module: &str) -> Option<std::process::Command> {
    let own = root().join(".venv/bin/python");
    let named = std::env::var_os("DCOMP_PYTHON").map(PathBuf::from);
    let candidates = named.into_iter().chain([own, PathBuf::from("python3")]);
    for python in candidates {
        let found = std::process::Command::new(&python).args(["-c", &format!("import {module}")]).output();
        if found.is_ok_and(|found| found.status.success()) {
            return Some(std::process::Command::new(python));
        }
    }
    eprintln!("skipped: no Python with `{module}` was found");
    None
}

/// Runs `script` with arguments, and expects it to end well.
pub fn run_python(mut python: std::process::Command, script: &str, arguments: &[&Path]) {
    let done = python.arg("-B").arg("-c").arg(script).args(arguments).output().expect("Python starts");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}
