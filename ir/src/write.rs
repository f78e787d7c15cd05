//! From model to file: plain ONNX, every weight a dense tensor of its own type.
//!
//! The message is encoded around the weights, whose bytes are streamed one weight at a time, so that saving needs
//! little more memory than the graph and the largest weight that is not dense.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::encode::{Encoder, External, write_aligned};
use crate::{IrError, Model};

/// How [`Model::save_with`] lays out files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SaveOptions {
    /// The most bytes that one file may have; larger models put their tensors into a second file. Default: 2³¹ − 1,
    /// where the readers of protobuf end.
    pub largest_file_bytes: u64,
    /// Tensors of fewer bytes stay in the main file even then. Default: 1024.
    pub inline_below_bytes: u64,
    /// Tensors in the second file start at multiples of this, so that readers can map them. Default: 4096.
    pub alignment_bytes: u64,
}

impl Default for SaveOptions {
    fn default() -> Self {
        Self { largest_file_bytes: i32::MAX as u64, inline_below_bytes: 1024, alignment_bytes: 4096 }
    }
}

/// The files that [`Model::save`] wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedFiles {
    /// The main file.
    pub model: PathBuf,
    /// Its size.
    pub model_bytes: u64,
    /// The file with external data, where one was needed.
    pub external: Option<PathBuf>,
    /// Its size; 0 where there is none.
    pub external_bytes: u64,
}

impl SavedFiles {
    /// Bytes of all files together.
    pub fn total_bytes(&self) -> u64 {
        self.model_bytes + self.external_bytes
    }
}

impl Model {
    /// The model as one plain ONNX message, whatever its size.
    ///
    /// # Errors
    /// [`IrError::Unsound`] where a marker leads to no weight: a bug of a pass, which [`Model::verify`] finds too.
    pub fn to_bytes(&self) -> Result<Vec<u8>, IrError> {
        let pieces = Encoder { model: self, external: None }.of_model(self.proto.clone())?;
        let mut bytes = Vec::with_capacity(usize::try_from(pieces.bytes).unwrap_or_default());
        // Writing into memory cannot fail.
        pieces.write(self, &mut bytes).map_err(|source| IrError::Write { file: PathBuf::from("memory"), source })?;
        Ok(bytes)
    }

    /// The number of bytes that [`Self::to_bytes`] gives, found without making them.
    ///
    /// # Errors
    /// As [`Self::to_bytes`].
    pub fn plain_bytes(&self) -> Result<u64, IrError> {
        Ok(Encoder { model: self, external: None }.of_model(self.proto.clone())?.bytes)
    }

    /// Streams the model as one plain ONNX message, and gives its size in bytes.
    ///
    /// # Errors
    /// As [`Self::to_bytes`], and [`IrError::Write`] where `into` fails.
    pub fn write(&self, into: &mut impl Write) -> Result<u64, IrError> {
        let pieces = Encoder { model: self, external: None }.of_model(self.proto.clone())?;
        pieces.write(self, into).map_err(|source| IrError::Write { file: PathBuf::from("stream"), source })?;
        Ok(pieces.bytes)
    }

    /// Writes the model to `path` as plain ONNX, beside it first and then by renaming: whatever fails, the old file
    /// stays. A model over 2 GB gets a second file, `path` with `.data` appended.
    ///
    /// # Errors
    /// As [`Self::to_bytes`], and [`IrError::Write`] where the system does not take a file.
    pub fn save(&self, path: &Path) -> Result<SavedFiles, IrError> {
        self.save_with(path, &SaveOptions::default())
    }

    /// [`Self::save`] with another layout.
    ///
    /// # Errors
    /// As [`Self::save`], and [`IrError::TooLarge`] where the main file stays too large.
    pub fn save_with(&self, path: &Path, options: &SaveOptions) -> Result<SavedFiles, IrError> {
        let pieces = Encoder { model: self, external: None }.of_model(self.proto.clone())?;
        if pieces.bytes <= options.largest_file_bytes {
            let file = Beside::write(path, |into| pieces.write(self, into))?;
            file.rename()?;
            return Ok(SavedFiles {
                model: path.to_owned(),
                model_bytes: pieces.bytes,
                external: None,
                external_bytes: 0,
            });
        }
        let cannot = |source| IrError::Write { file: path.to_owned(), source };
        let name = path.file_name().ok_or_else(|| cannot(io::Error::from(io::ErrorKind::InvalidFilename)))?;
        let name = name.to_str().ok_or_else(|| {
            cannot(io::Error::new(io::ErrorKind::InvalidFilename, "external data needs a name in Unicode"))
        })?;
        let external_name = format!("{name}.data");
        let external_path = path.with_file_name(&external_name);
        let external = External { location: external_name, options, end: 0, pieces: Vec::new() };
        let mut encoder = Encoder { model: self, external: Some(external) };
        let pieces = encoder.of_model(self.proto.clone())?;
        if pieces.bytes > options.largest_file_bytes {
            let limit = options.largest_file_bytes;
            return Err(IrError::TooLarge { file: path.to_owned(), bytes: pieces.bytes, limit });
        }
        let external = encoder.external.map(|external| (external.end, external.pieces)).unwrap_or_default();
        let data = Beside::write(&external_path, |into| write_aligned(self, &external.1, into))?;
        let main = Beside::write(path, |into| pieces.write(self, into))?;
        // The old data goes aside until the new model stands, so that a failure leaves the old pair.
        let old = data.set_aside()?;
        data.rename().and_then(|()| main.rename()).inspect_err(|_| old.restore())?;
        old.discard();
        Ok(SavedFiles {
            model: path.to_owned(),
            model_bytes: pieces.bytes,
            external: Some(external_path),
            external_bytes: external.0,
        })
    }
}

/// A file that is complete, but still beside its place.
struct Beside<'a> {
    file: NamedTempFile,
    path: &'a Path,
}

impl<'a> Beside<'a> {
    fn write(path: &'a Path, write: impl FnOnce(&mut BufWriter<&File>) -> io::Result<()>) -> Result<Self, IrError> {
        let cannot = |source| IrError::Write { file: path.to_owned(), source };
        if path.is_dir() {
            return Err(cannot(io::Error::from(io::ErrorKind::IsADirectory)));
        }
        let file = temporary_beside(path).map_err(cannot)?;
        let mut into = BufWriter::with_capacity(1 << 16, file.as_file());
        write(&mut into).and_then(|()| into.flush()).map_err(cannot)?;
        drop(into);
        // A full disk may show only here.
        file.as_file().sync_all().map_err(cannot)?;
        Ok(Self { file, path })
    }

    fn rename(self) -> Result<(), IrError> {
        let path = self.path;
        self.file.persist(path).map_err(|error| IrError::Write { file: path.to_owned(), source: error.error })?;
        Ok(())
    }

    /// Renames the file that stands in this one's place, if there is one.
    fn set_aside(&self) -> Result<SetAside<'a>, IrError> {
        let cannot = |source| IrError::Write { file: self.path.to_owned(), source };
        if !self.path.exists() {
            return Ok(SetAside { old: None, path: self.path });
        }
        let place = temporary_beside(self.path).map_err(cannot)?.into_temp_path();
        std::fs::rename(self.path, &place).map_err(cannot)?;
        Ok(SetAside { old: Some(place), path: self.path })
    }
}

/// What stood in a file's place before. Dropping it removes it.
struct SetAside<'a> {
    old: Option<tempfile::TempPath>,
    path: &'a Path,
}

impl SetAside<'_> {
    fn restore(&self) {
        match &self.old {
            // Where even this fails there is nothing left to try; the first error is on its way to the user.
            Some(old) => drop(std::fs::rename(old, self.path)),
            None => drop(std::fs::remove_file(self.path)),
        }
    }

    fn discard(self) {}
}

/// An empty file in the folder of `path`, removed when dropped, with the permissions that new files get.
fn temporary_beside(path: &Path) -> io::Result<NamedTempFile> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut builder = tempfile::Builder::new();
    builder.prefix(".onnx-dcomp-").suffix(".part");
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_set_aside_comes_back_when_the_new_file_fails() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.onnx.data");
        for before in [Some(b"old".as_slice()), None] {
            let _ = std::fs::remove_file(&path);
            if let Some(bytes) = before {
                std::fs::write(&path, bytes).unwrap();
            }
            let new = Beside::write(&path, |into| into.write_all(b"new")).unwrap();
            let old = new.set_aside().unwrap();
            new.rename().unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), b"new");
            old.restore();
            drop(old);
            assert_eq!(std::fs::read(&path).ok().as_deref(), before);
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), usize::from(before.is_some()));
        }
    }

    #[test]
    fn a_writer_that_fails_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.onnx");
        let full = |into: &mut BufWriter<&File>| {
            into.write_all(b"half of it")?;
            Err(io::Error::from(io::ErrorKind::StorageFull))
        };
        let failed = Beside::write(&path, full);
        assert!(matches!(failed, Err(IrError::Write { source, .. }) if source.kind() == io::ErrorKind::StorageFull));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
