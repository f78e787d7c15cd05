//! Packed models as a whole in one node (target `session`): everything that reads files reads them too.

mod support;

use std::path::{Path, PathBuf};

use onnx_dcomp::{RuntimeKind, RuntimeOptions, load};
use onnx_dcomp_engine::Tensor;
use onnx_dcomp_ir::{Evidence, Model};
use onnx_dcomp_passes::Pipeline;
use onnx_dcomp_proto::{Message, ModelProto, NodeProto, TensorProto};
use support::{compress, fixture, folder, program, python, root, run_python};
use tract_onnx::prelude::{
    Framework, InferenceModelExt, IntoRunnable, IntoTensor, TValue, Tensor as TractTensor, tvec,
};

/// Quick, and leaves weights worth packing.
const QUICK: [&str; 4] = ["--passes", "share(clusters=8), pack", "--target", "session"];

fn proto(path: &Path) -> ModelProto {
    ModelProto::decode(std::fs::read(path).unwrap().as_slice()).unwrap()
}

fn payload(proto: &mut ModelProto) -> &mut TensorProto {
    &mut proto.graph.as_mut().unwrap().initializer[0]
}

/// LeNet-5 in one node, with the file changed.
fn changed(folder: &Path, change: impl FnOnce(&mut ModelProto)) -> PathBuf {
    let path = folder.join("session.onnx");
    compress(&fixture("lenet5.onnx"), &path, &QUICK);
    let mut model = proto(&path);
    change(&mut model);
    std::fs::write(&path, model.encode_to_vec()).unwrap();
    path
}

/// The message of the model in the node, changed.
fn with_inner(folder: &Path, change: impl FnOnce(&mut ModelProto)) -> PathBuf {
    changed(folder, |model| {
        let payload = payload(model);
        let mut inner = ModelProto::decode(payload.raw_data()).unwrap();
        change(&mut inner);
        let message = inner.encode_to_vec();
        payload.dims = vec![message.len() as i64];
        payload.raw_data = Some(message.into());
    })
}

/// What the program says of a file that it must refuse.
fn refusal(command: &str, path: &Path) -> String {
    let output = path.with_extension("plain");
    let mut program = program();
    program.arg(command).arg(path);
    if command == "decompress" {
        program.arg("-o").arg(&output);
    }
    let said = program.assert().code(1);
    assert!(!output.exists());
    String::from_utf8_lossy(&said.get_output().stderr).into_owned()
}

#[test]
fn the_file_is_one_node_with_the_interface_of_the_original_and_hardly_larger_than_packed() {
    let folder = folder();
    let [session, packed] = ["session.onnx", "packed.onnx"].map(|name| folder.path().join(name));
    let original = fixture("lenet5.onnx");
    compress(&original, &session, &["--target", "session"]);
    compress(&original, &packed, &[]);
    let (outer, before) = (proto(&session), proto(&original));
    let (graph, before) = (outer.graph.as_ref().unwrap(), before.graph.unwrap());
    let [node] = graph.node.as_slice() else { panic!("{} nodes", graph.node.len()) };
    assert_eq!((node.domain(), node.op_type()), ("ai.dcomp", "DcompSession"));
    let initialized: Vec<&str> = before.initializer.iter().map(|tensor| tensor.name()).collect();
    let inputs: Vec<_> = before.input.into_iter().filter(|input| !initialized.contains(&input.name())).collect();
    assert_eq!((&graph.input, &graph.output), (&inputs, &before.output));
    let bytes = |path: &Path| path.metadata().unwrap().len();
    assert!(bytes(&session) < bytes(&packed) + 400, "{} and {}", bytes(&session), bytes(&packed));
    assert!(outer.metadata_props.iter().any(|entry| entry.key() == "ai.dcomp"), "hosts see how it was made");
    if let Some(python) = python("onnx") {
        run_python(python, "import sys, onnx; onnx.checker.check_model(sys.argv[1])", &[&session]);
    }
}

#[test]
fn decompressed_it_is_what_the_packed_file_gives() {
    let folder = folder();
    let plain = |name: &str, target: &str| {
        let [packed, plain] = ["packed", "plain"].map(|kind| folder.path().join(format!("{name}.{kind}.onnx")));
        compress(&fixture("lenet5.onnx"), &packed, &["--target", target]);
        program().arg("decompress").arg(&packed).arg("-o").arg(&plain).assert().success();
        std::fs::read(plain).unwrap()
    };
    assert_eq!(plain("a", "session"), plain("b", "packed"));
}

#[test]
fn budgets_count_the_bytes_of_the_whole_file() {
    let folder = folder();
    let session = folder.path().join("session.onnx");
    compress(
        &fixture("lenet300.onnx"),
        &session,
        &["--target", "session", "--max-bytes", "40000", "--coder", "huffman"],
    );
    let bytes = session.metadata().unwrap().len();
    assert!((30_000..=40_000).contains(&bytes), "{bytes}");
}

#[test]
fn inspect_and_validate_see_the_weights_in_it() {
    let folder = folder();
    let session = folder.path().join("session.onnx");
    let original = fixture("lenet5.onnx");
    compress(&original, &session, &QUICK);
    let said = program().args(["inspect", "--json"]).arg(&session).assert().success();
    let report: serde_json::Value = serde_json::from_slice(&said.get_output().stdout).unwrap();
    assert_eq!(report["weights"].as_array().unwrap().len(), 8, "{report}");
    assert_eq!(report["bytes"].as_u64().unwrap(), session.metadata().unwrap().len());
    let digits = fixture("digits").display().to_string();
    let check = ["--data", &digits, "--limit", "100", "--max-drop", "5"];
    program().arg("validate").arg(&original).arg(&session).args(check).assert().success();
}

/// `model` packed, and in one node; `None` where it cannot be that, or has nothing to pack.
fn enclosed(model: &Path, folder: &Path) -> Option<[PathBuf; 2]> {
    let paths = ["packed.onnx", "session.onnx"].map(|name| folder.join(name));
    let mut model = Model::open(model).unwrap();
    let pipeline = Pipeline::parse("share(clusters=8), pack").unwrap();
    pipeline.run(&mut model, &Evidence::default(), &mut ()).unwrap();
    model.save(&paths[0]).unwrap();
    model.enclose().ok()?;
    model.verify().unwrap();
    model.save(&paths[1]).unwrap();
    Some(paths)
}

#[test]
fn reading_gives_back_what_was_put_into_the_node() {
    let folder = folder();
    let models = std::fs::read_dir(fixture("models")).unwrap().map(|entry| entry.unwrap().path());
    let models = models.filter(|path| path.extension().is_some_and(|extension| extension == "onnx"));
    let sorted = |path: &Path| {
        let mut model = Model::open(path).unwrap();
        model.graph_mut().initializer.sort_by(|a, b| a.name().cmp(b.name()));
        model.to_bytes().unwrap()
    };
    let compared = models.filter_map(|model| enclosed(&model, folder.path())).map(|[packed, session]| {
        // The order of initializers means nothing, and markers of weights are not compared but what they lead to.
        assert!(sorted(&packed) == sorted(&session), "{}", session.display());
    });
    assert!(compared.count() >= 30);
}

#[test]
fn defaults_of_inputs_stay_defaults() {
    let folder = folder();
    let [_, session] = enclosed(&fixture("models/input_default.onnx"), folder.path()).unwrap();
    let (before, after) = (proto(&fixture("models/input_default.onnx")), proto(&session));
    let (before, after) = (before.graph.unwrap(), after.graph.unwrap());
    assert_eq!(before.input, after.input);
    let default = |graph: &onnx_dcomp_proto::GraphProto| {
        let is_input = |tensor: &&TensorProto| graph.input.iter().any(|input| input.name() == tensor.name());
        graph.initializer.iter().find(is_input).map(|tensor| (tensor.name().to_owned(), tensor.dims.clone()))
    };
    assert!(default(&before).is_some());
    assert_eq!(default(&before), default(&after));
}

#[test]
fn what_cannot_be_one_node_is_refused_with_the_reason() {
    let folder = folder();
    let input = folder.path().join("net.onnx");
    let mut model = proto(&fixture("lenet5.onnx"));
    let graph = model.graph.as_mut().unwrap();
    // An input that is an output as well.
    let through = graph.input[0].clone();
    graph.output.push(through);
    std::fs::write(&input, model.encode_to_vec()).unwrap();
    let output = folder.path().join("out.onnx");
    let said = program().arg(&input).arg("-o").arg(&output).args(QUICK).assert().code(1);
    let said = String::from_utf8_lossy(&said.get_output().stderr).into_owned();
    assert!(said.contains("net.onnx") && said.contains("one node") && said.contains("another target"), "{said}");
    assert!(!output.exists());
}

#[test]
fn tract_puts_the_model_in_the_place_of_the_node() {
    let folder = folder();
    let [session, plain] = ["session.onnx", "plain.onnx"].map(|name| folder.path().join(name));
    compress(&fixture("lenet5.onnx"), &session, &["--target", "session"]);
    program().arg("decompress").arg(&session).arg("-o").arg(&plain).assert().success();
    let mut onnx = tract_onnx::onnx();
    onnx_dcomp_runtime::tract::register(&mut onnx);
    let run = |path: &Path| {
        let model = onnx.model_for_path(path).unwrap();
        let shape = tract_onnx::prelude::InferenceFact::dt_shape(
            <f32 as tract_onnx::prelude::Datum>::datum_type(),
            [2, 1, 28, 28],
        );
        let mut model = model;
        model.set_input_fact(0, shape).unwrap();
        let model = model.into_optimized().unwrap();
        assert!(model.nodes().iter().all(|node| !node.op.name().contains("Dcomp")), "nothing of ours is left");
        let values: Vec<f32> = (0..2 * 28 * 28).map(|index| (index as f32 * 0.37).sin()).collect();
        let input = TractTensor::from_shape(&[2, 1, 28, 28], &values).unwrap();
        model.into_runnable().unwrap().run(tvec!(TValue::from(input))).unwrap().remove(0).into_tensor()
    };
    assert_eq!(run(&session), run(&plain));
}

#[test]
fn damage_anywhere_in_the_node_is_an_error_that_names_the_file() {
    let folder = folder();
    let deep = with_inner(folder.path(), |inner| {
        let payload = inner.graph.as_mut().unwrap().initializer.iter_mut().max_by_key(|tensor| tensor.raw_data().len());
        let payload = payload.unwrap();
        let mut bytes = payload.raw_data().to_vec();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        payload.raw_data = Some(bytes.into());
    });
    for command in ["inspect", "decompress"] {
        let said = refusal(command, &deep);
        assert!(said.contains("session.onnx") && said.contains("damaged"), "{said}");
    }
    let noise = changed(folder.path(), |model| {
        let payload = payload(model);
        let length = payload.raw_data().len();
        payload.raw_data = Some(vec![0xff; length].into());
    });
    let said = refusal("decompress", &noise);
    assert!(said.contains("session.onnx") && said.contains("not an ONNX model"), "{said}");
    let elsewhere = with_inner(folder.path(), |inner| {
        inner.graph.as_mut().unwrap().output[0].name = Some("elsewhere".to_owned());
    });
    let said = refusal("decompress", &elsewhere);
    assert!(said.contains("session.onnx") && said.contains("other names"), "{said}");
}

#[test]
fn a_node_within_a_node_is_refused_however_deep() {
    let folder = folder();
    let path = folder.path().join("nested.onnx");
    compress(&fixture("lenet5.onnx"), &path, &QUICK);
    for depth in 1..=1000 {
        let mut outer = proto(&path);
        let message = outer.encode_to_vec();
        let payload = payload(&mut outer);
        payload.dims = vec![message.len() as i64];
        payload.raw_data = Some(message.into());
        std::fs::write(&path, outer.encode_to_vec()).unwrap();
        if ![1, 1000].contains(&depth) {
            continue;
        }
        for command in ["inspect", "decompress"] {
            let said = refusal(command, &path);
            assert!(said.contains("nested.onnx") && said.contains("the one node of a file"), "{said}");
        }
        for runtime in RuntimeKind::ALL.into_iter().filter(|runtime| onnx_dcomp_engine::available(*runtime).is_ok()) {
            assert!(load(&path, runtime, &RuntimeOptions::default()).is_err(), "{runtime} at {depth}");
        }
    }
}

#[test]
fn a_node_among_others_says_who_runs_it() {
    let folder = folder();
    let path = changed(folder.path(), |model| {
        let graph = model.graph.as_mut().unwrap();
        let before = graph.output[0].name().to_owned();
        graph.output[0].name = Some("after".to_owned());
        let relu = |name: &str| NodeProto {
            op_type: Some("Relu".to_owned()),
            input: vec![before.clone()],
            output: vec![name.to_owned()],
            ..NodeProto::default()
        };
        graph.node.push(relu("after"));
    });
    let said = refusal("decompress", &path);
    assert!(said.contains("the one node of a file") && said.contains("operator library"), "{said}");
    // tract takes it as any other node.
    let mut session = load(&path, RuntimeKind::Tract, &RuntimeOptions::default()).unwrap();
    let input = Tensor::from_f32(vec![1, 1, 28, 28], vec![0.5; 784]).unwrap();
    assert!(session.run(&[input]).unwrap()[0].to_f32().iter().all(|value| *value >= 0.0));
}

#[test]
fn compressed_again_it_stays_as_it_is() {
    let folder = folder();
    let [session, again] = ["session.onnx", "again.onnx"].map(|name| folder.path().join(name));
    compress(&fixture("lenet5.onnx"), &session, &QUICK);
    compress(&session, &again, &[]);
    assert!(std::fs::read(&session).unwrap() == std::fs::read(&again).unwrap());
}

#[test]
fn a_packed_file_is_not_put_into_a_node_as_it_is() {
    let folder = folder();
    let [packed, session] = ["packed.onnx", "session.onnx"].map(|name| folder.path().join(name));
    compress(&fixture("lenet5.onnx"), &packed, &[]);
    let said = program().arg(&packed).arg("-o").arg(&session).args(QUICK).assert().code(2);
    let said = String::from_utf8_lossy(&said.get_output().stderr).into_owned();
    assert!(said.contains("decompress"), "{said}");
}

#[test]
fn the_reference_decoder_reads_it() {
    let Some(mut decoder) = python("onnx") else { return };
    let Some(comparison) = python("onnx") else { return };
    let folder = folder();
    let [session, plain, decoded] = ["session.onnx", "plain.onnx", "weights.npz"].map(|name| folder.path().join(name));
    let passes = ["--passes", "share(clusters=8), pack(coder=fast)", "--target", "session"];
    compress(&fixture("lenet5.onnx"), &session, &passes);
    program().arg("decompress").arg(&session).arg("-o").arg(&plain).assert().success();
    let script = root().join("codec/reference/decode.py");
    assert!(decoder.arg("-B").arg(script).arg(&session).arg(&decoded).status().unwrap().success());
    const COMPARE: &str = "
import sys, numpy, onnx
found = numpy.load(sys.argv[1])
tensors = onnx.load(sys.argv[2]).graph.initializer
assert sum(tensor.name in found for tensor in tensors) >= 4
for tensor in tensors:
    if tensor.name in found:
        assert found[tensor.name].tobytes() == onnx.numpy_helper.to_array(tensor).tobytes(), tensor.name
";
    run_python(comparison, COMPARE, &[&decoded, &plain]);
}
