//! A pipeline: passes, one after the other.

mod presets;
mod text;

use std::time::{Duration, Instant};

use onnx_dcomp_ir::{Evidence, Follow, Model};

pub use presets::{PRESETS, Preset};
pub(crate) use text::option_prefix;
pub use text::{PipelineError, PipelineProblem, PipelineText, StepText};

use crate::registry::{self, Rule};
use crate::{Pass, PassError, PassReport};

/// What a recipe's rules say, by the name of the pass.
pub type Rules = std::collections::BTreeMap<String, Vec<Rule>>;

/// Passes, one after the other.
#[derive(Default)]
pub struct Pipeline {
    steps: Vec<Step>,
}

struct Step {
    text: String,
    pass: Box<dyn Pass>,
}

/// Where a run of a pipeline stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position<'a> {
    /// Number of the step, from 0.
    pub index: usize,
    /// Number of steps.
    pub total: usize,
    /// Name of the pass.
    pub name: &'a str,
    /// The step as text, with the options that were given.
    pub text: &'a str,
}

/// Watches a pipeline run: progress, timing, printing, verifying.
pub trait Observer {
    /// Called before a pass runs.
    fn before(&mut self, _at: Position<'_>) {}

    /// Called after a pass has run, with what it left, what it said, and how long it took.
    ///
    /// # Errors
    /// An error ends the run.
    fn after(
        &mut self,
        _at: Position<'_>,
        _model: &Model,
        _report: &PassReport,
        _took: Duration,
    ) -> Result<(), PassError> {
        Ok(())
    }
}

/// Watches nothing.
impl Observer for () {}

/// Verifies the model after each pass.
#[derive(Debug, Clone, Copy, Default)]
pub struct VerifyEach;

impl Observer for VerifyEach {
    fn after(&mut self, at: Position<'_>, model: &Model, _: &PassReport, _: Duration) -> Result<(), PassError> {
        let pass = registry::find(at.name).map_or("(unregistered)", |entry| entry.name());
        model.verify().map_err(|source| PassError::Inconsistent { pass, source: Box::new(source) })
    }
}

impl Pipeline {
    /// Reads a pipeline.
    ///
    /// # Errors
    /// The first mistake, with its place in the text.
    pub fn parse(text: &str) -> Result<Self, PipelineError> {
        Self::build(&PipelineText::parse(text)?, &Rules::new())
    }

    /// Builds a pipeline, with what `rules` say of single weights.
    ///
    /// # Errors
    /// The first step with an unknown name, option or value; its span is that of the step in the printed text.
    pub fn build(text: &PipelineText, rules: &Rules) -> Result<Self, PipelineError> {
        let mut pipeline = Self::default();
        let mut start = 0;
        for step in &text.steps {
            let printed = step.to_string();
            let span = start..start + printed.len();
            start = span.end + ", ".len();
            let Some(entry) = registry::find(&step.name) else {
                let nearest = registry::find_nearest(&step.name).map(str::to_owned);
                let problem =
                    PipelineProblem::UnknownPass { name: step.name.clone(), nearest, allowed: registry::names() };
                return Err(PipelineError { span, problem: Box::new(problem) });
            };
            let own_rules = rules.get(&step.name).map(Vec::as_slice).unwrap_or_default();
            let pass = entry.build(&step.options, own_rules).map_err(|error| {
                let problem = PipelineProblem::Option { pass: step.name.clone(), option: String::new(), error };
                PipelineError { span, problem: Box::new(problem) }
            })?;
            pipeline.steps.push(Step { text: printed, pass });
        }
        Ok(pipeline)
    }

    /// Adds a pass at the end.
    pub fn push(&mut self, pass: Box<dyn Pass>) {
        self.steps.push(Step { text: pass.name().to_owned(), pass });
    }

    /// Number of steps.
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// Whether there is no step.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Runs the passes on `model`; returns what each of them said.
    ///
    /// # Errors
    /// The first error of a pass or of the observer. The model may then be half rewritten: drop it.
    pub fn run(
        &self,
        model: &mut Model,
        evidence: &Evidence,
        observer: &mut dyn Observer,
    ) -> Result<Vec<PassReport>, PassError> {
        self.run_following(model, evidence, None, observer)
    }

    /// As [`Self::run`]; where there is something to `follow`, passes that can make use of it go layer by layer.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn run_following(
        &self,
        model: &mut Model,
        evidence: &Evidence,
        follow: Option<&dyn Follow>,
        observer: &mut dyn Observer,
    ) -> Result<Vec<PassReport>, PassError> {
        let mut reports = Vec::with_capacity(self.steps.len());
        for (index, step) in self.steps.iter().enumerate() {
            let at = Position { index, total: self.steps.len(), name: step.pass.name(), text: &step.text };
            observer.before(at);
            let start = Instant::now();
            let report = match follow {
                Some(follow) => step.pass.run_following(model, evidence, follow)?,
                None => step.pass.run(model, evidence)?,
            };
            observer.after(at, model, &report, start.elapsed())?;
            reports.push(report);
        }
        Ok(reports)
    }
}
