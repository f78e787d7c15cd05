//! What a search asks of the world: candidates, and what samples say of them.

use onnx_dcomp_engine::Validation;
use onnx_dcomp_engine::validate::DropMetric;

use super::{Confidence, Floor, Source};
use crate::Error;

/// Which samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// What the search looks at.
    Search,
    /// What it does not.
    Confirmation,
}

/// Makes candidates and measures them.
pub trait Evaluator {
    /// A compressed model that is tried.
    type Candidate;

    /// What a loss is counted in.
    fn metric(&self) -> DropMetric;

    /// What candidates are measured on.
    fn source(&self) -> Source;

    /// How many samples a side has; none where there is nothing to confirm on.
    fn samples(&self, side: Side) -> usize;

    /// Makes a candidate for an aim in decibels, or one whose values are unchanged; with the bytes of its file.
    ///
    /// # Errors
    /// Where a pass cannot do its work.
    fn make(&mut self, quality: Option<f64>) -> Result<(Self::Candidate, u64), Error>;

    /// Measures a candidate on `samples` samples of one side, spread evenly over all.
    ///
    /// # Errors
    /// Where the candidate does not run, or a sample cannot be read.
    fn measure(&mut self, candidate: &mut Self::Candidate, side: Side, samples: usize) -> Result<Measured, Error>;
}

/// What samples say of a candidate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    /// What was lost, in percentage points; NaN where it cannot be counted.
    pub drop_points: f64,
    /// Its standard error, in percentage points; NaN where samples do not count one by one.
    pub standard_error: f64,
    /// How often original and compressed give the same class, in percent; `None` where outputs are no classes.
    pub agreement_percent: Option<f64>,
    /// Energy of the output over that of its error, in decibels; NaN where it was not measured.
    pub sqnr_db: f64,
    /// The first floor that is broken, and the share that is reached.
    pub broken: Option<(Floor, f64)>,
}

impl Measured {
    /// What `validation` says, counted in `metric`, of `floors` too.
    pub fn of(validation: &Validation, metric: DropMetric, floors: &[Floor]) -> Self {
        let classes = validation.classification.as_ref().map(|report| report.agreement_percent);
        let pixels = validation.segmentation.as_ref().map(|report| report.pixel_agreement_percent);
        let sqnr = validation.outputs.iter().map(|output| output.fidelity.sqnr_db);
        let broken = floors.iter().find(|floor| !floor.holds(validation));
        Self {
            drop_points: validation.loss(metric).unwrap_or(f64::NAN),
            standard_error: validation.standard_error(metric),
            agreement_percent: classes.or(pixels),
            sqnr_db: sqnr.fold(f64::INFINITY, f64::min),
            broken: broken.map(|&floor| (floor, floor.reached(validation).unwrap_or(f64::NAN))),
        }
    }

    /// Whether at most `bound` points are lost and every floor holds.
    pub fn keeps(&self, bound: f64) -> bool {
        self.drop_points <= bound && self.broken.is_none()
    }

    /// How certain these samples make it that the loss is at most `bound` on others of the same kind, in `0.0..=1.0`:
    /// the error of the loss is taken for normal. NaN where its standard error is not known.
    pub fn certainty(&self, bound: f64) -> f64 {
        let margin = bound - self.drop_points;
        if self.standard_error == 0.0 {
            return f64::from(u8::from(margin >= 0.0));
        }
        0.5 * libm::erfc(-margin / (std::f64::consts::SQRT_2 * self.standard_error))
    }

    /// Why [`Self::keeps_with`] does not hold where [`Self::keeps`] does, as the end of a sentence on the loss.
    pub fn doubt(&self, bound: f64, confidence: Confidence) -> String {
        match 100.0 * self.certainty(bound) {
            percent if percent.is_nan() => {
                format!(", and nobody knows how uncertain that is; {confidence} was asked for")
            }
            percent => {
                format!(": that no more than {bound} are lost is certain to {percent:.1} %, not to {confidence}")
            }
        }
    }

    /// Whether [`Self::keeps`] holds, with `confidence`.
    pub fn keeps_with(&self, bound: f64, confidence: Confidence) -> bool {
        self.keeps(bound) && (!confidence.asks_for_margin() || self.certainty(bound) >= confidence.share())
    }
}
