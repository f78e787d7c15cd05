//! Running in tract.
//!
//! tract optimises a graph for known shapes, so each combination of input shapes gets a plan of its own, made when it is
//! first seen.

use std::collections::HashSet;
use std::sync::Arc;

use half::f16;
use onnx_dcomp_runtime::tract::enclosed;
use tract_onnx::pb;
use tract_onnx::prelude::{
    Datum, DatumType, Framework, InferenceFact, InferenceModel, InferenceModelExt, IntoRunnable, TValue,
    Tensor as TractTensor, TractError, TractResult, TypedSimplePlan,
};
use tract_onnx::tract_hir::internal::bail;

use super::guard::guarded;
use super::{ModelSource, RuntimeKind, Session, check_inputs};
use crate::error::EngineError;
use crate::tensor::{Dimension, ElementType, Tensor, TensorData, TensorInfo};

/// Plans kept; a plan holds the weights packed for its kernels, so each costs about the model's size.
const PLANS: usize = 4;

/// A model in tract.
pub(super) struct TractSession {
    name: String,
    model: InferenceModel,
    inputs: Vec<TensorInfo>,
    outputs: Vec<TensorInfo>,
    plans: Vec<(Vec<Vec<usize>>, Arc<TypedSimplePlan>)>,
}

pub(super) fn open(source: ModelSource<'_>) -> Result<TractSession, EngineError> {
    let name = source.name();
    let refused = |reason: String| EngineError::OpenModel { runtime: "tract", model: name.clone(), reason };
    let mut onnx = tract_onnx::onnx().with_ignore_value_info(true);
    onnx_dcomp_runtime::tract::register(&mut onnx);
    let (proto, folder) = match source {
        ModelSource::Path(path) => (onnx.proto_model_for_path(path), path.parent()),
        ModelSource::Bytes { mut bytes, folder, .. } => (onnx.proto_model_for_read(&mut bytes), folder),
    };
    let mut proto = proto.map_err(|error| refused(chain(&error)))?;
    if let Some(inner) = enclosed(&onnx, &proto).map_err(|error| refused(chain(&error)))? {
        proto = inner;
    }
    if let Some(graph) = &mut proto.graph {
        scalar_pad_values(graph);
    }
    let graph = proto.graph.as_ref().ok_or_else(|| refused("the file holds no graph".to_owned()))?;
    if let Some((operator, node)) = unsupported(graph, &|operator| onnx.op_register.0.contains_key(operator)) {
        return Err(EngineError::UnsupportedOperator { runtime: "tract", model: name, operator, node });
    }
    // An empty parent means the current folder.
    let folder = folder.map(|folder| if folder.as_os_str().is_empty() { "." } else { folder.to_str().unwrap_or(".") });
    // tract indexes its tables with names from the file; a graph that refers to what is not there would end the program.
    let parsed = guarded(|| onnx.parse(&proto, folder))
        .map_err(|said| refused(format!("tract stopped while it read the graph: {said}")))?
        .map_err(|error| refused(chain(&error)))?;
    if !parsed.unresolved_inputs.is_empty() {
        return Err(refused(format!("nothing defines {}", parsed.unresolved_inputs.join(", "))));
    }
    let initializers: HashSet<&str> = graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
    let infos = |values: &[pb::ValueInfoProto]| -> Result<Vec<TensorInfo>, EngineError> {
        values
            .iter()
            .filter(|value| !initializers.contains(value.name.as_str()))
            .map(|value| info(value).ok_or_else(|| refused(format!("`{}` is no tensor of a known type", value.name))))
            .collect()
    };
    let inputs = infos(&graph.input)?;
    let outputs = graph
        .output
        .iter()
        .map(|value| info(value).ok_or_else(|| refused(format!("`{}` is no tensor of a known type", value.name))))
        .collect::<Result<_, _>>()?;
    Ok(TractSession { name, model: parsed.model, inputs, outputs, plans: Vec::new() })
}

/// The first operator that tract does not know, with the node that uses it; inner graphs included.
///
/// tract looks operators up by type alone, so an operator of a foreign domain must not pass for the standard one of the
/// same type.
fn unsupported(graph: &pb::GraphProto, known: &dyn Fn(&str) -> bool) -> Option<(String, String)> {
    const DOMAINS: [&str; 5] = ["", "ai.onnx", "ai.onnx.ml", "com.microsoft", "ai.dcomp"];
    graph.node.iter().find_map(|node| {
        if !known(&node.op_type) || !DOMAINS.contains(&node.domain.as_str()) {
            let operator = match node.domain.as_str() {
                "" => node.op_type.clone(),
                domain => format!("{domain}::{}", node.op_type),
            };
            let output = || node.output.first().cloned().unwrap_or_default();
            return Some((operator, if node.name.is_empty() { output() } else { node.name.clone() }));
        }
        node.attribute
            .iter()
            .flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs))
            .find_map(|inner| unsupported(inner, known))
    })
}

/// Gives every `Pad` a fill value without axes.
///
/// Exporters write the value as a tensor of one element and one axis, which onnxruntime takes and tract does not.
fn scalar_pad_values(graph: &mut pb::GraphProto) {
    let mut scalars = Vec::new();
    for index in 0..graph.node.len() {
        let node = &graph.node[index];
        let Some(name) = node.input.get(2).filter(|name| node.op_type == "Pad" && !name.is_empty()) else { continue };
        let initializer = graph.initializer.iter().find(|tensor| tensor.name == *name);
        let constant = || {
            let producer = graph.node.iter().find(|node| node.op_type == "Constant" && node.output.contains(name))?;
            producer.attribute.iter().find(|attribute| attribute.name == "value")?.t.as_ref()
        };
        if let Some(tensor) = initializer.or_else(constant).filter(|tensor| tensor.dims == [1]) {
            let name = format!("{name}/scalar {index}");
            scalars.push(pb::TensorProto { name: name.clone(), dims: Vec::new(), ..tensor.clone() });
            graph.node[index].input[2] = name;
        }
    }
    graph.initializer.append(&mut scalars);
}

fn info(value: &pb::ValueInfoProto) -> Option<TensorInfo> {
    let pb::type_proto::Value::TensorType(tensor) = value.r#type.as_ref()?.value.as_ref()?;
    let shape = tensor.shape.as_ref().map(|shape| {
        shape
            .dim
            .iter()
            .map(|dimension| match &dimension.value {
                Some(pb::tensor_shape_proto::dimension::Value::DimValue(length)) => {
                    usize::try_from(*length).map_or(Dimension::Dynamic(None), Dimension::Fixed)
                }
                Some(pb::tensor_shape_proto::dimension::Value::DimParam(name)) if !name.is_empty() => {
                    Dimension::Dynamic(Some(name.clone()))
                }
                _ => Dimension::Dynamic(None),
            })
            .collect()
    });
    Some(TensorInfo { name: value.name.clone(), element: ElementType::from_onnx(tensor.elem_type)?, shape })
}

impl TractSession {
    fn plan(&mut self, inputs: &[Tensor]) -> Result<Arc<TypedSimplePlan>, EngineError> {
        let shapes: Vec<Vec<usize>> = inputs.iter().map(|input| input.shape().to_vec()).collect();
        if let Some(position) = self.plans.iter().position(|(known, _)| *known == shapes) {
            self.plans[..=position].rotate_right(1);
        } else {
            let plan = guarded(|| make_plan(&self.model, inputs))
                .map_err(|said| self.failed(format!("tract stopped while it prepared the graph: {said}")))?
                .map_err(|error| self.failed(chain(&error)))?;
            self.plans.insert(0, (shapes, plan));
            self.plans.truncate(PLANS);
        }
        Ok(Arc::clone(&self.plans[0].1))
    }

    fn failed(&self, reason: String) -> EngineError {
        EngineError::RunModel { runtime: "tract", model: self.name.clone(), reason }
    }
}

fn make_plan(model: &InferenceModel, inputs: &[Tensor]) -> TractResult<Arc<TypedSimplePlan>> {
    let mut model = model.clone();
    for (position, input) in inputs.iter().enumerate() {
        let kind = datum_type(input.element())?;
        model.set_input_fact(position, InferenceFact::dt_shape(kind, input.shape()))?;
    }
    model.into_optimized()?.into_runnable()
}

impl Session for TractSession {
    fn runtime(&self) -> RuntimeKind {
        RuntimeKind::Tract
    }

    fn inputs(&self) -> &[TensorInfo] {
        &self.inputs
    }

    fn outputs(&self) -> &[TensorInfo] {
        &self.outputs
    }

    fn run(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, EngineError> {
        check_inputs(&self.inputs, inputs, &self.name, RuntimeKind::Tract)?;
        let plan = self.plan(inputs)?;
        let fed = inputs.iter().map(|input| Ok(TValue::from(to_tract(input)?))).collect::<TractResult<_>>();
        let given = guarded(|| fed.and_then(|fed| plan.run(fed)))
            .map_err(|said| self.failed(format!("tract stopped: {said}")))?
            .map_err(|error| self.failed(chain(&error)))?;
        given.iter().map(|output| from_tract(output).map_err(|error| self.failed(chain(&error)))).collect()
    }
}

fn datum_type(element: ElementType) -> TractResult<DatumType> {
    Ok(match element {
        ElementType::F32 => DatumType::F32,
        ElementType::F64 => DatumType::F64,
        ElementType::F16 => DatumType::F16,
        ElementType::I8 => DatumType::I8,
        ElementType::I16 => DatumType::I16,
        ElementType::I32 => DatumType::I32,
        ElementType::I64 => DatumType::I64,
        ElementType::U8 => DatumType::U8,
        ElementType::U16 => DatumType::U16,
        ElementType::U32 => DatumType::U32,
        ElementType::U64 => DatumType::U64,
        ElementType::Bool => DatumType::Bool,
        ElementType::BF16 => bail!("tract has no bf16"),
    })
}

fn to_tract(tensor: &Tensor) -> TractResult<TractTensor> {
    let shape = tensor.shape();
    match tensor.data() {
        TensorData::F32(values) => TractTensor::from_shape(shape, values),
        TensorData::F64(values) => TractTensor::from_shape(shape, values),
        TensorData::F16(values) => TractTensor::from_shape(shape, values),
        TensorData::I8(values) => TractTensor::from_shape(shape, values),
        TensorData::I16(values) => TractTensor::from_shape(shape, values),
        TensorData::I32(values) => TractTensor::from_shape(shape, values),
        TensorData::I64(values) => TractTensor::from_shape(shape, values),
        TensorData::U8(values) => TractTensor::from_shape(shape, values),
        TensorData::U16(values) => TractTensor::from_shape(shape, values),
        TensorData::U32(values) => TractTensor::from_shape(shape, values),
        TensorData::U64(values) => TractTensor::from_shape(shape, values),
        TensorData::Bool(values) => TractTensor::from_shape(shape, values),
        TensorData::BF16(_) => datum_type(ElementType::BF16).map(|_| TractTensor::default()),
    }
}

fn from_tract(tensor: &TractTensor) -> TractResult<Tensor> {
    fn values<T: Datum + Copy>(tensor: &TractTensor) -> TractResult<Vec<T>> {
        Ok(tensor.try_as_plain_ram()?.as_slice::<T>()?.to_vec())
    }
    let data = match tensor.datum_type().unquantized() {
        DatumType::F32 => TensorData::F32(values(tensor)?),
        DatumType::F64 => TensorData::F64(values(tensor)?),
        DatumType::F16 => TensorData::F16(values::<f16>(tensor)?),
        DatumType::I8 => TensorData::I8(values(tensor)?),
        DatumType::I16 => TensorData::I16(values(tensor)?),
        DatumType::I32 => TensorData::I32(values(tensor)?),
        DatumType::I64 => TensorData::I64(values(tensor)?),
        DatumType::U8 => TensorData::U8(values(tensor)?),
        DatumType::U16 => TensorData::U16(values(tensor)?),
        DatumType::U32 => TensorData::U32(values(tensor)?),
        DatumType::U64 => TensorData::U64(values(tensor)?),
        DatumType::Bool => TensorData::Bool(values(tensor)?),
        // Shapes that the graph computes are symbolic integers inside tract.
        _ => TensorData::I64(values(&*tensor.cast_to::<i64>()?)?),
    };
    Ok(Tensor::new(tensor.shape().to_vec(), data)?)
}

/// What tract says, from the outermost cause to the innermost, on one line.
fn chain(error: &TractError) -> String {
    error.chain().map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
