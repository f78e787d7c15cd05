//! The command line of onnx-dcomp.
fn main() {}
