//! What is known of an element before its level: the course of the trellis or the lattice so far.

use onnx_dcomp_forms::lattice::{PARTS, Walk};
use onnx_dcomp_forms::{GridKind, trellis};

/// Half a step in parts: what values count.
const HALF: i64 = PARTS / 2;

/// The way that the levels of a grid take.
pub(super) enum Course {
    /// Levels of a uniform grid.
    Uniform,
    /// The state of the trellis.
    Trellis(u8),
    /// Where the lattice is.
    Lattice(Walk),
}

/// Where an element stands on its [`Course`].
pub(super) struct Place {
    /// Whether the odd grid of the trellis holds.
    pub(super) odd: bool,
    /// Twice the level that a weight of zero would have, in units of `2^-16`.
    pub(super) lean: i32,
    /// The pitch of the lattice is `2^octaves`.
    pub(super) octaves: i32,
}

impl Place {
    /// An element of which nothing is known.
    pub(super) const PLAIN: Self = Self { odd: false, lean: 0, octaves: 0 };
}

impl Course {
    /// The course of a grid from element `first` on.
    pub(super) fn new(kind: GridKind, first: usize) -> Self {
        match kind {
            GridKind::Uniform => Self::Uniform,
            GridKind::Trellis => Self::Trellis(trellis::START),
            GridKind::Lattice { lattice, seed } => Self::Lattice(Walk::from(lattice, seed, first)),
        }
    }

    #[inline(always)]
    pub(super) fn place(&self) -> Place {
        match self {
            Self::Uniform => Place::PLAIN,
            Self::Trellis(state) => Place { odd: trellis::is_odd(*state), ..Place::PLAIN },
            Self::Lattice(walk) => {
                Place { odd: false, lean: 2 * walk.lean() as i32, octaves: (walk.pitch() / HALF).ilog2() as i32 - 1 }
            }
        }
    }

    /// Goes on to the next element, the current one having this level: twice the steps that the level makes, and what
    /// its neighbours are to know of it.
    #[inline(always)]
    pub(super) fn pass(&mut self, level: i16) -> (i32, i32) {
        match self {
            Self::Uniform => (2 * i32::from(level), 2 * i32::from(level)),
            Self::Trellis(state) => {
                let value = trellis::multiple(*state, level);
                *state = trellis::advance(*state, level);
                (value, value)
            }
            Self::Lattice(walk) => {
                let value = i32::from(level) * (walk.pitch() / HALF) as i32;
                (value, (walk.multiple(level) + HALF / 2).div_euclid(HALF) as i32)
            }
        }
    }
}
