//! A goal that is checked, not searched.

use super::{Check, Compiler};
use crate::Error;
use crate::budget::{Budget, Goal, Measured};
use crate::report::Compilation;
use crate::validation::ValidationReport;

impl Compiler {
    /// The bytes that the output must fit in, where there are no samples to say more.
    pub(super) fn bytes_to_fit(&self) -> Option<u64> {
        let has_goal = self.check.as_ref().is_some_and(|check| check.goal.is_some());
        self.max_bytes.filter(|_| !has_goal)
    }

    /// Holds the output against [`Self::bytes_to_fit`]; "unchanged" may be more than what a search had found.
    pub(super) fn check_bytes(&self, made: &Compilation) -> Result<(), Error> {
        match self.bytes_to_fit().filter(|&most| made.bytes_after > most) {
            Some(most) => {
                let reason = format!("the file has {} bytes, more than {most}", made.bytes_after);
                Err(Error::Unmet { reason })
            }
            None => Ok(()),
        }
    }

    /// The loss that must not be passed on all samples; a search has kept its own promise already.
    pub(super) fn bound_to_check(&self, check: &Check, made: &Compilation) -> Option<f64> {
        match &check.goal {
            Some(Goal { budget: Budget::MaxDrop(bound), metric: None, confidence, .. })
                if made.search.is_none() && !confidence.asks_for_margin() =>
            {
                Some(*bound)
            }
            _ => None,
        }
    }

    /// What of a goal was neither searched nor is a bound on the usual metric.
    pub(super) fn check_goal(&self, check: &Check, made: &Compilation, report: &ValidationReport) -> Result<(), Error> {
        let Some(goal) = check.goal.as_ref().filter(|_| made.search.is_none()) else { return Ok(()) };
        let unmet = |reason: String| Err(Error::Unmet { reason });
        if let Budget::MaxBytes(bytes) = goal.budget
            && made.bytes_after > bytes
        {
            return unmet(format!("the file has {} bytes, more than {bytes}", made.bytes_after));
        }
        for run in &report.runs {
            let metric = goal.metric.unwrap_or(run.drop.metric);
            if let Budget::MaxDrop(bound) = goal.budget
                && (goal.metric.is_some() || goal.confidence.asks_for_margin())
            {
                let measured = Measured::of(&run.validation, metric, &[]);
                let loss = measured.drop_points;
                if loss.is_nan() || loss > bound {
                    return unmet(format!("{} falls by {loss:.3} points, the bound is {bound}", metric.name()));
                }
                if !measured.keeps_with(bound, goal.confidence) {
                    let doubt = measured.doubt(bound, goal.confidence);
                    return unmet(format!("{} falls by {loss:.3} points{doubt}", metric.name()));
                }
            }
            if let Some(broken) = goal.floors.iter().find(|floor| !floor.holds(&run.validation)) {
                let reached = broken.reached(&run.validation).unwrap_or(f64::NAN);
                return unmet(format!("the floor {broken} is broken: {reached:.4} is reached"));
            }
        }
        Ok(())
    }
}
