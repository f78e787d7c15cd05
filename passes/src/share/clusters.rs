//! K-means in one dimension, plain and entropy-constrained.
//!
//! Both alternate two steps that never raise the cost: give each element the centroid that is cheapest for it, then
//! move each centroid to the mean of its elements and each code length to the logarithm of its share. With a price
//! per bit the regions are still intervals: among the parabolas `(x - c)² + λ·bits`, which differ by straight lines,
//! each wins on one interval, or nowhere.
//!
//! Sources: Lloyd, "Least squares quantization in PCM", 1957/1982; Chou, Lookabaugh and Gray, "Entropy-constrained
//! vector quantization", 1989; Choi, El-Khamy and Lee, "Towards the limit of network quantization", 2017.

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;

use super::Init;
use super::atoms::Atoms;

/// The cost must fall by this fraction for another iteration to be worth its time.
const WORTHWHILE: f64 = 1e-7;

/// Centroids, and what they cost.
#[derive(Debug, Clone, PartialEq)]
pub struct Clusters {
    /// The centroids, ascending. All are in use.
    pub centroids: Vec<f64>,
    /// Which of them is the exact zero; it does not move.
    pub zero: Option<usize>,
    /// `centroids.len() - 1` ascending thresholds. An element goes to the centroid whose number is the number of
    /// thresholds below it; exact zeros go to the exact zero.
    pub thresholds: Vec<f64>,
    /// Sum of squared differences between the elements and their centroids.
    pub distortion: f64,
    /// Bits of an ideal order-0 code for the codes.
    pub bits: f64,
    /// Price of one bit, in squared error, that they were found at.
    pub lambda: f64,
    /// Cost after each iteration: `distortion + lambda * bits`.
    pub history: Vec<f64>,
}

/// How to cluster.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Method {
    /// Where the centroids start.
    pub init: Init,
    /// Seed of [`Init::Random`].
    pub seed: u64,
    /// Price of one bit, in squared error.
    pub lambda: f64,
    /// The most iterations.
    pub max_iterations: usize,
}

impl Clusters {
    /// Clusters `atoms` around at most `count` centroids, the exact zero included where the weight has zeros.
    ///
    /// Where bits have a price, plain k-means runs first and its result is improved on, so that the entropy-constrained
    /// cost is never above that of plain k-means.
    pub fn find(atoms: &Atoms, count: usize, method: &Method) -> Self {
        let pinned = usize::from(atoms.zeros() > 0);
        let free = count.saturating_sub(pinned).max(1 - pinned);
        let start = if atoms.len() <= free { atoms.values().to_vec() } else { starts(atoms, free, method) };
        let plain = Self::refine(atoms, &start, 0.0, method.max_iterations);
        if method.lambda > 0.0 { plain.constrain(atoms, method.lambda, method.max_iterations) } else { plain }
    }

    /// The same, with a price on bits.
    pub fn constrain(&self, atoms: &Atoms, lambda: f64, max_iterations: usize) -> Self {
        Self::refine(atoms, &self.centroids, lambda, max_iterations)
    }

    fn refine(atoms: &Atoms, start: &[f64], lambda: f64, max_iterations: usize) -> Self {
        let mut centroids = Centroids::new(start, atoms.zeros() > 0);
        let mut history: Vec<f64> = Vec::new();
        // Before the first assignment no code has a length.
        let mut regions = centroids.assign(atoms, 0.0);
        loop {
            centroids.update(atoms, &regions);
            let (distortion, bits) = centroids.cost(atoms, &regions);
            let cost = distortion + lambda * bits;
            let revived = lambda == 0.0 && centroids.revive(atoms, &regions);
            let settled = !revived && history.last().is_some_and(|last| last - cost <= WORTHWHILE * last);
            history.push(cost);
            if settled || history.len() >= max_iterations.max(1) {
                break;
            }
            centroids.sort();
            regions = centroids.assign(atoms, lambda);
        }
        centroids.sort();
        centroids.finish(atoms, lambda, history)
    }

    /// `distortion + lambda * bits`.
    pub fn cost(&self, lambda: f64) -> f64 {
        self.distortion + lambda * self.bits
    }

    /// The number of the centroid that `value` goes to.
    #[inline]
    pub fn code_of(&self, value: f32) -> usize {
        match self.zero {
            Some(zero) if value == 0.0 => zero,
            _ => self.thresholds.partition_point(|&threshold| threshold < f64::from(value)),
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Centroid {
    value: f64,
    /// Bits of its code; infinite where nothing uses it.
    length: f64,
    /// Whether it is the exact zero, which holds the zeros and does not move.
    pinned: bool,
}

/// Centroids on their way, ascending.
struct Centroids(Vec<Centroid>);

/// The interval in which a centroid is the cheapest.
#[derive(Debug, Clone, Copy)]
struct Region {
    /// Number of the centroid.
    centroid: usize,
    /// The first point inside.
    start: usize,
    /// The first point behind.
    end: usize,
    /// Upper end of the interval.
    threshold: f64,
}

impl Centroids {
    fn new(start: &[f64], zero: bool) -> Self {
        let is_kept = |value: &&f64| !(zero && **value == 0.0);
        let free = start.iter().filter(is_kept).map(|&value| Centroid { value, length: 0.0, pinned: false });
        let mut centroids = Self(free.collect());
        if zero {
            centroids.0.push(Centroid { value: 0.0, length: 0.0, pinned: true });
        }
        centroids.sort();
        centroids
    }

    fn sort(&mut self) {
        self.0.sort_by(|a, b| a.value.total_cmp(&b.value));
    }

    /// Which centroid is cheapest where: the lower envelope of the parabolas, from left to right.
    fn assign(&self, atoms: &Atoms, lambda: f64) -> Vec<Region> {
        let mut envelope: Vec<Region> = Vec::with_capacity(self.0.len());
        for (number, centroid) in self.0.iter().enumerate().filter(|(_, centroid)| centroid.length.is_finite()) {
            let mut wins = true;
            while let Some(last) = envelope.last().copied() {
                let other = self.0[last.centroid];
                let longer = lambda * (centroid.length - other.length);
                let apart = centroid.value - other.value;
                if apart <= 0.0 && longer >= 0.0 {
                    wins = false;
                    break;
                }
                let from = envelope.len().checked_sub(2).map_or(f64::NEG_INFINITY, |before| envelope[before].threshold);
                let crossing = f64::midpoint(other.value, centroid.value) + longer / (2.0 * apart);
                envelope.pop();
                if apart > 0.0 && crossing > from {
                    envelope.push(Region { threshold: crossing, ..last });
                    break;
                }
            }
            if wins {
                envelope.push(Region { centroid: number, start: 0, end: 0, threshold: f64::INFINITY });
            }
        }
        let mut start = 0;
        for region in &mut envelope {
            region.start = start;
            region.end = if region.threshold == f64::INFINITY { atoms.len() } else { atoms.up_to(region.threshold) };
            start = region.end;
        }
        envelope
    }

    /// Number of elements that use the centroid of `region`.
    fn uses(&self, atoms: &Atoms, region: &Region) -> f64 {
        let zeros = if self.0[region.centroid].pinned { atoms.zeros() as f64 } else { 0.0 };
        zeros + atoms.count(region.start, region.end)
    }

    /// Moves the centroids to their means, and the lengths to their ideals. A centroid that nobody uses stays where it
    /// is, without a code.
    fn update(&mut self, atoms: &Atoms, regions: &[Region]) {
        let total = atoms.nonzeros() + atoms.zeros() as f64;
        let length = |uses: f64| (total / uses).log2();
        for centroid in &mut self.0 {
            centroid.length = if centroid.pinned { length(atoms.zeros() as f64) } else { f64::INFINITY };
        }
        for region in regions {
            let uses = self.uses(atoms, region);
            let centroid = &mut self.0[region.centroid];
            centroid.length = length(uses);
            if !centroid.pinned {
                centroid.value = atoms.mean(region.start, region.end).unwrap_or(centroid.value);
            }
        }
    }

    /// Moves each centroid that nobody uses into one of the regions of largest distortion, above its mean. That costs
    /// nothing, and the next assignment can only gain. Whether any has moved.
    fn revive(&mut self, atoms: &Atoms, regions: &[Region]) -> bool {
        let mut idle: Vec<bool> = self.0.iter().map(|centroid| !centroid.pinned).collect();
        let mut worst: Vec<(f64, Region)> = Vec::new();
        for region in regions.iter().filter(|region| region.start < region.end) {
            idle[region.centroid] = false;
            if region.end - region.start > 1 {
                let centroid = self.0[region.centroid].value;
                worst.push((atoms.distortion(region.start, region.end, centroid), *region));
            }
        }
        worst.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.start.cmp(&b.1.start)));
        let idle = idle.into_iter().enumerate().filter(|(_, idle)| *idle).map(|(number, _)| number);
        let mut has_moved = false;
        for (number, (_, region)) in idle.zip(worst) {
            let middle = atoms.up_to(self.0[region.centroid].value).clamp(region.start + 1, region.end - 1);
            if let Some(mean) = atoms.mean(middle, region.end) {
                self.0[number] = Centroid { value: mean, length: 0.0, pinned: false };
                has_moved = true;
            }
        }
        has_moved
    }

    /// Distortion, and bits by the present lengths.
    fn cost(&self, atoms: &Atoms, regions: &[Region]) -> (f64, f64) {
        let (mut distortion, mut bits) = (0.0, 0.0);
        let mut pinned_is_hidden = true;
        for region in regions {
            let centroid = self.0[region.centroid];
            let uses = self.uses(atoms, region);
            pinned_is_hidden &= !centroid.pinned;
            if uses > 0.0 {
                distortion += atoms.distortion(region.start, region.end, centroid.value);
                bits += uses * centroid.length;
            }
        }
        if pinned_is_hidden {
            bits += self
                .0
                .iter()
                .filter(|centroid| centroid.pinned)
                .map(|zero| zero.length * atoms.zeros() as f64)
                .sum::<f64>();
        }
        (distortion, bits)
    }

    /// Drops what nobody uses.
    fn finish(mut self, atoms: &Atoms, lambda: f64, history: Vec<f64>) -> Clusters {
        let regions = self.assign(atoms, lambda);
        let mut is_used = vec![false; self.0.len()];
        regions.iter().for_each(|region| is_used[region.centroid] = self.uses(atoms, region) > 0.0);
        let mut is_used = is_used.into_iter();
        self.0.retain(|centroid| is_used.next().unwrap_or(false) || centroid.pinned);

        let regions = self.assign(atoms, lambda);
        // The lengths become those of the counts at last; the centroids have settled already.
        let values: Vec<f64> = self.0.iter().map(|centroid| centroid.value).collect();
        self.update(atoms, &regions);
        self.0.iter_mut().zip(&values).for_each(|(centroid, &value)| centroid.value = value);
        let (distortion, bits) = self.cost(atoms, &regions);

        // A zero that only the zeros use gets an empty interval.
        let mut uppers = vec![f64::NAN; self.0.len()];
        regions.iter().for_each(|region| uppers[region.centroid] = region.threshold);
        let mut before = f64::NEG_INFINITY;
        for upper in &mut uppers {
            if upper.is_nan() {
                *upper = before;
            }
            before = *upper;
        }
        uppers.pop();
        let zero = self.0.iter().position(|centroid| centroid.pinned);
        Clusters { centroids: values, zero, thresholds: uppers, distortion, bits, lambda, history }
    }
}

/// Where `free` centroids start, ascending.
fn starts(atoms: &Atoms, free: usize, method: &Method) -> Vec<f64> {
    let (Some(&low), Some(&high)) = (atoms.values().first(), atoms.values().last()) else { return Vec::new() };
    let mut centroids: Vec<f64> = match method.init {
        _ if free == 1 => vec![atoms.mean(0, atoms.len()).unwrap_or(low)],
        Init::Linear => (0..free).map(|i| low + (high - low) * i as f64 / (free - 1) as f64).collect(),
        Init::Density => {
            let ranks = (0..free).map(|i| (i as f64 + 0.5) / free as f64 * atoms.nonzeros());
            ranks.map(|rank| atoms.values()[atoms.at_rank(rank)]).collect()
        }
        Init::Companded => companded(atoms, low, high, free),
        Init::Random => {
            let mut random = Pcg64::seed_from_u64(method.seed);
            (0..free).map(|_| atoms.values()[atoms.at_rank(random.random::<f64>() * atoms.nonzeros())]).collect()
        }
    };
    centroids.sort_by(f64::total_cmp);
    centroids
}

/// Points whose density is the cube root of that of the elements: where a fine codebook ends up.
///
/// Source: Panter and Dite, "Quantization distortion in pulse-count modulation with nonuniform spacing of levels", 1951.
fn companded(atoms: &Atoms, low: f64, high: f64, free: usize) -> Vec<f64> {
    /// Steps of the density, far more than there are centroids.
    const BINS: usize = 2048;
    let width = (high - low) / BINS as f64;
    let (mut sums, mut sum, mut start) = (vec![0.0], 0.0, 0);
    for bin in 1..=BINS {
        let end = if bin == BINS { atoms.len() } else { atoms.up_to(low + width * bin as f64).max(start) };
        sum += atoms.count(start, end).cbrt();
        sums.push(sum);
        start = end;
    }
    let point = |index: usize| {
        let target = (index as f64 + 0.5) / free as f64 * sum;
        let bin = sums.partition_point(|&sum| sum < target).clamp(1, BINS);
        let share = (target - sums[bin - 1]) / (sums[bin] - sums[bin - 1]).max(f64::MIN_POSITIVE);
        low + width * (bin as f64 - 1.0 + share.clamp(0.0, 1.0))
    };
    (0..free).map(point).collect()
}

#[cfg(test)]
mod tests;
