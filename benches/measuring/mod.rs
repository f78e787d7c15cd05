//! One model on its data, as the benchmarks measure it.
//!
//! Models and data are looked for in `DCOMP_DATA` (default `../shared`). Where `DCOMP_EVIDENCE` names a folder, evidence
//! from samples is kept there, and read again where all that it depends on is the same.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use onnx_dcomp_engine::backend::Recorded;
use onnx_dcomp_engine::evidence::{EvidenceFile, EvidenceKey, EvidenceOptions, Follower, calibrate, gather};
use onnx_dcomp_engine::preprocess::Preprocess;
use onnx_dcomp_engine::{
    DataFolder, Dataset, EngineError, ModelSource, PreprocessOptions, RuntimeKind, RuntimeOptions, Sample,
    ValidateOptions, Validation, available, open, validate,
};
use onnx_dcomp_ir::{Evidence, Follow, Model};
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

/// What passes may ask.
#[derive(Clone, Default)]
pub(crate) struct Knowledge {
    pub(crate) evidence: Evidence,
    /// The network on samples, layer by layer.
    pub(crate) follower: Option<Arc<Follower>>,
}

/// Runs the passes of `pipeline`.
pub(crate) fn run(pipeline: &str, model: &mut Model, known: &Knowledge) -> Result<(), Failure> {
    let follow = known.follower.as_deref().map(|follower| -> &dyn Follow { follower });
    Pipeline::parse(pipeline)?.run_following(model, &known.evidence, follow, &mut ())?;
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
        run("fold, recognise", &mut folded, &Knowledge::default())?;
        let original = open(runtime, ModelSource::path(&path), &RuntimeOptions { threads: 1 })?;
        let resolved = preprocess.resolve(original.inputs(), original.outputs())?;
        let folder = DataFolder::open(&root.join("data").join(data), &resolved)?;
        let training = folder.dataset(training_split.or(split), None)?;
        let data = folder.dataset(split, limit)?;
        Ok(Self { folded, runtime, original: Recorded::new(original), preprocess, resolved, data, training })
    }

    /// Measures on sample `place` alone, and calibrates with the others; where both sides are the same samples.
    #[allow(dead_code, reason = "not every benchmark leaves samples out")]
    pub(crate) fn leaving_out(self, place: usize) -> Self {
        let others = (0..self.training.len()).filter(|&other| other != place).collect();
        let data = Box::new(Part { all: self.data, places: vec![place] });
        let training = Box::new(Part { all: self.training, places: others });
        Self { data, training, ..self }
    }

    /// What `samples` inputs tell of `model`, which is the folded model or made from it.
    pub(crate) fn knowledge(&self, model: &Model, source: Source, samples: usize) -> Result<Knowledge, Failure> {
        let evidence = self.evidence(model, source, samples)?;
        let follower = match source {
            Source::Samples => Some(Arc::new(Follower::new(model, self.training.as_ref())?)),
            Source::Synthetic => None,
        };
        Ok(Knowledge { evidence, follower })
    }

    fn evidence(&self, model: &Model, source: Source, samples: usize) -> Result<Evidence, Failure> {
        let options = EvidenceOptions { preprocess: self.preprocess.clone(), samples, ..EvidenceOptions::default() };
        Ok(match source {
            Source::Samples => match std::env::var_os("DCOMP_EVIDENCE") {
                Some(folder) => self.kept(Path::new(&folder), model, &options)?,
                None => calibrate(model, self.training.as_ref(), &options, &mut |_, _| {})?,
            },
            Source::Synthetic => gather(model, &options, &mut |_, _| {})?,
        })
    }

    /// The evidence of `model` from a file in `folder`, which is made where it is not there.
    fn kept(&self, folder: &Path, model: &Model, options: &EvidenceOptions) -> Result<Evidence, Failure> {
        let key = EvidenceKey::of_samples(model, self.training.as_ref(), options)?;
        let mut hasher = DefaultHasher::new();
        format!("{key:?}").hash(&mut hasher);
        let file = folder.join(format!("{:016x}.evidence", hasher.finish()));
        if let Ok(bytes) = std::fs::read(&file)
            && let Some(found) = EvidenceFile::parse(&bytes)?.find(&key)
        {
            return Ok(found.as_ref().clone());
        }
        let gathered = calibrate(model, self.training.as_ref(), options, &mut |_, _| {})?;
        std::fs::create_dir_all(folder)?;
        EvidenceFile { entries: vec![(key, Arc::new(gathered.clone()))] }.save(&file)?;
        Ok(gathered)
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

/// Some samples of a data set.
struct Part {
    all: Box<dyn Dataset>,
    places: Vec<usize>,
}

impl Dataset for Part {
    fn len(&self) -> usize {
        self.places.len()
    }

    fn images(&self) -> bool {
        self.all.images()
    }

    fn sample(&self, index: usize) -> Result<Sample, EngineError> {
        self.all.sample(self.places[index])
    }
}
