//! Integers of up to sixteen bits (levels, codes) as planes.

use crate::DecodeError;
use crate::plane::{self, Backend, Element, Plane};
use crate::reader::{Reader, push_signed};

/// Appends `numbers`: the smallest one, how many low bits stand in a plane of their own, and the planes.
///
/// Where the numbers span more than 256 values the high bits make one plane and the low bits another: over so many
/// values a distribution hardly changes between neighbours, so that the low bits alone cost little more.
pub(crate) fn encode<N: Copy + Into<i32> + Sync>(numbers: &[N], backend: Backend, into: &mut Vec<u8>) {
    let range = numbers.iter().fold(None, |range, &number| {
        let number: i32 = number.into();
        let (low, high) = range.unwrap_or((number, number));
        Some((number.min(low), number.max(high)))
    });
    let Some((base, largest)) = range else { return };
    let shift = (i32::BITS - (largest - base).leading_zeros()).saturating_sub(8);
    push_signed(into, base.into());
    into.push(shift as u8);
    let offset = |&number: &N| -> i32 { number.into() - base };
    plane::encode(&numbers.iter().map(|number| (offset(number) >> shift) as u8).collect::<Vec<_>>(), backend, into);
    if shift > 0 {
        let mask = (1 << shift) - 1;
        plane::encode(&numbers.iter().map(|number| (offset(number) & mask) as u8).collect::<Vec<_>>(), backend, into);
    }
}

/// Integers whose planes are read and not yet decoded.
pub(crate) struct Numbers<'a> {
    base: i32,
    shift: u32,
    high: Plane<'a>,
    low: Option<Plane<'a>>,
}

impl<'a> Numbers<'a> {
    /// Reads `len` integers, all of which must be within `allowed`.
    pub(crate) fn read(
        reader: &mut Reader<'a>,
        len: usize,
        backend: Backend,
        allowed: std::ops::RangeInclusive<i32>,
    ) -> Result<Self, DecodeError> {
        const OUTSIDE: DecodeError = DecodeError::Corrupt { what: "an integer is outside the range of its form" };
        if len == 0 {
            return Ok(Self { base: 0, shift: 0, high: Plane::read(reader, 0, backend)?, low: None });
        }
        let base = i32::try_from(reader.signed("the smallest integer")?).map_err(|_| OUTSIDE)?;
        let shift = u32::from(reader.byte("the number of low bits")?);
        if shift > 8 || !allowed.contains(&base) {
            return Err(OUTSIDE);
        }
        let high = Plane::read(reader, len, backend)?;
        let low = if shift > 0 { Some(Plane::read(reader, len, backend)?) } else { None };
        let largest_low = low.as_ref().map_or(0, |low| i32::from(low.largest_symbol()));
        // The largest high part need not meet the largest low part, so that a sound payload may declare more here
        // than it decodes to; where low bits exist each integer is checked instead.
        if largest_low >> shift != 0 || (shift == 0 && !allowed.contains(&(base + i32::from(high.largest_symbol())))) {
            return Err(OUTSIDE);
        }
        Ok(Self { base, shift, high, low })
    }

    /// The planes of integers that span at most 256 values: the plane, and what its symbol 0 stands for.
    pub(crate) fn narrow(&self) -> Option<(&Plane<'a>, i32)> {
        (self.shift == 0).then_some((&self.high, self.base))
    }

    /// Decodes the integers; `convert` says what each becomes, `None` where it is out of range.
    pub(crate) fn decode<T: Element>(&self, convert: impl Fn(i32) -> Option<T>) -> Result<Vec<T>, DecodeError> {
        const OUTSIDE: DecodeError = DecodeError::Corrupt { what: "an integer is outside the range of its form" };
        let Some(low) = &self.low else {
            return self.high.decode(&table(|symbol| convert(self.base + i32::from(symbol)).unwrap_or(T::ZERO)));
        };
        let bytes = table(|symbol| symbol);
        let low = low.decode(&bytes)?;
        let high = self.high.decode(&bytes)?;
        let join = |(&high, &low): (&u8, &u8)| self.base + (i32::from(high) << self.shift | i32::from(low));
        high.iter().zip(&low).map(|parts| convert(join(parts)).ok_or(OUTSIDE)).collect()
    }
}

/// The table of what each symbol stands for.
pub(crate) fn table<T>(meaning: impl Fn(u8) -> T) -> [T; 256] {
    std::array::from_fn(|symbol| meaning(symbol as u8))
}
