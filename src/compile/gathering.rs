//! Where the evidence of a compilation comes from, and where it is kept.

use std::path::PathBuf;

use onnx_dcomp_engine::PreprocessOptions;
use onnx_dcomp_ir::Model;
use onnx_dcomp_load::is_packed;

use super::Compiler;
use crate::evidence::{CalibrationSamples, Gathering, KeptFile};
use crate::plan::Resolved;
use crate::{Error, output};

impl Compiler {
    /// A file that keeps what is found out about the weights. Where model, samples and options are those that it was
    /// found out with, it is read from there and nothing is gathered; else the file is replaced, which
    /// [`Compilation::evidence_file`](crate::Compilation::evidence_file) tells. The output is the same with and without
    /// it, so that no rule need name it among the dependencies. Default: none.
    #[must_use]
    pub fn evidence(mut self, path: impl Into<PathBuf>) -> Self {
        self.evidence = Some(path.into());
        self
    }

    /// Opens the samples and the file that `plan` needs: what is wrong with them must come out before the long work.
    pub(super) fn gathering(
        &self,
        plan: &Resolved,
        model: &Model,
        preprocess: &PreprocessOptions,
    ) -> Result<Gathering, Error> {
        let seed = self.seed_or_default();
        let is_needed = !is_packed(model) && !plan.gatherings().is_empty();
        let calibrating = self.check.as_ref().filter(|check| check.calibrates && is_needed);
        let samples =
            calibrating.map(|check| CalibrationSamples::open(model, &check.samples, preprocess, seed)).transpose()?;
        let kept = self.evidence.as_deref().map(|path| {
            let others = [&self.output, &self.depfile, &self.report];
            match others.into_iter().flatten().find(|other| output::is_same_file(other, path)) {
                Some(other) => Err(Error::Usage(format!(
                    "{} cannot hold the evidence and something else; give one of them another name",
                    other.display()
                ))),
                None => KeptFile::open(path),
            }
        });
        Ok(Gathering::new(preprocess, seed, samples, kept.transpose()?))
    }
}
