//! A compilation whose quality a budget search finds.

use onnx_dcomp_engine::PreprocessOptions;
use onnx_dcomp_ir::Model;
use onnx_dcomp_passes::PipelineText;

use super::{Check, Compiler, describe};
use crate::budget::judge::Judge;
use crate::budget::search::{Made, search};
use crate::budget::{Goal, Search};
use crate::plan::Resolved;
use crate::{Error, PassRecord, Watch, evidence};

/// What the passes and the search did.
pub(super) struct Ran {
    pub(super) passes: Vec<PassRecord>,
    pub(super) evidence: Option<String>,
    /// The passes of the output, as text.
    pub(super) pipeline: String,
    pub(super) search: Option<Search>,
    /// Why the output must not be written.
    pub(super) failure: Option<Error>,
}

impl Compiler {
    /// What the search is to find, where the plan leaves something to find.
    pub(super) fn searched(&self, plan: &Resolved) -> Option<(&Check, &Goal)> {
        let check = self.check.as_ref()?;
        check.goal.as_ref().filter(|_| plan.can_search()).map(|goal| (check, goal))
    }

    /// Runs the passes for one candidate after the other; `model` becomes the one that is chosen.
    pub(super) fn search(
        &self,
        plan: &Resolved,
        model: &mut Model,
        (check, goal): (&Check, &Goal),
        preprocess: &PreprocessOptions,
        watch: &dyn Watch,
    ) -> Result<Ran, Error> {
        let seed = self.seed_or_default();
        // What is wrong with samples or goal must come out before the long work.
        let mut judge = Judge::open(&self.input, &check.samples, preprocess, &check.runtimes, goal, seed)?;
        let rules = plan.rules(model)?;
        let start = plan.search_start();
        let (mut records, _) = self.run_range(plan, 0..start, &rules, model, preprocess, watch)?;
        let known = evidence::calibrate(model, &judge, preprocess, seed, watch)?;
        let text = |quality| plan.tail(start, quality);
        let mut make = |quality: Option<f64>| {
            let mut candidate = model.clone();
            let passes = self.run_steps(&text(quality), &rules, &mut candidate, &known, start, watch)?;
            self.verify_model(&candidate)?;
            describe(&mut candidate, &plan.label, plan.target(self.choices.target));
            let bytes = candidate.plain_bytes()?;
            Ok(Made { model: candidate, bytes, passes, quality })
        };
        let found = search(goal, &mut judge, &mut make, watch)?;
        let tail = text(found.made.quality);
        let pipeline = PipelineText { steps: [plan.range(0..start).steps, tail.steps].concat() };
        *model = found.made.model;
        records.extend(found.made.passes);
        Ok(Ran {
            passes: records,
            evidence: Some(known.source),
            pipeline: pipeline.to_string(),
            search: Some(found.search),
            failure: found.failure.map(|reason| Error::Unmet { reason }),
        })
    }
}
