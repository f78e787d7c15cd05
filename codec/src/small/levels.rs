//! Integer levels: zero flag, sign, magnitude; and masks, which have the flag alone.

use onnx_dcomp_forms::Mask;

use super::arithmetic::{BinaryCoder, On};
use super::context::{Forecast, Forecaster, Neighbours, POINT, half_octaves, octaves};
use super::course::{Course, Place};
use super::mixing::Weights;
use super::model::{COUNT_LIMIT, Slot, direct, mixed, mixed_slots};
use crate::error::DecodeError;
use crate::layout::Layout;
use crate::processor::{self, Work};

/// Contexts of a bit that is mixed.
const INPUTS: usize = 6;
/// Places of the mixed bits of one element: not zero, more than 1, more than 2, and 13 for the length of the rest.
const BINS: usize = 16;
/// Numbers that a context can have. The first context has twice as many: two banks.
const CONTEXTS: usize = 4096;
const BANKS: usize = INPUTS + 1;
/// Observations that the built-in odds of the first context count for.
const PRIOR_COUNT: u32 = 2;
/// Elements between two looks at whether a stream has run out.
pub(super) const CHECK_INTERVAL: usize = 4096;

/// The slots of all bins in one context: a line of a processor's cache.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Bins([Slot; BINS]);

/// What is learnt of levels, over all weights of a stream.
pub(super) struct LevelModel {
    bins: Box<[Bins; BANKS * CONTEXTS]>,
    weights: [Weights; 2 * BINS],
    signs: [Slot; 70],
    sign_weights: Weights,
    rests: [[Slot; 16]; 16],
    forecaster: Forecaster,
    start: u32,
}

/// What is expected of one element.
pub(super) struct Outlook {
    contexts: [usize; INPUTS],
    odd: usize,
    forecast: Forecast,
    pub(super) expected: u32,
}

impl Outlook {
    /// How large the forecast is, `0..=11`, and 12 more where `negative` agrees with it.
    pub(super) fn agreement(&self, negative: bool) -> usize {
        self.forecast.strength + if negative == (self.forecast.value < 0) { 12 } else { 0 }
    }
}

impl LevelModel {
    pub(super) fn new() -> Self {
        let bins = vec![Bins([Slot::NEW; BINS]); BANKS * CONTEXTS].into_boxed_slice();
        let Ok(mut bins) = <Box<[Bins; BANKS * CONTEXTS]>>::try_from(bins) else {
            unreachable!("that long it is made")
        };
        for half in bins[..2 * CONTEXTS].chunks_mut(CONTEXTS) {
            for (quarter, alike) in (0u32..).zip(half.chunks_mut(24)) {
                let scale = u64::from(4 + quarter % 4) << (quarter / 4) >> 2;
                let against = |bin: usize| 256u64 << bin.saturating_sub(1);
                alike.fill(Bins(std::array::from_fn(|bin| Slot::with_odds(scale, against(bin), PRIOR_COUNT))));
            }
        }
        Self {
            bins,
            weights: [Weights::new::<INPUTS>(13_107); 2 * BINS],
            signs: [Slot::NEW; 70],
            sign_weights: Weights::new::<4>(16_000),
            rests: [[Slot::NEW; 16]; 16],
            forecaster: Forecaster::new(),
            start: 1 << POINT,
        }
    }

    /// Codes levels in place: an encoder leaves them as they are, a decoder fills them in.
    pub(super) fn code<C: BinaryCoder>(
        &mut self,
        coder: &mut C,
        levels: &mut [i16],
        layout: &Layout,
        course: Course,
    ) -> Result<(), DecodeError> {
        processor::run(Levels { model: self, coder, levels, layout, course })
    }

    #[inline(always)]
    fn code_here<C: BinaryCoder>(
        &mut self,
        coder: &mut C,
        levels: &mut [i16],
        layout: &Layout,
        course: Course,
    ) -> Result<(), DecodeError> {
        let mut neighbours = self.begin(layout, levels.len());
        match course {
            Course::Uniform => self.code_uniform(coder, levels, &mut neighbours)?,
            _ => self.code_on_course(coder, levels, &mut neighbours, course)?,
        }
        self.end(&neighbours);
        Ok(())
    }

    /// Levels of a uniform grid, of which nothing but their neighbours tells.
    #[inline(always)]
    fn code_uniform<C: BinaryCoder>(
        &mut self,
        coder: &mut C,
        levels: &mut [i16],
        neighbours: &mut Neighbours,
    ) -> Result<(), DecodeError> {
        for chunk in levels.chunks_mut(CHECK_INTERVAL) {
            for level in chunk {
                let mut outlook = self.look(neighbours, &Place::PLAIN);
                *level = self.level(coder, &mut outlook, neighbours, *level);
                self.learn(neighbours, &outlook, 2 * i32::from(*level));
            }
            coder.check()?;
        }
        Ok(())
    }

    #[inline(always)]
    fn code_on_course<C: BinaryCoder>(
        &mut self,
        coder: &mut C,
        levels: &mut [i16],
        neighbours: &mut Neighbours,
        mut course: Course,
    ) -> Result<(), DecodeError> {
        for chunk in levels.chunks_mut(CHECK_INTERVAL) {
            for level in chunk {
                let mut outlook = self.look(neighbours, &course.place());
                *level = self.level(coder, &mut outlook, neighbours, *level);
                let (value, shown) = course.pass(*level);
                self.forecaster.learn(&outlook.forecast, value);
                neighbours.push(shown);
            }
            coder.check()?;
        }
        Ok(())
    }

    /// Codes a mask of `len` elements; `is_set` tells an encoder which are set.
    pub(super) fn code_mask<C: BinaryCoder>(
        &mut self,
        coder: &mut C,
        len: usize,
        layout: &Layout,
        is_set: impl Fn(usize) -> bool,
    ) -> Result<Mask, DecodeError> {
        processor::run(Masked { model: self, coder, len, layout, is_set })
    }

    #[inline(always)]
    fn code_mask_here<C: BinaryCoder>(
        &mut self,
        coder: &mut C,
        len: usize,
        layout: &Layout,
        is_set: impl Fn(usize) -> bool,
    ) -> Result<Mask, DecodeError> {
        let mut neighbours = self.begin(layout, len);
        let mut status = Ok(());
        let mask = Mask::from_fn(len, |index| {
            if index % CHECK_INTERVAL == 0 && status.is_ok() {
                status = coder.check();
            }
            if status.is_err() {
                return false;
            }
            let outlook = self.look(&neighbours, &Place::PLAIN);
            let bit = self.flag(coder, &outlook, is_set(index));
            self.learn(&mut neighbours, &outlook, 2 * i32::from(bit));
            bit
        });
        self.end(&neighbours);
        status?;
        coder.check()?;
        Ok(mask)
    }

    /// Before the first element of a weight.
    pub(super) fn begin(&self, layout: &Layout, len: usize) -> Neighbours {
        Neighbours::new(layout, len, self.start)
    }

    /// Behind the last element of a weight.
    pub(super) fn end(&mut self, neighbours: &Neighbours) {
        self.start = neighbours.average();
    }

    /// What is expected of the current element.
    #[inline(always)]
    pub(super) fn look(&self, neighbours: &Neighbours, place: &Place) -> Outlook {
        let s = neighbours.scales();
        let mut forecast = self.forecaster.forecast(neighbours, s.expected);
        if place.lean != 0 {
            forecast.add(place.lean, s.expected);
        }
        let s = s.in_pitches(place.octaves);
        let odd = usize::from(place.odd);
        let before = [(2 * s.left + s.left2) / 3, (s.over + s.before) / 2];
        let scales = [s.row, before[0], s.place, s.all, s.column, s.recent, before[1], s.kernel_position];
        // All at once: the logarithm of eight numbers takes no longer than that of one.
        let pairs = scales.map(|scale| half_octaves(scale).min(31));
        let pair = |which: usize| (pairs[which] * 32 + pairs[which + 4]) * 2 + odd;
        let contexts = [
            (octaves::<2>(s.expected) * 2 + odd) * 12 + forecast.strength,
            pair(0),
            pair(1),
            pair(2),
            (s.position * 12 + forecast.strength) * 2 + odd,
            pair(3),
        ];
        Outlook { contexts, odd, forecast, expected: s.expected }
    }

    /// Goes on to the next element, the current one having been `value`.
    #[inline(always)]
    pub(super) fn learn(&mut self, neighbours: &mut Neighbours, outlook: &Outlook, value: i32) {
        self.forecaster.learn(&outlook.forecast, value);
        neighbours.push(value);
    }

    /// Codes whether an element is not zero.
    #[inline(always)]
    pub(super) fn flag<C: BinaryCoder>(&mut self, coder: &mut C, outlook: &Outlook, bit: bool) -> bool {
        self.bin(coder, outlook, 0, bit)
    }

    /// Codes whether an element is below zero; what follows is coded in the light of it.
    #[inline(always)]
    pub(super) fn sign<C: BinaryCoder>(
        &mut self,
        coder: &mut C,
        outlook: &mut Outlook,
        neighbours: &Neighbours,
        negative: bool,
    ) -> bool {
        let [left, over, before, above] = neighbours.signs();
        let forecast = 2 * outlook.forecast.strength + usize::from(outlook.forecast.value < 0);
        let at = [46 + forecast, 1 + left + 3 * over + 9 * before, 28 + above + 3 * before, 37 + left + 3 * over];
        let negative = mixed(coder, &mut self.signs, &at, &mut self.sign_weights, negative);
        // No branch, which no processor could predict.
        let surprise = usize::from(negative != (outlook.forecast.value < 0));
        outlook.contexts[0] += surprise * CONTEXTS;
        outlook.contexts[4] += surprise * 2 * 12 * 64;
        negative
    }

    #[inline(always)]
    fn bin<C: BinaryCoder>(&mut self, coder: &mut C, outlook: &Outlook, bin: usize, bit: bool) -> bool {
        // The masks change nothing, but tell the compiler that every place exists.
        let bin = bin % BINS;
        let place = |input: usize| match input {
            0 => outlook.contexts[0] % (2 * CONTEXTS),
            _ => (input + 1) * CONTEXTS + outlook.contexts[input] % CONTEXTS,
        };
        let mut slots: [Slot; INPUTS] = std::array::from_fn(|input| self.bins[place(input)].0[bin]);
        let bit = mixed_slots(coder, &mut slots, &mut self.weights[outlook.odd * BINS + bin], bit);
        for (input, slot) in slots.into_iter().enumerate() {
            self.bins[place(input)].0[bin] = slot;
        }
        bit
    }

    #[inline(always)]
    fn level<C: BinaryCoder>(
        &mut self,
        coder: &mut C,
        outlook: &mut Outlook,
        neighbours: &Neighbours,
        level: i16,
    ) -> i16 {
        let wanted = u32::from(level.unsigned_abs());
        if !self.flag(coder, outlook, wanted > 0) {
            return 0;
        }
        let negative = self.sign(coder, outlook, neighbours, level < 0);
        let mut magnitude = 1;
        while magnitude < 3 && self.bin(coder, outlook, magnitude as usize, wanted > magnitude) {
            magnitude += 1;
        }
        if magnitude == 3 {
            magnitude = 2 + self.rest(coder, outlook, wanted.wrapping_sub(2));
        }
        let level = if negative { -(magnitude as i32) } else { magnitude as i32 };
        level.clamp(i32::from(i16::MIN), i32::from(i16::MAX)) as i16
    }

    /// A number from 1: its length in bits, then the bits behind the first.
    #[inline(always)]
    fn rest<C: BinaryCoder>(&mut self, coder: &mut C, outlook: &Outlook, wanted: u32) -> u32 {
        let mut length = 0;
        while length < 13 && self.bin(coder, outlook, 3 + length, wanted >> (length + 1) != 0) {
            length += 1;
        }
        if length == 13 {
            length += usize::from(coder.code(wanted >> 14 != 0, 1 << 15));
        }
        let mut value = 1;
        for place in (0..length).rev() {
            let bit = wanted >> place & 1 == 1;
            let bit = if length - place <= 3 {
                direct(coder, &mut self.rests[length][value as usize], bit, COUNT_LIMIT)
            } else {
                coder.code(bit, 1 << 15)
            };
            value = value << 1 | u32::from(bit);
        }
        value
    }
}

/// [`LevelModel::code`] as work that is compiled twice.
struct Levels<'a, C> {
    model: &'a mut LevelModel,
    coder: &'a mut C,
    levels: &'a mut [i16],
    layout: &'a Layout,
    course: Course,
}

impl<C: BinaryCoder> Work for Levels<'_, C> {
    type Output = Result<(), DecodeError>;

    #[inline(always)]
    fn run<const HAS_AVX2: bool>(self) -> Self::Output {
        self.model.code_here(&mut On::<HAS_AVX2, C>(self.coder), self.levels, self.layout, self.course)
    }
}

/// [`LevelModel::code_mask`] as work that is compiled twice.
struct Masked<'a, C, F> {
    model: &'a mut LevelModel,
    coder: &'a mut C,
    len: usize,
    layout: &'a Layout,
    is_set: F,
}

impl<C: BinaryCoder, F: Fn(usize) -> bool> Work for Masked<'_, C, F> {
    type Output = Result<Mask, DecodeError>;

    #[inline(always)]
    fn run<const HAS_AVX2: bool>(self) -> Self::Output {
        self.model.code_mask_here(&mut On::<HAS_AVX2, C>(self.coder), self.len, self.layout, self.is_set)
    }
}
