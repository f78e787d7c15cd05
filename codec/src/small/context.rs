//! What the neighbours of an element tell about its magnitude.

use crate::layout::Layout;

/// Bits behind the point of every average here.
pub(crate) const POINT: u32 = 8;

/// Running averages over the parts of a weight that an element belongs to, and the magnitudes around it.
pub(crate) struct Neighbours {
    kernel: usize,
    width: usize,
    /// Magnitudes at the places of a row: of this row before the current place, of the row above from there on.
    row: Vec<u32>,
    /// Average at the same place in the rows so far.
    places: Vec<u32>,
    /// Average of each column (input channel).
    columns: Vec<u32>,
    /// Average at each position in the kernel.
    positions: Vec<u32>,
    row_average: u32,
    average: u32,
    recent: u32,
    place: usize,
    column: usize,
    position: usize,
}

/// The scales around one element, all with [`POINT`] bits behind the point.
pub(crate) struct Scales {
    pub(crate) left: u32,
    pub(crate) left2: u32,
    pub(crate) over: u32,
    pub(crate) before: u32,
    pub(crate) above: u32,
    pub(crate) place: u32,
    pub(crate) column: u32,
    pub(crate) position_average: u32,
    pub(crate) row: u32,
    pub(crate) all: u32,
    pub(crate) recent: u32,
    pub(crate) position: usize,
}

#[inline]
fn follow(average: &mut u32, value: u32, shift: u32) {
    *average = (*average as i32 + ((value as i32 - *average as i32) >> shift)) as u32;
}

impl Neighbours {
    pub(crate) fn new(layout: &Layout, len: usize, start: u32) -> Self {
        let row = layout.row_length().clamp(1, len.max(1));
        let kernel = layout.kernel_size().clamp(1, row);
        Self {
            kernel,
            width: side(kernel),
            row: vec![start >> POINT; row],
            places: vec![start; row],
            columns: vec![start; row.div_ceil(kernel)],
            positions: vec![start; kernel],
            row_average: start,
            average: start,
            recent: start,
            place: 0,
            column: 0,
            position: 0,
        }
    }

    pub(crate) fn average(&self) -> u32 {
        self.average
    }

    #[inline]
    pub(crate) fn scales(&self) -> Scales {
        let back = |distance: usize, valid: bool, instead: u32| {
            if valid && self.place >= distance { self.row[self.place - distance] << POINT } else { instead }
        };
        let recent = self.recent;
        Scales {
            left: back(1, true, recent),
            left2: back(2, true, recent),
            over: back(self.width, self.position >= self.width, self.positions[self.position]),
            before: back(self.kernel, true, recent),
            above: self.row[self.place] << POINT,
            place: self.places[self.place],
            column: self.columns[self.column],
            position_average: self.positions[self.position],
            row: self.row_average,
            all: self.average,
            recent,
            position: self.position,
        }
    }

    #[inline]
    pub(crate) fn push(&mut self, magnitude: u32) {
        let value = magnitude << POINT;
        self.row[self.place] = magnitude;
        follow(&mut self.places[self.place], value, 3);
        follow(&mut self.columns[self.column], value, 5);
        follow(&mut self.positions[self.position], value, 6);
        follow(&mut self.row_average, value, 6);
        follow(&mut self.average, value, 9);
        follow(&mut self.recent, value, 3);
        self.place += 1;
        self.position += 1;
        if self.position == self.kernel {
            self.position = 0;
            self.column += 1;
        }
        if self.place == self.row.len() {
            self.place = 0;
            self.column = 0;
            self.position = 0;
            self.row_average = (self.row_average + self.average) / 2;
        }
    }
}

/// The logarithm of `scale` in steps of half an octave, `0..=63`.
#[inline]
pub(crate) fn half_octaves(scale: u32) -> usize {
    octaves::<1>(scale)
}

/// The logarithm of `scale` in steps of `1 / 2^BITS` octave.
#[inline]
pub(crate) fn octaves<const BITS: u32>(scale: u32) -> usize {
    let scale = scale | 1;
    let top = 31 - scale.leading_zeros();
    let below = if top >= BITS { scale >> (top - BITS) } else { scale << (BITS - top) };
    ((top << BITS) + (below & ((1 << BITS) - 1))) as usize
}

/// The side of a square kernel of `size` elements; `size` itself where it is no square.
fn side(size: usize) -> usize {
    let side = size.isqrt();
    if side * side == size { side } else { size }
}
