//! One dimension of a tensor whose shape may depend on the input.

/// The length of an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dim {
    /// Always this many.
    Known(usize),
    /// Known only when the model runs; the same number means the same length.
    Symbol(u32),
}

impl Dim {
    /// The length, where it is known.
    pub(crate) fn known(self) -> Option<usize> {
        match self {
            Self::Known(length) => Some(length),
            Self::Symbol(_) => None,
        }
    }
}

impl PartialEq<usize> for Dim {
    fn eq(&self, other: &usize) -> bool {
        *self == Self::Known(*other)
    }
}

impl From<u8> for Dim {
    fn from(length: u8) -> Self {
        Self::Known(length.into())
    }
}

/// The product of `dims`; `None` where one is not known.
pub(crate) fn known_product(dims: &[Dim]) -> Option<usize> {
    dims.iter().try_fold(1usize, |product, dim| product.checked_mul(dim.known()?))
}
