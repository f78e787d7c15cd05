//! What to aim for, and what that means for the passes.

use std::fmt;
use std::str::FromStr;

use onnx_dcomp_passes::nearest::nearest;

/// How much of the output's fidelity the default pipeline may give away.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Quality {
    /// As good as the original, for all that anybody can tell.
    High,
    /// A small loss for a much smaller file.
    #[default]
    Balanced,
    /// The smallest file that still does its work.
    Small,
    /// The aim as a number: the fidelity of the output in decibels.
    Decibels(f64),
}

impl Quality {
    /// The range of [`Self::Decibels`].
    pub const DECIBELS: std::ops::RangeInclusive<f64> = 0.0..=120.0;

    /// The fidelity of the output to aim for: signal over noise, in decibels.
    pub fn decibels(self) -> f64 {
        match self {
            Self::High => 41.0,
            Self::Balanced => 33.0,
            Self::Small => 25.0,
            Self::Decibels(decibels) => decibels,
        }
    }
}

impl fmt::Display for Quality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::High => f.write_str("high"),
            Self::Balanced => f.write_str("balanced"),
            Self::Small => f.write_str("small"),
            Self::Decibels(decibels) => write!(f, "{decibels}"),
        }
    }
}

impl FromStr for Quality {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const NAMES: [&str; 3] = ["high", "balanced", "small"];
        match text {
            "high" => Ok(Self::High),
            "balanced" => Ok(Self::Balanced),
            "small" => Ok(Self::Small),
            _ => match text.parse() {
                Ok(decibels) if Self::DECIBELS.contains(&decibels) => Ok(Self::Decibels(decibels)),
                Ok(_) => Err(format!("expected 0 to 120 decibels, found `{text}`")),
                Err(_) => {
                    let meant = nearest(text, NAMES).map(|name| format!("; did you mean `{name}`?"));
                    Err(format!(
                        "expected high, balanced, small or a number of decibels, found `{text}`{}",
                        meant.unwrap_or_default()
                    ))
                }
            },
        }
    }
}

impl From<onnx_dcomp_passes::recipe::Quality> for Quality {
    fn from(quality: onnx_dcomp_passes::recipe::Quality) -> Self {
        use onnx_dcomp_passes::recipe::Quality as Named;
        match quality {
            Named::High => Self::High,
            Named::Balanced => Self::Balanced,
            Named::Small => Self::Small,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn qualities_read_back_as_they_are_printed() {
        for quality in [Quality::High, Quality::Balanced, Quality::Small, Quality::Decibels(33.5)] {
            assert_eq!(quality.to_string().parse(), Ok(quality));
        }
    }

    #[test]
    fn better_names_aim_higher() {
        assert!(Quality::High.decibels() > Quality::Balanced.decibels());
        assert!(Quality::Balanced.decibels() > Quality::Small.decibels());
    }

    #[test]
    fn numbers_outside_the_range_and_unknown_names_are_refused() {
        for text in ["-1", "121", "NaN", "inf", ""] {
            assert!(text.parse::<Quality>().is_err(), "{text}");
        }
        assert!("hihg".parse::<Quality>().unwrap_err().contains("did you mean `high`?"));
    }
}
