//! Image files whose label, if any, is one class.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::files::{class_names, folders, image_tensor, images, name};
use super::{Dataset, Label, Sample};
use crate::error::EngineError;
use crate::preprocess::Preprocess;

/// Image files in a fixed order, each with its class if that is known.
pub struct ImageFolder {
    files: Vec<(PathBuf, Option<usize>)>,
    preprocess: Preprocess,
}

impl ImageFolder {
    /// Files with their classes.
    pub fn new(files: Vec<(PathBuf, Option<usize>)>, preprocess: &Preprocess) -> Self {
        Self { files, preprocess: preprocess.clone() }
    }

    /// The images of `folder`, whose classes nobody knows.
    ///
    /// # Errors
    /// [`EngineError::Read`].
    pub fn unlabelled(folder: &Path, preprocess: &Preprocess) -> Result<Self, EngineError> {
        Ok(Self::new(images(folder)?.into_iter().map(|file| (file, None)).collect(), preprocess))
    }

    /// The images in the folders of `folder`, each of which is a class.
    ///
    /// A class is the line (from 0) of its folder's name in `classes.txt`, in `folder` or in `root`; without that file
    /// it is the name itself where every name is a number, or its rank among the sorted names of all splits in `root`.
    ///
    /// # Errors
    /// [`EngineError::Read`], or [`EngineError::BadData`] where a folder is not in `classes.txt`, or where the order of
    /// the classes cannot be known because there are fewer folders than the model has classes.
    pub fn of_classes(folder: &Path, root: &Path, preprocess: &Preprocess) -> Result<Self, EngineError> {
        let order = ClassOrder::find(folder, root, preprocess)?;
        let mut files = Vec::new();
        for class in folders(folder)? {
            let inside = images(&class)?;
            if inside.is_empty() {
                continue;
            }
            let label = order.label(&class)?;
            files.extend(inside.into_iter().map(|file| (file, Some(label))));
        }
        Ok(Self::new(files, preprocess))
    }
}

impl Dataset for ImageFolder {
    fn len(&self) -> usize {
        self.files.len()
    }

    fn sample(&self, index: usize) -> Result<Sample, EngineError> {
        let (path, class) = self.files.get(index).ok_or_else(|| EngineError::bad_data("", "no such sample"))?;
        let inputs = vec![image_tensor(path, &self.preprocess)?];
        let label = class.map_or(Label::None, Label::Class);
        Ok(Sample { name: path.display().to_string(), inputs, label, batches: true })
    }
}

/// Which number each class folder has.
enum ClassOrder {
    Listed(Vec<String>),
    Numbers,
    Sorted(Vec<String>),
}

impl ClassOrder {
    fn find(folder: &Path, root: &Path, preprocess: &Preprocess) -> Result<Self, EngineError> {
        if let Some(names) = class_names(&[folder, root])? {
            return Ok(Self::Listed(names));
        }
        // Splits share the order of classes, also of those that only one of them has.
        let parents = if folder == root { vec![folder.to_path_buf()] } else { folders(root)? };
        let mut names = BTreeSet::new();
        for parent in &parents {
            for class in folders(parent)? {
                if !images(&class)?.is_empty() {
                    names.insert(name(&class));
                }
            }
        }
        if names.iter().all(|name| name.parse::<usize>().is_ok()) {
            return Ok(Self::Numbers);
        }
        if let Some(classes) = preprocess.classes.filter(|&classes| classes > names.len()) {
            let reason = format!(
                "{} class folders for a model of {classes} classes: add a `classes.txt` with the {classes} names in the \
                 model's order, one a line",
                names.len()
            );
            return Err(EngineError::bad_data(folder, reason));
        }
        Ok(Self::Sorted(names.into_iter().collect()))
    }

    fn label(&self, folder: &Path) -> Result<usize, EngineError> {
        let name = name(folder);
        let label = match self {
            Self::Listed(names) | Self::Sorted(names) => names.iter().position(|known| *known == name),
            Self::Numbers => name.parse().ok(),
        };
        label.ok_or_else(|| EngineError::bad_data(folder, format!("`{name}` is not in `classes.txt`")))
    }
}
