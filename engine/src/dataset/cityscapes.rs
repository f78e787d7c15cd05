//! The layout of the Cityscapes distribution.
//!
//! `leftImg8bit/SPLIT/CITY/NAME_leftImg8bit.png` with `gtFine/SPLIT/CITY/NAME_gtFine_labelTrainIds.png`. Frames without
//! labels are samples too: they count for agreement.

use std::path::Path;

use super::files::{folders, images, name};
use super::segmentation::PixelFolder;
use crate::error::EngineError;
use crate::preprocess::Preprocess;

/// The frames of one split, city by city.
///
/// # Errors
/// [`EngineError::Read`].
pub fn open(root: &Path, split: &str, preprocess: &Preprocess) -> Result<PixelFolder, EngineError> {
    let mut files = Vec::new();
    for city in folders(&root.join("leftImg8bit").join(split))? {
        let labels = root.join("gtFine").join(split).join(name(&city));
        for frame in images(&city)? {
            let stem = super::files::stem(&frame);
            let stem = stem.strip_suffix("_leftImg8bit").unwrap_or(&stem);
            let label = labels.join(format!("{stem}_gtFine_labelTrainIds.png"));
            files.push((frame, Some(label).filter(|label| label.is_file())));
        }
    }
    Ok(PixelFolder::new(files, preprocess))
}
