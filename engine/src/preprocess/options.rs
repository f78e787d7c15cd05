//! What a file or the command line says of preprocessing, and how the gaps are filled.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Color, ImageFormat, Layout, Preprocess, Task};
use crate::error::EngineError;
use crate::tensor::{Dimension, TensorInfo};

/// What is said of preprocessing; every field may be open.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct PreprocessOptions {
    /// How a sample becomes an input.
    pub input: InputOptions,
    /// What the output means.
    pub output: OutputOptions,
    /// The file that said it; for messages.
    #[serde(skip)]
    pub origin: Option<PathBuf>,
}

/// The table `[input]`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct InputOptions {
    /// Name of the input. Default: the first that looks like an image.
    pub name: Option<String>,
    /// Order of the axes. Default: from where the model has 1 or 3 channels.
    pub layout: Option<Layout>,
    /// Channels. Default: gray for one channel, RGB for three.
    pub color: Option<Color>,
    /// Height and width. Default: the model's; images keep their own size where that is open.
    pub size: Option<[usize; 2]>,
    /// Factor on the pixel values. Default: 1/255.
    pub scale: Option<f64>,
    /// Subtracted after scaling, one value or one for each channel. Default: 0.
    pub mean: Option<Vec<f64>>,
    /// Divided by after that, one value or one for each channel. Default: 1.
    pub std: Option<Vec<f64>>,
}

/// The table `[output]`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct OutputOptions {
    /// Name of the output. Default: the first.
    pub name: Option<String>,
    /// What it means. Default: from its rank.
    pub task: Option<Task>,
    /// Number of classes that labels may have. Default: the length of the class axis.
    pub classes: Option<usize>,
    /// Label that is not counted. Default: none.
    pub ignore: Option<usize>,
}

impl PreprocessOptions {
    /// The file that belongs to the model at `model`: `dir/net.onnx` has `dir/net.preprocess.toml`.
    pub fn path_beside(model: &Path) -> PathBuf {
        model.with_extension("preprocess.toml")
    }

    /// What stands beside the model; `None` where nothing does.
    ///
    /// # Errors
    /// As [`PreprocessOptions::read`].
    pub fn beside(model: &Path) -> Result<Option<Self>, EngineError> {
        let path = Self::path_beside(model);
        if path.is_file() { Self::read(&path).map(Some) } else { Ok(None) }
    }

    /// What the file at `path` says.
    ///
    /// # Errors
    /// [`EngineError::Read`], or [`EngineError::Preprocess`] where the file does not follow the format.
    pub fn read(path: &Path) -> Result<Self, EngineError> {
        let text = std::fs::read_to_string(path).map_err(EngineError::read(path))?;
        let origin = Some(path.to_path_buf());
        match toml::from_str::<Self>(&text) {
            Ok(options) => Ok(Self { origin, ..options }),
            Err(error) => {
                let origin = path.display().to_string();
                Err(EngineError::Preprocess { origin, reason: error.to_string().trim_end().to_owned() })
            }
        }
    }

    /// These options with every value that `stronger` gives replaced by it.
    #[must_use]
    pub fn overridden_by(self, stronger: Self) -> Self {
        Self {
            input: InputOptions {
                name: stronger.input.name.or(self.input.name),
                layout: stronger.input.layout.or(self.input.layout),
                color: stronger.input.color.or(self.input.color),
                size: stronger.input.size.or(self.input.size),
                scale: stronger.input.scale.or(self.input.scale),
                mean: stronger.input.mean.or(self.input.mean),
                std: stronger.input.std.or(self.input.std),
            },
            output: OutputOptions {
                name: stronger.output.name.or(self.output.name),
                task: stronger.output.task.or(self.output.task),
                classes: stronger.output.classes.or(self.output.classes),
                ignore: stronger.output.ignore.or(self.output.ignore),
            },
            origin: stronger.origin.or(self.origin),
        }
    }

    /// Fills the gaps from the model's own inputs and outputs.
    ///
    /// # Errors
    /// [`EngineError::Preprocess`] where the options contradict the model or themselves.
    pub fn resolve(&self, inputs: &[TensorInfo], outputs: &[TensorInfo]) -> Result<Preprocess, EngineError> {
        let (mut notes, mut image_notes) = (Vec::new(), Vec::new());
        let image = self.resolve_image(inputs, &mut image_notes)?;
        let output = match &self.output.name {
            Some(name) => position(outputs, name).ok_or_else(|| self.no_such("output", name, outputs))?,
            None => 0,
        };
        let info = outputs.get(output).ok_or_else(|| self.wrong("the model has no output".to_owned()))?;
        let task = self.output.task.unwrap_or_else(|| {
            let task = infer_task(info);
            notes.push(format!("task taken to be {task} from the rank of output `{}`", info.name));
            task
        });
        let channels_last = image.as_ref().is_some_and(|(_, format)| format.layout == Layout::Nhwc);
        let classes = self.output.classes.or_else(|| class_axis(info, task, channels_last));
        Ok(Preprocess {
            inputs: inputs.to_vec(),
            image,
            output,
            task,
            classes,
            ignore: self.output.ignore,
            notes,
            image_notes,
        })
    }

    fn resolve_image(
        &self,
        inputs: &[TensorInfo],
        notes: &mut Vec<String>,
    ) -> Result<Option<(usize, ImageFormat)>, EngineError> {
        let options = &self.input;
        let index = match &options.name {
            Some(name) => Some(position(inputs, name).ok_or_else(|| self.no_such("input", name, inputs))?),
            None => inputs.iter().position(|info| guess(info).is_some()),
        };
        let Some((index, info)) = index.and_then(|index| Some((index, inputs.get(index)?))) else { return Ok(None) };
        let guessed = guess(info);
        let Some(layout) = options.layout.or(guessed.map(|(layout, ..)| layout)) else { return Ok(None) };
        let dimension = |axis: usize| info.shape.as_ref().and_then(|shape| shape.get(axis)).and_then(Dimension::fixed);
        let (channel_axis, height_axis) = match layout {
            Layout::Nchw => (1, 2),
            Layout::Nhwc => (3, 1),
        };
        let flat = info.shape.as_ref().is_some_and(|shape| shape.len() != 4);
        let (channels, own_size) = match guessed.filter(|_| flat) {
            Some((_, channels, size)) => (Some(channels), size),
            None => {
                let size =
                    dimension(height_axis).zip(dimension(height_axis + 1)).map(|(height, width)| [height, width]);
                (dimension(channel_axis), size)
            }
        };
        let color = match (options.color, channels) {
            (Some(color), Some(channels)) if color.channels() != channels && !flat => {
                let reason = format!(
                    "`color` has {} channels, but input `{}` of the model has {channels} (layout {layout:?})",
                    color.channels(),
                    info.name
                );
                return Err(self.wrong(reason));
            }
            (Some(color), _) => color,
            (None, Some(1)) => Color::Gray,
            (None, _) => Color::Rgb,
        };
        if let (Some(size), Some(own)) = (options.size, own_size.filter(|_| !flat))
            && size != own
        {
            let reason = format!(
                "`size` is {}x{}, but input `{}` of the model takes {}x{}",
                size[0], size[1], info.name, own[0], own[1]
            );
            return Err(self.wrong(reason));
        }
        let per_channel = |name: &str, given: &Option<Vec<f64>>, default: f64| match given {
            None => Ok(vec![default; color.channels()]),
            Some(values) if values.len() == color.channels() => Ok(values.clone()),
            Some(values) if values.len() == 1 => Ok(values.repeat(color.channels())),
            Some(values) => {
                let reason = format!("`{name}` has {} values for {} channels", values.len(), color.channels());
                Err(self.wrong(reason))
            }
        };
        let (mean, std) = (per_channel("mean", &options.mean, 0.0)?, per_channel("std", &options.std, 1.0)?);
        if std.iter().any(|&value| value == 0.0 || !value.is_finite()) {
            return Err(self.wrong("`std` must hold finite numbers other than zero".to_owned()));
        }
        if options.scale.is_none() && options.mean.is_none() && options.std.is_none() {
            notes.push(format!(
                "no preprocessing was given for input `{}`: assumed {} pixels divided by 255",
                info.name,
                match color {
                    Color::Gray => "gray",
                    Color::Rgb => "RGB",
                    Color::Bgr => "BGR",
                }
            ));
        }
        let scale = options.scale.unwrap_or(1.0 / 255.0);
        let size = options.size.or(own_size);
        Ok(Some((index, ImageFormat { layout, color, size, scale, mean, std })))
    }

    fn wrong(&self, reason: String) -> EngineError {
        let origin = match &self.origin {
            Some(path) => path.display().to_string(),
            None => "preprocessing options".to_owned(),
        };
        EngineError::Preprocess { origin, reason }
    }

    fn no_such(&self, what: &str, name: &str, there: &[TensorInfo]) -> EngineError {
        let names = there.iter().map(|info| format!("`{}`", info.name)).collect::<Vec<_>>().join(", ");
        self.wrong(format!("the model has no {what} `{name}`; it has {names}"))
    }
}

fn position(infos: &[TensorInfo], name: &str) -> Option<usize> {
    infos.iter().position(|info| info.name == name)
}

/// Layout, channels and size of an input that looks like an image: four axes with 1 or 3 channels, or flat and square.
fn guess(info: &TensorInfo) -> Option<(Layout, usize, Option<[usize; 2]>)> {
    let lengths: Vec<Option<usize>> = info.shape.as_ref()?.iter().map(Dimension::fixed).collect();
    let size = |height: Option<usize>, width: Option<usize>| height.zip(width).map(|(height, width)| [height, width]);
    match *lengths.as_slice() {
        [_, Some(channels @ (1 | 3)), height, width] => Some((Layout::Nchw, channels, size(height, width))),
        [_, height, width, Some(channels @ (1 | 3))] => Some((Layout::Nhwc, channels, size(height, width))),
        [_, Some(height), Some(width)] if height > 1 && width > 1 => Some((Layout::Nchw, 1, Some([height, width]))),
        [_, Some(area)] => {
            let side = area.isqrt();
            (side > 1 && side * side == area).then_some((Layout::Nchw, 1, Some([side, side])))
        }
        _ => None,
    }
}

fn infer_task(info: &TensorInfo) -> Task {
    let Some(shape) = &info.shape else { return Task::Other };
    let single = |dimension: &Dimension| dimension.fixed() == Some(1);
    let classes = |axis: usize| shape.get(axis).and_then(Dimension::fixed) != Some(1);
    match shape.len() {
        2 if classes(1) && info.element.is_float() => Task::Classification,
        4 if shape.iter().skip(2).all(single) && classes(1) => Task::Classification,
        4 if classes(1) => Task::Segmentation,
        _ => Task::Other,
    }
}

fn class_axis(info: &TensorInfo, task: Task, channels_last: bool) -> Option<usize> {
    let shape = info.shape.as_ref().filter(|_| info.element.is_float())?;
    let axis = if task == Task::Segmentation && channels_last { shape.len().checked_sub(1)? } else { 1 };
    shape.get(axis).and_then(Dimension::fixed).filter(|_| task != Task::Other)
}
