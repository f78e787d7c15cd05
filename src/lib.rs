//! The driver of onnx-dcomp.
