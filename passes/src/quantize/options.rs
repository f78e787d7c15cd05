//! What the pass `quantize` can be asked for.

use onnx_dcomp_forms::Lattice;

use crate::selection::NamePattern;

crate::choices! {
    /// The grid, and how levels are chosen.
    pub enum Scheme {
        /// Trellis-coded: two grids that take turns, levels chosen together. The smallest at equal error.
        Trellis = "trellis",
        /// A uniform grid, levels chosen one by one. Decodes fastest.
        Uniform = "uniform",
        /// Dithered, on a lattice: errors say nothing of the weights. Pruned weights take the uniform grid, to keep zeros.
        Lattice = "lattice",
        /// Rounded to nearest in 8 bits, a step for each output channel.
        Int8 = "int8",
        /// Rounded to nearest in 4 bits, a step for each output channel.
        Int4 = "int4",
        /// A codebook of as many values as pay for codes of fixed length, or 8-bit levels: what the pass portable writes
        /// smallest.
        Fixed = "fixed",
    }
}

crate::choices! {
    /// A lattice to quantise vectors of elements on.
    pub enum LatticeName {
        /// The integers.
        Z = "z",
        /// Four integers with an even sum: 0.37 dB better at equal rate.
        D4 = "d4",
        /// Eight integers or halves of odd integers with an even sum: 0.65 dB better at equal rate.
        E8 = "e8",
    }
}

crate::choices! {
    /// Whether something is done.
    pub enum Switch {
        /// It is done where it can be.
        On = "on",
        /// It is not done.
        Off = "off",
    }
}

crate::options! {
    /// Options of [`Quantize`](crate::Quantize).
    pub struct QuantizeOptions {
        /// The grid, and how levels are chosen.
        pub scheme: Scheme = Scheme::Trellis;
        /// The lattice of `scheme=lattice`.
        pub lattice: LatticeName = LatticeName::E8;
        /// The seed of the lattice's dither; each weight gets one of its own from it on.
        pub seed: u32 = 0;
        /// Energy of the network's output over that of the error to aim for, in decibel; more is finer.
        pub quality: f64 = 24.0, within -20.0..=120.0;
        /// The step for every weight, in its own unit; 0 derives it from `quality`.
        pub step: f64 = 0.0, within 0.0..;
        /// Price of a bit in squared steps; 0 rounds to nearest.
        pub bit_price: f64 = 0.02, within 0.0..=10.0;
        /// Whether errors are made good by the elements that follow, where the layer's input is known.
        pub feedback: Switch = Switch::On;
        /// Whether layers are quantised one after the other, each for the inputs that those before it leave, where the
        /// network can be followed on samples.
        pub follow: Switch = Switch::On;
        /// What is added to the second moment's diagonal, as a fraction of its mean: distrust in the evidence.
        pub damping: f64 = 0.02, within 0.0..=1000.0;
        /// Weights to quantise, by name.
        pub select: NamePattern = NamePattern::all();
    }
}

impl LatticeName {
    /// The lattice itself.
    pub(super) fn lattice(self) -> Lattice {
        match self {
            Self::Z => Lattice::Z,
            Self::D4 => Lattice::D4,
            Self::E8 => Lattice::E8,
        }
    }
}
