//! A model through the whole program: compressed, validated, decompressed, inspected.

mod support;

use onnx_dcomp_ir::Model;
use onnx_dcomp_proto::{Message, ModelProto, TensorProto};
use serde_json::Value;
use support::{compress, fixture, folder, names_in, program};

fn json(output: &[u8]) -> Value {
    serde_json::from_slice(output).expect("--json prints JSON")
}

/// The JSON of a command that succeeds.
fn json_of(arguments: &[&str]) -> Value {
    json(&program().args(arguments).arg("--json").assert().success().get_output().stdout)
}

#[test]
fn the_first_command_of_the_readme_compresses_and_validates() {
    let folder = folder();
    let packed = folder.path().join("lenet5.onnx");
    let digits = fixture("digits");
    let done = program()
        .arg(fixture("lenet5.onnx"))
        .arg("-o")
        .arg(&packed)
        .arg("--data")
        .arg(&digits)
        .args(["--max-drop", "1"])
        .assert()
        .success();
    let text = String::from_utf8_lossy(&done.get_output().stdout).into_owned();
    for expected in ["weight", "total", "top-1", "agreement", "fidelity", "sensitivity"] {
        assert!(text.contains(expected), "{expected} is missing:\n{text}");
    }
    let table: Vec<&str> = text.lines().take_while(|line| !line.starts_with("estimated")).collect();
    assert!(table.len() > 6 && table.iter().all(|line| line.chars().count() <= 100), "{text}");
    let before = fixture("lenet5.onnx").metadata().unwrap().len();
    assert!(packed.metadata().unwrap().len() * 10 < before);
    assert_eq!(names_in(folder.path()), ["lenet5.onnx"]);
}

#[test]
fn both_runtimes_validate_a_packed_model_and_agree() {
    let folder = folder();
    let packed = folder.path().join("packed.onnx");
    let original = fixture("lenet5.onnx");
    compress(&original, &packed, &["--quality", "high"]);
    let (original, packed) = (original.display().to_string(), packed.display().to_string());
    let digits = fixture("digits").display().to_string();
    let report = json_of(&["validate", &original, &packed, "--data", &digits, "--max-drop", "0.5", "--limit", "200"]);
    let ran: Vec<&str> =
        report["runs"].as_array().unwrap().iter().map(|run| run["runtime"].as_str().unwrap()).collect();
    assert!(ran.contains(&"tract"), "{report}");
    if ran.contains(&"onnxruntime") {
        assert!(report["agreement"]["fidelity"]["relative_error"].as_f64().unwrap() < 1e-3, "{report}");
    } else {
        eprintln!("skipped: onnxruntime is not installed: {}", report["skipped"]);
    }
    for run in report["runs"].as_array().unwrap() {
        assert!(run["classification"]["top1_percent"]["compressed"].as_f64().unwrap() > 80.0, "{run}");
    }
}

#[test]
fn a_broken_bound_ends_with_3_and_writes_nothing() {
    let folder = folder();
    let packed = folder.path().join("packed.onnx");
    program()
        .arg(fixture("lenet5.onnx"))
        .arg("-o")
        .arg(&packed)
        .args(["--passes", "prune(sparsity=0.99), pack", "--max-drop", "0.01", "--data"])
        .arg(fixture("digits"))
        .assert()
        .code(3)
        .stderr(predicates::str::contains("the bound is 0.01 points"));
    assert!(names_in(folder.path()).is_empty());
}

#[test]
fn validate_ends_with_3_where_the_bound_is_broken_and_still_prints_the_numbers() {
    let folder = folder();
    let pruned = folder.path().join("pruned.onnx");
    compress(&fixture("lenet5.onnx"), &pruned, &["--passes", "prune(sparsity=0.99), pack"]);
    program()
        .arg("validate")
        .arg(fixture("lenet5.onnx"))
        .arg(&pruned)
        .args(["--runtime", "tract", "--max-drop", "0.01", "--data"])
        .arg(fixture("digits"))
        .assert()
        .code(3)
        .stdout(predicates::str::contains("top-1"));
}

#[test]
fn lossless_keeps_every_bit() {
    let folder = folder();
    let (packed, plain) = (folder.path().join("packed.onnx"), folder.path().join("plain.onnx"));
    let original = fixture("lenet5.onnx");
    compress(&original, &packed, &["--lossless"]);
    program().arg("decompress").arg(&packed).arg("-o").arg(&plain).assert().success();
    let (before, after) = (Model::open(&original).unwrap(), Model::open(&plain).unwrap());
    let values = |model: &Model| {
        let mut all: Vec<Vec<u8>> = model.weights().map(|(_, weight)| weight.original.bytes().to_vec()).collect();
        all.sort();
        all
    };
    assert!(!values(&before).is_empty());
    assert!(values(&before) == values(&after), "a weight changed");
    assert!(packed.metadata().unwrap().len() < original.metadata().unwrap().len());
}

#[test]
fn what_decompress_writes_is_what_tract_decodes_from_the_packed_file() {
    let folder = folder();
    let (packed, plain) = (folder.path().join("packed.onnx"), folder.path().join("plain.onnx"));
    compress(&fixture("lenet5.onnx"), &packed, &[]);
    program().arg("decompress").arg(&packed).arg("-o").arg(&plain).assert().success();
    let digits = fixture("digits").display().to_string();
    let (packed, plain) = (packed.display().to_string(), plain.display().to_string());
    let report = json_of(&[
        "validate",
        &plain,
        &packed,
        "--data",
        &digits,
        "--limit",
        "50",
        "--runtime",
        "tract",
        "--input-name",
        "input",
    ]);
    let output = &report["runs"][0]["outputs"][0];
    assert_eq!(output["max_abs_error"].as_f64(), Some(0.0), "{output}");
    let model = Model::open(plain.as_ref()).unwrap();
    assert!(model.proto.opset_import.iter().all(|import| import.domain() != "ai.dcomp"));
    assert!(model.graph().node.iter().all(|node| node.domain() != "ai.dcomp"));
}

#[test]
fn inspect_accounts_for_every_byte_of_a_packed_and_of_a_plain_file() {
    let folder = folder();
    let packed = folder.path().join("packed.onnx");
    compress(&fixture("lenet5.onnx"), &packed, &[]);
    for file in [fixture("lenet5.onnx"), packed] {
        let report = json_of(&["inspect", &file.display().to_string()]);
        let weights: u64 = report["weights"].as_array().unwrap().iter().map(|w| w["bytes"].as_u64().unwrap()).sum();
        assert_eq!(weights + report["graph_bytes"].as_u64().unwrap(), file.metadata().unwrap().len());
        assert_eq!(report["weights"].as_array().unwrap().len(), 8, "{report}");
    }
}

#[test]
fn the_output_is_never_larger_than_the_input() {
    let models = std::fs::read_dir(fixture("models")).unwrap().map(|entry| entry.unwrap().path());
    let models = models.filter(|path| path.extension().is_some_and(|extension| extension == "onnx"));
    for model in models {
        let folder = folder();
        let output = folder.path().join("out.onnx");
        compress(&model, &output, &["--verify-each"]);
        let before = Model::open(&model).unwrap().source().total_bytes();
        assert!(output.metadata().unwrap().len() <= before, "{}", model.display());
        assert_eq!(names_in(folder.path()), ["out.onnx"], "{}", model.display());
    }
}

#[test]
fn the_output_says_how_it_was_made_in_few_bytes() {
    let folder = folder();
    let packed = folder.path().join("packed.onnx");
    compress(&fixture("lenet5.onnx"), &packed, &["--quality", "high"]);
    let model = Model::open(&packed).unwrap();
    let made_by = model.proto.metadata_props.iter().find(|entry| entry.key() == "ai.dcomp").unwrap();
    let digest = Model::open(&fixture("lenet5.onnx")).unwrap().source().sha256_hex();
    assert!(made_by.value().contains("high") && made_by.value().contains(&digest[..16]), "{}", made_by.value());
    assert!(made_by.key().len() + made_by.value().len() + 6 < 80);
}

#[test]
fn a_packed_model_stays_as_it_is() {
    let folder = folder();
    let (once, twice) = (folder.path().join("once.onnx"), folder.path().join("twice.onnx"));
    compress(&fixture("lenet5.onnx"), &once, &[]);
    program().arg(&once).arg("-o").arg(&twice).assert().success().stderr(predicates::str::contains("packed already"));
    assert_eq!(std::fs::read(&once).unwrap(), std::fs::read(&twice).unwrap());
}

#[test]
fn the_output_may_be_the_input() {
    let folder = folder();
    let (model, packed) = (folder.path().join("net.onnx"), folder.path().join("packed.onnx"));
    std::fs::copy(fixture("lenet5.onnx"), &model).unwrap();
    compress(&model, &packed, &[]);
    compress(&model, &model, &[]);
    assert!(std::fs::read(&model).unwrap() == std::fs::read(&packed).unwrap());
    assert_eq!(names_in(folder.path()), ["net.onnx", "packed.onnx"]);
}

#[test]
fn a_dry_run_writes_nothing() {
    let folder = folder();
    let model = folder.path().join("net.onnx");
    std::fs::copy(fixture("lenet5.onnx"), &model).unwrap();
    program().arg(&model).arg("--dry-run").assert().success().stdout(predicates::str::contains("dry run"));
    assert_eq!(names_in(folder.path()), ["net.onnx"]);
}

#[test]
fn a_depfile_names_everything_that_was_read() {
    let folder = folder();
    let (output, rule) = (folder.path().join("out.onnx"), folder.path().join("out.d"));
    compress(&fixture("models/external_data.onnx"), &output, &["--depfile", &rule.display().to_string()]);
    let rule = std::fs::read_to_string(rule).unwrap();
    assert!(rule.starts_with(&format!("{}:", output.display())), "{rule}");
    assert!(rule.contains("external_data.onnx") && rule.contains("external_data.bin"), "{rule}");
}

#[test]
fn the_dense_target_is_plain_onnx_with_the_compressed_values() {
    let folder = folder();
    let (packed, dense) = (folder.path().join("packed.onnx"), folder.path().join("dense.onnx"));
    compress(&fixture("lenet5.onnx"), &packed, &[]);
    compress(&fixture("lenet5.onnx"), &dense, &["--target", "dense"]);
    let plain = folder.path().join("plain.onnx");
    program().arg("decompress").arg(&packed).arg("-o").arg(&plain).assert().success();
    let values = |path: &std::path::Path| {
        let model = Model::open(path).unwrap();
        let mut all: Vec<Vec<u8>> = model.weights().map(|(_, weight)| weight.original.bytes().to_vec()).collect();
        all.sort();
        all
    };
    assert!(values(&dense) == values(&plain), "the dense target holds other values than the packed one");
}

#[test]
fn a_weight_that_a_rule_skips_is_listed_with_that_reason() {
    let folder = folder();
    let (recipe, output) = (folder.path().join("recipe.toml"), folder.path().join("out.onnx"));
    let text = "pipeline = \"prune, pack\"\n[[rule]]\nmatch = \"fc1.weight\"\nskip = true\n";
    std::fs::write(&recipe, text).unwrap();
    let (input, output) = (fixture("lenet5.onnx").display().to_string(), output.display().to_string());
    let report = json_of(&[&input, "-o", &output, "--recipe", &recipe.display().to_string()]);
    let weights = report["weights"].as_array().unwrap();
    let reason = |name: &str| weights.iter().find(|weight| weight["name"] == name).unwrap()["left_alone"].as_str();
    assert_eq!(reason("fc1.weight"), Some("skipped by a rule of the recipe"));
    assert_eq!(reason("fc2.weight"), None);
}

#[test]
fn an_unchanged_model_keeps_its_external_data_where_it_is() {
    let folder = folder();
    // Six more tensors in one place of the external file: each with data of its own would be larger.
    let mut model =
        ModelProto::decode(std::fs::read(fixture("models/external_data.onnx")).unwrap().as_slice()).unwrap();
    let graph = model.graph.as_mut().unwrap();
    let external = graph.initializer.iter().filter(|tensor| !tensor.external_data.is_empty());
    let tensor = external.max_by_key(|tensor| tensor.dims.iter().product::<i64>()).unwrap().clone();
    for index in 0..6 {
        let name = Some(format!("twin{index}"));
        graph.initializer.push(TensorProto { name, ..tensor.clone() });
    }
    let input = folder.path().join("net.onnx");
    std::fs::write(&input, model.encode_to_vec()).unwrap();
    std::fs::copy(fixture("models/external_data.bin"), folder.path().join("external_data.bin")).unwrap();
    let output = folder.path().join("out.onnx");
    compress(&input, &output, &["--passes", ""]);
    assert!(std::fs::read(&output).unwrap() == std::fs::read(&input).unwrap());
    assert!(Model::open(&output).is_ok());
    let data = folder.path().join("external_data.bin");
    program().arg(&input).arg("-o").arg(&data).assert().code(2).stderr(predicates::str::contains("another name"));
    assert!(std::fs::read(&data).unwrap() == std::fs::read(fixture("models/external_data.bin")).unwrap());
    assert_eq!(names_in(folder.path()), ["external_data.bin", "net.onnx", "out.onnx"]);
}
