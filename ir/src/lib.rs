//! The model: an ONNX graph, its weights with their forms, and what is known of them.
//!
//! A [`Model`] keeps the whole protobuf message, so that whatever the compiler does not understand leaves as it came.
//! Beside it stands the weight table: on reading, the data of every tensor constant worth compressing is taken out of
//! the message, wherever it lives, and becomes a [`Weight`]; the tensor keeps its name, type and shape, and a
//! [`marker`] that leads to its weight. Passes may move, rename, clone and drop nodes and tensors freely. On writing,
//! the markers become data again. Nothing here knows how weights are compressed.
//!
//! | module | what |
//! |---|---|
//! | [`model`] | [`Model`]: the message and its weights; [`Source`]: the file they came from |
//! | [`weight`] | [`Weight`], its [`Scope`], [`WeightId`] |
//! | [`marker`] | how a tensor in the message leads to its weight |
//! | [`role`] | [`Role`]: what the operators do with a weight, found from those that read it |
//! | [`constant`] | [`Constant`]: any constant of a graph by name, weight or not |
//! | [`graph`] | [`GraphIndex`]: who defines and who reads a name; subgraphs; initializers and their inputs |
//! | [`enclosed`] | a model as a whole inside one node of another |
//! | `read` | from file to model: tensor storage, external data, sparse tensors |
//! | [`mapped`] | files as shared buffers, without a copy |
//! | `verify` | [`Model::verify`]: whether a model is sound |
//! | `encode` | the message around the data of its tensors |
//! | [`mod@write`] | [`Model::save`]: plain ONNX, streamed, with external data where it must be |
//! | [`evidence`] | [`Evidence`]: what the passes may know of the data |
//! | [`error`] | [`IrError`] |
//!
//! ```no_run
//! use onnx_dcomp_ir::{IrError, Model};
//! use std::path::Path;
//!
//! fn list(path: &Path) -> Result<(), IrError> {
//!     let model = Model::open(path)?;
//!     model.verify()?;
//!     for (_, weight) in model.weights() {
//!         println!("{}: {} elements, {}", weight.name, weight.len(), weight.role);
//!     }
//!     model.save(&path.with_extension("copy.onnx"))?;
//!     Ok(())
//! }
//! ```

pub mod constant;
pub mod enclosed;
mod encode;
pub mod error;
pub mod evidence;
pub mod graph;
pub mod mapped;
pub mod marker;
pub mod model;
mod read;
pub mod role;
mod tensors;
mod verify;
pub mod weight;
pub mod write;

pub use constant::{Constant, ConstantData};
pub use error::{IrError, TensorProblem};
pub use evidence::{Drift, Evidence, Follow, MomentBlock, SecondMoment, Walk};
pub use graph::GraphIndex;
pub use model::{Model, Source};
pub use role::Role;
pub use weight::{Scope, Weight, WeightId};
pub use write::{SaveOptions, SavedFiles};
