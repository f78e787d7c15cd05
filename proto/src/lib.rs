//! The ONNX protobuf messages, generated from proto/onnx.proto
