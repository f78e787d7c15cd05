//! What others say of our files: the checker of the onnx package, and the reference decoder in Python.

mod support;

use support::{compress, fixture, folder, program, python, root, run_python, shared_model};

#[test]
fn the_onnx_checker_accepts_every_packed_fixture() {
    let Some(python) = python("onnx") else { return };
    let folder = folder();
    let models = std::fs::read_dir(fixture("models")).unwrap().map(|entry| entry.unwrap().path());
    let models = models.filter(|path| path.extension().is_some_and(|extension| extension == "onnx"));
    for model in models.chain([fixture("lenet5.onnx"), fixture("lenet300.onnx")]) {
        compress(&model, &folder.path().join(model.file_name().unwrap()), &[]);
    }
    // Foreign operators have no schema to check against: only the checks of the structure apply to them.
    let script = "
import glob, sys, onnx
for path in sorted(glob.glob(sys.argv[1] + '/*.onnx')):
    try:
        onnx.checker.check_model(path)
    except Exception as error:
        raise SystemExit(f'{path}: {error}')
";
    run_python(python, script, &[folder.path()]);
}

#[test]
fn the_reference_decoder_agrees_on_every_golden_payload() {
    let Some(python) = python("numpy") else { return };
    let script = "
import glob, os, sys, numpy
sys.path.insert(0, os.path.dirname(sys.argv[1]))
import decode
paths = sorted(glob.glob(os.path.join(sys.argv[2], '*.dcomp')))
assert len(paths) >= 27, paths
for path in paths:
    with open(path, 'rb') as payload, open(path.rsplit('.', 2)[0] + '.values', 'rb') as values:
        found = [numpy.ascontiguousarray(weight).tobytes() for weight in decode.decode(payload.read())]
        assert b''.join(found) == values.read(), path
";
    run_python(python, script, &[&root().join("codec/reference/decode.py"), &root().join("codec/tests/golden")]);
}

#[test]
fn the_reference_decoder_agrees_with_decompress_on_a_whole_model() {
    let decoder = root().join("codec/reference/decode.py");
    let (Some(python), Some(model)) = (python("numpy, onnx"), shared_model("resnet20_cifar10.onnx")) else { return };
    let folder = folder();
    let (packed, plain) = (folder.path().join("packed.onnx"), folder.path().join("plain.onnx"));
    compress(&model, &packed, &[]);
    program().arg("decompress").arg(&packed).arg("-o").arg(&plain).assert().success();
    let script = "
import os, sys, numpy, onnx
from onnx import numpy_helper
sys.path.insert(0, os.path.dirname(sys.argv[1]))
import decode
packed, plain = onnx.load(sys.argv[2]), onnx.load(sys.argv[3])
payloads = {t.name: numpy_helper.to_array(t).tobytes() for t in packed.graph.initializer}
expected = {t.name: numpy_helper.to_array(t) for t in plain.graph.initializer}
compared = 0
for node in packed.graph.node:
    if node.domain != 'ai.dcomp':
        continue
    for name, found in zip(node.output, decode.decode(payloads[node.input[0]])):
        assert expected[name].shape == found.shape, name
        assert expected[name].tobytes() == numpy.ascontiguousarray(found).tobytes(), name
        compared += 1
assert compared > 0
";
    run_python(python, script, &[&decoder, &packed, &plain]);
}
