//! What a payload says of one weight before its streams.

use std::fmt;
use std::str::FromStr;

use onnx_dcomp_forms::{DType, Form, FormKind, GridKind, Lattice, Steps};

use crate::reader::{Reader, push_varint};
use crate::{DecodeError, Layout, solid};

/// Which entropy coder made a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Coder {
    /// Canonical Huffman over codes and relative indices, as in Deep Compression: to compare with.
    Huffman,
    /// Static interleaved rANS: decodes at memory speed.
    Fast,
    /// Adaptive binary arithmetic coding with mixed contexts: the fewest bytes.
    Small,
}

impl Coder {
    /// Every coder, in the order of their numbers in the format.
    pub const ALL: [Self; 3] = [Self::Huffman, Self::Fast, Self::Small];

    /// Short lower-case name, as on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Huffman => "huffman",
            Self::Fast => "fast",
            Self::Small => "small",
        }
    }
}

impl fmt::Display for Coder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that no coder has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no coder `{0}`; choose one of huffman, fast, small")]
pub struct UnknownCoder(String);

impl FromStr for Coder {
    type Err = UnknownCoder;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|coder| coder.name() == name).ok_or_else(|| UnknownCoder(name.to_owned()))
    }
}

/// Where the coded elements of a weight are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// In streams of its own, of this many bytes.
    Own(u64),
    /// In the stream that all small weights of the payload share, of this many bytes altogether.
    Shared(u64),
}

/// What a payload says of one weight, without decoding it.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Element type of the decoded values.
    pub dtype: DType,
    /// Dimensions, outermost first.
    pub shape: Vec<usize>,
    /// How the weight is represented.
    pub form: FormKind,
    /// Which coder made its streams.
    pub coder: Coder,
    /// How its elements are arranged for the coder.
    pub layout: Layout,
    /// Number of elements, the product of the shape.
    pub elements: usize,
    /// Where its elements are coded, and in how many bytes.
    pub stream: Stream,
    /// Bytes that the record itself takes.
    pub record_bytes: usize,
    pub(crate) kind: Kind,
    /// Sizes of the streams of its own, in bytes.
    pub(crate) own_streams: Vec<usize>,
}

/// The parameters of a form.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Kind {
    Dense,
    Sparse { stored: usize },
    Codebook { centroids: usize },
    Grid { kind: GridKind, steps: StepsRecord },
}

/// The parameters of [`Steps`]; the exponents are in the stream.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum StepsRecord {
    PerTensor(f32),
    PerChannel { base: f32, inner: usize, channels: usize },
}

const WHAT: &str = "the record of a weight";
const RANK_FOLLOWS: usize = 15;
/// Bits of the number of a lattice; above them stands whether there is a step for each channel.
const LATTICE_BITS: u32 = 2;

/// Number of the form in a record's first byte.
fn form_number(form: &Form) -> u8 {
    match form {
        Form::Dense(_) => 0,
        Form::Sparse(_) => 1,
        Form::Codebook(_) => 2,
        Form::Grid(grid) => {
            let more = if has_channels(grid.steps()) { 2 } else { 0 };
            match grid.kind() {
                GridKind::Uniform => 3 + more,
                GridKind::Trellis => 4 + more,
                GridKind::Lattice { .. } => 7,
            }
        }
    }
}

fn has_channels(steps: &Steps) -> bool {
    matches!(steps, Steps::PerChannel { .. })
}

/// Appends the record of a weight whose own streams have these sizes.
pub(crate) fn write(
    shape: &[usize],
    form: &Form,
    layout: &Layout,
    coder: Coder,
    own_streams: &[usize],
    into: &mut Vec<u8>,
) {
    into.push(form.dtype() as u8 | form_number(form) << 3 | (coder as u8) << 6);
    let rank = shape.len().min(RANK_FOLLOWS);
    into.push(rank as u8 | ((layout.split() - 1) as u8) << 4);
    if rank == RANK_FOLLOWS {
        push_varint(into, shape.len() as u64);
    }
    shape.iter().for_each(|&size| push_varint(into, size as u64));
    match form {
        Form::Dense(_) => {}
        Form::Sparse(sparse) => push_varint(into, sparse.values().len() as u64),
        Form::Codebook(codebook) => push_varint(into, codebook.centroids().len() as u64),
        Form::Grid(grid) => {
            if let GridKind::Lattice { lattice, seed } = grid.kind() {
                into.push(lattice as u8 | u8::from(has_channels(grid.steps())) << LATTICE_BITS);
                push_varint(into, seed);
            }
            write_steps(grid.steps(), into);
        }
    }
    own_streams.iter().for_each(|&size| push_varint(into, size as u64));
}

fn write_steps(steps: &Steps, into: &mut Vec<u8>) {
    match steps {
        Steps::PerTensor(step) => into.extend_from_slice(&step.to_le_bytes()),
        Steps::PerChannel { base, inner, exponents } => {
            into.extend_from_slice(&base.to_le_bytes());
            push_varint(into, *inner as u64);
            push_varint(into, exponents.len() as u64);
        }
    }
}

/// Reads what [`write`] wrote.
///
/// What it allocates is bounded by the bytes that `reader` holds.
pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Record, DecodeError> {
    let before = reader.remaining();
    let first = reader.byte(WHAT)?;
    let dtype = DType::from_number(first & 7).ok_or(DecodeError::Corrupt { what: "an unknown element type" })?;
    let coder = *Coder::ALL.get(usize::from(first >> 6)).ok_or(DecodeError::Corrupt { what: "an unknown coder" })?;
    let second = reader.byte(WHAT)?;
    let shape = read_shape(reader, second & 15)?;
    let elements =
        element_count(&shape).ok_or(DecodeError::Corrupt { what: "a shape exceeds this machine's sizes" })?;
    let layout = Layout::with_split(&shape, usize::from(second >> 4) + 1);
    let kind = read_kind(reader, first >> 3 & 7)?;
    if matches!(kind, Kind::Sparse { stored } if stored > elements) {
        return Err(DecodeError::Corrupt { what: "a sparse weight stores more values than it has elements" });
    }
    let form = match &kind {
        Kind::Dense => FormKind::Dense,
        Kind::Sparse { .. } => FormKind::Sparse,
        Kind::Codebook { .. } => FormKind::Codebook,
        Kind::Grid { kind, .. } => kind.form(),
    };
    let streams = match coder {
        Coder::Huffman | Coder::Fast => 1,
        Coder::Small => solid::own_streams(elements, &layout),
    };
    if streams > reader.remaining() {
        return Err(DecodeError::Truncated { what: WHAT });
    }
    let own_streams = (0..streams).map(|_| reader.size(WHAT)).collect::<Result<Vec<_>, _>>()?;
    let own_bytes = own_streams.iter().fold(0u64, |sum, &size| sum.saturating_add(size as u64));
    let stream = if streams == 0 { Stream::Shared(0) } else { Stream::Own(own_bytes) };
    let record_bytes = before - reader.remaining();
    Ok(Record { dtype, shape, form, coder, layout, elements, stream, record_bytes, kind, own_streams })
}

fn read_shape(reader: &mut Reader<'_>, rank: u8) -> Result<Vec<usize>, DecodeError> {
    let rank = if usize::from(rank) == RANK_FOLLOWS { reader.size(WHAT)? } else { usize::from(rank) };
    if rank > reader.remaining() {
        return Err(DecodeError::Truncated { what: WHAT });
    }
    (0..rank).map(|_| reader.size(WHAT)).collect()
}

fn read_kind(reader: &mut Reader<'_>, number: u8) -> Result<Kind, DecodeError> {
    let grid = |kind, steps| Kind::Grid { kind, steps };
    Ok(match number {
        0 => Kind::Dense,
        1 => Kind::Sparse { stored: reader.size(WHAT)? },
        2 => Kind::Codebook { centroids: reader.size(WHAT)? },
        3 => grid(GridKind::Uniform, StepsRecord::PerTensor(reader.f32(WHAT)?)),
        4 => grid(GridKind::Trellis, StepsRecord::PerTensor(reader.f32(WHAT)?)),
        5 => grid(GridKind::Uniform, read_channels(reader)?),
        6 => grid(GridKind::Trellis, read_channels(reader)?),
        7 => {
            let byte = reader.byte(WHAT)?;
            let lattice = *Lattice::ALL
                .get(usize::from(byte & ((1 << LATTICE_BITS) - 1)))
                .ok_or(DecodeError::Corrupt { what: "an unknown lattice" })?;
            let kind = GridKind::Lattice { lattice, seed: reader.varint(WHAT)? };
            match byte >> LATTICE_BITS {
                0 => grid(kind, StepsRecord::PerTensor(reader.f32(WHAT)?)),
                1 => grid(kind, read_channels(reader)?),
                _ => return Err(DecodeError::Corrupt { what: "an unknown lattice" }),
            }
        }
        _ => return Err(DecodeError::Corrupt { what: "an unknown form" }),
    })
}

fn read_channels(reader: &mut Reader<'_>) -> Result<StepsRecord, DecodeError> {
    Ok(StepsRecord::PerChannel { base: reader.f32(WHAT)?, inner: reader.size(WHAT)?, channels: reader.size(WHAT)? })
}

/// The product of `shape`, where it fits this machine's sizes.
pub(crate) fn element_count(shape: &[usize]) -> Option<usize> {
    if shape.contains(&0) {
        return Some(0);
    }
    shape.iter().try_fold(1usize, |product, &size| product.checked_mul(size))
}

impl Record {
    /// Entries that the streams of this weight yield: elements, and those of its side table.
    pub(crate) fn entries(&self) -> u64 {
        let table = match &self.kind {
            Kind::Codebook { centroids } => *centroids,
            Kind::Grid { steps: StepsRecord::PerChannel { channels, .. }, .. } => *channels,
            _ => 0,
        };
        (self.elements as u64).saturating_add(table as u64)
    }

    /// Bytes of the decoded values.
    pub fn decoded_bytes(&self) -> u64 {
        (self.elements as u64).saturating_mul(self.dtype.element_bytes() as u64)
    }
}
