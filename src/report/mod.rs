//! What people and machines read about a compressed model.
//!
//! | module | what |
//! |---|---|
//! | [`weight`] | a weight before and after |
//! | [`compilation`] | the tables after a compression |
//! | [`validation`] | the tables after a validation |
//! | [`document`] | what a report says beyond the tables, and its formats |
//! | `histogram` | how the values of weights are spread |
//! | `page` | a report as a page |
//! | [`inspection`] | the table of a file |
//! | [`listing`] | a model as text, for whoever debugs a pass |
//! | [`style`] | tables, numbers and colours |

pub mod compilation;
pub mod document;
mod histogram;
pub mod inspection;
mod listing;
mod page;
pub mod style;
pub mod validation;
pub mod weight;

use std::path::{Path, PathBuf};

use onnx_dcomp_ir::Model;
use serde::Serialize;

pub use document::{Report, ReportFormat, Reproduction};
pub use histogram::{Histogram, Point};
pub use listing::listing;
pub use weight::WeightRow;

pub(crate) use histogram::histograms;
pub(crate) use weight::WeightsBefore;

use crate::PassRecord;
use crate::budget::Search;
use crate::evidence::EvidenceRecord;
use crate::fidelity::Fidelity;
use crate::validation::ValidationReport;

/// What came out of a compression.
#[derive(Debug, Clone, Serialize)]
pub struct Compilation {
    /// The input.
    pub input: PathBuf,
    /// The output; `None` where nothing was written.
    pub output: Option<PathBuf>,
    /// Whether the compressed form was smaller.
    pub outcome: Outcome,
    /// Bytes of the input, external data included.
    pub bytes_before: u64,
    /// Bytes of the output, external data included.
    pub bytes_after: u64,
    /// Bytes of the input beside its weights: nodes, names, shapes, small constants.
    pub graph_bytes_before: u64,
    /// Bytes of the output beside its weights.
    pub graph_bytes_after: u64,
    /// The passes that ran, as text.
    pub pipeline: String,
    /// What each of them did.
    pub passes: Vec<PassRecord>,
    /// The weights of the output, in the order of the file.
    pub weights: Vec<WeightRow>,
    /// Weights of the input that the output no longer has: folded into others, or read by nothing.
    pub removed: Vec<RemovedWeight>,
    /// What the sensitivity of the output was estimated from; `None` where no pass asked for it.
    pub evidence: Option<String>,
    /// What became of the file that keeps evidence, where one was named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evidence_file: Option<EvidenceRecord>,
    /// How far the outputs are from those of the input.
    pub fidelity: Option<Fidelity>,
    /// What a budget search tried, where there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub search: Option<Search>,
    /// What was measured on samples, where there were any.
    pub validation: Option<ValidationReport>,
    /// What people should know.
    pub warnings: Vec<String>,
    /// The files that the output depends on.
    pub dependencies: Vec<PathBuf>,
}

/// Whether the compressed form was smaller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It was, and is the output.
    Compressed,
    /// It was not: the output is the input.
    Unchanged,
}

/// A weight that the output no longer has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RemovedWeight {
    /// Its name.
    pub name: String,
    /// Bytes that it took.
    pub bytes: u64,
}

impl Compilation {
    pub(crate) fn new(input: &Path, outcome: Outcome, before: WeightsBefore, model: &Model) -> Self {
        let (weights, removed) = before.rows(model, outcome);
        let bytes_before = model.source().total_bytes();
        let bytes_after = match outcome {
            Outcome::Compressed => model.plain_bytes().unwrap_or(bytes_before),
            Outcome::Unchanged => bytes_before,
        };
        let dense: u64 = before.bytes();
        let stored: u64 = weights.iter().map(|weight| weight.bytes_after).sum();
        Self {
            input: input.to_owned(),
            output: None,
            outcome,
            bytes_before,
            bytes_after,
            graph_bytes_before: bytes_before.saturating_sub(dense),
            graph_bytes_after: bytes_after.saturating_sub(stored),
            pipeline: String::new(),
            passes: Vec::new(),
            weights,
            removed,
            evidence: None,
            evidence_file: None,
            fidelity: None,
            search: None,
            validation: None,
            warnings: Vec::new(),
            dependencies: Vec::new(),
        }
    }

    /// How many times smaller the output is.
    pub fn ratio(&self) -> f64 {
        self.bytes_before as f64 / self.bytes_after.max(1) as f64
    }
}
