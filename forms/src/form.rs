//! One weight, in one of the ways to hold it.

use std::collections::HashMap;
use std::fmt;

use crate::{Codebook, DType, Grid, Sparse, Values};

/// The values of a weight.
#[derive(Debug, Clone, PartialEq)]
pub enum Form {
    /// Every value as it is.
    Dense(Values),
    /// The values that are not zero, and where they are.
    Sparse(Sparse),
    /// Codes into a small table of centroids.
    Codebook(Codebook),
    /// Integer levels on a grid.
    Grid(Grid),
}

/// The kind of a [`Form`], for tables and attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FormKind {
    /// [`Form::Dense`].
    Dense,
    /// [`Form::Sparse`].
    Sparse,
    /// [`Form::Codebook`].
    Codebook,
    /// [`Form::Grid`] with [`GridKind::Uniform`](crate::GridKind::Uniform).
    Uniform,
    /// [`Form::Grid`] with [`GridKind::Trellis`](crate::GridKind::Trellis).
    Trellis,
    /// [`Form::Grid`] with [`GridKind::Lattice`](crate::GridKind::Lattice).
    Lattice,
}

impl FormKind {
    /// Short lower-case name, as in tables and file attributes.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dense => "dense",
            Self::Sparse => "sparse",
            Self::Codebook => "codebook",
            Self::Uniform => "uniform",
            Self::Trellis => "trellis",
            Self::Lattice => "lattice",
        }
    }
}

impl fmt::Display for FormKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Form {
    /// Which kind of form this is.
    pub fn kind(&self) -> FormKind {
        match self {
            Self::Dense(_) => FormKind::Dense,
            Self::Sparse(_) => FormKind::Sparse,
            Self::Codebook(_) => FormKind::Codebook,
            Self::Grid(grid) => grid.kind().form(),
        }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Self::Dense(values) => values.len(),
            Self::Sparse(sparse) => sparse.mask().len(),
            Self::Codebook(codebook) => codebook.codes().len(),
            Self::Grid(grid) => grid.levels().len(),
        }
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The type that the values have.
    pub fn dtype(&self) -> DType {
        match self {
            Self::Dense(values) => values.dtype(),
            Self::Sparse(sparse) => sparse.values().dtype(),
            Self::Codebook(codebook) => codebook.centroids().dtype(),
            Self::Grid(grid) => grid.dtype(),
        }
    }

    /// The dense values. Cheap for [`Form::Dense`], which shares its buffer.
    pub fn dense(&self) -> Values {
        match self {
            Self::Dense(values) => values.clone(),
            Self::Sparse(sparse) => sparse.dense(),
            Self::Codebook(codebook) => codebook.dense(),
            Self::Grid(grid) => grid.dense(),
        }
    }

    /// Calls `visit` with every value in order, without making room for them all.
    pub fn for_each_value(&self, mut visit: impl FnMut(f32)) {
        match self {
            Self::Dense(values) => values.iter().for_each(visit),
            Self::Grid(grid) => grid.for_each_value(visit),
            Self::Codebook(codebook) => {
                let centroids = codebook.centroids().to_f32();
                let values = codebook.codes().iter().filter_map(|&code| centroids.get(usize::from(code)));
                values.for_each(|&value| visit(value));
            }
            Self::Sparse(sparse) => {
                let mut values = sparse.values().iter();
                for index in 0..sparse.mask().len() {
                    visit(if sparse.mask().get(index) { values.next().unwrap_or(0.0) } else { 0.0 });
                }
            }
        }
    }

    /// The distinct values, ascending, where there are at most `most` and all are finite. A negative zero is a zero.
    pub fn distinct_values(&self, most: usize) -> Option<Vec<f32>> {
        let (mut distinct, mut last, mut fits) = (Vec::<f32>::new(), f32::NAN, true);
        self.for_each_value(|value| {
            if value == last || !fits {
                return;
            }
            last = value;
            if let Err(place) = distinct.binary_search_by(|other| other.total_cmp(&(value + 0.0))) {
                fits = value.is_finite() && distinct.len() < most;
                distinct.insert(place, value + 0.0);
            }
        });
        fits.then_some(distinct)
    }

    /// Number of elements that are not exactly zero.
    pub fn nonzeros(&self) -> usize {
        match self {
            Self::Dense(values) => values.iter().filter(|&value| value != 0.0).count(),
            Self::Sparse(sparse) => sparse.values().iter().filter(|&value| value != 0.0).count(),
            Self::Codebook(codebook) => {
                let is_zero: Vec<bool> = codebook.centroids().iter().map(|centroid| centroid == 0.0).collect();
                codebook.codes().iter().filter(|&&code| !is_zero[usize::from(code)]).count()
            }
            Self::Grid(grid) => {
                let mut count = 0;
                grid.for_each_value(|value| count += usize::from(value != 0.0));
                count
            }
        }
    }

    /// Non-zeros over size, in `0.0..=1.0`; 0 for an empty weight.
    pub fn density(&self) -> f64 {
        if self.is_empty() { 0.0 } else { self.nonzeros() as f64 / self.len() as f64 }
    }

    /// Bits that an ideal order-0 coder would need, tables (centroids, steps) included at their raw size.
    ///
    /// An estimate to compare forms with before anything is coded; the coders usually do better on weights whose
    /// neighbours tell something of each other.
    pub fn order0_bits(&self) -> f64 {
        let element_bits = 8.0 * self.dtype().element_bytes() as f64;
        match self {
            Self::Dense(values) => values.len() as f64 * element_bits,
            Self::Sparse(sparse) => {
                let (set, len) = (sparse.values().len(), sparse.mask().len());
                entropy_bits([set, len - set].into_iter()) + set as f64 * element_bits
            }
            Self::Codebook(codebook) => {
                let mut counts = vec![0usize; codebook.centroids().len()];
                codebook.codes().iter().for_each(|&code| counts[usize::from(code)] += 1);
                entropy_bits(counts.into_iter()) + codebook.centroids().len() as f64 * element_bits
            }
            Self::Grid(grid) => {
                let mut counts = HashMap::<i16, usize>::new();
                grid.levels().iter().for_each(|&level| *counts.entry(level).or_default() += 1);
                // Summed in a fixed order, so that the last digit does not depend on the hash seed.
                let mut counts: Vec<usize> = counts.into_values().collect();
                counts.sort_unstable();
                entropy_bits(counts.into_iter()) + 32.0 + 8.0 * (grid.steps().channels() - 1) as f64
            }
        }
    }

    /// Sum of squared differences to `original`.
    ///
    /// # Panics
    /// Where `original` has another number of elements.
    pub fn squared_error(&self, original: &Values) -> f64 {
        assert_eq!(self.len(), original.len(), "a form is compared with the weight it stands for");
        if let Self::Grid(grid) = self {
            let mut originals = original.iter();
            let mut sum = 0.0;
            grid.for_each_value(|value| {
                let difference = f64::from(value) - f64::from(originals.next().unwrap_or(value));
                sum += difference * difference;
            });
            return sum;
        }
        let own = self.dense();
        own.iter().zip(original.iter()).map(|(a, b)| (f64::from(a) - f64::from(b)).powi(2)).sum()
    }
}

/// Bits of an ideal static code for symbols that occur `counts` times each.
fn entropy_bits(counts: impl Iterator<Item = usize> + Clone) -> f64 {
    let total: usize = counts.clone().sum();
    counts.filter(|&count| count > 0).map(|count| count as f64 * (total as f64 / count as f64).log2()).sum()
}
