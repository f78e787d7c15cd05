//! The custom operators for tract and onnxruntime, and the kernels that compute on compressed weights
