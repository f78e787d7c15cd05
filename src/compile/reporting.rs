//! The report of a compilation: what is gathered for it, and when it is written.

use std::path::{Path, PathBuf};

use onnx_dcomp_ir::Model;

use super::Compiler;
use super::command::{command, recipe};
use crate::budget::Search;
use crate::output::Staged;
use crate::plan::Resolved;
use crate::report::{Compilation, Histogram, Report, ReportFormat, Reproduction, histograms};
use crate::{Error, output};

impl Compiler {
    /// Writes a report of what was done: one page where `path` ends in `.html`, or JSON where it ends in `.json`. It is
    /// written too where a bound was broken, and where there is no output. Default: none.
    #[must_use]
    pub fn report(mut self, path: impl Into<PathBuf>) -> Self {
        self.report = Some(path.into());
        self
    }

    /// A place for the report, where one was asked for.
    pub(super) fn stage_report(&self) -> Result<Option<StagedReport>, Error> {
        let Some(path) = &self.report else { return Ok(None) };
        let format = ReportFormat::of(path)?;
        let is_taken = |other: &Path| output::is_same_file(other, path);
        if is_taken(&self.input) || self.output.as_deref().is_some_and(is_taken) {
            return Err(Error::Usage(format!(
                "the report would replace the model {}: name another file",
                path.display()
            )));
        }
        Ok(Some(StagedReport { format, staged: Staged::beside(path)? }))
    }

    /// What a report shows of `model`, the output, beyond the tables.
    pub(super) fn details(&self, original: &Model, plan: &Resolved, model: &Model, search: Option<&Search>) -> Details {
        let input_sha256 = original.source().sha256_hex();
        let sparsity = search.and_then(|search| search.sparsity.as_ref());
        let recipe = recipe(self, plan, sparsity, &input_sha256);
        let reproduction = Reproduction { command: command(self), recipe };
        Details { input_sha256, histograms: histograms(model), reproduction }
    }
}

/// What a report shows beyond the tables.
pub(super) struct Details {
    input_sha256: String,
    histograms: Vec<Histogram>,
    reproduction: Reproduction,
}

/// A report that is being made.
pub(super) struct StagedReport {
    format: ReportFormat,
    staged: Staged,
}

impl StagedReport {
    /// Writes the report beside its place; `failure` says why there is no output.
    pub(super) fn save(&self, made: &Compilation, details: &Details, failure: Option<&Error>) -> Result<(), Error> {
        let report = Report {
            version: env!("CARGO_PKG_VERSION"),
            input_sha256: &details.input_sha256,
            failure: failure.map(ToString::to_string),
            compilation: made,
            histograms: &details.histograms,
            reproduction: &details.reproduction,
        };
        self.staged.save_bytes(report.to_text(self.format).as_bytes()).map(drop)
    }

    /// Puts it in its place.
    pub(super) fn commit(self) -> Result<(), Error> {
        self.staged.commit()
    }
}
