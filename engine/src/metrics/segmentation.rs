//! One class for each pixel.
//!
//! mIoU is no mean over samples, so that its uncertainty comes from a jackknife: from how much it moves when single
//! frames are left out. Source: Efron and Stein, "The jackknife estimate of variance", 1981.

use serde::Serialize;

use super::{Both, percent};
use crate::dataset::PixelLabels;

/// The class of each pixel as a model says it, row by row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassMap {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// `height * width` classes.
    pub classes: Vec<u16>,
}

impl ClassMap {
    /// The largest of `channels` planes at each pixel, the first where several are equal.
    pub fn from_planes(values: &[f32], channels: usize, height: usize, width: usize) -> Self {
        let area = height * width;
        let mut classes = vec![0; area];
        let mut best = vec![f32::NEG_INFINITY; area];
        for (channel, plane) in values.chunks_exact(area.max(1)).take(channels).enumerate() {
            for ((class, best), &value) in classes.iter_mut().zip(&mut best).zip(plane) {
                if value > *best {
                    (*class, *best) = (channel as u16, value);
                }
            }
        }
        Self { height, width, classes }
    }

    /// The largest of `channels` neighbouring values at each pixel, the first where several are equal.
    pub fn from_interleaved(values: &[f32], channels: usize, height: usize, width: usize) -> Self {
        let classes = values.chunks_exact(channels.max(1)).map(|pixel| super::argmax(pixel) as u16).collect();
        Self { height, width, classes }
    }

    /// The class at the place of each of `height * width` pixels that cover the same area: the pixel of the map whose
    /// area holds their centre.
    pub fn sampled(&self, height: usize, width: usize) -> impl Iterator<Item = u16> + '_ {
        let at = |position: usize, to: usize, from: usize| (2 * position + 1) * from / (2 * to.max(1));
        (0..height * width).map(move |index| {
            let (row, column) = (at(index / width, height, self.height), at(index % width, width, self.width));
            self.classes.get(row * self.width + column).copied().unwrap_or_default()
        })
    }
}

/// Accumulates the predictions of an original and of its compressed form.
#[derive(Debug, Clone)]
pub struct Segmentation {
    classes: usize,
    ignore: Option<usize>,
    samples: u64,
    labelled: u64,
    pixels: u64,
    agreeing: u64,
    /// Of each sample, pixels of which both sides say the same class, in percent.
    agreements: Vec<f64>,
    /// Of each sample, the pixels of which both sides say the same class, and all.
    frame_pixels: Vec<(u64, u64)>,
    /// Over all labelled samples.
    sum: Counts,
    /// Of each labelled sample.
    frames: Vec<Counts>,
}

/// Counted pixels of each class.
#[derive(Debug, Clone)]
struct Counts {
    /// By the labels.
    present: Vec<u64>,
    /// Of each side: those that are predicted as the class.
    predicted: [Vec<u64>; 2],
    /// Of each side: those that are predicted and labelled as the class.
    hits: [Vec<u64>; 2],
}

/// Fewer frames say too little of how much they differ: with ten, a standard error is itself off by a quarter.
pub const FEWEST_FRAMES: usize = 10;

/// What came out.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SegmentationReport {
    /// Samples in all.
    pub samples: u64,
    /// Samples with labels.
    pub labelled: u64,
    /// Pixels of all outputs of which both sides say the same class, in percent.
    pub pixel_agreement_percent: f64,
    /// Mean over the classes that occur among the labels of intersection over union, in percent; the counts are summed
    /// over all samples first. None where nothing is labelled.
    pub mean_iou_percent: Option<Both>,
    /// Standard error of what [`SegmentationReport::mean_iou_percent`] falls by, in percentage points; none for fewer
    /// than [`FEWEST_FRAMES`] labelled samples.
    pub mean_iou_drop_error: Option<f64>,
    /// Standard error of [`SegmentationReport::pixel_agreement_percent`], in percentage points; none for fewer than
    /// [`FEWEST_FRAMES`] samples.
    pub pixel_agreement_error: Option<f64>,
    /// Labelled pixels whose class is found, in percent; none where nothing is labelled.
    pub pixel_accuracy_percent: Option<Both>,
    /// Each class that occurs among the labels.
    pub classes: Vec<ClassIou>,
    /// The samples of least, median and most agreement between the sides, without repeats.
    pub typical: Vec<SampleAgreement>,
}

/// How far the sides agree on one sample.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct SampleAgreement {
    /// Its place among the samples, from 0.
    pub sample: usize,
    /// Pixels of which both sides say the same class, in percent.
    pub agreement_percent: f64,
}

/// How well a class is found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClassIou {
    /// The class.
    pub class: usize,
    /// Labelled pixels that have it.
    pub pixels: u64,
    /// Intersection over union, in percent.
    pub iou_percent: Both,
}

impl Segmentation {
    /// Nothing measured yet; labels from `classes` on are an error of the data, `ignore` is not counted.
    pub fn new(classes: usize, ignore: Option<usize>) -> Self {
        Self {
            classes,
            ignore,
            samples: 0,
            labelled: 0,
            pixels: 0,
            agreeing: 0,
            agreements: Vec::new(),
            frame_pixels: Vec::new(),
            sum: Counts::new(classes),
            frames: Vec::new(),
        }
    }

    /// Adds one sample: what both sides say, and the labels if there are any; predictions are compared with labels at
    /// the labels' size.
    ///
    /// # Errors
    /// The label that is neither a class nor ignored.
    pub fn add(&mut self, maps: [&ClassMap; 2], labels: Option<&PixelLabels>) -> Result<(), usize> {
        self.samples += 1;
        let [original, compressed] = maps;
        self.pixels += original.classes.len() as u64;
        let agreeing = original.classes.iter().zip(&compressed.classes).filter(|(a, b)| a == b).count();
        self.agreeing += agreeing as u64;
        self.agreements.push(percent(agreeing as u64, original.classes.len() as u64));
        self.frame_pixels.push((agreeing as u64, original.classes.len() as u64));
        let Some(labels) = labels else { return Ok(()) };
        self.labelled += 1;
        let mut frame = Counts::new(self.classes);
        let counted = |label: u8| self.ignore != Some(usize::from(label));
        for &label in labels.classes.iter().filter(|&&label| counted(label)) {
            *frame.present.get_mut(usize::from(label)).ok_or(usize::from(label))? += 1;
        }
        for (side, map) in maps.into_iter().enumerate() {
            let pairs = map.sampled(labels.height, labels.width).zip(&labels.classes);
            for (predicted, &label) in pairs.filter(|&(_, &label)| self.ignore != Some(usize::from(label))) {
                let predicted = usize::from(predicted);
                // A model may have outputs that are no class of the labels, such as "other": a miss, and nothing else.
                if let Some(count) = frame.predicted[side].get_mut(predicted) {
                    *count += 1;
                    frame.hits[side][predicted] += u64::from(predicted == usize::from(label));
                }
            }
        }
        self.sum.add(&frame);
        self.frames.push(frame);
        Ok(())
    }

    /// The numbers so far.
    pub fn report(&self) -> SegmentationReport {
        let classes = self.sum.classes();
        let counted: u64 = self.sum.present.iter().sum();
        let accuracy = |side: usize| percent(self.sum.hits[side].iter().sum(), counted);
        let any = counted > 0;
        SegmentationReport {
            samples: self.samples,
            labelled: self.labelled,
            pixel_agreement_percent: percent(self.agreeing, self.pixels),
            mean_iou_percent: any.then(|| mean_iou(&classes)),
            mean_iou_drop_error: self.mean_iou_drop_error(),
            pixel_agreement_error: self.pixel_agreement_error(),
            pixel_accuracy_percent: any.then(|| Both { original: accuracy(0), compressed: accuracy(1) }),
            classes,
            typical: self.typical(),
        }
    }

    /// How much the fall of mIoU moves when frames are left out one by one, as a standard error in percentage points.
    fn mean_iou_drop_error(&self) -> Option<f64> {
        let without = self.frames.iter().map(|frame| {
            let classes = self.sum.without(frame).classes();
            if classes.is_empty() { 0.0 } else { mean_iou(&classes).drop() }
        });
        jackknife(without.collect())
    }

    /// The same of the share of pixels on which the sides agree.
    fn pixel_agreement_error(&self) -> Option<f64> {
        let without = self.frame_pixels.iter().map(|&(agreeing, pixels)| {
            percent(self.agreeing.saturating_sub(agreeing), self.pixels.saturating_sub(pixels))
        });
        jackknife(without.collect())
    }

    fn typical(&self) -> Vec<SampleAgreement> {
        let samples = self.agreements.iter().enumerate();
        let mut samples: Vec<SampleAgreement> =
            samples.map(|(sample, &agreement_percent)| SampleAgreement { sample, agreement_percent }).collect();
        samples.sort_by(|a, b| a.agreement_percent.total_cmp(&b.agreement_percent).then(a.sample.cmp(&b.sample)));
        let mut places = vec![0, samples.len() / 2, samples.len().saturating_sub(1)];
        places.dedup();
        places.into_iter().filter_map(|place| samples.get(place).copied()).collect()
    }
}

impl Counts {
    fn new(classes: usize) -> Self {
        let none = || vec![0; classes];
        Self { present: none(), predicted: [none(), none()], hits: [none(), none()] }
    }

    fn add(&mut self, frame: &Self) {
        self.combine(frame, |sum, count| sum + count);
    }

    /// The counts of all frames but `frame`, which is one of them.
    fn without(&self, frame: &Self) -> Self {
        let mut rest = self.clone();
        rest.combine(frame, u64::saturating_sub);
        rest
    }

    fn combine(&mut self, other: &Self, with: impl Fn(u64, u64) -> u64) {
        let own = [&mut self.present].into_iter().chain(&mut self.predicted).chain(&mut self.hits);
        let others = [&other.present].into_iter().chain(&other.predicted).chain(&other.hits);
        for (own, other) in own.zip(others) {
            own.iter_mut().zip(other).for_each(|(own, &other)| *own = with(*own, other));
        }
    }

    /// Each class that occurs among the labels.
    fn classes(&self) -> Vec<ClassIou> {
        let iou = |side: usize, class: usize| {
            let hits = self.hits[side][class];
            percent(hits, self.predicted[side][class] + self.present[class] - hits)
        };
        let occurring = self.present.iter().enumerate().filter(|&(_, &pixels)| pixels > 0);
        let found = |(class, &pixels): (usize, &u64)| ClassIou {
            class,
            pixels,
            iou_percent: Both { original: iou(0, class), compressed: iou(1, class) },
        };
        occurring.map(found).collect()
    }
}

/// The mean over `classes`, which are some.
fn mean_iou(classes: &[ClassIou]) -> Both {
    let mean = |side: fn(&Both) -> f64| {
        classes.iter().map(|class| side(&class.iou_percent)).sum::<f64>() / classes.len() as f64
    };
    Both { original: mean(|both| both.original), compressed: mean(|both| both.compressed) }
}

/// The standard error of a number, from what it is without each of the frames; none for too few of them.
fn jackknife(without: Vec<f64>) -> Option<f64> {
    if without.len() < FEWEST_FRAMES {
        return None;
    }
    let frames = without.len() as f64;
    let mean = without.iter().sum::<f64>() / frames;
    let squares: f64 = without.iter().map(|value| (value - mean).powi(2)).sum();
    Some((squares * (frames - 1.0) / frames).sqrt())
}
