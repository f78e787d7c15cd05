//! How the input of a layer has moved behind layers that are compressed, summed patch by patch.

use ndarray::linalg::general_mat_mul;
use ndarray::{Array2, ArrayView2, s};
use onnx_dcomp_ir::{Drift, MomentBlock, SecondMoment};

use super::layer::{Layer, Patch};
use super::moments::{PatchCount, block_sizes, places, rows_at_once};
use crate::tensor::Tensor;

/// The drift of `layer`'s input from `before` to `now`, batch by batch, from about `count` patches. `None` where its
/// patches are not known, there is none, or a value is not finite.
pub(super) fn measure(layer: &Layer, before: &[Tensor], now: &[Tensor], count: PatchCount) -> Option<Drift> {
    let patch = layer.patch.as_ref().filter(|_| layer.rows_are_contiguous)?;
    let mut sums = Sums::new(patch)?;
    let wanted = count.wanted(patch.columns()).div_ceil(before.len().max(1));
    before.iter().zip(now).for_each(|(before, now)| sums.add(patch, [before, now], wanted));
    sums.finish()
}

/// What is summed of `x`, a patch as it was, and `y`, the same patch as it is.
struct Sums {
    /// Of `(x - y) y^T`, and of `y y^T`, block by block.
    blocks: Vec<[Array2<f32>; 2]>,
    /// Of `x - y`, and of `y`.
    means: [Vec<f64>; 2],
    patches: usize,
}

impl Sums {
    fn new(patch: &Patch) -> Option<Self> {
        let zeros = |size| [0, 1].map(|_| Array2::zeros((size, size)));
        let blocks = block_sizes(patch)?.into_iter().map(zeros).collect();
        Some(Self { blocks, means: [0, 1].map(|_| vec![0.0; patch.columns()]), patches: 0 })
    }

    /// Adds at most `wanted` patches.
    fn add(&mut self, patch: &Patch, [before, now]: [&Tensor; 2], wanted: usize) {
        let available = if before.shape() == now.shape() { patch.count(now) } else { 0 };
        let columns = patch.columns();
        let taken: Vec<usize> = places(wanted.min(available), available).collect();
        let values = [before.to_f32(), now.to_f32()];
        for some in taken.chunks(rows_at_once(columns)) {
            let mut rows = [0, 1].map(|_| vec![0f32; some.len() * columns]);
            for (rows, values) in rows.iter_mut().zip(&values) {
                let rows = rows.chunks_exact_mut(columns.max(1));
                rows.zip(some).for_each(|(row, &at)| patch.copy(values, now.shape(), at, row));
            }
            let [moved, now] = &mut rows;
            moved.iter_mut().zip(&*now).for_each(|(x, &y)| *x -= y);
            self.multiply([moved, now], some.len());
        }
        self.patches += taken.len();
    }

    fn multiply(&mut self, rows: [&[f32]; 2], count: usize) {
        let columns = self.means[0].len();
        let views = rows.map(|rows| ArrayView2::from_shape((count, columns), rows));
        let [Ok(moved), Ok(now)] = views else { return };
        for (sums, rows) in self.means.iter_mut().zip([moved, now]) {
            for row in rows.rows() {
                sums.iter_mut().zip(row).for_each(|(sum, &value)| *sum += f64::from(value));
            }
        }
        let mut start = 0;
        for [cross, moment] in &mut self.blocks {
            let range = start..start + moment.nrows();
            start = range.end;
            let (moved, now) = (moved.slice(s![.., range.clone()]), now.slice(s![.., range]));
            general_mat_mul(1.0, &moved.t(), &now, 1.0, cross);
            general_mat_mul(1.0, &now.t(), &now, 1.0, moment);
        }
    }

    fn finish(self) -> Option<Drift> {
        if self.patches == 0 {
            return None;
        }
        let scale = 1.0 / self.patches as f32;
        let block = |sums: &Array2<f32>| MomentBlock {
            size: sums.nrows(),
            values: sums.iter().map(|value| value * scale).collect(),
        };
        let mean = |sums: &[f64]| sums.iter().map(|sum| (sum / self.patches as f64) as f32).collect();
        let blocks = self.blocks.iter().map(|[_, moment]| block(moment)).collect();
        let moment = SecondMoment { blocks, mean: mean(&self.means[1]), samples: self.patches };
        let cross: Vec<MomentBlock> = self.blocks.iter().map(|[cross, _]| block(cross)).collect();
        let mut values = moment.blocks.iter().chain(&cross).flat_map(|block| &block.values);
        values.all(|value| value.is_finite()).then(|| Drift { moment, cross, shift: mean(&self.means[0]) })
    }
}
