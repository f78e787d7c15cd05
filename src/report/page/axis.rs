//! Scales and their ticks.

/// A straight line from values to lengths of a drawing.
#[derive(Debug, Clone, Copy)]
pub(super) struct Axis {
    values: [f64; 2],
    lengths: [f64; 2],
}

impl Axis {
    /// The scale on which the first and the last of `values` lie at the first and the last of `lengths`.
    ///
    /// Values that are equal, or no numbers, are spread apart so that every length is a number.
    pub(super) fn new(values: [f64; 2], lengths: [f64; 2]) -> Self {
        let [low, high] = values.map(|value| if value.is_finite() { value } else { 0.0 });
        let values = if high > low { [low, high] } else { [low, low + 1.0] };
        Self { values, lengths }
    }

    /// Where `value` lies; values outside lie at the ends.
    pub(super) fn at(self, value: f64) -> f64 {
        let [low, high] = self.values;
        let share = ((value - low) / (high - low)).clamp(0.0, 1.0);
        let share = if share.is_nan() { 0.0 } else { share };
        self.lengths[0] + share * (self.lengths[1] - self.lengths[0])
    }

    /// Whether `value` lies between the ends.
    pub(super) fn holds(self, value: f64) -> bool {
        (self.values[0]..=self.values[1]).contains(&value)
    }

    /// Round values between the ends, about `count` of them.
    pub(super) fn ticks(self, count: usize) -> Vec<f64> {
        let [low, high] = self.values;
        let rough = (high - low) / count.max(1) as f64;
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|factor| factor * power).find(|&step| step >= 0.75 * rough);
        let step = step.unwrap_or(10.0 * power);
        let first = (low / step - 1e-9).ceil() as i64;
        let last = (high / step + 1e-9).floor() as i64;
        (first..=last).map(|tick| tick as f64 * step).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_lie_on_the_axis() {
        let axis = Axis::new([-0.31, 2.2], [100.0, 0.0]);
        let ticks = axis.ticks(5);
        let expected = [0.0, 0.5, 1.0, 1.5, 2.0];
        assert!(ticks.len() == 5 && ticks.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-9), "{ticks:?}");
        assert!(ticks.iter().all(|&tick| axis.holds(tick)));
        assert_eq!((axis.at(-0.31), axis.at(2.2), axis.at(9.0)), (100.0, 0.0, 0.0));
    }

    #[test]
    fn an_axis_of_one_value_or_of_none_still_has_a_length() {
        for values in [[3.0, 3.0], [f64::NAN, f64::INFINITY], [2.0, 1.0]] {
            let axis = Axis::new(values, [0.0, 10.0]);
            assert!(axis.at(3.0).is_finite() && axis.at(f64::NAN).is_finite() && !axis.ticks(4).is_empty());
        }
    }
}
