//! Second moments of layer inputs, summed patch by patch in bounded memory.

use ndarray::linalg::general_mat_mul;
use ndarray::{Array2, ArrayView2};
use onnx_dcomp_ir::{MomentBlock, SecondMoment};

use super::layer::{Layer, Patch};
use crate::tensor::Tensor;

/// Most columns of one block: factoring costs its cube, and memory its square.
const BLOCK_COLUMNS: usize = 1024;

/// Most elements of all blocks of one layer together; very wide layers get narrow blocks.
const BLOCK_ELEMENTS: usize = 1 << 26;

/// Patches that are multiplied at once, and the most elements that these have together.
const CHUNK: usize = 512;
const CHUNK_ELEMENTS: usize = 1 << 24;

/// How many patches a moment is taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PatchCount {
    /// So many for each column,
    pub per_column: usize,
    /// but at least so many,
    pub fewest: usize,
    /// and at most so many.
    pub most: usize,
}

impl PatchCount {
    /// For synthetic inputs, whose moments are rough however many there are.
    pub const ROUGH: Self = Self { per_column: 16, fewest: 4096, most: 16_384 };
    /// For real samples: what is estimated from `n` patches for each column is off by about `1 / sqrt(n)`.
    pub const FINE: Self = Self { per_column: 128, fewest: 16_384, most: 65_536 };
    /// For how inputs move, which is asked once for each candidate of a search.
    pub const QUICK: Self = Self { per_column: 16, fewest: 2048, most: 8192 };

    pub(super) fn wanted(self, columns: usize) -> usize {
        (self.per_column * columns).clamp(self.fewest, self.most)
    }
}

/// Sizes of the diagonal blocks for the moments of `patch`: as equal as can be, each of whole channels. `None` where even
/// blocks of one channel would take too much memory together.
pub(super) fn block_sizes(patch: &Patch) -> Option<Vec<usize>> {
    let (columns, unit) = (patch.columns(), patch.columns_per_channel());
    unit.checked_mul(columns).filter(|&elements| elements <= BLOCK_ELEMENTS)?;
    let block_columns = (BLOCK_ELEMENTS / columns.max(1)).clamp(1, BLOCK_COLUMNS);
    let units = columns / unit.max(1);
    let parts = columns.div_ceil(block_columns).clamp(1, units.max(1));
    Some((0..parts).map(|block| ((block + 1) * units / parts - block * units / parts) * unit).collect())
}

/// Patches of `columns` columns that are multiplied at once.
pub(super) fn rows_at_once(columns: usize) -> usize {
    (CHUNK_ELEMENTS / columns.max(1)).clamp(1, CHUNK)
}

/// The numbers of `taken` of `available` patches, so that every sample and every region has its share.
pub(super) fn places(taken: usize, available: usize) -> impl Iterator<Item = usize> {
    (0..taken).map(move |number| {
        // The golden ratio spreads the places over rows and columns alike.
        let spread = (number as f64 * 0.618_033_988_749_894_9).fract() * (available as f64 / taken as f64);
        (number * available / taken + spread as usize).min(available - 1)
    })
}

/// The second moment of one layer's input, as it grows.
pub struct Accumulator {
    blocks: Vec<Array2<f32>>,
    sums: Vec<f64>,
    columns: usize,
    patches: usize,
    count: PatchCount,
}

impl Accumulator {
    /// An empty sum for `layer`, to be taken from about `count` patches.
    pub fn new(layer: &Layer, count: PatchCount) -> Self {
        let nothing = Self { blocks: Vec::new(), sums: Vec::new(), columns: 0, patches: 0, count };
        let Some(patch) = &layer.patch else { return nothing };
        let Some(sizes) = block_sizes(patch) else { return nothing };
        let blocks = sizes.into_iter().map(|size| Array2::zeros((size, size))).collect();
        Self { blocks, sums: vec![0.0; patch.columns()], columns: patch.columns(), patches: 0, count }
    }

    /// Adds the patches of `input`, one of `batches` batches.
    pub fn add(&mut self, layer: &Layer, input: &Tensor, batches: usize) {
        let Some(patch) = layer.patch.as_ref().filter(|_| !self.blocks.is_empty()) else { return };
        let available = patch.count(input);
        let wanted = self.count.wanted(self.columns).div_ceil(batches.max(1));
        let taken = wanted.min(available);
        let values = input.to_f32();
        let chunk = rows_at_once(self.columns);
        let mut rows = vec![0f32; chunk * self.columns];
        let mut filled = 0;
        for (number, at) in places(taken, available).enumerate() {
            patch.copy(&values, input.shape(), at, &mut rows[filled * self.columns..(filled + 1) * self.columns]);
            filled += 1;
            if filled == chunk || number + 1 == taken {
                self.multiply(&rows[..filled * self.columns], filled);
                filled = 0;
            }
        }
        self.patches += taken;
    }

    fn multiply(&mut self, rows: &[f32], count: usize) {
        let Ok(all) = ArrayView2::from_shape((count, self.columns), rows) else { return };
        for row in all.rows() {
            self.sums.iter_mut().zip(row).for_each(|(sum, &value)| *sum += f64::from(value));
        }
        let mut start = 0;
        for block in &mut self.blocks {
            let end = start + block.nrows();
            let part = all.slice(ndarray::s![.., start..end]);
            general_mat_mul(1.0, &part.t(), &part, 1.0, block);
            start = end;
        }
    }

    /// The mean; `None` where no patch was seen, or a value is not finite.
    pub fn finish(self) -> Option<SecondMoment> {
        if self.patches == 0 {
            return None;
        }
        let scale = 1.0 / self.patches as f32;
        let blocks: Vec<MomentBlock> = self
            .blocks
            .into_iter()
            .map(|block| MomentBlock { size: block.nrows(), values: block.iter().map(|value| value * scale).collect() })
            .collect();
        let mean = self.sums.iter().map(|sum| (sum / self.patches as f64) as f32).collect();
        let moment = SecondMoment { blocks, mean, samples: self.patches };
        let is_finite = moment.blocks.iter().all(|block| block.values.iter().all(|value| value.is_finite()));
        is_finite.then_some(moment)
    }
}
