//! Constants of a graph that a pass replaces or adds.

use std::collections::HashSet;

use onnx_dcomp_forms::{DType, Form, Values};
use onnx_dcomp_ir::{Model, Role, WeightId, marker};
use onnx_dcomp_proto::tensor_proto::DataType;
use onnx_dcomp_proto::{GraphProto, NodeProto, TensorProto};

use super::tensor::Tensor;
use crate::node;

/// The weight that `proto` leads to, where the table of `model` has it.
pub(crate) fn weight_of(model: &Model, proto: &TensorProto) -> Option<WeightId> {
    marker::weight_of(proto).filter(|&id| model.get_weight(id).is_some())
}

/// The model without its main graph, and the names that are taken.
pub(crate) struct Store<'m> {
    /// The model; the graph that is being rewritten is not in it.
    pub(crate) model: &'m mut Model,
    taken: HashSet<String>,
}

impl<'m> Store<'m> {
    /// `graph` is the main graph, taken out of `model`.
    pub(crate) fn new(model: &'m mut Model, graph: &GraphProto) -> Self {
        let mut taken = HashSet::new();
        collect_names(graph, &mut taken);
        Self { model, taken }
    }

    /// A name that no tensor has: `wanted`, or `wanted` with a number.
    pub(crate) fn fresh_name(&mut self, wanted: &str) -> String {
        let mut name = wanted.to_owned();
        let mut number = 2;
        while !self.taken.insert(name.clone()) {
            name = format!("{wanted}_{number}");
            number += 1;
        }
        name
    }

    /// Adds `tensor` to `graph` under the unused name `name`; a weight of role `role` if it has the size of one.
    pub(crate) fn add(
        &mut self,
        graph: &mut GraphProto,
        name: &str,
        tensor: &Tensor,
        role: Role,
        channel_axis: Option<usize>,
    ) {
        match values_of(tensor) {
            Some(values) if values.len() >= Model::MIN_TABLE_LEN => {
                self.model.add_weight(name, &tensor.dims, values, role, channel_axis);
            }
            _ => self.model.add_initializer(tensor.write(name)),
        }
        // The model puts new initializers into its main graph; the graph that is being rewritten is elsewhere.
        let added = self.model.proto.graph.take().unwrap_or_default();
        graph.initializer.extend(added.initializer);
        graph.input.extend(added.input);
    }

    /// Gives `proto` the values and the shape of `tensor`, which has the same element type.
    pub(crate) fn replace(&mut self, proto: &mut TensorProto, tensor: &Tensor) {
        proto.dims = tensor.dims.iter().map(|&dim| dim as i64).collect();
        match (weight_of(self.model, proto), values_of(tensor)) {
            (Some(id), Some(values)) => {
                let weight = self.model.weight_mut(id);
                weight.shape.clone_from(&tensor.dims);
                weight.original = values.clone();
                weight.form = Form::Dense(values);
            }
            _ => *proto = tensor.write(proto.name()),
        }
    }
}

fn values_of(tensor: &Tensor) -> Option<Values> {
    let dtype = match tensor.element {
        DataType::Float => DType::F32,
        DataType::Float16 => DType::F16,
        DataType::Bfloat16 => DType::BF16,
        DataType::Double => DType::F64,
        _ => return None,
    };
    Values::new(dtype, tensor.bytes.clone()).ok()
}

fn collect_names(graph: &GraphProto, into: &mut HashSet<String>) {
    let values = graph.input.iter().chain(&graph.output).chain(&graph.value_info).map(|v| v.name());
    let tensors = graph.initializer.iter().map(|t| t.name());
    into.extend(values.chain(tensors).map(str::to_owned));
    for node in &graph.node {
        into.extend(node.input.iter().chain(&node.output).cloned());
        node::subgraphs(node).for_each(|inner| collect_names(inner, into));
    }
}

/// The names that `node` and the graphs inside it mention, those it defines included.
pub(crate) fn mentioned(node: &NodeProto, into: &mut HashSet<String>) {
    for inner in node::subgraphs(node) {
        collect_names(inner, into);
    }
}
