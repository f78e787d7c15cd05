//! Models in both runtimes: the same numbers from both, packed weights in tract, and errors that say what to do.

use std::path::{Path, PathBuf};

use onnx_dcomp_codec::{Coder, Layout};
use onnx_dcomp_engine::{
    DataFolder, EngineError, ModelSource, PreprocessOptions, RuntimeKind, RuntimeOptions, Session, Tensor,
    ValidateOptions, available, open, runtimes_agree, validate,
};
use onnx_dcomp_forms::{DType, Form, Values};
use onnx_dcomp_proto::{
    GraphProto, Message, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto, TypeProto,
    ValueInfoProto, tensor_shape_proto, type_proto,
};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures")
}

/// Whether onnxruntime is here; says so where it is not.
fn onnxruntime(test: &str) -> bool {
    available(RuntimeKind::Onnxruntime).inspect_err(|error| println!("skipped: {test}: {error}")).is_ok()
}

fn session(kind: RuntimeKind, model: &Path) -> Box<dyn Session> {
    open(kind, ModelSource::path(model), &RuntimeOptions::default()).unwrap()
}

fn tensor_type(name: &str, shape: &[i64]) -> ValueInfoProto {
    let dimension = |&length: &i64| tensor_shape_proto::Dimension {
        value: Some(match length {
            0 => tensor_shape_proto::dimension::Value::DimParam("N".to_owned()),
            length => tensor_shape_proto::dimension::Value::DimValue(length),
        }),
        ..Default::default()
    };
    let shape = TensorShapeProto { dim: shape.iter().map(dimension).collect() };
    let tensor = type_proto::Tensor { elem_type: Some(1), shape: Some(shape) };
    let kind = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..Default::default() };
    ValueInfoProto { name: Some(name.to_owned()), r#type: Some(kind), ..Default::default() }
}

fn node(operator: &str, domain: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    NodeProto {
        op_type: Some(operator.to_owned()),
        domain: Some(domain.to_owned()),
        name: Some(format!("{operator}_node")),
        input: names(inputs),
        output: names(outputs),
        ..Default::default()
    }
}

/// `y = x . w + b` with x of N x 2 and y of N x 3.
fn linear(nodes: Vec<NodeProto>, initializer: Vec<TensorProto>) -> Vec<u8> {
    let mut all = nodes;
    all.push(node("MatMul", "", &["x", "w"], &["xw"]));
    all.push(node("Add", "", &["xw", "b"], &["y"]));
    let graph = GraphProto {
        name: Some("linear".to_owned()),
        node: all,
        initializer,
        input: vec![tensor_type("x", &[0, 2])],
        output: vec![tensor_type("y", &[0, 3])],
        ..Default::default()
    };
    let opset = |domain: &str, version| OperatorSetIdProto { domain: Some(domain.to_owned()), version: Some(version) };
    let model = ModelProto {
        ir_version: Some(8),
        opset_import: vec![opset("", 17), opset("ai.dcomp", 1), opset("com.example", 1)],
        graph: Some(graph),
        ..Default::default()
    };
    model.encode_to_vec()
}

fn floats(name: &str, dims: &[i64], values: &[f32]) -> TensorProto {
    TensorProto {
        name: Some(name.to_owned()),
        dims: dims.to_vec(),
        data_type: Some(1),
        float_data: values.to_vec(),
        ..Default::default()
    }
}

const WEIGHT: [f32; 6] = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
const BIAS: [f32; 3] = [0.5, 0.25, -1.0];

fn dense() -> Vec<u8> {
    linear(Vec::new(), vec![floats("w", &[2, 3], &WEIGHT), floats("b", &[3], &BIAS)])
}

/// The same model with both weights in one payload.
fn packed(dtype: DType, damage: bool) -> Vec<u8> {
    let shapes: [&[usize]; 2] = [&[2, 3], &[3]];
    let forms = [&WEIGHT[..], &BIAS[..]].map(|values| Form::Dense(Values::from_f32(dtype, values)));
    let tensors: Vec<_> = shapes
        .iter()
        .zip(&forms)
        .map(|(shape, form)| onnx_dcomp_codec::Tensor { shape, form, layout: Layout::new(shape, None) })
        .collect();
    let mut payload = onnx_dcomp_codec::encode(&tensors, Coder::Fast).unwrap();
    if damage {
        let middle = payload.len() / 2;
        payload[middle] ^= 1;
    }
    let dims = vec![payload.len() as i64];
    let payload = TensorProto {
        name: Some("p".to_owned()),
        dims,
        data_type: Some(2),
        raw_data: Some(payload.into()),
        ..Default::default()
    };
    linear(vec![node("DcompDecode", "ai.dcomp", &["p"], &["w", "b"])], vec![payload])
}

fn run(kind: RuntimeKind, model: &[u8], rows: &[[f32; 2]]) -> Result<Vec<f32>, EngineError> {
    let mut session = open(kind, ModelSource::bytes("test model", model), &RuntimeOptions::default())?;
    let input = Tensor::from_f32(vec![rows.len(), 2], rows.concat())?;
    Ok(session.run(&[input])?[0].to_f32().into_owned())
}

#[test]
fn both_runtimes_run_any_batch() {
    for kind in RuntimeKind::ALL {
        if kind == RuntimeKind::Onnxruntime && !onnxruntime("both_runtimes_run_any_batch") {
            continue;
        }
        assert_eq!(run(kind, &dense(), &[[1.0, 0.0]]).unwrap(), [1.5, 2.25, 2.0], "{kind}");
        let two = run(kind, &dense(), &[[1.0, 0.0], [0.0, 2.0]]).unwrap();
        assert_eq!(two, [1.5, 2.25, 2.0, 8.5, 10.25, 11.0], "{kind}");
    }
}

#[test]
fn tract_reads_packed_weights_of_every_type_that_its_operators_compute_in() {
    assert_eq!(run(RuntimeKind::Tract, &packed(DType::F32, false), &[[1.0, 2.0]]).unwrap(), [9.5, 12.25, 14.0]);
    // bf16 arrives as f32, exactly.
    assert_eq!(run(RuntimeKind::Tract, &packed(DType::BF16, false), &[[1.0, 2.0]]).unwrap(), [9.5, 12.25, 14.0]);
}

#[test]
fn onnxruntime_gets_packed_weights_as_if_they_had_been_dense() {
    if onnxruntime("onnxruntime_gets_packed_weights_as_if_they_had_been_dense") {
        assert_eq!(
            run(RuntimeKind::Onnxruntime, &packed(DType::F32, false), &[[1.0, 2.0]]).unwrap(),
            [9.5, 12.25, 14.0]
        );
    }
}

#[test]
fn a_damaged_payload_names_the_node_and_the_checksum() {
    for kind in RuntimeKind::ALL {
        if kind == RuntimeKind::Onnxruntime && !onnxruntime("a_damaged_payload_names_the_node_and_the_checksum") {
            continue;
        }
        let message = run(kind, &packed(DType::F32, true), &[[1.0, 2.0]]).unwrap_err().to_string();
        assert!(message.contains("DcompDecode_node") && message.contains("checksum"), "{kind}: {message}");
    }
}

#[test]
fn a_payload_that_holds_too_few_weights_is_refused() {
    let mut model = ModelProto::decode(packed(DType::F32, false).as_slice()).unwrap();
    model.graph.as_mut().unwrap().node[0].output.push("more".to_owned());
    let message = run(RuntimeKind::Tract, &model.encode_to_vec(), &[[1.0, 2.0]]).unwrap_err().to_string();
    assert!(message.contains("2 weights") && message.contains("3 outputs"), "{message}");
}

#[test]
fn a_missing_operator_is_named() {
    let weights = vec![floats("v", &[2, 3], &WEIGHT), floats("b", &[3], &BIAS)];
    for (operator, domain, expected) in
        [("Frobnicate", "com.example", "com.example::Frobnicate"), ("Identity", "com.example", "com.example::Identity")]
    {
        let model = linear(vec![node(operator, domain, &["v"], &["w"])], weights.clone());
        match run(RuntimeKind::Tract, &model, &[[0.0; 2]]).unwrap_err() {
            EngineError::UnsupportedOperator { operator: found, node, .. } => {
                assert_eq!((found.as_str(), node), (expected, format!("{operator}_node")));
            }
            other => panic!("{other}"),
        }
    }
}

#[test]
fn what_is_no_model_or_does_not_fit_is_an_error_that_says_so() {
    for kind in RuntimeKind::ALL {
        if kind == RuntimeKind::Onnxruntime && !onnxruntime("what_is_no_model_or_does_not_fit") {
            continue;
        }
        let message = run(kind, b"this is no model", &[[0.0; 2]]).unwrap_err().to_string();
        assert!(message.contains("test model"), "{kind}: {message}");
        let cut = &dense()[..dense().len() / 2];
        assert!(run(kind, cut, &[[0.0; 2]]).is_err(), "{kind}");
        let mut session = open(kind, ModelSource::bytes("m", &dense()), &RuntimeOptions::default()).unwrap();
        let wrong = Tensor::from_f32(vec![1, 5], vec![0.0; 5]).unwrap();
        let message = session.run(&[wrong]).unwrap_err().to_string();
        assert!(message.contains("1x5") && message.contains("Nx2"), "{kind}: {message}");
    }
}

#[test]
fn dangling_names_do_not_end_the_program() {
    let model = linear(vec![node("Identity", "", &["nowhere"], &["w"])], vec![floats("b", &[3], &BIAS)]);
    assert!(run(RuntimeKind::Tract, &model, &[[0.0; 2]]).is_err());
    let mut proto = ModelProto::decode(dense().as_slice()).unwrap();
    proto.graph.as_mut().unwrap().output[0].name = Some("nowhere".to_owned());
    assert!(run(RuntimeKind::Tract, &proto.encode_to_vec(), &[[0.0; 2]]).is_err());
}

#[test]
fn both_runtimes_agree_on_the_digits_and_find_them() {
    if !onnxruntime("both_runtimes_agree_on_the_digits_and_find_them") {
        return;
    }
    let path = fixtures().join("lenet5.onnx");
    let mut tract = session(RuntimeKind::Tract, &path);
    let mut reference = session(RuntimeKind::Onnxruntime, &path);
    let options = PreprocessOptions::beside(&path).unwrap().expect("lenet5.preprocess.toml");
    let preprocess = options.resolve(tract.inputs(), tract.outputs()).unwrap();
    assert_eq!((tract.inputs(), tract.outputs()), (reference.inputs(), reference.outputs()));
    let data = DataFolder::open(&fixtures().join("digits"), &preprocess).unwrap().dataset(None, Some(100)).unwrap();
    let options = ValidateOptions { batch: 7 };
    let found =
        runtimes_agree(tract.as_mut(), reference.as_mut(), data.as_ref(), &preprocess, &options, &mut |_, _| {})
            .unwrap();
    assert!(found.agrees() && found.samples == 100 && found.agreement_percent == Some(100.0), "{found:?}");
    assert!(found.fidelity.max_abs_error < 1e-3, "{found:?}");
}

#[test]
fn validation_does_not_depend_on_batches_and_sees_a_broken_model() {
    let path = fixtures().join("lenet5.onnx");
    let mut original = session(RuntimeKind::Tract, &path);
    let preprocess = PreprocessOptions::beside(&path).unwrap().unwrap_or_default();
    let preprocess = preprocess.resolve(original.inputs(), original.outputs()).unwrap();
    let data = DataFolder::open(&fixtures().join("digits"), &preprocess).unwrap().dataset(None, Some(60)).unwrap();
    let mut proto = ModelProto::decode(std::fs::read(&path).unwrap().as_slice()).unwrap();
    // The first weight is zeroed: the classes collapse.
    let initializers = &mut proto.graph.as_mut().unwrap().initializer;
    let largest =
        initializers.iter_mut().max_by_key(|tensor| tensor.raw_data.as_ref().map_or(0, |raw| raw.len())).unwrap();
    largest.raw_data = Some(vec![0; largest.raw_data.as_ref().unwrap().len()].into());
    let bytes = proto.encode_to_vec();
    let mut broken =
        open(RuntimeKind::Tract, ModelSource::bytes("broken", &bytes), &RuntimeOptions::default()).unwrap();
    let mut reports = Vec::new();
    for batch in [1, 16, 64] {
        let mut heard = Vec::new();
        let options = ValidateOptions { batch };
        let progress = &mut |done, total| heard.push((done, total));
        let report =
            validate(original.as_mut(), broken.as_mut(), data.as_ref(), &preprocess, &options, progress).unwrap();
        assert_eq!((heard.first(), heard.last()), (Some(&(0, 60)), Some(&(60, 60))));
        reports.push(report);
    }
    let top1 = |index: usize| reports[index].classification.as_ref().unwrap().top1_percent.unwrap();
    assert!(top1(0).original > 90.0 && top1(0).compressed < 50.0, "{:?}", top1(0));
    assert!((reports[0].drop_points() - (top1(0).original - top1(0).compressed)).abs() < 1e-8);
    assert_eq!((top1(0), top1(0)), (top1(1), top1(2)));
    assert!(reports[0].outputs[0].fidelity.sqnr_db < 10.0);
}

#[test]
fn two_runs_give_the_same_bits() {
    let path = fixtures().join("lenet5.onnx");
    for kind in RuntimeKind::ALL {
        if kind == RuntimeKind::Onnxruntime && !onnxruntime("two_runs_give_the_same_bits") {
            continue;
        }
        let input =
            Tensor::from_f32(vec![3, 1, 28, 28], (0..3 * 784).map(|index| (index % 17) as f32 / 17.0).collect());
        let input = [input.unwrap()];
        let mut first = session(kind, &path);
        let outputs = first.run(&input).unwrap();
        assert_eq!(outputs, first.run(&input).unwrap(), "{kind}");
        assert_eq!(outputs, session(kind, &path).run(&input).unwrap(), "{kind}");
    }
}

#[test]
fn runtimes_have_names() {
    assert_eq!("ort".parse(), Ok(RuntimeKind::Onnxruntime));
    assert_eq!("tract".parse(), Ok(RuntimeKind::Tract));
    assert!("tensorrt".parse::<RuntimeKind>().unwrap_err().contains("`ort`"));
}
