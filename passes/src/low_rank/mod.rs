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

pub mod cost;
pub mod decompose;
pub mod metric;
pub mod rewrite;

use std::collections::BTreeMap;

use ndarray::Array2;
use onnx_dcomp_forms::{Form, Sparse, Values};
use onnx_dcomp_ir::{Evidence, Model, SecondMoment, Weight, WeightId};
use rayon::prelude::*;

pub use decompose::Decomposition;
pub use metric::Metric;
pub use rewrite::{Factors, Layer, Layers};

use crate::options::{OptionValue, unexpected};
use crate::registry::Configured;
use crate::selection::{NOT_FINITE, NamePattern, Settings, check_select, reason_to_leave};
use crate::{Pass, PassError, PassReport};
use cost::{OPERATOR_BITS, Part, bits_at};

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

/// Ranks that `auto` tries.
const STEPS: usize = 16;

/// Updates after each step in rank, and when the rank has been decided.
const UPDATES_OF_STEP: usize = 4;
const UPDATES_AT_LAST: usize = 30;

/// An update that takes off less than this fraction of the error is the last.
const TOLERANCE: f64 = 1e-3;

/// What is to be done with one weight.
struct Task {
    id: WeightId,
    layer: Layer,
    options: LowRankOptions,
    dense: Values,
    /// What may be lost, in squared error of the weight's elements under its metric.
    budget: f64,
}

/// What becomes of one weight.
enum Outcome {
    /// It stays, for this reason.
    Stays(&'static str),
    /// It holds the sum of both parts.
    Sum(Values),
    /// Its layer becomes several.
    Factors(Factors),
}

impl Pass for LowRank {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn run(&self, model: &mut Model, evidence: &Evidence) -> Result<PassReport, PassError> {
        check_select(Self::NAME, &self.settings.base().select, model)?;
        let (tasks, mut stays) = self.tasks(model, evidence);
        let shared: &Model = model;
        let outcomes: Vec<Outcome> = tasks
            .par_iter()
            .map(|task| {
                let weight = shared.weight(task.id);
                outcome(weight, task, evidence.second_moment.get(&weight.name))
            })
            .collect();
        let mut done: Vec<(Task, Outcome)> = tasks.into_iter().zip(outcomes).collect();
        // From the last node on, so that the numbers of those to come stay what they are.
        done.sort_by_key(|(task, _)| std::cmp::Reverse(task.layer.node));
        let mut report = PassReport::default();
        let (mut split, mut with_sparse, mut before, mut after, mut sums) = (0, 0, 0, 0, 0);
        for (task, outcome) in done {
            match outcome {
                Outcome::Stays(reason) => *stays.entry(reason).or_default() += 1,
                Outcome::Sum(values) => {
                    sums += 1;
                    model.weight_mut(task.id).form = Form::Dense(values);
                }
                Outcome::Factors(factors) => {
                    split += 1;
                    with_sparse += usize::from(factors.sparse.is_some());
                    before += task.dense.len();
                    after += factors.numbers();
                    task.layer.replace(model, &factors);
                }
            }
        }
        if split > 0 {
            report.note(format!(
                "{split} layers became two thin ones, {with_sparse} of them with a sparse one beside: \
                 {before} numbers became {after}"
            ));
        }
        if sums > 0 {
            report.note(format!("{sums} kernels hold the sum of a low-rank and a sparse part"));
        }
        for (reason, count) in stays {
            report.note(format!("{count} kernels stay as they are: {reason}"));
        }
        Ok(report)
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

/// The best candidate for one weight.
fn outcome(weight: &Weight, task: &Task, moment: Option<&SecondMoment>) -> Outcome {
    let [rows, columns] = task.layer.size();
    let moment = moment.filter(|moment| moment.columns() == columns);
    let metric = moment.and_then(|moment| Metric::new(moment, task.options.damping));
    let metric = metric.unwrap_or_else(|| Metric::identity(columns));
    let target = task.layer.matrix(&task.dense);
    let nonzeros = ((1.0 - task.options.sparsity) * target.len() as f64).round() as usize;
    let mut state = Decomposition::new(target.clone(), &metric, nonzeros);
    let mut best: Option<Candidate<'_>> = None;
    for rank in ranks(&task.options, [rows, columns], nonzeros) {
        state.grow(rank.saturating_sub(state.rank()));
        state.settle(TOLERANCE, UPDATES_OF_STEP);
        let candidate = Candidate::new(&state, task, &metric);
        // A given rank is taken at its last step; of others the cheapest.
        let is_better = best.as_ref().is_none_or(|best| candidate.bits < best.bits);
        if task.options.rank != Rank::Auto || is_better {
            best = Some(candidate);
        }
    }
    let Some(mut best) = best.filter(|best| best.state.rank() > 0) else { return Outcome::Stays(NOTHING_SMALLER) };
    best.state.settle(TOLERANCE, UPDATES_AT_LAST);
    let best = Candidate::new(&best.state, task, &metric);
    let is_forced = task.options.emit != Emit::Cheapest && task.options.rank != Rank::Auto;
    let unchanged = bits_at(&[Part::of(target.iter().copied(), metric.mean_weight())], task.budget);
    let is_worth_it = match task.options.emit {
        Emit::Cheapest => best.bits < unchanged,
        _ => is_forced || best.bits.is_finite(),
    };
    if !is_worth_it {
        return Outcome::Stays(NOTHING_SMALLER);
    }
    if best.is_sum {
        return Outcome::Sum(task.layer.values(weight.dtype(), &best.state.sum()));
    }
    let sparse = (!best.state.sparse_values().is_empty()).then(|| best.state.sparse());
    let factors = Factors { left: best.state.left().clone(), right: best.state.right(), sparse };
    if factors.stored_bits(&task.layer, weight) < weight.form.order0_bits() {
        Outcome::Factors(factors)
    } else {
        Outcome::Stays(NOTHING_SMALLER)
    }
}

/// Why a kernel that could be taken apart was not.
const NOTHING_SMALLER: &str = "parts of low rank would take more space at this quality";

/// The ranks to go through, in growing order.
fn ranks(options: &LowRankOptions, size: [usize; 2], nonzeros: usize) -> Vec<usize> {
    let [rows, columns] = size;
    let most = rows.min(columns) - 1;
    let fewer_numbers = (rows * columns).saturating_sub(2 * nonzeros) / (rows + columns);
    let last = match options.rank {
        Rank::Auto if options.emit == Emit::Weight => most,
        Rank::Auto => most.min(fewer_numbers),
        Rank::Fraction(fraction) => ((fraction * (most + 1) as f64).round() as usize).clamp(1, most),
        Rank::Count(count) => count.min(most),
    };
    let step = last.div_ceil(STEPS).max(1);
    let mut ranks: Vec<usize> = (1..).map(|number| number * step).take_while(|&rank| rank < last).collect();
    ranks.extend((last > 0).then_some(last));
    ranks
}

/// A decomposition, and what it would take.
struct Candidate<'m> {
    state: Decomposition<'m>,
    /// Whether one kernel, the sum, takes less than its parts.
    is_sum: bool,
    /// Estimated bits at the distortion that is allowed; infinite where the decomposition alone exceeds it.
    bits: f64,
}

impl<'m> Candidate<'m> {
    fn new(state: &Decomposition<'m>, task: &Task, metric: &Metric) -> Self {
        let left_over = task.budget - state.error();
        let of_sum = || {
            if left_over <= 0.0 {
                return f64::INFINITY;
            }
            bits_at(&[Part::of(state.sum().into_iter(), metric.mean_weight())], left_over)
        };
        let of_parts = || {
            let has_sparse = !state.sparse_values().is_empty();
            let operators = Layer::further_operators(has_sparse) as f64;
            bits_at(&parts(state, metric), left_over) + operators * OPERATOR_BITS
        };
        let (sum, parts) = match task.options.emit {
            Emit::Cheapest => (of_sum(), of_parts()),
            Emit::Factors => (f64::INFINITY, of_parts()),
            Emit::Weight => (of_sum(), f64::INFINITY),
        };
        let is_sum = task.options.emit == Emit::Weight || sum < parts;
        Self { state: state.clone(), is_sum, bits: sum.min(parts) }
    }
}

/// `U`, `V` and `S` as they would be quantised.
fn parts(state: &Decomposition<'_>, metric: &Metric) -> Vec<Part> {
    let weight = metric.mean_weight();
    let mut gram = state.whitened_right().dot(&state.whitened_right().t());
    let rank = gram.nrows().max(1) as f64;
    // What an error in U costs once the other columns have made the best of it.
    let left_weight = match metric::factor(&mut gram) {
        Some(()) => (gram.diag().iter().map(|pivot| 2.0 * pivot.ln()).sum::<f64>() / rank).exp(),
        None => weight,
    };
    let sparse = state.sparse_values();
    let zeros = state.left().nrows() * state.right().ncols() - sparse.len();
    let mut parts =
        vec![Part::of(state.left().iter().copied(), left_weight), Part::of(state.right().into_iter(), weight)];
    if !sparse.is_empty() {
        parts.push(Part { values: sparse, zeros, weight });
    }
    parts
}

impl Part {
    fn of(values: impl Iterator<Item = f64>, weight: f64) -> Self {
        Self { values: values.collect(), zeros: 0, weight }
    }
}

impl Factors {
    /// Numbers that are not zero by construction.
    pub fn numbers(&self) -> usize {
        let nonzeros = |sparse: &Array2<f64>| sparse.iter().filter(|&&value| value != 0.0).count();
        self.left.len() + self.right.len() + self.sparse.as_ref().map_or(0, nonzeros)
    }

    /// Bits as they stand, before anything is quantised, the places of sparse elements and the operators included.
    fn stored_bits(&self, layer: &Layer, weight: &Weight) -> f64 {
        let dense = 8.0 * (weight.dtype().element_bytes() * (self.left.len() + self.right.len())) as f64;
        let sparse = self.sparse.as_ref().map_or(0.0, |sparse| {
            Form::Sparse(Sparse::from_dense(&layer.values(weight.dtype(), sparse))).order0_bits()
        });
        dense + sparse + Layer::further_operators(self.sparse.is_some()) as f64 * OPERATOR_BITS
    }
}
