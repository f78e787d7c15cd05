//! What is known of one kernel.

use onnx_dcomp_ir::{Evidence, Model, SecondMoment, Weight, WeightId};

use super::{DOUBT, ERROR_PER_PRICE, QuantizeOptions, Scheme, Switch, Task};
use crate::bias;
use crate::curvature::{Curvature, Damped};

/// What is known of one kernel's input and output.
pub(super) struct Known<'a> {
    pub(super) moment: Option<&'a SecondMoment>,
    /// The moment that counts, scaled and damped; kept where a codebook is fitted to it.
    pub(super) damped: Option<Vec<Damped>>,
    pub(super) curvature: Option<Curvature>,
    /// Mean square of the input as the curvature counts it, over that of the whole input; at most one.
    spread: f64,
    /// The bias, where the layer has one that may change and the mean of its input is known.
    pub(super) bias: Option<WeightId>,
}

impl<'a> Known<'a> {
    pub(super) fn of(model: &Model, weight: &Weight, evidence: &'a Evidence, options: &QuantizeOptions) -> Self {
        let row_length = row_length(weight);
        let moment = evidence
            .second_moment
            .get(&weight.name)
            .filter(|moment| options.feedback == Switch::On && moment.columns() == row_length);
        let rows = weight.shape.first().copied().unwrap_or(1);
        let has_mean = moment.is_some_and(|moment| moment.mean.len() == row_length);
        let bias = bias::of(model, &weight.name, rows, evidence).filter(|_| has_mean);
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
    pub(super) fn weighted(&self) -> f64 {
        self.curvature.as_ref().map_or(1.0, Curvature::mean_weight)
    }

    /// Price of a bit in squared error of the weight, before that is weighted.
    pub(super) fn price(&self, task: &Task, elements: usize) -> f64 {
        // In relative squared error of the output it is the same for every weight.
        let price = 10f64.powf(-task.options.quality / 10.0) / (ERROR_PER_PRICE * elements as f64);
        price / (task.sensitivity * self.spread.max(1e-6))
    }
}

pub(super) fn row_length(weight: &Weight) -> usize {
    if weight.shape.len() > 1 { weight.len() / weight.shape[0].max(1) } else { weight.len() }
}
