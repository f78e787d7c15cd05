//! Thin layers in whole networks: what they compute, in both runtimes.

mod support;

use onnx_dcomp_ir::Model;
use serde_json::Value;
use support::{compress, fixture, folder, program};

/// The JSON of a validation of `after` against `before` on the digits of the repository.
fn validation(before: &std::path::Path, after: &std::path::Path) -> Value {
    let done = program()
        .arg("validate")
        .args([before, after])
        .args(["--limit", "100", "--json", "--data"])
        .arg(fixture("digits"))
        .assert()
        .success();
    serde_json::from_slice(&done.get_output().stdout).expect("--json prints JSON")
}

#[test]
fn thin_layers_and_the_kernel_that_they_stand_for_give_the_same_outputs() {
    for name in ["lenet5.onnx", "lenet300.onnx"] {
        let folder = folder();
        let made = |emit: &str| {
            let path = folder.path().join(format!("{emit}.onnx"));
            let passes = format!("fold, low-rank(rank=0.25, sparsity=0.95, emit={emit})");
            compress(&fixture(name), &path, &["--target", "dense", "--passes", &passes]);
            path
        };
        let (one, thin) = (made("weight"), made("factors"));
        let nodes = |path: &std::path::Path| Model::open(path).unwrap().graph().node.len();
        assert!(nodes(&thin) >= nodes(&one) + 3 * 2, "{name}: two layers at least become three and an Add");
        let report = validation(&one, &thin);
        let runs = report["runs"].as_array().unwrap();
        assert!(runs.iter().any(|run| run["runtime"] == "tract"), "{report}");
        for run in runs {
            let error = run["outputs"][0]["relative_error"].as_f64().unwrap_or(f64::INFINITY);
            assert!(error < 1e-5, "{name}: {run}");
        }
    }
}

#[test]
fn the_preset_packs_thin_layers_that_still_read_digits() {
    let folder = folder();
    let packed = folder.path().join("packed.onnx");
    compress(&fixture("lenet300.onnx"), &packed, &["--preset", "low-rank-sparse"]);
    let report = validation(&fixture("lenet300.onnx"), &packed);
    for run in report["runs"].as_array().unwrap() {
        let top1 = run["classification"]["top1_percent"]["compressed"].as_f64().unwrap();
        assert!(top1 > 80.0, "{run}");
    }
}
