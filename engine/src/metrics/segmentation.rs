//! One class for each pixel.

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
    sides: [Counts; 2],
    present: Vec<u64>,
}

#[derive(Debug, Clone)]
struct Counts {
    /// Pixels that are predicted and labelled as the class.
    hits: Vec<u64>,
    /// Counted pixels that are predicted as the class.
    predicted: Vec<u64>,
}

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
        let counts = Counts { hits: vec![0; classes], predicted: vec![0; classes] };
        Self {
            classes,
            ignore,
            samples: 0,
            labelled: 0,
            pixels: 0,
            agreeing: 0,
            agreements: Vec::new(),
            sides: [counts.clone(), counts],
            present: vec![0; classes],
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
        let Some(labels) = labels else { return Ok(()) };
        self.labelled += 1;
        let counted = |label: u8| self.ignore != Some(usize::from(label));
        for &label in labels.classes.iter().filter(|&&label| counted(label)) {
            *self.present.get_mut(usize::from(label)).ok_or(usize::from(label))? += 1;
        }
        for (counts, map) in self.sides.iter_mut().zip(maps) {
            let pairs = map.sampled(labels.height, labels.width).zip(&labels.classes);
            for (predicted, &label) in pairs.filter(|&(_, &label)| self.ignore != Some(usize::from(label))) {
                let predicted = usize::from(predicted);
                // A model may have outputs that are no class of the labels, such as "other": a miss, and nothing else.
                if let Some(count) = counts.predicted.get_mut(predicted) {
                    *count += 1;
                    counts.hits[predicted] += u64::from(predicted == usize::from(label));
                }
            }
        }
        Ok(())
    }

    /// The numbers so far.
    pub fn report(&self) -> SegmentationReport {
        let iou = |side: usize, class: usize| {
            let counts = &self.sides[side];
            percent(counts.hits[class], counts.predicted[class] + self.present[class] - counts.hits[class])
        };
        let occurring = (0..self.classes).filter(|&class| self.present[class] > 0);
        let classes: Vec<ClassIou> = occurring
            .map(|class| ClassIou {
                class,
                pixels: self.present[class],
                iou_percent: Both { original: iou(0, class), compressed: iou(1, class) },
            })
            .collect();
        let mean = |side: fn(&Both) -> f64| {
            classes.iter().map(|class| side(&class.iou_percent)).sum::<f64>() / classes.len() as f64
        };
        let counted: u64 = self.present.iter().sum();
        let accuracy = |side: usize| percent(self.sides[side].hits.iter().sum(), counted);
        let any = counted > 0;
        SegmentationReport {
            samples: self.samples,
            labelled: self.labelled,
            pixel_agreement_percent: percent(self.agreeing, self.pixels),
            mean_iou_percent: any
                .then(|| Both { original: mean(|both| both.original), compressed: mean(|both| both.compressed) }),
            pixel_accuracy_percent: any.then(|| Both { original: accuracy(0), compressed: accuracy(1) }),
            classes,
            typical: self.typical(),
        }
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
