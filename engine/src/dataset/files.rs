//! Listing folders and decoding image files.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::PixelLabels;
use crate::error::EngineError;
use crate::preprocess::{Color, Pixels, Preprocess};
use crate::tensor::Tensor;

/// Endings of files that can be decoded.
const IMAGES: [&str; 4] = ["png", "jpg", "jpeg", "bmp"];

/// What `folder` holds, sorted by name; hidden entries are left out.
pub(super) fn entries(folder: &Path) -> Result<Vec<PathBuf>, EngineError> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(EngineError::read(folder))? {
        let path = entry.map_err(EngineError::read(folder))?.path();
        if !name(&path).starts_with('.') {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// The folders in `folder`, sorted by name.
pub(super) fn folders(folder: &Path) -> Result<Vec<PathBuf>, EngineError> {
    Ok(entries(folder)?.into_iter().filter(|path| path.is_dir()).collect())
}

/// The images in `folder`, sorted by name.
pub(super) fn images(folder: &Path) -> Result<Vec<PathBuf>, EngineError> {
    Ok(entries(folder)?.into_iter().filter(|path| is_image(path)).collect())
}

pub(super) fn is_image(path: &Path) -> bool {
    has_ending(path, &IMAGES) && path.is_file()
}

pub(super) fn has_ending(path: &Path, endings: &[&str]) -> bool {
    let ending = path.extension().and_then(OsStr::to_str).map(str::to_ascii_lowercase);
    ending.is_some_and(|ending| endings.contains(&ending.as_str()))
}

/// The last part of `path`; what is no Unicode is shown with replacement characters.
pub(super) fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The last part of `path` without its ending.
pub(super) fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// The image at `path` as the model's input.
pub(super) fn image_tensor(path: &Path, preprocess: &Preprocess) -> Result<Tensor, EngineError> {
    let (_, format) = preprocess.image_input()?;
    let decoded = decode(path)?;
    let (width, height) = (decoded.width() as usize, decoded.height() as usize);
    let (channels, values) = match format.color {
        Color::Gray if !decoded.color().has_color() => (1, decoded.into_luma8().into_raw()),
        _ => (3, decoded.into_rgb8().into_raw()),
    };
    preprocess.tensor(&Pixels { height, width, channels, values }, &path.display().to_string())
}

/// The labels in the image at `path`, which has one channel of 8 bits.
pub(super) fn pixel_labels(path: &Path) -> Result<PixelLabels, EngineError> {
    let decoded = decode(path)?;
    let (width, height) = (decoded.width() as usize, decoded.height() as usize);
    match decoded {
        image::DynamicImage::ImageLuma8(gray) => Ok(PixelLabels { height, width, classes: gray.into_raw() }),
        other => Err(EngineError::bad_data(
            path,
            format!(
                "labels must be an image of one 8-bit channel that holds class numbers, found {:?}; convert colours or \
                 palettes to class numbers first",
                other.color()
            ),
        )),
    }
}

fn decode(path: &Path) -> Result<image::DynamicImage, EngineError> {
    let reader = image::ImageReader::open(path).map_err(EngineError::read(path))?;
    let reader = reader.with_guessed_format().map_err(EngineError::read(path))?;
    reader.decode().map_err(|error| EngineError::bad_data(path, format!("cannot decode the image: {error}")))
}

/// The lines of a `classes.txt` in one of `folders`, the first that has one.
pub(super) fn class_names(folders: &[&Path]) -> Result<Option<Vec<String>>, EngineError> {
    for folder in folders {
        let path = folder.join("classes.txt");
        if path.is_file() {
            let text = std::fs::read_to_string(&path).map_err(EngineError::read(&path))?;
            return Ok(Some(text.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect()));
        }
    }
    Ok(None)
}
