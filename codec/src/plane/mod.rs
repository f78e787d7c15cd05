//! A plane: a sequence of symbols of at most eight bits, coded with static probabilities.
//!
//! Every form is taken apart into planes (see [`crate::static_coder`]). A plane is stored raw, as one symbol that fills
//! it, directly (one code a symbol), or as runs (pairs of a run of the commonest symbol and the symbol behind it). The
//! encoder tries what could pay and keeps the smallest. Probabilities hold for the whole plane, but the codes are cut
//! into chunks, which are encoded and decoded in parallel.

mod encode;

use std::borrow::Cow;

use crate::rans::{SLOTS, Sink};
#[cfg(target_arch = "x86_64")]
use crate::rans_wide::{STREAMS, WideTable};
use crate::reader::Reader;
use crate::{DecodeError, huffman, parallel, rans};
pub(crate) use encode::encode;

/// Number of symbols in a chunk: its decoded floats fill about a level 2 cache.
pub(crate) const CHUNK: usize = 1 << 18;

const RAW: u8 = 0;
const DIRECT: u8 = 1;
const RUNS: u8 = 2;
const CONSTANT: u8 = 3;

/// Which static entropy coder a plane uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Backend {
    /// Canonical Huffman codes.
    Huffman,
    /// Interleaved rANS.
    Rans,
}

/// The tables of a plane, made for decoding.
enum DecodeTables {
    Huffman([huffman::DecodeTable; 2]),
    Rans([rans::DecodeTable; 2]),
}

impl DecodeTables {
    /// The symbols that own the slots of the even and the odd table.
    fn symbols(&self) -> [&[u8; SLOTS]; 2] {
        match self {
            Self::Huffman([even, odd]) => [&even.symbols, &odd.symbols],
            Self::Rans([even, odd]) => [&even.symbols, &odd.symbols],
        }
    }
}

/// One chunk of a coded plane.
struct Chunk<'a> {
    stream: &'a [u8],
    /// Number of symbols in the stream: elements, or two for each pair.
    symbols: usize,
}

enum Body<'a> {
    Raw(&'a [u8]),
    Constant(u8),
    Coded { tables: DecodeTables, run_symbol: Option<u8>, chunks: Vec<Chunk<'a>> },
}

/// A plane whose head is read and whose symbols are not yet decoded.
pub(crate) struct Plane<'a> {
    len: usize,
    largest_symbol: u8,
    body: Body<'a>,
}

impl<'a> Plane<'a> {
    /// Reads the plane of `len` symbols.
    ///
    /// What it allocates is bounded by the bytes that `reader` holds.
    pub(crate) fn read(reader: &mut Reader<'a>, len: usize, backend: Backend) -> Result<Self, DecodeError> {
        if len == 0 {
            return Ok(Self { len, largest_symbol: 0, body: Body::Raw(&[]) });
        }
        match reader.byte("a plane")? {
            RAW => {
                let symbols = reader.take(len, "a raw plane")?;
                Ok(Self { len, largest_symbol: symbols.iter().copied().max().unwrap_or(0), body: Body::Raw(symbols) })
            }
            CONSTANT => {
                let symbol = reader.byte("a constant plane")?;
                Ok(Self { len, largest_symbol: symbol, body: Body::Constant(symbol) })
            }
            DIRECT => {
                let (tables, [largest_symbol, _]) = read_tables(reader, backend, 1)?;
                let chunks = read_chunks(reader, len, None)?;
                Ok(Self { len, largest_symbol, body: Body::Coded { tables, run_symbol: None, chunks } })
            }
            RUNS => {
                let run_symbol = reader.byte("a plane of runs")?;
                let (tables, [_, largest]) = read_tables(reader, backend, 2)?;
                let chunks = read_chunks(reader, len, Some(run_symbol))?;
                let largest_symbol = largest.max(run_symbol);
                Ok(Self { len, largest_symbol, body: Body::Coded { tables, run_symbol: Some(run_symbol), chunks } })
            }
            _ => Err(DecodeError::Corrupt { what: "a plane has an unknown mode" }),
        }
    }

    /// Number of symbols.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// No symbol of the plane is larger.
    pub(crate) fn largest_symbol(&self) -> u8 {
        self.largest_symbol
    }

    /// Decodes the whole plane, each symbol through `table`.
    pub(crate) fn decode<T: Element>(&self, table: &[T; 256]) -> Result<Vec<T>, DecodeError> {
        let mut out = vec![T::ZERO; self.len];
        self.decode_into(table, &mut out)?;
        Ok(out)
    }

    /// The symbols: as they stand in the payload, where they are raw.
    pub(crate) fn symbols(&self, identity: &[u8; 256]) -> Result<Cow<'a, [u8]>, DecodeError> {
        match self.body {
            Body::Raw(symbols) => Ok(Cow::Borrowed(symbols)),
            _ => Ok(Cow::Owned(self.decode(identity)?)),
        }
    }

    /// Decodes the whole plane into `out`, which must have its length and hold nothing but zeros.
    pub(crate) fn decode_into<T: Element>(&self, table: &[T; 256], out: &mut [T]) -> Result<(), DecodeError> {
        #[cfg(target_arch = "x86_64")]
        if let Some((wide, chunks)) = self.wide() {
            let groups = out.chunks_mut(STREAMS * CHUNK).zip(chunks.chunks(STREAMS)).enumerate().collect();
            parallel::try_map(groups, |(group, (out, chunks)): (usize, (&mut [T], _))| {
                let beside = decode_beside(&wide, chunks, table, out)?;
                let mut rest = out.chunks_mut(CHUNK).enumerate().skip(beside);
                rest.try_for_each(|(index, chunk)| self.decode_chunk(group * STREAMS + index, table, chunk))
            })?;
            return Ok(());
        }
        let chunks = out.chunks_mut(CHUNK).enumerate().collect();
        parallel::try_map(chunks, |(index, chunk)| self.decode_chunk(index, table, chunk))?;
        Ok(())
    }

    /// What decodes several chunks at once, where that can be done and there are several.
    #[cfg(target_arch = "x86_64")]
    fn wide(&self) -> Option<(WideTable, &[Chunk<'a>])> {
        match &self.body {
            Body::Coded { tables: DecodeTables::Rans([table, _]), run_symbol: None, chunks } if chunks.len() > 1 => {
                Some((WideTable::new(table)?, chunks))
            }
            _ => None,
        }
    }

    /// Decodes chunk `index` into `out`, which must have its length and hold nothing but zeros.
    fn decode_chunk<T: Element>(&self, index: usize, table: &[T; 256], out: &mut [T]) -> Result<(), DecodeError> {
        match &self.body {
            Body::Constant(symbol) => fill(out, table[usize::from(*symbol)]),
            Body::Raw(symbols) => {
                let symbols = symbols.get(index * CHUNK..).unwrap_or(&[]);
                out.iter_mut().zip(symbols).for_each(|(out, &symbol)| *out = table[usize::from(symbol)]);
            }
            Body::Coded { tables, run_symbol, chunks } => {
                let chunk = chunks.get(index).ok_or(DecodeError::Corrupt { what: "a plane lacks a chunk" })?;
                let [even, odd] = tables.symbols();
                match run_symbol {
                    None => chunk.decode(tables, false, &mut Direct { values: &through(even, table), out })?,
                    Some(symbol) => {
                        fill(out, table[usize::from(*symbol)]);
                        chunk.decode(
                            tables,
                            true,
                            &mut Pairs { runs: even, values: &through(odd, table), out, position: 0 },
                        )?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Decodes the whole chunks among `chunks`, at most [`STREAMS`], into `out` at once; how many it decoded.
#[cfg(target_arch = "x86_64")]
fn decode_beside<T: Element>(
    wide: &WideTable,
    chunks: &[Chunk<'_>],
    table: &[T; 256],
    out: &mut [T],
) -> Result<usize, DecodeError> {
    let outs = out.as_chunks_mut::<CHUNK>().0;
    let stream = |index: usize| chunks.get(index).map_or(&[][..], |chunk| chunk.stream);
    if let Some(outs) = outs.first_chunk_mut::<4>() {
        wide.decode(std::array::from_fn::<_, 4, _>(stream), table, outs)?;
        Ok(4)
    } else if let Some(outs) = outs.first_chunk_mut::<3>() {
        wide.decode(std::array::from_fn::<_, 3, _>(stream), table, outs)?;
        Ok(3)
    } else if let Some(outs) = outs.first_chunk_mut::<2>() {
        wide.decode(std::array::from_fn::<_, 2, _>(stream), table, outs)?;
        Ok(2)
    } else {
        Ok(0)
    }
}

/// What symbols are decoded to.
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "wide instructions alone look at bytes"))]
pub(crate) trait Element: Copy + PartialEq + Send + Sync {
    /// What fresh memory holds.
    const ZERO: Self;

    /// The bytes of elements that are no more than bytes.
    fn bytes(_: &[Self]) -> Option<&[u8]> {
        None
    }

    /// The bytes of elements that are no more than bytes.
    fn bytes_mut(_: &mut [Self]) -> Option<&mut [u8]> {
        None
    }
}

impl Element for u8 {
    const ZERO: Self = 0;
}
impl Element for i8 {
    const ZERO: Self = 0;
}
impl Element for u16 {
    const ZERO: Self = 0;
}
impl Element for i16 {
    const ZERO: Self = 0;
}
impl<const SIZE: usize> Element for [u8; SIZE] {
    const ZERO: Self = [0; SIZE];

    fn bytes(elements: &[Self]) -> Option<&[u8]> {
        Some(elements.as_flattened())
    }

    fn bytes_mut(elements: &mut [Self]) -> Option<&mut [u8]> {
        Some(elements.as_flattened_mut())
    }
}

/// Fills `out`, which holds zeros, with `value`; fresh memory is not touched where the value is zero.
fn fill<T: Element>(out: &mut [T], value: T) {
    if value != T::ZERO {
        out.fill(value);
    }
}

fn read_tables(
    reader: &mut Reader<'_>,
    backend: Backend,
    count: usize,
) -> Result<(DecodeTables, [u8; 2]), DecodeError> {
    match backend {
        Backend::Huffman => {
            let even = huffman::CodeLengths::read(reader)?;
            let odd = if count == 2 { huffman::CodeLengths::read(reader)? } else { even.clone() };
            let largest = [even.largest_symbol(), odd.largest_symbol()];
            Ok((DecodeTables::Huffman([&even, &odd].map(huffman::DecodeTable::new)), largest))
        }
        Backend::Rans => {
            let even = rans::Frequencies::read(reader)?;
            let odd = if count == 2 { rans::Frequencies::read(reader)? } else { even.clone() };
            let largest = [even.largest_symbol(), odd.largest_symbol()];
            Ok((DecodeTables::Rans([&even, &odd].map(rans::DecodeTable::new)), largest))
        }
    }
}

fn read_chunks<'a>(reader: &mut Reader<'a>, len: usize, run_symbol: Option<u8>) -> Result<Vec<Chunk<'a>>, DecodeError> {
    const WHAT: &str = "the chunks of a plane";
    let count = len.div_ceil(CHUNK);
    if count > reader.remaining() {
        return Err(DecodeError::Truncated { what: WHAT });
    }
    let mut sizes = Vec::with_capacity(count);
    for index in 0..count {
        let elements = CHUNK.min(len - index * CHUNK);
        let symbols = match run_symbol {
            None => elements,
            // Every pair yields at least one element.
            Some(_) => match reader.size(WHAT)? {
                pairs if pairs <= elements => 2 * pairs,
                _ => return Err(DecodeError::Corrupt { what: "a chunk has more pairs than elements" }),
            },
        };
        sizes.push((symbols, reader.size(WHAT)?));
    }
    sizes.into_iter().map(|(symbols, bytes)| Ok(Chunk { stream: reader.take(bytes, WHAT)?, symbols })).collect()
}

impl Chunk<'_> {
    /// Decodes with both tables, or where nothing but one is used, with the even one alone.
    fn decode(&self, tables: &DecodeTables, paired: bool, sink: &mut impl Sink) -> Result<(), DecodeError> {
        match tables {
            DecodeTables::Huffman([even, odd]) => {
                huffman::decode(self.stream, self.symbols, [even, if paired { odd } else { even }], sink)
            }
            DecodeTables::Rans([even, odd]) => {
                rans::decode(self.stream, self.symbols, [even, if paired { odd } else { even }], sink)
            }
        }
    }
}

/// What each slot stands for, through the symbol that owns it.
fn through<T: Element>(symbols: &[u8; SLOTS], table: &[T; 256]) -> Box<[T; SLOTS]> {
    let mut values = Box::new([T::ZERO; SLOTS]);
    values.iter_mut().zip(symbols).for_each(|(value, &symbol)| *value = table[usize::from(symbol)]);
    values
}

/// Writes one element for each symbol.
struct Direct<'a, T> {
    values: &'a [T; SLOTS],
    out: &'a mut [T],
}

impl<T: Element> Sink for Direct<'_, T> {
    #[inline]
    fn block(&mut self, mut next: impl FnMut(usize) -> usize) -> bool {
        let Some((block, rest)) = std::mem::take(&mut self.out).split_first_chunk_mut::<8>() else { return false };
        for (lane, element) in block.iter_mut().enumerate() {
            *element = self.values[next(lane)];
        }
        self.out = rest;
        true
    }

    #[inline]
    fn one(&mut self, _index: usize, slot: usize) -> bool {
        let Some((element, rest)) = std::mem::take(&mut self.out).split_first_mut() else { return false };
        *element = self.values[slot];
        self.out = rest;
        true
    }
}

/// Skips a run for each even symbol, writes one element for each odd one.
struct Pairs<'a, T> {
    runs: &'a [u8; SLOTS],
    values: &'a [T; SLOTS],
    out: &'a mut [T],
    position: usize,
}

impl<T: Element> Sink for Pairs<'_, T> {
    #[inline]
    fn block(&mut self, mut next: impl FnMut(usize) -> usize) -> bool {
        let mut position = self.position;
        for pair in 0..4 {
            position += usize::from(self.runs[next(2 * pair)]);
            let Some(element) = self.out.get_mut(position) else { return false };
            *element = self.values[next(2 * pair + 1)];
            position += 1;
        }
        self.position = position;
        true
    }

    #[inline]
    fn one(&mut self, index: usize, slot: usize) -> bool {
        if index.is_multiple_of(2) {
            self.position += usize::from(self.runs[slot]);
            return true;
        }
        let Some(element) = self.out.get_mut(self.position) else { return false };
        *element = self.values[slot];
        self.position += 1;
        true
    }
}
