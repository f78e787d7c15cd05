//! Which quality to try next.

/// The qualities that may be tried, in decibels.
const COARSEST: f64 = 0.0;
const FINEST: f64 = 60.0;

/// The first one: near what networks for images need.
const FIRST: f64 = 24.0;

/// How far the next one lies, as long as there is nothing on the other side.
const STRIDE: f64 = 4.0;

/// The search ends where a quality that is too coarse and one that will do are so near: a step less changes sizes by
/// one or two percent, and losses by less than what chance makes of them.
const RESOLUTION: f64 = 0.5;

/// Finds the coarsest quality that will do: strides until there is one that will and one that will not, then halves the
/// distance.
///
/// ```
/// use onnx_dcomp::budget::bisection::Bisection;
///
/// let mut bisection = Bisection::default();
/// while let Some(quality) = bisection.next() {
///     bisection.tell(quality, quality >= 17.3);
/// }
/// assert!(bisection.will_do().is_some_and(|quality| (17.3..=17.8).contains(&quality)));
/// ```
#[derive(Debug, Clone, Default)]
pub struct Bisection {
    too_coarse: Option<f64>,
    will_do: Option<f64>,
}

impl Bisection {
    /// The next quality to try, in decibels; `None` where there is nothing left to find out.
    #[allow(clippy::should_implement_trait, reason = "what comes next depends on what was told of the one before")]
    pub fn next(&self) -> Option<f64> {
        match (self.too_coarse, self.will_do) {
            (None, None) => Some(FIRST),
            (None, Some(fine)) => (fine > COARSEST).then_some((fine - STRIDE).max(COARSEST)),
            (Some(coarse), None) => (coarse < FINEST).then_some((coarse + STRIDE).min(FINEST)),
            (Some(coarse), Some(fine)) => (fine - coarse > RESOLUTION + 1e-9).then_some(0.5 * (coarse + fine)),
        }
    }

    /// Takes note of whether `quality` will do.
    pub fn tell(&mut self, quality: f64, will_do: bool) {
        if will_do {
            self.will_do = Some(self.will_do.map_or(quality, |known| known.min(quality)));
        } else {
            self.too_coarse = Some(self.too_coarse.map_or(quality, |known| known.max(quality)));
        }
    }

    /// The coarsest quality known to do.
    pub fn will_do(&self) -> Option<f64> {
        self.will_do
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn search(threshold: f64) -> (Option<f64>, usize) {
        let mut bisection = Bisection::default();
        let mut tries = 0;
        while let Some(quality) = bisection.next() {
            tries += 1;
            bisection.tell(quality, quality >= threshold);
        }
        (bisection.will_do(), tries)
    }

    #[test]
    fn any_threshold_is_found_within_half_a_decibel_and_few_tries() {
        for tenth in 0..=600 {
            let threshold = f64::from(tenth) / 10.0;
            let (found, tries) = search(threshold);
            assert!(found.is_some_and(|found| found >= threshold && found <= threshold + RESOLUTION), "{threshold}");
            assert!(tries <= 14, "{threshold}: {tries}");
        }
    }

    #[test]
    fn what_cannot_be_met_ends_at_the_finest() {
        assert_eq!(search(61.0).0, None);
        assert_eq!(search(-1.0).0, Some(COARSEST));
    }
}
