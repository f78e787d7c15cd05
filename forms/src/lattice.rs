//! Lattices and their dither: randomised quantisation.
//!
//! The elements of a weight, in steps, are taken as vectors of as many as the lattice has dimensions. A dither, which
//! the decoder knows from a seed, is added to each; the nearest lattice point is stored; the decoder takes the dither
//! off again. Whatever the weights are, the error is then uniform over the cell around a lattice point and says
//! nothing of them. Only where the dither lies within a cell counts, and a cube of side 2 holds each place in the cells
//! of every lattice here equally often: dithers are drawn from that cube.
//!
//! A point is stored as one level a coordinate. Given the coordinates before it, the next one can only be a multiple
//! of its [pitch](Lattice::pitches) off from another: that is how D4 and E8 have fewer points than there are
//! integers, and levels count these multiples, from the one that is nearest to the dither.
//!
//! Sources: Ziv, "On universal quantization", 1985; Zamir and Feder, "On universal quantization by randomized
//! uniform/lattice quantizers", 1992; Choi, El-Khamy and Lee, "Universal deep neural network compression", 2020 (for
//! weights); Conway and Sloane, "Fast quantizing and decoding algorithms for lattice quantizers and codes", 1982 (the
//! lattices and their nearest points); Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014
//! (the dither's generator, SplitMix64).

/// Parts that the unit of a lattice is divided in: coordinates and dithers are whole numbers of parts.
pub const PARTS: i64 = 1 << 16;

/// What the state of SplitMix64 grows by from number to number.
const INCREMENT: u64 = 0x9E37_79B9_7F4A_7C15;

/// A lattice with a fast way to its nearest point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Lattice {
    /// The integers.
    Z,
    /// Four integers with an even sum.
    D4,
    /// Eight integers, or eight halves of odd integers, with an even sum.
    E8,
}

impl Lattice {
    /// Every lattice, in the order of their numbers in the format.
    pub const ALL: [Self; 3] = [Self::Z, Self::D4, Self::E8];

    /// The most dimensions that a lattice has.
    pub const MAX_DIMENSIONS: usize = 8;

    /// How far apart the values are that each coordinate can have once those before it are known, in parts.
    pub const fn pitches(self) -> &'static [i64] {
        match self {
            Self::Z => &[PARTS],
            Self::D4 => &[PARTS, PARTS, PARTS, 2 * PARTS],
            Self::E8 => &[PARTS / 2, PARTS, PARTS, PARTS, PARTS, PARTS, PARTS, 2 * PARTS],
        }
    }

    /// Number of coordinates of a point.
    pub const fn dimensions(self) -> usize {
        self.pitches().len()
    }

    /// Mean squared distance of a coordinate within the cell from the point in its middle, in squared units.
    ///
    /// Source: Conway and Sloane, "Voronoi regions of lattices, second moments of polytopes, and quantization", 1982.
    pub const fn second_moment(self) -> f64 {
        match self {
            Self::Z => 1.0 / 12.0,
            Self::D4 => 13.0 / 120.0,
            Self::E8 => 929.0 / 12_960.0,
        }
    }

    /// Moves `place`, of [`Self::dimensions`] coordinates in units, to the nearest lattice point.
    ///
    /// # Panics
    /// Where `place` has fewer coordinates.
    pub fn to_nearest(self, place: &mut [f64]) {
        match self {
            Self::Z => place[0] = place[0].round(),
            Self::D4 => to_nearest_even(place),
            Self::E8 => {
                let original: [f64; 8] = std::array::from_fn(|at| place[at]);
                let mut halves = original.map(|x| x - 0.5);
                to_nearest_even(&mut halves);
                let halves = halves.map(|x| x + 0.5);
                to_nearest_even(place);
                let distance =
                    |point: &[f64]| -> f64 { point.iter().zip(original).map(|(p, x)| (p - x).powi(2)).sum() };
                if distance(&halves) < distance(place) {
                    place.copy_from_slice(&halves);
                }
            }
        }
    }
}

/// The nearest integers with an even sum: where those nearest of all have an odd one, the coordinate that was rounded
/// furthest is rounded the other way.
fn to_nearest_even(place: &mut [f64]) {
    let (mut sum, mut worst, mut furthest) = (0.0, 0, -1.0);
    let mut other = 0.0;
    for (at, x) in place.iter_mut().enumerate() {
        let rounded = x.round();
        let off = *x - rounded;
        if off.abs() > furthest {
            (worst, furthest, other) = (at, off.abs(), if off < 0.0 { rounded - 1.0 } else { rounded + 1.0 });
        }
        sum += rounded;
        *x = rounded;
    }
    if sum % 2.0 != 0.0 {
        place[worst] = other;
    }
}

/// A walk over the elements of a weight, which tells what their levels stand for.
#[derive(Debug, Clone)]
pub struct Walk {
    pitches: &'static [i64],
    /// State of the generator before the current element.
    random: u64,
    /// The current coordinate.
    at: usize,
    /// The coordinate before it, and the sum of all before it in its vector, in parts.
    previous: i64,
    sum: i64,
}

impl Walk {
    /// Stands at the first element.
    pub fn new(lattice: Lattice, seed: u64) -> Self {
        Self { pitches: lattice.pitches(), random: seed, at: 0, previous: 0, sum: 0 }
    }

    /// Stands at element `index`, not knowing what comes before it in its vector: where it is not the first there,
    /// only the dither is as it should be until the next vector begins.
    pub fn from(lattice: Lattice, seed: u64, index: usize) -> Self {
        let random = seed.wrapping_add((index as u64).wrapping_mul(INCREMENT));
        Self { at: index % lattice.dimensions(), random, ..Self::new(lattice, seed) }
    }

    /// The dither of the current element, in parts, in `0..2 * PARTS`.
    #[inline]
    pub fn dither(&self) -> i64 {
        let z = self.random.wrapping_add(INCREMENT);
        let z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ z >> 31) >> 47) as i64
    }

    /// The pitch of the current coordinate, in parts.
    #[inline]
    pub fn pitch(&self) -> i64 {
        self.pitches[self.at]
    }

    /// How far the dither lies above the nearest value that the current coordinate can have, in parts: at least
    /// minus half the pitch, and less than half of it.
    #[inline]
    pub fn lean(&self) -> i64 {
        let pitch = self.pitch();
        let coset = if pitch > PARTS { -self.sum } else { self.previous };
        // Pitches are powers of two: this is the remainder that is never negative.
        ((self.dither() - coset + pitch / 2) & (pitch - 1)) - pitch / 2
    }

    /// What `level` stands for at the current element, in parts of a step; goes on to the next element.
    #[inline]
    pub fn multiple(&mut self, level: i16) -> i64 {
        let multiple = i64::from(level) * self.pitch() - self.lean();
        self.pass(multiple + self.dither());
        multiple
    }

    /// The level of the lattice point's coordinate `coordinate`, in parts, at the current element; goes on to the next.
    /// Levels that exceed their type become its largest or smallest.
    #[inline]
    pub fn level(&mut self, coordinate: i64) -> i16 {
        let level = (coordinate - self.dither() + self.lean()) / self.pitch();
        self.pass(coordinate);
        level.clamp(i16::MIN.into(), i16::MAX.into()) as i16
    }

    #[inline]
    fn pass(&mut self, coordinate: i64) {
        self.random = self.random.wrapping_add(INCREMENT);
        self.at += 1;
        (self.previous, self.sum) = (coordinate, self.sum + coordinate);
        if self.at == self.pitches.len() {
            (self.at, self.previous, self.sum) = (0, 0, 0);
        }
    }
}

/// The levels of `values` in steps of `step`, under the dither of `seed`.
///
/// A last vector that lacks coordinates is filled up with zeros, whose levels are not stored.
pub fn quantize(values: impl IntoIterator<Item = f32>, step: f32, lattice: Lattice, seed: u64) -> Vec<i16> {
    let parts = PARTS as f64;
    let mut values = values.into_iter().peekable();
    let mut walk = Walk::new(lattice, seed);
    let mut levels = Vec::new();
    while values.peek().is_some() {
        let mut place = [0f64; Lattice::MAX_DIMENSIONS];
        let place = &mut place[..lattice.dimensions()];
        let mut ahead = walk.clone();
        let mut stored = 0;
        for slot in place.iter_mut() {
            let value = values.next();
            stored += usize::from(value.is_some());
            *slot = f64::from(value.unwrap_or(0.0)) / f64::from(step) + ahead.dither() as f64 / parts;
            ahead.pass(0);
        }
        lattice.to_nearest(place);
        levels.extend(place[..stored].iter().map(|&coordinate| walk.level((coordinate * parts) as i64)));
    }
    levels
}
