//! What a search tried, what it chose, and what was confirmed.

use onnx_dcomp_engine::validate::DropMetric;
use serde::Serialize;

/// What the user asks of the result.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Budget {
    /// The smallest file that loses at most so many percentage points.
    MaxDrop(f64),
    /// The best file of at most so many bytes.
    MaxBytes(u64),
}

/// A budget search, from the first candidate to the confirmation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Search {
    /// What was asked for.
    pub budget: Budget,
    /// What a loss is counted in.
    pub metric: DropMetric,
    /// Samples that the candidates were measured on.
    pub samples: usize,
    /// Everything that was tried, in the order in which it was.
    pub candidates: Vec<Candidate>,
    /// Which of [`Search::candidates`] became the output; `None` where none kept the budget.
    pub chosen: Option<usize>,
    /// What the chosen one loses on samples that the search had not seen.
    pub confirmation: Option<Confirmation>,
}

/// One file that was tried.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Candidate {
    /// The aim for the network's output, in decibels; infinite (`null` in JSON) where no value was changed.
    pub quality: f64,
    /// Bytes of the whole file.
    pub bytes: u64,
    /// What was lost, in percentage points.
    pub drop_points: f64,
    /// Standard error of [`Candidate::drop_points`], in percentage points; NaN (`null` in JSON) for the relative error,
    /// and for mIoU and pixel agreement on fewer than ten frames.
    pub standard_error: f64,
    /// How often original and compressed give the same class, in percent; `None` where outputs are no classes.
    pub agreement_percent: Option<f64>,
    /// Energy of the output over that of its error, in decibels.
    pub sqnr_db: f64,
    /// Whether the budget is kept on the search's samples.
    pub keeps_budget: bool,
}

/// The chosen file on samples that the search had not seen.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Confirmation {
    /// Number of samples.
    pub samples: usize,
    /// What was lost, in percentage points.
    pub drop_points: f64,
    /// Bounds within which the loss lies with 95 % confidence, in percentage points; NaN (`null` in JSON) where no
    /// standard error is known.
    pub interval_95: [f64; 2],
    /// Candidates that were held against these samples; from the second on they are not quite unseen.
    pub tries: usize,
}
