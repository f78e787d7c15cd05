//! The values of a weight, gathered into few sorted points with prefix sums.
//!
//! In one dimension every cluster is an interval, so its count, mean and distortion are differences of prefix sums.
//! Clustering then costs `O(k log m)` an iteration for `m` points, however many elements the weight has.

use onnx_dcomp_forms::Values;

/// Up to this many elements every distinct value is a point of its own; above, points are bins. At this length
/// sorting still takes milliseconds.
const EXACT_LEN: usize = 1 << 17;

/// Binary digits of the number of bins. 2^20 bins over 24 octaves of either sign keep 13 to 14 bits of mantissa, far
/// finer than any codebook, and their table stays within a few caches' size.
const BIN_BITS: u32 = 20;

/// Values below this fraction of the largest share the innermost bins: 24 octaves down nothing matters to a codebook.
const FLOOR: f32 = 1.0 / (1 << 24) as f32;

/// Sorted points with weights, and prefix sums over them. Exact zeros are counted apart.
#[derive(Debug, Clone, PartialEq)]
pub struct Atoms {
    /// Mean of the elements of each point, ascending.
    values: Vec<f64>,
    /// Number of elements before each point, and in all.
    counts: Vec<f64>,
    /// Sum of the elements, less [`Self::origin`], before each point.
    sums: Vec<f64>,
    /// Sum of their squares.
    squares: Vec<f64>,
    /// The mean of all elements. Sums are taken relative to it, so that their differences keep their digits.
    origin: f64,
    /// Number of elements that are exactly zero; they are in no point.
    zeros: usize,
}

impl Atoms {
    /// Gathers `values`. Elements that are not finite are left out.
    ///
    /// Needs time `O(n log n)` for short weights and `O(n)` for long ones, and at most some 20 MB beside the weight.
    pub fn new(values: &Values) -> Self {
        let bins = if values.len() <= EXACT_LEN { exact_bins(values) } else { binned(values) };
        let zeros = values.iter().filter(|&value| value == 0.0).count();
        Self::from_bins(bins, zeros)
    }

    fn from_bins(bins: Vec<Bin>, zeros: usize) -> Self {
        let total: f64 = bins.iter().map(|bin| bin.count).sum();
        let origin = if total > 0.0 { bins.iter().map(|bin| bin.sum).sum::<f64>() / total } else { 0.0 };
        let mut atoms = Self {
            values: Vec::with_capacity(bins.len()),
            counts: Vec::with_capacity(bins.len() + 1),
            sums: Vec::with_capacity(bins.len() + 1),
            squares: Vec::with_capacity(bins.len() + 1),
            origin,
            zeros,
        };
        let (mut count, mut sum, mut square) = (0.0, 0.0, 0.0);
        for bin in bins {
            atoms.counts.push(count);
            atoms.sums.push(sum);
            atoms.squares.push(square);
            let mean = bin.sum / bin.count;
            let centred = mean - origin;
            atoms.values.push(mean);
            count += bin.count;
            sum += bin.count * centred;
            square += bin.count * centred * centred;
        }
        atoms.counts.push(count);
        atoms.sums.push(sum);
        atoms.squares.push(square);
        atoms
    }

    /// Number of points.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether the weight holds nothing but zeros.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The points, ascending.
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// Number of elements that are exactly zero.
    pub fn zeros(&self) -> usize {
        self.zeros
    }

    /// Number of elements that are not zero.
    pub fn nonzeros(&self) -> f64 {
        self.counts[self.len()]
    }

    /// Number of elements in points `start..end`.
    pub fn count(&self, start: usize, end: usize) -> f64 {
        self.counts[end] - self.counts[start]
    }

    /// Mean of the elements in points `start..end`; `None` where there are none.
    pub fn mean(&self, start: usize, end: usize) -> Option<f64> {
        (start < end).then(|| {
            // A single point answers with itself, so that lossless codebooks stay lossless.
            if end - start == 1 {
                self.values[start]
            } else {
                self.origin + (self.sums[end] - self.sums[start]) / self.count(start, end)
            }
        })
    }

    /// Sum of squared differences between points `start..end` and `centroid`.
    pub fn distortion(&self, start: usize, end: usize, centroid: f64) -> f64 {
        let centred = centroid - self.origin;
        let sum = self.sums[end] - self.sums[start];
        let square = self.squares[end] - self.squares[start];
        (square - 2.0 * centred * sum + centred * centred * self.count(start, end)).max(0.0)
    }

    /// Number of points below `threshold`, or at it.
    pub fn up_to(&self, threshold: f64) -> usize {
        self.values.partition_point(|&value| value <= threshold)
    }

    /// The point that holds element number `rank` of the sorted elements (the last one for ranks beyond the end).
    pub fn at_rank(&self, rank: f64) -> usize {
        self.counts[1..].partition_point(|&count| count <= rank).min(self.len().saturating_sub(1))
    }
}

/// Elements that are treated as one.
#[derive(Debug, Clone, Copy, Default)]
struct Bin {
    count: f64,
    sum: f64,
}

fn nonzeros(values: &Values) -> impl Iterator<Item = f32> + '_ {
    values.iter().filter(|value| value.is_finite() && *value != 0.0)
}

fn exact_bins(values: &Values) -> Vec<Bin> {
    let mut sorted: Vec<f32> = nonzeros(values).collect();
    sorted.sort_unstable_by(f32::total_cmp);
    sorted
        .chunk_by(|a, b| a == b)
        .map(|equal| Bin { count: equal.len() as f64, sum: f64::from(equal[0]) * equal.len() as f64 })
        .collect()
}

fn binned(values: &Values) -> Vec<Bin> {
    let (mut smallest, mut largest) = (f32::MAX, 0f32);
    for value in nonzeros(values) {
        smallest = smallest.min(value.abs());
        largest = largest.max(value.abs());
    }
    if largest == 0.0 {
        return Vec::new();
    }
    // The bits of a positive float ascend with its value.
    let low = smallest.max(largest * FLOOR).to_bits();
    let half = 1usize << (BIN_BITS - 1);
    let shift = (u32::BITS - (largest.to_bits() - low).leading_zeros()).saturating_sub(BIN_BITS - 1);
    let mut bins = vec![Bin::default(); 2 * half];
    for value in nonzeros(values) {
        let offset = (value.abs().to_bits().saturating_sub(low) >> shift) as usize;
        let bin = &mut bins[if value < 0.0 { half - 1 - offset } else { half + offset }];
        bin.count += 1.0;
        bin.sum += f64::from(value);
    }
    bins.retain(|bin| bin.count > 0.0);
    bins
}

#[cfg(test)]
mod tests {
    use onnx_dcomp_forms::DType;
    use proptest::prelude::*;

    use super::*;

    fn f32s(values: &[f32]) -> Values {
        Values::from_f32(DType::F32, values)
    }

    #[test]
    fn prefix_sums_agree_with_plain_sums() {
        let atoms = Atoms::new(&f32s(&[0.0, 1001.0, 1003.0, -0.0, 1001.0, 1002.0]));
        assert_eq!((atoms.len(), atoms.zeros(), atoms.nonzeros()), (3, 2, 4.0));
        assert_eq!(atoms.mean(0, 3), Some(1001.75));
        assert_eq!(atoms.mean(1, 1), None);
        assert!((atoms.distortion(0, 2, 1001.0) - 1.0).abs() < 1e-9);
        assert_eq!((atoms.up_to(1001.0), atoms.up_to(1000.9)), (1, 0));
        assert_eq!((atoms.at_rank(1.0), atoms.at_rank(2.0), atoms.at_rank(9.0)), (0, 1, 2));
    }

    #[test]
    fn elements_that_are_not_finite_are_left_out() {
        let atoms = Atoms::new(&f32s(&[f32::NAN, 1.0, f32::INFINITY]));
        assert_eq!(atoms.values(), [1.0]);
    }

    #[test]
    fn bins_are_as_good_as_points() {
        let long: Vec<f32> =
            (0..EXACT_LEN + 1).map(|i| ((i * 7919 % 104_729) as f32 / 50_000.0 - 1.0).powi(3)).collect();
        let values = f32s(&long);
        let (bins, exact) = (binned(&values), exact_bins(&values));
        let total = |bins: &[Bin]| bins.iter().map(|bin| bin.count).sum::<f64>();
        assert_eq!(total(&bins), total(&exact));
        // Each element stands within 2^-13 of its bin's mean, relative to its size.
        let spread = Atoms::from_bins(exact, 0).squares.last().copied().unwrap_or(0.0)
            - Atoms::from_bins(bins, 0).squares.last().copied().unwrap_or(0.0);
        assert!(spread.abs() < 1e-6 * long.len() as f64, "lost {spread}");
    }

    #[test]
    fn values_far_from_zero_get_bins_of_their_own() {
        let long: Vec<f32> = (0..EXACT_LEN + 1).map(|i| 1.0 + (i % 1000) as f32 * 1e-6).collect();
        assert_eq!(Atoms::new(&f32s(&long)).len(), exact_bins(&f32s(&long)).len());
    }

    proptest! {
        #[test]
        fn bins_ascend_and_hold_every_element(values in prop::collection::vec(-1e3f32..1e3, 1..300)) {
            let bins = binned(&f32s(&values));
            prop_assert_eq!(bins.iter().map(|bin| bin.count).sum::<f64>() as usize, values.iter().filter(|v| **v != 0.0).count());
            let means: Vec<f64> = bins.iter().map(|bin| bin.sum / bin.count).collect();
            prop_assert!(means.is_sorted());
        }
    }
}
