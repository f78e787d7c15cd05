//! Forms in the streams of the coder `small`.
//!
//! Weights of at most [`CHUNK`] elements share one stream, in which what one weight taught serves the next. A larger
//! weight has streams of its own, which are decoded in parallel: one for its side table, and one for each chunk.

use std::ops::Range;

use onnx_dcomp_forms::{Codebook, DType, Form, Grid, GridKind, Mask, Sparse, Steps, Values};

use crate::record::{Kind, Record, StepsRecord};
use crate::small::{Decoder, Encoder};
use crate::{DecodeError, Layout, parallel};

/// The most elements of a weight in the shared stream, and about the number in a chunk of a larger one.
pub(crate) const CHUNK: usize = 1 << 20;

/// Number of streams that a weight of so many elements has for itself.
pub(crate) fn own_streams(elements: usize, layout: &Layout) -> usize {
    if elements <= CHUNK { 0 } else { 1 + elements.div_ceil(chunk_elements(layout)) }
}

/// Number of elements in each chunk but the last: whole rows, unless a row is longer than a chunk.
fn chunk_elements(layout: &Layout) -> usize {
    match layout.row_length() {
        row_length @ 1..=CHUNK => CHUNK / row_length * row_length,
        _ => CHUNK,
    }
}

/// The chunks of a weight, each with a layout of its own.
fn chunks(elements: usize, layout: &Layout) -> Vec<(Range<usize>, Layout)> {
    let size = chunk_elements(layout);
    let chunk = |start| start..elements.min(start + size);
    (0..elements).step_by(size).map(chunk).map(|range| (range.clone(), layout.part(range.len()))).collect()
}

/// Appends `form` to the shared stream.
pub(crate) fn encode_shared(form: &Form, layout: &Layout, encoder: &mut Encoder) {
    encode_table(form, encoder);
    encode_elements(form, 0..form.len(), layout, encoder);
}

/// The streams of a large weight: its side table (nothing where it has none), then its chunks.
pub(crate) fn encode_own(form: &Form, layout: &Layout) -> Vec<Vec<u8>> {
    let mut table = Encoder::new();
    let table = if encode_table(form, &mut table) { table.finish() } else { Vec::new() };
    let streams = parallel::map(chunks(form.len(), layout), |(range, layout)| {
        let mut encoder = Encoder::new();
        encode_elements(form, range, &layout, &mut encoder);
        encoder.finish()
    });
    std::iter::once(table).chain(streams).collect()
}

/// Appends the side table of `form`; false where it has none.
fn encode_table(form: &Form, encoder: &mut Encoder) -> bool {
    match form {
        Form::Codebook(codebook) => encoder.sorted_floats(codebook.centroids()),
        Form::Grid(grid) => match grid.steps() {
            Steps::PerChannel { exponents, .. } => {
                let exponents: Vec<i16> = exponents.iter().map(|&exponent| exponent.into()).collect();
                encoder.levels(&exponents, &Layout::new(&[exponents.len()], None), GridKind::Uniform, 0);
            }
            Steps::PerTensor(_) => return false,
        },
        Form::Dense(_) | Form::Sparse(_) => return false,
    }
    true
}

/// Appends the elements of `form` in `range`, which lie as `layout` says.
fn encode_elements(form: &Form, range: Range<usize>, layout: &Layout, encoder: &mut Encoder) {
    match form {
        Form::Dense(values) => {
            let values = values.slice(range.start, range.end);
            match values.dtype() {
                DType::I8 | DType::U8 => encoder.levels(&integers(&values), layout, GridKind::Uniform, 0),
                _ => encoder.floats(&values),
            }
        }
        Form::Sparse(sparse) => {
            let mask = sparse.mask();
            let first = (0..range.start).filter(|&index| mask.get(index)).count();
            let mask = Mask::from_fn(range.len(), |index| mask.get(range.start + index));
            encoder.mask(&mask, layout);
            encoder.floats(&sparse.values().slice(first, first + mask.count()));
        }
        Form::Codebook(codebook) => encoder.codes(&codebook.codes()[range], codebook.centroids(), layout),
        Form::Grid(grid) => encoder.levels(&grid.levels()[range.clone()], layout, grid.kind(), range.start),
    }
}

/// Integers as levels around zero, where the coder learns best: unsigned ones are centred on 128.
fn integers(values: &Values) -> Vec<i16> {
    let centre = if values.dtype() == DType::U8 { 128 } else { 0 };
    values
        .bytes()
        .iter()
        .map(|&byte| if centre == 0 { i16::from(byte as i8) } else { i16::from(byte) - centre })
        .collect()
}

/// What [`integers`] made levels of.
fn from_integers(levels: &[i16], dtype: DType) -> Result<Values, DecodeError> {
    const OUTSIDE: DecodeError = DecodeError::Corrupt { what: "an integer is outside the range of its type" };
    let byte = |&level: &i16| match dtype {
        DType::U8 => u8::try_from(i32::from(level) + 128).map_err(|_| OUTSIDE),
        _ => i8::try_from(level).map(|level| level as u8).map_err(|_| OUTSIDE),
    };
    let bytes = levels.iter().map(byte).collect::<Result<Vec<u8>, _>>()?;
    Values::new(dtype, bytes).map_err(|_| DecodeError::RAGGED)
}

/// The side table of a form.
enum Table {
    None,
    Centroids(Values),
    Exponents(Vec<i8>),
}

/// Some elements of a form.
enum Elements {
    Values(Values),
    Masked(Mask, Values),
    Codes(Vec<u16>),
    Levels(Vec<i16>),
}

/// Reads the weight of `record` from the shared stream.
pub(crate) fn decode_shared(record: &Record, decoder: &mut Decoder<'_>) -> Result<Form, DecodeError> {
    let table = decode_table(record, decoder)?;
    let elements = decode_elements(record, &table, 0..record.elements, &record.layout, decoder)?;
    join(record, table, vec![elements])
}

/// Reads the large weight of `record` from its streams.
pub(crate) fn decode_own(record: &Record, streams: &[&[u8]]) -> Result<Form, DecodeError> {
    let Some((table, streams)) = streams.split_first() else {
        return Err(DecodeError::Truncated { what: "the streams of a weight" });
    };
    let table = decode_table(record, &mut Decoder::new(table))?;
    let jobs = chunks(record.elements, &record.layout).into_iter().zip(streams).collect();
    let elements = parallel::try_map(jobs, |((range, layout), stream): ((Range<usize>, Layout), &&[u8])| {
        decode_elements(record, &table, range, &layout, &mut Decoder::new(stream))
    })?;
    join(record, table, elements)
}

fn decode_table(record: &Record, decoder: &mut Decoder<'_>) -> Result<Table, DecodeError> {
    Ok(match &record.kind {
        Kind::Codebook { centroids } => Table::Centroids(decoder.sorted_floats(*centroids, record.dtype)?),
        Kind::Grid { steps: StepsRecord::PerChannel { channels, .. }, .. } => {
            let exponents = decoder.levels(*channels, &Layout::new(&[*channels], None), GridKind::Uniform, 0)?;
            let narrow = exponents.iter().map(|&exponent| i8::try_from(exponent)).collect::<Result<Vec<_>, _>>();
            Table::Exponents(narrow.map_err(|_| DecodeError::Corrupt { what: "a channel's exponent exceeds 8 bits" })?)
        }
        _ => Table::None,
    })
}

fn decode_elements(
    record: &Record,
    table: &Table,
    range: Range<usize>,
    layout: &Layout,
    decoder: &mut Decoder<'_>,
) -> Result<Elements, DecodeError> {
    let count = range.len();
    Ok(match (&record.kind, table) {
        (Kind::Sparse { .. }, _) => {
            let mask = decoder.mask(count, layout)?;
            let values = decoder.floats(mask.count(), record.dtype)?;
            Elements::Masked(mask, values)
        }
        (Kind::Codebook { .. }, Table::Centroids(centroids)) => {
            Elements::Codes(decoder.codes(count, centroids, layout)?)
        }
        (Kind::Grid { kind, .. }, _) => Elements::Levels(decoder.levels(count, layout, *kind, range.start)?),
        _ if record.dtype.is_float() => Elements::Values(decoder.floats(count, record.dtype)?),
        _ => Elements::Values(from_integers(&decoder.levels(count, layout, GridKind::Uniform, 0)?, record.dtype)?),
    })
}

/// Joins the chunks of a weight, and these with their side table.
fn join(record: &Record, table: Table, parts: Vec<Elements>) -> Result<Form, DecodeError> {
    const ODD: DecodeError = DecodeError::Corrupt { what: "the parts of a weight do not fit together" };
    let (mut values, mut codes, mut levels, mut masks) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for part in parts {
        match part {
            Elements::Values(part) => values.push(part),
            Elements::Masked(mask, part) => {
                masks.push(mask);
                values.push(part);
            }
            Elements::Codes(part) => codes.push(part),
            Elements::Levels(part) => levels.push(part),
        }
    }
    match (&record.kind, table) {
        (Kind::Dense, _) => Ok(Form::Dense(concatenate(record.dtype, values)?)),
        (Kind::Sparse { stored }, _) => {
            let values = concatenate(record.dtype, values)?;
            if values.len() != *stored {
                return Err(DecodeError::BAD_MASK);
            }
            let mut bits = masks.iter().flat_map(|mask| (0..mask.len()).map(|index| mask.get(index)));
            let mask = Mask::from_fn(record.elements, |_| bits.next().unwrap_or(false));
            Ok(Form::Sparse(Sparse::new(mask, values).map_err(|_| ODD)?))
        }
        (Kind::Codebook { .. }, Table::Centroids(centroids)) => {
            let codebook = Codebook::new(flatten(codes), centroids);
            Ok(Form::Codebook(codebook.map_err(|_| DecodeError::BAD_CODE)?))
        }
        (Kind::Grid { kind, steps }, table) => {
            let steps = match (steps, table) {
                (StepsRecord::PerTensor(step), _) => Steps::PerTensor(*step),
                (StepsRecord::PerChannel { base, inner, .. }, Table::Exponents(exponents)) => {
                    Steps::PerChannel { base: *base, inner: *inner, exponents }
                }
                _ => return Err(ODD),
            };
            let grid = Grid::new(flatten(levels), steps, *kind, record.dtype);
            Ok(Form::Grid(grid.map_err(|_| DecodeError::BAD_STEP)?))
        }
        _ => Err(ODD),
    }
}

/// The only part as it is, several in one.
fn flatten<T: Clone>(mut parts: Vec<Vec<T>>) -> Vec<T> {
    if parts.len() == 1 { parts.swap_remove(0) } else { parts.concat() }
}

fn concatenate(dtype: DType, mut parts: Vec<Values>) -> Result<Values, DecodeError> {
    if parts.len() == 1 {
        return Ok(parts.swap_remove(0));
    }
    let bytes: Vec<&[u8]> = parts.iter().map(|part| &part.bytes()[..]).collect();
    Values::new(dtype, bytes.concat()).map_err(|_| DecodeError::RAGGED)
}
