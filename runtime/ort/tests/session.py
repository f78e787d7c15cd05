"""Runs models that are one node in a stock onnxruntime with the operator library, and compares them bit for bit with the
plain files under the same options.

session.py LIBRARY FOLDER    of NAME.session.onnx and NAME.plain.onnx; prints how many could be compared
"""

import gc
import pathlib
import sys
import threading

import numpy
import onnxruntime

library, folder = sys.argv[1], pathlib.Path(sys.argv[2])
FLOATS = {"tensor(float)": numpy.float32, "tensor(double)": numpy.float64, "tensor(float16)": numpy.float16}


def session(model, threads, way, registers):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    if way == "parallel":
        options.execution_mode = onnxruntime.ExecutionMode.ORT_PARALLEL
    if way == "as it is":
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    if registers:
        options.register_custom_ops_library(library)
    return onnxruntime.InferenceSession(model, options)


def inputs(of, batch, generator):
    def value(each):
        shape = [length if isinstance(length, int) else batch for length in each.shape]
        if each.type in FLOATS:
            return generator.standard_normal(shape).astype(FLOATS[each.type])
        kind = {"tensor(bool)": "bool"}.get(each.type, each.type[7:-1])
        return generator.integers(0, 2, shape).astype(kind)

    return {each.name: value(each) for each in of.get_inputs()}


def assert_same(found, expected, name):
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.shape == theirs.shape and ours.dtype == theirs.dtype, (name, ours.shape, theirs.shape)
        assert ours.tobytes() == theirs.tobytes(), name


def interface(of):
    values = [*of.get_inputs(), *of.get_outputs(), *of.get_overridable_initializers()]
    return [(value.name, value.type, value.shape) for value in values]


compared = 0
for packed in sorted(folder.glob("*.session.onnx")):
    plain = str(packed).replace(".session.", ".plain.")
    # Threads that wait for work take processors from each other: the small models need not show it all.
    ways = [(1, ""), (0, ""), (2, "parallel"), (1, "as it is")] if "net" in packed.name else [(1, "")]
    for threads, way in ways:
        try:
            dense = session(plain, threads, way, False)
            generator = numpy.random.default_rng(0)
            # A shape twice, so that its outputs are copied once, and written in place then; and others between.
            fed = [inputs(dense, batch, generator) for batch in (1, 1, 3, 1, 3, 3, 2)]
            expected = [dense.run(None, each) for each in fed]
        except Exception as error:
            print(f"skipped: {packed.name}: {error}", file=sys.stderr)
            break
        ours, other = (session(str(packed), threads, way, True) for _ in range(2))
        assert interface(ours) == interface(dense), (interface(ours), interface(dense))
        for each, outputs in zip(fed, expected):
            assert_same(ours.run(None, each), outputs, packed.name)
        failures = []

        def run(of):
            try:
                for each, outputs in zip(fed * 3, expected * 3):
                    assert_same(of.run(None, each), outputs, packed.name)
            except BaseException as failure:
                failures.append(failure)

        runners = [threading.Thread(target=run, args=(of,)) for of in (ours, ours, other, other)]
        for runner in runners:
            runner.start()
        for runner in runners:
            runner.join()
        assert not failures, failures
        del ours
        gc.collect()
        assert_same(other.run(None, fed[0]), expected[0], packed.name)
        del other
        gc.collect()
    else:
        compared += 1
print(compared)
