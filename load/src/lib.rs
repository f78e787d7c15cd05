//! Opens packed models.
//!
//! [`unpack()`] turns a packed model into a plain one in memory. [`Loaded`] goes one step further for runtimes: a graph of
//! a few kilobytes, and beside it the decoded weights, which the host hands over as external initializers. The runtime
//! then optimises as if the file had been dense, and no weight is written into a message and read again.
//!
//! ```no_run
//! # #[cfg(feature = "ort")]
//! # fn open() -> Result<(), Box<dyn std::error::Error>> {
//! use onnx_dcomp_load::Loaded;
//!
//! let environment = ort::init().build()?;
//! let loaded = Loaded::open("net.packed.onnx".as_ref())?;
//! let session = onnx_dcomp_load::onnxruntime::session(loaded, ort::session::Session::builder(&environment)?)?;
//! # Ok(())
//! # }
//! ```
//!
//! Plain models are opened too, and other hosts than Rust find the same in `runtime/include/onnx_dcomp.h`. tract needs
//! none of this: the operator of `onnx-dcomp-runtime` gives it constants while it reads the file.
//!
//! | module | what |
//! |---|---|
//! | [`mod@unpack`] | payloads and the nodes that decode them become plain tensors |
//! | [`loaded`] | [`Loaded`]: a graph, and its weights beside it |
//! | [`aligned`] | [`AlignedBytes`]: where every element type may start |
//! | `shapes` | whether the shapes of a model's outputs follow from those of its inputs |
//! | [`onnxruntime`] (feature `ort`) | a session made of both |
//! | [`error`] | [`LoadError`] |

pub mod aligned;
pub mod error;
pub mod loaded;
#[cfg(feature = "ort")]
pub mod onnxruntime;
mod shapes;
pub mod unpack;

pub use aligned::AlignedBytes;
pub use error::LoadError;
pub use loaded::{Loaded, LoadedWeight, is_packed_file};
pub use unpack::{Unpacked, is_packed, most_decoded_bytes, unpack};
