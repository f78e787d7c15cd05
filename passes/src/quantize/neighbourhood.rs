//! What the encoder expects of an element before it decides it.

use super::rate::class_of;

/// Expected magnitudes: a running mean along the row, and the decided levels of the rows before.
pub struct Neighbourhood {
    row_length: usize,
    row_mean: f32,
    previous: f32,
    above: Vec<f32>,
    grand_mean: f32,
}

impl Neighbourhood {
    /// The start of a weight whose rows have `row_length` elements.
    pub fn new(row_length: usize) -> Self {
        Self { row_length, row_mean: 0.5, previous: 0.5, above: vec![0.5; row_length], grand_mean: 0.5 }
    }

    /// The class of element `index`, whose own magnitude (in levels, before rounding) becomes context for the next.
    #[inline]
    pub fn class(&mut self, index: usize, magnitude: f32) -> u8 {
        let column = index % self.row_length;
        if column == 0 {
            self.row_mean = self.grand_mean;
            self.previous = self.grand_mean;
        }
        let expected = 0.55 * self.row_mean + 0.2 * self.previous + 0.25 * self.above[column];
        // A magnitude far below one level will be a zero to the decoder, which sees levels alone.
        let seen = if magnitude < 0.5 { 0.25 * magnitude } else { magnitude };
        self.row_mean += (seen - self.row_mean) * (1.0 / 16.0);
        self.grand_mean += (seen - self.grand_mean) * (1.0 / 256.0);
        self.previous = seen;
        class_of(expected) as u8
    }

    /// Takes note of the level that element `index` got.
    #[inline]
    pub fn decide(&mut self, index: usize, level: i16) {
        let above = &mut self.above[index % self.row_length];
        *above += (f32::from(level.unsigned_abs()) - *above) * 0.5;
    }
}
