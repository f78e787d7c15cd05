//! How sparse each layer may be, found by trying: the preset `iterative`.

use std::collections::HashMap;

use onnx_dcomp_engine::Validation;
use onnx_dcomp_forms::Form;
use onnx_dcomp_ir::{Model, WeightId};
use onnx_dcomp_passes::{PipelineText, Rules};

use super::Compiler;
use crate::budget::judge::Judge;
use crate::budget::{Budget, FoundSparsity, Goal, LayerSparsity, Measured, Side, sparsity};
use crate::evidence::Knowledge;
use crate::plan::Resolved;
use crate::{Error, Watch};

/// The part of the budget that zeros may take; the rest is left for quantisation.
const PART_FOR_ZEROS: f64 = 0.5;

impl Compiler {
    /// What is missing for a plan that finds sparsities.
    ///
    /// # Errors
    /// [`Error::Usage`] where there are no samples, or no bound to find them against.
    pub(super) fn check_sparsity_goal(&self, plan: &Resolved) -> Result<(), Error> {
        let goal = self.check.as_ref().and_then(|check| check.goal.as_ref());
        let is_bounded = goal.is_some_and(|goal| matches!(goal.budget, Budget::MaxDrop(bound) if bound.is_finite()));
        if plan.sparsity_step().is_none() || is_bounded {
            return Ok(());
        }
        Err(Error::Usage(format!(
            "`{}` makes each layer as sparse as a budget allows: give samples with `--data DIR`, and the budget with \
             `--max-drop POINTS`",
            plan.label
        )))
    }

    /// Finds the sparsity that each layer of `model` bears, as step `step` of `plan` prunes; `model` becomes the pruned
    /// one.
    pub(super) fn find_sparsity(
        &self,
        plan: &Resolved,
        model: &mut Model,
        judge: &mut Judge,
        goal: &Goal,
        (rules, known, step): (&Rules, &Knowledge, usize),
        watch: &dyn Watch,
    ) -> Result<FoundSparsity, Error> {
        let Budget::MaxDrop(bound) = goal.budget else {
            return Err(Error::Usage("sparsities are found against `--max-drop`".to_owned()));
        };
        let text = plan.range(step..step + 1);
        let prune = |model: &Model, options: &[(&str, String)]| -> Result<Model, Error> {
            let mut pruned = model.clone();
            self.run_steps(&with_options(&text, options), rules, &mut pruned, known, step, &())?;
            Ok(pruned)
        };
        // Which weights the pass takes does not depend on how it chooses elements, and magnitudes cost nothing.
        let cheapest = [("criterion", "magnitude".to_owned()), ("sparsity", "0.5".to_owned())];
        let layers = changed(model, &prune(model, &cheapest)?);
        let mut forms: HashMap<(WeightId, u64), Form> = HashMap::new();
        let mut with_sparsities = |sparsities: &[f64]| -> Result<Model, Error> {
            let mut tried = model.clone();
            for (&id, &sparsity) in layers.iter().zip(sparsities).filter(|&(_, &sparsity)| sparsity > 0.0) {
                let form = match forms.get(&(id, sparsity.to_bits())) {
                    Some(form) => form.clone(),
                    None => {
                        let name = globset::escape(&model.weight(id).name);
                        let options = [("sparsity", sparsity.to_string()), ("select", name)];
                        let form = prune(model, &options)?.weight(id).form.clone();
                        forms.insert((id, sparsity.to_bits()), form.clone());
                        form
                    }
                };
                tried.weight_mut(id).form = form;
            }
            Ok(tried)
        };
        let elements: Vec<usize> = layers.iter().map(|&id| model.weight(id).len()).collect();
        let samples = judge.samples(Side::Search);
        let mut round = 0;
        let keeps = |sparsities: &[f64]| {
            round += 1;
            let tried = with_sparsities(sparsities)?;
            watch.begin(&format!("finding sparsities: round {round}"), Some(samples as u64));
            let measured = measure(judge, &tried, samples, watch);
            watch.end();
            Ok(Measured::of(&measured?, judge.metric(), &goal.floors).keeps(PART_FOR_ZEROS * bound))
        };
        let (found, evaluations) = sparsity::search(&elements, keeps)?;
        let pruned = with_sparsities(&found)?;
        let of_layer = |((&id, elements), sparsity): ((&WeightId, usize), f64)| LayerSparsity {
            name: model.weight(id).name.clone(),
            elements,
            sparsity,
        };
        let layers = layers.iter().zip(elements).zip(found).map(of_layer).collect();
        *model = pruned;
        Ok(FoundSparsity { evaluations, layers })
    }
}

fn measure(judge: &mut Judge, model: &Model, samples: usize, watch: &dyn Watch) -> Result<Validation, Error> {
    let mut session = judge.session(model)?;
    judge.measure(&mut session, Side::Search, samples, watch)
}

/// The steps of `text` with other options.
fn with_options(text: &PipelineText, options: &[(&str, String)]) -> PipelineText {
    let mut text = text.clone();
    for step in &mut text.steps {
        for (name, value) in options {
            step.options.retain(|(given, _)| given != name);
            step.options.push(((*name).to_owned(), value.clone()));
        }
    }
    text
}

/// The weights whose form is another in `after`.
fn changed(before: &Model, after: &Model) -> Vec<WeightId> {
    before.weights().filter(|(id, weight)| after.weight(*id).form != weight.form).map(|(id, _)| id).collect()
}
