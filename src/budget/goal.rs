//! What is asked of the result.

use std::str::FromStr;

use onnx_dcomp_engine::Validation;
use onnx_dcomp_engine::validate::DropMetric;
use onnx_dcomp_passes::nearest::nearest;

use super::Budget;

/// A budget, and what else must hold.
#[derive(Debug, Clone, PartialEq)]
pub struct Goal {
    /// The bound.
    pub budget: Budget,
    /// What a loss is counted in; `None` takes what fits the task and the labels.
    pub metric: Option<DropMetric>,
    /// Classes that must not fall below a floor.
    pub floors: Vec<Floor>,
    /// How certain it must be that a loss is within its bound on samples of the same kind that nobody has seen.
    pub confidence: Confidence,
}

/// How certain it must be that a loss is within its bound, in `0.5..1.0`. Default: 0.5, where what was measured on the
/// confirming samples decides.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Confidence(f64);

impl Confidence {
    /// From a percentage; `None` where it is not in `50.0..100.0`.
    pub fn percent(percent: f64) -> Option<Self> {
        (50.0..100.0).contains(&percent).then_some(Self(percent / 100.0))
    }

    /// As a share, in `0.5..1.0`.
    pub fn share(self) -> f64 {
        self.0
    }

    /// Whether more is asked than that what was measured is within the bound.
    pub fn asks_for_margin(self) -> bool {
        self > Self::default()
    }
}

impl Default for Confidence {
    fn default() -> Self {
        Self(0.5)
    }
}

impl std::fmt::Display for Confidence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Shares such as 0.841 are no round numbers of percent as floats.
        write!(f, "{} %", (self.0 * 1e8).round() / 1e6)
    }
}

impl FromStr for Confidence {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let percent = text.trim_end_matches('%').trim().parse().ok().and_then(Self::percent);
        percent.ok_or_else(|| format!("expected a percentage from 50 to below 100, found `{text}`"))
    }
}

impl Goal {
    /// The smallest file that loses at most so many percentage points.
    pub fn max_drop(points: f64) -> Self {
        Self { budget: Budget::MaxDrop(points), metric: None, floors: Vec::new(), confidence: Confidence::default() }
    }

    /// The best file of at most so many bytes.
    pub fn max_bytes(bytes: u64) -> Self {
        Self { budget: Budget::MaxBytes(bytes), ..Self::max_drop(f64::INFINITY) }
    }
}

/// Reads the name of a metric: `top1`, `top5`, `miou`, `agreement`, `pixel-agreement` or `relative-error`.
///
/// # Errors
/// Where there is none of that name, with the nearest.
pub fn metric(text: &str) -> Result<DropMetric, String> {
    let found = DropMetric::ALL.into_iter().find(|metric| metric.key() == text);
    found.ok_or_else(|| {
        let names = DropMetric::ALL.map(DropMetric::key);
        let meant = nearest(text, names).map(|name| format!("; did you mean `{name}`?")).unwrap_or_default();
        format!("expected one of {}, found `{text}`{meant}", names.join(", "))
    })
}

/// What the compressed form must find of one class: `recall[3]>=0.98`, `iou[5]>=0.6`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Floor {
    /// What is counted.
    pub measure: FloorMeasure,
    /// The class.
    pub class: usize,
    /// The least share, in `0.0..=1.0`.
    pub least: f64,
}

/// What a [`Floor`] counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FloorMeasure {
    /// The share of a class's samples that are found.
    Recall,
    /// Intersection over union of a class's pixels.
    Iou,
}

impl FloorMeasure {
    const fn name(self) -> &'static str {
        match self {
            Self::Recall => "recall",
            Self::Iou => "iou",
        }
    }
}

impl Floor {
    /// The share that the compressed form reaches; `None` where no sample has the class, or it is not counted.
    pub fn reached(&self, validation: &Validation) -> Option<f64> {
        let percent = match self.measure {
            FloorMeasure::Recall => {
                let classes = &validation.classification.as_ref()?.classes;
                classes.iter().find(|class| class.class == self.class)?.recall_percent
            }
            FloorMeasure::Iou => {
                let classes = &validation.segmentation.as_ref()?.classes;
                classes.iter().find(|class| class.class == self.class)?.iou_percent
            }
        };
        Some(percent.compressed / 100.0)
    }

    /// Whether it holds; a class that does not occur cannot fall.
    pub fn holds(&self, validation: &Validation) -> bool {
        self.reached(validation).is_none_or(|share| share >= self.least)
    }
}

impl std::fmt::Display for Floor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}[{}]>={}", self.measure.name(), self.class, self.least)
    }
}

impl FromStr for Floor {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("expected a floor such as recall[3]>=0.98 or iou[5]>=0.6, found `{text}`");
        let (left, least) = text.split_once(">=").ok_or_else(wrong)?;
        let (measure, class) = left.trim().strip_suffix(']').and_then(|left| left.split_once('[')).ok_or_else(wrong)?;
        let measure = match measure {
            "recall" => FloorMeasure::Recall,
            "iou" => FloorMeasure::Iou,
            _ => return Err(wrong()),
        };
        let class = class.parse().map_err(|_| wrong())?;
        let least: f64 = least.trim().parse().map_err(|_| wrong())?;
        if !(0.0..=1.0).contains(&least) {
            return Err(format!("a floor is a share from 0 to 1, found `{text}`"));
        }
        Ok(Self { measure, class, least })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floors_read_back_as_they_are_printed() {
        for text in ["recall[3]>=0.98", "iou[0]>=0", "iou[18]>=1"] {
            assert_eq!(text.parse::<Floor>().map(|floor| floor.to_string()), Ok(text.to_owned()));
        }
    }

    #[test]
    fn what_is_no_floor_is_refused_with_an_example() {
        for text in ["recall>=0.9", "recall[3]", "recall[x]>=0.9", "precision[1]>=0.9", "recall[3]>=98", "iou[1]>=NaN"]
        {
            assert!(text.parse::<Floor>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_confidence_reads_back_as_it_is_printed_and_certainty_is_refused() {
        for text in ["50 %", "84.1 %", "99.9 %"] {
            assert_eq!(text.parse::<Confidence>().map(|confidence| confidence.to_string()), Ok(text.to_owned()));
        }
        for text in ["0.95", "49", "100", "NaN", "-60", "sure"] {
            assert!(text.parse::<Confidence>().is_err(), "{text}");
        }
    }

    #[test]
    fn metrics_are_known_by_name_and_the_nearest_is_named() {
        assert_eq!(metric("top1"), Ok(DropMetric::Top1));
        assert!(metric("mIoU").is_err_and(|error| error.contains("miou")));
    }
}
