//! Canonical Huffman codes of limited length: the entropy coder behind `huffman`.
//!
//! Sources: Huffman, "A method for the construction of minimum-redundancy codes", 1952; Larmore and Hirschberg, "A fast
//! algorithm for optimal length-limited Huffman codes", 1990 (package-merge); its use on codes and relative indices:
//! Han, Mao and Dally, "Deep compression", 2016, section 4.

use crate::DecodeError;
use crate::rans::{SLOTS, Sink};
use crate::reader::{BitReader, BitWriter, Reader};

/// No code is longer, so that one look-up decodes any of them.
pub(crate) const MAX_LENGTH: u32 = 12;

/// The length of each symbol's code in bits, 0 where the symbol does not occur.
///
/// A symbol that is alone has length 1 here, and its code takes no bits at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CodeLengths([u8; 256]);

impl CodeLengths {
    /// The lengths that code symbols which occur `counts` times in the fewest bits.
    pub(crate) fn new(counts: &[u64; 256]) -> Self {
        // Package-merge: a symbol's code is as long as the number of levels at which one of its coins is bought.
        // Ties fall to the smaller symbol, and to single symbols before packages, so that all hosts agree.
        let mut coins: Vec<(u64, Vec<u8>)> = (0..=255u8)
            .filter(|&symbol| counts[usize::from(symbol)] > 0)
            .map(|symbol| (counts[usize::from(symbol)], vec![symbol]))
            .collect();
        coins.sort_by_key(|coin| coin.0);
        let mut lengths = [0u8; 256];
        if let [(_, only)] = &coins[..] {
            lengths[usize::from(only[0])] = 1;
            return Self(lengths);
        }
        let mut level: Vec<(u64, Vec<u8>)> = Vec::new();
        for _ in 0..MAX_LENGTH {
            let packages =
                level.chunks_exact(2).map(|pair| (pair[0].0 + pair[1].0, [&pair[0].1[..], &pair[1].1].concat()));
            let mut merged: Vec<(u64, Vec<u8>)> = coins.iter().cloned().chain(packages).collect();
            merged.sort_by_key(|coin| coin.0);
            level = merged;
        }
        let bought = (2 * coins.len()).saturating_sub(2);
        level.iter().take(bought).flat_map(|coin| &coin.1).for_each(|&symbol| lengths[usize::from(symbol)] += 1);
        Self(lengths)
    }

    /// The largest symbol that occurs.
    pub(crate) fn largest_symbol(&self) -> u8 {
        self.0.iter().rposition(|&length| length > 0).unwrap_or(0) as u8
    }

    /// Appends the table: the largest symbol, then a length in four bits for each symbol up to it.
    pub(crate) fn write(&self, into: &mut Vec<u8>) {
        let largest = self.largest_symbol();
        into.push(largest);
        let mut bits = BitWriter::default();
        self.0[..=usize::from(largest)].iter().for_each(|&length| bits.push(u32::from(length), 4));
        into.extend_from_slice(&bits.finish());
    }

    /// Reads what [`Self::write`] wrote.
    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        const WHAT: &str = "a table of code lengths";
        let largest = reader.byte(WHAT)?;
        let symbols = usize::from(largest) + 1;
        let mut bits = BitReader::new(reader.take(symbols.div_ceil(2), WHAT)?);
        let mut lengths = [0u8; 256];
        for length in &mut lengths[..symbols] {
            *length = bits.bits(4, WHAT)? as u8;
            if u32::from(*length) > MAX_LENGTH {
                return Err(DecodeError::Corrupt { what: "a Huffman code is longer than 12 bits" });
            }
        }
        let lengths = Self(lengths);
        let slots: u32 = lengths.occurring().map(|(_, length)| 1 << (MAX_LENGTH - length)).sum();
        if slots != 1 << MAX_LENGTH && lengths.only_symbol().is_none() {
            return Err(DecodeError::Corrupt { what: "the lengths of a Huffman code do not make a full tree" });
        }
        Ok(lengths)
    }

    /// The symbols that occur and their lengths, by symbol.
    fn occurring(&self) -> impl Iterator<Item = (u8, u32)> + '_ {
        (0..=255u8).zip(self.0.iter().map(|&length| u32::from(length))).filter(|&(_, length)| length > 0)
    }

    /// The symbol that is alone, with a length of 1.
    fn only_symbol(&self) -> Option<u8> {
        let mut occurring = self.occurring();
        match (occurring.next(), occurring.next()) {
            (Some((symbol, 1)), None) => Some(symbol),
            _ => None,
        }
    }

    /// Code and length of each symbol: codes count up, from the shortest, by symbol where lengths are equal.
    fn codes(&self) -> [(u16, u8); 256] {
        let mut codes = [(0, 0); 256];
        if self.only_symbol().is_some() {
            return codes;
        }
        let mut code = 0u16;
        for length in 1..=MAX_LENGTH {
            code <<= 1;
            for (symbol, _) in self.occurring().filter(|&(_, of_symbol)| of_symbol == length) {
                codes[usize::from(symbol)] = (code, length as u8);
                code += 1;
            }
        }
        codes
    }
}

/// What each of the 4096 twelve-bit prefixes decodes to; a prefix is the slot that a [`Sink`] is told.
#[derive(Debug, Clone)]
pub(crate) struct DecodeTable {
    /// The symbol whose code the prefix begins with.
    pub(crate) symbols: Box<[u8; SLOTS]>,
    lengths: Box<[u8; SLOTS]>,
}

impl DecodeTable {
    pub(crate) fn new(lengths: &CodeLengths) -> Self {
        let mut table =
            Self { symbols: Box::new([lengths.only_symbol().unwrap_or(0); SLOTS]), lengths: Box::new([0; SLOTS]) };
        for (symbol, &(code, length)) in (0..=255u8).zip(&lengths.codes()) {
            if length > 0 {
                let free = MAX_LENGTH - u32::from(length);
                let first = usize::from(code) << free;
                table.symbols[first..first + (1 << free)].fill(symbol);
                table.lengths[first..first + (1 << free)].fill(length);
            }
        }
        table
    }
}

/// Codes `symbols`; the even ones with the first code, the odd ones with the second.
///
/// Every symbol must have a code in its table.
pub(crate) fn encode(symbols: &[u8], tables: [&CodeLengths; 2]) -> Vec<u8> {
    let codes = tables.map(CodeLengths::codes);
    let mut bits = BitWriter::default();
    for (index, &symbol) in symbols.iter().enumerate() {
        let (code, length) = codes[index % 2][usize::from(symbol)];
        bits.push(u32::from(code), u32::from(length));
    }
    bits.finish()
}

/// Decodes `count` symbols that [`encode`] wrote into `sink`.
///
/// # Errors
/// Where the stream is too short, or is too long by anything but zero bytes.
pub(crate) fn decode(
    stream: &[u8],
    count: usize,
    tables: [&DecodeTable; 2],
    sink: &mut impl Sink,
) -> Result<(), DecodeError> {
    let mut bits = BitReader::new(stream);
    for index in 0..count {
        bits.refill();
        let slot = bits.peek(MAX_LENGTH) as usize;
        bits.consume(u32::from(tables[index % 2].lengths[slot]), "a stream of symbols")?;
        if !sink.one(index, slot) {
            return Err(DecodeError::Corrupt { what: "decoded symbols do not fit their plane" });
        }
    }
    let padding = stream.len() - bits.untouched_bytes();
    if stream.get(padding..).unwrap_or(&[]).iter().any(|&byte| byte != 0) {
        return Err(DecodeError::Corrupt { what: "a stream goes on behind its last symbol" });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Bits of the best code without a limit, by merging the two rarest trees over and over.
    fn unlimited_bits(counts: &[u64; 256]) -> u64 {
        let mut trees: Vec<u64> = counts.iter().copied().filter(|&count| count > 0).collect();
        let mut bits = 0;
        while trees.len() > 1 {
            trees.sort_unstable_by(|a, b| b.cmp(a));
            let merged = trees.pop().unwrap() + trees.pop().unwrap();
            bits += merged;
            trees.push(merged);
        }
        bits
    }

    fn coded_bits(counts: &[u64; 256], lengths: &CodeLengths) -> u64 {
        counts.iter().zip(&lengths.0).map(|(&count, &length)| count * u64::from(length)).sum()
    }

    /// Decodes bit by bit, by comparing the bits so far with every code.
    fn decode_slowly(stream: &[u8], count: usize, lengths: &CodeLengths) -> Vec<u8> {
        let codes = lengths.codes();
        let mut bits = BitReader::new(stream);
        (0..count)
            .map(|_| {
                let (mut code, mut length) = (0u16, 0u8);
                loop {
                    code = code << 1 | bits.bits(1, "test").unwrap() as u16;
                    length += 1;
                    if let Some(symbol) = codes.iter().position(|&entry| entry == (code, length)) {
                        return symbol as u8;
                    }
                }
            })
            .collect()
    }

    /// Keeps the slots.
    struct Collected(Vec<usize>);
    impl Sink for Collected {
        fn block(&mut self, next: impl FnMut(usize) -> usize) -> bool {
            self.0.extend((0..8).map(next));
            true
        }
        fn one(&mut self, index: usize, slot: usize) -> bool {
            self.0.push(slot);
            index + 1 == self.0.len()
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn lengths_are_optimal_and_codes_decode(symbols in proptest::collection::vec(0..20u8, 2..400)) {
            prop_assume!(symbols.iter().any(|&symbol| symbol != symbols[0]));
            let mut counts = [0u64; 256];
            symbols.iter().for_each(|&symbol| counts[usize::from(symbol)] += 1);
            let lengths = CodeLengths::new(&counts);
            let mut written = Vec::new();
            lengths.write(&mut written);
            prop_assert_eq!(&CodeLengths::read(&mut Reader::new(&written)).unwrap(), &lengths);
            // So few symbols never need more than the limit to be coded best.
            prop_assert_eq!(coded_bits(&counts, &lengths), unlimited_bits(&counts));
            let stream = encode(&symbols, [&lengths; 2]);
            prop_assert_eq!(decode_slowly(&stream, symbols.len(), &lengths), symbols.clone());
            let table = DecodeTable::new(&lengths);
            let mut collected = Collected(Vec::new());
            decode(&stream, symbols.len(), [&table; 2], &mut collected).unwrap();
            let decoded: Vec<u8> = collected.0.iter().map(|&slot| table.symbols[slot]).collect();
            prop_assert_eq!(decoded, symbols);
        }
    }

    #[test]
    fn lengths_keep_to_the_limit() {
        let mut counts = [0u64; 256];
        let (mut a, mut b) = (1u64, 1u64);
        for count in &mut counts[..40] {
            *count = a;
            (a, b) = (b, a + b);
        }
        let lengths = CodeLengths::new(&counts);
        assert_eq!(lengths.0.iter().max(), Some(&(MAX_LENGTH as u8)));
        let mut written = Vec::new();
        lengths.write(&mut written);
        assert!(CodeLengths::read(&mut Reader::new(&written)).is_ok());
        let excess = coded_bits(&counts, &lengths) as f64 / unlimited_bits(&counts) as f64;
        assert!(excess < 1.02, "the limit costs {excess}");
    }
}
