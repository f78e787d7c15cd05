//! A model as text, for whoever debugs a pass.

use std::fmt::Write as _;

use onnx_dcomp_ir::{Model, graph, marker};
use onnx_dcomp_proto::{GraphProto, NodeProto, TensorProto};

use super::style::shape;

/// The graph and its weights, a line each.
pub fn listing(model: &Model) -> String {
    let mut text = String::new();
    print_graph(model, model.graph(), "", &mut text);
    text
}

fn print_graph(model: &Model, graph: &GraphProto, indent: &str, into: &mut String) {
    let names = |values: &[onnx_dcomp_proto::ValueInfoProto]| {
        values.iter().map(|value| value.name().to_owned()).collect::<Vec<_>>().join(", ")
    };
    let _ = writeln!(into, "{indent}graph({}) -> ({})", names(&graph.input), names(&graph.output));
    for tensor in &graph.initializer {
        let _ = writeln!(into, "{indent}  {}", tensor_text(model, tensor));
    }
    for node in &graph.node {
        let _ = writeln!(into, "{indent}  {}", node_text(node));
        for attribute in node.attribute.iter().filter_map(|attribute| attribute.t.as_ref()) {
            let _ = writeln!(into, "{indent}    {}", tensor_text(model, attribute));
        }
        for subgraph in graph::subgraphs(node) {
            print_graph(model, subgraph, &format!("{indent}    "), into);
        }
    }
}

fn node_text(node: &NodeProto) -> String {
    let domain = if node.domain().is_empty() { String::new() } else { format!("{}::", node.domain()) };
    format!("{} = {domain}{}({})", node.output.join(", "), node.op_type(), node.input.join(", "))
}

fn tensor_text(model: &Model, tensor: &TensorProto) -> String {
    let dims: Vec<usize> = tensor.dims.iter().map(|&length| usize::try_from(length).unwrap_or(0)).collect();
    let held = match marker::weight_of(tensor).and_then(|id| model.get_weight(id)) {
        Some(weight) => {
            let form = weight.form.kind().name();
            format!("weight `{}`, {}, {form}, density {:.3}", weight.name, weight.role, weight.form.density())
        }
        None => "constant".to_owned(),
    };
    format!("{}: [{}] {held}", tensor.name(), shape(&dims))
}
