//! Codes of fixed length: digits of one radix, several to a byte, and one or two digits to a code.
//!
//! A runtime reads a byte's digits off a table of at most 256 rows, which is the fastest that standard operators offer.
//! What lies between 4 and 8 bits takes two digits, from two streams of bytes.

/// Radices, and how many digits of each a byte holds.
const RADICES: [Radix; 6] = [
    Radix { base: 2, per_byte: 8 },
    Radix { base: 3, per_byte: 5 },
    Radix { base: 4, per_byte: 4 },
    Radix { base: 6, per_byte: 3 },
    Radix { base: 16, per_byte: 2 },
    Radix { base: 256, per_byte: 1 },
];

/// A radix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Radix {
    /// Number of values of a digit.
    pub(crate) base: usize,
    /// Number of digits in a byte.
    pub(crate) per_byte: usize,
}

impl Radix {
    /// Bytes of `count` digits.
    pub(crate) fn bytes(self, count: usize) -> usize {
        count.div_ceil(self.per_byte)
    }

    /// Bytes in use: a table needs no more rows.
    pub(crate) fn rows(self) -> usize {
        self.base.pow(self.per_byte as u32)
    }

    /// The digits, the first of each byte in its highest place; what is missing in the last byte is zero.
    pub(crate) fn pack(self, digits: impl Iterator<Item = usize>) -> Vec<u8> {
        let (mut bytes, mut byte, mut held) = (Vec::new(), 0, 0);
        for digit in digits {
            byte = byte * self.base + digit;
            held += 1;
            if held == self.per_byte {
                bytes.push(byte as u8);
                (byte, held) = (0, 0);
            }
        }
        if held > 0 {
            bytes.push((byte * self.base.pow((self.per_byte - held) as u32)) as u8);
        }
        bytes
    }

    /// For every byte in use its digits, one after the other.
    pub(crate) fn table(self) -> Vec<u8> {
        let digit = |byte: usize, place: usize| byte / self.base.pow((self.per_byte - 1 - place) as u32) % self.base;
        (0..self.rows()).flat_map(|byte| (0..self.per_byte).map(move |place| digit(byte, place) as u8)).collect()
    }
}

/// How codes become digits: `code = high * low.base + low`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Digits {
    /// The lower digit.
    pub(crate) low: Radix,
    /// The higher digit, where one is not enough.
    pub(crate) high: Option<Radix>,
}

impl Digits {
    /// The shortest digits that tell `values` values apart; one digit rather than two that are hardly shorter. `None` for
    /// more than 65536 values.
    pub(crate) fn of(values: usize) -> Option<Self> {
        // Two streams are worth it from a 120th of a byte on.
        let key = |digits: &Self| {
            (digits.length() + usize::from(digits.high.is_some()), digits.high.is_some(), digits.low.base)
        };
        Self::all().filter(|digits| digits.values() >= values).min_by_key(key)
    }

    /// Every way, one digit or two.
    fn all() -> impl Iterator<Item = Self> {
        let two = |low: Radix| RADICES.into_iter().map(move |high| Self { low, high: Some(high) });
        RADICES.into_iter().map(|low| Self { low, high: None }).chain(RADICES.into_iter().flat_map(two))
    }

    /// Number of values that can be told apart.
    pub(crate) fn values(self) -> usize {
        self.low.base * self.high.map_or(1, |high| high.base)
    }

    /// Bytes of `count` codes.
    pub(crate) fn bytes(self, count: usize) -> usize {
        self.low.bytes(count) + self.high.map_or(0, |high| high.bytes(count))
    }

    /// Length of a code in 120ths of a byte.
    fn length(self) -> usize {
        let of = |radix: Radix| 120 / radix.per_byte;
        of(self.low) + self.high.map_or(0, of)
    }
}

/// Bits of a code that tells `values` values apart, in a long stream; infinite for more than 65536 values.
pub(crate) fn code_bits(values: usize) -> f64 {
    Digits::of(values).map_or(f64::INFINITY, |digits| digits.length() as f64 / 15.0)
}

/// Numbers of values, ascending, each the most that codes of its length tell apart, up to `most`.
pub(crate) fn full_counts(most: usize) -> Vec<usize> {
    let mut counts: Vec<usize> = Digits::all().map(Digits::values).filter(|&values| values <= most).collect();
    counts.sort_unstable();
    counts.dedup();
    // A count is full where one value more takes longer codes.
    counts.retain(|&count| count == most || code_bits(count + 1) > code_bits(count));
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_hold_what_the_table_reads_off() {
        for radix in RADICES {
            let digits: Vec<usize> = (0..1001).map(|index| index * 7919 % radix.base).collect();
            let (packed, table) = (radix.pack(digits.iter().copied()), radix.table());
            assert_eq!(packed.len(), radix.bytes(digits.len()));
            let rows = packed.iter().map(|&byte| &table[usize::from(byte) * radix.per_byte..][..radix.per_byte]);
            let read: Vec<usize> = rows.flatten().map(|&digit| usize::from(digit)).collect();
            assert_eq!(read[..digits.len()], digits);
            assert!(radix.rows() <= 256);
        }
    }

    #[test]
    fn codes_are_as_long_as_they_must_be() {
        let bits = |values| (code_bits(values) * 1000.0).round() / 1000.0;
        let found = [2, 3, 4, 6, 7, 8, 9, 16, 17, 32, 64, 65, 200, 256, 257, 65_536].map(bits);
        let expected = [1.0, 1.6, 2.0, 2.667, 3.0, 3.0, 3.2, 4.0, 4.267, 5.0, 6.0, 6.667, 8.0, 8.0, 9.0, 16.0];
        assert_eq!(found, expected);
        assert!(Digits::of(65_537).is_none());
        assert_eq!(Digits::of(16).map(|digits| digits.high), Some(None), "one digit does");
    }

    #[test]
    fn full_counts_ascend_and_get_longer() {
        let counts = full_counts(256);
        assert_eq!(counts, [2, 3, 4, 6, 8, 9, 12, 16, 18, 24, 32, 36, 48, 64, 96, 256]);
        assert!(counts.windows(2).all(|pair| code_bits(pair[0]) < code_bits(pair[1])));
    }
}
