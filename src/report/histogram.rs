//! How the values of weights are spread, before and after.

use std::collections::HashMap;

use onnx_dcomp_forms::Form;
use onnx_dcomp_ir::{Model, Weight};
use onnx_dcomp_passes::selection::reason_to_leave;
use rayon::prelude::*;
use serde::Serialize;

/// Intervals of a histogram.
const BINS: usize = 72;
/// Weights that have one: those with the most elements.
pub(super) const MOST_HISTOGRAMS: usize = 24;
/// More distinct values than this are no points that anybody could tell apart.
const MOST_POINTS: usize = 256;
/// Values further from the mean than so many standard deviations fall into the outermost intervals.
const DEVIATIONS: f64 = 4.5;
/// The most elements of a weight that are counted, at even distances.
const MOST_COUNTED: usize = 1 << 22;

/// The values of one weight. Before means before its values were approximated, with other layers folded in already.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Histogram {
    /// Name of the weight.
    pub weight: String,
    /// The least value of the first interval.
    pub low: f64,
    /// The largest value of the last interval.
    pub high: f64,
    /// Values in each of the intervals, which are equally wide; values outside are counted in the outermost.
    pub before: Vec<u64>,
    /// The same of the output.
    pub after: Vec<u64>,
    /// Values of the output that are exactly zero.
    pub zeros_after: u64,
    /// The values of the output, ascending: centroids, or points of a grid. Empty where there are more than 256.
    pub points: Vec<Point>,
}

/// A value that weights share.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Point {
    /// The value.
    pub value: f64,
    /// How many elements have it.
    pub count: u64,
}

impl Histogram {
    /// The interval that holds `value`; `None` where it lies outside of all.
    pub fn bin_of(&self, value: f64) -> Option<usize> {
        (self.low..=self.high).contains(&value).then(|| self.nearest_bin(value))
    }

    fn nearest_bin(&self, value: f64) -> usize {
        let share = (value - self.low) / (self.high - self.low);
        ((share * BINS as f64).max(0.0) as usize).min(BINS - 1)
    }
}

/// The histograms of the layers of `model` whose values have another form than dense: of the largest 24, in the order of
/// the file.
///
/// Of weights with more than four million elements, some at even distances are counted.
pub(crate) fn histograms(model: &Model) -> Vec<Histogram> {
    let approximated = |weight: &&Weight| {
        let has_form = !matches!(weight.form, Form::Dense(_)) && weight.form.len() == weight.len();
        has_form && reason_to_leave(weight).is_none()
    };
    let mut weights: Vec<(usize, &Weight)> =
        model.weights().map(|(_, weight)| weight).filter(approximated).enumerate().collect();
    weights.sort_by_key(|(place, weight)| (std::cmp::Reverse(weight.len()), *place));
    weights.truncate(MOST_HISTOGRAMS);
    weights.sort_by_key(|(place, _)| *place);
    weights.into_par_iter().filter_map(|(_, weight)| histogram(weight)).collect()
}

fn histogram(weight: &Weight) -> Option<Histogram> {
    let stride = weight.len().div_ceil(MOST_COUNTED).max(1);
    let before = || weight.original.iter().step_by(stride).filter(|value| value.is_finite()).map(f64::from);
    let (mut count, mut sum, mut squares) = (0u64, 0.0, 0.0);
    let (mut least, mut largest) = (f64::INFINITY, f64::NEG_INFINITY);
    for value in before() {
        (count, sum, squares) = (count + 1, sum + value, squares + value * value);
        (least, largest) = (least.min(value), largest.max(value));
    }
    if count == 0 {
        return None;
    }
    let mean = sum / count as f64;
    let deviation = (squares / count as f64 - mean * mean).max(0.0).sqrt();
    let low = least.max(mean - DEVIATIONS * deviation);
    let high = largest.min(mean + DEVIATIONS * deviation);
    if low.partial_cmp(&high) != Some(std::cmp::Ordering::Less) {
        return None;
    }
    let mut histogram = Histogram {
        weight: weight.name.clone(),
        low,
        high,
        before: vec![0; BINS],
        after: vec![0; BINS],
        zeros_after: 0,
        points: Vec::new(),
    };
    for value in before() {
        let bin = histogram.nearest_bin(value);
        histogram.before[bin] += 1;
    }
    let mut distinct = HashMap::<u32, u64>::new();
    let mut index = 0;
    weight.form.for_each_value(|value| {
        let is_counted = index % stride == 0 && value.is_finite();
        index += 1;
        if !is_counted {
            return;
        }
        let bin = histogram.nearest_bin(f64::from(value));
        histogram.after[bin] += 1;
        histogram.zeros_after += u64::from(value == 0.0);
        if distinct.len() <= MOST_POINTS {
            // Negative zero is the same point as zero.
            *distinct.entry((value + 0.0).to_bits()).or_default() += 1;
        }
    });
    if distinct.len() <= MOST_POINTS {
        let point = |(bits, count)| Point { value: f64::from(f32::from_bits(bits)), count };
        histogram.points = distinct.into_iter().map(point).collect();
        histogram.points.sort_by(|a, b| a.value.total_cmp(&b.value));
    }
    Some(histogram)
}

#[cfg(test)]
mod tests {
    use onnx_dcomp_forms::{Codebook, DType, Grid, GridKind, Steps, Values};
    use onnx_dcomp_ir::{Role, Scope};

    use super::*;

    fn weight(original: &[f32], form: Form) -> Weight {
        Weight {
            name: "w".to_owned(),
            scope: Scope::Main,
            shape: vec![original.len()],
            role: Role::Other,
            operator: None,
            channel_axis: None,
            form,
            original: Values::from_f32(DType::F32, original),
            left_alone: None,
            overridable: false,
            stored_bytes: None,
        }
    }

    #[test]
    fn every_value_is_counted_once_on_either_side() {
        let original: Vec<f32> = (0..1000).map(|index| (index as f32 * 0.7).sin()).collect();
        let codes = original.iter().map(|&value| u16::from(value > 0.3) + u16::from(value > 0.8)).collect();
        let centroids = Values::from_f32(DType::F32, &[0.0, 0.5, 0.9]);
        let found = histogram(&weight(&original, Form::Codebook(Codebook::new(codes, centroids).unwrap()))).unwrap();
        assert_eq!((found.before.iter().sum::<u64>(), found.after.iter().sum::<u64>()), (1000, 1000));
        assert_eq!(found.points.iter().map(|point| point.count).sum::<u64>(), 1000);
        let values: Vec<f32> = found.points.iter().map(|point| point.value as f32).collect();
        assert_eq!(values, [0.0, 0.5, 0.9]);
        assert_eq!(found.zeros_after, found.points[0].count);
    }

    #[test]
    fn far_values_do_not_stretch_the_axis_and_many_values_are_no_points() {
        let mut original: Vec<f32> = (-500..500).map(|index| index as f32 / 500.0).collect();
        original[0] = -80.0;
        let levels = (-500..500).collect();
        let grid = Grid::new(levels, Steps::PerTensor(0.002), GridKind::Uniform, DType::F32).unwrap();
        let found = histogram(&weight(&original, Form::Grid(grid))).unwrap();
        assert!(found.low > -80.0 && found.before[0] >= 1, "{found:?}");
        assert!(found.points.is_empty());
    }

    #[test]
    fn a_constant_weight_has_no_histogram() {
        let codes = Codebook::new(vec![0; 64], Values::from_f32(DType::F32, &[2.0])).unwrap();
        assert_eq!(histogram(&weight(&[2.0; 64], Form::Codebook(codes))), None);
    }
}
