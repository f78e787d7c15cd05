//! External data: tensors whose bytes lie in another file of the model's folder.

use std::path::{Component, Path, PathBuf};

use bytes::Bytes;
use onnx_dcomp_proto::TensorProto;

use crate::error::{TensorProblem, shape_text};
use crate::{mapped, marker, tensors};

/// The files with external data that were mapped so far.
pub(super) struct ExternalFiles {
    folder: Option<PathBuf>,
    files: Vec<ExternalFile>,
}

struct ExternalFile {
    location: String,
    path: PathBuf,
    bytes: Bytes,
}

impl ExternalFiles {
    /// None yet; they are looked for in `folder`.
    pub(super) fn new(folder: Option<&Path>) -> Self {
        Self { folder: folder.map(Path::to_owned), files: Vec::new() }
    }

    /// The files in the order of first use.
    pub(super) fn into_files(self) -> Vec<(PathBuf, Bytes)> {
        self.files.into_iter().map(|file| (file.path, file.bytes)).collect()
    }

    /// Makes the external data of `tensor` its raw data, which shares the file's map.
    pub(super) fn join(&mut self, tensor: &mut TensorProto) -> Result<(), TensorProblem> {
        let entry = |key: &str| tensor.external_data.iter().find(|entry| entry.key() == key).map(|entry| entry.value());
        let location =
            entry("location").filter(|location| !location.is_empty()).ok_or(TensorProblem::ExternalEntry {
                key: "location",
                found: "missing".to_owned(),
                expected: "the name of a file",
            })?;
        let offset = number("offset", entry("offset"))?.unwrap_or(0);
        let length = number("length", entry("length"))?;
        let needed = match tensors::element_bits(tensor.data_type()) {
            Some(bits) => {
                let count = tensors::element_count(&tensor.dims)?;
                Some((count as u128 * bits as u128).div_ceil(8) as u64)
            }
            None => None,
        };
        if let (Some(needed), Some(found)) = (needed, length)
            && needed != found
        {
            let shape = shape_text(&tensor.dims);
            return Err(TensorProblem::Size { shape, needed, found, unit: "bytes of external data" });
        }
        let file = self.file(location)?;
        let found = file.bytes.len() as u64;
        let end = match needed.or(length) {
            Some(length) => offset.saturating_add(length),
            None => found.max(offset),
        };
        if end > found {
            return Err(TensorProblem::ExternalShort { file: file.path.clone(), start: offset, end, found });
        }
        let bytes = file.bytes.slice(offset as usize..end as usize);
        marker::clear_data(tensor);
        tensor.raw_data = Some(bytes);
        Ok(())
    }

    fn file(&mut self, location: &str) -> Result<&ExternalFile, TensorProblem> {
        let at = match self.files.iter().position(|file| file.location == location) {
            Some(at) => at,
            None => {
                let path = self.resolve(location)?;
                let bytes =
                    mapped::map(&path).map_err(|source| TensorProblem::ExternalRead { file: path.clone(), source })?;
                self.files.push(ExternalFile { location: location.to_owned(), path, bytes });
                self.files.len() - 1
            }
        };
        Ok(&self.files[at])
    }

    /// The file that `location` names, proven to lie in the folder after all links were followed.
    fn resolve(&self, location: &str) -> Result<PathBuf, TensorProblem> {
        let folder = self.folder.as_deref().ok_or_else(|| TensorProblem::NoFolder { location: location.to_owned() })?;
        let outside = |reason| TensorProblem::OutsideFolder { location: location.to_owned(), reason };
        for component in Path::new(location).components() {
            match component {
                Component::Normal(_) | Component::CurDir => {}
                Component::ParentDir => return Err(outside("climbs out of the folder with `..`")),
                Component::RootDir | Component::Prefix(_) => return Err(outside("is an absolute path")),
            }
        }
        let path = folder.join(location);
        let real = |path: &Path| {
            path.canonicalize().map_err(|source| TensorProblem::ExternalRead { file: path.to_owned(), source })
        };
        if !real(&path)?.starts_with(real(folder)?) {
            return Err(outside("is a link that leads out of the folder"));
        }
        Ok(path)
    }
}

fn number(key: &'static str, text: Option<&str>) -> Result<Option<u64>, TensorProblem> {
    let parse = |text: &str| {
        text.trim().parse().map_err(|_| TensorProblem::ExternalEntry {
            key,
            found: format!("`{text}`"),
            expected: "a number of bytes",
        })
    };
    text.map(parse).transpose()
}
