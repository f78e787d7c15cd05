//! From an input back to the image that it came from.

use super::{Color, ImageFormat, Layout, Pixels, Preprocess};
use crate::tensor::Tensor;

impl Preprocess {
    /// The image that the `inputs` of one sample came from, at the size that the model takes: scaling, mean and standard
    /// deviation are undone, and values are rounded to 0 to 255. `None` where no input takes an image, or where its shape
    /// is not that of one.
    pub fn image_of(&self, inputs: &[Tensor]) -> Option<Pixels> {
        let (index, format) = self.image.as_ref()?;
        let input = inputs.get(*index)?;
        let channels = format.color.channels();
        let [height, width] = match (format.layout, input.shape()) {
            (Layout::Nchw, &[1, found, height, width]) if found == channels => [height, width],
            (Layout::Nhwc, &[1, height, width, found]) if found == channels => [height, width],
            // Models of flat or channel-less images.
            _ => format.size?,
        };
        let values = input.to_f32();
        if height == 0 || width == 0 || values.len() != channels.checked_mul(height)?.checked_mul(width)? {
            return None;
        }
        Some(Pixels { height, width, channels, values: format.undone(&values) })
    }
}

impl ImageFormat {
    /// The pixels of `values`, interleaved, colours in the order red, green, blue.
    fn undone(&self, values: &[f32]) -> Vec<u8> {
        let channels = self.color.channels();
        let area = values.len() / channels;
        let of_channel = |values: &[f64], channel: usize| values.get(channel).or(values.first()).copied();
        let pixel = |index: usize| {
            let (place, shown) = (index / channels, index % channels);
            let channel = if self.color == Color::Bgr { channels - 1 - shown } else { shown };
            let value = values.get(match self.layout {
                Layout::Nchw => channel * area + place,
                Layout::Nhwc => place * channels + channel,
            });
            let std = of_channel(&self.std, channel).unwrap_or(1.0);
            let mean = of_channel(&self.mean, channel).unwrap_or(0.0);
            // The conversion saturates, and makes zero of what is no number.
            ((f64::from(value.copied().unwrap_or(0.0)) * std + mean) / self.scale).round() as u8
        };
        (0..values.len()).map(pixel).collect()
    }
}
