"""Opens a packed model with the C library, gives graph and weights to onnxruntime, and compares with the plain file.

hand_over.py FOLDER-OF-THE-LIBRARY PACKED PLAIN
"""

import ctypes
import pathlib
import sys

import numpy
import onnxruntime

TYPES = {1: numpy.float32, 2: numpy.uint8, 3: numpy.int8, 10: numpy.float16, 11: numpy.float64}


class Tensor(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char_p),
        ("data_type", ctypes.c_int32),
        ("in_graph", ctypes.c_int32),
        ("rank", ctypes.c_size_t),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("bytes", ctypes.c_size_t),
        ("data", ctypes.c_void_p),
    ]


def session(library, path, options):
    """A session of the packed model at `path`, as fast as if the file had been dense."""
    dcomp = ctypes.CDLL(library)
    dcomp.onnx_dcomp_last_error.restype = ctypes.c_char_p
    dcomp.onnx_dcomp_tensor_count.restype = ctypes.c_size_t
    model = ctypes.c_void_p()
    if dcomp.onnx_dcomp_open(str(path).encode(), ctypes.byref(model)):
        raise ValueError(dcomp.onnx_dcomp_last_error().decode())
    names, values = [], []
    for index in range(dcomp.onnx_dcomp_tensor_count(model)):
        tensor = Tensor()
        dcomp.onnx_dcomp_tensor_at(model, ctypes.c_size_t(index), ctypes.byref(tensor))
        if not tensor.in_graph:
            data = (ctypes.c_uint8 * tensor.bytes).from_address(tensor.data)
            array = numpy.frombuffer(data, TYPES[tensor.data_type]).reshape(tensor.shape[: tensor.rank])
            names.append(tensor.name.decode())
            # onnxruntime keeps looking at the memory, so this must be a copy, or the model stay open.
            values.append(onnxruntime.OrtValue.ortvalue_from_numpy(array.copy()))
    options.add_external_initializers(names, values)
    graph, length = ctypes.c_void_p(), ctypes.c_size_t()
    dcomp.onnx_dcomp_graph(model, ctypes.byref(graph), ctypes.byref(length))
    made = onnxruntime.InferenceSession(ctypes.string_at(graph, length.value), options)
    dcomp.onnx_dcomp_close(model)
    return made, len(names)


if __name__ == "__main__":
    folder, packed, plain = sys.argv[1:]
    library = next(path for path in pathlib.Path(folder).glob("*onnx_dcomp_c.*") if path.suffix in (".so", ".dylib"))
    ours, handed_over = session(str(library), packed, onnxruntime.SessionOptions())
    dense = onnxruntime.InferenceSession(plain)
    assert handed_over > 0
    generator = numpy.random.default_rng(0)
    for _ in range(3):
        inputs = {
            each.name: generator.standard_normal(
                [length if isinstance(length, int) else 1 for length in each.shape]
            ).astype(numpy.float32)
            for each in dense.get_inputs()
        }
        for found, expected in zip(ours.run(None, inputs), dense.run(None, inputs)):
            assert found.tobytes() == expected.tobytes(), abs(found - expected).max()
