//! What can go wrong between a model, a runtime and a folder of samples.

use std::path::PathBuf;

use onnx_dcomp_load::LoadError;

use crate::tensor::{Dimension, ElementType};

/// Why a model could not be run, or a data set could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// A file could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file of a data set does not hold what its format asks for.
    #[error("{}: {reason}", path.display())]
    BadData {
        /// The file or folder.
        path: PathBuf,
        /// What was wrong, what was expected, what to do.
        reason: String,
    },
    /// A file that says how samples become inputs is wrong, or does not fit the model.
    #[error("{origin}: {reason}")]
    Preprocess {
        /// The file, or "preprocessing options".
        origin: String,
        /// What was wrong, what was expected, what to do.
        reason: String,
    },
    /// A folder can be read in more than one way.
    #[error(
        "{} can be read as {}: point at the folder or file that is meant, one level deeper",
        path.display(), readings.join(" and as ")
    )]
    AmbiguousLayout {
        /// The folder.
        path: PathBuf,
        /// What it could be.
        readings: Vec<String>,
    },
    /// A folder holds nothing that looks like samples.
    #[error(
        "{} holds no samples in a known layout: expected MNIST's IDX files, image folders (one per class, or plain), \
         a CSV of `file,class`, folders `X` and `Xannot`, `leftImg8bit` and `gtFine`, `.npz` or `.npy`, \
         or `test_data_set_N`",
        path.display()
    )]
    UnknownLayout {
        /// The folder.
        path: PathBuf,
    },
    /// The split that was asked for is not there, or none was asked for and several are there.
    #[error("{}: {reason}; the folder has {}", path.display(), list(splits))]
    Split {
        /// The folder.
        path: PathBuf,
        /// What was asked for.
        reason: String,
        /// What is there.
        splits: Vec<String>,
    },
    /// A sample does not fit the model's input.
    #[error(
        "{sample}: shape {} of {element} does not fit the model's input `{input}`, which takes {} of {expected_element}",
        shape_text(shape),
        dimensions_text(expected)
    )]
    SampleShape {
        /// The file, and the place in it where it holds several samples.
        sample: String,
        /// Shape of the sample.
        shape: Vec<usize>,
        /// Element type of the sample.
        element: ElementType,
        /// Name of the model's input.
        input: String,
        /// Shape that the model declares.
        expected: Vec<Dimension>,
        /// Element type that the model declares.
        expected_element: ElementType,
    },
    /// A label is no class of the model.
    #[error("{sample}: label {label} is no class of the model, which has {classes} (0 to {})", classes.saturating_sub(1))]
    LabelRange {
        /// The file.
        sample: String,
        /// The label.
        label: usize,
        /// Number of classes.
        classes: usize,
    },
    /// A runtime is not part of this build, or its library was not found.
    #[error("{runtime} is not available: {reason}")]
    RuntimeUnavailable {
        /// Name of the runtime.
        runtime: &'static str,
        /// What to install or to set.
        reason: String,
    },
    /// The runtime does not know an operator of the model.
    #[error("{runtime} has no operator `{operator}` (node `{node}` of {model}); run this model in another runtime")]
    UnsupportedOperator {
        /// Name of the runtime.
        runtime: &'static str,
        /// The model.
        model: String,
        /// Type of the operator, with its domain where that is not ONNX's own.
        operator: String,
        /// Name of the node, or of its first output where it has none.
        node: String,
    },
    /// The runtime refuses the model.
    #[error("{runtime} cannot open {model}: {reason}")]
    OpenModel {
        /// Name of the runtime.
        runtime: &'static str,
        /// The model.
        model: String,
        /// What the runtime said.
        reason: String,
    },
    /// The runtime failed while it ran the model.
    #[error("{runtime} cannot run {model}: {reason}")]
    RunModel {
        /// Name of the runtime.
        runtime: &'static str,
        /// The model.
        model: String,
        /// What the runtime said.
        reason: String,
    },
    /// A packed model cannot be opened.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// Two models that should be forms of the same one differ in what they take or give.
    #[error("the two models do not match: {0}")]
    ModelsDiffer(String),
    /// An input that nothing synthetic is drawn for.
    #[error("the model's input `{input}` takes {elements} elements at once, and synthetic inputs end at {limit}")]
    InputTooLarge {
        /// Name of the input.
        input: String,
        /// What it takes.
        elements: usize,
        /// The most that is drawn.
        limit: usize,
    },
    /// A tensor whose data and shape do not belong together.
    #[error("a tensor of shape {} needs {} elements, found {found}", shape_text(shape), shape.iter().product::<usize>())]
    TensorLength {
        /// The shape.
        shape: Vec<usize>,
        /// Number of elements given.
        found: usize,
    },
}

impl EngineError {
    pub(crate) fn bad_data(path: impl Into<PathBuf>, reason: impl Into<String>) -> Self {
        Self::BadData { path: path.into(), reason: reason.into() }
    }

    pub(crate) fn read(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Read { path, source }
    }
}

/// A shape as `1x3x32x32`; a scalar as `scalar`.
pub(crate) fn shape_text(shape: &[usize]) -> String {
    if shape.is_empty() {
        return "scalar".to_owned();
    }
    shape.iter().map(usize::to_string).collect::<Vec<_>>().join("x")
}

/// A declared shape as `Nx3x32x32`; a dimension without a name as `?`.
pub(crate) fn dimensions_text(dimensions: &[Dimension]) -> String {
    if dimensions.is_empty() {
        return "scalar".to_owned();
    }
    dimensions.iter().map(Dimension::to_string).collect::<Vec<_>>().join("x")
}

fn list(names: &[String]) -> String {
    match names {
        [] => "no splits".to_owned(),
        names => names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "),
    }
}
