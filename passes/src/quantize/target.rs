//! What the quantisers are told, and what they give.

use onnx_dcomp_forms::{GridKind, trellis};

/// Largest magnitude of a level.
pub(super) const MAX_LEVEL: i32 = i16::MAX as i32 - 1;

/// How one weight is to be quantised.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// Which values a level can stand for; a lattice is taken for a uniform grid.
    pub kind: GridKind,
    /// The step of each row, or one step for all rows. Positive and finite.
    pub steps: &'a [f32],
    /// Elements of a row: what shares a step, and is coded one after the other. At least 1.
    pub row_length: usize,
    /// Price of a bit in squared steps. 0 rounds to nearest.
    pub lambda: f32,
    /// Whether elements that are exactly zero stay so: what was pruned is not to come back.
    pub keeps_zeros: bool,
}

impl Target<'_> {
    /// Levels in one unit of the weight, where the step is `step`.
    pub(super) fn level_scale(&self, step: f32) -> f32 {
        match self.kind {
            GridKind::Uniform | GridKind::Lattice { .. } => 1.0 / step,
            GridKind::Trellis => 0.5 / step,
        }
    }
}

/// Levels, and what the rate model expects them to cost.
#[derive(Debug, Clone)]
pub struct Quantized {
    /// One level an element.
    pub levels: Vec<i16>,
    /// Estimated bits of all levels.
    pub bits: f64,
}

/// `PREDECESSORS[s]`: the two (state, parity) that lead to state `s` of the trellis.
pub(super) const PREDECESSORS: [[(u8, u8); 2]; trellis::STATES] = predecessors();

const fn predecessors() -> [[(u8, u8); 2]; trellis::STATES] {
    let mut table = [[(0u8, 0u8); 2]; trellis::STATES];
    let mut found = [0usize; trellis::STATES];
    let mut state = 0;
    while state < trellis::STATES {
        let mut parity = 0;
        while parity < 2 {
            let next = trellis::NEXT[state][parity] as usize;
            table[next][found[next]] = (state as u8, parity as u8);
            found[next] += 1;
            parity += 1;
        }
        state += 1;
    }
    table
}

/// The largest level of `parity` whose point is not above `scaled` steps, or the smallest there is; `shift` is 1 on
/// the odd grid, 0 on the even one.
#[inline]
pub(super) fn lower_level(scaled: f32, shift: f32, parity: i32) -> i32 {
    let pairs = ((scaled + shift) * 0.25 - 0.5 * parity as f32).max(0.0);
    (2 * pairs as i32 + parity).min(MAX_LEVEL - 3)
}

/// The point of `level`, not negative, in steps.
#[inline]
pub(super) fn point(level: i32, shift: f32) -> f32 {
    if level == 0 { 0.0 } else { 2.0 * level as f32 - shift }
}
