//! Several rANS streams at once, the eight states of each in one register of AVX2.
//!
//! A state depends on the one before through a look-up and a multiplication, which takes many times as long as it
//! occupies the processor. Eight states in a register fill one part of that time, four streams fill the rest.
//!
//! Source: Giesen, "Interleaved entropy coders", 2014, section 4: words are dealt to the lanes that need one in the
//! order of the lanes, by a permutation that is looked up by the set of these lanes.

use std::arch::x86_64::*;

use crate::plane::Element;
use crate::processor::has_avx2;
use crate::rans::{DecodeTable, SLOTS, WAYS};
use crate::reader::Reader;
use crate::{DecodeError, rans};

/// The most streams that are decoded at once.
pub(crate) const STREAMS: usize = 4;
/// Symbols of a stream that are decoded before they are looked up: those of all streams stay in the level 1 cache.
const PIECE: usize = 2048;
/// Symbols that can be looked up in registers, where their values have four bytes.
const FEW: usize = 2 * WAYS;
/// The most bytes that eight symbols read.
const WINDOW: usize = 2 * WAYS;
/// Blocks of eight symbols between two looks at what is left of the streams.
const STRETCH: usize = 16;
/// Bytes that a stretch may look at.
const SPAN: usize = (STRETCH + 1) * WINDOW;

/// For each set of lanes that need a word: which of the next bytes each lane takes; a negative one gives zero.
static ORDER: [Order; 256] = order();

#[derive(Clone, Copy)]
#[repr(align(32))]
struct Order([i8; 4 * WAYS]);

const fn order() -> [Order; 256] {
    let mut order = [Order([-1; 4 * WAYS]); 256];
    let mut set = 0;
    while set < 256 {
        let (mut lane, mut byte) = (0, 0);
        while lane < WAYS {
            if set >> lane & 1 == 1 {
                order[set].0[4 * lane] = byte;
                order[set].0[4 * lane + 1] = byte + 1;
                byte += 2;
            }
            lane += 1;
        }
        set += 1;
    }
    order
}

/// What each slot decodes to in one word: from the top, frequency less 1 (12 bits), distance (12 bits), symbol (8 bits).
pub(crate) struct WideTable(Box<[u32; SLOTS]>);

impl WideTable {
    /// The same table; `None` where the processor lacks the instructions.
    pub(crate) fn new(table: &DecodeTable) -> Option<Self> {
        if !has_avx2() {
            return None;
        }
        let mut words = Box::new([0u32; SLOTS]);
        for (word, (&symbol, &step)) in words.iter_mut().zip(table.symbols.iter().zip(table.steps.iter())) {
            *word = ((step >> 16) - 1) << 20 | (step & 0xFFF) << 8 | u32::from(symbol);
        }
        Some(Self(words))
    }

    /// Decodes `streams` into `outs`, whose length is a multiple of eight: each symbol as what `values` says.
    ///
    /// # Errors
    /// As [`crate::rans::decode`].
    pub(crate) fn decode<T: Element, const K: usize, const LEN: usize>(
        &self,
        streams: [&[u8]; K],
        values: &[T; 256],
        outs: &mut [[T; LEN]; K],
    ) -> Result<(), DecodeError> {
        let mut running = Running::start(streams)?;
        // SAFETY: a table is made only where the processor has the instructions.
        #[allow(unsafe_code)]
        unsafe {
            match self.few(values) {
                Some(values) => decode_few(&mut running, self, &values, outs)?,
                None => decode_any(&mut running, self, values, outs)?,
            }
        }
        running.iter().try_for_each(Running::finish)
    }

    /// The values as words of four bytes, where that is what they are and few symbols occur.
    fn few<T: Element>(&self, values: &[T; 256]) -> Option<[u32; FEW]> {
        // Symbols own their slots in ascending order.
        let largest = (self.0[SLOTS - 1] & 0xFF) as usize;
        let words = T::bytes(values)?.as_chunks().0.first_chunk::<FEW>()?;
        (size_of::<T>() == 4 && largest < FEW).then(|| words.map(u32::from_le_bytes))
    }
}

/// A stream of eight states that is being decoded.
#[derive(Debug, Clone, Copy)]
struct Running<'a> {
    states: [u32; WAYS],
    /// The words that are left.
    bytes: &'a [u8],
}

impl<'a> Running<'a> {
    /// Before the first symbol of each of `streams`.
    fn start<const K: usize>(streams: [&'a [u8]; K]) -> Result<[Self; K], DecodeError> {
        let mut running = [const { Running { states: [0; WAYS], bytes: &[] } }; K];
        for (running, stream) in running.iter_mut().zip(streams) {
            let mut reader = Reader::new(stream);
            running.states = rans::read_states(&mut reader)?;
            running.bytes = reader.take_all();
        }
        Ok(running)
    }

    /// Checks what must hold behind the last symbol.
    fn finish(&self) -> Result<(), DecodeError> {
        rans::check_states(&self.states)?;
        rans::check_end(self.bytes)
    }
}

/// Decodes into `outs`, whose length is a multiple of eight: each symbol as what `values` says.
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
fn decode_any<T: Copy, const K: usize, const LEN: usize>(
    streams: &mut [Running<'_>; K],
    table: &WideTable,
    values: &[T; 256],
    outs: &mut [[T; LEN]; K],
) -> Result<(), DecodeError> {
    let mut symbols = [[0u8; PIECE]; K];
    for start in (0..LEN).step_by(PIECE) {
        let end = LEN.min(start + PIECE);
        let blocks = symbols.each_mut().map(|symbols| symbols[..end - start].as_chunks_mut().0);
        decode_blocks(streams, table, |entries| symbols_of(entries), blocks)?;
        for (out, symbols) in outs.iter_mut().zip(&symbols) {
            for (value, &symbol) in out[start..end].iter_mut().zip(symbols) {
                *value = values[usize::from(symbol)];
            }
        }
    }
    Ok(())
}

/// As [`decode_any`], where symbols are few and values have four bytes.
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
fn decode_few<T: Element, const K: usize, const LEN: usize>(
    streams: &mut [Running<'_>; K],
    table: &WideTable,
    values: &[u32; FEW],
    outs: &mut [[T; LEN]; K],
) -> Result<(), DecodeError> {
    let [low, high] = [0, WAYS].map(|half| load_lanes(&std::array::from_fn(|lane| values[half + lane])));
    let look_up = |entries: __m256i| {
        let [low, high] = [low, high].map(|half| _mm256_castsi256_ps(_mm256_permutevar8x32_epi32(half, entries)));
        let is_high = _mm256_castsi256_ps(_mm256_slli_epi32::<28>(entries));
        bytes_of(_mm256_castps_si256(_mm256_blendv_ps(low, high, is_high)))
    };
    let blocks = outs.each_mut().map(|out| T::bytes_mut(out).unwrap_or_default().as_chunks_mut().0);
    decode_blocks(streams, table, look_up, blocks)
}

/// Decodes blocks of eight symbols, each as what `look_up` makes of their words of the table.
#[inline]
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
fn decode_blocks<const K: usize, const SIZE: usize>(
    streams: &mut [Running<'_>; K],
    table: &WideTable,
    look_up: impl Fn(__m256i) -> [u8; SIZE],
    mut blocks: [&mut [[u8; SIZE]]; K],
) -> Result<(), DecodeError> {
    let count = blocks.each_ref().map(|blocks| blocks.len()).into_iter().min().unwrap_or(0);
    let mut states = streams.each_ref().map(|stream| load_lanes(&stream.states));
    for start in (0..count).step_by(STRETCH) {
        let end = count.min(start + STRETCH);
        let mut into = blocks.each_mut().map(|blocks| blocks[start..end].iter_mut());
        let mut ends = [const { None }; K];
        let mut spans = [&[0; SPAN]; K];
        for (span, (end, stream)) in spans.iter_mut().zip(ends.iter_mut().zip(&*streams)) {
            *span = match stream.bytes.first_chunk() {
                Some(span) => span,
                None => &*end.insert(with_zeros_behind(stream.bytes)),
            };
        }
        let mut read = [0; K];
        for _ in start..end {
            for stream in 0..K {
                let entries = gather(table, states[stream]);
                (states[stream], read[stream]) = next(states[stream], entries, spans[stream], read[stream]);
                into[stream].next().into_iter().for_each(|block| *block = look_up(entries));
            }
        }
        for (stream, read) in streams.iter_mut().zip(read) {
            let Some(rest) = stream.bytes.get(read..) else { return Err(DecodeError::Truncated { what: rans::WHAT }) };
            stream.bytes = rest;
        }
    }
    for (stream, states) in streams.iter_mut().zip(states) {
        stream.states = store_lanes(states);
    }
    Ok(())
}

/// The states behind a block of symbols, and how much of `span` is read by then.
#[inline]
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
fn next(states: __m256i, entries: __m256i, span: &[u8; SPAN], read: usize) -> (__m256i, usize) {
    let quotients = _mm256_srli_epi32::<12>(states);
    let products = _mm256_mullo_epi32(_mm256_srli_epi32::<20>(entries), quotients);
    let distances = _mm256_and_si256(_mm256_srli_epi32::<8>(entries), _mm256_set1_epi32(0xFFF));
    let states = _mm256_add_epi32(products, _mm256_add_epi32(quotients, distances));
    let low = _mm256_cmpeq_epi32(_mm256_srli_epi32::<16>(states), _mm256_setzero_si256());
    let set = _mm256_movemask_ps(_mm256_castsi256_ps(low)) as u8;
    // No more than that was read before the last block of a stretch: the mask tells the compiler so.
    let at = read & (STRETCH * WINDOW - 1);
    let window = load_window(span[at..].first_chunk().unwrap_or(&[0; WINDOW]));
    let words = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(window), load_order(&ORDER[usize::from(set)]));
    let shifts = _mm256_and_si256(low, _mm256_set1_epi32(16));
    (_mm256_or_si256(_mm256_sllv_epi32(states, shifts), words), read + 2 * set.count_ones() as usize)
}

/// A stream's last bytes, and zeros behind them.
#[cold]
fn with_zeros_behind(bytes: &[u8]) -> [u8; SPAN] {
    let mut span = [0; SPAN];
    span.iter_mut().zip(bytes).for_each(|(into, &byte)| *into = byte);
    span
}

/// The symbols of words of the table.
#[inline]
#[target_feature(enable = "avx2")]
fn symbols_of(entries: __m256i) -> [u8; WAYS] {
    let low_bytes = _mm256_broadcastsi128_si256(_mm_set_epi32(-1, -1, -1, 0x0C08_0400));
    let packed = _mm256_shuffle_epi8(entries, low_bytes);
    let packed = _mm_unpacklo_epi32(_mm256_castsi256_si128(packed), _mm256_extracti128_si256::<1>(packed));
    _mm_cvtsi128_si64(packed).to_le_bytes()
}

/// The table's words at the slots of `states`.
#[inline]
#[target_feature(enable = "avx2")]
fn gather(table: &WideTable, states: __m256i) -> __m256i {
    let slots = _mm256_and_si256(states, _mm256_set1_epi32(SLOTS as i32 - 1));
    // SAFETY: the mask leaves every slot below `SLOTS`, the number of words of 4 bytes that the table holds.
    #[allow(unsafe_code)]
    unsafe {
        _mm256_i32gather_epi32::<4>(table.0.as_ptr().cast(), slots)
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load_window(window: &[u8; WINDOW]) -> __m128i {
    // SAFETY: the 16 bytes that are read are those of the array; the instruction asks for no alignment.
    #[allow(unsafe_code)]
    unsafe {
        _mm_loadu_si128(window.as_ptr().cast())
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load_order(order: &Order) -> __m256i {
    // SAFETY: the 32 bytes that are read are those of the array, which is aligned to as many.
    #[allow(unsafe_code)]
    unsafe {
        _mm256_load_si256(order.0.as_ptr().cast())
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn bytes_of(lanes: __m256i) -> [u8; 4 * WAYS] {
    let mut bytes = [0; 4 * WAYS];
    // SAFETY: the 32 bytes that are written are those of the array; the instruction asks for no alignment.
    #[allow(unsafe_code)]
    unsafe {
        _mm256_storeu_si256(bytes.as_mut_ptr().cast(), lanes);
    }
    bytes
}

#[inline]
#[target_feature(enable = "avx2")]
fn load_lanes(lanes: &[u32; WAYS]) -> __m256i {
    // SAFETY: the 32 bytes that are read are those of the array; the instruction asks for no alignment.
    #[allow(unsafe_code)]
    unsafe {
        _mm256_loadu_si256(lanes.as_ptr().cast())
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn store_lanes(states: __m256i) -> [u32; WAYS] {
    let bytes = bytes_of(states);
    std::array::from_fn(|lane| u32::from_le_bytes(std::array::from_fn(|byte| bytes[4 * lane + byte])))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rans::Frequencies;

    /// Long enough for eight states; ends within a piece.
    const LEN: usize = 3 * PIECE + 8 * WAYS;

    fn at_once<T: Element, const K: usize>(
        streams: &[Vec<u8>],
        wide: &WideTable,
        values: &[T; 256],
    ) -> Option<Vec<Vec<T>>> {
        let mut outs = vec![[T::ZERO; LEN]; K];
        let streams: [&[u8]; K] = std::array::from_fn(|index| &streams[index][..]);
        wide.decode(streams, values, outs.first_chunk_mut::<K>()?).ok()?;
        Some(outs.iter().map(|out| out.to_vec()).collect())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 1 } else { 24 }))]
        #[test]
        fn several_streams_at_once_give_their_symbols(
            seed in 1u64..,
            shift in 0..8u32,
            cut in 0..40usize,
            by in 1..=255u8,
        ) {
            let mut random = seed;
            let mut symbol = || {
                random = random.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(0x1405_7B7E_F767_814F);
                ((random >> 56) as u8).min((random >> 48) as u8) >> shift
            };
            let symbols: Vec<Vec<u8>> = (0..4).map(|_| (0..LEN).map(|_| symbol()).collect()).collect();
            let mut counts = [0u64; 256];
            symbols.iter().flatten().for_each(|&symbol| counts[usize::from(symbol)] += 1);
            let frequencies = Frequencies::new(&counts);
            let mut streams: Vec<Vec<u8>> =
                symbols.iter().map(|symbols| rans::encode(symbols, [&frequencies; 2])).collect();
            let Some(wide) = WideTable::new(&DecodeTable::new(&frequencies)) else { return Ok(()) };
            let values: [u16; 256] = std::array::from_fn(|symbol| 3 * symbol as u16 + 1);
            let expected: Vec<Vec<u16>> = symbols
                .iter()
                .map(|symbols| symbols.iter().map(|&symbol| values[usize::from(symbol)]).collect())
                .collect();
            prop_assert!(at_once::<_, 4>(&streams, &wide, &values).as_ref() == Some(&expected));
            prop_assert!(at_once::<_, 3>(&streams, &wide, &values).as_deref() == Some(&expected[..3]));
            prop_assert!(at_once::<_, 2>(&streams, &wide, &values).as_deref() == Some(&expected[..2]));
            // Values of four bytes are looked up in registers, where few symbols occur.
            let words = values.map(|value| (u32::from(value) * 0x0101_0101).to_le_bytes());
            let as_words = |expected: &Vec<u16>| -> Vec<[u8; 4]> {
                expected.iter().map(|&value| (u32::from(value) * 0x0101_0101).to_le_bytes()).collect()
            };
            let expected_words: Vec<_> = expected.iter().map(as_words).collect();
            prop_assert!(at_once::<_, 4>(&streams, &wide, &words).as_ref() == Some(&expected_words));
            prop_assert!(at_once::<_, 2>(&streams, &wide, &words).as_deref() == Some(&expected_words[..2]));
            // A stream that is too short is refused, and so is one with another byte, if it does not lead back.
            let place = streams[1].len() - 1 - cut;
            streams[1][place] ^= by;
            prop_assert!(at_once::<_, 4>(&streams, &wide, &values).as_ref() != Some(&expected));
            streams[1].truncate(place - 1);
            prop_assert!(at_once::<_, 4>(&streams, &wide, &values).is_none());
        }
    }
}
