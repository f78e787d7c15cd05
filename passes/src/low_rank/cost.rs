//! What a kernel, or the factors that stand for it, would take in the file at equal distortion.
//!
//! An estimate to choose by before anything is quantised: elements on a uniform grid, the step of each part such that
//! an error costs the same slope everywhere, coded at the entropy of their levels. Zeros count, so that the places of
//! sparse elements are paid for. Whatever a decomposition itself gets wrong is taken off the distortion that its parts
//! may add.

/// Numbers that share a step.
#[derive(Debug, Clone)]
pub struct Part {
    /// The numbers, those that are exactly zero apart.
    pub values: Vec<f64>,
    /// How many more are exactly zero, and stay so.
    pub zeros: usize,
    /// What a unit of squared error in one of them costs.
    pub weight: f64,
}

/// Bits that another operator takes in the graph: its node, and the name, shape and record of its weight.
pub const OPERATOR_BITS: f64 = 8.0 * 56.0;

/// Levels beyond which all count as one: an entropy that counts more of them no longer tells anything.
const LARGEST_LEVEL: usize = 1 << 12;

/// Halvings of the range of steps, on a logarithmic scale.
const BISECTIONS: usize = 20;

/// Magnitudes below this many steps become zero: a little more than half, since zeros are short.
const DEAD_ZONE: f64 = 0.6;

/// Bits of all `parts` where their errors may cost `distortion` together; infinite where that is not positive.
pub fn bits_at(parts: &[Part], distortion: f64) -> f64 {
    if distortion.is_nan() || distortion <= 0.0 {
        return f64::INFINITY;
    }
    let energy: f64 = parts.iter().map(|part| part.weight * squared(&part.values)).sum();
    if energy <= distortion {
        return 0.0;
    }
    // With this slope every element is zero or nearly so; with the other the error is a millionth of what is allowed.
    let count: usize = parts.iter().map(|part| part.values.len()).sum();
    let (mut low, mut high) = ((1e-6 * distortion / count as f64).ln(), (4.0 * energy).ln());
    let mut bits = f64::INFINITY;
    for _ in 0..BISECTIONS {
        let middle = f64::midpoint(low, high);
        let (error, needed) =
            parts.iter().map(|part| part.at(middle.exp())).fold((0.0, 0.0), |a, b| (a.0 + b.0, a.1 + b.1));
        if error <= distortion {
            (low, bits) = (middle, needed);
        } else {
            high = middle;
        }
    }
    bits
}

impl Part {
    /// Cost of the errors and entropy of the levels where a squared step costs `slope`.
    fn at(&self, slope: f64) -> (f64, f64) {
        let step = (slope / self.weight).sqrt();
        let mut counts = vec![0usize; 2 * LARGEST_LEVEL + 1];
        counts[LARGEST_LEVEL] = self.zeros;
        let mut error = 0.0;
        for &value in &self.values {
            let scaled = value / step;
            let level = (scaled.abs() + 1.0 - DEAD_ZONE).floor();
            error += (scaled.abs() - level).powi(2);
            let magnitude = level.min(LARGEST_LEVEL as f64) as usize;
            counts[if scaled < 0.0 { LARGEST_LEVEL - magnitude } else { LARGEST_LEVEL + magnitude }] += 1;
        }
        (error * slope, entropy_bits(&counts))
    }
}

/// Bits of an ideal static code for symbols that occur `counts` times each.
fn entropy_bits(counts: &[usize]) -> f64 {
    let total = counts.iter().sum::<usize>() as f64;
    counts.iter().filter(|&&count| count > 0).map(|&count| count as f64 * (total / count as f64).log2()).sum()
}

fn squared(values: &[f64]) -> f64 {
    values.iter().map(|value| value * value).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(len: usize, scale: f64) -> Part {
        let value = |index: usize| scale * (((index * 7919) % 2003) as f64 / 1001.0 - 1.0);
        Part { values: (0..len).map(value).collect(), zeros: 0, weight: 1.0 }
    }

    #[test]
    fn a_bit_more_for_each_element_quarters_the_error() {
        let parts = [part(4000, 1.0)];
        let energy = squared(&parts[0].values);
        let gained = (bits_at(&parts, energy * 1e-6) - bits_at(&parts, energy * 4e-6)) / 4000.0;
        assert!((gained - 1.0).abs() < 0.05, "{gained}");
    }

    #[test]
    fn what_may_be_lost_altogether_costs_nothing_and_what_may_not_be_touched_costs_everything() {
        let parts = [part(100, 1.0)];
        assert_eq!(bits_at(&parts, 1000.0), 0.0);
        assert_eq!(bits_at(&parts, 0.0), f64::INFINITY);
    }

    #[test]
    fn scale_does_not_matter_but_the_places_of_sparse_elements_do() {
        let dense = bits_at(&[part(500, 1.0)], 1e-3);
        let scaled = bits_at(&[Part { weight: 1e-4, ..part(500, 100.0) }], 1e-3);
        assert!((dense - scaled).abs() < 1e-6 * dense);
        let spread = bits_at(&[Part { zeros: 9500, ..part(500, 1.0) }], 1e-3);
        assert!(spread > dense + 500.0 * 4.0);
    }
}
