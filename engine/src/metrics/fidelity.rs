//! How far numbers are from the numbers they should be.

use serde::Serialize;

/// Accumulates the distance of values from their references.
#[derive(Debug, Clone, Default)]
pub struct Fidelity {
    largest_error: f64,
    squared_error: f64,
    squared_reference: f64,
    count: u64,
    mismatched: u64,
}

/// The distance, in the usual ways to say it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct FidelityReport {
    /// Largest absolute difference.
    pub max_abs_error: f64,
    /// Signal to quantisation noise ratio in decibels; infinite (`null` in JSON) where nothing differs.
    pub sqnr_db: f64,
    /// Root of the squared error over the squared reference; 0 where nothing differs.
    pub relative_error: f64,
    /// Values where one side is NaN or infinite and the other side is not the same; they are in no other number.
    pub non_finite_mismatches: u64,
    /// Number of values.
    pub values: u64,
}

impl Fidelity {
    /// Adds pairs of values; of sequences of different length, the common part.
    pub fn add(&mut self, reference: &[f32], values: &[f32]) {
        for (&expected, &found) in reference.iter().zip(values) {
            self.count += 1;
            if !(expected.is_finite() && found.is_finite()) {
                let same = expected == found || (expected.is_nan() && found.is_nan());
                self.mismatched += u64::from(!same);
                continue;
            }
            let (expected, error) = (f64::from(expected), f64::from(found) - f64::from(expected));
            self.largest_error = self.largest_error.max(error.abs());
            self.squared_error += error * error;
            self.squared_reference += expected * expected;
        }
    }

    /// The distance so far.
    pub fn report(&self) -> FidelityReport {
        let ratio = self.squared_error / self.squared_reference;
        let (sqnr_db, relative_error) = match (self.squared_error > 0.0, self.squared_reference > 0.0) {
            (false, _) => (f64::INFINITY, 0.0),
            (true, true) => (-10.0 * ratio.log10(), ratio.sqrt()),
            (true, false) => (f64::NEG_INFINITY, f64::INFINITY),
        };
        FidelityReport {
            max_abs_error: self.largest_error,
            sqnr_db,
            relative_error,
            non_finite_mismatches: self.mismatched,
            values: self.count,
        }
    }
}
