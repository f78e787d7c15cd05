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

/// What candidates are measured on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// Samples that the user gave.
    Samples,
    /// Inputs drawn at random.
    Synthetic,
}

impl Source {
    /// What people call them.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Samples => "samples",
            Self::Synthetic => "synthetic inputs",
        }
    }
}

/// The sparsity that each layer bears.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FoundSparsity {
    /// How often the network was measured to find them.
    pub evaluations: usize,
    /// The layers, in the order of the file.
    pub layers: Vec<LayerSparsity>,
}

/// The sparsity that one layer bears.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LayerSparsity {
    /// Name of its weight.
    pub name: String,
    /// Elements of its weight.
    pub elements: usize,
    /// Fraction of the elements that may be zero.
    pub sparsity: f64,
}

impl FoundSparsity {
    /// The fraction of the elements of all layers that may be zero.
    pub fn overall(&self) -> f64 {
        let elements: usize = self.layers.iter().map(|layer| layer.elements).sum();
        let zeros: f64 = self.layers.iter().map(|layer| layer.sparsity * layer.elements as f64).sum();
        zeros / elements.max(1) as f64
    }
}

/// A budget search, from the first candidate to the confirmation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Search {
    /// What was asked for.
    pub budget: Budget,
    /// What a loss is counted in.
    pub metric: DropMetric,
    /// What the candidates were measured on.
    pub source: Source,
    /// How many of them there are.
    pub samples: usize,
    /// What sparsities were found before, where the plan leaves them open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sparsity: Option<FoundSparsity>,
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
    /// Samples that it was measured on: all of the search's, or a part that was enough to reject it.
    pub samples: usize,
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
    /// How certain it is that the bound is kept on other samples of the kind, in `0.0..=1.0`; NaN (`null` in JSON) where
    /// no standard error is known, or nothing bounds the loss.
    pub certainty: f64,
    /// Candidates that were held against these samples; from the second on they are not quite unseen.
    pub tries: usize,
}
