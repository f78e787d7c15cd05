//! Everything that can go wrong, by whose fault it is; exit codes are given here and nowhere else.

use std::io;
use std::path::PathBuf;

use miette::{LabeledSpan, NamedSource, SourceCode};
use onnx_dcomp_engine::EngineError;
use onnx_dcomp_ir::IrError;
use onnx_dcomp_load::LoadError;
use onnx_dcomp_passes::recipe::RecipeError;
use onnx_dcomp_passes::{PassError, PipelineError};

/// Why the compiler, or one of its commands, could not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The command line, or a call of the builder, asks for something that does not exist or contradicts itself.
    #[error("{0}")]
    Usage(String),
    /// A pipeline that cannot be read.
    #[error("{error}")]
    Pipeline {
        /// The text of the pipeline, to show the place.
        text: Box<NamedSource<String>>,
        /// What is wrong with it.
        error: Box<PipelineError>,
    },
    /// A recipe that cannot be read, or does not fit the model.
    #[error("{}: {error}", file.display())]
    Recipe {
        /// The file.
        file: PathBuf,
        /// Its text, to show the place.
        text: Box<NamedSource<String>>,
        /// What is wrong with it.
        error: Box<RecipeError>,
    },
    /// A model that cannot be read, or does not hold together.
    #[error(transparent)]
    Model(Box<IrError>),
    /// A model that a pass, or the reader, rejects; the file is named.
    #[error("{file}: {source}")]
    InModel {
        /// The file.
        file: String,
        /// What is wrong with it.
        source: Box<IrError>,
    },
    /// A pass that cannot do its work.
    #[error("{file}: {source}")]
    Pass {
        /// The file.
        file: String,
        /// What stood in the way.
        source: Box<PassError>,
    },
    /// A packed model that cannot be opened.
    #[error(transparent)]
    Packed(LoadError),
    /// A portable model whose nodes compute no weights.
    #[error("{file}: {reason}")]
    Portable {
        /// The file.
        file: String,
        /// What is wrong with its nodes.
        reason: String,
    },
    /// Running a model, or reading samples, failed.
    #[error(transparent)]
    Engine(Box<EngineError>),
    /// A file beside the model that the system does not give us.
    #[error("Cannot read {}: {source}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The system does not take a file.
    #[error("Cannot write {}: {source}; nothing was changed", file.display())]
    Write {
        /// The file.
        file: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// No runtime could run the model, so that nothing could be measured.
    #[error("no runtime could run the model: {}", reasons.join("; "))]
    NoRuntime {
        /// What each runtime said.
        reasons: Vec<String>,
    },
    /// A bound that the user set is broken.
    #[error("{metric} falls by {found:.3} points ({runtime}), the bound is {bound} points{consequence}")]
    Budget {
        /// What was measured.
        metric: &'static str,
        /// The runtime that measured it.
        runtime: String,
        /// The loss, in percentage points.
        found: f64,
        /// The most that was allowed, in percentage points.
        bound: f64,
        /// What that means for the output: "; nothing was written".
        consequence: &'static str,
    },
    /// No file keeps the budget that the user set.
    #[error("the budget cannot be kept: {reason}; nothing was written")]
    Unmet {
        /// What stands in the way, and how near the best file comes.
        reason: String,
    },
    /// One model gives different results in two runtimes.
    #[error(
        "{} and {} disagree on the compressed model: relative error {relative_error:.1e}{}",
        runtimes[0],
        runtimes[1],
        agreement_percent.map(|percent| format!(", same class in {percent:.2} %")).unwrap_or_default()
    )]
    RuntimesDisagree {
        /// Names of the runtimes.
        runtimes: [String; 2],
        /// Root of the squared difference over the squared output.
        relative_error: f64,
        /// Samples or pixels of the same class, in percent, where the output is classes.
        agreement_percent: Option<f64>,
    },
    /// The user stopped the program.
    #[error("interrupted; nothing was changed")]
    Interrupted,
}

/// Exit codes of the program.
pub mod exit_code {
    /// Done.
    pub const DONE: u8 = 0;
    /// The input, the system or the compiler is to blame.
    pub const FAILED: u8 = 1;
    /// The command line, a pipeline or a recipe is to blame.
    pub const USAGE: u8 = 2;
    /// A budget was not met, or a validation failed.
    pub const BUDGET: u8 = 3;
    /// The user pressed Ctrl-C: 128 and the number of the signal.
    pub const INTERRUPTED: u8 = 130;
}

impl Error {
    /// The exit code that a program ends with.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) | Self::Pipeline { .. } | Self::Recipe { .. } => exit_code::USAGE,
            Self::Pass { source, .. } if matches!(**source, PassError::Option { .. }) => exit_code::USAGE,
            Self::Budget { .. } | Self::Unmet { .. } | Self::RuntimesDisagree { .. } => exit_code::BUDGET,
            Self::Interrupted => exit_code::INTERRUPTED,
            Self::Model(_)
            | Self::InModel { .. }
            | Self::Pass { .. }
            | Self::Packed(_)
            | Self::Portable { .. }
            | Self::Engine(_)
            | Self::Read { .. }
            | Self::Write { .. }
            | Self::NoRuntime { .. } => exit_code::FAILED,
        }
    }

    /// The error of the pipeline `text`.
    pub(crate) fn pipeline(text: &str, error: PipelineError) -> Self {
        Self::Pipeline { text: Box::new(NamedSource::new("pipeline", text.to_owned())), error: Box::new(error) }
    }

    /// The error of the recipe `text` that was read from `file`.
    pub(crate) fn recipe(file: PathBuf, text: &str, error: RecipeError) -> Self {
        let source = NamedSource::new(file.display().to_string(), text.to_owned()).with_language("toml");
        Self::Recipe { file, text: Box::new(source), error: Box::new(error) }
    }
}

impl From<IrError> for Error {
    fn from(error: IrError) -> Self {
        Self::Model(Box::new(error))
    }
}

impl From<LoadError> for Error {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Model(error) => Self::from(error),
            other => Self::Packed(other),
        }
    }
}

impl From<EngineError> for Error {
    fn from(error: EngineError) -> Self {
        Self::Engine(Box::new(error))
    }
}

impl miette::Diagnostic for Error {
    fn source_code(&self) -> Option<&dyn SourceCode> {
        match self {
            Self::Pipeline { text, .. } | Self::Recipe { text, .. } => Some(text.as_ref()),
            _ => None,
        }
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let span = match self {
            Self::Pipeline { error, .. } => error.span.clone(),
            Self::Recipe { error, .. } => error.span.clone(),
            _ => return None,
        };
        Some(Box::new(std::iter::once(LabeledSpan::new_primary_with_span(Some("here".to_owned()), span))))
    }
}
