//! Nodes and initializers that no output depends on.

use std::collections::HashSet;

use onnx_dcomp_proto::{FunctionProto, GraphProto, NodeProto};

use super::store::mentioned;
use crate::node;

/// What was dead.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Dead {
    /// Nodes, also in subgraphs and functions.
    pub(crate) nodes: usize,
    /// Initializers.
    pub(crate) initializers: usize,
}

impl std::ops::AddAssign for Dead {
    fn add_assign(&mut self, other: Self) {
        self.nodes += other.nodes;
        self.initializers += other.initializers;
    }
}

/// Removes what neither the outputs of `graph` nor `protected` depend on.
///
/// Graph inputs stay, but for those that old IR versions want for each initializer.
pub(crate) fn remove(graph: &mut GraphProto, protected: &HashSet<String>, ir_version: i64) -> Dead {
    let mut live: HashSet<String> = protected.clone();
    live.extend(graph.output.iter().map(|output| output.name().to_owned()));
    let mut dead = Dead { nodes: sweep(&mut graph.node, &mut live), initializers: 0 };
    for inner in graph.node.iter_mut().flat_map(node::subgraphs_mut) {
        // Names of the outer graph mean nothing to the inner one, so protecting them again does no harm.
        dead += remove(inner, protected, i64::MAX);
    }
    let inputs: HashSet<String> = graph.input.iter().map(|input| input.name().to_owned()).collect();
    let mut gone = HashSet::new();
    let is_interface = |name: &str| ir_version >= 4 && inputs.contains(name);
    graph.initializer.retain(|tensor| {
        let keep = live.contains(tensor.name()) || is_interface(tensor.name());
        if !keep {
            gone.insert(tensor.name().to_owned());
        }
        keep
    });
    graph.sparse_initializer.retain(|sparse| {
        let name = sparse.values.as_ref().map_or("", |values| values.name());
        live.contains(name) || is_interface(name)
    });
    graph.input.retain(|input| !gone.contains(input.name()));
    dead.initializers += gone.len();
    dead
}

/// Removes the nodes of `function` that none of its outputs depends on.
pub(crate) fn remove_in_function(function: &mut FunctionProto) -> Dead {
    let mut live = function.output.iter().cloned().collect();
    Dead { nodes: sweep(&mut function.node, &mut live), initializers: 0 }
}

/// Removes the nodes that define nothing that is live, and adds what the others read to `live`.
fn sweep(nodes: &mut Vec<NodeProto>, live: &mut HashSet<String>) -> usize {
    let before = nodes.len();
    let mut keep = vec![false; before];
    for (index, node) in nodes.iter().enumerate().rev() {
        let is_live = node.output.iter().any(|name| live.contains(name)) || node.output.iter().all(String::is_empty);
        if is_live {
            keep[index] = true;
            live.extend(node.input.iter().filter(|name| !name.is_empty()).cloned());
            mentioned(node, live);
        }
    }
    let mut keep = keep.into_iter();
    nodes.retain(|_| keep.next().unwrap_or(true));
    before - nodes.len()
}
