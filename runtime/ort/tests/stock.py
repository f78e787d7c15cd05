"""Runs a packed model in a stock onnxruntime with the operator library, and compares it with the plain file.

stock.py LIBRARY PACKED PLAIN
"""

import gc
import sys

import numpy
import onnx
import onnxruntime
from onnx import numpy_helper

library, packed, plain = sys.argv[1:]


def session(model):
    options = onnxruntime.SessionOptions()
    options.register_custom_ops_library(library)
    return onnxruntime.InferenceSession(model, options)


def inputs(of, generator):
    def value(each):
        shape = [length if isinstance(length, int) else 1 for length in each.shape]
        if each.type == "tensor(bool)":
            return generator.integers(0, 2, shape).astype(bool)
        return generator.standard_normal(shape).astype(numpy.float32)

    return {each.name: value(each) for each in of.get_inputs()}


# Outputs: onnxruntime picks other kernels where it does not know that weights are constants, which round differently.
dense = onnxruntime.InferenceSession(plain)
generator = numpy.random.default_rng(0)
for _ in range(2):
    # The second time, onnxruntime has let go of the library.
    ours = session(packed)
    for _ in range(3):
        fed = inputs(dense, generator)
        for found, expected in zip(ours.run(None, fed), dense.run(None, fed), strict=True):
            limit = 1e-5 * (1 + numpy.abs(expected).max())
            assert found.shape == expected.shape and numpy.abs(found - expected).max() <= limit, (found, expected)
    del ours
    gc.collect()

# Weights: bit for bit, as outputs of the graph.
model = onnx.load(packed)
expected = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(plain).graph.initializer}
nodes = [node for node in model.graph.node if node.op_type == "DcompDecode"]
del model.graph.node[:], model.graph.input[:], model.graph.output[:]
for node in nodes:
    model.graph.node.append(node)
    for name in node.output:
        model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
if nodes:
    names = [output.name for output in model.graph.output]
    found = session(model.SerializeToString()).run(None, {})
    for name, weight in zip(names, found, strict=True):
        assert weight.shape == expected[name].shape and weight.tobytes() == expected[name].tobytes(), name
