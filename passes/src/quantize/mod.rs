//! `quantize`: elements move to a grid, by rate and distortion.
//!
//! One aim for the network, in decibel of its output, becomes a price of bits that is the same in every weight; each
//! weight's step follows from that price and from the output's sensitivity to it. Levels are chosen by squared error
//! plus the price of their bits, on a uniform grid or through the [trellis](onnx_dcomp_forms::trellis). Where the
//! second moment of a layer's input is known, errors are fed back: see [`feedback`]. Where the network can be followed on
//! samples, layers come one after the other, and each is moved before it is quantised, to fit the inputs that those
//! before it leave.
//!
//! On a lattice, see [`onnx_dcomp_forms::lattice`], levels are those of the nearest point, under a dither: universal
//! quantisation asks no rate and feeds nothing back. Its error is that of a uniform grid at the same quality. With
//! dither nothing stays zero: weights with many zeros, and the vectors beside kernels, take the uniform grid instead.
//!
//! Where the codes are to have a fixed length, see `fixed`, most weights become codebooks instead.
//!
//! Moves weights from [`Form::Dense`] to [`Form::Grid`], and those that are codebooks already where a grid takes less.
//! Sources: [`viterbi`] and [`feedback`] name theirs.
//! Cost: some 0.2 µs an element, with feedback 0.5 µs and half the row length in multiplications; memory beside the
//! weight: two bytes an element, with feedback eight more.

pub mod feedback;
mod fixed;
mod known;
pub mod neighbourhood;
mod options;
pub mod rate;
pub mod target;
pub mod viterbi;

use onnx_dcomp_forms::{Form, Grid, GridKind, Lattice, Steps, Values, lattice};
use onnx_dcomp_ir::{Drift, Evidence, Follow, Model, Role, Weight, WeightId};
use rayon::prelude::*;

pub use crate::curvature::Curvature;
pub use options::{LatticeName, QuantizeOptions, Scheme, Switch};
pub use target::{Quantized, Target};

use crate::bias::Correction;
use crate::drift::Moved;
use crate::following::in_order;
use crate::registry::Configured;
use crate::selection::{Settings, check_select, reason_to_leave};
use crate::{Pass, PassError, PassReport};
use known::{Known, row_length};

/// Moves weights to grids; see [the module](crate::quantize).
pub struct Quantize {
    settings: Settings<QuantizeOptions>,
}

impl Configured for Quantize {
    type Options = QuantizeOptions;
    const NAME: &'static str = "quantize";
    const SUMMARY: &'static str = "elements move to a grid, by rate and distortion";
    const SOURCE: &'static str = "Marcellin and Fischer, Trellis coded quantization, 1990; Frantar et al., GPTQ, 2023; \
                                  Conzelmann and Bamler, Rate-constrained quantization, 2025; Choi et al., Universal deep neural \
                                  network compression, 2020";

    fn configured(settings: Settings<QuantizeOptions>) -> Self {
        Self { settings }
    }
}

impl From<QuantizeOptions> for Quantize {
    fn from(options: QuantizeOptions) -> Self {
        Self::configured(options.into())
    }
}

/// Energy that high-rate quantisation leaves behind for one bit at price one: `1 / (2 ln 2)`.
const ERROR_PER_PRICE: f64 = 0.721_347_520_444_481_7;

/// The step of a uniform grid over that of the trellis at the same slope of error over bits: the trellis' points are
/// denser, but it may use only half of them at a time.
const UNIFORM_SPACING: f64 = 1.5;

/// The same for vectors beside the kernels: they are few, so that finer steps cost next to nothing.
const VECTOR_SPACING: f64 = 0.35;

/// The widest step, over the largest magnitude of the weight. With error feedback a few elements may stand for many, so
/// that steps wider than any element serve too.
const WIDEST: f32 = 8.0;

/// Further damping for each column that a moment has over each input that it was averaged of: what few inputs say of
/// many columns is mostly chance (Ledoit and Wolf, "A well-conditioned estimator for large-dimensional covariance
/// matrices", 2004, where the shrinkage grows with the same ratio).
const DOUBT: f64 = 0.1;

/// The bit price that steps are derived from where none is asked for.
const USUAL_BIT_PRICE: f64 = 0.02;

/// Price of a bit of fixed length over that of a coded one, so that the same quality leaves the same error: high-rate
/// quantisation at a price leaves [`ERROR_PER_PRICE`] times that price, the grids above leave a twelfth of a squared step.
const FIXED_PRICE: f64 = UNIFORM_SPACING * UNIFORM_SPACING / (12.0 * USUAL_BIT_PRICE * ERROR_PER_PRICE);

/// What is to be done with one weight.
struct Task {
    id: WeightId,
    options: QuantizeOptions,
    /// The seed of its dither.
    seed: u64,
    /// Relative squared error of the output for one unit of squared error in the weight.
    sensitivity: f64,
}

impl Pass for Quantize {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn run(&self, model: &mut Model, evidence: &Evidence) -> Result<PassReport, PassError> {
        self.compress(model, evidence, None)
    }

    fn run_following(
        &self,
        model: &mut Model,
        evidence: &Evidence,
        follow: &dyn Follow,
    ) -> Result<PassReport, PassError> {
        self.compress(model, evidence, Some(follow))
    }
}

/// What became of the weights so far.
#[derive(Default)]
struct Done {
    weights: usize,
    nonzeros: usize,
}

impl Done {
    fn put(&mut self, model: &mut Model, task: &Task, found: Option<Quantization>) {
        let Some(Quantization { form, correction }) = found else { return };
        self.weights += 1;
        self.nonzeros += form.nonzeros();
        model.weight_mut(task.id).form = form;
        if let Some(correction) = correction {
            correction.apply(model);
        }
    }
}

impl Quantize {
    fn compress(
        &self,
        model: &mut Model,
        evidence: &Evidence,
        follow: Option<&dyn Follow>,
    ) -> Result<PassReport, PassError> {
        check_select(Self::NAME, &self.settings.base().select, model)?;
        let tasks = self.tasks(model, evidence);
        let elements: usize = tasks.iter().map(|task| model.weight(task.id).len()).sum();
        let (mut report, mut done) = (PassReport::default(), Done::default());
        let (mut kernels, vectors): (Vec<Task>, Vec<Task>) =
            tasks.into_iter().partition(|task| model.weight(task.id).role.is_kernel());
        if let Some(follow) = follow {
            let name = |model: &Model, task: &Task| model.weight(task.id).name.clone();
            let follows = |task: &Task| task.options.follow == Switch::On;
            let missed = in_order(follow, model, &mut kernels, name, follows, |model, task, drift| {
                let found = quantize(model, &task, elements, evidence, drift);
                done.put(model, &task, found);
            });
            missed.into_iter().for_each(|reason| report.note(reason));
        }
        // Biases come last: they make good what the kernels get wrong in the mean.
        for tasks in [kernels, vectors] {
            let shared: &Model = model;
            let found: Vec<Option<Quantization>> =
                tasks.par_iter().map(|task| quantize(shared, task, elements, evidence, None)).collect();
            tasks.iter().zip(found).for_each(|(task, found)| done.put(model, task, found));
        }
        report.note(format!("quantised {} weights; {:.1} % of {elements} elements are not zero", done.weights, {
            100.0 * done.nonzeros as f64 / elements.max(1) as f64
        }));
        Ok(report)
    }

    fn tasks(&self, model: &Model, evidence: &Evidence) -> Vec<Task> {
        let candidates: Vec<(WeightId, QuantizeOptions)> = model
            .weights()
            .filter(|(_, weight)| !matches!(weight.form, Form::Grid(_)) && may_change(weight))
            .filter_map(|(id, weight)| Some((id, self.settings.for_weight(weight)?)))
            .filter(|(id, options)| options.select.matches(&model.weight(*id).name))
            .collect();
        let tasks = candidates.into_par_iter().enumerate().filter_map(|(number, (id, options))| {
            let weight = model.weight(id);
            let dense = weight.form.dense();
            let energy: f64 = dense.iter().map(|value| f64::from(value).powi(2)).sum();
            if !(energy.is_finite() && energy > 0.0) {
                return None;
            }
            // Inputs that never were shown to the network may make a weight look dead, or all-important: what the
            // weights themselves tell bounds what is believed.
            let own = 1.0 / energy;
            let least = if weight.role == Role::Bias { 1e-6 } else { 1e-3 };
            let sensitivity = evidence.sensitivity_of(&weight.name, energy).clamp(own * least, own * 1e3);
            Some(Task { id, seed: u64::from(options.seed) + number as u64, options, sensitivity })
        });
        tasks.collect()
    }
}

/// Whether the pass may approximate `weight`: kernels, and the vectors beside them, which cost little to keep fine.
fn may_change(weight: &Weight) -> bool {
    let is_vector = matches!(weight.role, Role::Bias | Role::Activation) && weight.left_alone.is_none();
    let may = if is_vector { weight.dtype().is_float() } else { reason_to_leave(weight).is_none() };
    may && weight.form.dense().all_finite()
}

/// A weight on its grid, and what that changes in its bias.
struct Quantization {
    form: Form,
    correction: Option<Correction>,
}

/// Quantises the weight, to fit inputs that have moved by `drift`; `None` where it would take more space.
fn quantize(
    model: &Model,
    task: &Task,
    elements: usize,
    evidence: &Evidence,
    drift: Option<&Drift>,
) -> Option<Quantization> {
    let weight = model.weight(task.id);
    let options = &task.options;
    let dense = weight.form.dense();
    let rounded =
        |largest| Some(Quantization { form: Form::Grid(rounded(weight, &dense, largest)?), correction: None });
    let known = match options.scheme {
        Scheme::Int8 => return rounded(127.0).filter(|found| is_smaller(&found.form, weight)),
        Scheme::Int4 => return rounded(7.0).filter(|found| is_smaller(&found.form, weight)),
        _ => Known::of(model, weight, evidence, options),
    };
    // Pruned elements stay zero: a weight that has them moves only where errors are fed back past them.
    let feeds_back = known.curvature.is_some() && options.scheme != Scheme::Fixed;
    let moved = drift.filter(|_| feeds_back || !has_many_zeros(&dense)).and_then(|drift| {
        let moved = Moved::of(&dense.to_f32(), drift, known.bias.is_some())?;
        Some((Values::from_f32(dense.dtype(), &moved.values), moved.shift, &drift.moment.mean))
    });
    let wanted = moved.as_ref().map_or(&dense, |(values, ..)| values);
    let form = match options.scheme {
        Scheme::Fixed => {
            let price = FIXED_PRICE * known.price(task, elements) / known.weighted();
            let (blocks, curvature) = (known.damped.as_deref(), known.curvature.as_ref());
            let input = fixed::Input { weighted: known.weighted(), blocks, curvature };
            let rival = by_rate(weight, task, elements, &known, [&dense, wanted]).filter(|_| weight.role.is_kernel());
            fixed::form(weight, wanted, &input, price, rival)?
        }
        _ => Form::Grid(by_rate(weight, task, elements, &known, [&dense, wanted])?),
    };
    let mean = moved.as_ref().map(|(.., mean)| *mean).or(known.moment.map(|moment| &moment.mean));
    let correction = known.bias.zip(mean).map(|(bias, mean)| {
        let shift = moved.as_ref().map_or(&[][..], |(_, shift, _)| shift);
        Correction::of(bias, wanted, &form, mean).and(shift)
    });
    (options.scheme == Scheme::Fixed || is_smaller(&form, weight)).then_some(Quantization { form, correction })
}

fn is_smaller(form: &Form, weight: &Weight) -> bool {
    form.order0_bits() < weight.form.order0_bits()
}

/// A few zeros are chance; many were made by somebody.
fn has_many_zeros(dense: &Values) -> bool {
    dense.iter().filter(|&value| value == 0.0).count() * 10 > dense.len()
}

/// Levels by rate and distortion, of a weight whose values are `dense` and should rather be `wanted`.
fn by_rate(
    weight: &Weight,
    task: &Task,
    elements: usize,
    known: &Known<'_>,
    [dense, wanted]: [&Values; 2],
) -> Option<Grid> {
    let options = &task.options;
    let row_length = row_length(weight);
    let weighted = known.weighted();
    let is_vector = !weight.role.is_kernel();
    let keeps_zeros = has_many_zeros(dense);
    let kind = match options.scheme {
        _ if is_vector => GridKind::Uniform,
        Scheme::Lattice if !keeps_zeros => GridKind::Lattice { lattice: options.lattice.lattice(), seed: task.seed },
        Scheme::Trellis => GridKind::Trellis,
        _ => GridKind::Uniform,
    };
    let spacing = match kind {
        _ if is_vector => VECTOR_SPACING,
        GridKind::Uniform => UNIFORM_SPACING,
        GridKind::Trellis => 1.0,
        GridKind::Lattice { lattice, .. } => {
            UNIFORM_SPACING * (Lattice::Z.second_moment() / lattice.second_moment()).sqrt()
        }
    };
    let step = if options.step > 0.0 {
        options.step
    } else {
        let bit_price = if options.bit_price > 0.0 { options.bit_price } else { USUAL_BIT_PRICE };
        spacing * (known.price(task, elements) / (weighted * bit_price)).sqrt()
    };
    let largest = wanted.iter().fold(0f32, |largest, value| largest.max(value.abs()));
    // Levels must fit sixteen bits, and a step must not vanish.
    let step = (step as f32).clamp(largest / 16_000.0, (WIDEST * largest).max(f32::MIN_POSITIVE));
    let lambda = if is_vector { 0.0 } else { options.bit_price * weighted / (spacing * spacing) };
    if let GridKind::Lattice { lattice, seed } = kind {
        let levels = lattice::quantize(wanted.iter(), step, lattice, seed);
        return Grid::new(levels, Steps::PerTensor(step), kind, dense.dtype()).ok();
    }
    let target = Target { kind, steps: &[step], row_length, lambda: lambda as f32, keeps_zeros };
    let quantized = match &known.curvature {
        Some(curvature) => feedback::quantize([&dense.to_f32(), &wanted.to_f32()], &target, curvature),
        None => viterbi::quantize(wanted, &target),
    };
    Grid::new(quantized.levels, Steps::PerTensor(step), kind, dense.dtype()).ok()
}

/// Levels rounded to nearest within `-largest..=largest`, a step for each channel.
fn rounded(weight: &Weight, dense: &Values, largest: f32) -> Option<Grid> {
    let axis = weight.channel_axis.filter(|&axis| weight.shape.len() > 1 && axis < weight.shape.len());
    let (channels, inner) = match axis {
        Some(axis) => (weight.shape[axis], weight.shape[axis + 1..].iter().product()),
        None => (1, weight.len()),
    };
    let mut peaks = vec![0f32; channels];
    let channel_of = |index: usize| (index / inner) % channels;
    dense.iter().enumerate().for_each(|(index, value)| {
        let peak = &mut peaks[channel_of(index)];
        *peak = peak.max(value.abs());
    });
    let base = peaks.iter().copied().fold(0f32, f32::max) / largest;
    if !(base.is_finite() && base > 0.0) {
        return None;
    }
    let exponent = |peak: f32| (4.0 * (peak / largest / base).log2()).ceil().clamp(-128.0, 0.0) as i8;
    let exponents = peaks.iter().map(|&peak| exponent(peak)).collect();
    let steps = if channels > 1 { Steps::PerChannel { base, inner, exponents } } else { Steps::PerTensor(base) };
    let level = |(index, value): (usize, f32)| {
        (value / steps.of_channel(channel_of(index))).round().clamp(-largest, largest) as i16
    };
    let levels = dense.iter().enumerate().map(level).collect();
    Grid::new(levels, steps, GridKind::Uniform, dense.dtype()).ok()
}
