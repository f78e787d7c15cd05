//! Arrays in `.npz` and `.npy` files.
//!
//! An array goes in as it is, with no preprocessing, under the name of the model's input; where the model has one input
//! and there is one array besides `labels`, names do not matter. The first axis counts samples. `labels` holds one class
//! for each sample, or one for each pixel.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use ndarray::{ArrayD, IxDyn, OwnedRepr};
use ndarray_npy::{NpzReader, ReadNpyError, ReadNpzError, ReadableElement};

use super::files::{has_ending, stem};
use super::{Dataset, Label, PixelLabels, Sample};
use crate::error::EngineError;
use crate::preprocess::Preprocess;
use crate::tensor::{Dimension, Tensor, TensorData, TensorInfo};

/// Arrays in memory.
pub struct Arrays {
    path: PathBuf,
    inputs: Vec<Tensor>,
    labels: Option<Tensor>,
    /// Rows of the first axis that make one sample, for each input.
    rows: Vec<usize>,
    samples: usize,
    batches: bool,
}

impl Arrays {
    /// Reads one `.npz`, or several `.npy`.
    ///
    /// # Errors
    /// [`EngineError::Read`], [`EngineError::BadData`] where an input has no array or counts differ, or
    /// [`EngineError::SampleShape`] where an array does not fit its input.
    pub fn open(files: &[PathBuf], preprocess: &Preprocess) -> Result<Self, EngineError> {
        let path = match files {
            [file] => file.clone(),
            files => files.first().and_then(|file| file.parent()).unwrap_or(Path::new("")).to_path_buf(),
        };
        let mut arrays = BTreeMap::new();
        for file in files {
            if has_ending(file, &["npz"]) {
                arrays.extend(read_npz(file)?);
            } else {
                arrays.insert(stem(file), read_npy(file)?);
            }
        }
        let labels = arrays.remove("labels").or_else(|| arrays.remove("label"));
        let mut inputs = Vec::new();
        let mut rows = Vec::new();
        let mut counts = Vec::new();
        for info in &preprocess.inputs {
            let only = preprocess.inputs.len() == 1 && arrays.len() == 1;
            let name = if only { arrays.keys().next().cloned() } else { Some(info.name.clone()) };
            let there = || arrays.keys().cloned().collect::<Vec<_>>().join(", ");
            let array = name.and_then(|name| arrays.get(&name)).ok_or_else(|| {
                let reason = format!("no array for the model's input `{}`; the arrays are: {}", info.name, there());
                EngineError::bad_data(&path, reason)
            })?;
            let (tensor, per_sample) = fit(array.clone(), info, &path)?;
            counts.push(tensor.shape().first().copied().unwrap_or(1) / per_sample.max(1));
            rows.push(per_sample);
            inputs.push(tensor);
        }
        let samples = counts.first().copied().unwrap_or(0);
        if counts.iter().any(|&count| count != samples) {
            return Err(EngineError::bad_data(
                &path,
                format!("the inputs hold different numbers of samples: {counts:?}"),
            ));
        }
        let batches = rows.iter().all(|&count| count == 1);
        if let Some(labels) = &labels
            && (labels.shape().first() != Some(&samples) || !matches!(labels.shape().len(), 1 | 3) || !batches)
        {
            let reason =
                format!("`labels` has shape {:?}, expected [{samples}] or [{samples}, height, width]", labels.shape());
            return Err(EngineError::bad_data(&path, reason));
        }
        Ok(Self { path, inputs, labels, rows, samples, batches })
    }

    fn label(&self, index: usize) -> Result<Label, EngineError> {
        let Some(labels) = &self.labels else { return Ok(Label::None) };
        let row = labels.rows(index, index + 1);
        let values = row.to_f32();
        let wrong =
            |value: f32| EngineError::bad_data(&self.path, format!("label {value} of sample {index} is no class"));
        match *row.shape() {
            [_, height, width] => {
                let class = |&value: &f32| {
                    if (0.0..=255.0).contains(&value) { Ok(value as u8) } else { Err(wrong(value)) }
                };
                let classes = values.iter().map(class).collect::<Result<_, _>>()?;
                Ok(Label::Pixels(PixelLabels { height, width, classes }))
            }
            _ => match values.first() {
                Some(&value) if value >= 0.0 => Ok(Label::Class(value as usize)),
                value => Err(wrong(value.copied().unwrap_or(f32::NAN))),
            },
        }
    }
}

impl Dataset for Arrays {
    fn len(&self) -> usize {
        self.samples
    }

    fn images(&self) -> bool {
        false
    }

    fn sample(&self, index: usize) -> Result<Sample, EngineError> {
        let rows = self.inputs.iter().zip(&self.rows);
        let inputs = rows.map(|(tensor, rows)| tensor.rows(index * rows, (index + 1) * rows)).collect();
        let name = format!("{}, sample {index}", self.path.display());
        Ok(Sample { name, inputs, label: self.label(index)?, batches: self.batches })
    }
}

/// `array` with a first axis that counts samples, in the type that the model takes, and how many of its rows are one.
fn fit(array: Tensor, info: &TensorInfo, path: &Path) -> Result<(Tensor, usize), EngineError> {
    let sample = format!("{}, array for `{}`", path.display(), info.name);
    let mismatch = info.mismatch(&sample, array.shape(), array.element());
    let same_kind = array.element().is_float() == info.element.is_float();
    let Some(array) = Some(array).filter(|_| same_kind).map(|array| array.cast(info.element)) else {
        return Err(mismatch);
    };
    let Some(declared) = &info.shape else { return Ok((array, 1)) };
    let mut shape = array.shape().to_vec();
    // A single sample may come without its batch axis.
    if shape.len() + 1 == declared.len()
        && matches!(declared.first(), Some(Dimension::Dynamic(_) | Dimension::Fixed(1)))
    {
        shape.insert(0, 1);
    }
    let rows = declared.first().and_then(Dimension::fixed).unwrap_or(1).max(1);
    let inner = |shape: &[usize]| [&[rows][..], shape.get(1..).unwrap_or_default()].concat();
    let whole = shape.first().is_some_and(|count| count % rows == 0);
    if !whole || !info.accepts(&inner(&shape), info.element) {
        return Err(mismatch);
    }
    Ok((array.reshape(shape)?, rows))
}

/// Tries the element types in turn: a reader refuses a file whose header says another.
macro_rules! first_type {
    ($read:ident, $wrong_type:pat, $fail:expr, $($type:ty => $kind:ident),+) => {{
        $(match $read!($type) {
            Ok(array) => return into_tensor(array, TensorData::$kind),
            Err($wrong_type) => (),
            Err(error) => return Err($fail(error.to_string())),
        })+
        Err($fail("its element type is not supported".to_owned()))
    }};
}

fn read_npy(path: &Path) -> Result<Tensor, EngineError> {
    let fail = |reason: String| EngineError::bad_data(path, reason);
    macro_rules! read {
        ($type:ty) => {
            ndarray_npy::read_npy::<_, ArrayD<$type>>(path)
        };
    }
    first_type!(read, ReadNpyError::WrongDescriptor(_), fail,
        f32 => F32, f64 => F64, i64 => I64, i32 => I32, u8 => U8, i8 => I8, i16 => I16, u16 => U16, u32 => U32,
        u64 => U64, bool => Bool)
}

fn read_npz(path: &Path) -> Result<BTreeMap<String, Tensor>, EngineError> {
    let fail = |reason: String| EngineError::bad_data(path, reason);
    let file = File::open(path).map_err(EngineError::read(path))?;
    let mut reader = NpzReader::new(file).map_err(|error| fail(error.to_string()))?;
    let names = reader.names().map_err(|error| fail(error.to_string()))?;
    names
        .into_iter()
        .map(|entry| {
            let tensor = read_entry(&mut reader, &entry, path)?;
            Ok((entry.strip_suffix(".npy").unwrap_or(&entry).to_owned(), tensor))
        })
        .collect()
}

fn read_entry(reader: &mut NpzReader<File>, entry: &str, path: &Path) -> Result<Tensor, EngineError> {
    let fail = |reason: String| EngineError::bad_data(path, format!("array `{entry}`: {reason}"));
    macro_rules! read {
        ($type:ty) => {
            reader.by_name::<OwnedRepr<$type>, IxDyn>(entry)
        };
    }
    first_type!(read, ReadNpzError::Npy(ReadNpyError::WrongDescriptor(_)), fail,
        f32 => F32, f64 => F64, i64 => I64, i32 => I32, u8 => U8, i8 => I8, i16 => I16, u16 => U16, u32 => U32,
        u64 => U64, bool => Bool)
}

fn into_tensor<T: ReadableElement + Clone>(
    array: ArrayD<T>,
    kind: impl FnOnce(Vec<T>) -> TensorData,
) -> Result<Tensor, EngineError> {
    // Iteration follows the logical order, whatever order the file stored.
    Tensor::new(array.shape().to_vec(), kind(array.iter().cloned().collect()))
}
