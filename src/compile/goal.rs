//! A goal that is checked, not searched.

use super::{Check, Compiler};
use crate::Error;
use crate::budget::{Budget, Goal};
use crate::report::Compilation;
use crate::validation::ValidationReport;

impl Compiler {
    /// The loss that must not be passed on all samples; a search has kept its own promise already.
    pub(super) fn bound_to_check(&self, check: &Check, made: &Compilation) -> Option<f64> {
        match &check.goal {
            Some(Goal { budget: Budget::MaxDrop(bound), metric: None, .. }) if made.search.is_none() => Some(*bound),
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
            if let (Budget::MaxDrop(bound), Some(metric)) = (goal.budget, goal.metric) {
                let loss = run.validation.loss(metric).unwrap_or(f64::NAN);
                if loss.is_nan() || loss > bound {
                    return unmet(format!("{} falls by {loss:.3} points, the bound is {bound}", metric.name()));
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
