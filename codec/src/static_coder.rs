//! Forms as planes: what `huffman` and `fast` share.

use onnx_dcomp_forms::{Codebook, DType, Form, Grid, GridKind, Mask, Sparse, Steps, Values, trellis};

use crate::numbers::{self, Numbers};
use crate::plane::{self, Backend, Plane};
use crate::reader::Reader;
use crate::record::{Kind, Record, StepsRecord};
use crate::{DecodeError, floats};

/// Appends the planes of `form`: side tables first, then the elements.
pub(crate) fn encode(form: &Form, backend: Backend, into: &mut Vec<u8>) {
    match form {
        Form::Dense(values) => floats::encode(values, backend, into),
        Form::Sparse(sparse) => {
            let mask = sparse.mask();
            let symbols: Vec<u8> = (0..mask.len()).map(|index| u8::from(mask.get(index))).collect();
            plane::encode(&symbols, backend, into);
            floats::encode(sparse.values(), backend, into);
        }
        Form::Codebook(codebook) => {
            floats::encode(codebook.centroids(), backend, into);
            numbers::encode(codebook.codes(), backend, into);
        }
        Form::Grid(grid) => {
            if let Steps::PerChannel { exponents, .. } = grid.steps() {
                let symbols: Vec<u8> = exponents.iter().map(|&exponent| exponent as u8).collect();
                plane::encode(&symbols, backend, into);
            }
            numbers::encode(grid.levels(), backend, into);
        }
    }
}

/// The planes of one weight, read and not yet decoded.
enum Parts<'a> {
    Dense(Values),
    Sparse { mask: Plane<'a>, values: Values },
    Codebook { centroids: Values, codes: Numbers<'a> },
    Grid { steps: Steps, kind: GridKind, levels: Numbers<'a> },
}

impl<'a> Parts<'a> {
    fn read(stream: &'a [u8], record: &Record, backend: Backend) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(stream);
        let (len, dtype) = (record.elements, record.dtype);
        let parts = match &record.kind {
            Kind::Dense => Self::Dense(floats::decode(&mut reader, dtype, len, backend)?),
            Kind::Sparse { stored } => {
                let mask = Plane::read(&mut reader, len, backend)?;
                if mask.largest_symbol() > 1 {
                    return Err(DecodeError::Corrupt { what: "a mask holds something else than 0 and 1" });
                }
                Self::Sparse { mask, values: floats::decode(&mut reader, dtype, *stored, backend)? }
            }
            Kind::Codebook { centroids } => {
                let table = floats::decode(&mut reader, dtype, *centroids, backend)?;
                let allowed = 0..=i32::try_from(*centroids).unwrap_or(i32::MAX) - 1;
                Self::Codebook { centroids: table, codes: Numbers::read(&mut reader, len, backend, allowed)? }
            }
            Kind::Grid { kind, steps } => {
                let steps = match steps {
                    StepsRecord::PerTensor(step) => Steps::PerTensor(*step),
                    StepsRecord::PerChannel { base, inner, channels } => {
                        let plane = Plane::read(&mut reader, *channels, backend)?;
                        let exponents = plane.decode(&numbers::table(|symbol| symbol as i8))?;
                        Steps::PerChannel { base: *base, inner: *inner, exponents }
                    }
                };
                let allowed = i32::from(i16::MIN)..=i32::from(i16::MAX);
                Self::Grid { steps, kind: *kind, levels: Numbers::read(&mut reader, len, backend, allowed)? }
            }
        };
        if reader.take_all().iter().any(|&byte| byte != 0) {
            return Err(DecodeError::Corrupt { what: "a weight's stream goes on behind its last plane" });
        }
        Ok(parts)
    }

    fn into_form(self, dtype: DType) -> Result<Form, DecodeError> {
        match self {
            Self::Dense(values) => Ok(Form::Dense(values)),
            Self::Sparse { mask, values } => {
                let mask = mask.decode(&numbers::table(|symbol| symbol))?;
                let mask = Mask::from_fn(mask.len(), |index| mask[index] != 0);
                let sparse = Sparse::new(mask, values).map_err(|_| DecodeError::BAD_MASK)?;
                Ok(Form::Sparse(sparse))
            }
            Self::Codebook { centroids, codes } => {
                let codebook = Codebook::new(codes.decode(|code| u16::try_from(code).ok())?, centroids)
                    .map_err(|_| DecodeError::BAD_CODE)?;
                Ok(Form::Codebook(codebook))
            }
            Self::Grid { steps, kind, levels } => {
                let levels = levels.decode(|level| i16::try_from(level).ok())?;
                let grid = Grid::new(levels, steps, kind, dtype).map_err(|_| DecodeError::BAD_STEP)?;
                Ok(Form::Grid(grid))
            }
        }
    }
}

/// Decodes the weight of `record` from its stream.
pub(crate) fn decode_form(stream: &[u8], record: &Record, backend: Backend) -> Result<Form, DecodeError> {
    Parts::read(stream, record, backend)?.into_form(record.dtype)
}

/// Decodes the dense values of `record` from its stream: straight to values where each symbol stands for one value.
pub(crate) fn decode_dense(stream: &[u8], record: &Record, backend: Backend) -> Result<Values, DecodeError> {
    let parts = Parts::read(stream, record, backend)?;
    let dtype = record.dtype;
    match &parts {
        Parts::Codebook { centroids, codes } => {
            if let Some((plane, base)) = codes.narrow() {
                let element = |symbol: u8, into: &mut [u8]| {
                    let code = base as usize + usize::from(symbol);
                    if code < centroids.len() {
                        into.copy_from_slice(centroids.slice(code, code + 1).bytes());
                    }
                };
                return decode_elements(plane, dtype, element);
            }
        }
        Parts::Grid { steps: steps @ Steps::PerTensor(_), kind: GridKind::Uniform, levels } => {
            if let Some((plane, base)) = levels.narrow() {
                // Checks the step as well.
                let at = |symbol: u8| i16::try_from(base + i32::from(symbol)).unwrap_or_default();
                let table = Grid::new(numbers::table(at).to_vec(), steps.clone(), GridKind::Uniform, dtype)
                    .map_err(|_| DecodeError::BAD_STEP)?;
                let table = Form::Grid(table).dense();
                let element = |symbol: u8, into: &mut [u8]| {
                    into.copy_from_slice(table.slice(usize::from(symbol), usize::from(symbol) + 1).bytes());
                };
                return decode_elements(plane, dtype, element);
            }
        }
        Parts::Grid { steps: steps @ Steps::PerTensor(step), kind: GridKind::Trellis, levels } => {
            if let Some((plane, base)) = levels.narrow() {
                // Checks the step.
                Grid::new(Vec::new(), steps.clone(), GridKind::Trellis, dtype).map_err(|_| DecodeError::BAD_STEP)?;
                return decode_trellis(plane, base, *step, dtype);
            }
        }
        _ => {}
    }
    Ok(parts.into_form(dtype)?.dense())
}

/// Decodes the levels of a trellis grid, `base` and its symbols, straight to values.
fn decode_trellis(plane: &Plane<'_>, base: i32, step: f32, dtype: DType) -> Result<Values, DecodeError> {
    let level = |symbol: u8| i16::try_from(base + i32::from(symbol)).unwrap_or_default();
    // An odd state is any state that multiplies as odd ones do.
    let values: Vec<f32> = [trellis::START, trellis::START | 1]
        .into_iter()
        .flat_map(|state| (0..=255).map(move |symbol| trellis::multiple(state, level(symbol)) as f32 * step))
        .collect();
    let table = Values::from_f32(dtype, &values);
    let bytes = match dtype.element_bytes() {
        1 => trellis_sized::<1>(plane, base, table.bytes())?,
        2 => trellis_sized::<2>(plane, base, table.bytes())?,
        4 => trellis_sized::<4>(plane, base, table.bytes())?,
        _ => trellis_sized::<8>(plane, base, table.bytes())?,
    };
    Values::new(dtype, bytes).map_err(|_| DecodeError::RAGGED)
}

/// [`trellis::NEXT`] with four bits for each entry, in one register: each element waits for the state before it.
const NEXT_STATES: u64 = {
    let (mut packed, mut at) = (0, 0);
    while at < 16 {
        packed |= (trellis::NEXT[at / 2][at % 2] as u64) << (4 * at);
        at += 1;
    }
    packed
};

/// `table` holds what each symbol stands for in an even state, then in an odd one.
fn trellis_sized<const SIZE: usize>(plane: &Plane<'_>, base: i32, table: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let mut values = [[0u8; SIZE]; 512];
    values.iter_mut().zip(table.as_chunks::<SIZE>().0).for_each(|(value, &bytes)| *value = bytes);
    let size = plane.len().checked_mul(SIZE).ok_or(DecodeError::TOO_LONG)?;
    let symbols = plane.symbols(&numbers::table(|symbol| symbol))?;
    let mut bytes = vec![0u8; size];
    let mut state = u64::from(trellis::START);
    for (value, &symbol) in bytes.as_chunks_mut::<SIZE>().0.iter_mut().zip(&symbols[..]) {
        *value = values[((state & 1) << 8) as usize | usize::from(symbol)];
        state = NEXT_STATES >> (state << 3 | ((u64::from(symbol) ^ base as u64) & 1) << 2) & 7;
    }
    Ok(bytes)
}

/// Decodes a plane whose every symbol stands for one value; `element` writes the bytes of that value.
fn decode_elements(plane: &Plane<'_>, dtype: DType, element: impl Fn(u8, &mut [u8])) -> Result<Values, DecodeError> {
    let bytes = match dtype.element_bytes() {
        1 => decode_sized::<1>(plane, element)?,
        2 => decode_sized::<2>(plane, element)?,
        4 => decode_sized::<4>(plane, element)?,
        _ => decode_sized::<8>(plane, element)?,
    };
    Values::new(dtype, bytes).map_err(|_| DecodeError::RAGGED)
}

fn decode_sized<const SIZE: usize>(plane: &Plane<'_>, element: impl Fn(u8, &mut [u8])) -> Result<Vec<u8>, DecodeError> {
    let table = numbers::table(|symbol| {
        let mut bytes = [0u8; SIZE];
        element(symbol, &mut bytes);
        bytes
    });
    let size = plane.len().checked_mul(SIZE).ok_or(DecodeError::TOO_LONG)?;
    let mut bytes = vec![0u8; size];
    plane.decode_into(&table, bytes.as_chunks_mut::<SIZE>().0)?;
    Ok(bytes)
}
