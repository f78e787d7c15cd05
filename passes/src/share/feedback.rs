//! Codebooks with error feedback: what counts is the error of the layer's outputs.
//!
//! That error is `tr(E H E^T)`, with `H` the second moment of the layer's input. Two steps take turns. The elements of a
//! row go to their centroids one after the other, and the columns that follow make up for the error of each. Then, with
//! the codes as they are, the error is quadratic in the few centroids, and the normal equations give the best ones. The
//! best codebook that was met on the way is kept, the one that k-means found among them.
//!
//! Sources: Frantar et al., "GPTQ", 2023 (the order and the feedback); Lloyd, "Least squares quantization in PCM",
//! 1957/1982 (taking turns). Cost: for each turn half a row's length in multiplications and as many additions, for
//! every element.

use onnx_dcomp_forms::{Codebook, Values};
use rayon::prelude::*;

use super::{ordered, round_to};
use crate::curvature::{Curvature, Damped, factor, solve};

/// Most turns; nearly all of the gain comes with the first two.
const TURNS: usize = 6;

/// Parts of a weight whose sums are taken side by side: fixed, so that no number of threads changes the order of
/// additions, and few, since each holds the square of the number of centroids.
const PARTS: usize = 16;

/// Most centroids: with more, the normal equations would take more memory than the weight, and little is to be gained.
const MOST_CENTROIDS: usize = 1024;

/// Moves `start`, a codebook of `dense` found at the price of `lambda` for a bit, so that the error of the outputs plus
/// the price of the bits of an ideal order-0 code is no larger, and where possible smaller. `blocks` cover a row.
///
/// Exact zeros stay exact zeros. `None` where the blocks are not positive definite, or there are more than
/// [`MOST_CENTROIDS`].
pub(crate) fn improve(dense: &Values, start: Codebook, blocks: &[Damped], lambda: f64) -> Option<Codebook> {
    let row_length: usize = blocks.iter().map(|block| block.size).sum();
    if start.centroids().len() > MOST_CENTROIDS {
        return None;
    }
    let curvature = Curvature::of(blocks)?;
    let values = dense.to_f32();
    let layer = Layer { values: &values, row_length, blocks, pull: pull(&values, row_length, blocks) };
    let mut centroids: Vec<f64> = start.centroids().iter().map(f64::from).collect();
    let mut codes = start.codes().to_vec();
    let mut best = (f64::INFINITY, codes.clone(), centroids.clone());
    for turn in 0..=TURNS {
        if turn > 0 {
            let lengths = lengths(&codes, centroids.len());
            codes = layer.assign(&curvature, &centroids, &lengths, lambda);
        }
        let equations = layer.equations(&codes, centroids.len());
        let bits = order0_bits(&codes, centroids.len());
        if turn == 0 {
            best.0 = equations.error(&centroids) + lambda * bits;
        }
        centroids = equations.solved(&centroids).iter().map(|&c| f64::from(round_to(dense.dtype(), c))).collect();
        let cost = equations.error(&centroids) + lambda * bits;
        if cost < best.0 {
            best = (cost, codes.clone(), centroids.clone());
        } else if turn > 1 {
            break;
        }
    }
    let (_, mut codes, mut centroids) = best;
    drop_unused(&mut codes, &mut centroids);
    Some(ordered(dense.dtype(), &centroids, codes))
}

fn drop_unused(codes: &mut [u16], centroids: &mut Vec<f64>) {
    let mut is_used = counts(codes, centroids.len()).into_iter().map(|uses| uses > 0);
    let mut code_of = vec![0u16; centroids.len()];
    let (mut number, mut kept) = (0, 0u16);
    centroids.retain(|_| {
        let is_used = is_used.next().unwrap_or(false);
        code_of[number] = kept;
        number += 1;
        kept += u16::from(is_used);
        is_used
    });
    codes.iter_mut().for_each(|code| *code = code_of[usize::from(*code)]);
}

/// One weight and what its output makes of errors.
struct Layer<'a> {
    values: &'a [f32],
    row_length: usize,
    blocks: &'a [Damped],
    /// `W H`: how strongly the error pulls at each element.
    pull: Vec<f64>,
}

fn pull(values: &[f32], row_length: usize, blocks: &[Damped]) -> Vec<f64> {
    let mut pull = vec![0f64; values.len()];
    pull.par_chunks_mut(row_length).zip(values.par_chunks(row_length)).for_each(|(pull, row)| {
        let mut start = 0;
        for block in blocks {
            let row = &row[start..start + block.size];
            let pull = &mut pull[start..start + block.size];
            for (at, &value) in row.iter().enumerate().filter(|(_, value)| **value != 0.0) {
                pull.iter_mut().zip(block.row(at)).for_each(|(slot, &h)| *slot += f64::from(value) * h);
            }
            start += block.size;
        }
    });
    pull
}

impl Layer<'_> {
    /// The codes of all elements, each chosen when those before it in its row have been.
    fn assign(&self, curvature: &Curvature, centroids: &[f64], lengths: &[f64], lambda: f64) -> Vec<u16> {
        let mut codes = vec![0u16; self.values.len()];
        let choice = Choice::new(centroids, lengths, lambda);
        let rows = codes.par_chunks_mut(self.row_length).zip(self.values.par_chunks(self.row_length));
        rows.for_each_init(Vec::new, |row: &mut Vec<f32>, (codes, source)| {
            row.clear();
            row.extend_from_slice(source);
            let mut start = 0;
            for block in &curvature.blocks {
                let row = &mut row[start..start + block.size];
                let codes = &mut codes[start..start + block.size];
                for column in 0..block.size {
                    // What was pruned stays so; code 0 is its exact zero.
                    let is_pruned = choice.has_zero && source[start + column] == 0.0;
                    let code = if is_pruned { 0 } else { choice.of(row[column], block.weight[column]) };
                    codes[column] = code;
                    let error = row[column] - choice.centroids[usize::from(code)];
                    let feedback = &block.rows[column * block.size + column + 1..(column + 1) * block.size];
                    row[column + 1..].iter_mut().zip(feedback).for_each(|(value, &f)| *value -= error * f);
                }
                start += block.size;
            }
        });
        codes
    }

    /// What the error is as a function of `count` centroids, where the elements have `codes`.
    fn equations(&self, codes: &[u16], count: usize) -> Equations {
        let rows = self.values.len() / self.row_length;
        let chunk = rows.div_ceil(PARTS).max(1) * self.row_length;
        let chunks = codes.par_chunks(chunk).zip(self.values.par_chunks(chunk)).zip(self.pull.par_chunks(chunk));
        let parts: Vec<Equations> = chunks
            .map(|((codes, values), pull)| {
                let mut part = Equations::new(count);
                for ((&code, &value), &pull) in codes.iter().zip(values).zip(pull) {
                    part.right[usize::from(code)] += pull;
                    part.energy += f64::from(value) * pull;
                }
                codes.chunks(self.row_length).for_each(|codes| self.add_pairs(codes, &mut part.matrix, count));
                part
            })
            .collect();
        let mut sum = Equations::new(count);
        parts.iter().for_each(|part| sum.add(part));
        sum.symmetrise();
        sum
    }

    /// Adds, for every two columns of a row, their moment to the place of their two codes; each pair once.
    fn add_pairs(&self, codes: &[u16], matrix: &mut [f64], count: usize) {
        let mut start = 0;
        for block in self.blocks {
            let codes = &codes[start..start + block.size];
            for (at, &code) in codes.iter().enumerate() {
                let slots = &mut matrix[usize::from(code) * count..(usize::from(code) + 1) * count];
                let row = block.row(at);
                codes[..at].iter().zip(row).for_each(|(&other, &h)| slots[usize::from(other)] += h);
                slots[usize::from(code)] += 0.5 * row[at];
            }
            start += block.size;
        }
    }
}

/// The error as a function of the centroids `c`: `energy - 2 right.c + c.matrix.c`.
struct Equations {
    matrix: Vec<f64>,
    right: Vec<f64>,
    energy: f64,
}

impl Equations {
    fn new(count: usize) -> Self {
        Self { matrix: vec![0.0; count * count], right: vec![0.0; count], energy: 0.0 }
    }

    fn add(&mut self, other: &Self) {
        self.matrix.iter_mut().zip(&other.matrix).for_each(|(a, b)| *a += b);
        self.right.iter_mut().zip(&other.right).for_each(|(a, b)| *a += b);
        self.energy += other.energy;
    }

    /// Each pair of columns was added once: the transpose has the other half.
    fn symmetrise(&mut self) {
        let n = self.right.len();
        for i in 0..n {
            for j in 0..=i {
                let both = self.matrix[i * n + j] + self.matrix[j * n + i];
                self.matrix[i * n + j] = both;
                self.matrix[j * n + i] = both;
            }
        }
    }

    fn error(&self, centroids: &[f64]) -> f64 {
        let rows = self.matrix.chunks_exact(self.right.len()).zip(&self.right).zip(centroids);
        let terms = rows.map(|((row, right), c)| {
            let product: f64 = row.iter().zip(centroids).map(|(a, c)| a * c).sum();
            c * (product - 2.0 * right)
        });
        self.energy + terms.sum::<f64>()
    }

    /// The centroids of least error. An exact zero in front stays, as does a centroid that nobody uses.
    fn solved(&self, centroids: &[f64]) -> Vec<f64> {
        let n = self.right.len();
        let is_free = |&index: &usize| self.matrix[index * n + index] > 0.0 && !(index == 0 && centroids[0] == 0.0);
        let free: Vec<usize> = (0..n).filter(is_free).collect();
        let mut matrix = vec![0f64; free.len() * free.len()];
        let mut moves = vec![0f64; free.len()];
        for (at, &index) in free.iter().enumerate() {
            let row = &self.matrix[index * n..(index + 1) * n];
            let slots = &mut matrix[at * free.len()..(at + 1) * free.len()];
            slots.iter_mut().zip(&free).for_each(|(slot, &other)| *slot = row[other]);
            // Where two centroids could do each other's work, neither goes far.
            slots[at] *= 1.0 + 1e-9;
            moves[at] = self.right[index] - row.iter().zip(centroids).map(|(a, c)| a * c).sum::<f64>();
        }
        let mut solved = centroids.to_vec();
        if factor(&mut matrix, free.len()).is_some() {
            solve(&matrix, &mut moves);
            free.iter().zip(moves).for_each(|(&index, change)| solved[index] += change);
        }
        if solved.iter().all(|value| value.is_finite()) { solved } else { centroids.to_vec() }
    }
}

/// Which centroid an element goes to.
struct Choice {
    centroids: Vec<f32>,
    /// Price of each code.
    prices: Vec<f32>,
    /// Whether centroid 0 is the exact zero.
    has_zero: bool,
    /// Numbers of the centroids as their values ascend, and the value halfway to the next.
    ascending: Vec<(u16, f32)>,
    is_free: bool,
}

impl Choice {
    fn new(centroids: &[f64], lengths: &[f64], lambda: f64) -> Self {
        let mut order: Vec<u16> = (0..centroids.len() as u16).collect();
        order.sort_by(|&a, &b| centroids[usize::from(a)].total_cmp(&centroids[usize::from(b)]));
        let value = |code: u16| centroids[usize::from(code)];
        let halfway =
            |at: usize| order.get(at + 1).map_or(f64::INFINITY, |&next| f64::midpoint(value(order[at]), value(next)));
        let ascending = (0..order.len()).map(|at| (order[at], halfway(at) as f32)).collect();
        Self {
            centroids: centroids.iter().map(|&c| c as f32).collect(),
            prices: lengths.iter().map(|&length| (lambda * length) as f32).collect(),
            has_zero: centroids.first() == Some(&0.0),
            ascending,
            is_free: lambda == 0.0,
        }
    }

    /// The code for `value`, where a unit of squared error costs `weight`.
    fn of(&self, value: f32, weight: f32) -> u16 {
        if self.is_free {
            let at = self.ascending.partition_point(|&(_, upper)| upper < value);
            return self.ascending.get(at).map_or(0, |&(code, _)| code);
        }
        let mut best = (f32::INFINITY, 0);
        for (code, (centroid, price)) in self.centroids.iter().zip(&self.prices).enumerate() {
            let cost = weight * (value - centroid) * (value - centroid) + price;
            if cost < best.0 {
                best = (cost, code as u16);
            }
        }
        best.1
    }
}

fn counts(codes: &[u16], count: usize) -> Vec<usize> {
    let mut counts = vec![0usize; count];
    codes.iter().for_each(|&code| counts[usize::from(code)] += 1);
    counts
}

/// Bits of each code by its share; those that nobody uses count as if one element did.
fn lengths(codes: &[u16], count: usize) -> Vec<f64> {
    counts(codes, count).iter().map(|&uses| (codes.len() as f64 / uses.max(1) as f64).log2()).collect()
}

fn order0_bits(codes: &[u16], count: usize) -> f64 {
    counts(codes, count).iter().zip(lengths(codes, count)).map(|(&uses, length)| uses as f64 * length).sum()
}
