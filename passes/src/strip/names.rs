//! Short names for the tensors inside a graph.

use std::collections::{HashMap, HashSet};

use onnx_dcomp_proto::{FunctionProto, GraphProto, NodeProto};

use crate::node;

/// The characters of short names. The first one is never a digit, so that names are identifiers.
const FIRST: &[u8] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_";
const REST: &[u8] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789";

/// Renames the tensors of `graph` and of the graphs inside it, all but its inputs, its outputs and those in `protected`;
/// returns how many names changed.
///
/// Names are mapped one to one, so whatever referred to the same tensor still does, across subgraphs too.
pub(crate) fn shorten_graph(graph: &mut GraphProto, protected: &HashSet<String>) -> usize {
    let mut kept = protected.clone();
    kept.extend(graph.input.iter().chain(&graph.output).map(|value| value.name().to_owned()));
    let mut uses = Uses::default();
    visit_graph(graph, &mut |name| uses.count(name));
    let short = uses.assign(&kept);
    visit_graph(graph, &mut |name| replace(name, &short));
    short.len()
}

/// Renames the tensors of `function`; returns how many names changed. Callers name its inputs and outputs by position.
pub(crate) fn shorten_function(function: &mut FunctionProto) -> usize {
    let mut uses = Uses::default();
    visit_function(function, &mut |name| uses.count(name));
    let short = uses.assign(&HashSet::new());
    visit_function(function, &mut |name| replace(name, &short));
    short.len()
}

fn replace(name: &mut String, short: &HashMap<String, String>) {
    if let Some(new) = short.get(name.as_str()) {
        name.clone_from(new);
    }
}

/// How often each name is written, and in which order they appear first.
#[derive(Default)]
struct Uses {
    counts: HashMap<String, (usize, usize)>,
}

impl Uses {
    fn count(&mut self, name: &str) {
        let order = self.counts.len();
        self.counts.entry(name.to_owned()).or_insert((0, order)).0 += 1;
    }

    /// New names, the shortest for those that are written most; names that would not get shorter keep theirs.
    fn assign(self, kept: &HashSet<String>) -> HashMap<String, String> {
        let mut names: Vec<(String, (usize, usize))> =
            self.counts.into_iter().filter(|(name, _)| !name.is_empty() && !kept.contains(name)).collect();
        names.sort_by(|(_, (uses_a, order_a)), (_, (uses_b, order_b))| uses_b.cmp(uses_a).then(order_a.cmp(order_b)));
        let mut number = 0;
        let mut next = || loop {
            let name = short_name(number);
            number += 1;
            if !kept.contains(&name) {
                break name;
            }
        };
        let renamed = names.into_iter().map(|(name, _)| (name, next()));
        renamed.filter(|(old, new)| old != new).collect()
    }
}

/// The short name of number `number`: one letter, then letters and digits.
fn short_name(mut number: usize) -> String {
    let mut length = 1;
    let mut count = FIRST.len();
    while number >= count {
        number -= count;
        count = count.saturating_mul(REST.len());
        length += 1;
    }
    let mut name = vec![0; length];
    for place in name.iter_mut().skip(1).rev() {
        *place = REST[number % REST.len()];
        number /= REST.len();
    }
    name[0] = FIRST[number % FIRST.len()];
    name.iter().map(|&byte| char::from(byte)).collect()
}

fn visit_graph(graph: &mut GraphProto, visit: &mut dyn FnMut(&mut String)) {
    let values = graph.input.iter_mut().chain(&mut graph.output).chain(&mut graph.value_info);
    values.filter_map(|value| value.name.as_mut()).for_each(&mut *visit);
    let sparse = graph.sparse_initializer.iter_mut().filter_map(|sparse| sparse.values.as_mut());
    let tensors = graph.initializer.iter_mut().chain(sparse);
    tensors.filter_map(|tensor| tensor.name.as_mut()).for_each(&mut *visit);
    graph.node.iter_mut().for_each(|node| visit_node(node, visit));
}

fn visit_node(node: &mut NodeProto, visit: &mut dyn FnMut(&mut String)) {
    node.input.iter_mut().chain(&mut node.output).filter(|name| !name.is_empty()).for_each(&mut *visit);
    node::subgraphs_mut(node).for_each(|inner| visit_graph(inner, visit));
}

fn visit_function(function: &mut FunctionProto, visit: &mut dyn FnMut(&mut String)) {
    function.input.iter_mut().chain(&mut function.output).for_each(&mut *visit);
    function.value_info.iter_mut().filter_map(|value| value.name.as_mut()).for_each(&mut *visit);
    function.node.iter_mut().for_each(|node| visit_node(node, visit));
}
