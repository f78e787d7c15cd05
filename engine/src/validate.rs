//! An original and its compressed form over a data set; one model in two runtimes.

use serde::Serialize;

use crate::backend::Session;
use crate::dataset::{Dataset, Label, Sample};
use crate::error::{EngineError, shape_text};
use crate::metrics::classification::{Classification, ClassificationReport};
use crate::metrics::fidelity::{Fidelity, FidelityReport};
use crate::metrics::segmentation::{ClassMap, Segmentation, SegmentationReport};
use crate::metrics::{Both, argmax, percent};
use crate::pairs::run_pairs;
use crate::preprocess::{Layout, Preprocess, Task};
use crate::tensor::{ElementType, Tensor};

/// How samples run.
#[derive(Debug, Clone)]
pub struct ValidateOptions {
    /// Samples that run together, from 1, where the model's first axis is open. Default: 64. Large samples run in
    /// smaller batches.
    pub batch: usize,
}

impl Default for ValidateOptions {
    fn default() -> Self {
        Self { batch: 64 }
    }
}

/// What a comparison of an original with its compressed form found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Validation {
    /// Samples.
    pub samples: usize,
    /// Samples with a label.
    pub labelled: usize,
    /// What the output means.
    pub task: Task,
    /// How far the compressed form's numbers are from the original's, for each output.
    pub outputs: Vec<OutputFidelity>,
    /// Where the task is classification.
    pub classification: Option<ClassificationReport>,
    /// Where the task is segmentation.
    pub segmentation: Option<SegmentationReport>,
    /// How far each side is from the outputs that the data set expects, where it has any.
    pub expected: Option<Expected>,
    /// What was assumed because nothing said it.
    pub notes: Vec<String>,
}

/// Fidelity of one output.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OutputFidelity {
    /// Name of the output.
    pub name: String,
    /// The numbers.
    #[serde(flatten)]
    pub fidelity: FidelityReport,
}

/// Distance from the outputs that a data set expects.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Expected {
    /// Of the original.
    pub original: FidelityReport,
    /// Of the compressed form.
    pub compressed: FidelityReport,
}

/// The number that a bound is held against.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Drop {
    /// How much was lost, in percentage points; negative where the compressed form is better.
    pub points: f64,
    /// What was counted.
    pub metric: DropMetric,
}

/// What a [`Drop`] counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DropMetric {
    /// Top-1 of the original minus that of the compressed form.
    Top1,
    /// Top-5 of the original minus that of the compressed form.
    Top5,
    /// mIoU of the original minus that of the compressed form.
    MeanIou,
    /// 100 minus the agreement of both sides' classes: nothing was labelled.
    Agreement,
    /// 100 minus the agreement of both sides' pixels: nothing was labelled.
    PixelAgreement,
    /// The largest relative error of an output, in percent: the outputs are no classes.
    RelativeError,
}

impl DropMetric {
    /// Every metric.
    pub const ALL: [Self; 6] =
        [Self::Top1, Self::Top5, Self::MeanIou, Self::Agreement, Self::PixelAgreement, Self::RelativeError];

    /// Whether it needs labels.
    pub const fn needs_labels(self) -> bool {
        matches!(self, Self::Top1 | Self::Top5 | Self::MeanIou)
    }

    /// Name on the command line.
    pub const fn key(self) -> &'static str {
        match self {
            Self::Top1 => "top1",
            Self::Top5 => "top5",
            Self::MeanIou => "miou",
            Self::Agreement => "agreement",
            Self::PixelAgreement => "pixel-agreement",
            Self::RelativeError => "relative-error",
        }
    }

    /// What tables call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Top1 => "top-1",
            Self::Top5 => "top-5",
            Self::MeanIou => "mIoU",
            Self::Agreement => "agreement",
            Self::PixelAgreement => "pixel agreement",
            Self::RelativeError => "relative error",
        }
    }
}

impl Validation {
    /// What was lost, by the metric that fits the task and the labels.
    pub fn drop(&self) -> Drop {
        let metric = match (&self.classification, &self.segmentation) {
            (Some(report), _) if report.top1_percent.is_some() => DropMetric::Top1,
            (Some(_), _) => DropMetric::Agreement,
            (_, Some(report)) if report.mean_iou_percent.is_some() => DropMetric::MeanIou,
            (_, Some(_)) => DropMetric::PixelAgreement,
            _ => DropMetric::RelativeError,
        };
        Drop { points: self.loss(metric).unwrap_or(f64::NAN), metric }
    }

    /// What was lost, counted in `metric`, in percentage points; `None` where the outputs or the labels do not have it.
    pub fn loss(&self, metric: DropMetric) -> Option<f64> {
        let (classes, pixels) = (self.classification.as_ref(), self.segmentation.as_ref());
        match metric {
            DropMetric::Top1 => classes?.top1_percent.map(Both::drop),
            DropMetric::Top5 => classes?.top5_percent.map(Both::drop),
            DropMetric::Agreement => classes.map(|report| 100.0 - report.agreement_percent),
            DropMetric::MeanIou => pixels?.mean_iou_percent.map(Both::drop),
            DropMetric::PixelAgreement => pixels.map(|report| 100.0 - report.pixel_agreement_percent),
            DropMetric::RelativeError => {
                let worst = self.outputs.iter().map(|output| match output.fidelity.non_finite_mismatches {
                    0 => output.fidelity.relative_error,
                    _ => f64::INFINITY,
                });
                Some(100.0 * worst.fold(0.0, f64::max))
            }
        }
    }

    /// Standard error of [`Validation::loss`], in percentage points: from the samples of which the sides differ, or from
    /// how much the loss moves when frames are left out. NaN where neither tells: for the relative error, and for fewer
    /// than [`FEWEST_FRAMES`](crate::metrics::segmentation::FEWEST_FRAMES) frames.
    pub fn standard_error(&self, metric: DropMetric) -> f64 {
        let (classes, pixels) = (self.classification.as_ref(), self.segmentation.as_ref());
        let error = match metric {
            DropMetric::Top1 => classes.map(|report| report.changed.standard_error(report.labelled)),
            DropMetric::Top5 => classes.map(|report| report.changed_top5.standard_error(report.labelled)),
            DropMetric::Agreement => classes.map(|report| {
                let share = report.agreement_percent / 100.0;
                100.0 * (share * (1.0 - share) / report.samples.max(1) as f64).sqrt()
            }),
            DropMetric::MeanIou => pixels.and_then(|report| report.mean_iou_drop_error),
            DropMetric::PixelAgreement => pixels.and_then(|report| report.pixel_agreement_error),
            DropMetric::RelativeError => None,
        };
        error.unwrap_or(f64::NAN)
    }

    /// The points of [`Validation::drop`].
    pub fn drop_points(&self) -> f64 {
        self.drop().points
    }
}

/// Runs both sides on every sample of `data` and compares them.
///
/// The two sides run at the same time on two threads where the global thread pool has them; the result does not depend
/// on it. `progress` hears of samples done and samples in all.
///
/// # Errors
/// Whatever reading or running a sample meets; [`EngineError::ModelsDiffer`] where the sides give different outputs, and
/// [`EngineError::LabelRange`] where a label is no class.
pub fn validate(
    original: &mut dyn Session,
    compressed: &mut dyn Session,
    data: &dyn Dataset,
    preprocess: &Preprocess,
    options: &ValidateOptions,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Validation, EngineError> {
    let mut tally = Tally::new(preprocess, original);
    run_pairs(original, compressed, data, options, progress, &mut |sample, sides| tally.add(sample, sides))?;
    let mut notes = preprocess.notes.clone();
    if data.images() {
        notes.extend(preprocess.image_notes.iter().cloned());
    }
    Ok(tally.report(notes))
}

/// What a comparison of two runtimes on one model found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RuntimeAgreement {
    /// Names of the two runtimes.
    pub runtimes: [String; 2],
    /// Samples.
    pub samples: usize,
    /// How far the second runtime's numbers are from the first's, over all outputs.
    pub fidelity: FidelityReport,
    /// Samples (or pixels, in segmentation) of which both say the same class, in percent; none for other tasks.
    pub agreement_percent: Option<f64>,
}

impl RuntimeAgreement {
    /// Whether the runtimes agree as far as different orders of summation allow: within a relative error of 1e-3, and in
    /// at least 99.9 % of the classes.
    pub fn agrees(&self) -> bool {
        self.fidelity.non_finite_mismatches == 0
            && self.fidelity.relative_error <= 1e-3
            && self.agreement_percent.is_none_or(|percent| percent >= 99.9)
    }
}

/// Runs one model in two runtimes on every sample of `data` and compares them.
///
/// # Errors
/// As [`validate`].
pub fn runtimes_agree(
    first: &mut dyn Session,
    second: &mut dyn Session,
    data: &dyn Dataset,
    preprocess: &Preprocess,
    options: &ValidateOptions,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<RuntimeAgreement, EngineError> {
    let runtimes = [first.runtime().name().to_owned(), second.runtime().name().to_owned()];
    let mut fidelity = Fidelity::default();
    let (mut same, mut all, mut samples) = (0u64, 0u64, 0);
    run_pairs(first, second, data, options, progress, &mut |_, sides| {
        samples += 1;
        for (a, b) in sides[0].iter().zip(&sides[1]) {
            fidelity.add(&a.to_f32(), &b.to_f32());
        }
        let classes = |outputs: &[Tensor]| predicted(outputs.get(preprocess.output)?, preprocess);
        if let (Some(a), Some(b)) = (classes(&sides[0]), classes(&sides[1])) {
            all += a.len() as u64;
            same += a.iter().zip(&b).filter(|(a, b)| a == b).count() as u64;
        }
        Ok(())
    })?;
    let agreement_percent = (all > 0).then(|| percent(same, all));
    Ok(RuntimeAgreement { runtimes, samples, fidelity: fidelity.report(), agreement_percent })
}

fn predicted(output: &Tensor, preprocess: &Preprocess) -> Option<Vec<u16>> {
    match preprocess.task {
        Task::Classification => Some(vec![argmax(&output.to_f32()) as u16]),
        Task::Segmentation => class_map(output, preprocess).map(|map| map.classes),
        Task::Other => None,
    }
}

/// The class of each pixel in the output of one sample.
pub(crate) fn class_map(output: &Tensor, preprocess: &Preprocess) -> Option<ClassMap> {
    let values = output.to_f32();
    let interleaved = preprocess.image.as_ref().is_some_and(|(_, format)| format.layout == Layout::Nhwc);
    match *output.shape() {
        // A model that ends with its own argmax gives classes.
        [1, 1, height, width] | [1, height, width] | [1, height, width, 1] if !output.element().is_float() => {
            Some(ClassMap { height, width, classes: values.iter().map(|&class| class as u16).collect() })
        }
        [1, height, width, channels] if interleaved => {
            Some(ClassMap::from_interleaved(&values, channels, height, width))
        }
        [1, channels, height, width] => Some(ClassMap::from_planes(&values, channels, height, width)),
        _ => None,
    }
}

/// Everything that [`validate`] accumulates.
struct Tally<'a> {
    preprocess: &'a Preprocess,
    names: Vec<String>,
    samples: usize,
    labelled: usize,
    outputs: Vec<Fidelity>,
    classification: Option<Classification>,
    segmentation: Option<Segmentation>,
    expected: Option<[Fidelity; 2]>,
}

impl<'a> Tally<'a> {
    fn new(preprocess: &'a Preprocess, original: &dyn Session) -> Self {
        let names: Vec<String> = original.outputs().iter().map(|info| info.name.clone()).collect();
        let outputs = vec![Fidelity::default(); names.len()];
        Self {
            preprocess,
            names,
            samples: 0,
            labelled: 0,
            outputs,
            classification: None,
            segmentation: None,
            expected: None,
        }
    }

    fn add(&mut self, sample: &Sample, sides: &[Vec<Tensor>; 2]) -> Result<(), EngineError> {
        self.samples += 1;
        self.labelled += usize::from(!matches!(sample.label, Label::None));
        for ((fidelity, a), b) in self.outputs.iter_mut().zip(&sides[0]).zip(&sides[1]) {
            fidelity.add(&a.to_f32(), &b.to_f32());
        }
        if let Label::Outputs(expected) = &sample.label {
            let fidelities = self.expected.get_or_insert_default();
            for (fidelity, outputs) in fidelities.iter_mut().zip(sides) {
                for (expected, found) in expected.iter().zip(outputs) {
                    fidelity.add(&expected.to_f32(), &found.to_f32());
                }
            }
        }
        let index = self.preprocess.output;
        let (Some(original), Some(compressed)) = (sides[0].get(index), sides[1].get(index)) else { return Ok(()) };
        match self.preprocess.task {
            Task::Classification => self.add_classes(sample, original, compressed),
            Task::Segmentation => self.add_pixels(sample, original, compressed),
            Task::Other => Ok(()),
        }
    }

    fn add_classes(&mut self, sample: &Sample, original: &Tensor, compressed: &Tensor) -> Result<(), EngineError> {
        let classes = original.len();
        let allowed = self.preprocess.classes.unwrap_or(classes);
        let label = match sample.label {
            Label::Class(label) if self.preprocess.ignore == Some(label) => None,
            Label::Class(label) if label >= allowed => return Err(self.out_of_range(sample, label, allowed)),
            Label::Class(label) => Some(label),
            _ => None,
        };
        let tally = self.classification.get_or_insert_with(|| Classification::new(classes));
        tally.add(&original.to_f32(), &compressed.to_f32(), label);
        Ok(())
    }

    fn add_pixels(&mut self, sample: &Sample, original: &Tensor, compressed: &Tensor) -> Result<(), EngineError> {
        let maps = class_map(original, self.preprocess).zip(class_map(compressed, self.preprocess));
        let (original_map, compressed_map) = maps.ok_or_else(|| EngineError::Preprocess {
            origin: "preprocessing".to_owned(),
            reason: format!(
                "the task is segmentation, but output `{}` has shape {} for one sample; expected 1 x classes x height x \
                 width; set `task` or `name` under `[output]`",
                self.names.get(self.preprocess.output).map_or("", String::as_str),
                shape_text(original.shape())
            ),
        })?;
        let labels = match &sample.label {
            Label::Pixels(labels) => Some(labels),
            _ => None,
        };
        // Integer outputs are classes already, and say nothing of how many there are.
        let channels = match original.element() {
            ElementType::F32 | ElementType::F64 | ElementType::F16 | ElementType::BF16 => {
                original.len() / original_map.classes.len().max(1)
            }
            _ => 256,
        };
        let classes = self.preprocess.classes.unwrap_or(channels);
        let ignore = self.preprocess.ignore;
        let tally = self.segmentation.get_or_insert_with(|| Segmentation::new(classes, ignore));
        tally.add([&original_map, &compressed_map], labels).map_err(|label| self.out_of_range(sample, label, classes))
    }

    fn out_of_range(&self, sample: &Sample, label: usize, classes: usize) -> EngineError {
        EngineError::LabelRange { sample: sample.name.clone(), label, classes }
    }

    fn report(self, notes: Vec<String>) -> Validation {
        let outputs = self.names.into_iter().zip(&self.outputs);
        Validation {
            samples: self.samples,
            labelled: self.labelled,
            task: self.preprocess.task,
            outputs: outputs.map(|(name, fidelity)| OutputFidelity { name, fidelity: fidelity.report() }).collect(),
            classification: self.classification.map(|tally| tally.report()),
            segmentation: self.segmentation.map(|tally| tally.report()),
            expected: self.expected.map(|[original, compressed]| Expected {
                original: original.report(),
                compressed: compressed.report(),
            }),
            notes,
        }
    }
}
