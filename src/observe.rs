//! What is done beside the passes: timing, verifying, printing, telling how far they are.

use std::time::Duration;

use onnx_dcomp_ir::Model;
use onnx_dcomp_passes::{Observer, PassError, PassReport, Position, VerifyEach};

use crate::{PassRecord, Watch, report};

/// When a model is verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Verify {
    /// After the last pass.
    #[default]
    AtTheEnd,
    /// After each pass, so that the one that breaks something is named.
    AfterEachPass,
}

/// After which passes the model is printed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum PrintAfter {
    /// After none.
    #[default]
    None,
    /// After all.
    All,
    /// After those of this name.
    Pass(String),
}

impl PrintAfter {
    fn covers(&self, pass: &str) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::Pass(name) => name == pass,
        }
    }
}

/// What is asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Observing {
    pub(crate) verify: Verify,
    pub(crate) print_after: PrintAfter,
}

impl Observing {
    /// Observes a part of a pipeline of `total` steps that begins with step `first`.
    pub(crate) fn observer<'a>(&'a self, first: usize, total: usize, watch: &'a dyn Watch) -> PassObserver<'a> {
        PassObserver { asked: self, first, total, watch, records: Vec::new() }
    }
}

/// Observes passes.
pub(crate) struct PassObserver<'a> {
    asked: &'a Observing,
    first: usize,
    total: usize,
    watch: &'a dyn Watch,
    records: Vec<PassRecord>,
}

impl PassObserver<'_> {
    /// What the passes did.
    pub(crate) fn finish(self) -> Vec<PassRecord> {
        self.watch.end();
        self.records
    }
}

impl Observer for PassObserver<'_> {
    fn before(&mut self, at: Position<'_>) {
        self.watch.begin(&format!("{} ({}/{})", at.name, self.first + at.index + 1, self.total), None);
    }

    fn after(&mut self, at: Position<'_>, model: &Model, said: &PassReport, took: Duration) -> Result<(), PassError> {
        self.watch.end();
        tracing::info!(pass = at.text, seconds = took.as_secs_f64(), "ran");
        for change in &said.changes {
            tracing::info!(pass = at.name, "{change}");
        }
        let listing = self.asked.print_after.covers(at.name).then(|| report::listing(model));
        let record = PassRecord { text: at.text.to_owned(), took, changes: said.changes.clone(), listing };
        self.watch.pass(&record);
        self.records.push(record);
        match self.asked.verify {
            Verify::AtTheEnd => Ok(()),
            Verify::AfterEachPass => VerifyEach.after(at, model, said, took),
        }
    }
}
