//! The trellis of trellis-coded quantisation.
//!
//! Two grids share the line: the even one holds `2k` steps, the odd one `2k - sign(k)` steps, for level `k`; zero
//! belongs to both, so that sparse weights stay cheap. A machine of eight states says which grid holds at the next
//! element: the state's lowest bit names the grid, the parity of the level that was chosen moves the machine on.
//! An encoder that looks ahead (Viterbi) thereby gets most of the packing gain of a denser lattice, about one decibel
//! over a uniform grid at the same rate.
//!
//! Sources: Ungerboeck, "Channel coding with multilevel/phase signals", 1982 (the eight-state code, parity check
//! polynomials 13 and 04 in octal); Marcellin and Fischer, "Trellis coded quantization of memoryless and Gauss-Markov
//! sources", 1990; Marcellin, "On entropy-constrained trellis coded quantization", 1994 (zero in both grids).

/// Number of states of the machine.
pub const STATES: usize = 8;

/// The state before the first element.
pub const START: u8 = 0;

/// The state that follows `state` when a level of parity 0 or 1 was chosen: `NEXT[state][parity]`.
///
/// With the state's bits named `w1` (lowest), `w2`, `w3`: `w1' = w1 ^ w2`, `w2' = w3 ^ parity`, `w3' = w1`.
pub const NEXT: [[u8; 2]; STATES] = next_table();

const fn next_table() -> [[u8; 2]; STATES] {
    let mut table = [[0u8; 2]; STATES];
    let mut state = 0;
    while state < STATES {
        let (w1, w2, w3) = (state & 1, state >> 1 & 1, state >> 2 & 1);
        let mut parity = 0;
        while parity < 2 {
            table[state][parity] = ((w1 ^ w2) | (w3 ^ parity) << 1 | w1 << 2) as u8;
            parity += 1;
        }
        state += 1;
    }
    table
}

/// Whether the odd grid holds in `state`.
#[inline]
pub const fn is_odd(state: u8) -> bool {
    state & 1 == 1
}

/// The state after `level` was chosen in `state`.
#[inline]
pub const fn advance(state: u8, level: i16) -> u8 {
    NEXT[(state & 7) as usize][(level & 1) as usize]
}

/// The multiple of the step that `level` stands for in `state`.
#[inline]
pub const fn multiple(state: u8, level: i16) -> i32 {
    let level = level as i32;
    2 * level - if is_odd(state) { level.signum() } else { 0 }
}
