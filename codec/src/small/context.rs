//! What the neighbours of an element tell about it: scales, signs, and a forecast.
//!
//! A value here is twice the level, less one towards zero where the odd grid of a trellis holds: the number of steps on
//! a trellis. For a code it is twice its rank.

use crate::layout::Layout;

/// Bits behind the point of every scale.
pub(super) const POINT: u32 = 8;
/// Neighbours that a forecast is made of.
pub(super) const TAPS: usize = 16;
/// Weights beyond this that are flat matrices get no forecast: there it costs more time than it saves space.
const LARGE: usize = 1 << 19;

/// The values before an element, and running averages of magnitude over the parts of a weight that it belongs to.
pub(super) struct Neighbours {
    kernel: usize,
    width: usize,
    distances: [usize; TAPS - 1],
    has_forecast: bool,
    /// Zeros, then the places of a row: values of this row before the current place, of the row above from there on.
    values: Vec<i32>,
    padding: usize,
    row_length: usize,
    places: Vec<u32>,
    columns: Vec<u32>,
    positions: Vec<u32>,
    row: u32,
    all: u32,
    recent: u32,
    place: usize,
    column: usize,
    position: usize,
}

/// The scales around one element: magnitudes of its neighbours and averages, [`POINT`] bits behind the point.
pub(super) struct Scales {
    /// The element before, and the one before that.
    pub(super) left: u32,
    pub(super) left2: u32,
    /// The element over this one in the kernel.
    pub(super) over: u32,
    /// The same position in the kernel before.
    pub(super) before: u32,
    /// The same place in the row before.
    pub(super) above: u32,
    /// Averages at this place of all rows, of this column (input channel), of this position in all kernels, of this
    /// row, of the weight, of the last elements.
    pub(super) place: u32,
    pub(super) column: u32,
    pub(super) kernel_position: u32,
    pub(super) row: u32,
    pub(super) all: u32,
    pub(super) recent: u32,
    /// All of them joined.
    pub(super) expected: u32,
    /// Which position in the kernel this is.
    pub(super) position: usize,
}

impl Neighbours {
    /// Before the first of `len` elements; averages begin at `start`.
    pub(super) fn new(layout: &Layout, len: usize, start: u32) -> Self {
        let row_length = layout.row_length().clamp(1, len.max(1));
        let kernel = layout.kernel_size().clamp(1, row_length);
        let side = kernel.isqrt();
        let width = if side * side == kernel { side } else { kernel };
        let padding = 3 * kernel + TAPS;
        Self {
            kernel,
            width,
            distances: distances(kernel, width),
            has_forecast: kernel > 1 || len <= LARGE,
            values: vec![0; padding + row_length],
            padding,
            row_length,
            places: vec![start; row_length],
            columns: vec![start; row_length.div_ceil(kernel)],
            positions: vec![start; kernel],
            row: start,
            all: start,
            recent: start,
            place: 0,
            column: 0,
            position: 0,
        }
    }

    /// The average over the weight so far, for the next one to begin at.
    pub(super) fn average(&self) -> u32 {
        self.all
    }

    /// The scales around the current element.
    #[inline(always)]
    pub(super) fn scales(&self) -> Scales {
        let here = self.padding + self.place;
        let magnitude = |distance: usize| self.values[here - distance].unsigned_abs() << POINT;
        let mut scales = Scales {
            left: magnitude(1),
            left2: magnitude(2),
            over: if self.position >= self.width { magnitude(self.width) } else { self.positions[self.position] },
            before: magnitude(self.kernel),
            above: magnitude(0),
            place: self.places[self.place],
            column: self.columns[self.column],
            kernel_position: self.positions[self.position],
            row: self.row,
            all: self.all,
            recent: self.recent,
            expected: 0,
            position: self.position.min(63),
        };
        let beside = scales.left + scales.over + scales.before + scales.above + scales.kernel_position;
        scales.expected = (beside + 2 * scales.place + 3 * scales.column + 4 * scales.row + 2 * scales.recent) / 16;
        scales
    }

    /// What the element at `here` is forecast from. Flat matrices have it the other way round, as it lies in memory.
    #[inline(always)]
    fn taps(&self, here: usize) -> [i32; TAPS] {
        if self.kernel == 1
            && let Some(taps) = self.values[..=here].last_chunk::<TAPS>()
        {
            return *taps;
        }
        let mut taps = [self.values[here]; TAPS];
        for (tap, distance) in taps.iter_mut().zip(self.distances) {
            *tap = self.values[here - distance];
        }
        taps
    }

    /// The signs (0 for zero or none, 1 above, 2 below) of the element before in the kernel, of the one over this one,
    /// of the same position in the kernel before, of the same place in the row before.
    #[inline(always)]
    pub(super) fn signs(&self) -> [usize; 4] {
        let here = self.padding + self.place;
        let sign = |distance: usize, is_near: bool| match self.values[here - distance] {
            0 => 0,
            _ if !is_near => 0,
            value => 1 + usize::from(value < 0),
        };
        [
            sign(1, self.position > 0 || self.kernel == 1),
            sign(self.width, self.position >= self.width),
            sign(self.kernel, true),
            sign(0, true),
        ]
    }

    /// Goes on to the next element.
    #[inline(always)]
    pub(super) fn push(&mut self, value: i32) {
        self.values[self.padding + self.place] = value;
        let magnitude = value.unsigned_abs() << POINT;
        follow(&mut self.places[self.place], magnitude, 3);
        follow(&mut self.columns[self.column], magnitude, 5);
        follow(&mut self.positions[self.position], magnitude, 6);
        follow(&mut self.row, magnitude, 5);
        follow(&mut self.all, magnitude, 9);
        follow(&mut self.recent, magnitude, 3);
        self.place += 1;
        self.position += 1;
        if self.position == self.kernel {
            self.position = 0;
            self.column += 1;
        }
        if self.place == self.row_length {
            (self.place, self.column, self.position) = (0, 0, 0);
            self.row = (self.row + self.all) / 2;
        }
    }
}

#[inline(always)]
fn follow(average: &mut u32, magnitude: u32, shift: u32) {
    *average = average.wrapping_add_signed((magnitude as i32 - *average as i32) >> shift);
}

/// How far before an element its taps lie; the last tap is the same place in the row before.
fn distances(kernel: usize, width: usize) -> [usize; TAPS - 1] {
    if kernel == 1 {
        return std::array::from_fn(|tap| tap + 1);
    }
    let (w, k) = (width, kernel);
    [1, 2, w - 1, w, w + 1, w + 2, 2 * w - 1, 2 * w, 2 * w + 1, 2 * w + 2, k, 2 * k, k - 1, k + 1, 3 * k]
}

impl Scales {
    /// The scales as they look where a level is `2^octaves` units.
    #[inline(always)]
    pub(super) fn in_pitches(self, octaves: i32) -> Self {
        if octaves == 0 {
            return self;
        }
        let scale = |scale: u32| if octaves > 0 { scale >> octaves } else { scale << -octaves };
        Self {
            left: scale(self.left),
            left2: scale(self.left2),
            over: scale(self.over),
            before: scale(self.before),
            above: scale(self.above),
            place: scale(self.place),
            column: scale(self.column),
            kernel_position: scale(self.kernel_position),
            row: scale(self.row),
            all: scale(self.all),
            recent: scale(self.recent),
            expected: scale(self.expected),
            position: self.position,
        }
    }
}

/// A guess of an element's value, in units of the scale around it.
pub(super) struct Forecast {
    taps: [i16; TAPS],
    set: usize,
    octave: u32,
    is_made: bool,
    /// The guess: 512 is one to two times the expected magnitude.
    pub(super) value: i32,
    /// How large the guess is, `0..=11`, in half octaves.
    pub(super) strength: usize,
}

impl Forecast {
    /// Adds what is known besides, in units of `2^-16`, where the expected magnitude is `expected`.
    #[inline(always)]
    pub(super) fn add(&mut self, known: i32, expected: u32) {
        self.value += known >> (expected | 16).ilog2();
        self.strength = half_octaves(self.value.unsigned_abs()).saturating_sub(8).min(11);
    }
}

/// Weights that forecast an element from its neighbours, for each position in a kernel; they follow the error.
///
/// Source: the least mean squares rule, Widrow and Hoff, "Adaptive switching circuits", 1960.
pub(super) struct Forecaster {
    weights: Vec<[i16; TAPS]>,
    counts: Vec<u32>,
}

impl Forecaster {
    pub(super) fn new() -> Self {
        Self { weights: vec![[0; TAPS]; 192], counts: vec![0; 192] }
    }

    /// The forecast for the current element.
    #[inline(always)]
    pub(super) fn forecast(&self, neighbours: &Neighbours, expected: u32) -> Forecast {
        let mut forecast = Forecast { taps: [0; TAPS], set: 0, octave: 0, is_made: false, value: 0, strength: 0 };
        if !neighbours.has_forecast {
            return forecast;
        }
        let bank = match neighbours.kernel {
            1 => 128,
            9 => 64,
            _ => 0,
        };
        forecast.set = bank + neighbours.position.min(63);
        forecast.octave = (expected | 16).ilog2();
        forecast.is_made = true;
        let here = neighbours.padding + neighbours.place;
        let values = neighbours.taps(here);
        forecast.taps = scaled(values, forecast.octave);
        let products = self.weights[forecast.set].iter().zip(&forecast.taps);
        forecast.value = products.map(|(&weight, &tap)| i32::from(weight) * i32::from(tap)).sum::<i32>() >> 14;
        forecast.strength = half_octaves(forecast.value.unsigned_abs()).saturating_sub(8).min(11);
        forecast
    }

    /// Learns what the element's value was.
    #[inline(always)]
    pub(super) fn learn(&mut self, forecast: &Forecast, value: i32) {
        if !forecast.is_made {
            return;
        }
        let error = (i32::from(scaled([value], forecast.octave)[0]) - forecast.value).clamp(-1023, 1023);
        let count = &mut self.counts[forecast.set];
        *count = count.saturating_add(1);
        let shift = 12 + ((*count >> 9) + 1).ilog2().min(3);
        let half = 1 << (shift - 1);
        for (weight, &tap) in self.weights[forecast.set].iter_mut().zip(&forecast.taps) {
            let step = (error * i32::from(tap) + half) >> shift;
            *weight = weight.saturating_add(step as i16).clamp(-32_000, 32_000);
        }
    }
}

/// `values` in units of `2^octave`, 16 - [`POINT`] bits behind the point, within what a tap holds.
#[inline(always)]
fn scaled<const N: usize>(values: [i32; N], octave: u32) -> [i16; N] {
    // The octave is at least 4 and a value has at most 18 bits, so that nothing is lost at the top.
    let (left, right) = (16u32.saturating_sub(octave), octave.saturating_sub(16));
    let mut scaled = [0; N];
    for (scaled, value) in scaled.iter_mut().zip(values) {
        *scaled = ((value << left) >> right).clamp(-4095, 4095) as i16;
    }
    scaled
}

/// The logarithm of `scale` in steps of half an octave, `0..=63`.
#[inline(always)]
pub(super) fn half_octaves(scale: u32) -> usize {
    octaves::<1>(scale)
}

/// The logarithm of `scale`, less than `2^31`, in steps of `1 / 2^BITS` octave, at most a quarter.
///
/// It stands at the top of a floating-point number. Bits that could round up to the next step are taken out before.
#[inline(always)]
pub(super) fn octaves<const BITS: u32>(scale: u32) -> usize {
    let scale = scale | 1;
    let number = (scale & !(scale >> 3)) as i32 as f32;
    ((number.to_bits() >> (f32::MANTISSA_DIGITS - 1 - BITS)) - ((f32::MAX_EXP as u32 - 1) << BITS)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octaves_are_the_logarithm_in_whole_steps() {
        let slow = |scale: u32, bits: u32| {
            let top = (scale | 1).ilog2();
            let below = (u64::from(scale | 1) << bits) >> top;
            ((top << bits) + (below as u32 & ((1 << bits) - 1))) as usize
        };
        let near = |power: u32| (power.saturating_sub(40)..=power.saturating_add(40)).filter(|&scale| scale < 1 << 31);
        for scale in (0..1 << 16).chain((16..31).flat_map(|place| near(1 << place).chain(near(7 << (place - 2))))) {
            assert_eq!(octaves::<1>(scale), slow(scale, 1), "{scale}");
            assert_eq!(octaves::<2>(scale), slow(scale, 2), "{scale}");
        }
    }
}
