//! Samples, and the folders that they lie in.
//!
//! [`DataFolder::open`] finds out what a folder holds; [`DataFolder::dataset`] picks a split of it. Samples are read one
//! by one, when they are asked for, in an order that depends on names only.
//!
//! | file | layout |
//! |---|---|
//! | [`mnist`] | MNIST's IDX files, plain or gzip-compressed |
//! | [`image_folder`] | one folder for each class, or images without labels |
//! | [`label_csv`] | images and a CSV of `file,class` |
//! | [`segmentation`] | `X/` with images and `Xannot/` with labels for each pixel, as CamVid comes |
//! | [`half`] | two halves of any of them |
//! | [`cityscapes`] | `leftImg8bit/` and `gtFine/` |
//! | [`numpy`] | `.npz` and `.npy` arrays under the names of the model's inputs |
//! | [`onnx_test_data`] | `test_data_set_N/` with `input_N.pb` and `output_N.pb` |

pub mod cityscapes;
mod detect;
mod files;
pub mod half;
pub mod image_folder;
pub mod label_csv;
pub mod mnist;
pub mod numpy;
pub mod onnx_test_data;
pub mod segmentation;

use std::path::{Path, PathBuf};

pub use detect::Layout;

use crate::error::EngineError;
use crate::preprocess::Preprocess;
use crate::tensor::{Tensor, TensorInfo};

/// One sample, ready for the model.
#[derive(Debug, Clone)]
pub struct Sample {
    /// The file, and the place in it where it holds several samples.
    pub name: String,
    /// One tensor for each input of the model, in its order.
    pub inputs: Vec<Tensor>,
    /// What the sample is.
    pub label: Label,
    /// Whether the first axis is a batch axis, so that samples may run together.
    pub batches: bool,
}

impl Sample {
    /// Holds the sample against the inputs of a model.
    ///
    /// # Errors
    /// [`EngineError::SampleShape`] for the first input that does not fit.
    pub fn check(&self, inputs: &[TensorInfo]) -> Result<(), EngineError> {
        match inputs.iter().zip(&self.inputs).find(|(info, input)| !info.accepts(input.shape(), input.element())) {
            Some((info, input)) => Err(info.mismatch(&self.name, input.shape(), input.element())),
            None => Ok(()),
        }
    }
}

/// What a sample is known to be.
#[derive(Debug, Clone, Default)]
pub enum Label {
    /// Nothing is known: only agreement can be measured.
    #[default]
    None,
    /// Its class.
    Class(usize),
    /// The class of each pixel.
    Pixels(PixelLabels),
    /// What the model should give.
    Outputs(Vec<Tensor>),
}

/// The class of each pixel, row by row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PixelLabels {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// `height * width` classes.
    pub classes: Vec<u8>,
}

/// A sequence of samples.
pub trait Dataset: Send + Sync {
    /// Number of samples.
    fn len(&self) -> usize;

    /// Whether there is no sample.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the samples are images, and go through the model's preprocessing.
    fn images(&self) -> bool {
        true
    }

    /// Sample `index`.
    ///
    /// # Errors
    /// Where a file cannot be read or does not fit the model; the message names both.
    fn sample(&self, index: usize) -> Result<Sample, EngineError>;
}

/// A folder (or a file) of samples whose layout is known.
#[derive(Debug)]
pub struct DataFolder {
    path: PathBuf,
    splits: Vec<(String, Layout)>,
    preprocess: Preprocess,
}

/// Names of the splits that results are reported on, the preferred one first.
const TEST_SPLITS: [&str; 4] = ["test", "val", "valid", "validation"];

/// Names of the splits that may be learnt from.
const TRAINING_SPLITS: [&str; 2] = ["train", "training"];

impl DataFolder {
    /// Finds out what lies at `path`.
    ///
    /// # Errors
    /// [`EngineError::Read`], [`EngineError::UnknownLayout`], or [`EngineError::AmbiguousLayout`].
    pub fn open(path: &Path, preprocess: &Preprocess) -> Result<Self, EngineError> {
        let splits = detect::splits(path)?;
        Ok(Self { path: path.to_path_buf(), splits, preprocess: preprocess.clone() })
    }

    /// Names of the splits; one without a name where the folder has none.
    pub fn splits(&self) -> Vec<&str> {
        self.splits.iter().map(|(name, _)| name.as_str()).collect()
    }

    /// The names of the classes in the order of their numbers, where a `classes.txt` in the folder says them; else none.
    ///
    /// # Errors
    /// [`EngineError::Read`].
    pub fn class_names(&self) -> Result<Vec<String>, EngineError> {
        Ok(files::class_names(&[&self.path])?.unwrap_or_default())
    }

    /// The split that is used when none is asked for: the test side, or the only one.
    pub fn default_split(&self) -> Option<&str> {
        let named = TEST_SPLITS.iter().find_map(|wanted| self.splits.iter().find(|(name, _)| name == wanted));
        named.or(if self.splits.len() == 1 { self.splits.first() } else { None }).map(|(name, _)| name.as_str())
    }

    /// The split that may be learnt from, where there is one.
    pub fn training_split(&self) -> Option<&str> {
        let named = TRAINING_SPLITS.iter().find_map(|wanted| self.splits.iter().find(|(name, _)| name == wanted));
        named.map(|(name, _)| name.as_str())
    }

    /// The samples of `split`, or of [`DataFolder::default_split`]; at most `limit`, spread evenly over all.
    ///
    /// # Errors
    /// [`EngineError::Split`] where there is no such split, or several and none is a test side; and where the files do
    /// not fit the model.
    pub fn dataset(&self, split: Option<&str>, limit: Option<usize>) -> Result<Box<dyn Dataset>, EngineError> {
        let names = || self.splits.iter().map(|(name, _)| name.clone()).filter(|name| !name.is_empty()).collect();
        let wrong = |reason: String| EngineError::Split { path: self.path.clone(), reason, splits: names() };
        let wanted = match split {
            Some(wanted) => wanted,
            None => self.default_split().ok_or_else(|| wrong("choose a split with `--split`".to_owned()))?,
        };
        let found = self.splits.iter().find(|(name, _)| name == wanted);
        let (_, layout) = found.ok_or_else(|| wrong(format!("no split `{wanted}`")))?;
        let all = layout.open(&self.preprocess)?;
        if all.is_empty() {
            return Err(EngineError::bad_data(&self.path, "no sample was found"));
        }
        Ok(match limit {
            Some(limit) if limit < all.len() => Box::new(Spread { all, limit }),
            _ => all,
        })
    }
}

/// Some samples of a data set, at even distances, so that sorted classes stay balanced.
struct Spread {
    all: Box<dyn Dataset>,
    limit: usize,
}

impl Dataset for Spread {
    fn len(&self) -> usize {
        self.limit
    }

    fn images(&self) -> bool {
        self.all.images()
    }

    fn sample(&self, index: usize) -> Result<Sample, EngineError> {
        let position = (index as u128 * self.all.len() as u128 / self.limit.max(1) as u128) as usize;
        self.all.sample(position)
    }
}
