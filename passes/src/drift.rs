//! What a weight should rather be where its layer's input has moved.
//!
//! A row `w` met the inputs `x`, and meets `y` now that layers before it are compressed. The row `v` whose outputs on `y`
//! are nearest to those of `w` on `x` is `w + w C H^-1`, with `C = mean((x - y) y^T)` and `H = mean(y y^T)`. Where a bias
//! makes good what is wrong in the mean, both are covariances, and the bias moves by `w mean(x) - v mean(y)`.
//!
//! Sources: Yu, Liu, Wang and Tao, "On compressing deep models by low rank and sparse decomposition", 2017 (asymmetric
//! reconstruction); Li et al., "GPTAQ: Efficient finetuning-free quantization for asymmetric calibration", 2025.
//! Cost: a third of the cube of a block's columns, and three times their square for each row, in multiplications.

use ndarray::linalg::general_mat_mul;
use ndarray::{Array2, ArrayView2, s};
use onnx_dcomp_ir::{Drift, MomentBlock, SecondMoment};
use rayon::prelude::*;

use crate::curvature::{self, Damped};

/// What is added to the diagonal of `H`, as a fraction of its mean: what the past has made of an input is known from few
/// samples.
const DAMPING: f64 = 0.1;

/// Further damping for each column over each input that the moments were averaged of.
const DOUBT: f64 = 0.1;

/// A weight that fits inputs which have moved.
#[derive(Debug, Clone)]
pub(crate) struct Moved {
    /// Its values.
    pub(crate) values: Vec<f32>,
    /// What is to be added to the bias, row by row; empty where there is none.
    pub(crate) shift: Vec<f64>,
}

impl Moved {
    /// The weight whose rows are `values` now; `has_bias` says whether a bias makes good what is wrong in the mean.
    ///
    /// `None` where the drift is that of another weight, or tells nothing.
    pub(crate) fn of(values: &[f32], drift: &Drift, has_bias: bool) -> Option<Self> {
        let columns = drift.moment.columns();
        let is_sound = columns > 0
            && values.len().is_multiple_of(columns)
            && [&drift.shift, &drift.moment.mean].into_iter().all(|mean| mean.len() == columns)
            && drift.cross.iter().map(|block| block.size).eq(drift.moment.blocks.iter().map(|block| block.size));
        if !is_sound {
            return None;
        }
        let before = ArrayView2::from_shape((values.len() / columns, columns), values).ok()?;
        let moment = if has_bias { drift.moment.covariance()? } else { drift.moment.clone() };
        let damping = DAMPING + DOUBT * widest(&moment) as f64 / moment.samples.max(1) as f64;
        let blocks = Damped::blocks(&moment, damping)?;
        // Damped blocks are scaled to a mean diagonal of one.
        let scale = moment.mean_square();
        let mut after = before.to_owned();
        let mut start = 0;
        for (damped, cross) in blocks.iter().zip(&drift.cross) {
            let range = start..start + damped.size;
            start = range.end;
            let centre = has_bias.then(|| (&drift.shift[range.clone()], &drift.moment.mean[range.clone()]));
            let cross = scaled(cross, centre, scale);
            let mut part = after.slice_mut(s![.., range.clone()]);
            let added = solved(before.slice(s![.., range]), &cross, damped)?;
            part += &added;
        }
        let shift = match has_bias {
            true => before
                .rows()
                .into_iter()
                .zip(after.rows())
                .map(|(w, v)| {
                    let columns = w.iter().zip(v).zip(drift.shift.iter().zip(&drift.moment.mean));
                    // w mean(x) - v mean(y), where mean(x) is the shift and mean(y) together.
                    columns
                        .map(|((&w, &v), (&shift, &mean))| {
                            f64::from(w) * f64::from(shift) + (f64::from(w) - f64::from(v)) * f64::from(mean)
                        })
                        .sum()
                })
                .collect(),
            false => Vec::new(),
        };
        let values = after.iter().copied().collect();
        Some(Self { values, shift })
    }
}

fn widest(moment: &SecondMoment) -> usize {
    moment.blocks.iter().map(|block| block.size).max().unwrap_or_default()
}

/// `cross` over `scale`, without the product of the means where they are given.
fn scaled(cross: &MomentBlock, means: Option<(&[f32], &[f32])>, scale: f64) -> Array2<f32> {
    let value = |(row, column): (usize, usize)| {
        let centre = means.map_or(0.0, |(moved, now)| f64::from(moved[row]) * f64::from(now[column]));
        ((f64::from(cross.values[row * cross.size + column]) - centre) / scale) as f32
    };
    Array2::from_shape_fn((cross.size, cross.size), value)
}

/// `rows C H^-1`; `None` where `H` is not positive definite.
fn solved(rows: ArrayView2<'_, f32>, cross: &Array2<f32>, damped: &Damped) -> Option<Array2<f32>> {
    let size = damped.size;
    let mut lower = damped.values.clone();
    curvature::factor(&mut lower, size)?;
    // With few rows `rows C` is the smaller right-hand side, with many it is `C`.
    let are_few = rows.nrows() < size;
    let right = if are_few { rows.dot(cross) } else { cross.clone() };
    let solve = |row: ndarray::ArrayView1<'_, f32>| -> Vec<f32> {
        let mut x: Vec<f64> = row.iter().map(|&value| f64::from(value)).collect();
        curvature::solve(&lower, &mut x);
        x.into_iter().map(|value| value as f32).collect()
    };
    let all: Vec<ndarray::ArrayView1<'_, f32>> = right.rows().into_iter().collect();
    let all: Vec<f32> = all.into_par_iter().flat_map_iter(solve).collect();
    let found = Array2::from_shape_vec(right.raw_dim(), all).ok()?;
    if are_few {
        return Some(found);
    }
    let mut product = Array2::zeros((rows.nrows(), size));
    general_mat_mul(1.0, &rows, &found, 0.0, &mut product);
    Some(product)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Inputs before and now, two columns each, of which the second has shrunk and moved.
    fn drift() -> (Vec<[f32; 2]>, Vec<[f32; 2]>, Drift) {
        let before: Vec<[f32; 2]> =
            (0..64).map(|at| [(at as f32 * 0.37).sin(), (at as f32 * 0.61).cos() + 0.3]).collect();
        let now: Vec<[f32; 2]> = before.iter().map(|[a, b]| [a + 0.2 * b, 0.5 * b - 0.4]).collect();
        let mean = |of: &dyn Fn(usize) -> f32| (0..64).map(of).sum::<f32>() / 64.0;
        let table = |of: &dyn Fn(usize, usize, usize) -> f32| MomentBlock {
            size: 2,
            values: [[0, 0], [0, 1], [1, 0], [1, 1]].map(|[i, j]| mean(&|at| of(at, i, j))).to_vec(),
        };
        let drift = Drift {
            moment: SecondMoment {
                blocks: vec![table(&|at, i, j| now[at][i] * now[at][j])],
                mean: [0, 1].map(|i| mean(&|at| now[at][i])).to_vec(),
                samples: 1_000_000,
            },
            cross: vec![table(&|at, i, j| (before[at][i] - now[at][i]) * now[at][j])],
            shift: [0, 1].map(|i| mean(&|at| before[at][i] - now[at][i])).to_vec(),
        };
        (before, now, drift)
    }

    /// Mean squared difference of what `w` gives on the inputs before and `v`, with `bias`, on those now.
    fn error(w: &[f32], v: &[f32], bias: f64, (before, now): (&[[f32; 2]], &[[f32; 2]])) -> f64 {
        let dot = |a: &[f32], b: &[f32]| f64::from(a[0] * b[0] + a[1] * b[1]);
        before.iter().zip(now).map(|(x, y)| (dot(w, x) - dot(v, y) - bias).powi(2)).sum::<f64>() / 64.0
    }

    #[test]
    fn the_outputs_on_moved_inputs_come_nearer_to_those_before_with_a_bias_and_without() {
        let (before, now, drift) = drift();
        let rows = [0.7f32, -1.2, 0.1, 0.9, -0.5, 0.2];
        for has_bias in [true, false] {
            let moved = Moved::of(&rows, &drift, has_bias).expect("the drift is that of the weight");
            for (row, (w, v)) in rows.chunks(2).zip(moved.values.chunks(2)).enumerate() {
                let bias = moved.shift.get(row).copied().unwrap_or_default();
                let [kept, followed] = [(w, 0.0), (v, bias)].map(|(v, bias)| error(w, v, bias, (&before, &now)));
                // Without a bias nothing makes good what the second column was moved by.
                let most = if has_bias { 0.25 } else { 1.0 };
                assert!(followed < most * kept, "{followed} and {kept}");
            }
        }
    }

    #[test]
    fn few_rows_and_many_give_the_same() {
        let (.., drift) = drift();
        let row = [0.7f32, -1.2];
        let alone = Moved::of(&row, &drift, true).expect("one row");
        let many = Moved::of(&row.repeat(5), &drift, true).expect("five rows");
        for (value, other) in many.values.chunks(2).flat_map(|row| row.iter().zip(&alone.values)) {
            assert!((value - other).abs() < 1e-5, "{value} and {other}");
        }
    }

    #[test]
    fn where_nothing_has_moved_nothing_changes() {
        let (.., mut drift) = drift();
        drift.cross[0].values.fill(0.0);
        drift.shift.fill(0.0);
        let moved = Moved::of(&[0.3, 0.4], &drift, false).expect("the drift is that of the weight");
        assert_eq!(moved.values, [0.3, 0.4]);
    }

    #[test]
    fn a_drift_of_another_weight_tells_nothing() {
        let (.., drift) = drift();
        assert!(Moved::of(&[1.0, 2.0, 3.0], &drift, true).is_none());
        assert!(Moved::of(&[1.0, 2.0], &Drift::default(), true).is_none());
    }
}
