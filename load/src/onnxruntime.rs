//! Sessions of onnxruntime.

use std::sync::Arc;

use half::{bf16, f16};
use onnx_dcomp_forms::DType;
use ort::session::Session;
use ort::session::builder::SessionBuilder;
use ort::value::{DynValue, PrimitiveTensorElementType, Tensor};

use crate::{LoadError, Loaded, LoadedWeight};

/// Makes a session of `loaded`, with whatever was set in `builder`: onnxruntime gets the weights as external
/// initializers, and optimises as if the file had been dense. Weights are handed over one by one, so that we make no
/// second copy of all of them; onnxruntime makes one while it optimises, and takes no tensor in memory of its own.
///
/// # Errors
/// [`LoadError::Onnxruntime`] in onnxruntime's words.
pub fn session(loaded: Loaded, mut builder: SessionBuilder) -> Result<Session, LoadError> {
    for weight in loaded.weights {
        let (name, value) = value(weight).map_err(|error| LoadError::Onnxruntime(error.to_string()))?;
        builder = builder
            .with_external_initializer(&name, Arc::new(value))
            .map_err(|error| LoadError::Onnxruntime(error.to_string()))?;
    }
    builder.commit_from_memory(&loaded.graph).map_err(|error| LoadError::Onnxruntime(error.to_string()))
}

fn value(weight: LoadedWeight) -> ort::Result<(String, DynValue)> {
    let LoadedWeight { name, shape, values, .. } = weight;
    let bytes = values.bytes();
    let value = match values.dtype() {
        DType::F32 => tensor(shape, bytes, f32::from_le_bytes),
        DType::F64 => tensor(shape, bytes, f64::from_le_bytes),
        DType::F16 => tensor(shape, bytes, f16::from_le_bytes),
        DType::BF16 => tensor(shape, bytes, bf16::from_le_bytes),
        DType::I8 => tensor(shape, bytes, i8::from_le_bytes),
        DType::U8 => tensor(shape, bytes, u8::from_le_bytes),
    };
    Ok((name, value?))
}

fn tensor<T, const N: usize>(shape: Vec<usize>, bytes: &[u8], read: impl Fn([u8; N]) -> T) -> ort::Result<DynValue>
where
    T: PrimitiveTensorElementType + std::fmt::Debug + Clone + 'static,
{
    let elements: Vec<T> = bytes.as_chunks::<N>().0.iter().map(|word| read(*word)).collect();
    Ok(Tensor::from_array((shape, elements))?.into_dyn())
}
