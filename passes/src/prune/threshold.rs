//! Which elements are the smallest, exactly, without sorting or copying them.

use onnx_dcomp_forms::Values;
use rayon::prelude::*;

/// A weight and what its magnitudes are multiplied by, so that weights compare.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scored<'a> {
    pub(super) values: &'a Values,
    pub(super) factor: f32,
}

impl Scored<'_> {
    /// Scores in the order of the elements. The bits of a float that is not negative ascend with its value.
    fn scores(&self) -> impl Iterator<Item = u32> + '_ {
        self.values.iter().map(|value| score(value, self.factor))
    }
}

fn score(value: f32, factor: f32) -> u32 {
    // A product that overflows or underflows still must not change places with an exact zero, or become NaN.
    let scaled = value.abs() * factor;
    if value != 0.0 { scaled.clamp(f32::from_bits(1), f32::MAX).to_bits() } else { 0 }
}

/// The elements of one weight to zero: every score below `below`, and the first `ties` that equal it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Cut {
    pub(super) factor: f32,
    below: u32,
    ties: usize,
}

impl Cut {
    /// Calls `visit` with the number of each element to zero, ascending.
    pub(super) fn for_each(&self, values: &Values, mut visit: impl FnMut(usize)) {
        let mut ties = self.ties;
        for (index, value) in values.iter().enumerate() {
            let score = score(value, self.factor);
            if score < self.below {
                visit(index);
            } else if score == self.below && ties > 0 {
                ties -= 1;
                visit(index);
            }
        }
    }
}

/// Cuts off exactly `target` elements of all `weights` together, those of the smallest scores; of equal scores those
/// that come first.
pub(super) fn cuts(weights: &[Scored<'_>], target: usize) -> Vec<Cut> {
    let (high, before_high) = bucket(weights, target, |score| Some(score >> 16));
    let (low, before_low) =
        bucket(weights, target - before_high, |score| (score >> 16 == high).then_some(score & 0xffff));
    let below = high << 16 | low;
    let mut ties_left = target - before_high - before_low;
    let equal: Vec<usize> =
        weights.par_iter().map(|weight| weight.scores().filter(|&score| score == below).count()).collect();
    let cut = |(weight, equal): (&Scored<'_>, usize)| {
        let ties = equal.min(ties_left);
        ties_left -= ties;
        Cut { factor: weight.factor, below, ties }
    };
    weights.iter().zip(equal).map(cut).collect()
}

/// The bucket that holds score number `rank` (from 1; 0 is in the first bucket), and the number of scores in the
/// buckets before it.
fn bucket(weights: &[Scored<'_>], rank: usize, key: impl Fn(u32) -> Option<u32> + Sync) -> (u32, usize) {
    let empty = || vec![0usize; 1 << 16];
    let add = |mut counts: Vec<usize>, weight: &Scored<'_>| {
        weight.scores().filter_map(&key).for_each(|bucket| counts[bucket as usize] += 1);
        counts
    };
    let merge = |mut a: Vec<usize>, b: Vec<usize>| {
        a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
        a
    };
    let counts = weights.par_iter().fold(empty, add).reduce(empty, merge);
    let mut before = 0;
    for (bucket, count) in counts.into_iter().enumerate() {
        if before + count >= rank {
            return (bucket as u32, before);
        }
        before += count;
    }
    ((1 << 16) - 1, before)
}

#[cfg(test)]
mod tests {
    use onnx_dcomp_forms::DType;
    use proptest::prelude::*;

    use super::*;

    fn chosen(weights: &[Values], factors: &[f32], target: usize) -> Vec<(usize, usize)> {
        let scored: Vec<Scored<'_>> =
            weights.iter().zip(factors).map(|(values, &factor)| Scored { values, factor }).collect();
        let mut chosen = Vec::new();
        for (number, cut) in cuts(&scored, target).into_iter().enumerate() {
            cut.for_each(&weights[number], |index| chosen.push((number, index)));
        }
        chosen
    }

    proptest! {
        /// Few distinct values, so that ties are the rule.
        #[test]
        fn the_smallest_are_chosen_as_by_a_stable_sort(
            weights in prop::collection::vec(prop::collection::vec(prop_oneof![-4i8..4, any::<i8>()], 1..60), 1..4),
            share in 0.0f64..1.0,
        ) {
            let weights: Vec<Vec<f32>> =
                weights.iter().map(|weight| weight.iter().map(|&v| f32::from(v) * 0.37).collect()).collect();
            let factors: Vec<f32> = (0..weights.len()).map(|i| 1.0 + i as f32).collect();
            let mut all: Vec<(f32, usize, usize)> = Vec::new();
            for (number, weight) in weights.iter().enumerate() {
                all.extend(weight.iter().enumerate().map(|(at, v)| (v.abs() * factors[number], number, at)));
            }
            let target = (all.len() as f64 * share) as usize;
            all.sort_by(|a, b| a.0.total_cmp(&b.0));
            let mut expected: Vec<_> = all[..target].iter().map(|&(_, number, at)| (number, at)).collect();
            expected.sort_unstable();
            let values: Vec<Values> = weights.iter().map(|weight| Values::from_f32(DType::F32, weight)).collect();
            prop_assert_eq!(chosen(&values, &factors, target), expected);
        }
    }

    #[test]
    fn scores_that_leave_the_range_keep_zeros_the_smallest() {
        let values = Values::from_f32(DType::F32, &[1e-30, 0.0, -1e30, 0.0]);
        assert_eq!(chosen(std::slice::from_ref(&values), &[1e-30], 2), [(0, 1), (0, 3)]);
        assert_eq!(chosen(&[values], &[1e30], 3), [(0, 0), (0, 1), (0, 3)]);
    }
}
