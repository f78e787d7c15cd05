//! Codes and centroids.

use crate::{FormError, Values};

/// Shared values: every element is one of a few centroids.
///
/// Where a weight has exact zeros, centroid 0 is zero. The other centroids ascend, so that near codes mean near
/// values; the coders make use of that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Codebook {
    codes: Vec<u16>,
    centroids: Values,
}

impl Codebook {
    /// The most centroids that a codebook holds.
    pub const MAX_CENTROIDS: usize = 1 << 16;

    /// Joins codes with their centroids.
    ///
    /// # Errors
    /// [`FormError::CodeOutOfRange`] where a code has no centroid; [`FormError::LengthMismatch`] where there are more
    /// than [`Self::MAX_CENTROIDS`].
    pub fn new(codes: Vec<u16>, centroids: Values) -> Result<Self, FormError> {
        if centroids.len() > Self::MAX_CENTROIDS {
            return Err(FormError::LengthMismatch {
                what: "centroids of a codebook",
                expected: Self::MAX_CENTROIDS,
                found: centroids.len(),
            });
        }
        if let Some(&code) = codes.iter().find(|&&code| usize::from(code) >= centroids.len()) {
            return Err(FormError::CodeOutOfRange { code, centroids: centroids.len() });
        }
        Ok(Self { codes, centroids })
    }

    /// Recognises a weight with at most `max_centroids` distinct bit patterns.
    ///
    /// The result is exact: bit patterns are compared, so that negative zero and every NaN stay what they are.
    /// Centroid 0 is positive zero where it occurs; the rest ascend by value (NaN last, ties by bit pattern).
    /// `None` where there are more distinct values.
    pub fn recognise(dense: &Values, max_centroids: usize) -> Option<Self> {
        let mut patterns = std::collections::HashMap::<u64, u16>::new();
        for index in 0..dense.len() {
            patterns.entry(dense.bits(index)).or_insert(0);
            if patterns.len() > max_centroids.min(Self::MAX_CENTROIDS) {
                return None;
            }
        }
        let size = dense.dtype().element_bytes();
        let as_values = |bits: &[u64]| {
            let bytes: Vec<u8> = bits.iter().flat_map(|bits| bits.to_le_bytes()[..size].to_vec()).collect();
            Values::new(dense.dtype(), bytes).expect("whole elements were written")
        };
        let mut order: Vec<u64> = patterns.keys().copied().collect();
        order.sort_by(|&a, &b| {
            let (x, y) = (as_values(&[a]).get(0), as_values(&[b]).get(0));
            (a != 0).cmp(&(b != 0)).then(x.total_cmp(&y)).then(a.cmp(&b))
        });
        for (code, bits) in order.iter().enumerate() {
            patterns.insert(*bits, code as u16);
        }
        let codes = (0..dense.len()).map(|index| patterns[&dense.bits(index)]).collect();
        Some(Self { codes, centroids: as_values(&order) })
    }

    /// The code of each element.
    pub fn codes(&self) -> &[u16] {
        &self.codes
    }

    /// The centroids, in the order of their codes.
    pub fn centroids(&self) -> &Values {
        &self.centroids
    }

    /// Whether code 0 stands for exact positive zero.
    pub fn has_zero(&self) -> bool {
        !self.centroids.is_empty() && self.centroids.bits(0) == 0
    }

    pub(crate) fn dense(&self) -> Values {
        let size = self.centroids.dtype().element_bytes();
        let table = self.centroids.bytes();
        let mut bytes = Vec::with_capacity(self.codes.len() * size);
        for &code in &self.codes {
            let at = usize::from(code) * size;
            bytes.extend_from_slice(&table[at..at + size]);
        }
        Values::new(self.centroids.dtype(), bytes).expect("whole elements were written")
    }
}
