//! A mask and the values under it.

use crate::{FormError, Values};

/// One bit for each element: set where the element is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mask {
    words: Vec<u64>,
    len: usize,
}

impl Mask {
    /// The mask of the elements for which `is_set` holds, asked in order.
    pub fn from_fn(len: usize, mut is_set: impl FnMut(usize) -> bool) -> Self {
        let mut words = vec![0u64; len.div_ceil(64)];
        for index in 0..len {
            if is_set(index) {
                words[index / 64] |= 1 << (index % 64);
            }
        }
        Self { words, len }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether element `index` is stored.
    ///
    /// # Panics
    /// Where `index` is outside the mask.
    #[inline]
    pub fn get(&self, index: usize) -> bool {
        assert!(index < self.len, "element {index} is outside a mask of {}", self.len);
        self.words[index / 64] >> (index % 64) & 1 == 1
    }

    /// Number of stored elements.
    pub fn count(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }
}

/// The elements that are not zero, exactly, and where they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sparse {
    mask: Mask,
    values: Values,
}

impl Sparse {
    /// Joins a mask with the values of its set elements, in order.
    ///
    /// # Errors
    /// [`FormError::LengthMismatch`] where the mask has another number of set elements than there are values.
    pub fn new(mask: Mask, values: Values) -> Result<Self, FormError> {
        let expected = mask.count();
        if values.len() != expected {
            return Err(FormError::LengthMismatch {
                what: "values under a sparse mask",
                expected,
                found: values.len(),
            });
        }
        Ok(Self { mask, values })
    }

    /// The elements of `dense` whose bit pattern is not that of positive zero.
    pub fn from_dense(dense: &Values) -> Self {
        let mask = Mask::from_fn(dense.len(), |index| dense.bits(index) != 0);
        let size = dense.dtype().element_bytes();
        let mut bytes = Vec::with_capacity(mask.count() * size);
        for (index, element) in dense.bytes().chunks_exact(size).enumerate() {
            if mask.get(index) {
                bytes.extend_from_slice(element);
            }
        }
        let values = Values::new(dense.dtype(), bytes).expect("whole elements were copied");
        Self { mask, values }
    }

    /// Which elements are stored.
    pub fn mask(&self) -> &Mask {
        &self.mask
    }

    /// The stored elements, in order.
    pub fn values(&self) -> &Values {
        &self.values
    }

    pub(crate) fn dense(&self) -> Values {
        let size = self.values.dtype().element_bytes();
        let mut bytes = vec![0u8; self.mask.len() * size];
        let mut stored = self.values.bytes().chunks_exact(size);
        for (index, slot) in bytes.chunks_exact_mut(size).enumerate() {
            if self.mask.get(index)
                && let Some(element) = stored.next()
            {
                slot.copy_from_slice(element);
            }
        }
        Values::new(self.values.dtype(), bytes).expect("whole elements were written")
    }
}
