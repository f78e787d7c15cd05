//! Single samples to look at: their pictures, and what both sides say of them.

use crate::backend::Session;
use crate::dataset::{Dataset, Label, PixelLabels, Sample};
use crate::error::EngineError;
use crate::metrics::segmentation::ClassMap;
use crate::pairs::run_pairs;
use crate::preprocess::{Pixels, Preprocess};
use crate::tensor::Tensor;
use crate::validate::{ValidateOptions, Validation, class_map};

/// A sample with its picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Example {
    /// The file, and the place in it where it holds several samples.
    pub name: String,
    /// The picture, as the model takes it.
    pub picture: Pixels,
    /// What is known and said of it.
    pub said: Said,
}

/// What both sides say of a sample.
#[derive(Debug, Clone, PartialEq)]
pub enum Said {
    /// One class each.
    Class {
        /// The sample's class, where that is known.
        label: Option<usize>,
        /// What the original says.
        original: usize,
        /// What the compressed form says.
        compressed: usize,
    },
    /// A class for each pixel.
    Pixels {
        /// The pixels' classes, where they are known.
        label: Option<PixelLabels>,
        /// What the original says.
        original: ClassMap,
        /// What the compressed form says.
        compressed: ClassMap,
        /// Pixels of which both say the same, in percent.
        agreement_percent: f64,
    },
}

/// Some samples of `data` as `validation` found them: of classes those of which the sides say different ones, of
/// segmentation those of least, median and most agreement. Nothing where the samples are no pictures.
///
/// `original`, `compressed`, `data` and `preprocess` are those that `validation` comes from.
///
/// # Errors
/// Whatever reading or running a sample meets.
pub fn examples(
    original: &mut dyn Session,
    compressed: &mut dyn Session,
    data: &dyn Dataset,
    preprocess: &Preprocess,
    validation: &Validation,
) -> Result<Vec<Example>, EngineError> {
    if !data.images() || preprocess.image.is_none() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    if let Some(report) = &validation.classification {
        for differs in &report.disagreements {
            let sample = data.sample(differs.sample)?;
            let said = Said::Class { label: differs.label, original: differs.original, compressed: differs.compressed };
            found.extend(example(sample.name, &sample.inputs, said, preprocess));
        }
    }
    if let Some(report) = &validation.segmentation {
        let places: Vec<usize> = report.typical.iter().map(|typical| typical.sample).collect();
        let mut agreements = report.typical.iter().map(|typical| typical.agreement_percent);
        let chosen = Chosen { data, places };
        let options = ValidateOptions { batch: 1 };
        run_pairs(original, compressed, &chosen, &options, &mut |_, _| {}, &mut |sample, sides| {
            let agreement_percent = agreements.next().unwrap_or_default();
            let map = |side: &[Tensor]| class_map(side.get(preprocess.output)?, preprocess);
            if let (Some(original), Some(compressed)) = (map(&sides[0]), map(&sides[1])) {
                let label = match &sample.label {
                    Label::Pixels(labels) => Some(labels.clone()),
                    _ => None,
                };
                let said = Said::Pixels { label, original, compressed, agreement_percent };
                found.extend(example(sample.name.clone(), &sample.inputs, said, preprocess));
            }
            Ok(())
        })?;
    }
    Ok(found)
}

fn example(name: String, inputs: &[Tensor], said: Said, preprocess: &Preprocess) -> Option<Example> {
    preprocess.image_of(inputs).map(|picture| Example { name, picture, said })
}

/// Some samples of a data set.
struct Chosen<'a> {
    data: &'a dyn Dataset,
    places: Vec<usize>,
}

impl Dataset for Chosen<'_> {
    fn len(&self) -> usize {
        self.places.len()
    }

    fn images(&self) -> bool {
        self.data.images()
    }

    fn sample(&self, index: usize) -> Result<Sample, EngineError> {
        let place = self.places.get(index).ok_or_else(|| EngineError::bad_data("", "no such sample"))?;
        self.data.sample(*place)
    }
}
