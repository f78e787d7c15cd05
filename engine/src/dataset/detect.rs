//! Finding out what a folder holds.

use std::path::{Path, PathBuf};

use super::files::{entries, folders, has_ending, images, is_image, name, stem};
use super::{Dataset, cityscapes, image_folder, label_csv, mnist, numpy, onnx_test_data, segmentation};
use crate::error::EngineError;
use crate::preprocess::Preprocess;

/// What one split of a folder holds, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Layout {
    /// A pair of IDX files.
    Mnist {
        /// Images.
        images: PathBuf,
        /// Labels, where they are there.
        labels: Option<PathBuf>,
    },
    /// One folder for each class.
    ClassFolders {
        /// The folder of the class folders.
        folder: PathBuf,
        /// The folder above it, whose other splits share the order of classes; the same where there are no splits.
        root: PathBuf,
    },
    /// Images without labels.
    Images {
        /// Their folder.
        folder: PathBuf,
    },
    /// Images and a CSV of `file,class`.
    LabelCsv {
        /// The CSV; files are relative to its folder.
        csv: PathBuf,
    },
    /// Images and labels for each pixel, under the same names.
    Segmentation {
        /// Folder of the images.
        images: PathBuf,
        /// Folder of the labels.
        labels: PathBuf,
    },
    /// Cityscapes.
    Cityscapes {
        /// The folder of `leftImg8bit` and `gtFine`.
        root: PathBuf,
        /// The split.
        split: String,
    },
    /// Arrays.
    Numpy {
        /// One `.npz`, or the `.npy` files of a folder.
        files: Vec<PathBuf>,
    },
    /// Test data as ONNX's own models carry it.
    OnnxTestData {
        /// The folders, one a sample.
        sets: Vec<PathBuf>,
    },
}

impl Layout {
    /// The samples.
    pub(super) fn open(&self, preprocess: &Preprocess) -> Result<Box<dyn Dataset>, EngineError> {
        Ok(match self {
            Self::Mnist { images, labels } => Box::new(mnist::Mnist::open(images, labels.as_deref(), preprocess)?),
            Self::ClassFolders { folder, root } => {
                Box::new(image_folder::ImageFolder::of_classes(folder, root, preprocess)?)
            }
            Self::Images { folder } => Box::new(image_folder::ImageFolder::unlabelled(folder, preprocess)?),
            Self::LabelCsv { csv } => Box::new(label_csv::open(csv, preprocess)?),
            Self::Segmentation { images, labels } => {
                Box::new(segmentation::PixelFolder::of_pairs(images, labels, preprocess)?)
            }
            Self::Cityscapes { root, split } => Box::new(cityscapes::open(root, split, preprocess)?),
            Self::Numpy { files } => Box::new(numpy::Arrays::open(files, preprocess)?),
            Self::OnnxTestData { sets } => Box::new(onnx_test_data::TestSets::open(sets, preprocess)?),
        })
    }
}

/// The splits at `path` with what each holds; a single one without a name where there are no splits.
pub(super) fn splits(path: &Path) -> Result<Vec<(String, Layout)>, EngineError> {
    if path.is_file() {
        let layout = of_file(path).ok_or_else(|| EngineError::UnknownLayout { path: path.to_path_buf() })?;
        return Ok(vec![(String::new(), layout)]);
    }
    // Readings are listed from the most specific to the least; each that finds something is a candidate.
    let found: Vec<(&str, Vec<(String, Layout)>)> = vec![
        ("MNIST's IDX files", mnist_pairs(path)?),
        ("a Cityscapes folder (`leftImg8bit`)", cityscapes_splits(path)?),
        ("image and label folders (`X` and `Xannot`)", annotated_folders(path)?),
        ("ONNX test data (`test_data_set_N`)", single(test_sets(path)?)),
        ("arrays (`.npz`, `.npy`)", arrays(path)?),
        ("images with labels in a CSV", single(label_csv_in(path)?)),
        ("splits in folders (`train`, `test`)", split_folders(path)?),
        ("one folder for each class", single(class_folders(path, path)?)),
    ];
    let mut found: Vec<_> = found.into_iter().filter(|(_, splits)| !splits.is_empty()).collect();
    // Folders named as splits hold class folders' parents, so both readings can never be meant by one folder.
    if found.iter().any(|(reading, _)| reading.starts_with("splits") || reading.starts_with("image and label")) {
        found.retain(|(reading, _)| !reading.starts_with("one folder"));
    }
    if found.iter().any(|(reading, _)| reading.starts_with("image and label")) {
        found.retain(|(reading, _)| !reading.starts_with("splits"));
    }
    match found.len() {
        0 if !images(path)?.is_empty() => Ok(vec![(String::new(), Layout::Images { folder: path.to_path_buf() })]),
        0 => Err(EngineError::UnknownLayout { path: path.to_path_buf() }),
        1 => Ok(found.swap_remove(0).1),
        _ => {
            let readings = found.into_iter().map(|(reading, _)| reading.to_owned()).collect();
            Err(EngineError::AmbiguousLayout { path: path.to_path_buf(), readings })
        }
    }
}

fn single(layout: Option<Layout>) -> Vec<(String, Layout)> {
    layout.map(|layout| (String::new(), layout)).into_iter().collect()
}

fn of_file(path: &Path) -> Option<Layout> {
    if has_ending(path, &["npz", "npy"]) {
        return Some(Layout::Numpy { files: vec![path.to_path_buf()] });
    }
    has_ending(path, &["csv"]).then(|| Layout::LabelCsv { csv: path.to_path_buf() })
}

fn mnist_pairs(path: &Path) -> Result<Vec<(String, Layout)>, EngineError> {
    let files = entries(path)?;
    let mut pairs: Vec<(String, Layout)> = Vec::new();
    for file in &files {
        let name = name(file);
        let Some(prefix) = ["-images-idx3-ubyte", "-images.idx3-ubyte"]
            .iter()
            .find_map(|mark| name.strip_suffix(".gz").unwrap_or(&name).strip_suffix(mark))
        else {
            continue;
        };
        let split = if prefix == "t10k" { "test" } else { prefix };
        let is_label = |other: &&PathBuf| {
            let other = super::files::name(other);
            other.starts_with(&format!("{prefix}-labels")) && other.contains("idx1-ubyte")
        };
        let layout = Layout::Mnist { images: file.clone(), labels: files.iter().find(is_label).cloned() };
        // A plain file and its compressed twin are the same samples; the first by name is read.
        if !pairs.iter().any(|(known, _)| known == split) {
            pairs.push((split.to_owned(), layout));
        }
    }
    Ok(pairs)
}

fn cityscapes_splits(path: &Path) -> Result<Vec<(String, Layout)>, EngineError> {
    let images = path.join("leftImg8bit");
    if !images.is_dir() {
        return Ok(Vec::new());
    }
    let splits = folders(&images)?.into_iter().map(|folder| {
        let split = name(&folder);
        (split.clone(), Layout::Cityscapes { root: path.to_path_buf(), split })
    });
    Ok(splits.collect())
}

fn annotated_folders(path: &Path) -> Result<Vec<(String, Layout)>, EngineError> {
    let pairs = folders(path)?.into_iter().filter_map(|images| {
        let split = name(&images);
        let labels = path.join(format!("{split}annot"));
        labels.is_dir().then_some((split, Layout::Segmentation { images, labels }))
    });
    Ok(pairs.collect())
}

fn test_sets(path: &Path) -> Result<Option<Layout>, EngineError> {
    if path.join("input_0.pb").is_file() {
        return Ok(Some(Layout::OnnxTestData { sets: vec![path.to_path_buf()] }));
    }
    let number = |set: &Path| name(set).strip_prefix("test_data_set_").and_then(|number| number.parse::<u64>().ok());
    let mut sets: Vec<PathBuf> = folders(path)?.into_iter().filter(|set| number(set).is_some()).collect();
    sets.sort_by_key(|set| number(set));
    Ok((!sets.is_empty()).then_some(Layout::OnnxTestData { sets }))
}

/// One `.npz` for each split, or one in all; or the `.npy` files of the folder, each an input or the labels.
fn arrays(path: &Path) -> Result<Vec<(String, Layout)>, EngineError> {
    let files = entries(path)?;
    let archives: Vec<&PathBuf> = files.iter().filter(|file| has_ending(file, &["npz"])).collect();
    if let [archive] = archives.as_slice() {
        return Ok(vec![(String::new(), Layout::Numpy { files: vec![(*archive).clone()] })]);
    }
    let plain: Vec<PathBuf> = files.iter().filter(|file| has_ending(file, &["npy"])).cloned().collect();
    let mut found: Vec<(String, Layout)> =
        archives.iter().map(|file| (stem(file), Layout::Numpy { files: vec![(*file).clone()] })).collect();
    if !plain.is_empty() {
        found.push((String::new(), Layout::Numpy { files: plain }));
    }
    Ok(found)
}

fn label_csv_in(path: &Path) -> Result<Option<Layout>, EngineError> {
    let tables: Vec<PathBuf> = entries(path)?.into_iter().filter(|file| has_ending(file, &["csv"])).collect();
    let named = tables.iter().find(|file| name(file) == "labels.csv");
    let chosen = named.or(if tables.len() == 1 { tables.first() } else { None });
    Ok(chosen.map(|csv| Layout::LabelCsv { csv: csv.clone() }))
}

fn split_folders(path: &Path) -> Result<Vec<(String, Layout)>, EngineError> {
    const SPLITS: [&str; 7] = ["train", "training", "test", "testing", "val", "valid", "validation"];
    let mut found = Vec::new();
    for folder in folders(path)? {
        let split = name(&folder);
        if !SPLITS.contains(&split.as_str()) {
            continue;
        }
        let layout = match label_csv_in(&folder)? {
            Some(layout) => Some(layout),
            None => class_folders(&folder, path)?,
        };
        let plain =
            || images(&folder).map(|images| (!images.is_empty()).then(|| Layout::Images { folder: folder.clone() }));
        if let Some(layout) = layout.map_or_else(plain, |layout| Ok(Some(layout)))? {
            found.push((split, layout));
        }
    }
    Ok(found)
}

fn class_folders(path: &Path, root: &Path) -> Result<Option<Layout>, EngineError> {
    for folder in folders(path)? {
        if entries(&folder)?.iter().any(|file| is_image(file)) {
            return Ok(Some(Layout::ClassFolders { folder: path.to_path_buf(), root: root.to_path_buf() }));
        }
    }
    Ok(None)
}
