//! What a level costs: an estimate of the adaptive coder's code lengths for rate-distortion decisions.
//!
//! The coder conditions each level on magnitudes around it. Here the same is done coarsely: elements fall into
//! classes by the expected magnitude of their neighbourhood, each class (and each grid of the trellis) has one static
//! distribution, learnt from a first quantisation of the weight itself.

/// Magnitudes from this one on are priced as an escape with an Exp-Golomb tail.
pub const ESCAPE: usize = 20;

/// Number of neighbourhood classes.
pub const CLASSES: usize = 14;

/// Code lengths in bits, sign included, by grid (even, odd), class and magnitude.
#[derive(Debug, Clone)]
pub struct RateModel {
    bits: Vec<[f32; ESCAPE + 1]>,
}

/// How often each magnitude was chosen, by grid, class and magnitude.
#[derive(Debug, Clone)]
pub struct Counts(Vec<[u32; ESCAPE + 1]>);

impl Default for Counts {
    fn default() -> Self {
        Self(vec![[0; ESCAPE + 1]; 2 * CLASSES])
    }
}

impl Counts {
    /// Counts one level.
    #[inline]
    pub fn add(&mut self, odd: bool, class: usize, level: i16) {
        let magnitude = usize::from(level.unsigned_abs()).min(ESCAPE);
        self.0[usize::from(odd) * CLASSES + class][magnitude] += 1;
    }
}

/// The class of a neighbourhood whose magnitudes average `expected` levels.
#[inline]
pub fn class_of(expected: f32) -> usize {
    // Half octaves from 1/32 level up: where a class spans more, its distribution blurs; less, and it learns slowly.
    let octaves = (expected.max(1e-6) * 32.0).log2() * 1.4;
    (octaves.max(0.0) as usize).min(CLASSES - 1)
}

/// The magnitude that stands for a class.
fn centre_of(class: usize) -> f32 {
    ((class as f32 + 0.5) / 1.4).exp2() / 32.0
}

/// Bits of the tail behind the escape.
fn tail_bits(magnitude: usize) -> f32 {
    2.0 * ((magnitude - ESCAPE + 1) as f32).log2().floor() + 1.0
}

impl RateModel {
    /// The model before anything was counted: a geometric distribution of each class's mean.
    pub fn geometric() -> Self {
        let mut bits = Vec::with_capacity(2 * CLASSES);
        for _grid in 0..2 {
            for class in 0..CLASSES {
                let mean = centre_of(class);
                let theta = mean / (1.0 + mean);
                let mut row = [0f32; ESCAPE + 1];
                for (magnitude, slot) in row.iter_mut().enumerate() {
                    let sign = if magnitude > 0 { 1.0 } else { 0.0 };
                    *slot = -((1.0 - theta).log2() + magnitude as f32 * theta.log2()) + sign;
                }
                bits.push(row);
            }
        }
        Self { bits }
    }

    /// The model that `counts` teach; classes that were seen rarely lean on the geometric one.
    pub fn learn(counts: &Counts) -> Self {
        let prior = Self::geometric();
        let bits = counts
            .0
            .iter()
            .zip(&prior.bits)
            .map(|(counts, prior)| {
                const PRIOR_WEIGHT: f32 = 24.0;
                let total = counts.iter().sum::<u32>() as f32 + PRIOR_WEIGHT;
                let mut row = [0f32; ESCAPE + 1];
                for (magnitude, slot) in row.iter_mut().enumerate() {
                    let sign = if magnitude > 0 { 1.0 } else { 0.0 };
                    let expected = PRIOR_WEIGHT * (sign - prior[magnitude]).exp2();
                    *slot = sign - ((counts[magnitude] as f32 + expected) / total).log2();
                }
                row
            })
            .collect();
        Self { bits }
    }

    /// Bits of a level of `magnitude` on the given grid in the given class, its sign included.
    #[inline]
    pub fn bits(&self, odd: bool, class: usize, magnitude: usize) -> f32 {
        let row = &self.bits[usize::from(odd) * CLASSES + class];
        if magnitude < ESCAPE { row[magnitude] } else { row[ESCAPE] + tail_bits(magnitude) }
    }

    /// Bits of everything in `counts` under this model (tails not counted).
    pub fn total_bits(&self, counts: &Counts) -> f64 {
        let rows = counts.0.iter().zip(&self.bits);
        rows.flat_map(|(c, b)| c.iter().zip(b)).map(|(&c, &b)| f64::from(c) * f64::from(b)).sum()
    }
}
