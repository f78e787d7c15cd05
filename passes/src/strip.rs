//! `strip`: what a file says to people, or says twice.
//!
//! Small models are mostly names. This pass drops documentation, the names of nodes, the shapes of inner tensors, the
//! name of the producer, and attributes that hold their operator's default; gives inner tensors the shortest names that
//! are free; and writes small integers in the shorter of the two ways that ONNX has. The names and shapes of the graph's
//! inputs and outputs stay, and so do names that training information or annotations mention, metadata of the model, and
//! the names and attributes of functions.

mod defaults;
mod names;

use std::collections::HashSet;

use onnx_dcomp_ir::{Evidence, Model, marker};
use onnx_dcomp_proto::{FunctionProto, GraphProto, NodeProto, TensorProto, ValueInfoProto};

use crate::fold::tensor::shorten;
use crate::graph_bytes::{for_each_tensor, for_each_tensor_of_nodes, graph_bytes, protected_names, standard_version};
use crate::registry::Configured;
use crate::{NoOptions, Pass, PassError, PassReport, Settings, node};

/// The name that graphs get: ONNX wants one.
const GRAPH_NAME: &str = "g";

/// The pass `strip`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Strip;

impl Configured for Strip {
    type Options = NoOptions;
    const NAME: &'static str = "strip";
    const SUMMARY: &'static str = "names of inner tensors become short; documentation and defaults go";
    const SOURCE: &'static str = "the ONNX specification: what it does not need to run a model";

    fn configured(_: Settings<NoOptions>) -> Self {
        Self
    }
}

impl Pass for Strip {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn run(&self, model: &mut Model, _evidence: &Evidence) -> Result<PassReport, PassError> {
        let before = graph_bytes(model);
        let protected = protected_names(&model.proto);
        let version = standard_version(&model.proto.opset_import);
        let proto = &mut model.proto;
        proto.producer_name = None;
        proto.producer_version = None;
        proto.doc_string = None;
        proto.domain.take_if(|domain| domain.is_empty());
        proto.model_version.take_if(|version| *version == 0);
        let (mut attributes, mut renamed) = (0, 0);
        if let Some(graph) = &mut proto.graph {
            attributes += strip_graph(graph, version);
            renamed += names::shorten_graph(graph, &protected);
            for_each_tensor(graph, &mut strip_tensor);
        }
        for function in &mut proto.functions {
            attributes += strip_function(function);
            renamed += names::shorten_function(function);
        }
        let mut report = PassReport::default();
        let after = graph_bytes(model);
        report.note(format!("graph without weights: {before} -> {after} bytes"));
        if attributes > 0 {
            report.note(format!("{attributes} attributes that hold the default removed"));
        }
        if renamed > 0 {
            report.note(format!("{renamed} tensors renamed"));
        }
        Ok(report)
    }
}

/// Strips all but the names of tensors; returns how many attributes went.
fn strip_graph(graph: &mut GraphProto, version: i64) -> usize {
    graph.name = Some(GRAPH_NAME.into());
    graph.doc_string = None;
    graph.metadata_props.clear();
    keep_needed_types(graph);
    for value in graph.input.iter_mut().chain(&mut graph.output).chain(&mut graph.value_info) {
        strip_value(value);
    }
    let constants: HashSet<String> = graph.initializer.iter().map(|tensor| tensor.name().to_owned()).collect();
    graph.node.iter_mut().map(|node| strip_node(node, version, &constants)).sum()
}

/// Drops the types of inner tensors, but for the outputs of operators that only their author knows.
fn keep_needed_types(graph: &mut GraphProto) {
    let foreign = graph.node.iter().filter(|node| !matches!(node::domain(node), "" | "ai.onnx.ml"));
    let needed: HashSet<&String> = foreign.flat_map(|node| &node.output).collect();
    graph.value_info.retain(|value| value.name.as_ref().is_some_and(|name| needed.contains(name)));
}

fn strip_value(value: &mut ValueInfoProto) {
    value.doc_string = None;
    value.metadata_props.clear();
}

fn strip_node(node: &mut NodeProto, version: i64, constants: &HashSet<String>) -> usize {
    node.name = None;
    node.doc_string = None;
    node.metadata_props.clear();
    node.overload.take_if(|overload| overload.is_empty());
    if node::domain(node).is_empty() {
        node.domain = None;
    }
    for names in [&mut node.input, &mut node.output] {
        while names.last().is_some_and(String::is_empty) {
            names.pop();
        }
    }
    for attribute in &mut node.attribute {
        attribute.doc_string = None;
        attribute.ref_attr_name.take_if(|name| name.is_empty());
        attribute.t.iter_mut().for_each(|tensor| tensor.name = None);
    }
    let mut removed = defaults::drop_defaults(node, version);
    // The window of a convolution follows from its weight.
    let has_window = matches!(node::standard_operator(node), "Conv" | "ConvTranspose");
    if has_window && node::input(node, 1).is_some_and(|weight| constants.contains(weight)) {
        let before = node.attribute.len();
        node.attribute.retain(|a| a.name() != "kernel_shape" || !a.ref_attr_name().is_empty());
        removed += before - node.attribute.len();
    }
    removed + node::subgraphs_mut(node).map(|inner| strip_graph(inner, version)).sum::<usize>()
}

fn strip_function(function: &mut FunctionProto) -> usize {
    function.doc_string = None;
    function.metadata_props.clear();
    function.value_info.clear();
    let version = standard_version(&function.opset_import);
    for_each_tensor_of_nodes(&mut function.node, &mut strip_tensor);
    function.node.iter_mut().map(|node| strip_node(node, version, &HashSet::new())).sum()
}

fn strip_tensor(tensor: &mut TensorProto) {
    tensor.doc_string = None;
    tensor.metadata_props.clear();
    if marker::weight_of(tensor).is_none() {
        shorten(tensor);
    }
}
