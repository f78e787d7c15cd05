//! Quantisation with error feedback: each element's rounding error is made good by the elements that follow it.
//!
//! The error that counts is not that of the weights but that of the layer's outputs, `tr(E H E^T)` with `H` the second
//! moment of the layer's input. With `U` the upper Cholesky factor of the inverse of `H`, rounding element `j` of a
//! row by `e` costs `(e / U_jj)^2`, provided that the elements behind it move by `-e U_jk / U_jj`. The levels of a row
//! are chosen one after the other by rate and distortion; through the trellis every surviving path carries its own
//! compensated row (per-survivor processing), and paths meet again at the end of a short block of columns.
//!
//! Sources: Hassibi and Stork, "Second order derivatives for network pruning: Optimal Brain Surgeon", 1993; Frantar et
//! al., "GPTQ", 2023; Conzelmann and Bamler, "Reducing storage of pretrained neural networks by rate-constrained
//! quantization and entropy coding", 2025 (the rate term); Raheli, Polydoros and Tzou, "Per-survivor processing", 1995.

use std::ops::Range;

use onnx_dcomp_forms::{GridKind, trellis};

use super::neighbourhood::Neighbourhood;
use super::rate::{Counts, RateModel};
use super::target::{MAX_LEVEL, PREDECESSORS, Quantized, Target, lower_level, point};
use crate::curvature::Curvature;
use crate::curvature::Factor;

/// Columns whose levels are decided together. Longer blocks cost time (each path carries a row of this length) and
/// gain little: a path's past is settled after some five times the trellis' memory.
const BLOCK: usize = 32;

/// Quantises a weight row by row: twice to learn the rates, from the first rows, then for good. It is what `dense` holds,
/// and should rather be `wanted`, which is as long; zeros that are kept are those of `dense`.
///
/// The curvature must cover rows of `target.row_length` elements, and both be a whole number of rows.
pub fn quantize([dense, wanted]: [&[f32]; 2], target: &Target<'_>, curvature: &Curvature) -> Quantized {
    const LEARNING: usize = 1 << 17;
    let head = wanted.len().min((LEARNING / target.row_length).max(1) * target.row_length);
    let mut rates = RateModel::geometric();
    let mut levels = vec![0i16; wanted.len()];
    for _ in 0..2 {
        rates =
            RateModel::learn(&run([&dense[..head], &wanted[..head]], target, curvature, &rates, &mut levels[..head]));
    }
    let counts = run([dense, wanted], target, curvature, &rates, &mut levels);
    Quantized { levels, bits: RateModel::learn(&counts).total_bits(&counts) }
}

fn run(
    [dense, wanted]: [&[f32]; 2],
    target: &Target<'_>,
    curvature: &Curvature,
    rates: &RateModel,
    levels: &mut [i16],
) -> Counts {
    let mut counts = Counts::default();
    let mut paths = Paths::default();
    let mut state = trellis::START;
    let mut neighbourhood = Neighbourhood::new(target.row_length);
    let mut row = vec![0f32; target.row_length];
    let mut classes = vec![0u8; target.row_length];
    let mut is_fixed = vec![false; target.row_length];
    let sources = dense.chunks_exact(target.row_length).zip(wanted.chunks_exact(target.row_length));
    for (number, ((dense, source), out)) in sources.zip(levels.chunks_exact_mut(target.row_length)).enumerate() {
        let step = target.steps[number % target.steps.len()];
        let scale = target.level_scale(step);
        row.copy_from_slice(source);
        for (column, class) in classes.iter_mut().enumerate() {
            *class = neighbourhood.class(column, source[column].abs() * scale);
            is_fixed[column] = target.keeps_zeros && dense[column] == 0.0;
        }
        let mut start = 0;
        for factor in &curvature.blocks {
            let end = start + factor.size;
            let (row, out, classes) = (&mut row[start..end], &mut out[start..end], &classes[start..end]);
            let hot = Hot {
                factor,
                classes,
                is_fixed: &is_fixed[start..end],
                step,
                lambda: target.lambda * step * step,
                rates,
            };
            for block in (0..factor.size).step_by(BLOCK) {
                let columns = block..(block + BLOCK).min(factor.size);
                match target.kind {
                    GridKind::Uniform | GridKind::Lattice { .. } => {
                        hot.uniform(row, columns.clone(), out, &mut paths.errors, &mut counts);
                    }
                    GridKind::Trellis => state = paths.decide(&hot, row, columns.clone(), state, out, &mut counts),
                }
                for (column, &error) in columns.clone().zip(&paths.errors) {
                    let feedback = &factor.rows[column * factor.size + columns.end..(column + 1) * factor.size];
                    row[columns.end..].iter_mut().zip(feedback).for_each(|(value, &f)| *value -= error * f);
                }
            }
            start = end;
        }
        out.iter().enumerate().for_each(|(column, &level)| neighbourhood.decide(column, level));
    }
    counts
}

/// What the inner loops read.
struct Hot<'a> {
    factor: &'a Factor,
    classes: &'a [u8],
    /// Whether an element must become zero, whatever errors were fed back to it.
    is_fixed: &'a [bool],
    step: f32,
    /// Price of a bit in squared weight units.
    lambda: f32,
    rates: &'a RateModel,
}

impl Hot<'_> {
    /// Decides the columns of one block on the uniform grid, one by one.
    fn uniform(
        &self,
        row: &mut [f32],
        columns: Range<usize>,
        out: &mut [i16],
        errors: &mut Vec<f32>,
        counts: &mut Counts,
    ) {
        errors.clear();
        for column in columns.clone() {
            let (value, weight) = (row[column], self.factor.weight[column]);
            let scaled = value.abs() / self.step;
            let nearest = if self.is_fixed[column] { 0 } else { ((scaled + 0.5) as i32).min(MAX_LEVEL) };
            let mut best = (f32::INFINITY, 0);
            for candidate in [nearest, (nearest - 1).max(0), 0] {
                let error = (scaled - candidate as f32) * self.step;
                let bits = self.rates.bits(false, usize::from(self.classes[column]), candidate as usize);
                let cost = weight * error * error + self.lambda * bits;
                if cost < best.0 {
                    best = (cost, candidate);
                }
            }
            let level = if value < 0.0 { -best.1 } else { best.1 };
            let error = value - level as f32 * self.step;
            out[column] = level as i16;
            counts.add(false, usize::from(self.classes[column]), level as i16);
            let feedback = &self.factor.rows[column * self.factor.size..][column + 1..columns.end];
            row[column + 1..columns.end].iter_mut().zip(feedback).for_each(|(value, &f)| *value -= error * f);
            errors.push(error);
        }
    }
}

/// The surviving paths through the trellis, one for each state, with the row as each of them has left it.
#[derive(Default)]
struct Paths {
    rows: [[f32; BLOCK]; trellis::STATES],
    next_rows: [[f32; BLOCK]; trellis::STATES],
    /// For each column and state: level, error, and which predecessor won.
    steps: Vec<[(i16, f32, u8); trellis::STATES]>,
    /// Errors of the block that was decided last, one for each column.
    errors: Vec<f32>,
}

impl Paths {
    /// Decides the columns of one block that starts in state `start`; returns the state behind it.
    fn decide(
        &mut self,
        hot: &Hot<'_>,
        row: &[f32],
        columns: Range<usize>,
        start: u8,
        out: &mut [i16],
        counts: &mut Counts,
    ) -> u8 {
        let width = columns.len();
        let mut costs = [f32::INFINITY; trellis::STATES];
        costs[usize::from(start)] = 0.0;
        self.rows[usize::from(start)][..width].copy_from_slice(&row[columns.clone()]);
        self.steps.clear();
        for (offset, column) in columns.clone().enumerate() {
            let feedback = &hot.factor.rows[column * hot.factor.size..][column + 1..columns.end];
            // For each state, and each parity of the level it may choose: level, error, cost.
            let mut choices = [[(0i16, 0f32, f32::INFINITY); 2]; trellis::STATES];
            for (state, choice) in choices.iter_mut().enumerate() {
                if costs[state].is_finite() {
                    *choice = self.choices(hot, state, offset, column);
                }
            }
            let mut next = [f32::INFINITY; trellis::STATES];
            let mut taken = [(0i16, 0f32, 0u8); trellis::STATES];
            for state in 0..trellis::STATES {
                let [(p0, b0), (p1, b1)] = PREDECESSORS[state];
                let first = costs[usize::from(p0)] + choices[usize::from(p0)][usize::from(b0)].2;
                let second = costs[usize::from(p1)] + choices[usize::from(p1)][usize::from(b1)].2;
                let (won, cost, (from, parity)) =
                    if second < first { (1, second, (p1, b1)) } else { (0, first, (p0, b0)) };
                if !cost.is_finite() {
                    continue;
                }
                next[state] = cost;
                let (level, error, _) = choices[usize::from(from)][usize::from(parity)];
                taken[state] = (level, error, won);
                let source = &self.rows[usize::from(from)][offset + 1..width];
                let target = &mut self.next_rows[state][offset + 1..width];
                for ((slot, &value), &f) in target.iter_mut().zip(source).zip(feedback) {
                    *slot = value - error * f;
                }
            }
            costs = next;
            std::mem::swap(&mut self.rows, &mut self.next_rows);
            self.steps.push(taken);
        }
        let end = (0..trellis::STATES).min_by(|&a, &b| costs[a].total_cmp(&costs[b])).unwrap_or(0);
        let mut state = end as u8;
        self.errors.clear();
        self.errors.resize(width, 0.0);
        for offset in (0..width).rev() {
            let (level, error, won) = self.steps[offset][usize::from(state)];
            let column = columns.start + offset;
            state = PREDECESSORS[usize::from(state)][usize::from(won)].0;
            out[column] = level;
            counts.add(trellis::is_odd(state), usize::from(hot.classes[column]), level);
            self.errors[offset] = error;
        }
        end as u8
    }

    /// The best level of each parity for the path that is in `state`.
    #[inline]
    fn choices(&self, hot: &Hot<'_>, state: usize, offset: usize, column: usize) -> [(i16, f32, f32); 2] {
        let (weight, class) = (hot.factor.weight[column], usize::from(hot.classes[column]));
        let value = self.rows[state][offset];
        let scaled = value.abs() / hot.step;
        let odd = trellis::is_odd(state as u8);
        let shift = f32::from(u8::from(odd));
        let mut choices = [(0i16, 0f32, f32::INFINITY); 2];
        if hot.is_fixed[column] {
            choices[0] = (0, value, weight * value * value + hot.lambda * hot.rates.bits(odd, class, 0));
            return choices;
        }
        for (parity, choice) in choices.iter_mut().enumerate() {
            let lower = lower_level(scaled, shift, parity as i32);
            let mut consider = |level: i32| {
                let error = (scaled - point(level, shift)) * hot.step;
                let cost = weight * error * error + hot.lambda * hot.rates.bits(odd, class, level as usize);
                if cost < choice.2 {
                    let (level, error) = if value < 0.0 { (-level, -error) } else { (level, error) };
                    *choice = (level as i16, error, cost);
                }
            };
            consider(lower);
            consider(lower + 2);
            if parity == 0 && lower > 0 {
                consider(0);
            }
        }
        choices
    }
}
