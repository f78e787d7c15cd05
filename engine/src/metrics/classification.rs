//! One class for each sample.

use serde::Serialize;

use super::{Both, argmax, percent};

/// Accumulates predictions of an original and of its compressed form.
#[derive(Debug, Clone)]
pub struct Classification {
    classes: usize,
    samples: u64,
    labelled: u64,
    agreeing: u64,
    top1: [u64; 2],
    top5: [u64; 2],
    /// Of the largest output, and of the five largest.
    changed: [Changed; 2],
    /// For each class the samples that have it, and those that each side finds.
    recall: Vec<[u64; 3]>,
    /// Of each side: rows are labels, columns predictions; only kept where they stay small.
    confusion: [Vec<u64>; 2],
    disagreements: Vec<Disagreement>,
}

/// The largest number of classes for which the confusion matrix is kept.
const CONFUSION_CLASSES: usize = 100;

/// The most samples of which the report says that the sides differ.
const DISAGREEMENTS: usize = 12;

/// What came out.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClassificationReport {
    /// Samples in all.
    pub samples: u64,
    /// Samples with a label.
    pub labelled: u64,
    /// Samples of which both sides say the same class, in percent of all.
    pub agreement_percent: f64,
    /// Labelled samples whose largest output is the label, in percent; none where nothing is labelled.
    pub top1_percent: Option<Both>,
    /// Labelled samples whose label is among the five largest outputs, in percent; none for fewer than six classes.
    pub top5_percent: Option<Both>,
    /// Labelled samples that only one side finds.
    pub changed: Changed,
    /// Labelled samples that only one side has among the five largest outputs.
    pub changed_top5: Changed,
    /// Each class that occurs among the labels.
    pub classes: Vec<ClassRecall>,
    /// Predictions of the compressed form (columns) for each label (rows), for up to 100 classes; else empty.
    pub confusion: Vec<Vec<u64>>,
    /// The same of the original.
    pub original_confusion: Vec<Vec<u64>>,
    /// Samples of which the sides say different classes: at most 12, spread evenly over all such samples.
    pub disagreements: Vec<Disagreement>,
}

/// Samples that only one side gets right.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Changed {
    /// The original alone.
    pub lost: u64,
    /// The compressed form alone.
    pub gained: u64,
}

impl Changed {
    /// Standard error of the share of samples lost, of `samples`, in percentage points.
    pub fn standard_error(self, samples: u64) -> f64 {
        let (n, lost, gained) = (samples.max(1) as f64, self.lost as f64, self.gained as f64);
        100.0 * ((lost + gained - (lost - gained).powi(2) / n).max(0.0)).sqrt() / n
    }
}

/// A sample of which the sides say different classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Disagreement {
    /// Its place among the samples, from 0.
    pub sample: usize,
    /// Its class, where that is known.
    pub label: Option<usize>,
    /// What the original says.
    pub original: usize,
    /// What the compressed form says.
    pub compressed: usize,
}

/// How much of a class is found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClassRecall {
    /// The class.
    pub class: usize,
    /// Labelled samples that have it.
    pub samples: u64,
    /// Those that are found, in percent.
    pub recall_percent: Both,
}

impl Classification {
    /// Nothing measured yet, for a model of `classes` outputs.
    pub fn new(classes: usize) -> Self {
        let confusion = if classes <= CONFUSION_CLASSES { vec![0; classes * classes] } else { Vec::new() };
        Self {
            classes,
            samples: 0,
            labelled: 0,
            agreeing: 0,
            top1: [0; 2],
            top5: [0; 2],
            changed: [Changed::default(); 2],
            recall: vec![[0; 3]; classes],
            confusion: [confusion.clone(), confusion],
            disagreements: Vec::new(),
        }
    }

    /// Adds one sample: the outputs of both sides, and the label if there is one.
    ///
    /// A label that is no class counts as found by neither.
    pub fn add(&mut self, original: &[f32], compressed: &[f32], label: Option<usize>) {
        let predictions = [argmax(original), argmax(compressed)];
        let [original_class, compressed_class] = predictions;
        if original_class == compressed_class {
            self.agreeing += 1;
        } else {
            let sample = self.samples as usize;
            self.disagreements.push(Disagreement {
                sample,
                label,
                original: original_class,
                compressed: compressed_class,
            });
        }
        self.samples += 1;
        let Some(label) = label else { return };
        self.labelled += 1;
        let mut found_by = [[false; 2]; 2];
        for (side, outputs) in [original, compressed].into_iter().enumerate() {
            let found = predictions[side] == label;
            found_by[0][side] = found;
            found_by[1][side] = rank(outputs, label).is_some_and(|rank| rank < 5);
            self.top1[side] += u64::from(found);
            self.top5[side] += u64::from(found_by[1][side]);
            if let Some(counts) = self.recall.get_mut(label) {
                counts[1 + side] += u64::from(found);
                if let Some(cell) = self.confusion[side].get_mut(label * self.classes + predictions[side]) {
                    *cell += 1;
                }
            }
        }
        for (changed, found) in self.changed.iter_mut().zip(found_by) {
            changed.lost += u64::from(found == [true, false]);
            changed.gained += u64::from(found == [false, true]);
        }
        if let Some(counts) = self.recall.get_mut(label) {
            counts[0] += 1;
        }
    }

    /// The numbers so far.
    pub fn report(&self) -> ClassificationReport {
        let both = |counts: [u64; 2]| Both {
            original: percent(counts[0], self.labelled),
            compressed: percent(counts[1], self.labelled),
        };
        let occurring = self.recall.iter().enumerate().filter(|(_, counts)| counts[0] > 0);
        let classes = occurring.map(|(class, counts)| ClassRecall {
            class,
            samples: counts[0],
            recall_percent: Both { original: percent(counts[1], counts[0]), compressed: percent(counts[2], counts[0]) },
        });
        let labelled = self.labelled > 0;
        let confusion = |side: usize| match labelled {
            true => self.confusion[side].chunks(self.classes.max(1)).map(<[u64]>::to_vec).collect(),
            false => Vec::new(),
        };
        let shown = self.disagreements.len().min(DISAGREEMENTS);
        let spread = (0..shown).filter_map(|place| self.disagreements.get(place * self.disagreements.len() / shown));
        ClassificationReport {
            samples: self.samples,
            labelled: self.labelled,
            agreement_percent: percent(self.agreeing, self.samples),
            top1_percent: labelled.then(|| both(self.top1)),
            top5_percent: (labelled && self.classes > 5).then(|| both(self.top5)),
            changed: self.changed[0],
            changed_top5: self.changed[1],
            classes: classes.collect(),
            confusion: confusion(1),
            original_confusion: confusion(0),
            disagreements: spread.copied().collect(),
        }
    }
}

/// How many outputs come before that of `label`; of equal ones the first comes first.
fn rank(outputs: &[f32], label: usize) -> Option<usize> {
    let own = *outputs.get(label)?;
    if own.is_nan() {
        return None;
    }
    let before = |&(index, &value): &(usize, &f32)| value > own || (value == own && index < label);
    Some(outputs.iter().enumerate().filter(before).count())
}
