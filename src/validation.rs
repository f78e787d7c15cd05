//! Two models over a data set, in every runtime that there is.

use std::path::{Path, PathBuf};

use onnx_dcomp_engine::backend::Recorded;
use onnx_dcomp_engine::validate::Drop;
use onnx_dcomp_engine::{
    DataFolder, Dataset, EngineError, Example, ModelSource, Preprocess, PreprocessOptions, RuntimeAgreement,
    RuntimeKind, RuntimeOptions, Session, ValidateOptions, Validation, examples, open, runtimes_agree, validate,
};
use onnx_dcomp_ir::Model;
use onnx_dcomp_load::unpack::check_payloads;
use serde::Serialize;

use crate::{Error, Watch};

/// Samples on which the runtimes are compared with each other: rounding differs everywhere or nowhere.
const AGREEMENT_SAMPLES: usize = 100;

/// Compares an original with its compressed form.
#[derive(Debug, Clone)]
pub struct Validator {
    original: PathBuf,
    compressed: PathBuf,
    data: Samples,
    runtimes: Vec<RuntimeKind>,
    compare_runtimes: Comparison,
    only_first: bool,
    max_drop: Option<f64>,
    illustrated: bool,
    threads: usize,
}

/// The samples to validate on, and how they become inputs.
#[derive(Debug, Clone, Default)]
pub struct Samples {
    /// The folder or file.
    pub path: PathBuf,
    /// The split; `None` takes the test side.
    pub split: Option<String>,
    /// The most samples, spread evenly over all; `None` takes all.
    pub limit: Option<usize>,
    /// A file that says how samples become inputs, instead of the one beside the original.
    pub preprocess: Option<PathBuf>,
    /// Single values that are other than in that file.
    pub overrides: PreprocessOptions,
}

/// Whether one model is compared in two runtimes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Comparison {
    /// Where two runtimes run it.
    #[default]
    WherePossible,
    /// Never.
    Never,
}

/// What a validation found.
#[derive(Debug, Clone, Serialize)]
pub struct ValidationReport {
    /// The original.
    pub original: PathBuf,
    /// The compressed form.
    pub compressed: PathBuf,
    /// The samples.
    pub data: PathBuf,
    /// What each runtime found.
    pub runs: Vec<Run>,
    /// Runtimes that could not run the models, and why.
    pub skipped: Vec<Skipped>,
    /// The compressed form in two runtimes.
    pub agreement: Option<RuntimeAgreement>,
    /// The most that may be lost, in percentage points.
    pub max_drop: Option<f64>,
}

/// What one runtime found.
#[derive(Debug, Clone, Serialize)]
pub struct Run {
    /// Name of the runtime.
    pub runtime: String,
    /// What was lost.
    pub drop: Drop,
    /// The numbers.
    #[serde(flatten)]
    pub validation: Validation,
    /// Pictures, where they were asked for.
    #[serde(skip)]
    pub illustration: Option<Illustration>,
}

/// What can be looked at.
#[derive(Debug, Clone, Default)]
pub struct Illustration {
    /// The names of the classes in the order of their numbers; empty where nothing says them.
    pub class_names: Vec<String>,
    /// Some samples.
    pub examples: Vec<Example>,
}

/// A runtime that could not run the models.
#[derive(Debug, Clone, Serialize)]
pub struct Skipped {
    /// Name of the runtime.
    pub runtime: String,
    /// Why.
    pub reason: String,
}

impl ValidationReport {
    /// Holds the bound against what was lost, and the runtimes against each other.
    ///
    /// # Errors
    /// [`Error::Budget`] for the runtime that lost most, or [`Error::RuntimesDisagree`]; `consequence` ends the first
    /// message.
    pub fn check(&self, consequence: &'static str) -> Result<(), Error> {
        if let Some(bound) = self.max_drop {
            // A loss that is no number is no loss within the bound.
            let broken = self.runs.iter().filter(|run| run.drop.points.is_nan() || run.drop.points > bound);
            if let Some(worst) = broken.max_by(|a, b| a.drop.points.total_cmp(&b.drop.points)) {
                return Err(Error::Budget {
                    metric: worst.drop.metric.name(),
                    runtime: worst.runtime.clone(),
                    found: worst.drop.points,
                    bound,
                    consequence,
                });
            }
        }
        match &self.agreement {
            Some(agreement) if !agreement.agrees() => Err(Error::RuntimesDisagree {
                runtimes: agreement.runtimes.clone(),
                relative_error: agreement.fidelity.relative_error,
                agreement_percent: agreement.agreement_percent,
            }),
            _ => Ok(()),
        }
    }
}

impl Validator {
    /// Compares the models in two files on some samples, in every runtime that is available.
    pub fn new(original: impl Into<PathBuf>, compressed: impl Into<PathBuf>, data: Samples) -> Self {
        Self {
            original: original.into(),
            compressed: compressed.into(),
            data,
            runtimes: Vec::new(),
            compare_runtimes: Comparison::default(),
            only_first: false,
            max_drop: None,
            illustrated: false,
            threads: 1,
        }
    }

    /// Only these runtimes, which must then be available. Default: all that are.
    #[must_use]
    pub fn runtimes(mut self, runtimes: impl Into<Vec<RuntimeKind>>) -> Self {
        self.runtimes = runtimes.into();
        self
    }

    /// Whether the compressed form is compared in two runtimes. Default: where possible.
    #[must_use]
    pub fn compare_runtimes(mut self, comparison: Comparison) -> Self {
        self.compare_runtimes = comparison;
        self
    }

    /// The most that may be lost, in percentage points. Default: no bound.
    #[must_use]
    pub fn max_drop(mut self, points: Option<f64>) -> Self {
        self.max_drop = points;
        self
    }

    /// Whether one runtime is enough. Default: all run.
    #[must_use]
    pub(crate) fn first_runtime_only(mut self, only_first: bool) -> Self {
        self.only_first = only_first;
        self
    }

    /// Whether pictures of some samples are kept. Default: none are.
    #[must_use]
    pub(crate) fn illustrated(mut self, illustrated: bool) -> Self {
        self.illustrated = illustrated;
        self
    }

    /// Threads that one operator may use, from 1. Default: 1.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads.max(1);
        self
    }

    /// Runs both models on all samples.
    ///
    /// A bound that is broken is no error here: see [`ValidationReport::check`].
    ///
    /// # Errors
    /// Where a model or a sample cannot be read, a runtime that was asked for is missing, the compressed form fails
    /// where the original runs, or no runtime runs the original ([`Error::NoRuntime`]).
    pub fn run(&self, watch: &dyn Watch) -> Result<ValidationReport, Error> {
        let kinds = if self.runtimes.is_empty() { RuntimeKind::ALL.to_vec() } else { self.runtimes.clone() };
        let mut report = self.empty_report();
        let original = Readable::open(&self.original)?;
        let compressed = Readable::open(&self.compressed)?;
        let mut sessions: Vec<Box<dyn Session>> = Vec::new();
        for kind in kinds {
            if self.only_first && !report.runs.is_empty() {
                break;
            }
            let options = RuntimeOptions { threads: self.threads };
            let opened = original
                .session(kind, &options)
                .and_then(|reference| Ok([reference, compressed.session(kind, &options)?]))
                .map_err(Error::from);
            match opened.and_then(|both| self.compare(both, watch)) {
                Ok((run, session)) => {
                    report.runs.push(run);
                    sessions.push(session);
                }
                Err(Error::Engine(error)) if self.may_skip(&error, &original) => {
                    report.skipped.push(Skipped { runtime: kind.name().to_owned(), reason: error.to_string() });
                }
                Err(error) => return Err(error),
            }
        }
        if report.runs.is_empty() {
            return Err(Error::NoRuntime {
                reasons: report.skipped.into_iter().map(|skipped| skipped.reason).collect(),
            });
        }
        if let ([first, second], Comparison::WherePossible) = (sessions.as_mut_slice(), self.compare_runtimes) {
            let (dataset, preprocess) = self.samples(first.as_ref(), Some(AGREEMENT_SAMPLES))?;
            watch.begin("comparing the runtimes", Some(dataset.len() as u64));
            let options = ValidateOptions::default();
            let progress = &mut |done: usize, _| watch.advance(done as u64);
            let agreement =
                runtimes_agree(first.as_mut(), second.as_mut(), dataset.as_ref(), &preprocess, &options, progress);
            watch.end();
            report.agreement = Some(agreement?);
        }
        Ok(report)
    }

    /// As [`Self::run`], with sessions of both models that ran on the samples before and know what came out.
    pub(crate) fn run_in(&self, sessions: [Recorded; 2], watch: &dyn Watch) -> Result<ValidationReport, Error> {
        let mut report = self.empty_report();
        let [original, compressed] = sessions;
        let (run, _) = self.compare([Box::new(original), Box::new(compressed)], watch)?;
        report.runs.push(run);
        Ok(report)
    }

    fn empty_report(&self) -> ValidationReport {
        ValidationReport {
            original: self.original.clone(),
            compressed: self.compressed.clone(),
            data: self.data.path.clone(),
            runs: Vec::new(),
            skipped: Vec::new(),
            agreement: None,
            max_drop: self.max_drop,
        }
    }

    /// Whether the other runtimes carry on after `error`: where a runtime is not there and nobody asked for it, or where
    /// it cannot run the original either.
    fn may_skip(&self, error: &EngineError, original: &Readable) -> bool {
        match error {
            EngineError::RuntimeUnavailable { .. } => self.runtimes.is_empty(),
            EngineError::UnsupportedOperator { model, .. }
            | EngineError::OpenModel { model, .. }
            | EngineError::RunModel { model, .. } => *model == original.name,
            _ => false,
        }
    }

    /// Runs the original and the compressed form; with the session of the latter.
    fn compare(
        &self,
        [mut reference, mut session]: [Box<dyn Session>; 2],
        watch: &dyn Watch,
    ) -> Result<(Run, Box<dyn Session>), Error> {
        let kind = reference.runtime();
        let (dataset, preprocess) = self.samples(reference.as_ref(), self.data.limit)?;
        watch.begin(&format!("validating in {kind}"), Some(dataset.len() as u64));
        let validation = validate(
            reference.as_mut(),
            session.as_mut(),
            dataset.as_ref(),
            &preprocess,
            &ValidateOptions::default(),
            &mut |done, _| watch.advance(done as u64),
        );
        watch.end();
        let validation = validation.map_err(|error| match error {
            EngineError::ModelsDiffer(how) => {
                let [original, compressed] = [&self.original, &self.compressed].map(|path| path.display());
                EngineError::ModelsDiffer(format!("{original} and {compressed}: {how}"))
            }
            error => error,
        })?;
        let illustration = match self.illustrated {
            true => Some(Illustration {
                class_names: DataFolder::open(&self.data.path, &preprocess)?.class_names()?,
                examples: examples(reference.as_mut(), session.as_mut(), dataset.as_ref(), &preprocess, &validation)?,
            }),
            false => None,
        };
        let drop = validation.drop();
        Ok((Run { runtime: kind.name().to_owned(), drop, validation, illustration }, session))
    }

    fn samples(&self, session: &dyn Session, limit: Option<usize>) -> Result<(Box<dyn Dataset>, Preprocess), Error> {
        let limit = [limit, self.data.limit].into_iter().flatten().min();
        let given = match &self.data.preprocess {
            Some(file) => PreprocessOptions::read(file)?,
            None => PreprocessOptions::beside(&self.original)?.unwrap_or_default(),
        };
        let preprocess =
            given.overridden_by(self.data.overrides.clone()).resolve(session.inputs(), session.outputs())?;
        let folder = DataFolder::open(&self.data.path, &preprocess)?;
        let dataset = folder.dataset(self.data.split.as_deref(), limit)?;
        Ok((dataset, preprocess))
    }
}

/// A model that was found to be readable, packed or not.
pub(crate) struct Readable {
    path: PathBuf,
    name: String,
}

impl Readable {
    /// Reads the model at `path`, and checks its payloads where it is packed.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        check_payloads(&Model::open(path)?)?;
        Ok(Self { path: path.to_owned(), name: path.display().to_string() })
    }

    /// The model, ready to run in `kind`.
    pub(crate) fn session(&self, kind: RuntimeKind, options: &RuntimeOptions) -> Result<Box<dyn Session>, EngineError> {
        open(kind, ModelSource::path(&self.path), options)
    }
}
