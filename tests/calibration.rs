//! What samples give that synthetic inputs do not: each layer is fitted to what the layers before it leave.

mod support;

use std::path::Path;

use serde_json::Value;
use support::{fixture, folder, program};

/// Compresses LeNet-5 with `passes` to `output`, calibrated on half of its digits; what the program prints.
fn calibrated(output: &Path, passes: &str, more: &[&str]) -> Value {
    let mut compress = program();
    compress.arg(fixture("lenet5.onnx")).arg("-o").arg(output).args(["--passes", passes, "--calibrate", "--json"]);
    let ran = compress.args(more).arg("--data").arg(fixture("digits")).assert().success();
    serde_json::from_slice(&ran.get_output().stdout).expect("the program prints JSON")
}

/// Energy of the outputs over that of their error on all digits, in decibels, and the bytes of the file.
fn quality_and_bytes(report: &Value) -> (f64, f64) {
    let output = &report["validation"]["runs"][0]["outputs"][0]["sqnr_db"];
    let number = |value: &Value| value.as_f64().unwrap_or_else(|| panic!("a number was expected, found {value}"));
    (number(output), number(&report["bytes_after"]))
}

#[test]
fn following_the_network_makes_outputs_better_at_the_same_size() {
    let folder = folder();
    let with = |follow: &str| {
        let passes = format!("fold, quantize(quality=22, follow={follow}), strip, pack");
        quality_and_bytes(&calibrated(&folder.path().join("out.onnx"), &passes, &[]))
    };
    let ((followed, bytes), (alone, bytes_alone)) = (with("on"), with("off"));
    assert!(followed > alone + 1.0, "{followed} and {alone} decibels");
    assert!((bytes / bytes_alone - 1.0).abs() < 0.04, "{bytes} and {bytes_alone} bytes");
}

#[test]
fn thin_layers_are_fitted_to_what_those_before_them_leave() {
    let folder = folder();
    let with = |follow: &str| {
        let passes = format!("fold, low-rank(rank=0.25, sparsity=1, emit=factors, follow={follow}), strip, pack");
        quality_and_bytes(&calibrated(&folder.path().join("out.onnx"), &passes, &[])).0
    };
    let (followed, alone) = (with("on"), with("off"));
    assert!(followed > alone + 0.1, "{followed} and {alone} decibels");
}

#[test]
fn a_followed_network_gives_the_same_bytes_on_any_number_of_threads() {
    let folder = folder();
    let with = |threads: &str| {
        let output = folder.path().join(format!("{threads}.onnx"));
        let passes = "fold, low-rank(rank=0.5, emit=factors), quantize(quality=22), strip, pack";
        calibrated(&output, passes, &["--threads", threads]);
        std::fs::read(output).expect("the output is there")
    };
    assert!(with("1") == with("2"));
}

#[test]
fn what_is_learnt_from_is_the_training_side_where_there_is_one_and_never_its_labels() {
    let folder = folder();
    let digits = folder.path().join("digits");
    std::fs::create_dir(&digits).expect("a new folder");
    for name in ["images-idx3-ubyte.gz", "labels-idx1-ubyte.gz"] {
        std::fs::copy(fixture("digits").join(format!("t10k-{name}")), digits.join(format!("t10k-{name}"))).unwrap();
    }
    let learn = || {
        let output = folder.path().join("out.onnx");
        let mut compress = program();
        compress.arg(fixture("lenet5.onnx")).arg("-o").arg(&output).args(["--quality", "20", "--calibrate", "--json"]);
        let ran = compress.arg("--data").arg(&digits).assert().success();
        let report: Value = serde_json::from_slice(&ran.get_output().stdout).expect("the program prints JSON");
        (report["evidence"].as_str().expect("a source").to_owned(), std::fs::read(output).expect("it is there"))
    };
    let (source, half) = learn();
    assert!(source.contains("half that a search looks at"), "{source}");
    let place = |name: &str| digits.join(format!("train-{name}"));
    std::fs::copy(digits.join("t10k-images-idx3-ubyte.gz"), place("images-idx3-ubyte.gz")).unwrap();
    std::fs::copy(digits.join("t10k-labels-idx1-ubyte.gz"), place("labels-idx1-ubyte.gz")).unwrap();
    let (source, labelled) = learn();
    assert!(source.contains("500 samples of the training side"), "{source}");
    assert!(labelled != half, "all digits tell more than half of them");
    std::fs::remove_file(place("labels-idx1-ubyte.gz")).unwrap();
    let (source, unlabelled) = learn();
    assert!(source.contains("500 samples of the training side"), "{source}");
    assert!(labelled == unlabelled, "labels change nothing");
}
