//! What is measured, accumulated sample by sample.
//!
//! | module | what |
//! |---|---|
//! | [`fidelity`] | how far numbers are from the numbers they should be |
//! | [`classification`] | top-1 and top-5, agreement, recall of each class |
//! | [`segmentation`] | mIoU, IoU of each class, pixel accuracy and agreement |
//!
//! Percentages are in 0 to 100, so that their differences are points. Accumulation runs in the order of the samples, in
//! `f64` or in integers, so results do not depend on threads or batches.

pub mod classification;
pub mod fidelity;
pub mod segmentation;

use serde::Serialize;

/// The same number for the original and for its compressed form.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Both {
    /// Of the original.
    pub original: f64,
    /// Of the compressed form.
    pub compressed: f64,
}

impl Both {
    /// How much the compressed form is below the original, to a billionth of a point: the percentages are quotients, and
    /// what their difference has beyond that would decide whether a bound is just kept.
    pub fn drop(self) -> f64 {
        ((self.original - self.compressed) * 1e9).round() / 1e9
    }
}

/// `part` of `whole` in percent; 0 where there is nothing.
pub fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { 100.0 * part as f64 / whole as f64 }
}

/// Position of the largest value, the first where several are equal; NaN counts as the smallest.
pub fn argmax(values: &[f32]) -> usize {
    let mut best = (0, f32::NEG_INFINITY);
    for (index, &value) in values.iter().enumerate() {
        if value > best.1 {
            best = (index, value);
        }
    }
    best.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_of_ten_thousand_are_a_tenth_of_a_point_and_no_more() {
        let both = Both { original: percent(9943, 10_000), compressed: percent(9933, 10_000) };
        assert!(both.original - both.compressed > 0.1, "as numbers they are further apart");
        assert_eq!(both.drop(), 0.1);
    }
}
