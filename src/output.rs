//! Writing without leaving anything behind: files are made in a folder beside their place, and renamed into it.
//!
//! The folder vanishes with its `Staged`, whatever goes wrong; [`clean_up_on_interrupt`] does the same where the user
//! stops the program.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use onnx_dcomp_ir::{IrError, Model, SavedFiles};
use tempfile::TempDir;

use crate::Error;

/// The folders of files that are being made. Whoever holds the lock keeps the program from being interrupted.
static FOLDERS: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

fn folders() -> MutexGuard<'static, Vec<PathBuf>> {
    FOLDERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Removes what is being made and ends the program with `exit_code` when it is told to stop: by Ctrl-C, by the system's
/// request to terminate, or because the terminal goes away.
///
/// A file that is just being renamed into its place is renamed first.
///
/// # Errors
/// Where the system does not let us hear of it, or something else in the program has asked first.
pub fn clean_up_on_interrupt(exit_code: u8) -> Result<(), ctrlc::Error> {
    ctrlc::set_handler(move || {
        let folders = folders();
        for folder in folders.iter() {
            // Nobody is left to tell of an error.
            let _ = fs::remove_dir_all(folder);
        }
        std::process::exit(i32::from(exit_code));
    })
}

/// Whether two paths name one file, or would name one once it is written.
pub(crate) fn is_same_file(a: &Path, b: &Path) -> bool {
    let place = |path: &Path| {
        let parent = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Some(parent.canonicalize().ok()?.join(path.file_name()?))
    };
    let real = |path: &Path| path.canonicalize().ok().or_else(|| place(path));
    real(a).is_some_and(|a| real(b) == Some(a))
}

/// A model that is being made, in a folder beside its place.
#[derive(Debug)]
pub(crate) struct Staged {
    folder: TempDir,
    target: PathBuf,
    staged: PathBuf,
}

impl Staged {
    /// A place for what is to become `target`. Fails early where `target` cannot be written.
    pub(crate) fn beside(target: &Path) -> Result<Self, Error> {
        let cannot = |source| Error::Write { file: target.to_owned(), source };
        if let Ok(metadata) = fs::metadata(target)
            && !metadata.is_file()
        {
            let kind = if metadata.is_dir() { "it is a folder" } else { "it is no regular file" };
            return Err(cannot(io::Error::other(kind)));
        }
        let name = target.file_name().ok_or_else(|| cannot(io::Error::other("it has no file name")))?;
        let parent = match target.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        if !parent.is_dir() {
            return Err(cannot(io::Error::other(format!("there is no folder {}; make it first", parent.display()))));
        }
        let mut folders = folders();
        let folder = tempfile::Builder::new().prefix(".onnx-dcomp-").suffix(".part").tempdir_in(parent);
        // The name of the temporary folder helps nobody.
        let folder =
            folder.map_err(|error| cannot(error.raw_os_error().map_or(error, io::Error::from_raw_os_error)))?;
        folders.push(folder.path().to_owned());
        Ok(Self { staged: folder.path().join(name), target: target.to_owned(), folder })
    }

    /// Where the model is made.
    pub(crate) fn path(&self) -> &Path {
        &self.staged
    }

    /// Saves `model` there.
    pub(crate) fn save(&self, model: &Model) -> Result<SavedFiles, Error> {
        model.save(&self.staged).map_err(|error| match error {
            IrError::Write { source, .. } => Error::Write { file: self.target.clone(), source },
            IrError::TooLarge { bytes, limit, .. } => {
                IrError::TooLarge { file: self.target.clone(), bytes, limit }.into()
            }
            error => error.into(),
        })
    }

    /// Saves `bytes` there.
    pub(crate) fn save_bytes(&self, bytes: &[u8]) -> Result<u64, Error> {
        let cannot = |source| Error::Write { file: self.target.clone(), source };
        let mut file = fs::File::create(&self.staged).map_err(cannot)?;
        io::Write::write_all(&mut file, bytes).map_err(cannot)?;
        // A full disk may show only here.
        file.sync_all().map_err(cannot)?;
        Ok(bytes.len() as u64)
    }

    /// Lets `save` make a file there.
    pub(crate) fn save_with(&self, save: impl FnOnce(&Path) -> io::Result<()>) -> Result<(), Error> {
        let cannot = |source| Error::Write { file: self.target.clone(), source };
        save(&self.staged).map_err(cannot)?;
        // A full disk may show only here.
        fs::OpenOptions::new().append(true).open(&self.staged).and_then(|file| file.sync_all()).map_err(cannot)
    }

    /// Renames what was made into its place: external data first, so that the model never stands without it.
    pub(crate) fn commit(self) -> Result<(), Error> {
        let cannot = |source| Error::Write { file: self.target.clone(), source };
        let uninterrupted = folders();
        let mut beside: Vec<PathBuf> = fs::read_dir(self.folder.path())
            .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect())
            .map_err(cannot)?;
        beside.retain(|path| *path != self.staged);
        for path in beside {
            let name = path.file_name().unwrap_or_default();
            fs::rename(&path, self.target.with_file_name(name)).map_err(cannot)?;
        }
        fs::rename(&self.staged, &self.target).map_err(cannot)?;
        drop(uninterrupted);
        Ok(())
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        folders().retain(|folder| folder != self.folder.path());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names_in(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = entries.collect();
        names.sort();
        names
    }

    #[test]
    fn what_is_committed_replaces_the_old_file_and_leaves_nothing_beside() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("net.onnx");
        fs::write(&target, "old").unwrap();
        let staged = Staged::beside(&target).unwrap();
        staged.save_bytes(b"new").unwrap();
        fs::write(staged.path().with_file_name("net.onnx.data"), "data").unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"old");
        staged.commit().unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"new");
        assert_eq!(names_in(folder.path()), ["net.onnx", "net.onnx.data"]);
    }

    #[test]
    fn what_is_dropped_leaves_the_old_file_and_nothing_beside() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("net.onnx");
        fs::write(&target, "old").unwrap();
        Staged::beside(&target).unwrap().save_bytes(b"new").unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"old");
        assert_eq!(names_in(folder.path()), ["net.onnx"]);
    }

    #[test]
    fn places_that_hold_no_regular_file_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        for place in [folder.path().to_owned(), folder.path().join("absent/net.onnx"), folder.path().join("..")] {
            assert!(matches!(Staged::beside(&place), Err(Error::Write { .. })), "{}", place.display());
        }
        assert!(names_in(folder.path()).is_empty());
    }
}
