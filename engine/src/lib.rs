//! Sample data, metrics, and running a model.
//!
//! | module | what |
//! |---|---|
//! | [`tensor`] | [`Tensor`], what goes into a model and comes out; [`TensorInfo`], what a model says of its inputs and outputs |
//! | [`declared`] | what the inputs and outputs of a model are, without a runtime |
//! | [`backend`] | [`Session`]: a model ready to run, in tract or in onnxruntime; [`open`] |
//! | [`preprocess`] | [`Preprocess`]: how a sample becomes an input, and what the output means |
//! | [`dataset`] | [`DataFolder`]: finds out what a folder holds, and reads its samples one by one |
//! | [`evidence`] | what running a model on synthetic inputs tells of its weights |
//! | [`metrics`] | fidelity, classification and segmentation, each accumulated sample by sample |
//! | [`mod@examples`] | single samples to look at: their pictures, and what both sides say of them |
//! | [`mod@validate`] | [`validate()`]: an original and its compressed form over a data set; [`runtimes_agree`] |
//!
//! ```no_run
//! use onnx_dcomp_engine::{
//!     DataFolder, ModelSource, PreprocessOptions, RuntimeKind, RuntimeOptions, ValidateOptions, open, validate,
//! };
//! # fn main() -> Result<(), onnx_dcomp_engine::EngineError> {
//! let runtime = RuntimeOptions::default();
//! let mut original = open(RuntimeKind::Tract, ModelSource::path("a.onnx".as_ref()), &runtime)?;
//! let mut compressed = open(RuntimeKind::Tract, ModelSource::path("b.onnx".as_ref()), &runtime)?;
//! let preprocess = PreprocessOptions::beside("a.onnx".as_ref())?
//!     .unwrap_or_default()
//!     .resolve(original.inputs(), original.outputs())?;
//! let data = DataFolder::open("data".as_ref(), &preprocess)?.dataset(None, None)?;
//! let report = validate(
//!     original.as_mut(),
//!     compressed.as_mut(),
//!     data.as_ref(),
//!     &preprocess,
//!     &ValidateOptions::default(),
//!     &mut |_done, _total| {},
//! )?;
//! println!("{} points lost", report.drop().points);
//! # Ok(())
//! # }
//! ```

pub mod backend;
pub mod dataset;
pub mod declared;
pub mod error;
pub mod evidence;
pub mod examples;
pub mod metrics;
mod pairs;
pub mod preprocess;
pub mod tensor;
pub mod validate;

pub use backend::{ModelSource, RuntimeKind, RuntimeOptions, Session, available, open};
pub use dataset::{DataFolder, Dataset, Label, Sample};
pub use error::EngineError;
pub use examples::{Example, Said, examples};
pub use preprocess::{Preprocess, PreprocessOptions, Task};
pub use tensor::{Dimension, ElementType, Tensor, TensorData, TensorInfo};
pub use validate::{RuntimeAgreement, ValidateOptions, Validation, runtimes_agree, validate};
