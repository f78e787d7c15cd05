//! What evidence was gathered from, in digests: where the keys are equal, so is the evidence.

use std::fmt::Write as _;
use std::io;

use onnx_dcomp_ir::Model;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{EvidenceOptions, MOMENT_ELEMENTS, samples};
use crate::backend::RuntimeKind;
use crate::dataset::Dataset;
use crate::error::EngineError;

/// Counts the changes to how evidence is gathered: raise it where the same model and inputs give other evidence than
/// before.
const REVISION: u32 = 1;

/// What evidence was gathered from, and by what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EvidenceKey {
    /// Version of this crate, and of how it gathers.
    version: String,
    /// SHA-256 of the model that was run, as one plain ONNX message, in hexadecimal.
    model: String,
    /// Where the inputs came from: samples with their SHA-256, or what synthetic ones were drawn to fit.
    inputs: String,
    /// The options that matter.
    options: String,
}

impl EvidenceKey {
    /// The key of what [`calibrate`](super::calibrate) gathers. Reads the samples that it would read.
    ///
    /// # Errors
    /// Where a sample cannot be read, or the model does not hold together.
    pub fn of_samples(model: &Model, data: &dyn Dataset, options: &EvidenceOptions) -> Result<Self, EngineError> {
        let digest = samples::digest(data, options.samples, MOMENT_ELEMENTS[1])?;
        let settings = format!("{} samples, seed {}", options.samples, options.seed);
        Self::new(model, format!("samples {}", hexadecimal(&digest)), settings)
    }

    /// The key of what [`gather`](super::gather) gathers.
    ///
    /// # Errors
    /// Where the model does not hold together.
    pub fn of_synthetic(model: &Model, options: &EvidenceOptions) -> Result<Self, EngineError> {
        let EvidenceOptions { samples, seed, preprocess, largest_model_bytes } = options;
        let settings = format!("{samples} inputs, seed {seed}, up to {largest_model_bytes} bytes of weights");
        Self::new(model, format!("synthetic for {:?}, {:?}", preprocess.input, preprocess.output), settings)
    }

    fn new(model: &Model, inputs: String, options: String) -> Result<Self, EngineError> {
        let mut hashing = Hashing(Sha256::new());
        model.write(&mut hashing).map_err(|error| EngineError::OpenModel {
            runtime: RuntimeKind::Tract.name(),
            model: model.source().name().to_owned(),
            reason: error.to_string(),
        })?;
        let version = format!("{}, gathering {REVISION}", env!("CARGO_PKG_VERSION"));
        Ok(Self { version, model: hexadecimal(&hashing.0.finalize()), inputs, options })
    }

    /// In what `other` differs, in words; nothing where it is equal.
    pub fn differences(&self, other: &Self) -> Vec<&'static str> {
        let parts = [
            (self.version != other.version, "another version of onnx-dcomp"),
            (self.model != other.model, "another model"),
            (self.inputs != other.inputs, "other inputs"),
            (self.options != other.options, "other options"),
        ];
        parts.into_iter().filter(|(differs, _)| *differs).map(|(_, what)| what).collect()
    }
}

/// Takes the digest of what is written.
struct Hashing(Sha256);

impl io::Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// `bytes` in lower-case hexadecimal digits.
pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
