//! Several rANS streams at once, the eight states of each in one register of AVX2.
//!
//! A state depends on the one before through a look-up and a multiplication, which takes many times as long as it
//! occupies the processor. Eight states in a register fill one part of that time, four streams fill the rest.
//!
//! Source: Giesen, "Interleaved entropy coders", 2014, section 4: words are dealt to the lanes that need one in the
//! order of the lanes, by a permutation that is looked up by the set of these lanes.

use std::arch::x86_64::*;

use crate::processor::has_avx2;
use crate::rans::{DecodeTable, SLOTS, WAYS};
use crate::reader::Reader;
use crate::{DecodeError, rans};

/// The most streams that are decoded at once.
pub(crate) const STREAMS: usize = 4;
/// Symbols of a stream that are decoded before they are looked up: those of all streams stay in the level 1 cache.
const PIECE: usize = 2048;
/// The most bytes that eight symbols read.
const WINDOW: usize = 2 * WAYS;

/// For each set of lanes that need a word: which of the next words each lane takes.
static ORDER: [[u8; WAYS]; 256] = order();

const fn order() -> [[u8; WAYS]; 256] {
    let mut order = [[0; WAYS]; 256];
    let mut set = 0;
    while set < 256 {
        let (mut lane, mut word) = (0, 0);
        while lane < WAYS {
            order[set][lane] = word;
            word += (set >> lane & 1) as u8;
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
    pub(crate) fn decode<T: Copy, const K: usize, const LEN: usize>(
        &self,
        streams: [&[u8]; K],
        values: &[T; 256],
        outs: &mut [[T; LEN]; K],
    ) -> Result<(), DecodeError> {
        // SAFETY: a table is made only where the processor has the instructions.
        #[allow(unsafe_code)]
        unsafe {
            decode_avx2(streams, self, values, outs)
        }
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
    /// Before the first symbol.
    fn start(stream: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(stream);
        let states = rans::read_states(&mut reader)?;
        Ok(Self { states, bytes: reader.take_all() })
    }

    /// Checks what must hold behind the last symbol.
    fn finish(&self) -> Result<(), DecodeError> {
        rans::check_states(&self.states)?;
        rans::check_end(self.bytes)
    }
}

/// Decodes `streams` into `outs`, which are equally long and a multiple of eight: each symbol as what `values` says.
///
/// # Errors
/// As [`crate::rans::decode`].
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
fn decode_avx2<T: Copy, const K: usize, const LEN: usize>(
    streams: [&[u8]; K],
    table: &WideTable,
    values: &[T; 256],
    outs: &mut [[T; LEN]; K],
) -> Result<(), DecodeError> {
    let mut running = [const { Running { states: [0; WAYS], bytes: &[] } }; K];
    for (running, stream) in running.iter_mut().zip(streams) {
        *running = Running::start(stream)?;
    }
    let mut symbols = [[0u8; PIECE]; K];
    for start in (0..LEN).step_by(PIECE) {
        let end = LEN.min(start + PIECE);
        decode_piece(&mut running, table, &mut symbols, (end - start) / WAYS)?;
        for (out, symbols) in outs.iter_mut().zip(&symbols) {
            for (value, &symbol) in out[start..end].iter_mut().zip(symbols) {
                *value = values[usize::from(symbol)];
            }
        }
    }
    running.iter().try_for_each(Running::finish)
}

#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
fn decode_piece<const K: usize>(
    streams: &mut [Running<'_>; K],
    table: &WideTable,
    symbols: &mut [[u8; PIECE]; K],
    blocks: usize,
) -> Result<(), DecodeError> {
    let mut states = streams.each_ref().map(|stream| load_lanes(&stream.states));
    let mut bytes = streams.each_ref().map(|stream| stream.bytes);
    let low_bytes = _mm256_broadcastsi128_si256(_mm_set_epi32(-1, -1, -1, 0x0C08_0400));
    for block in 0..blocks.min(PIECE / WAYS) {
        for stream in 0..K {
            let state = states[stream];
            let entry = look_up(table, state);
            let quotient = _mm256_srli_epi32::<12>(state);
            let product = _mm256_mullo_epi32(_mm256_srli_epi32::<20>(entry), quotient);
            let distance = _mm256_and_si256(_mm256_srli_epi32::<8>(entry), _mm256_set1_epi32(0xFFF));
            let next = _mm256_add_epi32(product, _mm256_add_epi32(quotient, distance));
            let low = _mm256_cmpeq_epi32(_mm256_srli_epi32::<16>(next), _mm256_setzero_si256());
            let set = _mm256_movemask_ps(_mm256_castsi256_ps(low)) as u8;
            let words = _mm256_cvtepu16_epi32(match bytes[stream].first_chunk::<WINDOW>() {
                Some(window) => load_window(window),
                None => load_window(&last_window(bytes[stream])),
            });
            let order = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(i64::from_le_bytes(ORDER[usize::from(set)])));
            let refill = _mm256_permutevar8x32_epi32(words, order);
            let refilled = _mm256_or_si256(_mm256_slli_epi32::<16>(next), refill);
            states[stream] = _mm256_blendv_epi8(next, refilled, low);
            let read = 2 * set.count_ones() as usize;
            bytes[stream] = bytes[stream].get(read..).ok_or(DecodeError::Truncated { what: rans::WHAT })?;
            let packed = _mm256_shuffle_epi8(entry, low_bytes);
            let packed = _mm_unpacklo_epi32(_mm256_castsi256_si128(packed), _mm256_extracti128_si256::<1>(packed));
            symbols[stream].as_chunks_mut::<WAYS>().0[block] = _mm_cvtsi128_si64(packed).to_le_bytes();
        }
    }
    for (stream, (states, bytes)) in streams.iter_mut().zip(states.into_iter().zip(bytes)) {
        *stream = Running { states: store_lanes(states), bytes };
    }
    Ok(())
}

/// The window of a stream's last bytes: zeros follow them.
#[cold]
fn last_window(bytes: &[u8]) -> [u8; WINDOW] {
    let mut window = [0; WINDOW];
    window.iter_mut().zip(bytes).for_each(|(into, &byte)| *into = byte);
    window
}

/// The table's words at the slots of `states`.
#[inline]
#[target_feature(enable = "avx2")]
fn look_up(table: &WideTable, states: __m256i) -> __m256i {
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
    let mut lanes = [0; WAYS];
    // SAFETY: the 32 bytes that are written are those of the array; the instruction asks for no alignment.
    #[allow(unsafe_code)]
    unsafe {
        _mm256_storeu_si256(lanes.as_mut_ptr().cast(), states);
    }
    lanes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rans::Frequencies;

    /// Long enough for eight states; ends within a piece.
    const LEN: usize = 3 * PIECE + 8 * WAYS;

    fn at_once<const K: usize>(streams: &[Vec<u8>], wide: &WideTable, values: &[u16; 256]) -> Option<Vec<Vec<u16>>> {
        let mut outs = vec![[0u16; LEN]; K];
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
            prop_assert!(at_once::<4>(&streams, &wide, &values).as_ref() == Some(&expected));
            prop_assert!(at_once::<3>(&streams, &wide, &values).as_deref() == Some(&expected[..3]));
            prop_assert!(at_once::<2>(&streams, &wide, &values).as_deref() == Some(&expected[..2]));
            // A stream that is too short is refused, and so is one with another byte, if it does not lead back.
            let place = streams[1].len() - 1 - cut;
            streams[1][place] ^= by;
            prop_assert!(at_once::<4>(&streams, &wide, &values).as_ref() != Some(&expected));
            streams[1].truncate(place - 1);
            prop_assert!(at_once::<4>(&streams, &wide, &values).is_none());
        }
    }
}
