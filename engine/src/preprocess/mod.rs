//! How a sample becomes an input of the model, and what the model's output means.
//!
//! The facts belong to the model, so they stand beside it: `model.onnx` has `model.preprocess.toml`.
//!
//! ```toml
//! # value = (pixel * scale - mean) / std, per channel, pixel in 0..255, channels in the order of `color`.
//! [input]
//! name = "input"
//! layout = "NCHW"              # or "NHWC"
//! color = "rgb"                # or "bgr", "gray"
//! size = [224, 224]            # height, width; images of another size are resized
//! scale = 0.00392156862745098
//! mean = [0.485, 0.456, 0.406]
//! std = [0.229, 0.224, 0.225]
//!
//! [output]
//! name = "output"
//! task = "classification"      # or "segmentation", "other"
//! classes = 1000
//! ignore = 255                 # label of pixels that are not counted
//! ```
//! Every key may be missing; what is missing follows from the model's own inputs and outputs, and
//! [`Preprocess::notes`] says what was assumed.

mod options;
mod resize;
mod undo;

pub use options::{InputOptions, OutputOptions, PreprocessOptions};
pub use resize::resize;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::EngineError;
use crate::tensor::{Dimension, Tensor, TensorInfo};

/// Order of the axes of an image input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
pub enum Layout {
    /// Batch, channels, height, width.
    #[serde(rename = "NCHW", alias = "nchw")]
    Nchw,
    /// Batch, height, width, channels.
    #[serde(rename = "NHWC", alias = "nhwc")]
    Nhwc,
}

/// Which channels an image input has, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Color {
    /// One channel, the luminance.
    Gray,
    /// Red, green, blue.
    Rgb,
    /// Blue, green, red.
    Bgr,
}

impl Color {
    /// Number of channels.
    pub const fn channels(self) -> usize {
        match self {
            Self::Gray => 1,
            Self::Rgb | Self::Bgr => 3,
        }
    }
}

/// What the model's output means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Task {
    /// One class for each sample: the largest of the output's values.
    Classification,
    /// One class for each pixel: the largest along the channels.
    Segmentation,
    /// Anything else: outputs are compared as numbers only.
    Other,
}

macro_rules! from_str_by_serde {
    ($type:ty, $expected:literal, $($text:literal => $value:expr),+) => {
        impl FromStr for $type {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match text.to_ascii_lowercase().as_str() {
                    $($text => Ok($value),)+
                    _ => Err(format!("`{text}` is none of {}", $expected)),
                }
            }
        }
    };
}
from_str_by_serde!(Layout, "`NCHW`, `NHWC`", "nchw" => Self::Nchw, "nhwc" => Self::Nhwc);
from_str_by_serde!(Color, "`gray`, `rgb`, `bgr`", "gray" => Self::Gray, "rgb" => Self::Rgb, "bgr" => Self::Bgr);
from_str_by_serde!(Task, "`classification`, `segmentation`, `other`",
    "classification" => Self::Classification, "segmentation" => Self::Segmentation, "other" => Self::Other);

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Classification => "classification",
            Self::Segmentation => "segmentation",
            Self::Other => "other",
        })
    }
}

/// How an image becomes an input.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageFormat {
    /// Order of the axes.
    pub layout: Layout,
    /// Channels.
    pub color: Color,
    /// Height and width; `None` leaves images at their own size.
    pub size: Option<[usize; 2]>,
    /// Factor on the pixel values 0 to 255.
    pub scale: f64,
    /// Subtracted after scaling; one value for each channel.
    pub mean: Vec<f64>,
    /// Divided by after that; one value for each channel.
    pub std: Vec<f64>,
}

/// An image as it came from its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pixels {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// 1 (gray) or 3 (red, green, blue); interleaved.
    pub channels: usize,
    /// `height * width * channels` values.
    pub values: Vec<u8>,
}

/// How samples become inputs of one model, complete and checked against it.
#[derive(Debug, Clone)]
pub struct Preprocess {
    /// What the model takes.
    pub inputs: Vec<TensorInfo>,
    /// Which input takes the image, and how; `None` where no input looks like one.
    pub image: Option<(usize, ImageFormat)>,
    /// Which output the metrics read.
    pub output: usize,
    /// What that output means.
    pub task: Task,
    /// Number of classes that labels may have; `None` where nothing says it.
    pub classes: Option<usize>,
    /// Label that is not counted.
    pub ignore: Option<usize>,
    /// What was assumed because nothing said it, one sentence each.
    pub notes: Vec<String>,
    /// The same of how images become inputs; of interest only where the samples are images.
    pub image_notes: Vec<String>,
}

impl Preprocess {
    /// The input that takes the image, and how it does.
    ///
    /// # Errors
    /// [`EngineError::Preprocess`] where no input takes images.
    pub fn image_input(&self) -> Result<(&TensorInfo, &ImageFormat), EngineError> {
        let found = self.image.as_ref().and_then(|(index, format)| Some((self.inputs.get(*index)?, format)));
        found.ok_or_else(|| EngineError::Preprocess {
            origin: "preprocessing".to_owned(),
            reason: format!(
                "the samples are images, but no input of the model looks like one (its inputs: {}); give \
                 `STEM.preprocess.toml` or arrays (`.npz`)",
                self.inputs.iter().map(|info| info.name.as_str()).collect::<Vec<_>>().join(", ")
            ),
        })
    }

    /// The input that `pixels` become: resized, scaled and laid out, with a batch axis of one.
    ///
    /// `sample` is what messages call the image.
    ///
    /// # Errors
    /// [`EngineError::SampleShape`] where the result does not fit the model.
    pub fn tensor(&self, pixels: &Pixels, sample: &str) -> Result<Tensor, EngineError> {
        let (info, format) = self.image_input()?;
        let [height, width] = format.size.unwrap_or([pixels.height, pixels.width]);
        let planes = format.planes(pixels, height, width);
        let channels = format.color.channels();
        let (mut shape, values) = match format.layout {
            Layout::Nchw => (vec![1, channels, height, width], planes),
            Layout::Nhwc => (vec![1, height, width, channels], interleave(&planes, channels)),
        };
        // Models of flat or channel-less images take the same values under their own shape.
        if let Some(declared) = info.shape.as_deref().filter(|declared| declared.len() != shape.len()) {
            let inner: Option<Vec<usize>> = declared.iter().skip(1).map(Dimension::fixed).collect();
            if let Some(inner) = inner.filter(|inner| inner.iter().product::<usize>() == values.len()) {
                shape = std::iter::once(1).chain(inner).collect();
            }
        }
        let tensor = Tensor::from_f32(shape, values)?.cast(info.element);
        // A model of a fixed batch takes single samples too: the batch is filled up before it runs.
        let per_sample: Option<Vec<Dimension>> = info.shape.as_ref().map(|declared| {
            let inner = declared.iter().skip(1).cloned();
            std::iter::once(Dimension::Dynamic(None)).chain(inner).collect()
        });
        let single = TensorInfo { shape: per_sample, ..info.clone() };
        if !single.accepts(tensor.shape(), tensor.element()) {
            return Err(info.mismatch(sample, tensor.shape(), tensor.element()));
        }
        Ok(tensor)
    }
}

impl ImageFormat {
    /// Channel planes in the order of `color`, at the given size, scaled.
    fn planes(&self, pixels: &Pixels, height: usize, width: usize) -> Vec<f32> {
        let mut all = Vec::with_capacity(self.color.channels() * height * width);
        for channel in 0..self.color.channels() {
            let plane = plane(pixels, self.color, channel);
            let plane = match (height, width) == (pixels.height, pixels.width) {
                true => plane,
                false => resize(&plane, [pixels.height, pixels.width], [height, width]),
            };
            let of_channel = |values: &[f64]| values.get(channel).or(values.first()).copied();
            let (mean, std) = (of_channel(&self.mean).unwrap_or(0.0), of_channel(&self.std).unwrap_or(1.0));
            all.extend(plane.iter().map(|&value| ((f64::from(value) * self.scale - mean) / std) as f32));
        }
        all
    }
}

/// Channel `channel` of `color`, 0 to 255.
fn plane(pixels: &Pixels, color: Color, channel: usize) -> Vec<f32> {
    let parts = pixels.values.chunks_exact(pixels.channels.max(1));
    match (color, pixels.channels) {
        // The weights of ITU-R BT.601, as in the usual conversion of photographs.
        (Color::Gray, 3) => {
            parts.map(|p| 0.299 * f32::from(p[0]) + 0.587 * f32::from(p[1]) + 0.114 * f32::from(p[2])).collect()
        }
        (Color::Bgr, 3) => parts.map(|p| f32::from(p[2 - channel])).collect(),
        (Color::Rgb, 3) => parts.map(|p| f32::from(p[channel])).collect(),
        _ => parts.map(|p| f32::from(p[0])).collect(),
    }
}

fn interleave(planes: &[f32], channels: usize) -> Vec<f32> {
    let area = planes.len() / channels.max(1);
    (0..planes.len()).map(|index| planes[index % channels * area + index / channels]).collect()
}
