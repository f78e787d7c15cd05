//! Evidence that is kept in a file from one compilation to the next.
//!
//! The file is a cache: it holds what would be gathered anew without it, so that the output has the same bytes with and
//! without it, and nothing but time is lost where it is removed. Evidence is taken from it where everything that it
//! depends on is the same: model, inputs, options, version. Otherwise, and where the file is damaged, evidence is
//! gathered, and replaces what the file held. A file that is no evidence is somebody else's, and an error.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use onnx_dcomp_engine::evidence::{EvidenceFile, EvidenceFileError, EvidenceKey};
use onnx_dcomp_ir::{Evidence, mapped};
use serde::Serialize;

use crate::Error;
use crate::output::Staged;

/// What became of the file of evidence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EvidenceRecord {
    /// The file.
    pub file: PathBuf,
    /// What was done each time that passes asked for evidence; nothing where none did.
    pub found: Vec<Found>,
}

/// Where one piece of evidence came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "from")]
pub enum Found {
    /// From the file; nothing was gathered.
    File,
    /// It was gathered, and is in the file now.
    Gathered {
        /// Why it was not in the file before.
        reason: String,
    },
    /// Gathering gave nothing that is worth keeping: the weights alone must do.
    Nothing,
}

impl fmt::Display for EvidenceRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.display();
        let reasons = self.found.iter().filter_map(|found| match found {
            Found::Gathered { reason } => Some(reason.as_str()),
            Found::File | Found::Nothing => None,
        });
        let mut reasons: Vec<&str> = reasons.collect();
        reasons.dedup();
        if !reasons.is_empty() {
            write!(f, "gathered, since {}; kept in {file}", reasons.join(", then "))
        } else if self.found.contains(&Found::File) {
            write!(f, "read from {file}: nothing was gathered")
        } else if self.found.is_empty() {
            write!(f, "no pass asked for any: {file} was left alone")
        } else {
            write!(f, "there is none to keep: {file} was left alone")
        }
    }
}

/// The file, open.
pub(crate) struct KeptFile {
    record: EvidenceRecord,
    /// What it held.
    old: EvidenceFile,
    /// What this compilation used, and what it will hold.
    used: EvidenceFile,
    /// Why [`KeptFile::old`] is empty, where it is.
    reason: String,
}

impl KeptFile {
    /// Reads the file at `path`, where there is one.
    ///
    /// # Errors
    /// [`Error::Usage`] where it is something else than evidence; where it cannot be read, or there is none and it could
    /// not be written.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let (old, reason) = match mapped::map(path) {
            // What has just been made to have a name, as `mktemp` does it.
            Ok(bytes) if bytes.is_empty() => (EvidenceFile::default(), "the file was empty".to_owned()),
            Ok(bytes) => match EvidenceFile::parse(&bytes) {
                Ok(file) => (file, String::new()),
                Err(EvidenceFileError::Foreign) => {
                    return Err(Error::Usage(format!(
                        "{} is no file of evidence, and would be replaced; name another, or remove it",
                        path.display()
                    )));
                }
                Err(error) => (EvidenceFile::default(), format!("the file cannot serve: {error}")),
            },
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                // Better now than after the long work.
                drop(Staged::beside(path)?);
                (EvidenceFile::default(), "there was no such file".to_owned())
            }
            Err(source) => return Err(Error::Read { file: path.to_owned(), source }),
        };
        let record = EvidenceRecord { file: path.to_owned(), found: Vec::new() };
        Ok(Self { record, old, used: EvidenceFile::default(), reason })
    }

    /// What the file knows of `key`.
    pub(crate) fn find(&mut self, key: &EvidenceKey) -> Option<Arc<Evidence>> {
        let found = Arc::clone(self.old.find(key)?);
        self.used.entries.push((key.clone(), Arc::clone(&found)));
        self.record.found.push(Found::File);
        Some(found)
    }

    /// Puts `evidence` into the file, beside what else this compilation has used of it.
    ///
    /// # Errors
    /// Where the system does not take the file.
    pub(crate) fn keep(&mut self, key: EvidenceKey, evidence: &Arc<Evidence>) -> Result<(), Error> {
        if evidence.sensitivity.is_empty() && evidence.second_moment.is_empty() {
            self.record.found.push(Found::Nothing);
            return Ok(());
        }
        let reason = match self.old.nearest_differences(&key) {
            Some(differences) => format!("the file held that of {}", differences.join(" and ")),
            None => self.reason.clone(),
        };
        self.used.entries.push((key, Arc::clone(evidence)));
        let staged = Staged::beside(&self.record.file)?;
        staged.save_with(|place| self.used.save(place))?;
        staged.commit()?;
        self.record.found.push(Found::Gathered { reason });
        Ok(())
    }

    pub(crate) fn into_record(self) -> EvidenceRecord {
        self.record
    }
}
