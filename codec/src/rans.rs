//! Static interleaved rANS: the entropy coder behind `fast`.
//!
//! Frequencies are 12-bit, states 32-bit, renormalisation 16-bit. Several states take the symbols in turn, so that the
//! long dependency from one symbol's state to the next is spread over as many independent chains as a processor can
//! keep in flight; their words share one stream. Odd and even symbols may have tables of their own, which codes pairs
//! (a run, then a value) without a second stream.
//!
//! Sources: Duda, "Asymmetric numeral systems", 2013; Giesen, "Interleaved entropy coders", 2014.

use crate::DecodeError;
use crate::reader::{BitReader, BitWriter, Reader};

/// Frequencies of a table add up to `1 << PRECISION`.
pub(crate) const PRECISION: u32 = 12;
const TOTAL: u32 = 1 << PRECISION;
/// Number of slots of a table: each symbol owns as many as its frequency.
pub(crate) const SLOTS: usize = TOTAL as usize;
const SLOT_MASK: u32 = TOTAL - 1;
/// States rest in `LOWER..1 << 32`; every state starts here, and a decoder must end here.
const LOWER: u32 = 1 << 16;
/// Number of interleaved states of a long stream.
pub(crate) const WAYS: usize = 8;
/// Streams of fewer symbols have one state, so that small tensors do not pay for eight.
const WAYS_MIN_SYMBOLS: usize = 4096;

/// How often each symbol occurs, out of 4096.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frequencies([u16; 256]);

impl Frequencies {
    /// Scales `counts` to 4096; every symbol that occurs keeps at least 1.
    ///
    /// The rest is dealt one by one where it saves the most bits, in integers, so that all hosts agree.
    pub(crate) fn new(counts: &[u64; 256]) -> Self {
        let total = u128::from(counts.iter().sum::<u64>().max(1));
        let mut scaled = counts.map(|count| match count {
            0 => 0u16,
            _ => (u128::from(count) * u128::from(TOTAL) / total).max(1) as u16,
        });
        // A step at frequency `f` is worth about count / (f + 1/2) bits; the comparison of two symbols multiplies out.
        let worth_less = |a: usize, at_a: u16, b: usize, at_b: u16| {
            u128::from(counts[a]) * (2 * u128::from(at_b) + 1) < u128::from(counts[b]) * (2 * u128::from(at_a) + 1)
        };
        let mut sum: u32 = scaled.iter().map(|&frequency| u32::from(frequency)).sum();
        while sum < TOTAL {
            let dearest = (0..256)
                .filter(|&symbol| scaled[symbol] > 0)
                .reduce(|a, b| if worth_less(a, scaled[a], b, scaled[b]) { b } else { a });
            let Some(dearest) = dearest else { break };
            scaled[dearest] += 1;
            sum += 1;
        }
        while sum > TOTAL {
            let cheapest = (0..256)
                .filter(|&symbol| scaled[symbol] > 1)
                .reduce(|a, b| if worth_less(b, scaled[b] - 1, a, scaled[a] - 1) { b } else { a });
            let Some(cheapest) = cheapest else { break };
            scaled[cheapest] -= 1;
            sum -= 1;
        }
        Self(scaled)
    }

    /// The largest symbol that occurs.
    pub(crate) fn largest_symbol(&self) -> u8 {
        self.0.iter().rposition(|&frequency| frequency > 0).unwrap_or(0) as u8
    }

    /// Appends the table: the largest symbol, then for each symbol the bit length of its frequency in four bits and
    /// the bits behind the leading one.
    pub(crate) fn write(&self, into: &mut Vec<u8>) {
        let largest = self.largest_symbol();
        into.push(largest);
        let mut bits = BitWriter::default();
        for &frequency in &self.0[..=usize::from(largest)] {
            let length = u16::BITS - frequency.leading_zeros();
            bits.push(length, 4);
            if length > 1 {
                bits.push(u32::from(frequency) - (1 << (length - 1)), length - 1);
            }
        }
        into.extend_from_slice(&bits.finish());
    }

    /// Reads what [`Self::write`] wrote.
    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        const WHAT: &str = "a table of frequencies";
        let largest = reader.byte(WHAT)?;
        let mut lookahead = *reader;
        let bytes = lookahead.take_all();
        let mut bits = BitReader::new(bytes);
        let mut frequencies = [0u16; 256];
        for frequency in &mut frequencies[..=usize::from(largest)] {
            *frequency = match bits.bits(4, WHAT)? {
                0 => 0,
                length @ 1..=13 => (1 << (length - 1)) | bits.bits(length - 1, WHAT)? as u16,
                _ => return Err(DecodeError::Corrupt { what: "a frequency has more than 13 bits" }),
            };
        }
        reader.take(bytes.len() - bits.untouched_bytes(), WHAT)?;
        if frequencies.iter().map(|&frequency| u32::from(frequency)).sum::<u32>() != TOTAL {
            return Err(DecodeError::Corrupt { what: "frequencies do not add up to 4096" });
        }
        Ok(Self(frequencies))
    }

    fn cumulative(&self) -> [u32; 256] {
        let mut sum = 0;
        self.0.map(|frequency| {
            let start = sum;
            sum += u32::from(frequency);
            start
        })
    }
}

/// What each of the 4096 slots decodes to.
#[derive(Debug, Clone)]
pub(crate) struct DecodeTable {
    /// The symbol that owns the slot.
    pub(crate) symbols: Box<[u8; SLOTS]>,
    /// The symbol's frequency in the high half, the distance from its first slot in the low half.
    pub(crate) steps: Box<[u32; SLOTS]>,
}

impl DecodeTable {
    pub(crate) fn new(frequencies: &Frequencies) -> Self {
        let (mut symbols, mut steps) = (Box::new([0u8; SLOTS]), Box::new([0u32; SLOTS]));
        let mut slots = symbols.iter_mut().zip(steps.iter_mut());
        for (symbol, &frequency) in (0..=255u8).zip(&frequencies.0) {
            for (distance, (owner, step)) in slots.by_ref().take(usize::from(frequency)).enumerate() {
                *owner = symbol;
                *step = u32::from(frequency) << 16 | distance as u32;
            }
        }
        Self { symbols, steps }
    }
}

/// Codes `symbols`; the even ones with the first table, the odd ones with the second.
///
/// Every symbol must have a frequency in its table.
pub(crate) fn encode(symbols: &[u8], tables: [&Frequencies; 2]) -> Vec<u8> {
    if symbols.is_empty() {
        return Vec::new();
    }
    let ways = if symbols.len() < WAYS_MIN_SYMBOLS { 1 } else { WAYS };
    let starts = tables.map(Frequencies::cumulative);
    let mut states = [LOWER; WAYS];
    let mut words = Vec::<u16>::with_capacity(symbols.len() / 2 + 2 * ways);
    for (index, &symbol) in symbols.iter().enumerate().rev() {
        let state = &mut states[index % ways];
        let frequency = u32::from(tables[index % 2].0[usize::from(symbol)]);
        let start = starts[index % 2][usize::from(symbol)];
        if u64::from(*state) >= u64::from(frequency) << (32 - PRECISION) {
            words.push(*state as u16);
            *state >>= 16;
        }
        *state = ((*state / frequency) << PRECISION) + *state % frequency + start;
    }
    let mut bytes = Vec::with_capacity(2 * words.len() + 4 * ways);
    states[..ways].iter().for_each(|state| bytes.extend_from_slice(&state.to_le_bytes()));
    words.iter().rev().for_each(|word| bytes.extend_from_slice(&word.to_le_bytes()));
    bytes
}

/// What takes the decoded symbols, as slots of their table: all that a symbol stands for is looked up by its slot.
pub(crate) trait Sink {
    /// Pulls eight symbols in order, the first by `next(0)`; false where they contradict the format.
    fn block(&mut self, next: impl FnMut(usize) -> usize) -> bool;
    /// Takes the symbol with this number; false where it contradicts the format.
    fn one(&mut self, index: usize, slot: usize) -> bool;
}

/// Decodes `count` symbols that [`encode`] wrote into `sink`.
///
/// # Errors
/// Where the stream is too short, is too long by anything but zero bytes, or does not end in the initial state.
pub(crate) fn decode(
    stream: &[u8],
    count: usize,
    tables: [&DecodeTable; 2],
    sink: &mut impl Sink,
) -> Result<(), DecodeError> {
    let mut reader = Reader::new(stream);
    if count > 0 {
        if count < WAYS_MIN_SYMBOLS {
            decode_ways::<1>(&mut reader, count, tables, sink)?;
        } else {
            decode_ways::<WAYS>(&mut reader, count, tables, sink)?;
        }
    }
    check_end(reader.take_all())
}

/// Checks what stands behind the last word of a stream.
pub(crate) fn check_end(bytes: &[u8]) -> Result<(), DecodeError> {
    if bytes.iter().any(|&byte| byte != 0) {
        return Err(DecodeError::Corrupt { what: "a stream goes on behind its last symbol" });
    }
    Ok(())
}

/// Reads the states that a stream begins with.
pub(crate) fn read_states<const N: usize>(reader: &mut Reader<'_>) -> Result<[u32; N], DecodeError> {
    let mut states = [0u32; N];
    for state in &mut states {
        let bytes = reader.take(4, WHAT)?;
        *state = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    }
    Ok(states)
}

/// Checks the states behind the last symbol of a stream.
pub(crate) fn check_states(states: &[u32]) -> Result<(), DecodeError> {
    if states.iter().any(|&state| state != LOWER) {
        return Err(DecodeError::Corrupt { what: "a stream of symbols does not end in the initial state" });
    }
    Ok(())
}

pub(crate) const WHAT: &str = "a stream of symbols";
const REFUSED: DecodeError = DecodeError::Corrupt { what: "decoded symbols do not fit their plane" };

fn decode_ways<const N: usize>(
    reader: &mut Reader<'_>,
    count: usize,
    tables: [&DecodeTable; 2],
    sink: &mut impl Sink,
) -> Result<(), DecodeError> {
    let mut states: [u32; N] = read_states(reader)?;
    let mut decoded = 0;
    if let Some(states) = states.first_chunk_mut::<WAYS>() {
        // One table in one register, where both are the same.
        decoded = if std::ptr::eq(tables[0], tables[1]) {
            decode_blocks(states, reader, count, |_| &tables[0].steps, sink)?
        } else {
            decode_blocks(states, reader, count, |lane| &tables[lane % 2].steps, sink)?
        };
    }
    for index in decoded..count {
        let state = &mut states[index % N];
        let slot = (*state & SLOT_MASK) as usize;
        let step = tables[index % 2].steps[slot];
        *state = (step >> 16).wrapping_mul(*state >> PRECISION).wrapping_add(step & 0xFFFF);
        if *state < LOWER {
            let word = reader.take(2, WHAT)?;
            *state = *state << 16 | u32::from(u16::from_le_bytes([word[0], word[1]]));
        }
        if !sink.one(index, slot) {
            return Err(REFUSED);
        }
    }
    check_states(&states)
}

/// Decodes blocks of eight symbols while they and the words that they may need are there; how many symbols.
///
/// The hot loop: for each symbol two look-ups, a multiplication, and a selection in place of a branch that no
/// processor could predict.
#[inline(always)]
fn decode_blocks<'t>(
    states: &mut [u32; WAYS],
    reader: &mut Reader<'_>,
    count: usize,
    steps: impl Fn(usize) -> &'t [u32; SLOTS],
    sink: &mut impl Sink,
) -> Result<usize, DecodeError> {
    let mut running = *states;
    let mut bytes = reader.take_all();
    let mut left = count / WAYS;
    while left > 0
        && let Some(window) = bytes.first_chunk::<{ 2 * WAYS }>()
    {
        let mut words = 0;
        let accepted = sink.block(|lane| {
            let state = running[lane];
            let slot = (state & SLOT_MASK) as usize;
            let step = steps(lane)[slot];
            let next = (step >> 16).wrapping_mul(state >> PRECISION).wrapping_add(step & 0xFFFF);
            // At most seven words were read before this one: the mask tells the compiler so.
            let at = 2 * (words & (WAYS - 1));
            let refilled = next << 16 | u32::from(u16::from_le_bytes([window[at], window[at + 1]]));
            let low = next < LOWER;
            running[lane] = if low { refilled } else { next };
            words += usize::from(low);
            slot
        });
        if !accepted {
            return Err(REFUSED);
        }
        bytes = bytes.get(2 * words..).unwrap_or(&[]);
        left -= 1;
    }
    *states = running;
    *reader = Reader::new(bytes);
    Ok((count / WAYS - left) * WAYS)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    struct Collected<'a> {
        tables: [&'a DecodeTable; 2],
        symbols: Vec<u8>,
    }

    impl Sink for Collected<'_> {
        fn block(&mut self, mut next: impl FnMut(usize) -> usize) -> bool {
            (0..WAYS).for_each(|lane| self.symbols.push(self.tables[lane % 2].symbols[next(lane)]));
            true
        }

        fn one(&mut self, index: usize, slot: usize) -> bool {
            self.symbols.push(self.tables[index % 2].symbols[slot]);
            true
        }
    }

    fn count(symbols: impl Iterator<Item = u8>) -> [u64; 256] {
        let mut counts = [0u64; 256];
        symbols.for_each(|symbol| counts[usize::from(symbol)] += 1);
        counts
    }

    fn written_and_read(frequencies: &Frequencies) -> Frequencies {
        let mut bytes = Vec::new();
        frequencies.write(&mut bytes);
        let mut reader = Reader::new(&bytes);
        let read = Frequencies::read(&mut reader).unwrap();
        assert_eq!(reader.remaining(), 0);
        read
    }

    /// Symbols with a peak, as weights have; `len` decides between one state and eight.
    fn symbols() -> impl Strategy<Value = Vec<u8>> {
        (1..300usize, 1..255u8, prop_oneof![Just(1usize), Just(40)]).prop_flat_map(|(len, spread, times)| {
            proptest::collection::vec((0..=spread, 0..=spread), len * times)
                .prop_map(|pairs| pairs.into_iter().map(|(a, b)| a.min(b)).collect())
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn symbols_come_back(symbols in symbols()) {
            let even = Frequencies::new(&count(symbols.iter().copied().step_by(2)));
            let odd = Frequencies::new(&count(symbols.iter().copied().skip(1).step_by(2)));
            prop_assume!(symbols.len() > 1);
            let stream = encode(&symbols, [&even, &odd]);
            let tables = [&even, &odd].map(|table| DecodeTable::new(&written_and_read(table)));
            let tables = [&tables[0], &tables[1]];
            let mut collected = Collected { tables, symbols: Vec::new() };
            decode(&stream, symbols.len(), tables, &mut collected).unwrap();
            prop_assert!(collected.symbols == symbols);
            let mut collected = Collected { tables, symbols: Vec::new() };
            prop_assert!(decode(&stream[..stream.len() - 2], symbols.len(), tables, &mut collected).is_err());
        }
    }

    /// An independent coder of the same family says how long the stream must be.
    #[test]
    fn length_agrees_with_the_oracle_and_the_entropy() {
        use constriction::stream::{model::DefaultContiguousCategoricalEntropyModel, stack::DefaultAnsCoder};
        let symbols: Vec<u8> = (0..200_000u64)
            .map(|index| {
                let random = index.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ index >> 3;
                (random.wrapping_mul(0xD134_2543_DE82_EF95) >> 40).trailing_zeros().min(15) as u8
            })
            .collect();
        let counts = count(symbols.iter().copied());
        let frequencies = Frequencies::new(&counts);
        let bytes = encode(&symbols, [&frequencies; 2]).len() as f64;
        let total = symbols.len() as f64;
        let bits: f64 =
            counts.iter().filter(|&&count| count > 0).map(|&count| count as f64 * (total / count as f64).log2()).sum();
        assert!(bytes * 8.0 < bits * 1.01, "{bytes} bytes, the entropy is {} bytes", bits / 8.0);
        let probabilities: Vec<f64> = counts[..16].iter().map(|&count| count as f64 / total).collect();
        let model =
            DefaultContiguousCategoricalEntropyModel::from_floating_point_probabilities_fast(&probabilities, None)
                .unwrap();
        let mut oracle = DefaultAnsCoder::new();
        oracle.encode_iid_symbols_reverse(symbols.iter().map(|&symbol| usize::from(symbol)), &model).unwrap();
        let oracle_bytes = oracle.into_compressed().unwrap().len() as f64 * 4.0;
        assert!((bytes / oracle_bytes - 1.0).abs() < 0.01, "{bytes} bytes, the oracle needs {oracle_bytes}");
    }
}
