//! What a model says of its inputs and outputs, read from the model alone: no runtime opens it.

use onnx_dcomp_ir::Model;
use onnx_dcomp_proto::{ValueInfoProto, tensor_shape_proto, type_proto};

use crate::error::EngineError;
use crate::tensor::{Dimension, ElementType, TensorInfo};

/// The inputs of the main graph that are no initializers, as they are declared.
///
/// # Errors
/// [`EngineError::Preprocess`] where one is no tensor of a known type.
pub fn inputs(model: &Model) -> Result<Vec<TensorInfo>, EngineError> {
    let graph = model.graph();
    let is_initializer = |name: &str| graph.initializer.iter().any(|tensor| tensor.name() == name);
    let inputs = graph.input.iter().filter(|value| !is_initializer(value.name()));
    inputs.map(|value| declared(model, value)).collect()
}

/// The outputs of the main graph, as they are declared.
///
/// # Errors
/// As [`inputs`].
pub fn outputs(model: &Model) -> Result<Vec<TensorInfo>, EngineError> {
    model.graph().output.iter().map(|value| declared(model, value)).collect()
}

fn declared(model: &Model, value: &ValueInfoProto) -> Result<TensorInfo, EngineError> {
    info(value).ok_or_else(|| EngineError::Preprocess {
        origin: model.source().name().to_owned(),
        reason: format!(
            "`{}` is no tensor of a known type, so that samples cannot be given to the model",
            value.name()
        ),
    })
}

fn info(value: &ValueInfoProto) -> Option<TensorInfo> {
    let type_proto::Value::TensorType(tensor) = value.r#type.as_ref()?.value.as_ref()? else { return None };
    let length = |dimension: &tensor_shape_proto::Dimension| match &dimension.value {
        Some(tensor_shape_proto::dimension::Value::DimValue(length)) => {
            usize::try_from(*length).map_or(Dimension::Dynamic(None), Dimension::Fixed)
        }
        Some(tensor_shape_proto::dimension::Value::DimParam(name)) if !name.is_empty() => {
            Dimension::Dynamic(Some(name.clone()))
        }
        _ => Dimension::Dynamic(None),
    };
    let shape = tensor.shape.as_ref().map(|shape| shape.dim.iter().map(length).collect());
    Some(TensorInfo { name: value.name().to_owned(), element: ElementType::from_onnx(tensor.elem_type?)?, shape })
}
