//! Symbols to planes: what could pay is tried, the smallest is kept.

use super::{Backend, CHUNK, CONSTANT, DIRECT, RAW, RUNS};
use crate::reader::push_varint;
use crate::{huffman, parallel, rans};

/// The longest run of a pair; longer runs take several pairs, whose value is the run's symbol.
const MAX_RUN: usize = 255;

/// The probabilities of a plane's symbols, one table for those at even places and one for the odd.
enum EncodeTables {
    Huffman(Box<[huffman::CodeLengths; 2]>),
    Rans(Box<[rans::Frequencies; 2]>),
}

impl EncodeTables {
    fn new(backend: Backend, counts: [&[u64; 256]; 2]) -> Self {
        match backend {
            Backend::Huffman => Self::Huffman(Box::new(counts.map(huffman::CodeLengths::new))),
            Backend::Rans => Self::Rans(Box::new(counts.map(rans::Frequencies::new))),
        }
    }

    /// Appends the first `count` tables.
    fn write(&self, count: usize, into: &mut Vec<u8>) {
        match self {
            Self::Huffman(tables) => tables.iter().take(count).for_each(|table| table.write(into)),
            Self::Rans(tables) => tables.iter().take(count).for_each(|table| table.write(into)),
        }
    }

    fn encode(&self, symbols: &[u8]) -> Vec<u8> {
        match self {
            Self::Huffman(tables) => huffman::encode(symbols, tables.each_ref()),
            Self::Rans(tables) => rans::encode(symbols, tables.each_ref()),
        }
    }
}

/// Appends the plane of `symbols`; nothing where there are none.
pub(crate) fn encode(symbols: &[u8], backend: Backend, into: &mut Vec<u8>) {
    let mut counts = [0u64; 256];
    symbols.iter().for_each(|&symbol| counts[usize::from(symbol)] += 1);
    let Some(&first) = symbols.first() else { return };
    let (commonest, most) = (0..=255u8).zip(counts).max_by_key(|&(symbol, count)| (count, !symbol)).unwrap_or((0, 0));
    let len = symbols.len() as u64;
    if most == len {
        into.extend_from_slice(&[CONSTANT, first]);
        return;
    }
    let mut best = encode_direct(symbols, &counts, backend);
    // With fewer than a third of one symbol, pairs cannot be shorter; with more than two thirds they decode several
    // times as fast, which is worth a few bytes to the coder that is built for it.
    if 3 * most >= len {
        let runs = encode_runs(symbols, commonest, backend);
        let slack = if backend == Backend::Rans && 3 * most >= 2 * len { best.len() / 50 } else { 0 };
        if runs.len() < best.len() + slack {
            best = runs;
        }
    }
    if symbols.len() < best.len() {
        into.push(RAW);
        into.extend_from_slice(symbols);
    } else {
        into.extend_from_slice(&best);
    }
}

fn encode_direct(symbols: &[u8], counts: &[u64; 256], backend: Backend) -> Vec<u8> {
    let tables = EncodeTables::new(backend, [counts, counts]);
    let streams = parallel::map(symbols.chunks(CHUNK).collect(), |chunk| tables.encode(chunk));
    let mut bytes = vec![DIRECT];
    tables.write(1, &mut bytes);
    streams.iter().for_each(|stream| push_varint(&mut bytes, stream.len() as u64));
    streams.iter().for_each(|stream| bytes.extend_from_slice(stream));
    bytes
}

fn encode_runs(symbols: &[u8], run_symbol: u8, backend: Backend) -> Vec<u8> {
    let pairs = parallel::map(symbols.chunks(CHUNK).collect(), |chunk| pairs_of(chunk, run_symbol));
    let (mut runs, mut values) = ([0u64; 256], [0u64; 256]);
    for pair in pairs.iter().flat_map(|chunk| chunk.as_chunks::<2>().0) {
        runs[usize::from(pair[0])] += 1;
        values[usize::from(pair[1])] += 1;
    }
    let tables = EncodeTables::new(backend, [&runs, &values]);
    let streams = parallel::map(pairs, |pairs| (pairs.len() / 2, tables.encode(&pairs)));
    let mut bytes = vec![RUNS, run_symbol];
    tables.write(2, &mut bytes);
    for (pairs, stream) in &streams {
        push_varint(&mut bytes, *pairs as u64);
        push_varint(&mut bytes, stream.len() as u64);
    }
    streams.iter().for_each(|(_, stream)| bytes.extend_from_slice(stream));
    bytes
}

/// Run lengths and the symbols behind them, in turn; the last run of a chunk is left out.
fn pairs_of(symbols: &[u8], run_symbol: u8) -> Vec<u8> {
    let mut pairs = Vec::with_capacity(symbols.len() / 2);
    let mut run = 0;
    for &symbol in symbols {
        if symbol != run_symbol {
            // A filler covers one symbol more than its run: itself.
            while run > MAX_RUN {
                pairs.extend_from_slice(&[MAX_RUN as u8, run_symbol]);
                run -= MAX_RUN + 1;
            }
            pairs.extend_from_slice(&[run as u8, symbol]);
            run = 0;
        } else {
            run += 1;
        }
    }
    pairs
}
