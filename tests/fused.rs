//! Products that compute on compressed weights, against the plain file.

mod support;

use std::path::{Path, PathBuf};

use onnx_dcomp::{RuntimeKind, RuntimeOptions, decompress, load};
use onnx_dcomp_engine::Tensor;
use onnx_dcomp_fixtures::models::{convolution, fully_connected};
use onnx_dcomp_ir::Model;
use onnx_dcomp_proto::Message;
use support::{compress, fixture, folder, program, python, root};

const SPARSE: &str = "fold, strip, prune(sparsity=0.92), share(clusters=16), fuse(when=always), pack";
const CODEBOOK: &str = "fold, strip, share(clusters=16), fuse(when=always), pack";

/// The model at `input`, compressed by `passes`, and the plain form of that.
fn fused_and_plain(input: &Path, folder: &Path, passes: &str) -> (PathBuf, PathBuf) {
    let (fused, plain) = (folder.join("fused.onnx"), folder.join("plain.onnx"));
    compress(input, &fused, &["--passes", passes]);
    decompress(&fused, &plain, &()).unwrap();
    (fused, plain)
}

fn operators(path: &Path) -> Vec<String> {
    Model::open(path).unwrap().graph().node.iter().map(|node| node.op_type().to_owned()).collect()
}

/// What the model at `path` makes of some input, or all that is said of why not.
fn run(path: &Path, shape: &[usize]) -> Result<Vec<f32>, String> {
    fn all(error: &dyn std::error::Error) -> String {
        std::iter::successors(Some(error), |error| error.source()).map(|error| format!("{error:#}; ")).collect()
    }
    let session = load(path, RuntimeKind::Tract, &RuntimeOptions::default());
    let outputs = session.map_err(|error| all(&error))?.run(&[wave(shape)]).map_err(|error| all(&error))?;
    Ok(outputs[0].to_f32().into_owned())
}

fn wave(shape: &[usize]) -> Tensor {
    let values = (0..shape.iter().product::<usize>()).map(|index| (index as f32 * 0.37).sin()).collect();
    Tensor::from_f32(shape.to_vec(), values).unwrap()
}

fn outputs(path: &Path, shape: &[usize]) -> Vec<f32> {
    run(path, shape).unwrap()
}

fn assert_close(found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len());
    let scale = expected.iter().fold(0f32, |scale, value| scale.max(value.abs()));
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() <= 1e-5 * scale, "{found} against {expected}");
    }
}

#[test]
fn every_product_is_fused_and_computes_what_the_plain_file_does() {
    for (passes, operator) in [(SPARSE, "DcompSparseGemm"), (CODEBOOK, "DcompCodebookGemm")] {
        let folder = folder();
        let (fused, plain) = fused_and_plain(&fixture("lenet300.onnx"), folder.path(), passes);
        // The last one is so small that codes are quicker than non-zeros.
        let found = operators(&fused);
        assert!(found.iter().any(|name| name == operator), "{found:?}");
        let is_fused = |name: &&String| ["DcompSparseGemm", "DcompCodebookGemm"].contains(&name.as_str());
        assert_eq!(found.iter().filter(is_fused).count(), 3, "{found:?}");
        assert_eq!(operators(&plain).iter().filter(|name| *name == "Gemm").count(), 3);
        assert!(!found.iter().any(|name| name == "Relu"), "the operators do it: {found:?}");
        assert_eq!(operators(&plain).iter().filter(|name| *name == "Relu").count(), 2);
        for batch in [1, 3, 9] {
            let shape = [batch, 1, 28, 28];
            assert_close(&outputs(&fused, &shape), &outputs(&plain, &shape));
        }
    }
}

#[test]
fn a_matmul_whose_matrix_lies_the_other_way_round_is_fused_too() {
    let folder = folder();
    let mut model = fully_connected(50, 70, |index| [0.0, 0.0, 0.5, 0.0, -0.25, 0.0, 0.0][index % 7]);
    let graph = model.graph.as_mut().unwrap();
    graph.initializer[0].dims = vec![50, 70];
    graph.initializer.truncate(1);
    graph.node[0].op_type = Some("MatMul".to_owned());
    graph.node[0].attribute.clear();
    graph.node[0].input.truncate(2);
    let input = folder.path().join("net.onnx");
    std::fs::write(&input, model.encode_to_vec()).unwrap();
    let (fused, plain) = fused_and_plain(&input, folder.path(), "recognise, fuse(when=always), pack");
    assert_eq!(operators(&fused), ["DcompCodebookGemm"]);
    assert_eq!(operators(&plain), ["MatMul"]);
    assert_close(&outputs(&fused, &[1, 50]), &outputs(&plain, &[1, 50]));
    assert_eq!(outputs(&plain, &[1, 50]), outputs(&input, &[1, 50]), "nothing was lost");
}

#[test]
fn every_convolution_is_fused_and_computes_what_the_plain_file_does() {
    let models = [
        (fixture("lenet5.onnx"), 2, vec![vec![1, 28, 28]]),
        (fixture("models/windows.onnx"), 4, vec![vec![3, 21, 18], vec![4, 50]]),
        (fixture("models/grouped_convolutions.onnx"), 2, vec![vec![8, 12, 12]]),
    ];
    for (model, convolutions, shapes) in models {
        for values in ["prune(sparsity=0.8), share(clusters=16)", "share(clusters=40)"] {
            let folder = folder();
            let passes = format!("fold, strip, {values}, fuse(when=always), pack");
            let (fused, plain) = fused_and_plain(&model, folder.path(), &passes);
            let count = |path: &Path, name: &str| operators(path).iter().filter(|found| *found == name).count();
            assert_eq!(count(&fused, "DcompSparseConv"), convolutions, "{:?}", operators(&fused));
            assert_eq!((count(&fused, "Conv"), count(&plain, "Conv")), (0, convolutions));
            for batch in [1, 3] {
                let inputs: Vec<Tensor> = shapes.iter().map(|shape| wave(&[&[batch], &shape[..]].concat())).collect();
                let outputs = [&fused, &plain].map(|path| {
                    let session = load(path, RuntimeKind::Tract, &RuntimeOptions::default());
                    session.unwrap().run(&inputs).unwrap()
                });
                for (found, expected) in outputs[0].iter().zip(&outputs[1]) {
                    assert_eq!(found.shape(), expected.shape());
                    assert_close(&found.to_f32(), &expected.to_f32());
                }
            }
        }
    }
}

#[test]
fn a_sparse_convolution_is_fused_where_that_is_faster() {
    let folder = folder();
    let (input, output) = (folder.path().join("net.onnx"), folder.path().join("fused.onnx"));
    for (of, operator) in [(2, "Conv"), (10, "DcompSparseConv")] {
        let model = convolution(64, 64, 14, |index| if index % of == 0 { 0.5 } else { 0.0 });
        std::fs::write(&input, model.encode_to_vec()).unwrap();
        compress(&input, &output, &["--lossless", "--target", "fused"]);
        assert!(operators(&output).contains(&operator.to_owned()), "{:?}", operators(&output));
    }
}

#[test]
fn images_that_do_not_fit_are_refused_by_name() {
    let folder = folder();
    let passes = "recognise, fuse(when=always), pack";
    let mut model = convolution(4, 4, 14, |index| if index % 3 == 0 { 0.5 } else { 0.0 });
    let input = folder.path().join("net.onnx");
    let graph = model.graph.as_mut().unwrap();
    graph.node[0].name = Some("first".to_owned());
    let onnx_dcomp_proto::type_proto::Value::TensorType(tensor) =
        graph.input[0].r#type.as_mut().unwrap().value.as_mut().unwrap()
    else {
        unreachable!("the model takes a tensor");
    };
    tensor.shape = None;
    std::fs::write(&input, model.encode_to_vec()).unwrap();
    let (fused, _) = fused_and_plain(&input, folder.path(), passes);
    assert_eq!(operators(&fused), ["DcompSparseConv"]);
    assert_eq!(outputs(&fused, &[2, 4, 5, 9]).len(), 2 * 4 * 5 * 9, "images of any size are taken");
    let error = run(&fused, &[1, 5, 14, 14]).unwrap_err();
    assert!(error.contains("4 channels") && error.contains("first"), "{error}");
    let mut model = Model::open(&fused).unwrap();
    model.graph_mut().node[0].attribute[0].ints = vec![0; 4];
    model.save(&fused).unwrap();
    let error = run(&fused, &[1, 4, 2, 2]).unwrap_err();
    assert!(error.contains("smaller than a filter") && error.contains("first"), "{error}");
    let mut model = Model::open(&fused).unwrap();
    model.graph_mut().node[0].attribute[0].ints = vec![0; 3];
    model.save(&fused).unwrap();
    let error = run(&fused, &[1, 4, 14, 14]).unwrap_err();
    assert!(error.contains("pads [0, 0, 0] do not fit") && error.contains("first"), "{error}");
}

#[test]
fn the_target_leaves_dense_what_is_faster_dense() {
    let folder = folder();
    let input = fixture("lenet300.onnx");
    let fused = folder.path().join("fused.onnx");
    let passes = "fold, prune(sparsity=0.92), share(clusters=16), strip, fuse, pack";
    compress(&input, &fused, &["--passes", passes]);
    // At 8 % of the weights the large layer pays.
    assert!(operators(&fused).iter().any(|name| name == "DcompSparseGemm"), "{:?}", operators(&fused));
    compress(&input, &fused, &["--target", "fused", "--quality", "high"]);
    assert!(!operators(&fused).iter().any(|name| name == "DcompSparseGemm"), "{:?}", operators(&fused));
}

#[test]
fn a_damaged_payload_and_a_vector_of_another_length_are_errors_that_name_the_node() {
    let folder = folder();
    let (fused, _) = fused_and_plain(&fixture("lenet300.onnx"), folder.path(), SPARSE);
    let mut model = onnx_dcomp_proto::ModelProto::decode(std::fs::read(&fused).unwrap().as_slice()).unwrap();
    let payload = model.graph.as_mut().unwrap().initializer.iter_mut().max_by_key(|tensor| tensor.raw_data().len());
    let payload = payload.unwrap();
    let mut bytes = payload.raw_data().to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    payload.raw_data = Some(bytes.into());
    let damaged = folder.path().join("damaged.onnx");
    std::fs::write(&damaged, model.encode_to_vec()).unwrap();
    let error = run(&damaged, &[1, 1, 28, 28]).expect_err("a damaged payload must not run");
    assert!(error.contains("damaged") && error.contains("node `"), "{error}");
    let error = run(&fused, &[1, 1, 28, 27]).expect_err("28 times 28 elements are wanted");
    assert!(error.contains("does not fit"), "{error}");
    let said = program().arg("inspect").arg(&damaged).assert().code(1);
    let said = String::from_utf8_lossy(&said.get_output().stderr).into_owned();
    assert!(said.contains("checksum") && said.contains("damaged.onnx"), "{said}");
}

#[test]
fn inspect_tells_the_fused_weights() {
    let folder = folder();
    let (fused, _) = fused_and_plain(&fixture("lenet300.onnx"), folder.path(), SPARSE);
    let said = program().args(["inspect", "--json"]).arg(&fused).assert().success();
    let report: serde_json::Value = serde_json::from_slice(&said.get_output().stdout).unwrap();
    let weights = report["weights"].as_array().unwrap();
    let fused: Vec<_> = weights.iter().filter(|weight| weight["form"] == "codebook").collect();
    assert_eq!(fused.len(), 3, "{weights:?}");
    assert!(fused.iter().all(|weight| weight["density"].as_f64().unwrap() < 0.1), "{fused:?}");
}

#[test]
fn the_reference_decoder_reads_fused_weights() {
    let Some(mut decoder) = python("onnx") else { return };
    let Some(mut comparison) = python("onnx") else { return };
    let folder = folder();
    let (fused, plain) = fused_and_plain(&fixture("lenet300.onnx"), folder.path(), SPARSE);
    let decoded = folder.path().join("weights.npz");
    let script = root().join("codec/reference/decode.py");
    assert!(decoder.arg("-B").arg(script).arg(&fused).arg(&decoded).status().unwrap().success());
    const COMPARE: &str = "
import sys, numpy, onnx
found = numpy.load(sys.argv[1])
for tensor in onnx.load(sys.argv[2]).graph.initializer:
    expected = onnx.numpy_helper.to_array(tensor)
    assert found[tensor.name].tobytes() == expected.tobytes(), tensor.name
";
    assert!(comparison.arg("-c").arg(COMPARE).arg(&decoded).arg(&plain).status().unwrap().success());
}

/// Costs with which every layer is faster so, or dense.
fn costs(folder: &Path, dense: f64) -> PathBuf {
    let file = folder.join("costs.toml");
    let text =
        format!("dense = {dense}\ncached = {dense}\nnonzero = 10\ncode = 10\nmultiplication = {dense}\nfilter = 10\n");
    std::fs::write(&file, text).unwrap();
    file
}

#[test]
fn costs_in_a_file_decide_what_is_fused() {
    let folder = folder();
    let fused = folder.path().join("fused.onnx");
    for (dense, expected) in [(0.0, 0), (1e6, 4)] {
        let tune = format!("--tune={}", costs(folder.path(), dense).display());
        let depfile = folder.path().join("rule.d");
        let depfile_text = depfile.to_str().unwrap();
        compress(&fixture("lenet5.onnx"), &fused, &["--target", "fused", &tune, "--depfile", depfile_text]);
        let found = operators(&fused);
        let is_fused =
            |name: &&String| ["DcompSparseConv", "DcompSparseGemm", "DcompCodebookGemm"].contains(&name.as_str());
        assert_eq!(found.iter().filter(is_fused).count(), expected, "{found:?}");
        assert!(std::fs::read_to_string(depfile).unwrap().contains("costs.toml"), "the output depends on the costs");
    }
}

#[test]
fn costs_that_cannot_be_used_are_refused() {
    let folder = folder();
    let (output, file) = (folder.path().join("out.onnx"), costs(folder.path(), 50.0));
    let refused = |target: &str, file: &Path| {
        let tune = format!("--tune={}", file.display());
        let mut program = program();
        let said = program.arg(fixture("lenet5.onnx")).arg("-o").arg(&output).args(["--target", target, &tune]);
        let said = said.assert().failure();
        assert!(!output.exists());
        let said = said.get_output();
        (said.status.code(), String::from_utf8_lossy(&said.stderr).into_owned())
    };
    let (code, said) = refused("packed", &file);
    assert!(code == Some(2) && said.contains("--target fused"), "{said}");
    let (code, said) = refused("fused", Path::new("nowhere.toml"));
    assert!(code == Some(1) && said.contains("nowhere.toml"), "{said}");
    std::fs::write(&file, "dense = 1").unwrap();
    let (code, said) = refused("fused", &file);
    assert!(code == Some(2) && said.contains("cached") && said.contains("costs.toml"), "{said}");
    costs(folder.path(), -1.0);
    let (code, said) = refused("fused", &file);
    assert!(code == Some(2) && said.contains("dense = -1") && said.contains("picoseconds"), "{said}");
}

#[test]
fn what_is_measured_here_can_be_given() {
    let folder = folder();
    let (file, output) = (folder.path().join("costs.toml"), folder.path().join("out.onnx"));
    let said = program().args(["tune", "--json", "-o"]).arg(&file).assert().success();
    let said: serde_json::Value = serde_json::from_slice(&said.get_output().stdout).unwrap();
    let read: toml::Value = toml::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    for name in ["dense", "cached", "nonzero", "code", "multiplication", "filter"] {
        assert_eq!(said[name].as_f64(), read[name].as_float(), "{name}");
        assert!(said[name].as_f64().unwrap() > 0.0, "{name}");
    }
    compress(&fixture("lenet300.onnx"), &output, &["--target", "fused", &format!("--tune={}", file.display())]);
}
