//! Questions about a graph: who defines a name, who reads it, what lies in subgraphs.

use std::collections::{HashMap, HashSet};

use onnx_dcomp_proto::tensor_shape_proto::Dimension;
use onnx_dcomp_proto::tensor_shape_proto::dimension;
use onnx_dcomp_proto::type_proto::{Tensor, Value};
use onnx_dcomp_proto::{GraphProto, NodeProto, TensorProto, TensorShapeProto, TypeProto, ValueInfoProto};

/// Domain of the operators that a compressed file is made of. Their payloads are no weights.
pub const COMPRESSED_DOMAIN: &str = "ai.dcomp";

/// Whether `node` is of ONNX' own domain, which has two names.
pub fn is_standard(node: &NodeProto) -> bool {
    matches!(node.domain(), "" | "ai.onnx")
}

/// Whether `node` is a Constant.
pub fn is_constant(node: &NodeProto) -> bool {
    is_standard(node) && node.op_type() == "Constant"
}

/// The subgraphs of `node`: branches of an If, the body of a Loop or Scan.
pub fn subgraphs(node: &NodeProto) -> impl Iterator<Item = &GraphProto> {
    node.attribute.iter().flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs))
}

/// The subgraphs of `node`, to change.
pub fn subgraphs_mut(node: &mut NodeProto) -> impl Iterator<Item = &mut GraphProto> {
    node.attribute.iter_mut().flat_map(|attribute| attribute.g.iter_mut().chain(&mut attribute.graphs))
}

/// Calls `visit` for `graph` and then for every graph below it.
pub fn for_each_graph_mut(graph: &mut GraphProto, visit: &mut dyn FnMut(&mut GraphProto)) {
    visit(graph);
    graph.node.iter_mut().flat_map(subgraphs_mut).for_each(|subgraph| for_each_graph_mut(subgraph, visit));
}

/// The name of a sparse initializer: that of its values.
pub fn sparse_name(sparse: &onnx_dcomp_proto::SparseTensorProto) -> &str {
    sparse.values.as_ref().map(|values| values.name()).unwrap_or_default()
}

/// The names that `graph` itself defines: inputs, initializers, outputs of its nodes.
pub fn defined_names(graph: &GraphProto) -> impl Iterator<Item = &str> {
    let inputs = graph.input.iter().map(|input| input.name());
    let initializers = graph.initializer.iter().map(|tensor| tensor.name());
    let sparse = graph.sparse_initializer.iter().map(sparse_name);
    let outputs = graph.node.iter().flat_map(|node| node.output.iter().map(String::as_str));
    inputs.chain(initializers).chain(sparse).chain(outputs).filter(|name| !name.is_empty())
}

/// Calls `visit` for every name that `graph`, with all below it, reads from the graphs around it.
pub fn for_each_captured_name<'a>(graph: &'a GraphProto, visit: &mut dyn FnMut(&'a str)) {
    let defined: HashSet<&str> = defined_names(graph).collect();
    let mut outer = |name: &'a str| {
        if !name.is_empty() && !defined.contains(name) {
            visit(name);
        }
    };
    let mut nested = Vec::new();
    for node in &graph.node {
        node.input.iter().for_each(|name| outer(name));
        subgraphs(node).for_each(|subgraph| for_each_captured_name(subgraph, &mut |name| nested.push(name)));
    }
    nested.into_iter().for_each(&mut outer);
    graph.output.iter().for_each(|output| outer(output.name()));
}

/// The declaration of a graph input that `tensor` is the initializer of.
pub(crate) fn value_info_of(tensor: &TensorProto) -> ValueInfoProto {
    let length = |&length: &i64| Dimension { value: Some(dimension::Value::DimValue(length)), denotation: None };
    let shape = TensorShapeProto { dim: tensor.dims.iter().map(length).collect() };
    let tensor_type = Tensor { elem_type: tensor.data_type, shape: Some(shape) };
    ValueInfoProto {
        name: tensor.name.clone(),
        r#type: Some(TypeProto { value: Some(Value::TensorType(tensor_type)), denotation: None }),
        ..ValueInfoProto::default()
    }
}

/// Who defines and who reads each name of one graph, as it was when the index was made.
///
/// The index owns its names, so that the graph may change while it is held; node numbers are those of the graph as it
/// was.
#[derive(Debug, Clone, Default)]
pub struct GraphIndex {
    producers: HashMap<String, usize>,
    consumers: HashMap<String, Vec<(usize, usize)>>,
    captures: HashMap<String, Vec<usize>>,
    outputs: HashSet<String>,
    taken: HashSet<String>,
    next_suffix: HashMap<String, usize>,
}

impl GraphIndex {
    /// Looks through `graph`, subgraphs included.
    pub fn new(graph: &GraphProto) -> Self {
        let mut index = Self::default();
        for (at, node) in graph.node.iter().enumerate() {
            for name in node.output.iter().filter(|name| !name.is_empty()) {
                index.producers.entry(name.clone()).or_insert(at);
            }
            for (input, name) in node.input.iter().enumerate().filter(|(_, name)| !name.is_empty()) {
                index.consumers.entry(name.clone()).or_default().push((at, input));
            }
            for subgraph in subgraphs(node) {
                for_each_captured_name(subgraph, &mut |name| {
                    let readers = index.captures.entry(name.to_owned()).or_default();
                    if readers.last() != Some(&at) {
                        readers.push(at);
                    }
                });
            }
        }
        index.outputs.extend(graph.output.iter().map(|output| output.name().to_owned()));
        index.take_names(graph);
        index
    }

    fn take_names(&mut self, graph: &GraphProto) {
        self.taken.extend(defined_names(graph).map(str::to_owned));
        self.taken.extend(graph.output.iter().map(|output| output.name().to_owned()));
        for node in &graph.node {
            self.taken.extend(node.input.iter().cloned());
            subgraphs(node).for_each(|subgraph| self.take_names(subgraph));
        }
    }

    /// The number of the node that defines `name`; `None` for inputs, initializers and unknown names.
    pub fn producer(&self, name: &str) -> Option<usize> {
        self.producers.get(name).copied()
    }

    /// The nodes of this graph that read `name`, each with the position among its inputs, in the order of the nodes.
    pub fn consumers(&self, name: &str) -> &[(usize, usize)] {
        self.consumers.get(name).map(Vec::as_slice).unwrap_or_default()
    }

    /// The nodes of this graph in whose subgraphs `name` is read, in order.
    pub fn captured_by(&self, name: &str) -> &[usize] {
        self.captures.get(name).map(Vec::as_slice).unwrap_or_default()
    }

    /// Whether a subgraph reads `name`.
    pub fn is_captured(&self, name: &str) -> bool {
        self.captures.contains_key(name)
    }

    /// Whether `name` is an output of the graph.
    pub fn is_output(&self, name: &str) -> bool {
        self.outputs.contains(name)
    }

    /// Whether anything reads `name`: a node, a subgraph, or whoever runs the graph.
    pub fn is_used(&self, name: &str) -> bool {
        self.consumers.contains_key(name) || self.is_captured(name) || self.is_output(name)
    }

    /// A name that is not in use in the graph or below it: `prefix`, or else `prefix_1` and so on. It counts as in use
    /// from now on.
    pub fn unique_name(&mut self, prefix: &str) -> String {
        let mut candidate = prefix.to_owned();
        if candidate.is_empty() || self.taken.contains(&candidate) {
            let suffix = self.next_suffix.entry(prefix.to_owned()).or_insert(1);
            loop {
                candidate = format!("{prefix}_{suffix}");
                *suffix += 1;
                if !self.taken.contains(&candidate) {
                    break;
                }
            }
        }
        self.taken.insert(candidate.clone());
        candidate
    }
}
