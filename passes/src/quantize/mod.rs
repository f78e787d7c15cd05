//! `quantize`: elements move to a grid, by rate and distortion.
//!
//! One aim for the network, in decibel of its output, becomes a price of bits that is the same in every weight; each
//! weight's step follows from that price and from the output's sensitivity to it. Levels are chosen by squared error
//! plus the price of their bits, on a uniform grid or through the [trellis](onnx_dcomp_forms::trellis). Where the
//! second moment of a layer's input is known, errors are fed back: see [`feedback`].
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
pub mod neighbourhood;
pub mod rate;
pub mod target;
pub mod viterbi;

use onnx_dcomp_forms::{Form, Grid, GridKind, Lattice, Steps, Values, lattice};
use onnx_dcomp_ir::{Evidence, Model, Role, SecondMoment, Weight, WeightId};
use rayon::prelude::*;

pub use crate::curvature::Curvature;
use crate::curvature::Damped;
pub use target::{Quantized, Target};

use crate::registry::Configured;
use crate::selection::{NamePattern, Settings, check_select, reason_to_leave};
use crate::{Pass, PassError, PassReport};

crate::choices! {
    /// The grid, and how levels are chosen.
    pub enum Scheme {
        /// Trellis-coded: two grids that take turns, levels chosen together. The smallest at equal error.
        Trellis = "trellis",
        /// A uniform grid, levels chosen one by one. Decodes fastest.
        Uniform = "uniform",
        /// Dithered, on a lattice: errors say nothing of the weights. Pruned weights take the uniform grid, to keep zeros.
        Lattice = "lattice",
        /// Rounded to nearest in 8 bits, a step for each output channel.
        Int8 = "int8",
        /// Rounded to nearest in 4 bits, a step for each output channel.
        Int4 = "int4",
        /// A codebook of as many values as pay for codes of fixed length, or 8-bit levels: what the pass portable writes
        /// smallest.
        Fixed = "fixed",
    }
}

crate::choices! {
    /// A lattice to quantise vectors of elements on.
    pub enum LatticeName {
        /// The integers.
        Z = "z",
        /// Four integers with an even sum: 0.37 dB better at equal rate.
        D4 = "d4",
        /// Eight integers or halves of odd integers with an even sum: 0.65 dB better at equal rate.
        E8 = "e8",
    }
}

crate::choices! {
    /// Whether something is done.
    pub enum Switch {
        /// It is done where it can be.
        On = "on",
        /// It is not done.
        Off = "off",
    }
}

crate::options! {
    /// Options of [`Quantize`].
    pub struct QuantizeOptions {
        /// The grid, and how levels are chosen.
        pub scheme: Scheme = Scheme::Trellis;
        /// The lattice of `scheme=lattice`.
        pub lattice: LatticeName = LatticeName::E8;
        /// The seed of the lattice's dither; each weight gets one of its own from it on.
        pub seed: u32 = 0;
        /// Energy of the network's output over that of the error to aim for, in decibel; more is finer.
        pub quality: f64 = 24.0, within -20.0..=120.0;
        /// The step for every weight, in its own unit; 0 derives it from `quality`.
        pub step: f64 = 0.0, within 0.0..;
        /// Price of a bit in squared steps; 0 rounds to nearest.
        pub bit_price: f64 = 0.02, within 0.0..=10.0;
        /// Whether errors are made good by the elements that follow, where the layer's input is known.
        pub feedback: Switch = Switch::On;
        /// What is added to the second moment's diagonal, as a fraction of its mean: distrust in the evidence.
        pub damping: f64 = 0.02, within 0.0..=1000.0;
        /// Weights to quantise, by name.
        pub select: NamePattern = NamePattern::all();
    }
}

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

impl LatticeName {
    fn lattice(self) -> Lattice {
        match self {
            Self::Z => Lattice::Z,
            Self::D4 => Lattice::D4,
            Self::E8 => Lattice::E8,
        }
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
        check_select(Self::NAME, &self.settings.base().select, model)?;
        let tasks = self.tasks(model, evidence);
        let elements: usize = tasks.iter().map(|task| model.weight(task.id).len()).sum();
        let mut report = PassReport::default();
        let (mut moved, mut nonzeros) = (0usize, 0usize);
        let (kernels, vectors): (Vec<Task>, Vec<Task>) =
            tasks.into_iter().partition(|task| model.weight(task.id).role.is_kernel());
        // Biases come last: they make good what the kernels get wrong in the mean.
        for tasks in [kernels, vectors] {
            let shared: &Model = model;
            let quantized: Vec<Option<(Form, Option<Correction>)>> =
                tasks.par_iter().map(|task| quantize(shared, task, elements, evidence)).collect();
            for (task, quantized) in tasks.iter().zip(quantized) {
                let Some((form, correction)) = quantized else { continue };
                moved += 1;
                nonzeros += form.nonzeros();
                model.weight_mut(task.id).form = form;
                if let Some(correction) = correction {
                    correction.apply(model);
                }
            }
        }
        report.note(format!("quantised {moved} weights; {:.1} % of {elements} elements are not zero", {
            100.0 * nonzeros as f64 / elements.max(1) as f64
        }));
        Ok(report)
    }
}

impl Quantize {
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

/// The weight on its grid, and what that changes in its bias; `None` where it would take more space.
fn quantize(model: &Model, task: &Task, elements: usize, evidence: &Evidence) -> Option<(Form, Option<Correction>)> {
    let weight = model.weight(task.id);
    let options = &task.options;
    let dense = weight.form.dense();
    let mut correction = None;
    let form = match options.scheme {
        Scheme::Int8 => Form::Grid(rounded(weight, &dense, 127.0)?),
        Scheme::Int4 => Form::Grid(rounded(weight, &dense, 7.0)?),
        Scheme::Fixed => {
            let known = Known::of(model, weight, evidence, options);
            let price = FIXED_PRICE * known.price(task, elements) / known.weighted();
            let (blocks, curvature) = (known.damped.as_deref(), known.curvature.as_ref());
            let input = fixed::Input { weighted: known.weighted(), blocks, curvature };
            let rival = by_rate(weight, task, elements, &known, &dense).filter(|_| weight.role.is_kernel());
            let form = fixed::form(weight, &dense, &input, price, rival)?;
            let correction =
                known.bias.zip(known.moment).map(|(bias, moment)| Correction::of(bias, &dense, &form, moment));
            return Some((form, correction));
        }
        Scheme::Uniform | Scheme::Trellis | Scheme::Lattice => {
            let known = Known::of(model, weight, evidence, options);
            let form = Form::Grid(by_rate(weight, task, elements, &known, &dense)?);
            correction = known.bias.zip(known.moment).map(|(bias, moment)| Correction::of(bias, &dense, &form, moment));
            form
        }
    };
    (form.order0_bits() < weight.form.order0_bits()).then_some((form, correction))
}

/// What is known of one kernel's input and output.
struct Known<'a> {
    moment: Option<&'a SecondMoment>,
    /// The moment that counts, scaled and damped; kept where a codebook is fitted to it.
    damped: Option<Vec<Damped>>,
    curvature: Option<Curvature>,
    /// Mean square of the input as the curvature counts it, over that of the whole input; at most one.
    spread: f64,
    /// The bias, where the layer has one that may change and the mean of its input is known.
    bias: Option<WeightId>,
}

impl<'a> Known<'a> {
    fn of(model: &Model, weight: &Weight, evidence: &'a Evidence, options: &QuantizeOptions) -> Self {
        let row_length = row_length(weight);
        let moment = evidence
            .second_moment
            .get(&weight.name)
            .filter(|moment| options.feedback == Switch::On && moment.columns() == row_length);
        let rows = weight.shape.first().copied().unwrap_or(1);
        let bias = evidence.bias.get(&weight.name).and_then(|name| model.weight_named(name)).filter(|&id| {
            let bias = model.weight(id);
            may_change(bias) && bias.len() == rows && moment.is_some_and(|moment| moment.mean.len() == row_length)
        });
        // What is wrong in the mean of the outputs, the bias makes good.
        let covariance = moment.filter(|_| bias.is_some()).and_then(SecondMoment::covariance);
        let counted = covariance.as_ref().or(moment);
        let spread = counted.zip(moment).map_or(1.0, |(counted, moment)| counted.mean_square() / moment.mean_square());
        // A dithered lattice rounds to nearest: nothing is fed back.
        let counted = counted.filter(|_| options.scheme != Scheme::Lattice);
        let damped = counted.and_then(|counted| {
            let widest = counted.blocks.iter().map(|block| block.size).max().unwrap_or_default();
            let doubt = DOUBT * widest as f64 / counted.samples.max(1) as f64;
            Damped::blocks(counted, options.damping + doubt)
        });
        let curvature = damped.as_deref().and_then(Curvature::of);
        let damped = damped.filter(|_| options.scheme == Scheme::Fixed && curvature.is_some());
        Self { moment, damped, curvature, spread, bias }
    }

    /// What a unit of squared error weighs once the elements behind it have made the best of it.
    fn weighted(&self) -> f64 {
        self.curvature.as_ref().map_or(1.0, Curvature::mean_weight)
    }

    /// Price of a bit in squared error of the weight, before that is weighted.
    fn price(&self, task: &Task, elements: usize) -> f64 {
        // In relative squared error of the output it is the same for every weight.
        let price = 10f64.powf(-task.options.quality / 10.0) / (ERROR_PER_PRICE * elements as f64);
        price / (task.sensitivity * self.spread.max(1e-6))
    }
}

fn row_length(weight: &Weight) -> usize {
    if weight.shape.len() > 1 { weight.len() / weight.shape[0].max(1) } else { weight.len() }
}

/// What a bias has to make good.
struct Correction {
    bias: WeightId,
    /// For each row.
    shift: Vec<f64>,
}

impl Correction {
    /// The mean of what `form` gives less than `dense`, where the inputs' mean is that of `moment`.
    fn of(bias: WeightId, dense: &Values, form: &Form, moment: &SecondMoment) -> Self {
        let columns = moment.mean.len().max(1);
        let mut shift = vec![0.0; dense.len() / columns];
        let given = form.dense();
        for (index, (original, value)) in dense.iter().zip(given.iter()).enumerate() {
            let error = f64::from(original) - f64::from(value);
            shift[index / columns] += error * f64::from(moment.mean[index % columns]);
        }
        Self { bias, shift }
    }

    fn apply(&self, model: &mut Model) {
        let bias = model.weight_mut(self.bias);
        let dense = bias.form.dense();
        let shifted: Vec<f32> =
            dense.iter().zip(&self.shift).map(|(value, shift)| (f64::from(value) + shift) as f32).collect();
        bias.form = Form::Dense(Values::from_f32(dense.dtype(), &shifted));
    }
}

/// Levels by rate and distortion.
fn by_rate(weight: &Weight, task: &Task, elements: usize, known: &Known<'_>, dense: &Values) -> Option<Grid> {
    let options = &task.options;
    let row_length = row_length(weight);
    let weighted = known.weighted();
    let is_vector = !weight.role.is_kernel();
    // A few zeros are chance; many were made by somebody.
    let zeros = dense.iter().filter(|&value| value == 0.0).count();
    let keeps_zeros = zeros * 10 > weight.len();
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
    let largest = dense.iter().fold(0f32, |largest, value| largest.max(value.abs()));
    // Levels must fit sixteen bits, and a step must not vanish.
    let step = (step as f32).clamp(largest / 16_000.0, (WIDEST * largest).max(f32::MIN_POSITIVE));
    let lambda = if is_vector { 0.0 } else { options.bit_price * weighted / (spacing * spacing) };
    if let GridKind::Lattice { lattice, seed } = kind {
        let levels = lattice::quantize(dense.iter(), step, lattice, seed);
        return Grid::new(levels, Steps::PerTensor(step), kind, dense.dtype()).ok();
    }
    let target = Target { kind, steps: &[step], row_length, lambda: lambda as f32, keeps_zeros };
    let quantized = match &known.curvature {
        Some(curvature) => feedback::quantize(&dense.to_f32(), &target, curvature),
        None => viterbi::quantize(dense, &target),
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
