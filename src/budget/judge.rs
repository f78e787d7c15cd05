//! The original beside a candidate, on either half of the samples.

use std::path::Path;

use onnx_dcomp_engine::backend::Recorded;
use onnx_dcomp_engine::dataset::half::{Half, halves};
use onnx_dcomp_engine::metrics::segmentation::FEWEST_FRAMES;
use onnx_dcomp_engine::validate::DropMetric;
use onnx_dcomp_engine::{
    DataFolder, Dataset, Label, ModelSource, Preprocess, PreprocessOptions, RuntimeKind, RuntimeOptions, Session, Task,
    ValidateOptions, Validation, open, validate,
};
use onnx_dcomp_ir::Model;

use super::{Floor, FloorMeasure, Goal, Side};
use crate::fidelity;
use crate::validation::Samples;
use crate::{Error, Watch};

/// Runs the original and candidates.
pub(crate) struct Judge {
    runtime: RuntimeKind,
    original: Recorded,
    halves: [Half; 2],
    preprocess: Preprocess,
    metric: DropMetric,
}

/// Fewer labelled samples than classes are too few, unless there are so many.
const ENOUGH_SAMPLES: usize = 100;

impl Judge {
    /// Opens the model at `path` in the first of `runtimes` that runs it, and the samples, and checks that they can tell
    /// what `goal` asks.
    ///
    /// # Errors
    /// [`Error::Usage`] where they cannot, with what to do; and where a model or sample cannot be read.
    pub(crate) fn open(
        path: &Path,
        samples: &Samples,
        preprocess: &PreprocessOptions,
        runtimes: &[RuntimeKind],
        goal: &Goal,
        seed: u64,
    ) -> Result<Self, Error> {
        let kinds = if runtimes.is_empty() { RuntimeKind::ALL.to_vec() } else { runtimes.to_vec() };
        let mut reasons = Vec::new();
        for kind in kinds {
            let first = match open(kind, ModelSource::path(path), &RuntimeOptions::default()) {
                Ok(first) => first,
                Err(error) => {
                    reasons.push(error.to_string());
                    continue;
                }
            };
            let preprocess = preprocess.resolve(first.inputs(), first.outputs())?;
            let folder = DataFolder::open(&samples.path, &preprocess)?;
            let test = folder.dataset(samples.split.as_deref(), samples.limit)?;
            let name = samples.path.display().to_string();
            let metric = check(&name, test.as_ref(), &preprocess, first.as_ref(), goal)?;
            let original = Recorded::new(first);
            return Ok(Self { runtime: kind, original, halves: halves(test, seed), preprocess, metric });
        }
        Err(Error::NoRuntime { reasons })
    }

    /// What a loss is counted in.
    pub(crate) fn metric(&self) -> DropMetric {
        self.metric
    }

    /// How many samples a side has.
    pub(crate) fn samples(&self, side: Side) -> usize {
        self.halves[side as usize].len()
    }

    /// `candidate`, ready to be measured. What it gave is remembered, so that no sample runs twice.
    ///
    /// # Errors
    /// Where the runtime does not take it.
    pub(crate) fn session(&self, candidate: &Model) -> Result<Recorded, Error> {
        fidelity::session(self.runtime, candidate).map(Recorded::new)
    }

    /// Measures a candidate on `samples` samples of one side, spread evenly over all.
    ///
    /// # Errors
    /// Where the candidate does not run, or a sample cannot be read.
    pub(crate) fn measure(
        &mut self,
        candidate: &mut Recorded,
        side: Side,
        samples: usize,
        watch: &dyn Watch,
    ) -> Result<Validation, Error> {
        let validation = validate(
            &mut self.original,
            candidate,
            &self.halves[side as usize].spread(samples),
            &self.preprocess,
            &ValidateOptions::default(),
            &mut |done, _| watch.advance(done as u64),
        );
        Ok(validation?)
    }

    /// The original, with what it gave for the samples.
    pub(crate) fn into_original(self) -> Recorded {
        self.original
    }
}

/// Whether the samples can tell what is asked; the metric.
fn check(
    name: &str,
    data: &dyn Dataset,
    preprocess: &Preprocess,
    session: &dyn Session,
    goal: &Goal,
) -> Result<DropMetric, Error> {
    let wrong = |reason: String| Err(Error::Usage(format!("{name}: {reason}")));
    let first = data.sample(0)?;
    first.check(session.inputs())?;
    let is_labelled = matches!(first.label, Label::Class(_) | Label::Pixels(_));
    let fitting: &[DropMetric] = match preprocess.task {
        Task::Classification => &[DropMetric::Top1, DropMetric::Top5, DropMetric::Agreement, DropMetric::RelativeError],
        Task::Segmentation => &[DropMetric::MeanIou, DropMetric::PixelAgreement, DropMetric::RelativeError],
        Task::Other => &[DropMetric::RelativeError],
    };
    let natural = fitting.iter().copied().find(|metric| is_labelled || !metric.needs_labels());
    let metric = goal.metric.or(natural).unwrap_or(DropMetric::RelativeError);
    if !fitting.contains(&metric) {
        let names: Vec<&str> = fitting.iter().map(|metric| metric.key()).collect();
        return wrong(format!(
            "the model's output has no {}: its task is {}, which can be measured by {}; choose one with `--metric`, or \
             say what the output means with `--task`",
            metric.name(),
            preprocess.task,
            names.join(", ")
        ));
    }
    if metric.needs_labels() && !is_labelled {
        return wrong(format!(
            "{} needs labels, and the samples have none; measure the agreement with the original: `--metric {}`",
            metric.name(),
            fitting.iter().find(|metric| !metric.needs_labels()).map_or("agreement", |metric| metric.key())
        ));
    }
    if data.len() < 2 {
        return wrong("a search needs two samples at least: one to search on, one to confirm on".to_owned());
    }
    if let (Label::Class(_), Some(classes)) = (&first.label, preprocess.classes)
        && metric.needs_labels()
        && data.len() < classes.min(ENOUGH_SAMPLES)
    {
        return wrong(format!(
            "{} samples say nothing of {classes} classes; give more, or measure the agreement with the original: \
             `--metric agreement`",
            data.len()
        ));
    }
    if goal.confidence.asks_for_margin() {
        check_uncertainty(name, metric, data.len())?;
    }
    for floor in &goal.floors {
        check_floor(name, floor, preprocess, is_labelled)?;
    }
    Ok(metric)
}

/// Whether `samples` tell how uncertain a loss is.
fn check_uncertainty(name: &str, metric: DropMetric, samples: usize) -> Result<(), Error> {
    let reason = match metric {
        DropMetric::RelativeError => "of a relative error nobody knows how uncertain it is; choose another `--metric`",
        // The confirming half must have them.
        DropMetric::MeanIou | DropMetric::PixelAgreement if samples / 2 < FEWEST_FRAMES => {
            "fewer than ten frames to confirm on do not tell how uncertain the loss is; give more"
        }
        _ => return Ok(()),
    };
    Err(Error::Usage(format!("{name}: a confidence cannot be kept: {reason}, or leave out `--confidence`")))
}

fn check_floor(name: &str, floor: &Floor, preprocess: &Preprocess, is_labelled: bool) -> Result<(), Error> {
    let fits = match floor.measure {
        FloorMeasure::Recall => preprocess.task == Task::Classification,
        FloorMeasure::Iou => preprocess.task == Task::Segmentation,
    };
    let wrong = |reason: &str| Err(Error::Usage(format!("{name}: the floor {floor} cannot be checked: {reason}")));
    match preprocess.classes {
        _ if !fits => wrong("recall is for classification, iou for segmentation"),
        _ if !is_labelled => wrong("the samples have no labels"),
        Some(classes) if floor.class >= classes => wrong(&format!("there are {classes} classes, numbered from 0")),
        _ => Ok(()),
    }
}
