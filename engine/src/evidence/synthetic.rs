//! Synthetic inputs: what a network might see, drawn from a seed.
//!
//! Noise alone misleads: its neighbouring pixels have nothing in common, so that layers behind it see nothing of what
//! they were trained for. Photographs are made of things that hide each other; images of many overlapping shapes of all
//! sizes ("dead leaves") share their statistics, once surfaces have textures whose energy falls off with frequency.
//! Small gray images are mostly something bright on a dark ground.
//!
//! Sources: Lee, Mumford and Huang, "Occlusion models for natural images", 2001; Field, "Relations between the
//! statistics of natural images and the response properties of cortical cells", 1987 (the energy of textures); Perlin,
//! "An image synthesizer", 1985 (octaves of a lattice); Baradad et al., "Learning to see by looking at noise", 2021.

use onnx_dcomp_ir::{Model, Role};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;

use crate::error::EngineError;
use crate::preprocess::{Layout, Preprocess};
use crate::tensor::{Dimension, ElementType, Tensor, TensorInfo};

/// The generator of everything random in evidence.
pub fn generator(seed: u64) -> Pcg64 {
    Pcg64::seed_from_u64(seed)
}

/// What the inputs of one model are drawn like.
pub struct Inputs<'a> {
    preprocess: &'a Preprocess,
    infos: Vec<TensorInfo>,
    /// Height and width of images.
    size: [usize; 2],
    full_size: [usize; 2],
    /// Rows of the smallest table that indices may look into.
    table_rows: usize,
}

/// Elements of an image that is larger than evidence needs, where its size is free.
const LARGE_IMAGE: usize = 1 << 17;

/// Elements that one input may have: what a network does with more would fill the memory, or take hours.
const LARGEST_INPUT: usize = 1 << 26;

impl<'a> Inputs<'a> {
    /// Inputs for `model`, whose images become inputs by `preprocess`.
    pub fn new(model: &Model, preprocess: &'a Preprocess) -> Self {
        let embedding = model.weights().filter(|(_, weight)| weight.role == Role::Embedding);
        let table_rows = embedding.filter_map(|(_, weight)| weight.shape.first().copied()).min().unwrap_or(2);
        let infos = preprocess.inputs.clone();
        let mut inputs = Self { preprocess, infos, size: [0, 0], full_size: [0, 0], table_rows };
        inputs.full_size = inputs.image_size();
        inputs.size = inputs.full_size;
        if inputs.size_is_free() {
            // Halved as long as it is large; networks with free sizes want multiples of small powers of two.
            while inputs.size[0].saturating_mul(inputs.size[1]).saturating_mul(3) > LARGE_IMAGE
                && inputs.size.iter().all(|side| side % 64 == 0)
            {
                inputs.size = inputs.size.map(|side| side / 2);
            }
        }
        inputs
    }

    fn image(&self) -> Option<&TensorInfo> {
        self.preprocess.image.as_ref().and_then(|(index, _)| self.infos.get(*index))
    }

    /// The axes of height and width.
    fn axes(&self) -> [usize; 2] {
        match self.preprocess.image.as_ref().map(|(_, format)| format.layout) {
            Some(Layout::Nhwc) => [1, 2],
            _ => [2, 3],
        }
    }

    fn size_is_free(&self) -> bool {
        let axes = self.axes();
        self.image().and_then(|info| info.shape.as_ref()).is_some_and(|shape| {
            axes.iter().all(|&axis| shape.get(axis).is_some_and(|dimension| dimension.fixed().is_none()))
        })
    }

    fn image_size(&self) -> [usize; 2] {
        let wanted = self.preprocess.image.as_ref().and_then(|(_, format)| format.size);
        let shape = self.image().and_then(|info| info.shape.clone()).unwrap_or_default();
        let axes = self.axes();
        let fixed = axes.map(|axis| shape.get(axis).and_then(Dimension::fixed));
        let fallback = wanted.unwrap_or([224, 224]);
        [fixed[0].unwrap_or(fallback[0]), fixed[1].unwrap_or(fallback[1])]
    }

    /// Goes back to the size that the model or its preprocessing names; whether that is another one.
    pub fn use_full_size(&mut self) -> bool {
        let changes = self.size != self.full_size;
        self.size = self.full_size;
        changes
    }

    /// The shape of input `index` without its first axis, and whether that axis counts samples.
    fn shape(&self, index: usize) -> (Vec<usize>, usize) {
        let info = &self.infos[index];
        let is_image = self.preprocess.image.as_ref().is_some_and(|(image, _)| *image == index);
        let shape = info.shape.clone().unwrap_or_default();
        let axes = self.axes();
        let side = |axis: usize| match axes.iter().position(|&a| a == axis).filter(|_| is_image) {
            Some(side) => self.size[side],
            None => shape.get(axis).and_then(Dimension::fixed).unwrap_or(16),
        };
        let batch = shape.first().map_or(1, |dimension| dimension.fixed().unwrap_or(0));
        ((1..shape.len()).map(side).collect(), batch)
    }

    /// How many samples have at most `elements` elements together; from 1 to `most`.
    pub fn samples_within(&self, elements: usize, most: usize) -> usize {
        let each = (0..self.infos.len()).fold(0usize, |sum, index| sum.saturating_add(self.elements(index, 1)));
        (elements / each.max(1)).clamp(1, most.max(1))
    }

    /// Elements of input `index` for `samples` samples.
    fn elements(&self, index: usize, samples: usize) -> usize {
        self.shape(index).0.iter().fold(samples, |product, &length| product.saturating_mul(length))
    }

    /// About `samples` samples, in batches of at most 16: one tensor for each input of the model.
    ///
    /// # Errors
    /// [`EngineError::InputTooLarge`] where the model takes more at once than memory should be asked for.
    pub fn draw(&self, samples: usize, random: &mut Pcg64) -> Result<Vec<Vec<Tensor>>, EngineError> {
        const BATCH: usize = 16;
        let fixed = (0..self.infos.len()).map(|index| self.shape(index).1).find(|&batch| batch > 0);
        let batch = fixed.unwrap_or(samples.min(BATCH));
        for (index, info) in self.infos.iter().enumerate() {
            let elements = self.elements(index, batch);
            if elements > LARGEST_INPUT {
                let input = info.name.clone();
                return Err(EngineError::InputTooLarge { input, elements, limit: LARGEST_INPUT });
            }
        }
        let mut left = samples;
        let mut batches = Vec::new();
        while left > 0 {
            let count = if fixed.is_some() { batch } else { batch.min(left) };
            batches
                .push((0..self.infos.len()).map(|index| self.tensor(index, count, random)).collect::<Result<_, _>>()?);
            left = left.saturating_sub(count);
        }
        Ok(batches)
    }

    fn tensor(&self, index: usize, count: usize, random: &mut Pcg64) -> Result<Tensor, EngineError> {
        let info = &self.infos[index];
        let (rest, _) = self.shape(index);
        let each: usize = rest.iter().product();
        let has_batch = info.shape.as_ref().is_none_or(|shape| !shape.is_empty());
        let shape: Vec<usize> = if has_batch { [count].into_iter().chain(rest).collect() } else { Vec::new() };
        let len = if has_batch { count * each } else { 1 };
        let image = self.preprocess.image.as_ref().filter(|(image, format)| {
            // An input may look like an image and still have other axes than its format says.
            let pictures = format.color.channels() * self.size[0] * self.size[1];
            *image == index && info.element.is_float() && len == count * pictures
        });
        let values = match image {
            Some((_, format)) => {
                let channels = format.color.channels();
                let mut values = Vec::with_capacity(len);
                for _ in 0..count {
                    let picture = picture(channels, self.size, random);
                    let plane = self.size[0] * self.size[1];
                    let value = |channel: usize, at: usize| {
                        let pixel = f64::from(picture[channel * plane + at]) * 255.0;
                        ((pixel * format.scale - format.mean[channel]) / format.std[channel]) as f32
                    };
                    match format.layout {
                        Layout::Nhwc => (0..plane).for_each(|at| values.extend((0..channels).map(|c| value(c, at)))),
                        _ => (0..channels).for_each(|c| values.extend((0..plane).map(|at| value(c, at)))),
                    }
                }
                values
            }
            None if info.element.is_float() => (0..len).map(|_| normal(random)).collect(),
            None if info.element == ElementType::Bool => (0..len).map(|_| 1.0).collect(),
            None => (0..len).map(|_| random.random_range(0..self.table_rows.max(1)) as f32).collect(),
        };
        Ok(Tensor::from_f32(shape, values)?.cast(info.element))
    }

    /// What was drawn, in words.
    pub fn describe(&self, samples: usize, runtime: &str) -> String {
        match &self.preprocess.image {
            Some((_, format)) => {
                let what =
                    if format.color.channels() == 1 { "bright strokes and shapes" } else { "overlapping shapes" };
                format!("{samples} synthetic images of {what}, {}×{}, run in {runtime}", self.size[0], self.size[1])
            }
            None => format!("{samples} synthetic inputs of Gaussian noise, run in {runtime}"),
        }
    }
}

/// A sample of the standard normal distribution (Box and Muller, 1958).
fn normal(random: &mut Pcg64) -> f32 {
    let (radius, angle): (f32, f32) = (random.random_range(f32::EPSILON..1.0), random.random_range(0.0..1.0));
    (-2.0 * radius.ln()).sqrt() * (std::f32::consts::TAU * angle).cos()
}

/// Gray images up to this side are taken for characters and the like.
const SMALL_SIDE: usize = 64;

/// An image, channel by channel, with values in `0.0..=1.0`.
fn picture(channels: usize, size: [usize; 2], random: &mut Pcg64) -> Vec<f32> {
    if size.contains(&0) {
        return Vec::new();
    }
    if channels == 1 && size.iter().all(|&side| side <= SMALL_SIDE) && random.random_range(0.0f32..1.0) < 0.75 {
        return strokes(size, random);
    }
    let mut picture = shapes(channels, size, random);
    if channels == 1 {
        // Something bright on a dark ground: what is darker than most becomes black.
        picture.iter_mut().for_each(|value| *value = (*value * 1.6 - 0.9).clamp(0.0, 1.0));
    }
    picture
}

/// A few curved strokes of a pen around the middle of a black ground.
fn strokes([height, width]: [usize; 2], random: &mut Pcg64) -> Vec<f32> {
    const POINTS: usize = 24;
    let side = height.min(width) as f32;
    let mut image = vec![0f32; height * width];
    for _ in 0..random.random_range(1..5) {
        let mut point = || {
            let mut near = |side: usize| (0.5 + 0.15 * normal(random).clamp(-2.0, 2.0)) * side as f32;
            (near(height), near(width))
        };
        let (start, control, end) = (point(), point(), point());
        let radius = side * random.random_range(0.025f32..0.065);
        let curve: Vec<(f32, f32)> = (0..=POINTS)
            .map(|step| {
                let t = step as f32 / POINTS as f32;
                let (a, b, c) = ((1.0 - t) * (1.0 - t), 2.0 * t * (1.0 - t), t * t);
                (a * start.0 + b * control.0 + c * end.0, a * start.1 + b * control.1 + c * end.1)
            })
            .collect();
        for (at, value) in image.iter_mut().enumerate() {
            let (y, x) = ((at / width) as f32, (at % width) as f32);
            let squared = |&(py, px): &(f32, f32)| (py - y) * (py - y) + (px - x) * (px - x);
            let distance = curve.iter().map(squared).fold(f32::INFINITY, f32::min).sqrt();
            // The edge of a stroke is about one pixel wide.
            *value = value.max((radius + 0.5 - distance).clamp(0.0, 1.0));
        }
    }
    image
}

/// Overlapping ellipses and rectangles whose radii fall off as in photographs, each with a colour and a texture.
fn shapes(channels: usize, [height, width]: [usize; 2], random: &mut Pcg64) -> Vec<f32> {
    let plane = height * width;
    let textures: [Vec<f32>; TEXTURES] = std::array::from_fn(|_| texture([height, width], random));
    let mut image = vec![0f32; channels * plane];
    let ground = Paint::draw(channels, random);
    for (channel, plane) in image.chunks_exact_mut(plane).enumerate() {
        plane.iter_mut().enumerate().for_each(|(at, value)| *value = ground.value(&textures, channel, at));
    }
    let least = height.min(width) as f32;
    for _ in 0..random.random_range(8..60) {
        let radius = least * 0.05 / random.random_range(0.08f32..1.0);
        let centre = (random.random_range(0.0..height as f32), random.random_range(0.0..width as f32));
        let turn: f32 = random.random_range(0.0..std::f32::consts::PI);
        let (sine, cosine) = turn.sin_cos();
        let aspect: f32 = random.random_range(0.3..1.0);
        let is_ellipse = random.random_range(0.0f32..1.0) < 0.6;
        let paint = Paint::draw(channels, random);
        // Pixels that an edge takes: lenses and resizing blur.
        let softness: f32 = random.random_range(0.5..3.0);
        let reach = radius * std::f32::consts::SQRT_2 + softness;
        let rows = (centre.0 - reach).max(0.0) as usize..((centre.0 + reach).max(0.0) as usize + 1).min(height);
        for y in rows {
            let columns = (centre.1 - reach).max(0.0) as usize..((centre.1 + reach).max(0.0) as usize + 1).min(width);
            for x in columns {
                let (dy, dx) = (y as f32 - centre.0, x as f32 - centre.1);
                let (u, v) = ((dx * cosine + dy * sine) / radius, (dy * cosine - dx * sine) / (radius * aspect));
                let distance = if is_ellipse { (u * u + v * v).sqrt() } else { u.abs().max(v.abs()) };
                let cover = ((1.0 - distance) * radius * aspect / softness + 0.5).clamp(0.0, 1.0);
                if cover > 0.0 {
                    for channel in 0..channels {
                        let value = &mut image[channel * plane + y * width + x];
                        *value += cover * (paint.value(&textures, channel, y * width + x) - *value);
                    }
                }
            }
        }
    }
    // A camera's noise.
    image.iter_mut().for_each(|value| *value = (*value + 0.01 * normal(random)).clamp(0.0, 1.0));
    image
}

/// Textures that the shapes of one image share.
const TEXTURES: usize = 3;

/// What a shape is painted with.
struct Paint {
    /// By channel.
    colour: Vec<f32>,
    texture: usize,
    /// How strong the texture is, by channel.
    contrast: Vec<f32>,
}

impl Paint {
    fn draw(channels: usize, random: &mut Pcg64) -> Self {
        let gray: f32 = random.random_range(0.0..1.0);
        let saturation = random.random_range(0.0f32..0.2);
        let contrast = random.random_range(0.0f32..0.25);
        Self {
            colour: (0..channels).map(|_| (gray + saturation * normal(random)).clamp(0.0, 1.0)).collect(),
            contrast: (0..channels).map(|_| contrast * (1.0 + 0.2 * normal(random))).collect(),
            texture: random.random_range(0..TEXTURES),
        }
    }

    fn value(&self, textures: &[Vec<f32>; TEXTURES], channel: usize, at: usize) -> f32 {
        self.colour[channel] + self.contrast[channel] * textures[self.texture][at]
    }
}

/// Noise whose energy falls off with frequency as in photographs: octaves of a random lattice, smoothly joined. Its mean
/// is near 0, its mean square near 1.
fn texture([height, width]: [usize; 2], random: &mut Pcg64) -> Vec<f32> {
    /// Mean square of smoothly joined values of mean square 1.
    const JOINED: f32 = 0.55;
    // Amplitude of an octave over that of the next coarser one, and how much wider than high its grains are.
    let (roughness, stretch) = (random.random_range(0.4f32..1.0), random.random_range(0.5f32..2.0));
    let mut field = vec![0f32; height * width];
    let (mut pitch, mut amplitude, mut energy) = (height.min(width) as f32 / 2.0, 1.0f32, 0f32);
    while pitch >= 1.0 {
        let (across, down) = ((pitch * stretch).max(1.0), (pitch / stretch).max(1.0));
        let [rows, columns] = [(height, down), (width, across)].map(|(side, grain)| (side as f32 / grain) as usize + 2);
        let lattice: Vec<f32> = (0..rows * columns).map(|_| normal(random)).collect();
        for (y, line) in field.chunks_exact_mut(width).enumerate() {
            let (row, v) = lattice_place(y, down);
            for (x, value) in line.iter_mut().enumerate() {
                let (column, u) = lattice_place(x, across);
                let at = row * columns + column;
                let upper = lattice[at] + u * (lattice[at + 1] - lattice[at]);
                let lower = lattice[at + columns] + u * (lattice[at + columns + 1] - lattice[at + columns]);
                *value += amplitude * (upper + v * (lower - upper));
            }
        }
        energy += JOINED * amplitude * amplitude;
        amplitude *= roughness;
        pitch /= 2.0;
    }
    let scale = 1.0 / energy.sqrt().max(f32::EPSILON);
    field.iter_mut().for_each(|value| *value *= scale);
    field
}

/// Where pixel `at` lies on a lattice of such a pitch: the node before it, and how much of the way to the next one.
fn lattice_place(at: usize, pitch: f32) -> (usize, f32) {
    let place = at as f32 / pitch;
    let t = place.fract();
    (place as usize, t * t * (3.0 - 2.0 * t))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The median squared difference of pixels so far apart in a row.
    fn typical_difference(image: &[f32], side: usize, distance: usize) -> f32 {
        let rows = image.chunks_exact(side);
        let pairs = rows.flat_map(|row| row.iter().zip(&row[distance..]));
        let mut squares: Vec<f32> = pairs.map(|(a, b)| (a - b) * (a - b)).collect();
        squares.sort_by(f32::total_cmp);
        squares[squares.len() / 2]
    }

    #[test]
    fn surfaces_of_synthetic_photographs_vary_more_over_greater_distances() {
        let (side, mut random) = (128, generator(5));
        let mut sums = [0f32; 3];
        for _ in 0..8 {
            let image = picture(3, [side, side], &mut random);
            for (sum, distance) in sums.iter_mut().zip([1, 4, 16]) {
                *sum += typical_difference(&image, side, distance);
            }
        }
        assert!(sums[1] > 1.5 * sums[0] && sums[2] > 1.5 * sums[1], "{sums:?}");
    }

    #[test]
    fn textures_have_the_mean_square_that_contrasts_count_on() {
        let mut random = generator(7);
        let fields: Vec<f32> = (0..64).flat_map(|_| texture([48, 80], &mut random)).collect();
        let mean_square = fields.iter().map(|value| value * value).sum::<f32>() / fields.len() as f32;
        assert!((0.6..1.6).contains(&mean_square), "{mean_square}");
    }
}
