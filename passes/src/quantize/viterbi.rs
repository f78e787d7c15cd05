//! Rate-distortion quantisation of one weight, on a uniform grid or through the trellis.
//!
//! Minimises `squared error + lambda * step² * bits` over the levels. On the uniform grid each element decides for
//! itself; through the trellis the levels of a block are chosen together by the Viterbi algorithm.
//!
//! Sources: Fischer and Wang, "Entropy-constrained trellis-coded quantization", 1992; Marcellin, "On
//! entropy-constrained trellis coded quantization", 1994.

use onnx_dcomp_forms::{GridKind, Values, trellis};

use super::neighbourhood::Neighbourhood;
use super::rate::{Counts, RateModel};
use super::target::{MAX_LEVEL, PREDECESSORS, Quantized, Target, lower_level, point};

/// Elements whose levels are decided together. A block ends in its cheapest state, which costs a fraction of a bit.
const BLOCK: usize = 1 << 14;

/// Quantises `values`: twice to learn what levels cost, from the head of the weight, then for good.
pub fn quantize(values: &Values, target: &Target<'_>) -> Quantized {
    // Large weights learn from their head; a quarter of a million elements fill every class.
    const LEARNING: usize = 1 << 18;
    let head = values.slice(0, values.len().min(LEARNING));
    let mut rates = RateModel::geometric();
    let mut levels = vec![0i16; values.len()];
    if target.lambda > 0.0 {
        for _ in 0..2 {
            rates = RateModel::learn(&run(&head, target, &rates, &mut levels[..head.len()]));
        }
    }
    let counts = run(values, target, &rates, &mut levels);
    Quantized { levels, bits: RateModel::learn(&counts).total_bits(&counts) }
}

/// One pass over the weight. Returns what was chosen.
fn run(values: &Values, target: &Target<'_>, rates: &RateModel, levels: &mut [i16]) -> Counts {
    let mut counts = Counts::default();
    let row_length = target.row_length.clamp(1, values.len().max(1));
    let mut block = Vec::with_capacity(BLOCK);
    let mut classes = Vec::with_capacity(BLOCK);
    let mut viterbi = Viterbi::default();
    let mut state = trellis::START;
    let mut done = 0;
    let mut neighbourhood = Neighbourhood::new(row_length);
    while done < values.len() {
        let row = done / row_length;
        // Rows that share their step are decided together; a block need not end with a row.
        let end_of_step = if target.steps.len() == 1 { values.len() } else { (row + 1) * row_length };
        let end = end_of_step.min(values.len()).min(done + BLOCK);
        let step = target.steps[row % target.steps.len()];
        let scale = target.level_scale(step);
        block.clear();
        block.extend(values.slice(done, end).iter());
        classes.clear();
        classes.extend(block.iter().enumerate().map(|(at, value)| neighbourhood.class(done + at, value.abs() * scale)));
        let out = &mut levels[done..end];
        match target.kind {
            GridKind::Uniform | GridKind::Lattice { .. } => {
                for ((&value, &class), level) in block.iter().zip(&classes).zip(out.iter_mut()) {
                    *level = nearest_uniform(value, step, class, target.lambda, rates);
                    counts.add(false, usize::from(class), *level);
                }
            }
            GridKind::Trellis => {
                let costs = Costs { step, lambda: target.lambda, keeps_zeros: target.keeps_zeros, rates };
                state = viterbi.decide(&block, &classes, &costs, state, out, &mut counts);
            }
        }
        out.iter().enumerate().for_each(|(at, &level)| neighbourhood.decide(done + at, level));
        done = end;
    }
    counts
}

/// The level on the uniform grid with the least cost among the nearest, its neighbour towards zero, and zero.
#[inline]
fn nearest_uniform(value: f32, step: f32, class: u8, lambda: f32, rates: &RateModel) -> i16 {
    let scaled = (value / step).abs();
    let nearest = ((scaled + 0.5) as i32).min(MAX_LEVEL);
    let mut best = (f32::INFINITY, 0);
    for candidate in [nearest, (nearest - 1).max(0), 0] {
        let error = scaled - candidate as f32;
        let cost = error * error + lambda * rates.bits(false, usize::from(class), candidate as usize);
        if cost < best.0 {
            best = (cost, candidate);
        }
    }
    (if value < 0.0 { -best.1 } else { best.1 }) as i16
}

/// Scratch memory of the Viterbi algorithm.
#[derive(Default)]
struct Viterbi {
    /// Best level by grid and parity, `[even 0, even 1, odd 0, odd 1]`, for each element.
    candidates: Vec<[i16; 4]>,
    /// Bit `s`: which of the two predecessors of state `s` won, for each element.
    survivors: Vec<u8>,
}

impl Viterbi {
    /// Decides one block that starts in state `start`; returns the state behind it.
    fn decide(
        &mut self,
        values: &[f32],
        classes: &[u8],
        costs_of: &Costs<'_>,
        start: u8,
        levels: &mut [i16],
        counts: &mut Counts,
    ) -> u8 {
        self.candidates.clear();
        self.survivors.clear();
        let mut costs = [f32::INFINITY; trellis::STATES];
        costs[usize::from(start)] = 0.0;
        for (&value, &class) in values.iter().zip(classes) {
            let (candidate, cost) = costs_of.candidates(value, usize::from(class));
            let mut next = [0f32; trellis::STATES];
            let mut survivors = 0u8;
            for (state, slot) in next.iter_mut().enumerate() {
                let [(p0, b0), (p1, b1)] = PREDECESSORS[state];
                let c0 = costs[usize::from(p0)] + cost[usize::from((p0 & 1) * 2 + b0)];
                let c1 = costs[usize::from(p1)] + cost[usize::from((p1 & 1) * 2 + b1)];
                let second = c1 < c0;
                survivors |= u8::from(second) << state;
                *slot = if second { c1 } else { c0 };
            }
            // Keeps the sums small, so that `f32` resolves differences of a thousandth of a bit in long blocks.
            let least = next.iter().copied().fold(f32::INFINITY, f32::min);
            next.iter_mut().for_each(|cost| *cost -= least);
            costs = next;
            self.candidates.push(candidate);
            self.survivors.push(survivors);
        }
        let end = (0..trellis::STATES).min_by(|&a, &b| costs[a].total_cmp(&costs[b])).unwrap_or(0) as u8;
        let mut state = end;
        for index in (0..values.len()).rev() {
            let won = self.survivors[index] >> state & 1;
            let (before, parity) = PREDECESSORS[usize::from(state)][usize::from(won)];
            let magnitude = self.candidates[index][usize::from((before & 1) * 2 + parity)];
            levels[index] = if values[index] < 0.0 { -magnitude } else { magnitude };
            counts.add(trellis::is_odd(before), usize::from(classes[index]), magnitude);
            state = before;
        }
        end
    }
}

/// What an element is judged by.
struct Costs<'a> {
    step: f32,
    /// Price of a bit in squared steps.
    lambda: f32,
    keeps_zeros: bool,
    rates: &'a RateModel,
}

impl Costs<'_> {
    /// For each grid and parity, the magnitude of least cost for `value`, and that cost in squared steps.
    #[inline]
    fn candidates(&self, value: f32, class: usize) -> ([i16; 4], [f32; 4]) {
        let scaled = (value / self.step).abs();
        let mut levels = [0i16; 4];
        let mut costs = [f32::INFINITY; 4];
        if value == 0.0 && self.keeps_zeros {
            costs[0] = self.lambda * self.rates.bits(false, class, 0);
            costs[2] = self.lambda * self.rates.bits(true, class, 0);
            return (levels, costs);
        }
        // Levels of one grid and parity are four steps apart: level k is at 2k, or 2k - 1 on the odd grid.
        for (slot, (odd, parity)) in [(false, 0), (false, 1), (true, 0), (true, 1)].into_iter().enumerate() {
            let shift = f32::from(u8::from(odd));
            let lower = lower_level(scaled, shift, parity);
            let mut consider = |level: i32| {
                let error = scaled - point(level, shift);
                let cost = error * error + self.lambda * self.rates.bits(odd, class, level as usize);
                if cost < costs[slot] {
                    costs[slot] = cost;
                    levels[slot] = level as i16;
                }
            };
            consider(lower);
            consider(lower + 2);
            if parity == 0 && lower > 0 {
                consider(0);
            }
        }
        (levels, costs)
    }
}
