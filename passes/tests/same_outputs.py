"""Whether two ONNX models give the same outputs: pairs of paths on standard input, one line of verdict for each.

Both models run in onnxruntime without graph optimisations, on the same random inputs, twice, with different lengths
for the axes that are not fixed. Exit code 3 where onnxruntime is not installed.
"""

import sys

try:
    import numpy as np
    import onnx
    import onnxruntime as ort
except ImportError:
    sys.exit(3)

TYPES = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(int8)": np.int8,
    "tensor(uint8)": np.uint8,
    "tensor(bool)": np.bool_,
}
# Relative to the largest output. Half precision rounds each folded weight to 11 bits.
BOUNDS = {np.dtype(np.float16): 2e-2}


def session(path):
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def feeds(inputs, seed):
    rng = np.random.default_rng(seed)
    result = {}
    for value in inputs:
        lengths = [dim if isinstance(dim, int) else (2 + seed if axis == 0 else 64) for axis, dim in enumerate(value.shape)]
        kind = TYPES[value.type]
        if kind == np.bool_:
            result[value.name] = rng.integers(0, 2, lengths).astype(kind)
        elif np.issubdtype(kind, np.integer):
            result[value.name] = rng.integers(0, 3, lengths).astype(kind)
        else:
            result[value.name] = rng.normal(size=lengths).astype(kind)
    return result


def compare(before, after):
    onnx.checker.check_model(after, full_check=True)
    try:
        first = session(before)
        first.run(None, feeds(first.get_inputs(), 1))
    except Exception:
        return "not runnable before"
    second = session(after)
    interface = lambda s: [(v.name, v.type, v.shape) for v in [*s.get_inputs(), *s.get_outputs()]]
    if interface(first) != interface(second):
        return f"DIFFERS: interface {interface(first)} became {interface(second)}"
    worst = 0.0
    for seed in (1, 2):
        data = feeds(first.get_inputs(), seed)
        for name, a, b in zip(
            [o.name for o in first.get_outputs()], first.run(None, data), second.run(None, data)
        ):
            a, b = np.asarray(a), np.asarray(b)
            if a.shape != b.shape or a.dtype != b.dtype:
                return f"DIFFERS: {name} {a.shape} {a.dtype} became {b.shape} {b.dtype}"
            if not np.issubdtype(a.dtype, np.floating):
                if not np.array_equal(a, b):
                    return f"DIFFERS: {name}"
                continue
            if not np.array_equal(np.isfinite(a), np.isfinite(b)):
                return f"DIFFERS: {name} in what is finite"
            a, b = np.nan_to_num(a.astype(np.float64)), np.nan_to_num(b.astype(np.float64))
            error = np.max(np.abs(a - b), initial=0.0) / max(np.max(np.abs(a), initial=0.0), 1e-30)
            if error > BOUNDS.get(first.run(None, data)[0].dtype, 1e-5):
                return f"DIFFERS: {name} by {error:.3g} of its largest value"
            worst = max(worst, error)
    return f"same {worst:.2g}"


for line in sys.stdin:
    before, after = line.rstrip("\n").split("\t")
    try:
        verdict = compare(before, after)
    except Exception as error:
        verdict = "DIFFERS: " + " ".join(str(error).split())[:400]
    print(f"{before}\t{verdict}", flush=True)
