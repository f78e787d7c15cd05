//! A stock onnxruntime, from its Python wheel, runs packed models with the operator library alone.

use std::path::{Path, PathBuf};
use std::process::Command;

use onnx_dcomp::{Compiler, Plan, Target};
use onnx_dcomp_fixtures::models::{convolution, fully_connected};
use onnx_dcomp_ir::{Evidence, Model};
use onnx_dcomp_passes::Pipeline;
use onnx_dcomp_proto::tensor_proto::DataType;
use onnx_dcomp_proto::tensor_shape_proto::{Dimension, dimension};
use onnx_dcomp_proto::type_proto::{self, Tensor};
use onnx_dcomp_proto::{
    GraphProto, Message, ModelProto, NodeProto, OperatorSetIdProto, TensorShapeProto, TypeProto, ValueInfoProto,
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The library that this test was built with.
fn library() -> PathBuf {
    let test = std::env::current_exe().expect("the system knows this program");
    let name = format!("{}onnx_dcomp_ort{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
    let library = test.parent().expect("a program is in a folder").join(name);
    assert!(library.is_file(), "{}", library.display());
    library
}

/// The Python that has `modules`: the one that `DCOMP_PYTHON` names, that of `.venv`, or the system's.
fn python() -> Option<Command> {
    let named = std::env::var_os("DCOMP_PYTHON").map(PathBuf::from);
    for python in named.into_iter().chain([root().join(".venv/bin/python"), PathBuf::from("python3")]) {
        let found = Command::new(&python).args(["-c", "import numpy, onnx, onnxruntime"]).output();
        if found.is_ok_and(|found| found.status.success()) {
            return Some(Command::new(python));
        }
    }
    eprintln!("skipped: no Python with numpy, onnx and onnxruntime was found");
    None
}

/// Runs `stock.py` on the packed and the plain form of a model.
fn run_stock(packed: &Path, plain: &Path) {
    let Some(mut python) = python() else { return };
    let script = root().join("runtime/ort/tests/stock.py");
    let done = python.arg("-B").arg(script).arg(library()).arg(packed).arg(plain).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

/// What a stock onnxruntime says when it is to open `packed`, which it must refuse.
fn refusal(packed: &Path) -> Option<String> {
    const OPEN: &str = "
import sys, onnxruntime
options = onnxruntime.SessionOptions()
options.log_severity_level = 4
options.register_custom_ops_library(sys.argv[1])
try:
    onnxruntime.InferenceSession(sys.argv[2], options)
except Exception as error:
    print(error)
else:
    sys.exit('it was opened')
";
    let done = python()?.arg("-c").arg(OPEN).arg(library()).arg(packed).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    Some(String::from_utf8_lossy(&done.stdout).into_owned())
}

/// The packed form of the model at `path`, in `folder`.
fn packed(path: &Path, folder: &Path) -> PathBuf {
    let packed = folder.join("packed.onnx");
    let plan = Plan::Passes("fold, share(clusters=32), strip, pack".to_owned());
    Compiler::new(path.to_owned()).output(packed.clone()).plan(plan).run().unwrap();
    packed
}

fn runs(model: &Path) {
    let folder = tempfile::tempdir().unwrap();
    let (packed, plain) = (packed(model, folder.path()), folder.path().join("plain.onnx"));
    onnx_dcomp::decompress(&packed, &plain, &()).unwrap();
    run_stock(&packed, &plain);
}

#[test]
fn a_stock_onnxruntime_runs_lenet5() {
    runs(&root().join("fixtures/lenet5.onnx"));
}

#[test]
fn a_stock_onnxruntime_computes_on_compressed_weights() {
    for values in
        ["prune(sparsity=0.92), share(clusters=16)", "prune(sparsity=0.9), share(clusters=64)", "share(clusters=16)"]
    {
        let folder = tempfile::tempdir().unwrap();
        let (fused, plain) = (folder.path().join("fused.onnx"), folder.path().join("plain.onnx"));
        let plan = Plan::Passes(format!("fold, {values}, strip, fuse(when=always), pack"));
        Compiler::new(root().join("fixtures/lenet300.onnx")).output(fused.clone()).plan(plan).run().unwrap();
        onnx_dcomp::decompress(&fused, &plain, &()).unwrap();
        run_stock(&fused, &plain);
    }
}

#[test]
fn a_stock_onnxruntime_convolves_with_compressed_filters() {
    for (model, values) in [
        ("lenet5.onnx", "prune(sparsity=0.9), share(clusters=16)"),
        ("models/windows.onnx", "prune(sparsity=0.8), share(clusters=200)"),
        ("models/grouped_convolutions.onnx", "share(clusters=16)"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let (fused, plain) = (folder.path().join("fused.onnx"), folder.path().join("plain.onnx"));
        let plan = Plan::Passes(format!("fold, {values}, strip, fuse(when=always), pack"));
        Compiler::new(root().join("fixtures").join(model)).output(fused.clone()).plan(plan).run().unwrap();
        let operators: Vec<String> =
            Model::open(&fused).unwrap().graph().node.iter().map(|node| node.op_type().to_owned()).collect();
        assert!(operators.iter().any(|operator| operator == "DcompSparseConv"), "{operators:?}");
        onnx_dcomp::decompress(&fused, &plain, &()).unwrap();
        run_stock(&fused, &plain);
    }
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    const RUN: &str = "
import sys, numpy, onnxruntime
outputs = []
for threads in (1, 2, 5):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.register_custom_ops_library(sys.argv[1])
    session = onnxruntime.InferenceSession(sys.argv[2], options)
    shape = session.get_inputs()[0].shape
    values = numpy.sin(numpy.arange(numpy.prod(shape), dtype=numpy.float32)).reshape(shape)
    outputs.append(session.run(None, {'x': values})[0])
assert all(output.tobytes() == outputs[0].tobytes() for output in outputs)
assert numpy.abs(outputs[0]).max() > 0
";
    // So large that the work is worth several threads.
    let value = |index: usize| if index.is_multiple_of(7) { (index % 15) as f32 * 0.125 - 0.8 } else { 0.0 };
    for model in [convolution(64, 64, 56, value), fully_connected(4096, 4096, value)] {
        let Some(mut python) = python() else { return };
        let folder = tempfile::tempdir().unwrap();
        let (input, fused) = (folder.path().join("net.onnx"), folder.path().join("fused.onnx"));
        std::fs::write(&input, model.encode_to_vec()).unwrap();
        let plan = Plan::Passes("recognise, fuse(when=always), pack".to_owned());
        Compiler::new(input).output(fused.clone()).plan(plan).run().unwrap();
        let done = python.arg("-c").arg(RUN).arg(library()).arg(&fused).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }
}

#[test]
fn a_stock_onnxruntime_runs_models_with_subgraphs() {
    runs(&root().join("fixtures/models/if_branches.onnx"));
}

#[test]
fn a_stock_onnxruntime_runs_resnet20() {
    let shared = std::env::var_os("DCOMP_DATA").map_or_else(|| root().join("../shared"), PathBuf::from);
    let model = shared.join("models/resnet20_cifar10.onnx");
    if !model.is_file() {
        eprintln!("skipped: {} is not there; set DCOMP_DATA", model.display());
        return;
    }
    runs(&model);
}

/// LeNet-5, packed, with its payload changed.
fn with_payload(folder: &Path, change: impl FnOnce(&mut Vec<u8>)) -> PathBuf {
    let packed = packed(&root().join("fixtures/lenet5.onnx"), folder);
    let mut proto = ModelProto::decode(std::fs::read(&packed).unwrap().as_slice()).unwrap();
    let payload = &mut proto.graph.as_mut().unwrap().initializer[0].raw_data;
    let mut bytes = payload.take().unwrap().to_vec();
    change(&mut bytes);
    *payload = Some(bytes.into());
    std::fs::write(&packed, proto.encode_to_vec()).unwrap();
    packed
}

#[test]
fn a_damaged_payload_is_an_error_in_our_words() {
    let folder = tempfile::tempdir().unwrap();
    let damaged = with_payload(folder.path(), |payload| {
        let middle = payload.len() / 2;
        payload[middle] ^= 1;
    });
    let Some(message) = refusal(&damaged) else { return };
    let words = ["onnx-dcomp", "node `a`", "the payload is damaged", "checksum"];
    assert!(words.iter().all(|word| message.contains(word)), "{message}");
}

#[test]
fn a_payload_of_a_newer_version_says_what_to_update() {
    let folder = tempfile::tempdir().unwrap();
    let newer = with_payload(folder.path(), |payload| {
        payload[2] += 1;
        let end = payload.len() - 4;
        let checksum = crc32fast::hash(&payload[..end]);
        payload[end..].copy_from_slice(&checksum.to_le_bytes());
    });
    let Some(message) = refusal(&newer) else { return };
    assert!(message.contains("format version 2") && message.contains("update"), "{message}");
}

/// Runs `session.py` on what is in `folder`; how many models it compared.
fn run_sessions(folder: &Path) -> Option<usize> {
    let script = root().join("runtime/ort/tests/session.py");
    let done = python()?.arg("-B").arg(script).arg(library()).arg(folder).output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}");
    eprint!("{said}");
    Some(String::from_utf8_lossy(&done.stdout).trim().parse().unwrap())
}

/// A model whose output has a shape that depends on the elements of its input.
fn counts_positives() -> ModelProto {
    let value = |name: &str, kind: DataType, lengths: &[dimension::Value]| {
        let dim = lengths.iter().map(|length| Dimension { value: Some(length.clone()), denotation: None }).collect();
        let tensor = Tensor { elem_type: Some(kind as i32), shape: Some(TensorShapeProto { dim }) };
        let kind = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), denotation: None };
        ValueInfoProto { name: Some(name.to_owned()), r#type: Some(kind), ..ValueInfoProto::default() }
    };
    let node = |operator: &str, input: &str, output: &str| NodeProto {
        op_type: Some(operator.to_owned()),
        input: vec![input.to_owned()],
        output: vec![output.to_owned()],
        ..NodeProto::default()
    };
    let open = |name: &str| dimension::Value::DimParam(name.to_owned());
    let graph = GraphProto {
        name: Some("positives".to_owned()),
        input: vec![value("x", DataType::Float, &[open("N"), dimension::Value::DimValue(3)])],
        output: vec![value("y", DataType::Int64, &[dimension::Value::DimValue(2), open("positives")])],
        node: vec![node("Relu", "x", "z"), node("NonZero", "z", "y")],
        ..GraphProto::default()
    };
    ModelProto {
        ir_version: Some(8),
        opset_import: vec![OperatorSetIdProto { domain: None, version: Some(17) }],
        graph: Some(graph),
        ..ModelProto::default()
    }
}

/// The model at `path` as one node, and its plain form, in `folder`; `None` where it cannot be one node.
fn one_node(path: &Path, folder: &Path) -> Option<PathBuf> {
    let name = path.file_stem().unwrap().to_string_lossy();
    let [session, plain] = ["session", "plain"].map(|kind| folder.join(format!("{name}.{kind}.onnx")));
    let mut model = Model::open(path).unwrap();
    let pipeline = Pipeline::parse("share(clusters=32), pack").unwrap();
    pipeline.run(&mut model, &Evidence::default(), &mut ()).unwrap();
    model.enclose().ok()?;
    model.save(&session).unwrap();
    onnx_dcomp::decompress(&session, &plain, &()).unwrap();
    Some(session)
}

#[test]
fn models_that_are_one_node_give_the_bits_of_the_plain_files() {
    let folder = tempfile::tempdir().unwrap();
    let models = std::fs::read_dir(root().join("fixtures/models")).unwrap().map(|entry| entry.unwrap().path());
    let models = models.filter(|path| path.extension().is_some_and(|extension| extension == "onnx"));
    models.for_each(|model| drop(one_node(&model, folder.path())));
    one_node(&root().join("fixtures/lenet5.onnx"), folder.path()).unwrap();
    let counting = folder.path().join("counting.onnx");
    std::fs::write(&counting, counts_positives().encode_to_vec()).unwrap();
    one_node(&counting, folder.path()).unwrap();
    let Some(compared) = run_sessions(folder.path()) else { return };
    assert!(compared >= 25, "{compared}");
}

#[test]
fn resnet20_compressed_to_one_node_gives_the_bits_of_the_plain_file() {
    let shared = std::env::var_os("DCOMP_DATA").map_or_else(|| root().join("../shared"), PathBuf::from);
    let model = shared.join("models/resnet20_cifar10.onnx");
    if !model.is_file() {
        eprintln!("skipped: {} is not there; set DCOMP_DATA", model.display());
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let [session, plain] = ["session", "plain"].map(|kind| folder.path().join(format!("resnet20.{kind}.onnx")));
    Compiler::new(model).output(session.clone()).target(Target::Session).run().unwrap();
    onnx_dcomp::decompress(&session, &plain, &()).unwrap();
    assert!(run_sessions(folder.path()).is_none_or(|compared| compared == 1));
}

#[test]
fn sessions_that_share_their_threads_do_not_wait_for_each_other() {
    const RUN: &str = "
import os, sys, threading, numpy, onnxruntime
if not hasattr(onnxruntime, 'set_global_thread_pool_sizes'):
    sys.exit()
onnxruntime.set_global_thread_pool_sizes(1, 2)
options = onnxruntime.SessionOptions()
options.use_per_session_threads = False
options.execution_mode = onnxruntime.ExecutionMode.ORT_PARALLEL
options.register_custom_ops_library(sys.argv[1])
session = onnxruntime.InferenceSession(sys.argv[2], options)
image = {'input': numpy.zeros((1, 1, 28, 28), numpy.float32)}
runners = [threading.Thread(target=lambda: [session.run(None, image) for _ in range(50)]) for _ in range(4)]
for runner in runners:
    runner.start()
for runner in runners:
    runner.join(20)
os._exit(any(runner.is_alive() for runner in runners))
";
    let folder = tempfile::tempdir().unwrap();
    let session = one_node(&root().join("fixtures/lenet5.onnx"), folder.path()).unwrap();
    let Some(mut python) = python() else { return };
    let done = python.arg("-c").arg(RUN).arg(library()).arg(session).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

/// LeNet-5 as one node, with the message of the model in it changed.
fn with_inner(folder: &Path, change: impl FnOnce(Vec<u8>) -> Vec<u8>) -> PathBuf {
    let session = one_node(&root().join("fixtures/lenet5.onnx"), folder).unwrap();
    let mut proto = ModelProto::decode(std::fs::read(&session).unwrap().as_slice()).unwrap();
    let payload = &mut proto.graph.as_mut().unwrap().initializer[0];
    let message = change(payload.raw_data().to_vec());
    payload.dims = vec![message.len() as i64];
    payload.raw_data = Some(message.into());
    std::fs::write(&session, proto.encode_to_vec()).unwrap();
    session
}

#[test]
fn a_damaged_model_in_a_node_is_an_error_in_our_words() {
    type Change = fn(Vec<u8>) -> Vec<u8>;
    let damaged: Change = |mut message| {
        let middle = message.len() / 2;
        message[middle] ^= 1;
        message
    };
    let truncated: Change = |mut message| {
        message.truncate(message.len() / 2);
        message
    };
    let noise: Change = |message| vec![0xff; message.len()];
    let nested: Change = |_| {
        let folder = tempfile::tempdir().unwrap();
        std::fs::read(one_node(&root().join("fixtures/lenet5.onnx"), folder.path()).unwrap()).unwrap()
    };
    let without_outputs: Change = |message| {
        let mut inner = ModelProto::decode(message.as_slice()).unwrap();
        inner.graph.as_mut().unwrap().output.clear();
        inner.encode_to_vec()
    };
    let cases = [
        (damaged, "the payload is damaged"),
        (truncated, "truncated"),
        (noise, "is not an ONNX model"),
        (nested, "holds a whole model"),
        (without_outputs, "outputs"),
    ];
    let folder = tempfile::tempdir().unwrap();
    for (change, expected) in cases {
        let Some(message) = refusal(&with_inner(folder.path(), change)) else { return };
        let words = ["onnx-dcomp", "node `output`", expected];
        assert!(words.iter().all(|word| message.contains(word)), "{message}");
    }
}
