//! How the elements of a weight are arranged.

/// The arrangement of a weight's flat elements: rows, row length, kernel size.
///
/// A coder that learns from what it has seen asks which element stands beside another, which one stands at the same
/// place of the row before, and where in a kernel an element lies. For a convolution `[out, in, height, width]` a row
/// is one filter; for `[in, out]` of a matrix product a row is what one input feeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    rows: usize,
    row_length: usize,
    kernel_size: usize,
    split: usize,
}

impl Layout {
    /// The largest number of leading dimensions that a layout counts as rows: a record has four bits for it.
    pub(crate) const MAX_SPLIT: usize = 16;

    /// The arrangement of a weight of this `shape` whose output channels lie along `channel_axis`.
    ///
    /// Rows are the dimensions before the channel axis (at least the first), a row is the rest, and a kernel is what
    /// stands behind the first dimension of a row. Without an axis the first dimension is taken. Weights of one or no
    /// dimension are a single row. Products saturate: a shape that overflows is refused where it is encoded.
    pub fn new(shape: &[usize], channel_axis: Option<usize>) -> Self {
        Self::with_split(shape, channel_axis.unwrap_or(0))
    }

    /// The arrangement in which the first `split` dimensions are the rows, clamped to what the shape allows.
    pub(crate) fn with_split(shape: &[usize], split: usize) -> Self {
        let product =
            |dimensions: &[usize]| dimensions.iter().fold(1usize, |product, &size| product.saturating_mul(size));
        if shape.len() < 2 {
            return Self { rows: 1, row_length: product(shape), kernel_size: 1, split: 1 };
        }
        let split = split.clamp(1, (shape.len() - 1).min(Self::MAX_SPLIT));
        let (outer, row) = shape.split_at(split);
        Self { rows: product(outer), row_length: product(row), kernel_size: product(&row[1..]), split }
    }

    /// The arrangement of `elements` neighbouring elements of this one, as if they began at the start of a row.
    ///
    /// The last row may be cut off; where not even one row is whole there is one short row.
    pub(crate) fn part(&self, elements: usize) -> Self {
        let row_length = self.row_length.min(elements).max(1);
        Self { rows: elements.div_ceil(row_length), row_length, ..*self }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of neighbouring elements in a row.
    pub fn row_length(&self) -> usize {
        self.row_length
    }

    /// Number of neighbouring elements in a kernel: 9 for a convolution of 3×3, 1 for a matrix.
    pub fn kernel_size(&self) -> usize {
        self.kernel_size
    }

    /// Number of leading dimensions that count as rows, in `1..=16`.
    pub(crate) fn split(&self) -> usize {
        self.split
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrangement(shape: &[usize], axis: Option<usize>) -> (usize, usize, usize) {
        let layout = Layout::new(shape, axis);
        (layout.rows(), layout.row_length(), layout.kernel_size())
    }

    #[test]
    fn rows_are_what_stands_before_the_channel_axis() {
        assert_eq!(arrangement(&[64, 32, 3, 3], Some(0)), (64, 288, 9), "convolution");
        assert_eq!(arrangement(&[64, 32, 3, 3], None), (64, 288, 9), "unknown axis");
        assert_eq!(arrangement(&[64, 32, 3, 3], Some(1)), (64, 288, 9), "transposed convolution");
        assert_eq!(arrangement(&[800, 500], Some(1)), (800, 500, 1), "matrix product");
        assert_eq!(arrangement(&[4, 800, 500], Some(2)), (3200, 500, 1), "stacked matrices");
    }

    #[test]
    fn odd_shapes_have_an_arrangement() {
        assert_eq!(arrangement(&[], None), (1, 1, 1));
        assert_eq!(arrangement(&[7], Some(0)), (1, 7, 1));
        assert_eq!(arrangement(&[7], Some(9)), (1, 7, 1));
        assert_eq!(arrangement(&[0, 3], Some(0)), (0, 3, 1));
        assert_eq!(arrangement(&[usize::MAX, usize::MAX, 2], Some(0)), (usize::MAX, usize::MAX, 2));
    }
}
