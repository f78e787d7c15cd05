"""What graph optimisers make of compressed files: sizes before and after, and whether the result still loads.

    pip install onnxslim onnxsim
    python benches/slimmers.py small.onnx portable.onnx ...
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import onnx

TOOLS = {
    "onnxslim": lambda source, target: [sys.executable, "-m", "onnxslim", source, target],
    "onnxsim": lambda source, target: [sys.executable, "-m", "onnxsim", source, target],
}


def decodes(path):
    """Nodes that compute weights: ours, MatMulNBits, and standard ones that read constants alone."""
    graph = onnx.load(path).graph
    constant = {tensor.name for tensor in graph.initializer}
    standard = 0
    for node in graph.node:
        if node.op_type == "Constant" or (node.input and all(name in constant for name in node.input)):
            standard += node.op_type != "Constant" and node.domain in ("", "ai.onnx")
            if node.domain in ("", "ai.onnx"):
                constant.update(node.output)
    named = [node.op_type for node in graph.node if node.domain not in ("", "ai.onnx")]
    return ", ".join([f"{standard} standard"] + [f"{named.count(name)} {name}" for name in sorted(set(named))])


def main():
    print("| file | bytes | nodes that compute weights | tool | bytes after | such nodes after |")
    print("|---|---:|---|---|---:|---|")
    for source in sys.argv[1:]:
        before = f"| `{Path(source).name}` | {Path(source).stat().st_size:,} | {decodes(source)} "
        for tool, command in TOOLS.items():
            with tempfile.TemporaryDirectory() as folder:
                target = str(Path(folder) / "out.onnx")
                done = subprocess.run(command(source, target), capture_output=True, text=True)
                if done.returncode or not Path(target).is_file():
                    reason = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["no output"]
                    print(f"{before}| {tool} | – | failed: {reason[0][:80]} |")
                else:
                    print(f"{before}| {tool} | {Path(target).stat().st_size:,} | {decodes(target)} |")


if __name__ == "__main__":
    main()
