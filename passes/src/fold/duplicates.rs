//! Tensors and computations that exist twice become one.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use onnx_dcomp_ir::Model;
use onnx_dcomp_proto::{GraphProto, Message, NodeProto, TensorProto};

use super::store::weight_of;
use super::uses::Uses;
use crate::node;

/// Lets all readers of equal initializers read the first of them; returns how many others there are.
///
/// Data is compared only between tensors of equal type, shape and first bytes, so that the weights of a large model are
/// not read.
pub(crate) fn merge_initializers(
    graph: &mut GraphProto,
    model: &Model,
    ir_version: i64,
    protected: &HashSet<String>,
) -> usize {
    let uses = Uses::of(graph, protected);
    let inputs: HashSet<&str> = graph.input.iter().map(|i| i.name()).collect();
    let is_overridable = |name: &str| ir_version >= 4 && inputs.contains(name);
    let mut groups: HashMap<(i32, Vec<i64>, Bytes), Vec<usize>> = HashMap::new();
    let mut alias: HashMap<String, String> = HashMap::new();
    for (index, tensor) in graph.initializer.iter().enumerate() {
        if is_overridable(tensor.name()) || uses.is_pinned(tensor.name()) {
            continue;
        }
        let Some(data) = data(model, tensor) else { continue };
        let start = data.slice(..data.len().min(64));
        let group = groups.entry((tensor.data_type(), tensor.dims.clone(), start)).or_default();
        let twin = group.iter().copied().find(|&other| same_data(model, &graph.initializer[other], tensor));
        match twin {
            Some(first) => {
                alias.insert(tensor.name().to_owned(), graph.initializer[first].name().to_owned());
            }
            None => group.push(index),
        }
    }
    for name in graph.node.iter_mut().flat_map(|n| &mut n.input) {
        if let Some(first) = alias.get(name.as_str()) {
            name.clone_from(first);
        }
    }
    alias.len()
}

/// The bytes that tell tensors apart: a weight's values, or the message without its name.
fn data(model: &Model, tensor: &TensorProto) -> Option<Bytes> {
    match weight_of(model, tensor) {
        Some(id) => match &model.weight(id).form {
            onnx_dcomp_forms::Form::Dense(values) => Some(values.bytes().clone()),
            _ => None,
        },
        None => {
            let nameless = TensorProto { name: None, doc_string: None, ..tensor.clone() };
            Some(nameless.encode_to_vec().into())
        }
    }
}

fn same_data(model: &Model, a: &TensorProto, b: &TensorProto) -> bool {
    weight_of(model, a).is_some() == weight_of(model, b).is_some() && data(model, a) == data(model, b)
}

/// Lets all readers of equal computations read the first of them; returns how many others there are.
pub(crate) fn merge_nodes(graph: &mut GraphProto, protected: &HashSet<String>) -> usize {
    let uses = Uses::of(graph, protected);
    let mut seen: HashMap<Vec<u8>, Vec<String>> = HashMap::new();
    let mut alias: HashMap<String, String> = HashMap::new();
    let mut merged = 0;
    let mut nodes = std::mem::take(&mut graph.node);
    nodes.retain_mut(|node| {
        for name in &mut node.input {
            if let Some(first) = alias.get(name.as_str()) {
                name.clone_from(first);
            }
        }
        if !node::is_pure(node) || node.output.iter().any(|name| uses.is_pinned(name)) {
            return true;
        }
        match seen.get(&identity(node)) {
            Some(outputs) if outputs.len() == node.output.len() => {
                alias.extend(node.output.iter().cloned().zip(outputs.iter().cloned()));
                merged += 1;
                false
            }
            _ => {
                seen.insert(identity(node), node.output.clone());
                true
            }
        }
    });
    graph.node = nodes;
    merged
}

/// What `node` computes, as bytes.
fn identity(node: &NodeProto) -> Vec<u8> {
    let mut attribute = node.attribute.clone();
    attribute.sort_by(|a, b| a.name().cmp(b.name()));
    attribute.iter_mut().for_each(|a| a.doc_string = None);
    let output = node.output.iter().map(|name| if name.is_empty() { String::new() } else { "x".into() }).collect();
    let bare = NodeProto {
        input: node.input.clone(),
        output,
        op_type: node.op_type.clone(),
        domain: Some(node::domain(node).to_owned()),
        overload: node.overload.clone(),
        attribute,
        ..NodeProto::default()
    };
    bare.encode_to_vec()
}
