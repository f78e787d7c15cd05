//! What the output of a layer makes of errors in its weight, factored so that errors can be made good.
//!
//! With `H` the second moment of the layer's input, the error of its outputs is `tr(E H E^T)`. With `U` the upper
//! Cholesky factor of the inverse of `H`, an error `e` in column `j` of a row costs `(e / U_jj)^2`, provided that the
//! columns behind it move by `-e U_jk / U_jj`.
//!
//! Sources: Hassibi and Stork, "Second order derivatives for network pruning: Optimal Brain Surgeon", 1993; Frantar et
//! al., "GPTQ", 2023 (the factor).

use onnx_dcomp_ir::{MomentBlock, SecondMoment};

/// What the output makes of an error in one row of the weight.
#[derive(Debug, Clone)]
pub struct Curvature {
    /// Consecutive diagonal blocks that cover a row.
    pub(crate) blocks: Vec<Factor>,
}

/// The upper Cholesky factor of the inverse of one diagonal block of the second moment.
#[derive(Debug, Clone)]
pub(crate) struct Factor {
    pub(crate) size: usize,
    /// Row-major, `size` squared; row `j` is divided by its diagonal element.
    pub(crate) rows: Vec<f32>,
    /// `1 / U_jj^2`: what a unit of squared error in column `j` costs after compensation.
    pub(crate) weight: Vec<f32>,
}

impl Curvature {
    /// Factors a second moment, scaled to a mean diagonal of one and damped by `damping` times that mean.
    ///
    /// `None` where it is not positive definite even so: it then tells nothing.
    pub fn new(moment: &SecondMoment, damping: f64) -> Option<Self> {
        let trace: f64 =
            moment.blocks.iter().flat_map(|b| (0..b.size).map(|i| f64::from(b.values[i * b.size + i]))).sum();
        let mean = trace / moment.columns() as f64;
        if !(mean.is_finite() && mean > 0.0) {
            return None;
        }
        let blocks = moment.blocks.iter().map(|block| Factor::new(block, mean, damping)).collect::<Option<_>>()?;
        Some(Self { blocks })
    }

    /// Geometric mean of what a unit of squared error costs, at most one: how much coarser the grid may be.
    pub fn mean_weight(&self) -> f64 {
        let weights = || self.blocks.iter().flat_map(|block| &block.weight);
        (weights().map(|&weight| f64::from(weight).ln()).sum::<f64>() / weights().count() as f64).exp()
    }
}

impl Factor {
    fn new(moment: &MomentBlock, mean: f64, damping: f64) -> Option<Self> {
        let n = moment.size;
        let mut a: Vec<f64> = moment.values.iter().map(|&value| f64::from(value) / mean).collect();
        (0..n).for_each(|i| a[i * n + i] += damping);
        // H = L L^T from the bottom right corner upwards (a Cholesky factorisation of the reversed matrix) gives
        // H = V V^T with V upper triangular, hence H^-1 = (V^-1)^T (V^-1): U = V^-1, with rows in natural order.
        for j in (0..n).rev() {
            let mut pivot = a[j * n + j];
            for k in j + 1..n {
                pivot -= a[j * n + k] * a[j * n + k];
            }
            if pivot.is_nan() || pivot <= 0.0 {
                return None;
            }
            let diagonal = pivot.sqrt();
            a[j * n + j] = diagonal;
            for i in 0..j {
                let (head, tail) = a.split_at_mut(j * n);
                let dot: f64 = head[i * n + j + 1..i * n + n].iter().zip(&tail[j + 1..n]).map(|(x, y)| x * y).sum();
                head[i * n + j] = (head[i * n + j] - dot) / diagonal;
            }
        }
        // Inverts V in place of a second matrix, row by row from the bottom: U = V^-1 is upper triangular too.
        let mut rows = vec![0f32; n * n];
        let mut inverse = vec![0f64; n * n];
        for i in (0..n).rev() {
            let diagonal = 1.0 / a[i * n + i];
            let mut row = vec![0f64; n];
            row[i] = diagonal;
            for k in i + 1..n {
                let factor = -a[i * n + k] * diagonal;
                if factor != 0.0 {
                    for (slot, &value) in row[k..].iter_mut().zip(&inverse[k * n + k..k * n + n]) {
                        *slot += factor * value;
                    }
                }
            }
            inverse[i * n..(i + 1) * n].copy_from_slice(&row);
            for (slot, value) in rows[i * n..(i + 1) * n].iter_mut().zip(&row) {
                *slot = (value / diagonal) as f32;
            }
        }
        let weight = (0..n).map(|i| (a[i * n + i] * a[i * n + i]) as f32).collect();
        Some(Self { size: n, rows, weight })
    }
}
