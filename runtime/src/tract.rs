//! `DcompDecode` for tract.

/// Teaches `onnx` to read packed models.
pub fn register(_onnx: &mut tract_onnx::Onnx) {}
