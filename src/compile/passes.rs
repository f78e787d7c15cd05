//! Running the passes of a plan, with evidence where they ask for it.

use std::ops::Range;
use std::time::Instant;

use onnx_dcomp_ir::Model;
use onnx_dcomp_passes::{PipelineText, Rules};

use super::Compiler;
use super::search::Ran;
use crate::evidence::{Gathering, Knowledge};
use crate::plan::Resolved;
use crate::{Error, PassRecord, Watch};

impl Compiler {
    /// Runs the passes; evidence is gathered before the first that asks for it, and again where layers have changed.
    pub(super) fn run_passes(
        &self,
        plan: &Resolved,
        model: &mut Model,
        gathering: &mut Gathering,
        watch: &dyn Watch,
    ) -> Result<Ran, Error> {
        let rules = plan.rules(model)?;
        let (passes, known) = self.run_range(plan, 0..plan.text.steps.len(), &rules, model, gathering, watch)?;
        let evidence = known.map(|known| known.evidence.source.clone());
        Ok(Ran::of(passes, evidence, plan.text.to_string()))
    }

    /// Runs the steps of `range`, and gathers evidence where the plan does; with the evidence that was gathered last.
    pub(super) fn run_range(
        &self,
        plan: &Resolved,
        range: Range<usize>,
        rules: &Rules,
        model: &mut Model,
        gathering: &mut Gathering,
        watch: &dyn Watch,
    ) -> Result<(Vec<PassRecord>, Option<Knowledge>), Error> {
        let gatherings: Vec<usize> = plan.gatherings().into_iter().filter(|place| range.contains(place)).collect();
        let (mut passes, mut known) = (Vec::new(), None);
        let starts = std::iter::once(range.start).chain(gatherings.iter().copied());
        let ends = gatherings.iter().copied().chain([range.end]);
        for part in starts.zip(ends).map(|(start, end)| start..end).filter(|part| !part.is_empty()) {
            if gatherings.contains(&part.start) {
                let started = Instant::now();
                let gathered = gathering.gather(model, watch)?;
                tracing::debug!(
                    seconds = started.elapsed().as_secs_f64(),
                    source = gathered.evidence.source,
                    "gathered evidence"
                );
                known = Some(gathered);
            }
            let nothing = Knowledge::default();
            let text = plan.range(part.clone());
            let known = known.as_ref().unwrap_or(&nothing);
            passes.extend(self.run_steps(&text, rules, model, known, part.start, watch)?);
        }
        Ok((passes, known))
    }

    /// Runs the steps of `text`, of which the first is step `first` of the plan.
    pub(super) fn run_steps(
        &self,
        text: &PipelineText,
        rules: &Rules,
        model: &mut Model,
        known: &Knowledge,
        first: usize,
        watch: &dyn Watch,
    ) -> Result<Vec<PassRecord>, Error> {
        let pipeline = Resolved::build(text, rules)?;
        let mut observer = self.observing.observer(first, first + text.steps.len(), watch);
        let done = known.run(&pipeline, model, &mut observer);
        let records = observer.finish();
        done.map_err(|source| Error::Pass { file: self.file(), source: Box::new(source) })?;
        Ok(records)
    }
}
