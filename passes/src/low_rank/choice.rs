//! Which candidate a kernel becomes.
//!
//! The kernel as it is, two thin layers and a sparse one beside them, or one kernel that is the sum: compared by the
//! bits that they would take where each may lose the same. Ranks are gone through in growing order, each from where the
//! one before it came to.

use ndarray::Array2;
use onnx_dcomp_forms::{Form, Sparse, Values};
use onnx_dcomp_ir::{SecondMoment, Weight};

use super::cost::{OPERATOR_BITS, Part, bits_at};
use super::{Decomposition, Emit, Factors, Layer, LowRankOptions, Metric, Rank, Task};

/// Ranks that `auto` tries, and steps in which a given rank is reached.
const RANKS_TRIED: usize = 16;
const STEPS_TO_RANK: usize = 4;

/// Updates after each step in rank, and when the rank has been decided.
const UPDATES_OF_STEP: usize = 4;
const UPDATES_AT_LAST: usize = 30;

/// An update that takes off less than this fraction of the error is the last.
const TOLERANCE: f64 = 1e-3;

/// What a candidate must save of the estimated bits to be worth it: the estimates differ from real files by about as
/// much, and further layers cost time.
const LEAST_GAIN: f64 = 0.05;

/// What becomes of one weight.
pub(super) enum Outcome {
    /// It stays, for this reason.
    Stays(&'static str),
    /// It holds the sum of both parts.
    Sum(Values),
    /// Its layer becomes several.
    Factors(Factors),
}

/// The best candidate for one weight, fitted to `target`: the kernel with a row for each output, or what that should be
/// where the inputs that `moment` knows are other ones than the kernel was made for.
pub(super) fn outcome(weight: &Weight, task: &Task, target: &Array2<f64>, moment: Option<&SecondMoment>) -> Outcome {
    let [rows, columns] = task.layer.size();
    let moment = moment.filter(|moment| moment.columns() == columns);
    let metric = moment.and_then(|moment| Metric::new(moment, task.options.damping));
    let metric = metric.unwrap_or_else(|| Metric::identity(columns));
    let nonzeros = ((1.0 - task.options.sparsity) * target.len() as f64).round() as usize;
    let mut state = Decomposition::new(target.clone(), &metric, nonzeros);
    let mut best: Option<Candidate<'_>> = None;
    for rank in ranks(&task.options, [rows, columns], nonzeros) {
        state.grow(rank.saturating_sub(state.rank()));
        state.settle(TOLERANCE, UPDATES_OF_STEP);
        if task.options.rank == Rank::Auto && state.error() < task.budget {
            let candidate = Candidate::new(&state, task, &metric);
            if best.as_ref().is_none_or(|best| candidate.bits < best.bits) {
                best = Some(candidate);
            }
        }
    }
    let mut chosen = match (task.options.rank, best) {
        (Rank::Auto, Some(best)) => best.state,
        (Rank::Auto, None) => return Outcome::Stays(NOTHING_SMALLER),
        _ => state,
    };
    chosen.settle(TOLERANCE, UPDATES_AT_LAST);
    if chosen.rank() == 0 {
        return Outcome::Stays(NOTHING_SMALLER);
    }
    let best = Candidate::new(&chosen, task, &metric);
    let is_forced = task.options.emit != Emit::Cheapest && task.options.rank != Rank::Auto;
    let unchanged = bits_at(&[Part::of(task.dense.iter().map(f64::from), metric.mean_weight())], task.budget);
    let is_worth_it = match task.options.emit {
        Emit::Cheapest => best.bits < (1.0 - LEAST_GAIN) * unchanged,
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
    let steps = if options.rank == Rank::Auto { RANKS_TRIED } else { STEPS_TO_RANK };
    let step = last.div_ceil(steps).max(1);
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
    // One step serves all of U, so that an error in it costs what V's rows weigh on average.
    let right = state.whitened_right();
    let left_weight = right.iter().map(|value| value * value).sum::<f64>() / right.nrows().max(1) as f64;
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

    /// The kernel that they stand for.
    pub(super) fn sum(&self) -> Array2<f64> {
        let product = self.left.dot(&self.right);
        self.sparse.as_ref().map_or(product.clone(), |sparse| product + sparse)
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
