//! The promise of a budget: what a search finds keeps it, what cannot be kept is said, and nothing is left behind.

mod support;

use std::path::Path;

use onnx_dcomp_proto::{Message, TensorProto};
use predicates::prelude::PredicateBooleanExt;
use predicates::str::contains;
use serde_json::Value;
use support::{fixture, folder, names_in, program};

/// Compresses LeNet-5 with its digits as samples, and reads what the program prints.
fn search(output: &Path, arguments: &[&str]) -> Value {
    let ran = program()
        .arg(fixture("lenet5.onnx"))
        .arg("-o")
        .arg(output)
        .args(arguments)
        .args(["--json", "--data"])
        .arg(fixture("digits"))
        .assert()
        .success();
    serde_json::from_slice(&ran.get_output().stdout).expect("the program prints JSON")
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("a number was expected, found {value}"))
}

#[test]
fn the_smallest_file_within_a_loss_is_smaller_than_the_default_and_keeps_the_loss_on_unseen_samples() {
    let folder = folder();
    let (searched, default) = (folder.path().join("searched.onnx"), folder.path().join("default.onnx"));
    let found = search(&searched, &["--max-drop", "1"]);
    let balanced = search(&default, &[]);
    assert!(number(&found["bytes_after"]) < number(&balanced["bytes_after"]), "{}", found["bytes_after"]);
    let (trace, confirmed) = (&found["search"], &found["search"]["confirmation"]);
    assert!(number(&confirmed["drop_points"]) <= 1.0, "{confirmed}");
    assert_eq!(number(&trace["samples"]) + number(&confirmed["samples"]), 500.0);
    let candidates = trace["candidates"].as_array().expect("candidates");
    assert!(candidates.len() <= 40, "{}", candidates.len());
    let chosen = &candidates[trace["chosen"].as_u64().expect("one is chosen") as usize];
    assert_eq!(chosen["keeps_budget"], true);
    assert_eq!(number(&chosen["bytes"]), number(&found["bytes_after"]));
    // No candidate that keeps the budget and is as fine as what had to be taken is smaller.
    let quality = number(&chosen["quality"]);
    let better = |c: &&Value| {
        c["keeps_budget"] == true
            && c["quality"].as_f64().is_some_and(|q| q >= quality)
            && c["bytes"].as_f64() < chosen["bytes"].as_f64()
    };
    assert!(candidates.iter().find(better).is_none());
}

#[test]
fn a_search_gives_the_same_bytes_on_any_number_of_threads_and_others_for_another_seed() {
    let folder = folder();
    let make = |name: &str, arguments: &[&str]| {
        let path = folder.path().join(name);
        search(&path, &[&["--max-drop", "2"], arguments].concat());
        std::fs::read(path).expect("the output is there")
    };
    let one = make("one.onnx", &["--threads", "1"]);
    assert!(one == make("two.onnx", &["--threads", "2"]));
    assert!(one != make("seed.onnx", &["--seed", "5"]));
}

#[test]
fn the_best_file_of_some_bytes_fits_and_more_bytes_serve_better() {
    let folder = folder();
    let fit = |bytes: u64| {
        let found = search(&folder.path().join("fit.onnx"), &["--max-bytes", &bytes.to_string()]);
        assert!(number(&found["bytes_after"]) <= bytes as f64, "{}", found["bytes_after"]);
        let trace = &found["search"];
        number(&trace["candidates"][trace["chosen"].as_u64().expect("one is chosen") as usize]["sqnr_db"])
    };
    let (small, large) = (fit(15_000), fit(60_000));
    assert!(large > small + 3.0, "{small} and {large} decibels");
}

/// Compressing LeNet-5 with `arguments` ends with 3, says `message`, and writes nothing.
fn assert_unmet(arguments: &[&str], message: &str) {
    let folder = folder();
    let output = folder.path().join("out.onnx");
    let ended = program().arg(fixture("lenet5.onnx")).arg("-o").arg(output).args(arguments).assert().code(3);
    ended.stderr(contains(message).and(contains("nothing was written")));
    assert!(names_in(folder.path()).is_empty());
}

#[test]
fn a_budget_that_no_file_keeps_ends_with_3_says_what_comes_nearest_and_writes_nothing() {
    let digits = fixture("digits");
    let fails = |arguments: &[&str], message: &str| {
        let data = ["--data", digits.to_str().expect("a plain path")];
        assert_unmet(&[arguments, &data].concat(), message);
    };
    fails(&["--max-bytes", "900"], "the smallest has");
    fails(
        &["--max-drop", "5", "--floor", "recall[1]>=1", "--floor", "recall[6]>=1", "--floor", "recall[7]>=1"],
        "is broken",
    );
}

#[test]
fn what_cannot_be_measured_is_said_before_the_work() {
    let folder = folder();
    let fails = |data: &Path, arguments: &[&str], message: &str| {
        program()
            .arg(fixture("lenet5.onnx"))
            .arg("-o")
            .arg(folder.path().join("out.onnx"))
            .args(arguments)
            .arg("--data")
            .arg(data)
            .assert()
            .code(2)
            .stderr(contains(message));
        assert!(!folder.path().join("out.onnx").exists());
    };
    let digits = fixture("digits");
    fails(&digits, &["--max-drop", "1", "--metric", "miou"], "choose one with `--metric`");
    fails(&digits, &["--max-drop", "1", "--metric", "top-1"], "did you mean `top1`");
    fails(&digits, &["--max-drop", "1", "--floor", "recall[10]>=0.9"], "there are 10 classes");
    fails(&digits, &["--max-drop", "1", "--floor", "iou[1]>=0.9"], "recall is for classification");
    fails(&digits, &["--max-drop", "1", "--floor", "recall>=0.9"], "expected a floor such as");
    fails(&digits, &["--max-drop", "1", "--limit", "4"], "give more");
    let unlabelled = folder.path().join("unlabelled");
    std::fs::create_dir(&unlabelled).unwrap();
    std::fs::copy(digits.join("t10k-images-idx3-ubyte.gz"), unlabelled.join("t10k-images-idx3-ubyte.gz")).unwrap();
    fails(&unlabelled, &["--max-drop", "1", "--metric", "top1"], "--metric agreement");
}

#[test]
fn without_labels_the_agreement_with_the_original_is_kept() {
    let folder = folder();
    let unlabelled = folder.path().join("unlabelled");
    std::fs::create_dir(&unlabelled).unwrap();
    std::fs::copy(fixture("digits/t10k-images-idx3-ubyte.gz"), unlabelled.join("t10k-images-idx3-ubyte.gz")).unwrap();
    program()
        .arg(fixture("lenet5.onnx"))
        .arg("-o")
        .arg(folder.path().join("out.onnx"))
        .args(["--max-drop", "2", "--data"])
        .arg(&unlabelled)
        .assert()
        .success()
        .stdout(contains("agreement loses"));
}

#[test]
fn a_plan_that_says_how_finely_is_checked_and_not_searched() {
    let folder = folder();
    let found = search(&folder.path().join("out.onnx"), &["--quality", "high", "--max-drop", "1"]);
    assert!(found["search"].is_null());
    let open = "fold, recognise, prune(sparsity=0.3), quantize(scheme=uniform), strip, pack";
    let searched = search(&folder.path().join("out.onnx"), &["--passes", open, "--max-drop", "1"]);
    assert!(searched["search"]["chosen"].is_number());
    assert!(
        searched["pipeline"].as_str().is_some_and(|text| text.contains("scheme=uniform, quality=")),
        "{}",
        searched["pipeline"]
    );
}

/// Compresses LeNet-5 without samples, and reads what the program prints.
fn fit(output: &Path, bytes: &str) -> Value {
    let ran = program()
        .arg(fixture("lenet5.onnx"))
        .arg("-o")
        .arg(output)
        .args(["--json", "--max-bytes", bytes])
        .assert()
        .success();
    serde_json::from_slice(&ran.get_output().stdout).expect("the program prints JSON")
}

#[test]
fn without_samples_the_best_file_that_fits_is_the_one_whose_outputs_are_nearest_on_synthetic_inputs() {
    let folder = folder();
    let [small, large] = ["15000", "60000"].map(|bytes| {
        let found = fit(&folder.path().join("fit.onnx"), bytes);
        assert!(number(&found["bytes_after"]) <= bytes.parse().expect("a number"), "{}", found["bytes_after"]);
        let trace = &found["search"];
        assert_eq!(trace["source"], "synthetic");
        assert!(number(&trace["samples"]) > 0.0 && trace["confirmation"].is_null());
        let candidates = trace["candidates"].as_array().expect("candidates");
        let chosen = &candidates[trace["chosen"].as_u64().expect("one is chosen") as usize];
        assert_eq!(number(&chosen["bytes"]), number(&found["bytes_after"]));
        let best = candidates.iter().filter(|c| c["keeps_budget"] == true).map(|c| number(&c["sqnr_db"]));
        assert_eq!(best.fold(f64::NEG_INFINITY, f64::max), number(&chosen["sqnr_db"]));
        number(&chosen["sqnr_db"])
    });
    assert!(large > small + 3.0, "{small} and {large} decibels");
}

#[test]
fn bytes_that_nothing_fits_end_with_3_without_samples_too() {
    assert_unmet(&["--max-bytes", "900"], "the smallest has");
    assert_unmet(&["--quality", "high", "--max-bytes", "20000"], "more than 20000");
}

#[test]
fn iterative_finds_the_sparsity_that_each_layer_bears_and_keeps_the_loss() {
    let folder = folder();
    let (output, report) = (folder.path().join("out.onnx"), folder.path().join("report.json"));
    let report_path = report.to_str().expect("a plain path");
    let found = search(&output, &["--preset", "iterative", "--max-drop", "2", "--report", report_path]);
    assert!(number(&found["search"]["confirmation"]["drop_points"]) <= 2.0);
    let sparsity = &found["search"]["sparsity"];
    assert!(number(&sparsity["evaluations"]) <= 24.0);
    let layers = sparsity["layers"].as_array().expect("layers");
    assert_eq!(layers.len(), 4);
    let distinct: std::collections::BTreeSet<String> =
        layers.iter().map(|layer| layer["sparsity"].to_string()).collect();
    assert!(distinct.len() > 1, "every layer has its own: {sparsity}");
    for layer in layers {
        let weights = found["weights"].as_array().expect("weights");
        let weight = weights.iter().find(|weight| weight["name"] == layer["name"]).expect("the layer is in the file");
        let (density, sparsity) = (number(&weight["density"]), number(&layer["sparsity"]));
        assert!(sparsity > 0.0 && density <= 1.0 - sparsity + 0.01, "{layer}: {density}");
    }
    // What was found is in the recipe.
    let report: Value = serde_json::from_slice(&std::fs::read(report).expect("the report is there")).expect("JSON");
    let recipe = report["reproduction"]["recipe"].as_str().expect("a recipe");
    assert_eq!(recipe.matches("[[rule]]").count(), 4, "{recipe}");
}

#[test]
fn iterative_says_what_it_lacks_before_the_work() {
    let folder = folder();
    let digits = fixture("digits");
    let digits = digits.to_str().expect("a plain path");
    for arguments in [&[][..], &["--data", digits], &["--data", digits, "--max-bytes", "20000"]] {
        program()
            .arg(fixture("lenet5.onnx"))
            .arg("-o")
            .arg(folder.path().join("out.onnx"))
            .args(["--preset", "iterative"])
            .args(arguments)
            .assert()
            .code(2)
            .stderr(contains("--max-drop POINTS"));
        assert!(names_in(folder.path()).is_empty());
    }
}

#[test]
fn with_confidence_a_budget_is_kept_with_a_margin_or_not_at_all() {
    let folder = folder();
    let output = folder.path().join("out.onnx");
    let found = search(&output, &["--max-drop", "2", "--confidence", "95"]);
    let confirmed = &found["search"]["confirmation"];
    assert!(number(&confirmed["certainty"]) >= 0.95, "{confirmed}");
    let digits = fixture("digits");
    let data = ["--data", digits.to_str().expect("a plain path")];
    // A plan that leaves nothing to search is held against it too: the margin is twice the error at most.
    let plan = ["--passes", "fold, prune(sparsity=0.93), strip, pack", "--max-drop"];
    let even = [&plan, &["100"][..], &data].concat();
    program().arg(fixture("lenet5.onnx")).arg("-o").arg(&output).args(&even).assert().success();
    let lost = validated_drop(&output);
    let bound = format!("{}", lost + 0.01);
    std::fs::remove_file(&output).expect("it was written");
    assert_unmet(&[&plan, &[bound.as_str(), "--confidence", "99"][..], &data].concat(), "not to 99 %");
}

#[test]
fn a_confidence_that_nothing_can_tell_is_refused_before_the_work() {
    let digits = fixture("digits");
    let data = ["--data", digits.to_str().expect("a plain path"), "--max-drop", "1", "--confidence"];
    for (arguments, message) in [
        (&["95", "--metric", "relative-error"][..], "nobody knows how uncertain"),
        (&["100"], "from 50 to below 100"),
        (&["0.95"], "from 50 to below 100"),
    ] {
        let folder = folder();
        let output = folder.path().join("out.onnx");
        let ended = program().arg(fixture("lenet5.onnx")).arg("-o").arg(output).args(data).args(arguments).assert();
        ended.code(2).stderr(contains(message));
    }
}

/// What validating LeNet-5 against `compressed` says is lost, in points.
fn validated_drop(compressed: &Path) -> f64 {
    let mut validate = program();
    validate.arg("validate").arg(fixture("lenet5.onnx")).arg(compressed).args(["--json", "--data"]);
    let ran = validate.arg(fixture("digits")).assert().success();
    let report: Value = serde_json::from_slice(&ran.get_output().stdout).expect("the program prints JSON");
    number(&report["runs"][0]["drop"]["points"])
}

#[test]
fn every_metric_that_fits_can_be_kept_to() {
    let folder = folder();
    let output = folder.path().join("out.onnx");
    for (metric, points) in [("top1", "1"), ("top5", "0.5"), ("agreement", "1"), ("relative-error", "10")] {
        let found = search(&output, &["--metric", metric, "--max-drop", points]);
        let confirmed = &found["search"]["confirmation"];
        let bound: f64 = points.parse().expect("a number");
        assert!(number(&confirmed["drop_points"]) <= bound, "{metric}: {confirmed}");
        let chosen = found["search"]["chosen"].as_u64().expect("one is chosen");
        assert!(found["search"]["candidates"][chosen as usize]["quality"].is_number(), "{metric}: not only lossless");
    }
}

#[test]
fn pixels_that_change_their_class_can_be_bounded() {
    let root = std::env::var_os("DCOMP_DATA").map_or_else(|| Path::new("../shared").to_owned(), Into::into);
    let (model, data) = (root.join("models/fcn8s_camvid.onnx"), root.join("data/camvid"));
    if !model.exists() || !data.exists() {
        eprintln!("skipped: {} or {} is not there (set DCOMP_DATA)", model.display(), data.display());
        return;
    }
    let folder = folder();
    let mut compress = program();
    compress.arg(&model).arg("-o").arg(folder.path().join("out.onnx")).arg("--json").arg("--data").arg(&data);
    // A plan that leaves nothing to search: the bound is held against mIoU on some frames.
    compress.args(["--quality", "30", "--limit", "4", "--max-drop", "20", "--metric", "miou"]);
    let ran = compress.assert().success();
    let report: Value = serde_json::from_slice(&ran.get_output().stdout).expect("the program prints JSON");
    assert_eq!(report["validation"]["runs"][0]["drop"]["metric"], "mean-iou");
    let mut compress = program();
    compress.arg(&model).arg("-o").arg(folder.path().join("other.onnx")).arg("--data").arg(&data);
    compress.args(["--quality", "6", "--limit", "4", "--max-drop", "0.001", "--metric", "pixel-agreement"]);
    compress.assert().code(3).stderr(contains("pixel agreement"));
    assert_eq!(names_in(folder.path()), ["out.onnx"]);
}

#[test]
fn samples_of_another_shape_are_refused_before_the_work() {
    let folder = folder();
    for number in 0..2 {
        let set = folder.path().join(format!("samples/test_data_set_{number}"));
        std::fs::create_dir_all(&set).expect("a new folder");
        let tensor = TensorProto {
            dims: vec![1, 1, 14, 14],
            data_type: Some(1),
            float_data: vec![0.5; 14 * 14],
            ..TensorProto::default()
        };
        std::fs::write(set.join("input_0.pb"), tensor.encode_to_vec()).expect("it is written");
    }
    let output = folder.path().join("out.onnx");
    let mut compress = program();
    compress.arg(fixture("lenet5.onnx")).arg("-o").arg(&output).arg("--data").arg(folder.path().join("samples"));
    let ended = compress.args(["--max-drop", "1", "--metric", "agreement"]).assert().code(1);
    ended.stderr(contains("1x1x14x14").and(contains("28x28")));
    assert!(!output.exists());
}
