//! The payload: header, records, streams, checksum. Specified in `FORMAT.md`.

use onnx_dcomp_forms::{Form, Values};

use crate::plane::Backend;
use crate::reader::{Reader, push_varint};
use crate::record::{self, Coder, Record, Stream};
use crate::small::{Decoder, Encoder};
use crate::{DecodeError, EncodeError, Layout, parallel, solid, static_coder};

/// The first bytes of every payload.
pub const MAGIC: [u8; 2] = [0xDC, 0x0D];
/// The version of the format that is written, and the newest that is read.
pub const FORMAT_VERSION: u8 = 1;
/// The most entries (elements, centroids, channels) for each byte of stream. Encoders append zeros to keep to it.
pub const MAX_EXPANSION: u64 = 1 << 16;
const CHECKSUM_BYTES: usize = 4;

/// A weight to encode.
#[derive(Debug, Clone, Copy)]
pub struct Tensor<'a> {
    /// Dimensions, outermost first.
    pub shape: &'a [usize],
    /// The values.
    pub form: &'a Form,
    /// How the elements are arranged, made for the same shape.
    pub layout: Layout,
}

/// A decoded weight.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoded {
    /// Dimensions, outermost first.
    pub shape: Vec<usize>,
    /// The dense values.
    pub values: Values,
}

/// How much a decoder may produce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The most bytes of dense values, all weights of a payload together. Default: 16 GiB.
    pub max_decoded_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_decoded_bytes: 16 << 30 }
    }
}

/// Encodes weights into one payload.
///
/// The bytes do not depend on the number of threads.
///
/// # Errors
/// Where a shape, a form and a layout do not belong together.
pub fn encode(tensors: &[Tensor<'_>], coder: Coder) -> Result<Vec<u8>, EncodeError> {
    for (index, tensor) in tensors.iter().enumerate() {
        let shape = || tensor.shape.to_vec();
        if record::element_count(tensor.shape) != Some(tensor.form.len()) {
            return Err(EncodeError::ShapeMismatch { index, shape: shape(), elements: tensor.form.len() });
        }
        if tensor.layout != Layout::with_split(tensor.shape, tensor.layout.split()) {
            return Err(EncodeError::LayoutMismatch { index, shape: shape() });
        }
    }
    let streams = parallel::map(tensors.to_vec(), |tensor| own_streams(&tensor, coder));
    let mut payload = MAGIC.to_vec();
    payload.push(FORMAT_VERSION);
    push_varint(&mut payload, tensors.len() as u64);
    for (tensor, streams) in tensors.iter().zip(&streams) {
        let sizes: Vec<usize> = streams.iter().map(Vec::len).collect();
        record::write(tensor.shape, tensor.form, &tensor.layout, coder, &sizes, &mut payload);
    }
    streams.iter().flatten().for_each(|stream| payload.extend_from_slice(stream));
    payload.extend_from_slice(&shared_stream(tensors, coder));
    let checksum = crc32fast::hash(&payload);
    payload.extend_from_slice(&checksum.to_le_bytes());
    Ok(payload)
}

/// The streams that `tensor` has for itself.
fn own_streams(tensor: &Tensor<'_>, coder: Coder) -> Vec<Vec<u8>> {
    let mut streams = match coder {
        Coder::Huffman | Coder::Fast => {
            let mut stream = Vec::new();
            static_coder::encode(tensor.form, backend(coder), &mut stream);
            vec![stream]
        }
        Coder::Small if solid::own_streams(tensor.form.len(), &tensor.layout) == 0 => Vec::new(),
        Coder::Small => solid::encode_own(tensor.form, &tensor.layout),
    };
    let bytes: usize = streams.iter().map(Vec::len).sum();
    if let Some(last) = streams.last_mut() {
        pad(last, bytes, entries(tensor.form));
    }
    streams
}

/// The stream that all small weights of the coder `small` share.
fn shared_stream(tensors: &[Tensor<'_>], coder: Coder) -> Vec<u8> {
    let shared = tensors
        .iter()
        .filter(|tensor| coder == Coder::Small && solid::own_streams(tensor.form.len(), &tensor.layout) == 0);
    let (mut encoder, mut all_entries) = (Encoder::new(), 0);
    for tensor in shared {
        all_entries += entries(tensor.form);
        solid::encode_shared(tensor.form, &tensor.layout, &mut encoder);
    }
    if all_entries == 0 {
        return Vec::new();
    }
    let mut stream = encoder.finish();
    let bytes = stream.len();
    pad(&mut stream, bytes, all_entries);
    stream
}

/// Appends zeros to `stream` until `bytes` and they suffice for so many entries.
fn pad(stream: &mut Vec<u8>, bytes: usize, entries: u64) {
    let missing = entries.div_ceil(MAX_EXPANSION).saturating_sub(bytes as u64);
    stream.resize(stream.len() + missing as usize, 0);
}

/// Number of elements, and of entries of the side table.
fn entries(form: &Form) -> u64 {
    let table = match form {
        Form::Dense(_) | Form::Sparse(_) => 0,
        Form::Codebook(codebook) => codebook.centroids().len(),
        Form::Grid(grid) => match grid.steps() {
            onnx_dcomp_forms::Steps::PerTensor(_) => 0,
            onnx_dcomp_forms::Steps::PerChannel { exponents, .. } => exponents.len(),
        },
    };
    form.len() as u64 + table as u64
}

fn backend(coder: Coder) -> Backend {
    if coder == Coder::Huffman { Backend::Huffman } else { Backend::Rans }
}

/// Decodes the weights of a payload to dense values, in the order in which they were encoded.
///
/// # Errors
/// [`DecodeError`]: anything that a sound payload does not have, before memory is allocated for it.
pub fn decode(payload: &[u8], limits: &Limits) -> Result<Vec<Decoded>, DecodeError> {
    let dense = |form: Form| form.dense();
    let weights = decode_each(payload, limits, static_coder::decode_dense, dense)?;
    Ok(weights.into_iter().map(|(shape, values)| Decoded { shape, values }).collect())
}

/// Decodes the weights of a payload to their forms, in the order in which they were encoded.
///
/// # Errors
/// As [`decode`].
pub fn decode_forms(payload: &[u8], limits: &Limits) -> Result<Vec<(Vec<usize>, Form)>, DecodeError> {
    decode_each(payload, limits, static_coder::decode_form, |form| form)
}

/// Reads what a payload says of its weights, and decodes none.
///
/// # Errors
/// As [`decode`], as far as header, records and checksum tell.
pub fn inspect(payload: &[u8]) -> Result<Vec<Record>, DecodeError> {
    Ok(Payload::read(payload)?.records)
}

/// A payload taken apart.
struct Payload<'a> {
    records: Vec<Record>,
    /// The own streams of each weight.
    streams: Vec<Vec<&'a [u8]>>,
    shared: &'a [u8],
}

impl<'a> Payload<'a> {
    fn read(payload: &'a [u8]) -> Result<Self, DecodeError> {
        let Some(rest) = payload.strip_prefix(&MAGIC) else { return Err(DecodeError::NotAPayload) };
        let Some((_, checksum)) = rest.split_last_chunk::<CHECKSUM_BYTES>() else {
            return Err(DecodeError::Truncated { what: "the header" });
        };
        let (expected, found) =
            (u32::from_le_bytes(*checksum), crc32fast::hash(&payload[..payload.len() - CHECKSUM_BYTES]));
        if expected != found {
            return Err(DecodeError::Checksum { expected, found });
        }
        let mut reader = Reader::new(&rest[..rest.len() - CHECKSUM_BYTES]);
        let version = reader.byte("the header")?;
        if version > FORMAT_VERSION {
            return Err(DecodeError::NewerVersion { found: version, supported: FORMAT_VERSION });
        }
        if version == 0 {
            return Err(DecodeError::Corrupt { what: "there is no format version 0" });
        }
        Self::read_weights(reader)
    }

    fn read_weights(mut reader: Reader<'a>) -> Result<Self, DecodeError> {
        const MIN_RECORD_BYTES: usize = 2;
        let count = reader.size("the header")?;
        if count > reader.remaining() / MIN_RECORD_BYTES {
            return Err(DecodeError::Truncated { what: "the records" });
        }
        let mut records = Vec::with_capacity(count);
        for index in 0..count {
            records.push(record::read(&mut reader).map_err(|source| in_weight(index, source))?);
        }
        let mut streams = Vec::with_capacity(count);
        for (index, record) in records.iter().enumerate() {
            let own: Result<Vec<_>, _> =
                record.own_streams.iter().map(|&size| reader.take(size, "the streams of a weight")).collect();
            streams.push(own.map_err(|source| in_weight(index, source))?);
            if let Stream::Own(bytes) = record.stream {
                check_expansion(record.entries(), bytes).map_err(|source| in_weight(index, source))?;
            }
        }
        let shared = reader.take_all();
        let mut shared_entries = 0u64;
        for record in &mut records {
            if let Stream::Shared(bytes) = &mut record.stream {
                *bytes = shared.len() as u64;
                shared_entries = shared_entries.saturating_add(record.entries());
            }
        }
        check_expansion(shared_entries, shared.len() as u64)?;
        Ok(Self { records, streams, shared })
    }
}

/// Whether the system would give so many bytes: a payload may declare them honestly, and memory that is asked for in
/// passing and not there ends the program.
fn memory_holds(bytes: u64) -> bool {
    let mut asked: Vec<u8> = Vec::new();
    usize::try_from(bytes).is_ok_and(|bytes| asked.try_reserve_exact(bytes).is_ok())
}

fn check_expansion(elements: u64, stream_bytes: u64) -> Result<(), DecodeError> {
    let limit = stream_bytes.saturating_mul(MAX_EXPANSION);
    if elements > limit {
        return Err(DecodeError::Expansion { elements, stream_bytes, limit });
    }
    Ok(())
}

fn in_weight(index: usize, source: DecodeError) -> DecodeError {
    DecodeError::Weight { index, source: Box::new(source) }
}

/// Weights that are decoded one after the other.
enum Job {
    Own(usize),
    Shared(Vec<usize>),
}

/// Decodes every weight, with `from_planes` where it has planes, through `from_form` where it has a form.
fn decode_each<T: Send>(
    payload: &[u8],
    limits: &Limits,
    from_planes: impl Fn(&[u8], &Record, Backend) -> Result<T, DecodeError> + Sync + Send,
    from_form: impl Fn(Form) -> T + Sync + Send,
) -> Result<Vec<(Vec<usize>, T)>, DecodeError> {
    let Payload { records, streams, shared } = Payload::read(payload)?;
    let declared = records.iter().fold(0u64, |sum, record| sum.saturating_add(record.decoded_bytes()));
    if declared > limits.max_decoded_bytes {
        return Err(DecodeError::TooLarge { declared, limit: limits.max_decoded_bytes });
    }
    if !memory_holds(declared) {
        return Err(DecodeError::OutOfMemory { declared });
    }
    let (in_shared, own): (Vec<usize>, Vec<usize>) =
        (0..records.len()).partition(|&index| matches!(records[index].stream, Stream::Shared(_)));
    let shared_job = (!in_shared.is_empty()).then_some(Job::Shared(in_shared));
    let jobs = shared_job.into_iter().chain(own.into_iter().map(Job::Own)).collect();
    let decode_own = |index: usize| {
        let record = &records[index];
        match (record.coder, &streams[index][..]) {
            (Coder::Small, streams) => Ok(from_form(solid::decode_own(record, streams)?)),
            (coder, [stream]) => from_planes(stream, record, backend(coder)),
            _ => Err(DecodeError::Corrupt { what: "a weight lacks its stream" }),
        }
    };
    let done = parallel::try_map(jobs, |job| match job {
        Job::Own(index) => Ok(vec![(index, decode_own(index).map_err(|source| in_weight(index, source))?)]),
        Job::Shared(indices) => {
            let mut decoder = Decoder::new(shared);
            let decode = |index: usize| {
                let form = solid::decode_shared(&records[index], &mut decoder);
                Ok((index, from_form(form.map_err(|source| in_weight(index, source))?)))
            };
            indices.into_iter().map(decode).collect::<Result<Vec<_>, _>>()
        }
    })?;
    let mut done: Vec<(usize, T)> = done.into_iter().flatten().collect();
    done.sort_by_key(|entry| entry.0);
    Ok(done.into_iter().zip(records).map(|((_, weight), record)| (record.shape, weight)).collect())
}
