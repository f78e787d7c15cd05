//! Integer levels on a grid.

use crate::lattice::{Lattice, PARTS, Walk};
use crate::values::push_element;
use crate::{DType, FormError, FormKind, Values, trellis};

/// Which values a level can stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum GridKind {
    /// Level `k` is `k` steps.
    Uniform,
    /// Level `k` is a multiple of the step that depends on the [`trellis`] state, which runs over the elements in
    /// order from [`trellis::START`].
    Trellis,
    /// A level is a coordinate of a point of a dithered [lattice](crate::lattice), less the dither. Level 0 is not
    /// zero.
    Lattice {
        /// The lattice.
        lattice: Lattice,
        /// The seed of the dither.
        seed: u64,
    },
}

impl GridKind {
    /// The kind of a form with such a grid.
    pub const fn form(self) -> FormKind {
        match self {
            Self::Uniform => FormKind::Uniform,
            Self::Trellis => FormKind::Trellis,
            Self::Lattice { .. } => FormKind::Lattice,
        }
    }
}

/// The step between grid points.
#[derive(Debug, Clone, PartialEq)]
pub enum Steps {
    /// One step for the whole weight.
    PerTensor(f32),
    /// A step for each channel: `base * 2^(exponent / 4)`.
    ///
    /// Element `i` belongs to channel `(i / inner) % exponents.len()`.
    PerChannel {
        /// The step at exponent 0.
        base: f32,
        /// Number of neighbouring elements that share a channel: the product of the dimensions behind the axis.
        inner: usize,
        /// Quarter octaves above `base`, one for each channel.
        exponents: Vec<i8>,
    },
}

/// `2^(i / 4)` for `i` in `0..4`, correctly rounded.
const QUARTER_OCTAVES: [f32; 4] = [1.0, 1.189_207_1, std::f32::consts::SQRT_2, 1.681_792_8];

impl Steps {
    /// The step of channel `channel` (any number where there is one step for all).
    pub fn of_channel(&self, channel: usize) -> f32 {
        match self {
            Self::PerTensor(step) => *step,
            Self::PerChannel { base, exponents, .. } => {
                let exponent = i32::from(exponents[channel]);
                let octave = exponent.div_euclid(4);
                // Exact for every octave that an i8 of quarter octaves can name, so that all hosts agree.
                let scale = f32::from_bits(((octave + 127) as u32) << 23);
                base * (QUARTER_OCTAVES[exponent.rem_euclid(4) as usize] * scale)
            }
        }
    }

    /// Number of channels with a step of their own.
    pub fn channels(&self) -> usize {
        match self {
            Self::PerTensor(_) => 1,
            Self::PerChannel { exponents, .. } => exponents.len(),
        }
    }

    /// The channel of element `index`.
    #[inline]
    pub fn channel_of(&self, index: usize) -> usize {
        match self {
            Self::PerTensor(_) => 0,
            Self::PerChannel { inner, exponents, .. } => (index / inner) % exponents.len(),
        }
    }

    /// Number of neighbouring elements that share a step, in a weight of `len` elements.
    pub fn run_length(&self, len: usize) -> usize {
        match self {
            Self::PerTensor(_) => len.max(1),
            Self::PerChannel { inner, .. } => *inner,
        }
    }
}

/// Integer levels, the step between them, and the type that the values come back in.
#[derive(Debug, Clone, PartialEq)]
pub struct Grid {
    levels: Vec<i16>,
    steps: Steps,
    kind: GridKind,
    dtype: DType,
}

impl Grid {
    /// Joins levels with their steps.
    ///
    /// # Errors
    /// [`FormError::BadStep`] where a step is not a positive finite number; [`FormError::LengthMismatch`] where there
    /// is no channel, or `inner` is zero.
    pub fn new(levels: Vec<i16>, steps: Steps, kind: GridKind, dtype: DType) -> Result<Self, FormError> {
        let base = match &steps {
            Steps::PerTensor(step) => *step,
            Steps::PerChannel { base, inner, exponents } => {
                if exponents.is_empty() || *inner == 0 {
                    return Err(FormError::LengthMismatch { what: "channels of a grid", expected: 1, found: 0 });
                }
                *base
            }
        };
        if !(base.is_finite() && base > 0.0) {
            return Err(FormError::BadStep(base.to_string()));
        }
        Ok(Self { levels, steps, kind, dtype })
    }

    /// The level of each element.
    pub fn levels(&self) -> &[i16] {
        &self.levels
    }

    /// The step, or steps.
    pub fn steps(&self) -> &Steps {
        &self.steps
    }

    /// Which values a level can stand for.
    pub fn kind(&self) -> GridKind {
        self.kind
    }

    /// The type that the values come back in.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Calls `visit` with every dense value as `f32`, in order.
    ///
    /// A value is `multiple as f32 * step`: one rounding, the same on every host. A lattice's multiple has a fraction;
    /// where it exceeds 24 bits it is rounded first.
    pub fn for_each_value(&self, mut visit: impl FnMut(f32)) {
        let run = self.steps.run_length(self.levels.len());
        let step_of = |index| self.steps.of_channel(index % self.steps.channels());
        let runs = self.levels.chunks(run).enumerate().map(|(index, levels)| (step_of(index), levels));
        match self.kind {
            GridKind::Uniform => {
                runs.for_each(|(step, levels)| levels.iter().for_each(|&level| visit(f32::from(level) * step)));
            }
            GridKind::Trellis => {
                let mut state = trellis::START;
                for (step, levels) in runs {
                    for &level in levels {
                        visit(trellis::multiple(state, level) as f32 * step);
                        state = trellis::advance(state, level);
                    }
                }
            }
            GridKind::Lattice { lattice, seed } => {
                let mut walk = Walk::new(lattice, seed);
                for (step, levels) in runs {
                    levels.iter().for_each(|&level| visit(walk.multiple(level) as f32 / PARTS as f32 * step));
                }
            }
        }
    }

    pub(crate) fn dense(&self) -> Values {
        let mut bytes = Vec::with_capacity(self.levels.len() * self.dtype.element_bytes());
        self.for_each_value(|value| push_element(self.dtype, value, &mut bytes));
        Values::new(self.dtype, bytes).expect("whole elements were written")
    }
}
