//! Convolutions whose filters are a sparse matrix: direct, without the matrix of patches that im2col writes.
//!
//! The input is padded once, so that every filter sees it through a window that never leaves it. Outputs are numbered
//! along the rows of the padded input, the few places between two rows included; the inputs that one weight meets are then
//! a run of numbers that lie together, for every weight. So a non-zero is multiplied with whole registers: it takes
//! one load for each, no index, and the sums of a block of outputs stay in registers for all non-zeros of a filter. With
//! strides the input is split into its phases first, each of which is seen without strides.
//!
//! The columns of the matrix lie in panels of so many channels that their part of the input stays in the level 1
//! cache while all filters meet it.
//!
//! Source: Park et al., "Faster CNNs with direct sparse convolutions and guided pruning", ICLR 2017. The phases and the
//! panels are ours.

use std::collections::{HashMap, TryReserveError};
use std::ops::Range;

use onnx_dcomp_codec::processor::{self, Work};
use onnx_dcomp_forms::Form;

use crate::Order;
use crate::epilogue::Epilogue;
use crate::sparse::{RowVisitor, SparseMatrix, USED};
use crate::threads::Threads;
use crate::window::{Place, Window};

/// Outputs in a vector: one register of AVX-512, two of AVX2, four of NEON.
const LANES: usize = 16;
/// Vectors in a block, at most: as many sums as AVX2 has registers for.
const VECTORS: usize = 6;
/// Outputs in a block.
const BLOCK: usize = LANES * VECTORS;
/// What a panel's part of the input may take of the level 1 cache, in bytes.
const CACHE: usize = 24 << 10;
/// How long a row of the input is taken to be, where it is not known yet.
const USUAL_PITCH: usize = 32;

type Vector = [f32; LANES];

/// A convolution of two dimensions with sparse filters.
#[derive(Debug, Clone)]
pub struct SparseConvolution {
    filters: SparseMatrix,
    window: Window,
    groups: usize,
}

impl SparseConvolution {
    /// The convolution with the filters in `form`, of shape `[filters, channels / groups, height, width]`.
    ///
    /// `None` where [`SparseMatrix`] cannot hold them, where they do not divide into `groups`, or a window has no place.
    pub fn new(form: &Form, filters: usize, channels: usize, window: Window, groups: usize) -> Option<Self> {
        let taps = window.taps()?;
        let (groups_filters, rest) = (filters.checked_div(groups)?, filters.checked_rem(groups)?);
        if groups_filters == 0 || rest != 0 {
            return None;
        }
        let [height, width] = window.kernel;
        let channel_bytes = size_of::<f32>() * (BLOCK + (height - 1) * USUAL_PITCH + width - 1) + 64;
        let panel = (CACHE / channel_bytes).max(1).checked_mul(taps)?.min(USED);
        let filters = SparseMatrix::with_panels(form, filters, channels.checked_mul(taps)?, Order::Rows, panel)?;
        Some(Self { filters, window, groups })
    }

    /// Number of filters, which is the number of channels of the output.
    pub fn filters(&self) -> usize {
        self.filters.rows()
    }

    /// Number of channels of the input.
    pub fn channels(&self) -> usize {
        self.filters.columns() / self.window.taps().unwrap_or(1) * self.groups
    }

    /// How the filters move.
    pub fn window(&self) -> &Window {
        &self.window
    }

    /// Bytes of memory that the filters take.
    pub fn bytes(&self) -> usize {
        self.filters.bytes()
    }

    /// Convolves images of `[channels, height, width]`, one behind the other, and does what `epilogue` says.
    ///
    /// `size` is an image's height and width; `outputs` holds as many images of `[filters, height, width]`, with the
    /// size that [`Window::place`] gives.
    ///
    /// # Errors
    /// Where the padded image does not fit into memory.
    pub fn convolve(
        &self,
        inputs: &[f32],
        size: [usize; 2],
        epilogue: Epilogue<'_>,
        outputs: &mut [f32],
        threads: &dyn Threads,
    ) -> Result<(), TryReserveError> {
        let Some(place) = self.window.place(size) else { return Ok(()) };
        let plane = place.size[0] * place.size[1];
        let (input, output) = (self.channels() * size[0] * size[1], self.filters() * plane);
        if input == 0 || output == 0 {
            return Ok(());
        }
        let mut image = Image::new(&self.window, place, self.channels(), size)?;
        let offsets = image.offsets(self.filters.columns());
        let multiplications = self.filters.entries().saturating_mul(plane);
        for (input, output) in inputs.chunks_exact(input).zip(outputs.chunks_exact_mut(output)) {
            image.fill(input);
            let (image, offsets) = (&image, &offsets[..]);
            threads.run(output, plane, multiplications, &|first, part| {
                let mut part = part.chunks_mut(plane);
                let mut first = first;
                // Filters of one group see the same channels.
                while part.len() > 0 {
                    let end = (first / self.group_filters() + 1) * self.group_filters();
                    let filters = first..end.min(first + part.len());
                    let outputs = part.by_ref().take(filters.len()).collect();
                    first = filters.end;
                    processor::run_widest(Convolve { convolution: self, image, offsets, filters, epilogue, outputs });
                }
            });
        }
        Ok(())
    }

    /// Filters of a group.
    fn group_filters(&self) -> usize {
        self.filters.rows() / self.groups
    }
}

/// The phases of a padded input: with strides `[2, 2]` all even rows' even places, all even rows' odd places, and so
/// on, as far as a tap sees them.
struct Image {
    place: Place,
    /// Height and width of an input.
    size: [usize; 2],
    strides: [usize; 2],
    channels: usize,
    /// The phases that a tap sees, by the place of their first element.
    phases: Vec<[usize; 2]>,
    /// Height and width of a phase.
    extent: [usize; 2],
    /// For each tap of the window where the first output meets it, from the start of a channel.
    taps: Vec<usize>,
    /// Channel by channel, phase by phase; a block of zeros behind, into which the last block may reach.
    elements: Vec<f32>,
}

impl Image {
    fn new(window: &Window, place: Place, channels: usize, size: [usize; 2]) -> Result<Self, TryReserveError> {
        let reach = |axis: usize| (window.kernel[axis] - 1) * window.dilations[axis];
        let extent = [0, 1].map(|axis| place.size[axis].saturating_add(reach(axis) / window.strides[axis]));
        let mut phases = Vec::new();
        let mut numbers = HashMap::new();
        // The phase of each tap, and where in it the first output meets it.
        let mut seen = Vec::new();
        for row in 0..window.kernel[0] {
            for column in 0..window.kernel[1] {
                let at = [row * window.dilations[0], column * window.dilations[1]];
                let phase = [0, 1].map(|axis| at[axis] % window.strides[axis]);
                let number = *numbers.entry(phase).or_insert_with(|| {
                    phases.push(phase);
                    phases.len() - 1
                });
                seen.push((number, [0, 1].map(|axis| at[axis] / window.strides[axis])));
            }
        }
        // What cannot be counted cannot be reserved either.
        let length = [channels, phases.len(), extent[0], extent[1]].into_iter().fold(1, usize::saturating_mul);
        let length = length.saturating_add(BLOCK);
        let mut elements = Vec::new();
        elements.try_reserve_exact(length)?;
        elements.resize(length, 0.0);
        let place_of = |(number, [down, right]): (usize, [usize; 2])| (number * extent[0] + down) * extent[1] + right;
        let taps = seen.into_iter().map(place_of).collect();
        Ok(Self { place, size, strides: window.strides, channels, phases, extent, taps, elements })
    }

    /// Elements of a channel, all phases.
    fn channel(&self) -> usize {
        self.phases.len() * self.extent[0] * self.extent[1]
    }

    /// For each column of filters of `columns` where its input begins.
    fn offsets(&self, columns: usize) -> Vec<usize> {
        let taps = self.taps.len();
        (0..columns).map(|column| column / taps * self.channel() + self.taps[column % taps]).collect()
    }

    /// Takes an input of `[channels, height, width]`. What is padding was zero and stays it.
    fn fill(&mut self, input: &[f32]) {
        let ([height, width], [pitch, step]) = (self.size, [self.extent[1], self.strides[1]]);
        let [above, left] = self.place.before;
        let channels = input.chunks_exact(height * width);
        for (channel, target) in
            channels.zip(self.elements.chunks_exact_mut(self.phases.len() * self.extent[0] * pitch))
        {
            for ([first_row, first], target) in self.phases.iter().zip(target.chunks_exact_mut(self.extent[0] * pitch))
            {
                for (row, target) in target.chunks_exact_mut(pitch).enumerate() {
                    let Some(row) = (row * self.strides[0] + first_row).checked_sub(above) else { continue };
                    let Some(row) = channel.get(row * width..(row + 1) * width) else { break };
                    // The first place that is no padding, and what stands there.
                    let begin = left.saturating_sub(*first).div_ceil(step);
                    let Some(target) = target.get_mut(begin..) else { continue };
                    let Some(row) = row.get(begin * step + first - left..) else { continue };
                    match step {
                        1 => target.iter_mut().zip(row).for_each(|(target, value)| *target = *value),
                        _ => {
                            target.iter_mut().zip(row.iter().step_by(step)).for_each(|(target, value)| *target = *value)
                        }
                    }
                }
            }
        }
    }
}

/// Some filters of one group on one image.
struct Convolve<'a> {
    convolution: &'a SparseConvolution,
    image: &'a Image,
    /// For each column of the filters where its input begins, from the start of a group's channels.
    offsets: &'a [usize],
    filters: Range<usize>,
    epilogue: Epilogue<'a>,
    /// A plane for each filter.
    outputs: Vec<&'a mut [f32]>,
}

impl Work for Convolve<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const HAS_AVX2: bool>(mut self) {
        let [height, width] = self.image.place.size;
        let pitch = self.image.extent[1];
        let places = (height - 1) * pitch + width;
        let group = self.filters.start / self.convolution.group_filters();
        let channels = self.image.channels / self.convolution.groups;
        let elements = self.image.elements.get(group * channels * self.image.channel()..).unwrap_or_default();
        let mut sums = vec![[[0f32; LANES]; VECTORS]; self.filters.len()];
        for first in (0..places).step_by(BLOCK) {
            for (sums, filter) in sums.iter_mut().zip(self.filters.clone()) {
                *sums = [[self.epilogue.start(filter); LANES]; VECTORS];
            }
            let (elements, end) = (&elements[first..], places.min(first + BLOCK));
            match (end - first).div_ceil(LANES) {
                1 => self.block::<1>(elements, &mut sums),
                2 => self.block::<2>(elements, &mut sums),
                3 => self.block::<3>(elements, &mut sums),
                4 => self.block::<4>(elements, &mut sums),
                5 => self.block::<5>(elements, &mut sums),
                _ => self.block::<VECTORS>(elements, &mut sums),
            }
            for (sums, plane) in sums.iter_mut().zip(&mut self.outputs) {
                let sums = sums.as_flattened_mut();
                self.epilogue.activation.apply(sums);
                for row in first / pitch..=(end - 1) / pitch {
                    // What lies between two rows is nobody's output.
                    let (from, to) = (first.max(row * pitch), end.min(row * pitch + width));
                    if from < to {
                        let start = from - row * (pitch - width);
                        plane[start..start + to - from].copy_from_slice(&sums[from - first..to - first]);
                    }
                }
            }
        }
    }
}

impl Convolve<'_> {
    /// Adds to `COUNT` vectors of each filter's sums what all its non-zeros make of the inputs in `elements`.
    #[inline(always)]
    fn block<const COUNT: usize>(&self, elements: &[f32], sums: &mut [[Vector; VECTORS]]) {
        let filters = &self.convolution.filters;
        for (panel, columns) in filters.panels().enumerate() {
            let Some(offsets) = self.offsets.get(columns) else { continue };
            let first = self.filters.start;
            let block = Block::<COUNT> { elements, offsets, sums: &mut *sums, first };
            filters.for_each_row(panel, self.filters.clone(), block);
        }
    }
}

/// A block of outputs, of which `COUNT` vectors are looked at.
struct Block<'a, const COUNT: usize> {
    elements: &'a [f32],
    /// Where among them the input of each column of the panel begins.
    offsets: &'a [usize],
    /// For each filter from `first` on.
    sums: &'a mut [[Vector; VECTORS]],
    first: usize,
}

impl<const COUNT: usize> RowVisitor for Block<'_, COUNT> {
    #[inline(always)]
    fn row(&mut self, row: usize, entries: impl Iterator<Item = (u16, f32)>) {
        let totals = &mut self.sums[row - self.first];
        let mut sums: [Vector; COUNT] = std::array::from_fn(|vector| totals[vector]);
        for (column, value) in entries {
            // Padding, which comes last, has no place.
            let Some(&start) = self.offsets.get(usize::from(column)) else { break };
            let Some(inputs) = self.elements.get(start..start + LANES * COUNT) else { break };
            for (sums, inputs) in sums.iter_mut().zip(inputs.as_chunks::<LANES>().0) {
                for lane in 0..LANES {
                    sums[lane] += value * inputs[lane];
                }
            }
        }
        totals.iter_mut().zip(sums).for_each(|(total, sums)| *total = sums);
    }
}
