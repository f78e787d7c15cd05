//! The model: an ONNX graph, its weights with their forms, and what is known of them
