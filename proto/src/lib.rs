//! The ONNX protobuf messages, generated from `proto/onnx.proto`.
//!
//! The messages stand at the root of the crate: [`ModelProto`], [`GraphProto`], [`NodeProto`], [`TensorProto`], …
//! Decoding from [`bytes::Bytes`] copies no tensor payload: every field of protobuf type `bytes`, `raw_data` above all,
//! is a slice of the buffer that was decoded. [`write_model()`] is the way back that makes no copy either.
//!
//! Decoding drops fields that `onnx.proto` does not know (those of a later release of ONNX); [`unknown_fields()`] lists
//! them, so that whoever writes the model again can say what is lost. Unknown numbers in fields of enum type are kept.

/// The generated messages, under the name of their protobuf package.
pub mod onnx {
    include!(concat!(env!("OUT_DIR"), "/onnx.rs"));
}
#[cfg(test)]
mod random_model;
mod unknown;
mod write;

pub use bytes;
pub use onnx::*;
pub use prost;
pub use prost::Message;
pub use unknown::{UnknownField, unknown_fields};
pub use write::write_model;

/// The ONNX release whose format `onnx.proto` describes.
pub const ONNX_RELEASE: &str = "1.23.2";

/// The newest version of the intermediate representation that `onnx.proto` describes.
pub const IR_VERSION: i64 = Version::IrVersion as i64;

/// The newest version of the default operator set in [`ONNX_RELEASE`].
pub const OPSET_VERSION: i64 = 28;
