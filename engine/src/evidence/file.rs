//! Evidence in a file, to be used again.
//!
//! The file is in the format of [safetensors](https://github.com/huggingface/safetensors), so that other programs can
//! look into it: means and blocks of second moments as tensors of `f32`, sensitivities as one of `f64`, and the rest as
//! JSON under one entry of the metadata. It holds the evidence of one compilation: more than one piece where layers
//! change on the way. A digest over all of it tells damage from evidence.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::Path;
use std::sync::Arc;

use onnx_dcomp_ir::{Evidence, MomentBlock, SecondMoment};
use safetensors::tensor::{Dtype, SafeTensorError, SafeTensors, View, serialize_to_file};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::key::{EvidenceKey, hexadecimal};

/// Version of the file's layout.
const FORMAT: u32 = 1;

/// Key of the only entry of the metadata.
const METADATA_KEY: &str = "ai.dcomp.evidence";

/// What every such file has behind the length of its header: where it is missing, the file is somebody else's.
const MARK: &[u8] = br#"{"__metadata__":{"ai.dcomp.evidence":"#;

/// Bytes of the length of the header.
const LENGTH_BYTES: usize = 8;

/// Evidence, and what each piece of it was gathered from.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EvidenceFile {
    /// In the order in which it was gathered.
    pub entries: Vec<(EvidenceKey, Arc<Evidence>)>,
}

/// Why a file gives no evidence.
#[derive(Debug, thiserror::Error)]
pub enum EvidenceFileError {
    /// It is something else, which must not be replaced.
    #[error("it is no file of evidence")]
    Foreign,
    /// It was one, or part of one.
    #[error("it is damaged: {0}")]
    Damaged(String),
    /// Another version wrote it.
    #[error("another version of onnx-dcomp wrote it")]
    Version,
}

/// The value of the metadata's entry.
#[derive(Serialize, Deserialize)]
struct Head<E> {
    format: u32,
    /// SHA-256 of `entries` as JSON, followed by the tensors' data, in hexadecimal.
    sha256: String,
    entries: E,
}

/// What of a piece of evidence is no tensor.
#[derive(Serialize, Deserialize)]
struct Entry {
    key: EvidenceKey,
    source: String,
    /// Names of the weights with a sensitivity, in the order of the tensor's elements.
    sensitivity: Vec<String>,
    bias: BTreeMap<String, String>,
    second_moment: BTreeMap<String, Moment>,
}

#[derive(Serialize, Deserialize)]
struct Moment {
    samples: usize,
    /// Number of diagonal blocks, each a tensor.
    blocks: usize,
}

/// Names of the tensors of entry `entry`.
fn sensitivity_name(entry: usize) -> String {
    format!("{entry}/sensitivity")
}

fn mean_name(entry: usize, weight: &str) -> String {
    format!("{entry}/second_moment/{weight}/mean")
}

fn block_name(entry: usize, weight: &str, block: usize) -> String {
    format!("{entry}/second_moment/{weight}/{block}")
}

impl EvidenceFile {
    /// The evidence that was gathered from what `key` says.
    pub fn find(&self, key: &EvidenceKey) -> Option<&Arc<Evidence>> {
        self.entries.iter().find(|(known, _)| known == key).map(|(_, evidence)| evidence)
    }

    /// In what the nearest of the entries differs from `key`, in words; `None` where there is no entry.
    pub fn nearest_differences(&self, key: &EvidenceKey) -> Option<Vec<&'static str>> {
        self.entries.iter().map(|(known, _)| key.differences(known)).min_by_key(Vec::len)
    }

    /// Writes a new file at `path`.
    ///
    /// # Errors
    /// What the system says, where it does not take the file.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        let (mut entries, mut tensors) = (Vec::new(), Vec::new());
        for (number, (key, evidence)) in self.entries.iter().enumerate() {
            let sensitivities: Vec<&f64> = evidence.sensitivity.values().collect();
            let count = [sensitivities.len()];
            tensors.push((sensitivity_name(number), Stored::Sensitivities(sensitivities, count)));
            for (weight, moment) in &evidence.second_moment {
                tensors.push((mean_name(number, weight), Stored::Floats(&moment.mean, vec![moment.mean.len()])));
                for (block_number, block) in moment.blocks.iter().enumerate() {
                    let stored = Stored::Floats(&block.values, vec![block.size; 2]);
                    tensors.push((block_name(number, weight, block_number), stored));
                }
            }
            let moment = |moment: &SecondMoment| Moment { samples: moment.samples, blocks: moment.blocks.len() };
            let moments = evidence.second_moment.iter();
            entries.push(Entry {
                key: key.clone(),
                source: evidence.source.clone(),
                sensitivity: evidence.sensitivity.keys().cloned().collect(),
                bias: evidence.bias.clone(),
                second_moment: moments.map(|(weight, of)| (weight.clone(), moment(of))).collect(),
            });
        }
        let mut hash = hash_of(&entries)?;
        tensors.iter().for_each(|(_, tensor)| hash.update(tensor.data()));
        let head = Head { format: FORMAT, sha256: hexadecimal(&hash.finalize()), entries };
        let metadata = HashMap::from([(METADATA_KEY.to_owned(), serde_json::to_string(&head)?)]);
        serialize_to_file(tensors, Some(metadata), path).map_err(|error| match error {
            SafeTensorError::IoError(source) => source,
            other => io::Error::other(other),
        })
    }

    /// Reads the bytes of a file. Takes no more memory than they do.
    ///
    /// # Errors
    /// [`EvidenceFileError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, EvidenceFileError> {
        if !bytes.get(LENGTH_BYTES..).is_some_and(|header| header.starts_with(MARK)) {
            return Err(EvidenceFileError::Foreign);
        }
        let tensors = SafeTensors::deserialize(bytes).map_err(damaged)?;
        let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(damaged)?;
        let head = metadata.metadata().as_ref().and_then(|metadata| metadata.get(METADATA_KEY));
        let head = head.ok_or(EvidenceFileError::Foreign)?;
        let Head { format, .. } = serde_json::from_str::<Head<serde::de::IgnoredAny>>(head).map_err(damaged)?;
        if format != FORMAT {
            return Err(EvidenceFileError::Version);
        }
        let head: Head<Vec<Entry>> = serde_json::from_str(head).map_err(damaged)?;
        let mut hash = hash_of(&head.entries).map_err(damaged)?;
        let mut reader = Reader { tensors, hash: &mut hash };
        let entries = head.entries.into_iter().enumerate();
        let entries = entries.map(|(number, entry)| reader.entry(number, entry)).collect::<Result<_, _>>()?;
        if hexadecimal(&hash.finalize()) != head.sha256 {
            return Err(damaged("its digest is another one"));
        }
        Ok(Self { entries })
    }
}

fn damaged(reason: impl ToString) -> EvidenceFileError {
    EvidenceFileError::Damaged(reason.to_string())
}

fn hash_of(entries: &[Entry]) -> serde_json::Result<Sha256> {
    Ok(Sha256::new().chain_update(serde_json::to_vec(entries)?))
}

/// A tensor to write.
enum Stored<'a> {
    Floats(&'a [f32], Vec<usize>),
    Sensitivities(Vec<&'a f64>, [usize; 1]),
}

impl View for Stored<'_> {
    fn dtype(&self) -> Dtype {
        match self {
            Self::Floats(..) => Dtype::F32,
            Self::Sensitivities(..) => Dtype::F64,
        }
    }

    fn shape(&self) -> &[usize] {
        match self {
            Self::Floats(_, shape) => shape,
            Self::Sensitivities(_, shape) => shape,
        }
    }

    fn data(&self) -> Cow<'_, [u8]> {
        match self {
            Self::Floats(values, _) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Self::Sensitivities(values, _) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        }
    }

    fn data_len(&self) -> usize {
        match self {
            Self::Floats(values, _) => size_of_val(*values),
            Self::Sensitivities(values, _) => values.len() * size_of::<f64>(),
        }
    }
}

/// Takes tensors out of a file, each of them once.
struct Reader<'a, 'b> {
    tensors: SafeTensors<'a>,
    hash: &'b mut Sha256,
}

impl Reader<'_, '_> {
    fn entry(&mut self, number: usize, entry: Entry) -> Result<(EvidenceKey, Arc<Evidence>), EvidenceFileError> {
        let Entry { key, source, sensitivity: names, bias, second_moment } = entry;
        let (shape, bytes) = self.tensor(&sensitivity_name(number), Dtype::F64)?;
        let values = bytes.as_chunks().0.iter().copied().map(f64::from_le_bytes);
        let sensitivity: BTreeMap<String, f64> = names.into_iter().zip(values).collect();
        if shape != [sensitivity.len()] || !sensitivity.values().all(|value| value.is_finite() && *value > 0.0) {
            return Err(damaged("a sensitivity is missing or is none"));
        }
        let mut moments = BTreeMap::new();
        for (weight, moment) in second_moment {
            let (_, mean) = self.tensor(&mean_name(number, &weight), Dtype::F32)?;
            let mean = finite(&weight, mean)?;
            let blocks = (0..moment.blocks).map(|block| self.block(&weight, &block_name(number, &weight, block)));
            let blocks = blocks.collect::<Result<_, _>>()?;
            let found = SecondMoment { blocks, mean, samples: moment.samples };
            if !(found.mean.is_empty() || found.mean.len() == found.columns()) {
                return Err(damaged(format!("mean and second moment of `{weight}` do not fit")));
            }
            moments.insert(weight, found);
        }
        Ok((key, Arc::new(Evidence { sensitivity, bias, second_moment: moments, source })))
    }

    fn block(&mut self, weight: &str, name: &str) -> Result<MomentBlock, EvidenceFileError> {
        let (shape, bytes) = self.tensor(name, Dtype::F32)?;
        match *shape.as_slice() {
            [size, columns] if size == columns => Ok(MomentBlock { size, values: finite(weight, bytes)? }),
            _ => Err(damaged(format!("the second moment of `{weight}` is not square"))),
        }
    }

    fn tensor(&mut self, name: &str, dtype: Dtype) -> Result<(Vec<usize>, &[u8]), EvidenceFileError> {
        let view = self.tensors.tensor(name).map_err(damaged)?;
        if view.dtype() != dtype {
            return Err(damaged(format!("`{name}` has another type")));
        }
        self.hash.update(view.data());
        Ok((view.shape().to_vec(), view.data()))
    }
}

fn finite(weight: &str, bytes: &[u8]) -> Result<Vec<f32>, EvidenceFileError> {
    let values: Vec<f32> = bytes.as_chunks().0.iter().copied().map(f32::from_le_bytes).collect();
    match values.iter().all(|value| value.is_finite()) {
        true => Ok(values),
        false => Err(damaged(format!("the second moment of `{weight}` is not finite"))),
    }
}
