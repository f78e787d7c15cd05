//! The default compilation: a quality, no data, and a look at what came out.

use onnx_dcomp_engine::PreprocessOptions;
use onnx_dcomp_ir::Model;
use onnx_dcomp_passes::PipelineText;

use super::{Compiler, search::Ran};
use crate::evidence::Gathering;
use crate::fidelity::{self, Fidelity};
use crate::plan::Resolved;
use crate::{Error, Quality, Watch};

/// How far the outputs may be below the aim, in decibels. The aim is what errors would add up to if they did not grow
/// from layer to layer; in most networks they do.
const SLACK_DB: f64 = 9.0;

/// How often the aim is raised.
const MOST_RAISES: usize = 4;

/// Decibels of the output for one decibel of the aim.
const RESPONSE: f64 = 0.8;

impl Compiler {
    /// Runs the default passes to `quality`. Where the outputs on synthetic inputs (others than the evidence comes from)
    /// fall short of it by far, the aim is raised: some networks are more fragile than the sum of their layers.
    pub(super) fn run_default(
        &self,
        plan: &Resolved,
        quality: Quality,
        model: &mut Model,
        preprocess: &PreprocessOptions,
        gathering: &mut Gathering,
        watch: &dyn Watch,
    ) -> Result<Ran, Error> {
        let rules = plan.rules(model)?;
        let original = model.clone();
        let start = plan.search_start();
        let (head, _) = self.run_range(plan, 0..start, &rules, model, gathering, watch)?;
        let known = gathering.gather(model, watch)?;
        let mut aim = quality.decibels();
        let mut raises = 0;
        loop {
            let text = plan.aiming_at(aim);
            let tail = PipelineText { steps: text.steps.get(start..).unwrap_or_default().to_vec() };
            let mut candidate = model.clone();
            let passes = self.run_steps(&tail, &rules, &mut candidate, &known, start, watch)?;
            let reached = fidelity::measure(&original, &candidate, preprocess, self.seed_or_default(), watch);
            let missing = match reached {
                Fidelity::Measured { sqnr_db, .. } => quality.decibels() - SLACK_DB - sqnr_db,
                Fidelity::Exact | Fidelity::Unknown { .. } => 0.0,
            };
            if missing <= 0.5 || raises == MOST_RAISES || aim >= *Quality::DECIBELS.end() {
                *model = candidate;
                let passes = head.into_iter().chain(passes).collect();
                return Ok(Ran::of(passes, Some(known.evidence.source.clone()), text.to_string()));
            }
            // A tenth of a decibel, so that the aim reads well in the report.
            let raised = aim + (missing / RESPONSE).clamp(1.0, 12.0);
            aim = (10.0 * raised).round().min(10.0 * Quality::DECIBELS.end()) / 10.0;
            raises += 1;
        }
    }
}
