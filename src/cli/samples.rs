//! Options that say which samples are used and how they become inputs.

use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use onnx_dcomp_engine::preprocess::{Color, InputOptions, Layout, OutputOptions};
use onnx_dcomp_engine::{PreprocessOptions, RuntimeKind, Task};

use crate::Samples;

/// Which samples, and how they become inputs.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Samples")]
pub(super) struct SampleOptions {
    /// The split of the data folder [default: its test side].
    #[arg(long, value_name = "NAME", requires = "data")]
    split: Option<String>,
    /// Use at most this many samples, spread evenly over all.
    #[arg(long, value_name = "N", requires = "data", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// How samples become inputs [default: the file STEM.preprocess.toml beside the model].
    #[arg(long, value_name = "FILE", requires = "data")]
    preprocess: Option<PathBuf>,
    /// Name of the input that images go to.
    #[arg(long, value_name = "NAME", requires = "data")]
    input_name: Option<String>,
    /// Order of the input's axes: NCHW or NHWC.
    #[arg(long, requires = "data")]
    layout: Option<Layout>,
    /// Channels: rgb, bgr or gray.
    #[arg(long, requires = "data")]
    color: Option<Color>,
    /// Height and width of the input.
    #[arg(long, value_name = "HxW", requires = "data")]
    size: Option<Size>,
    /// Factor on pixel values 0 to 255.
    #[arg(long, value_name = "NUMBER", requires = "data", allow_negative_numbers = true)]
    scale: Option<f64>,
    /// Subtracted after scaling: one number, or one for each channel.
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',', requires = "data", allow_hyphen_values = true)]
    mean: Option<Vec<f64>>,
    /// Divided by after that: one number, or one for each channel.
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',', requires = "data")]
    std: Option<Vec<f64>>,
    /// Name of the output that is judged.
    #[arg(long, value_name = "NAME", requires = "data")]
    output_name: Option<String>,
    /// What the output means: classification, segmentation or other.
    #[arg(long, requires = "data")]
    task: Option<Task>,
    /// Number of classes that labels may have.
    #[arg(long, value_name = "N", requires = "data")]
    classes: Option<usize>,
    /// Label that is not counted.
    #[arg(long, value_name = "LABEL", requires = "data")]
    ignore: Option<usize>,
}

impl SampleOptions {
    /// The samples in `data`.
    pub(super) fn of(self, data: PathBuf) -> Samples {
        let input = InputOptions {
            name: self.input_name,
            layout: self.layout,
            color: self.color,
            size: self.size.map(|Size(size)| size),
            scale: self.scale,
            mean: self.mean,
            std: self.std,
        };
        let output =
            OutputOptions { name: self.output_name, task: self.task, classes: self.classes, ignore: self.ignore };
        Samples {
            path: data,
            split: self.split,
            limit: self.limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX)),
            preprocess: self.preprocess,
            overrides: PreprocessOptions { input, output, origin: None },
        }
    }
}

/// Reads `tract` or `ort`.
pub(super) fn runtime(text: &str) -> Result<RuntimeKind, String> {
    text.parse()
}

/// Reads percentage points, which are not negative.
pub(super) fn points(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(points) if points >= 0.0 && points.is_finite() => Ok(points),
        _ => Err(format!("expected percentage points, 0 or more, found `{text}`")),
    }
}

/// Height and width, as `224x224`.
#[derive(Debug, Clone, Copy)]
struct Size([usize; 2]);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let lengths = text.split_once(['x', '×', ',']).and_then(|(height, width)| {
            Some([height.trim().parse().ok()?, width.trim().parse().ok()?])
                .filter(|size: &[usize; 2]| !size.contains(&0))
        });
        lengths.map(Self).ok_or_else(|| format!("expected height and width such as 224x224, found `{text}`"))
    }
}
