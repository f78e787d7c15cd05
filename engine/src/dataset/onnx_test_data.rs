//! Test data as the models of the ONNX project carry it: `test_data_set_N/input_N.pb` and `output_N.pb`.

use std::path::{Path, PathBuf};

use half::{bf16, f16};
use onnx_dcomp_proto::{Message, TensorProto};

use super::{Dataset, Label, Sample};
use crate::error::EngineError;
use crate::preprocess::Preprocess;
use crate::tensor::{ElementType, Tensor, TensorData};

/// Folders that are one sample each.
pub struct TestSets {
    sets: Vec<PathBuf>,
    preprocess: Preprocess,
}

impl TestSets {
    /// Takes the folders in their order.
    ///
    /// # Errors
    /// None now; files are read when a sample is asked for.
    pub fn open(sets: &[PathBuf], preprocess: &Preprocess) -> Result<Self, EngineError> {
        Ok(Self { sets: sets.to_vec(), preprocess: preprocess.clone() })
    }
}

impl Dataset for TestSets {
    fn len(&self) -> usize {
        self.sets.len()
    }

    fn images(&self) -> bool {
        false
    }

    fn sample(&self, index: usize) -> Result<Sample, EngineError> {
        let set = self.sets.get(index).ok_or_else(|| EngineError::bad_data("", "no such sample"))?;
        let mut inputs = Vec::new();
        for (position, info) in self.preprocess.inputs.iter().enumerate() {
            let path = set.join(format!("input_{position}.pb"));
            let tensor = read_tensor(&path)?;
            if !info.accepts(tensor.shape(), tensor.element()) {
                return Err(info.mismatch(&path.display().to_string(), tensor.shape(), tensor.element()));
            }
            inputs.push(tensor);
        }
        let outputs = (0..).map(|position| set.join(format!("output_{position}.pb"))).take_while(|path| path.is_file());
        let outputs: Vec<Tensor> = outputs.map(|path| read_tensor(&path)).collect::<Result<_, _>>()?;
        let label = if outputs.is_empty() { Label::None } else { Label::Outputs(outputs) };
        Ok(Sample { name: set.display().to_string(), inputs, label, batches: false })
    }
}

/// The tensor in the protobuf file at `path`.
///
/// # Errors
/// [`EngineError::Read`], or [`EngineError::BadData`] where the file holds no whole tensor of a known type.
pub fn read_tensor(path: &Path) -> Result<Tensor, EngineError> {
    let bytes = std::fs::read(path).map_err(EngineError::read(path))?;
    let wrong = |reason: String| EngineError::bad_data(path, reason);
    let proto = TensorProto::decode(bytes.as_slice()).map_err(|error| wrong(format!("no ONNX tensor: {error}")))?;
    let number = proto.data_type.unwrap_or_default();
    let element =
        ElementType::from_onnx(number).ok_or_else(|| wrong(format!("data type {number} is not supported")))?;
    let shape: Vec<usize> = proto
        .dims
        .iter()
        .map(|&length| usize::try_from(length).map_err(|_| wrong(format!("negative dimension {length}"))))
        .collect::<Result<_, _>>()?;
    let data = match &proto.raw_data {
        Some(raw) if !raw.is_empty() => TensorData::from_le_bytes(element, raw),
        _ => typed_data(element, &proto),
    };
    Tensor::new(shape, data).map_err(|error| wrong(error.to_string()))
}

/// The elements where they stand in the field of their type; small types share `int32_data`.
fn typed_data(element: ElementType, proto: &TensorProto) -> TensorData {
    let narrow = &proto.int32_data;
    match element {
        ElementType::F32 => TensorData::F32(proto.float_data.clone()),
        ElementType::F64 => TensorData::F64(proto.double_data.clone()),
        ElementType::F16 => TensorData::F16(narrow.iter().map(|&bits| f16::from_bits(bits as u16)).collect()),
        ElementType::BF16 => TensorData::BF16(narrow.iter().map(|&bits| bf16::from_bits(bits as u16)).collect()),
        ElementType::I8 => TensorData::I8(narrow.iter().map(|&value| value as i8).collect()),
        ElementType::I16 => TensorData::I16(narrow.iter().map(|&value| value as i16).collect()),
        ElementType::I32 => TensorData::I32(narrow.clone()),
        ElementType::I64 => TensorData::I64(proto.int64_data.clone()),
        ElementType::U8 => TensorData::U8(narrow.iter().map(|&value| value as u8).collect()),
        ElementType::U16 => TensorData::U16(narrow.iter().map(|&value| value as u16).collect()),
        ElementType::U32 => TensorData::U32(proto.uint64_data.iter().map(|&value| value as u32).collect()),
        ElementType::U64 => TensorData::U64(proto.uint64_data.clone()),
        ElementType::Bool => TensorData::Bool(narrow.iter().map(|&value| value != 0).collect()),
    }
}
