//! `low-rank`: a kernel becomes a product of two thin ones, plus a few elements.
//!
//! A kernel `W` with a row for each output is approximated by `U V + S`, of low rank and sparse, so that the layer's
//! feature map changes least: see [`decompose`] for how, [`metric`] for what counts, and [`rewrite`] for what becomes
//! of the layer. What is smaller at equal distortion is taken ([`cost`]): the kernel as it is, two thin layers and a
//! sparse one beside them, or one kernel `U V + S`.
//!
//! The rank is given, or chosen: from a sixteenth of what would still save numbers up to that, the one whose parts take
//! the fewest bits. How much may be lost comes from `quality`, shared out among the kernels by their size and by how
//! much the output feels them; it is the energy that is not kept.
//!
//! Sources: [`decompose`] names them.
//! Cost: some hundred times rows times columns times rank for each kernel; memory beside it: some forty bytes an
//! element, so that the largest kernels are left alone.

mod choice;
pub mod cost;
pub mod decompose;
pub mod metric;
pub mod rewrite;

use std::collections::BTreeMap;

use onnx_dcomp_forms::{Form, Values};
use onnx_dcomp_ir::{Drift, Evidence, Follow, Model, SecondMoment, Weight, WeightId};
use rayon::prelude::*;

pub use decompose::Decomposition;
pub use metric::Metric;
pub use rewrite::{Factors, Layer, Layers};

use crate::bias::{self, Correction};
use crate::drift::Moved;
use crate::following::in_order;
use crate::options::{OptionValue, unexpected};
use crate::quantize::Switch;
use crate::registry::Configured;
use crate::selection::{NOT_FINITE, NamePattern, Settings, check_select, reason_to_leave};
use crate::{Pass, PassError, PassReport};
use choice::{Outcome, outcome};

crate::choices! {
    /// What a kernel may become.
    pub enum Emit {
        /// What takes the fewest bits at equal distortion, the kernel as it is among the candidates.
        Cheapest = "cheapest",
        /// Two thin layers, and a sparse one beside them, wherever that are fewer numbers.
        Factors = "factors",
        /// One kernel, the sum of the low-rank and the sparse part.
        Weight = "weight",
    }
}

/// How many columns the thin factors have.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rank {
    /// As many as take the fewest bits.
    Auto,
    /// A fraction of the kernel's rows or columns, whichever are fewer.
    Fraction(f64),
    /// So many.
    Count(usize),
}

impl OptionValue for Rank {
    fn parse(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        let number: f64 = text.parse().map_err(|_| unexpected(&Self::kind(), text))?;
        match number {
            0.0 => Ok(Self::Auto),
            _ if number > 0.0 && number < 1.0 => Ok(Self::Fraction(number)),
            _ if number.fract() == 0.0 && (1.0..=1e6).contains(&number) => Ok(Self::Count(number as usize)),
            _ => Err(unexpected(&Self::kind(), text)),
        }
    }
    fn print(&self) -> String {
        match self {
            Self::Auto => "auto".to_owned(),
            Self::Fraction(fraction) => fraction.to_string(),
            Self::Count(count) => count.to_string(),
        }
    }
    fn kind() -> String {
        "`auto` (or 0), a fraction of the rows or columns below 1, or a whole number".to_owned()
    }
}

crate::options! {
    /// Options of [`LowRank`].
    pub struct LowRankOptions {
        /// Columns of the thin factors: a number, or, below 1, a fraction of the kernel's rows or columns, whichever
        /// are fewer; `auto` takes what needs the fewest bits.
        pub rank: Rank = Rank::Auto;
        /// Fraction of the kernel's elements that the sparse part leaves at zero; 1 does without it.
        pub sparsity: f64 = 0.99, within 0.0..=1.0;
        /// What a kernel may become.
        pub emit: Emit = Emit::Cheapest;
        /// Energy of the network's output over that of the error to aim for, in decibel: what candidates may lose.
        pub quality: f64 = 24.0, within -20.0..=120.0;
        /// Whether layers are taken apart one after the other, each for the inputs that those before it leave, where the
        /// network can be followed on samples.
        pub follow: Switch = Switch::On;
        /// What is added to the second moment's diagonal, as a fraction of its mean: distrust in the evidence.
        pub damping: f64 = 0.02, within 0.0..=1000.0;
        /// Weights to take apart, by name.
        pub select: NamePattern = NamePattern::all();
    }
}

/// Takes kernels apart into low-rank and sparse parts; see [the module](crate::low_rank).
pub struct LowRank {
    settings: Settings<LowRankOptions>,
}

impl Configured for LowRank {
    type Options = LowRankOptions;
    const NAME: &'static str = "low-rank";
    const SUMMARY: &'static str = "kernels become two thin ones and a sparse one, where that is smaller";
    const SOURCE: &'static str = "Yu, Liu, Wang and Tao, On compressing deep models by low rank and sparse \
                                  decomposition, 2017; Zhou and Tao, Greedy bilateral sketch, completion and \
                                  smoothing, 2013";

    fn configured(settings: Settings<LowRankOptions>) -> Self {
        Self { settings }
    }
}

impl From<LowRankOptions> for LowRank {
    fn from(options: LowRankOptions) -> Self {
        Self::configured(options.into())
    }
}

/// Kernels with more elements are left alone: taking them apart would need gigabytes, and hours.
const MAX_ELEMENTS: usize = 1 << 24;

/// What is to be done with one weight.
struct Task {
    id: WeightId,
    layer: Layer,
    options: LowRankOptions,
    dense: Values,
    /// What may be lost, in squared error of the weight's elements under its metric.
    budget: f64,
}

impl Pass for LowRank {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn run(&self, model: &mut Model, evidence: &Evidence) -> Result<PassReport, PassError> {
        self.take_apart(model, evidence, None)
    }

    fn run_following(
        &self,
        model: &mut Model,
        evidence: &Evidence,
        follow: &dyn Follow,
    ) -> Result<PassReport, PassError> {
        self.take_apart(model, evidence, Some(follow))
    }
}

/// What became of the layers so far.
#[derive(Default)]
struct Done {
    split: usize,
    with_sparse: usize,
    numbers_before: usize,
    numbers_after: usize,
    sums: usize,
    /// How many kernels stay, for which reason.
    stays: BTreeMap<&'static str, usize>,
}

impl Done {
    fn put(&mut self, model: &mut Model, task: &Task, (outcome, correction): (Outcome, Option<Correction>)) {
        match outcome {
            Outcome::Stays(reason) => {
                *self.stays.entry(reason).or_default() += 1;
                return;
            }
            Outcome::Sum(values) => {
                self.sums += 1;
                model.weight_mut(task.id).form = Form::Dense(values);
            }
            Outcome::Factors(factors) => {
                // Those before may have become several nodes.
                let Ok(layer) = Layers::new(model).of(task.id) else { return };
                layer.replace(model, &factors);
                self.split += 1;
                self.with_sparse += usize::from(factors.sparse.is_some());
                self.numbers_before += task.dense.len();
                self.numbers_after += factors.numbers();
            }
        }
        if let Some(correction) = correction {
            correction.apply(model);
        }
    }

    fn report(self) -> PassReport {
        let Self { split, with_sparse, numbers_before, numbers_after, sums, stays } = self;
        let mut report = PassReport::default();
        if split > 0 {
            report.note(format!(
                "{split} layers became two thin ones, {with_sparse} of them with a sparse one beside: \
                 {numbers_before} numbers became {numbers_after}"
            ));
        }
        if sums > 0 {
            report.note(format!("{sums} kernels hold the sum of a low-rank and a sparse part"));
        }
        for (reason, count) in stays {
            report.note(format!("{count} kernels stay as they are: {reason}"));
        }
        report
    }
}

impl LowRank {
    fn take_apart(
        &self,
        model: &mut Model,
        evidence: &Evidence,
        follow: Option<&dyn Follow>,
    ) -> Result<PassReport, PassError> {
        check_select(Self::NAME, &self.settings.base().select, model)?;
        let (mut tasks, stays) = self.tasks(model, evidence);
        let mut done = Done { stays, ..Done::default() };
        let mut missed = None;
        if let Some(follow) = follow {
            let name = |model: &Model, task: &Task| model.weight(task.id).name.clone();
            let follows = |task: &Task| task.options.follow == Switch::On;
            missed = in_order(follow, model, &mut tasks, name, follows, |model, task, drift| {
                let outcome = task.outcome(model, evidence, drift);
                done.put(model, &task, outcome);
            });
        }
        let shared: &Model = model;
        let outcomes: Vec<_> = tasks.par_iter().map(|task| task.outcome(shared, evidence, None)).collect();
        tasks.iter().zip(outcomes).for_each(|(task, outcome)| done.put(model, task, outcome));
        let mut report = done.report();
        missed.into_iter().for_each(|reason| report.note(reason));
        Ok(report)
    }
}

impl Task {
    /// What becomes of the weight, where the layer's inputs have moved by `drift`, and of its bias.
    fn outcome(&self, model: &Model, evidence: &Evidence, drift: Option<&Drift>) -> (Outcome, Option<Correction>) {
        let weight = model.weight(self.id);
        let [rows, columns] = self.layer.size();
        let known = drift.map(|drift| &drift.moment).or_else(|| evidence.second_moment.get(&weight.name));
        let known = known.filter(|moment| moment.columns() == columns);
        let mean = known.map(|moment| moment.mean.as_slice()).filter(|mean| mean.len() == columns);
        let bias = mean.and_then(|mean| Some((bias::of(model, &weight.name, rows, evidence)?, mean)));
        let moved = drift.and_then(|drift| Moved::of(&self.dense.to_f32(), drift, bias.is_some()));
        let wanted = moved.as_ref().map(|moved| Values::from_f32(self.dense.dtype(), &moved.values));
        let wanted = self.layer.matrix(wanted.as_ref().unwrap_or(&self.dense));
        // What is wrong in the mean of the outputs, the bias makes good.
        let covariance = known.filter(|_| bias.is_some()).and_then(SecondMoment::covariance);
        let outcome = outcome(weight, self, &wanted, covariance.as_ref().or(known));
        let given = match &outcome {
            Outcome::Stays(_) => None,
            Outcome::Sum(values) => Some(self.layer.matrix(values)),
            Outcome::Factors(factors) => Some(factors.sum()),
        };
        let correction = bias.zip(given).map(|((bias, mean), given)| {
            let shift = moved.as_ref().map_or(&[][..], |moved| &moved.shift);
            Correction::of_error(bias, &(wanted - given), mean).and(shift)
        });
        (outcome, correction)
    }
}

impl LowRank {
    /// The weights to take apart, and how many stay for which reason. Those that may not be touched get it written down.
    fn tasks(&self, model: &mut Model, evidence: &Evidence) -> (Vec<Task>, BTreeMap<&'static str, usize>) {
        let candidates: Vec<(WeightId, LowRankOptions)> = model
            .weights()
            .filter(|(_, weight)| weight.role.is_kernel())
            .filter_map(|(id, weight)| Some((id, self.settings.for_weight(weight)?)))
            .filter(|(id, options)| options.select.matches(&model.weight(*id).name))
            .collect();
        let (mut found, mut stays) = (Vec::new(), BTreeMap::new());
        for (id, options) in candidates {
            let weight = model.weight_mut(id);
            weight.left_alone = reason_to_leave(weight);
            if weight.left_alone.is_some() {
                continue;
            }
            let dense = match &weight.form {
                Form::Dense(_) | Form::Sparse(_) if weight.len() <= MAX_ELEMENTS => weight.form.dense(),
                Form::Dense(_) | Form::Sparse(_) => {
                    *stays.entry("too large to be taken apart").or_default() += 1;
                    continue;
                }
                _ => {
                    *stays.entry("held in a smaller form already").or_default() += 1;
                    continue;
                }
            };
            if !dense.all_finite() {
                weight.left_alone = Some(NOT_FINITE.to_owned());
                continue;
            }
            found.push((id, options, dense));
        }
        let layers = Layers::new(model);
        let elements: usize = found.iter().map(|(_, _, dense)| dense.len()).sum();
        let mut tasks = Vec::with_capacity(found.len());
        for (id, options, dense) in found {
            match layers.of(id) {
                Err(reason) => *stays.entry(reason).or_default() += 1,
                Ok(layer) => {
                    let budget = budget(model.weight(id), &dense, &options, elements, evidence);
                    tasks.push(Task { id, layer, options, dense, budget });
                }
            }
        }
        (tasks, stays)
    }
}

/// The share of the network's error that falls to `weight`, in squared error of its elements.
fn budget(weight: &Weight, dense: &Values, options: &LowRankOptions, elements: usize, evidence: &Evidence) -> f64 {
    let energy: f64 = dense.iter().map(|value| f64::from(value).powi(2)).sum();
    if energy <= 0.0 {
        return 0.0;
    }
    // As in `quantize`: what the weights themselves tell bounds what is believed of inputs never shown.
    let own = 1.0 / energy;
    let sensitivity = evidence.sensitivity_of(&weight.name, energy).clamp(own * 1e-3, own * 1e3);
    10f64.powf(-options.quality / 10.0) * dense.len() as f64 / (elements.max(1) as f64 * sensitivity)
}
