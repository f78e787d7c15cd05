//! Tensor messages: types, sizes, and a walk over all of a model's.

use onnx_dcomp_forms::DType;
use onnx_dcomp_proto::tensor_proto::DataType;
use onnx_dcomp_proto::{AttributeProto, GraphProto, ModelProto, NodeProto, SparseTensorProto, TensorProto};

use crate::error::{TensorProblem, shape_text};

/// The element type of weights that ONNX calls `data_type`; `None` where such tensors are no weights.
pub(crate) fn dtype_of(data_type: i32) -> Option<DType> {
    Some(match DataType::try_from(data_type).ok()? {
        DataType::Float => DType::F32,
        DataType::Float16 => DType::F16,
        DataType::Bfloat16 => DType::BF16,
        DataType::Double => DType::F64,
        DataType::Int8 => DType::I8,
        DataType::Uint8 => DType::U8,
        _ => return None,
    })
}

/// What ONNX calls `dtype`.
pub(crate) fn data_type_of(dtype: DType) -> i32 {
    let data_type = match dtype {
        DType::F32 => DataType::Float,
        DType::F16 => DataType::Float16,
        DType::BF16 => DataType::Bfloat16,
        DType::F64 => DataType::Double,
        DType::I8 => DataType::Int8,
        DType::U8 => DataType::Uint8,
    };
    data_type as i32
}

/// Bits of one element of `data_type`; `None` for strings and for types that we do not know.
pub(crate) fn element_bits(data_type: i32) -> Option<usize> {
    use DataType as T;
    Some(match DataType::try_from(data_type).ok()? {
        T::Undefined | T::String => return None,
        T::Uint2 | T::Int2 => 2,
        T::Uint4 | T::Int4 | T::Float4e2m1 => 4,
        T::Float6e2m3 | T::Float6e3m2 => 6,
        T::Uint8 | T::Int8 | T::Bool => 8,
        T::Float8e4m3fn | T::Float8e4m3fnuz | T::Float8e5m2 | T::Float8e5m2fnuz | T::Float8e8m0 => 8,
        T::Uint16 | T::Int16 | T::Float16 | T::Bfloat16 => 16,
        T::Float | T::Int32 | T::Uint32 => 32,
        T::Double | T::Int64 | T::Uint64 | T::Complex64 => 64,
        T::Complex128 => 128,
    })
}

/// The lengths of the axes.
pub(crate) fn shape(dims: &[i64]) -> Result<Vec<usize>, TensorProblem> {
    let length = |(axis, &length): (usize, &i64)| {
        usize::try_from(length).map_err(|_| TensorProblem::NegativeAxis { axis, length })
    };
    dims.iter().enumerate().map(length).collect()
}

/// The number of elements of a tensor with the lengths `dims`, checked so that their bytes can be counted too.
pub(crate) fn element_count(dims: &[i64]) -> Result<usize, TensorProblem> {
    const LARGEST_ELEMENT_BYTES: usize = 16;
    let lengths = shape(dims)?;
    if lengths.contains(&0) {
        return Ok(0);
    }
    lengths
        .iter()
        .try_fold(1usize, |count, &length| count.checked_mul(length))
        .filter(|count| *count <= isize::MAX as usize / LARGEST_ELEMENT_BYTES)
        .ok_or_else(|| TensorProblem::TooManyElements { shape: shape_text(dims) })
}

/// A name for messages: the tensor's own, or that of the value that it becomes.
pub(crate) fn label<'a>(tensor: &'a TensorProto, fallback: &'a str) -> &'a str {
    match (tensor.name(), fallback) {
        ("", "") => "an unnamed tensor",
        ("", fallback) => fallback,
        (name, _) => name,
    }
}

/// The value that a node is known by in messages: its first output, or else its name.
pub(crate) fn node_label(node: &NodeProto) -> &str {
    node.output.iter().map(String::as_str).find(|name| !name.is_empty()).unwrap_or(node.name())
}

/// Calls `visit` for every tensor of the model, with a name for messages, until it fails.
pub(crate) fn try_for_each_mut<E>(
    model: &mut ModelProto,
    visit: &mut dyn FnMut(&str, &mut TensorProto) -> Result<(), E>,
) -> Result<(), E> {
    if let Some(graph) = &mut model.graph {
        of_graph_mut(graph, visit)?;
    }
    for training in &mut model.training_info {
        for graph in training.initialization.iter_mut().chain(&mut training.algorithm) {
            of_graph_mut(graph, visit)?;
        }
    }
    for function in &mut model.functions {
        for attribute in &mut function.attribute_proto {
            of_attribute_mut(attribute, "", visit)?;
        }
        of_nodes_mut(&mut function.node, visit)?;
    }
    Ok(())
}

fn of_graph_mut<E>(
    graph: &mut GraphProto,
    visit: &mut dyn FnMut(&str, &mut TensorProto) -> Result<(), E>,
) -> Result<(), E> {
    for tensor in &mut graph.initializer {
        visit("", tensor)?;
    }
    for sparse in &mut graph.sparse_initializer {
        of_sparse_mut(sparse, "", visit)?;
    }
    of_nodes_mut(&mut graph.node, visit)
}

fn of_nodes_mut<E>(
    nodes: &mut [NodeProto],
    visit: &mut dyn FnMut(&str, &mut TensorProto) -> Result<(), E>,
) -> Result<(), E> {
    for node in nodes {
        let fallback = node_label(node).to_owned();
        for attribute in &mut node.attribute {
            of_attribute_mut(attribute, &fallback, visit)?;
        }
    }
    Ok(())
}

fn of_attribute_mut<E>(
    attribute: &mut AttributeProto,
    fallback: &str,
    visit: &mut dyn FnMut(&str, &mut TensorProto) -> Result<(), E>,
) -> Result<(), E> {
    for tensor in attribute.t.iter_mut().chain(&mut attribute.tensors) {
        visit(fallback, tensor)?;
    }
    for sparse in attribute.sparse_tensor.iter_mut().chain(&mut attribute.sparse_tensors) {
        of_sparse_mut(sparse, fallback, visit)?;
    }
    for graph in attribute.g.iter_mut().chain(&mut attribute.graphs) {
        of_graph_mut(graph, visit)?;
    }
    Ok(())
}

fn of_sparse_mut<E>(
    sparse: &mut SparseTensorProto,
    fallback: &str,
    visit: &mut dyn FnMut(&str, &mut TensorProto) -> Result<(), E>,
) -> Result<(), E> {
    let name = sparse.values.as_ref().map(|values| values.name().to_owned()).filter(|name| !name.is_empty());
    let fallback = name.as_deref().unwrap_or(fallback);
    sparse.values.iter_mut().chain(&mut sparse.indices).try_for_each(|tensor| visit(fallback, tensor))
}

/// Calls `visit` for every tensor of the model.
pub(crate) fn for_each(model: &ModelProto, visit: &mut dyn FnMut(&TensorProto)) {
    model.graph.iter().for_each(|graph| of_graph(graph, visit));
    for training in &model.training_info {
        training.initialization.iter().chain(&training.algorithm).for_each(|graph| of_graph(graph, visit));
    }
    for function in &model.functions {
        function.attribute_proto.iter().for_each(|attribute| of_attribute(attribute, visit));
        of_nodes(&function.node, visit);
    }
}

fn of_graph(graph: &GraphProto, visit: &mut dyn FnMut(&TensorProto)) {
    graph.initializer.iter().for_each(&mut *visit);
    graph.sparse_initializer.iter().for_each(|sparse| of_sparse(sparse, visit));
    of_nodes(&graph.node, visit);
}

fn of_nodes(nodes: &[NodeProto], visit: &mut dyn FnMut(&TensorProto)) {
    nodes.iter().flat_map(|node| &node.attribute).for_each(|attribute| of_attribute(attribute, visit));
}

fn of_attribute(attribute: &AttributeProto, visit: &mut dyn FnMut(&TensorProto)) {
    attribute.t.iter().chain(&attribute.tensors).for_each(&mut *visit);
    attribute.sparse_tensor.iter().chain(&attribute.sparse_tensors).for_each(|sparse| of_sparse(sparse, visit));
    attribute.g.iter().chain(&attribute.graphs).for_each(|graph| of_graph(graph, visit));
}

fn of_sparse(sparse: &SparseTensorProto, visit: &mut dyn FnMut(&TensorProto)) {
    sparse.values.iter().chain(&sparse.indices).for_each(visit);
}
