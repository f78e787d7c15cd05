//! How large a model is beside its weights.

use std::collections::HashSet;

use onnx_dcomp_ir::{Model, marker};
use onnx_dcomp_proto::{GraphProto, Message, ModelProto, NodeProto, OperatorSetIdProto, TensorProto};

use crate::node;

/// Bytes of the file without the weights: nodes, names, shapes, small constants, metadata.
///
/// A weight's name, type and shape count, its elements and their length prefix do not.
pub fn graph_bytes(model: &Model) -> u64 {
    let mut proto = model.proto.clone();
    let unmark = &mut |tensor: &mut TensorProto| {
        if marker::weight_of(tensor).is_some() {
            tensor.external_data.clear();
        }
    };
    if let Some(graph) = &mut proto.graph {
        for_each_tensor(graph, unmark);
    }
    for function in &mut proto.functions {
        for_each_tensor_of_nodes(&mut function.node, unmark);
    }
    for training in &mut proto.training_info {
        let graphs = training.initialization.iter_mut().chain(&mut training.algorithm);
        graphs.for_each(|graph| for_each_tensor(graph, unmark));
    }
    proto.encoded_len() as u64
}

/// Calls `visit` for every tensor of `graph`, also in attributes and subgraphs.
pub(crate) fn for_each_tensor(graph: &mut GraphProto, visit: &mut dyn FnMut(&mut TensorProto)) {
    graph.initializer.iter_mut().for_each(&mut *visit);
    for sparse in &mut graph.sparse_initializer {
        sparse.values.iter_mut().chain(&mut sparse.indices).for_each(&mut *visit);
    }
    for_each_tensor_of_nodes(&mut graph.node, visit);
}

/// Calls `visit` for every tensor in the attributes of `nodes`, also in subgraphs.
pub(crate) fn for_each_tensor_of_nodes(nodes: &mut [NodeProto], visit: &mut dyn FnMut(&mut TensorProto)) {
    for node in nodes {
        for attribute in &mut node.attribute {
            attribute.t.iter_mut().chain(&mut attribute.tensors).for_each(&mut *visit);
            for sparse in attribute.sparse_tensor.iter_mut().chain(&mut attribute.sparse_tensors) {
                sparse.values.iter_mut().chain(&mut sparse.indices).for_each(&mut *visit);
            }
        }
        node::subgraphs_mut(node).for_each(|inner| for_each_tensor(inner, visit));
    }
}

/// The names of the main graph's tensors that something other than a node mentions: training information, annotations
/// of quantised tensors, plans for several devices.
pub(crate) fn protected_names(proto: &ModelProto) -> HashSet<String> {
    let mut names = HashSet::new();
    if let Some(graph) = &proto.graph {
        collect_annotated(graph, &mut names);
    }
    for training in &proto.training_info {
        for graph in training.initialization.iter().chain(&training.algorithm) {
            collect_all(graph, &mut names);
        }
        for binding in training.initialization_binding.iter().chain(&training.update_binding) {
            names.extend([binding.key().to_owned(), binding.value().to_owned()]);
        }
    }
    names.remove("");
    names
}

fn collect_annotated(graph: &GraphProto, names: &mut HashSet<String>) {
    for annotation in &graph.quantization_annotation {
        names.insert(annotation.tensor_name().to_owned());
        names.extend(annotation.quant_parameter_tensor_names.iter().map(|entry| entry.value().to_owned()));
    }
    for node in &graph.node {
        let plans = node.device_configurations.iter().flat_map(|plan| &plan.sharding_spec);
        names.extend(plans.map(|plan| plan.tensor_name().to_owned()));
        node::subgraphs(node).for_each(|inner| collect_annotated(inner, names));
    }
}

fn collect_all(graph: &GraphProto, names: &mut HashSet<String>) {
    names.extend(graph.input.iter().chain(&graph.output).map(|value| value.name().to_owned()));
    names.extend(graph.initializer.iter().map(|tensor| tensor.name().to_owned()));
    for node in &graph.node {
        names.extend(node.input.iter().chain(&node.output).cloned());
        node::subgraphs(node).for_each(|inner| collect_all(inner, names));
    }
}

/// The version of the standard operator set among `imports`; 1 where it is missing.
pub(crate) fn standard_version(imports: &[OperatorSetIdProto]) -> i64 {
    imports.iter().find(|import| matches!(import.domain(), "" | "ai.onnx")).map_or(1, |import| import.version())
}
