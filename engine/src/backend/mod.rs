//! A model ready to run, in one of the runtimes that people already have.
//!
//! A [`Session`] is made by [`open`] from a file or from bytes. Sessions are deterministic: the same input gives the
//! same output bits, whatever ran before.

#[cfg(feature = "tract")]
mod guard;
#[cfg(feature = "ort")]
mod onnxruntime;
mod recorded;
#[cfg(feature = "tract")]
mod tract;

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use crate::error::EngineError;
use crate::tensor::{Tensor, TensorInfo};

pub use recorded::Recorded;

/// A model that is ready to run.
pub trait Session: Send {
    /// The runtime that runs it.
    fn runtime(&self) -> RuntimeKind;

    /// What the model takes, in the graph's order.
    fn inputs(&self) -> &[TensorInfo];

    /// What the model gives, in the graph's order.
    fn outputs(&self) -> &[TensorInfo];

    /// Runs the model once; one tensor for each of [`Session::inputs`] in, one for each of [`Session::outputs`] out.
    ///
    /// # Errors
    /// [`EngineError::SampleShape`] where an input does not fit, [`EngineError::RunModel`] where the runtime fails.
    fn run(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, EngineError>;
}

/// The runtimes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RuntimeKind {
    /// tract, linked into this program; knows our operators.
    Tract,
    /// onnxruntime, through its shared library; gets decoded weights as external initializers.
    Onnxruntime,
}

impl RuntimeKind {
    /// Every runtime.
    pub const ALL: [Self; 2] = [Self::Tract, Self::Onnxruntime];

    /// Name of the runtime.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tract => "tract",
            Self::Onnxruntime => "onnxruntime",
        }
    }
}

impl fmt::Display for RuntimeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for RuntimeKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "tract" => Ok(Self::Tract),
            "ort" | "onnxruntime" => Ok(Self::Onnxruntime),
            other => Err(format!("unknown runtime `{other}`: expected `tract` or `ort`")),
        }
    }
}

/// Where a model comes from.
#[derive(Debug, Clone, Copy)]
pub enum ModelSource<'a> {
    /// A file.
    Path(&'a Path),
    /// A model in memory.
    Bytes {
        /// What messages call it.
        name: &'a str,
        /// The model.
        bytes: &'a [u8],
        /// The folder that external data is read from; without it a model with external data is refused.
        folder: Option<&'a Path>,
    },
}

impl<'a> ModelSource<'a> {
    /// The model in the file at `path`.
    pub fn path(path: &'a Path) -> Self {
        Self::Path(path)
    }

    /// A model in memory that has no external data.
    pub fn bytes(name: &'a str, bytes: &'a [u8]) -> Self {
        Self::Bytes { name, bytes, folder: None }
    }

    /// What messages call the model.
    pub fn name(&self) -> String {
        match self {
            Self::Path(path) => path.display().to_string(),
            Self::Bytes { name, .. } => (*name).to_owned(),
        }
    }
}

/// How a runtime runs a model.
#[derive(Debug, Clone)]
pub struct RuntimeOptions {
    /// Threads that one operator may use, from 1. Default: 1. tract always uses one.
    pub threads: usize,
}

impl Default for RuntimeOptions {
    fn default() -> Self {
        Self { threads: 1 }
    }
}

/// Makes a model, packed or plain, ready to run.
///
/// # Errors
/// [`EngineError::RuntimeUnavailable`], [`EngineError::UnsupportedOperator`], or [`EngineError::OpenModel`].
pub fn open(
    kind: RuntimeKind,
    model: ModelSource<'_>,
    options: &RuntimeOptions,
) -> Result<Box<dyn Session>, EngineError> {
    match kind {
        #[cfg(feature = "tract")]
        RuntimeKind::Tract => tract::open(model).map(|session| Box::new(session) as Box<dyn Session>),
        #[cfg(feature = "ort")]
        RuntimeKind::Onnxruntime => {
            let operators = onnxruntime::Operators::Loaded;
            onnxruntime::open(model, &operators, options).map(|session| Box::new(session) as Box<dyn Session>)
        }
        #[cfg(not(all(feature = "tract", feature = "ort")))]
        _ => {
            let _ = (model, options);
            Err(not_built(kind))
        }
    }
}

/// Makes a model ready to run in onnxruntime, which leaves the nodes that decode payloads to the operator library in the
/// file `library` (the crate `onnx-dcomp-ort`), as a host without our code does. [`open`] gives a faster session.
///
/// # Errors
/// As [`open`].
#[cfg(feature = "ort")]
pub fn open_with_library(
    library: &Path,
    model: ModelSource<'_>,
    options: &RuntimeOptions,
) -> Result<Box<dyn Session>, EngineError> {
    let operators = onnxruntime::Operators::Library(library);
    onnxruntime::open(model, &operators, options).map(|session| Box::new(session) as Box<dyn Session>)
}

/// Whether `kind` can be used here.
///
/// # Errors
/// [`EngineError::RuntimeUnavailable`] with what to install or to set.
pub fn available(kind: RuntimeKind) -> Result<(), EngineError> {
    match kind {
        #[cfg(feature = "tract")]
        RuntimeKind::Tract => Ok(()),
        #[cfg(feature = "ort")]
        RuntimeKind::Onnxruntime => onnxruntime::available(),
        #[cfg(not(all(feature = "tract", feature = "ort")))]
        _ => Err(not_built(kind)),
    }
}

#[cfg(not(all(feature = "tract", feature = "ort")))]
fn not_built(kind: RuntimeKind) -> EngineError {
    let feature = match kind {
        RuntimeKind::Tract => "tract",
        RuntimeKind::Onnxruntime => "ort",
    };
    EngineError::RuntimeUnavailable {
        runtime: kind.name(),
        reason: format!("this program was built without it; build with `--features {feature}`"),
    }
}

/// The error of the first input that does not fit; `Ok` where all do.
#[cfg(any(feature = "tract", feature = "ort"))]
fn check_inputs(infos: &[TensorInfo], inputs: &[Tensor], model: &str, runtime: RuntimeKind) -> Result<(), EngineError> {
    if infos.len() != inputs.len() {
        let reason = format!("the model takes {} inputs, {} were given", infos.len(), inputs.len());
        return Err(EngineError::RunModel { runtime: runtime.name(), model: model.to_owned(), reason });
    }
    match infos.iter().zip(inputs).find(|(info, input)| !info.accepts(input.shape(), input.element())) {
        Some((info, input)) => Err(info.mismatch("the given tensor", input.shape(), input.element())),
        None => Ok(()),
    }
}
