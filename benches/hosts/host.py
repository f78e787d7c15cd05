"""Runs a model in onnxruntime's Python package, one thread, and prints milliseconds for a run and resident kilobytes.

host.py HOST LIBRARY MODEL INPUT SECONDS

HOST is `stock` (nothing of ours), `library` (LIBRARY is the operator library) or `c` (LIBRARY is the C library, and hands the
weights over). INPUT is a .npy file.
"""

import pathlib
import statistics
import sys
import time

import numpy
import onnxruntime

host, library, model, inputs, seconds = sys.argv[1:]
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
options.log_severity_level = 4
if host == "library":
    options.register_custom_ops_library(library)
if host == "c":
    sys.path.append(str(pathlib.Path(__file__).parents[2] / "runtime/c/tests"))
    import hand_over

    session, _ = hand_over.session(library, model, options)
else:
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
fed = {session.get_inputs()[0].name: numpy.load(inputs)}
session.run(None, fed)
begin, taken = time.perf_counter(), []
while time.perf_counter() - begin < float(seconds) or len(taken) < 5:
    started = time.perf_counter()
    session.run(None, fed)
    taken.append(time.perf_counter() - started)
status = pathlib.Path("/proc/self/status").read_text().splitlines()
resident = next((line.split()[1] for line in status if line.startswith("VmRSS")), "0")
print(statistics.median(taken) * 1e3, resident)
