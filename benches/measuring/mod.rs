//! One model on its data, as the benchmarks measure it.
//!
//! Models and data are looked for in `DCOMP_DATA` (default `../shared`).

use std::path::{Path, PathBuf};

use onnx_dcomp_engine::backend::Recorded;
use onnx_dcomp_engine::evidence::{EvidenceOptions, calibrate, gather};
use onnx_dcomp_engine::preprocess::Preprocess;
use onnx_dcomp_engine::{
    DataFolder, Dataset, ModelSource, PreprocessOptions, RuntimeKind, RuntimeOptions, ValidateOptions, Validation,
    available, open, validate,
};
use onnx_dcomp_ir::{Evidence, Model};
use onnx_dcomp_passes::Pipeline;

/// Whatever went wrong.
pub(crate) type Failure = Box<dyn std::error::Error>;

/// Samples that evidence is usually taken from.
pub(crate) const CALIBRATION_SAMPLES: usize = 1000;

/// Where evidence comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// Inputs drawn at random.
    Synthetic,
    /// Samples of the training side, whose labels nobody looks at.
    Samples,
}

/// The folder of models and data.
pub(crate) fn root() -> PathBuf {
    std::env::var_os("DCOMP_DATA")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from)
}

/// onnxruntime, or tract where that is missing.
pub(crate) fn runtime() -> RuntimeKind {
    if available(RuntimeKind::Onnxruntime).is_ok() { RuntimeKind::Onnxruntime } else { RuntimeKind::Tract }
}

/// Runs the passes of `pipeline`.
pub(crate) fn run(pipeline: &str, model: &mut Model, evidence: &Evidence) -> Result<(), Failure> {
    Pipeline::parse(pipeline)?.run(model, evidence, &mut ())?;
    Ok(())
}

/// A model, the data to measure it on, and those to calibrate it with.
pub(crate) struct Setting {
    /// The model after `fold` and `recognise`.
    pub(crate) folded: Model,
    pub(crate) runtime: RuntimeKind,
    original: Recorded,
    preprocess: PreprocessOptions,
    resolved: Preprocess,
    pub(crate) data: Box<dyn Dataset>,
    training: Box<dyn Dataset>,
}

impl Setting {
    /// The model `name` on the data `data`, of which at most `limit` samples of `split` (`None`: the test side) are
    /// measured on, and `training_split` (`None`: `split`) is calibrated with.
    pub(crate) fn open(
        name: &str,
        data: &str,
        split: Option<&str>,
        training_split: Option<&str>,
        limit: Option<usize>,
    ) -> Result<Self, Failure> {
        let (root, runtime) = (root(), runtime());
        let path = root.join("models").join(format!("{name}.onnx"));
        let preprocess = PreprocessOptions::beside(&path)?.unwrap_or_default();
        let mut folded = Model::open(&path)?;
        run("fold, recognise", &mut folded, &Evidence::default())?;
        let original = open(runtime, ModelSource::path(&path), &RuntimeOptions { threads: 1 })?;
        let resolved = preprocess.resolve(original.inputs(), original.outputs())?;
        let folder = DataFolder::open(&root.join("data").join(data), &resolved)?;
        let training = folder.dataset(training_split.or(split), None)?;
        let data = folder.dataset(split, limit)?;
        Ok(Self { folded, runtime, original: Recorded::new(original), preprocess, resolved, data, training })
    }

    /// What `samples` inputs tell of `model`, which is the folded model or made from it.
    pub(crate) fn evidence(&self, model: &Model, source: Source, samples: usize) -> Result<Evidence, Failure> {
        let options = EvidenceOptions { preprocess: self.preprocess.clone(), samples, ..EvidenceOptions::default() };
        Ok(match source {
            Source::Samples => calibrate(model, self.training.as_ref(), &options, &mut |_, _| {})?,
            Source::Synthetic => gather(model, &options, &mut |_, _| {})?,
        })
    }

    /// The original beside `model`, which is not packed.
    pub(crate) fn validate(&mut self, model: &Model) -> Result<Validation, Failure> {
        let bytes = model.to_bytes()?;
        let mut session = open(self.runtime, ModelSource::bytes("compressed", &bytes), &RuntimeOptions { threads: 1 })?;
        let options = ValidateOptions::default();
        let data = self.data.as_ref();
        Ok(validate(&mut self.original, session.as_mut(), data, &self.resolved, &options, &mut |_, _| {})?)
    }
}
