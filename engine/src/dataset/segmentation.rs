//! Image files whose label is another image, with one class for each pixel.

use std::path::{Path, PathBuf};

use super::files::{image_tensor, images, pixel_labels, stem};
use super::{Dataset, Label, Sample};
use crate::error::EngineError;
use crate::preprocess::Preprocess;

/// Image files in a fixed order, each with its label image if there is one.
pub struct PixelFolder {
    files: Vec<(PathBuf, Option<PathBuf>)>,
    preprocess: Preprocess,
}

impl PixelFolder {
    /// Files with their label images.
    pub fn new(files: Vec<(PathBuf, Option<PathBuf>)>, preprocess: &Preprocess) -> Self {
        Self { files, preprocess: preprocess.clone() }
    }

    /// The images of `folder` with the label images of the same name (the ending may differ) in `labels`.
    ///
    /// # Errors
    /// [`EngineError::Read`].
    pub fn of_pairs(folder: &Path, labels: &Path, preprocess: &Preprocess) -> Result<Self, EngineError> {
        let known = images(labels)?;
        let label = |file: &Path| known.iter().find(|label| stem(label) == stem(file)).cloned();
        let files = images(folder)?.into_iter().map(|file| (file.clone(), label(&file))).collect();
        Ok(Self::new(files, preprocess))
    }
}

impl Dataset for PixelFolder {
    fn len(&self) -> usize {
        self.files.len()
    }

    fn sample(&self, index: usize) -> Result<Sample, EngineError> {
        let (path, label) = self.files.get(index).ok_or_else(|| EngineError::bad_data("", "no such sample"))?;
        let inputs = vec![image_tensor(path, &self.preprocess)?];
        let label = match label {
            Some(label) => Label::Pixels(pixel_labels(label)?),
            None => Label::None,
        };
        Ok(Sample { name: path.display().to_string(), inputs, label, batches: true })
    }
}
