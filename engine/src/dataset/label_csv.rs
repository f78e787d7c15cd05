//! Images and a CSV of `file,class`: the class is a number, or a line of a `classes.txt` beside the CSV.

use std::path::Path;

use super::files::class_names;
use super::image_folder::ImageFolder;
use crate::error::EngineError;
use crate::preprocess::Preprocess;

/// The images that `csv` names, in its order; paths are relative to the CSV's folder.
///
/// # Errors
/// [`EngineError::Read`], or [`EngineError::BadData`] where a line is no pair of a file and a class.
pub fn open(csv: &Path, preprocess: &Preprocess) -> Result<ImageFolder, EngineError> {
    let text = std::fs::read_to_string(csv).map_err(EngineError::read(csv))?;
    let folder = csv.parent().unwrap_or(Path::new("."));
    let names = class_names(&[folder])?;
    let mut files = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        let pair = line.rsplit_once(',').map(|(file, class)| (unquoted(file), unquoted(class)));
        let class = pair.and_then(|(_, class)| {
            let listed = || names.as_ref().and_then(|names| names.iter().position(|name| name == class));
            class.parse::<usize>().ok().or_else(listed)
        });
        match (pair, class) {
            (Some((file, _)), Some(class)) => files.push((folder.join(file), Some(class))),
            (Some((file, _)), None) if number == 0 && !folder.join(file).is_file() => (),
            _ => {
                let reason = format!(
                    "line {} is `{line}`: expected a file, a comma, and a class as a number (or as a line of \
                     `classes.txt` beside the CSV)",
                    number + 1
                );
                return Err(EngineError::bad_data(csv, reason));
            }
        }
    }
    Ok(ImageFolder::new(files, preprocess))
}

fn unquoted(field: &str) -> &str {
    let field = field.trim();
    field.strip_prefix('"').and_then(|field| field.strip_suffix('"')).unwrap_or(field)
}
