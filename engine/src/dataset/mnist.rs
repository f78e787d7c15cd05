//! MNIST's IDX files: a header of big-endian numbers, then one byte a pixel or a label.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;

use super::{Dataset, Label, Sample};
use crate::error::EngineError;
use crate::preprocess::{Pixels, Preprocess};

/// Images and, where they are there, labels.
pub struct Mnist {
    path: PathBuf,
    preprocess: Preprocess,
    height: usize,
    width: usize,
    pixels: Vec<u8>,
    labels: Option<Vec<u8>>,
}

impl Mnist {
    /// Reads both files, plain or gzip-compressed.
    ///
    /// # Errors
    /// [`EngineError::Read`], or [`EngineError::BadData`] where a file is no IDX file, is cut short, or the counts differ.
    pub fn open(images: &Path, labels: Option<&Path>, preprocess: &Preprocess) -> Result<Self, EngineError> {
        let (shape, pixels) = read_idx(images, 3)?;
        let &[count, height, width] = shape.as_slice() else {
            return Err(EngineError::bad_data(images, "expected three axes"));
        };
        let labels = match labels {
            None => None,
            Some(path) => {
                let (_, labels) = read_idx(path, 1)?;
                if labels.len() != count {
                    let reason = format!("{} labels for the {count} images of {}", labels.len(), images.display());
                    return Err(EngineError::bad_data(path, reason));
                }
                Some(labels)
            }
        };
        let preprocess = preprocess.clone();
        Ok(Self { path: images.to_path_buf(), preprocess, height, width, pixels, labels })
    }
}

impl Dataset for Mnist {
    fn len(&self) -> usize {
        self.pixels.len() / (self.height * self.width).max(1)
    }

    fn sample(&self, index: usize) -> Result<Sample, EngineError> {
        let name = format!("{}, image {index}", self.path.display());
        let area = self.height * self.width;
        let values = self.pixels.get(index * area..(index + 1) * area).unwrap_or_default().to_vec();
        let pixels = Pixels { height: self.height, width: self.width, channels: 1, values };
        let inputs = vec![self.preprocess.tensor(&pixels, &name)?];
        let label = self.labels.as_ref().and_then(|labels| labels.get(index));
        let label = label.map_or(Label::None, |&label| Label::Class(usize::from(label)));
        Ok(Sample { name, inputs, label, batches: true })
    }
}

/// Shape and bytes of the IDX file of unsigned bytes at `path`, which must have `axes` axes.
fn read_idx(path: &Path, axes: usize) -> Result<(Vec<usize>, Vec<u8>), EngineError> {
    let wrong = |reason: String| EngineError::bad_data(path, reason);
    let mut file = File::open(path).map_err(EngineError::read(path))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(EngineError::read(path))?;
    if bytes.starts_with(&[0x1f, 0x8b]) {
        let mut plain = Vec::new();
        GzDecoder::new(bytes.as_slice()).read_to_end(&mut plain).map_err(EngineError::read(path))?;
        bytes = plain;
    }
    let header = 4 + 4 * axes;
    let magic = [0, 0, 8, axes as u8];
    if bytes.len() < header || bytes[..4] != magic {
        return Err(wrong(format!(
            "not an IDX file of unsigned bytes with {axes} axes: it does not start with {magic:?}"
        )));
    }
    let lengths = bytes[4..header].as_chunks::<4>().0;
    let shape: Vec<usize> = lengths.iter().map(|length| u32::from_be_bytes(*length) as usize).collect();
    let expected = shape.iter().try_fold(1usize, |product, &length| product.checked_mul(length));
    if expected != Some(bytes.len() - header) {
        return Err(wrong(format!("shape {shape:?} does not match the {} bytes that follow", bytes.len() - header)));
    }
    bytes.drain(..header);
    Ok((shape, bytes))
}
