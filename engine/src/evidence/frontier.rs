//! A network that runs piece by piece: what was computed is kept as long as something ahead reads it.

use std::collections::{HashMap, HashSet};

use onnx_dcomp_ir::{GraphIndex, Model, graph};
use onnx_dcomp_proto::tensor_proto::DataType;
use onnx_dcomp_proto::{GraphProto, NodeProto, ValueInfoProto, type_proto};

use super::layer::declaration;
use super::open_in;
use crate::backend::RuntimeKind;
use crate::error::EngineError;
use crate::tensor::Tensor;

/// Which nodes lead to some values of a graph.
pub(super) struct Route {
    index: GraphIndex,
    /// Nodes that some target depends on.
    needed: HashSet<usize>,
}

impl Route {
    /// The way through `graph` to all of `targets`.
    pub(super) fn new<'a>(graph: &GraphProto, targets: impl Iterator<Item = &'a str>) -> Self {
        let mut route = Self { index: GraphIndex::new(graph), needed: HashSet::new() };
        let targets = targets.map(str::to_owned).collect();
        route.needed = route.before(graph, targets, &|_| false);
        route
    }

    /// The nodes that `targets` depend on, but for those behind a value that `is_known`.
    fn before(&self, graph: &GraphProto, targets: Vec<String>, is_known: &dyn Fn(&str) -> bool) -> HashSet<usize> {
        let (mut found, mut open) = (HashSet::new(), targets);
        while let Some(name) = open.pop() {
            let producer = self.index.producer(&name).filter(|_| !is_known(&name));
            if let Some(node) = producer.filter(|node| found.insert(*node)) {
                open.extend(reads(&graph.node[node]));
            }
        }
        found
    }

    /// Whether a node reads `name` that is needed and has not run.
    fn is_read(&self, name: &str, has_run: &dyn Fn(usize) -> bool) -> bool {
        let readers = self.index.consumers(name).iter().map(|&(node, _)| node);
        let mut readers = readers.chain(self.index.captured_by(name).iter().copied());
        readers.any(|node| self.needed.contains(&node) && !has_run(node))
    }
}

/// Every name that `node` reads, in its subgraphs too.
fn reads(node: &NodeProto) -> Vec<String> {
    let mut names: Vec<String> = node.input.iter().filter(|name| !name.is_empty()).cloned().collect();
    for subgraph in graph::subgraphs(node) {
        graph::for_each_captured_name(subgraph, &mut |name| names.push(name.to_owned()));
    }
    names
}

/// How far a network has run on some batches.
pub(super) struct Frontier {
    runtime: RuntimeKind,
    /// What is known, for each batch.
    values: HashMap<String, Vec<Tensor>>,
    /// What was computed, whether it is known still or not. Constants are not among it: they cost nothing, and are there
    /// again for whoever needs them.
    computed: HashSet<String>,
}

impl Frontier {
    /// At the inputs of the graph, which `batches` are the values of.
    pub(super) fn new(graph: &GraphProto, batches: &[Vec<Tensor>], runtime: RuntimeKind) -> Self {
        let initializers: HashSet<&str> = graph.initializer.iter().map(|tensor| tensor.name()).collect();
        let inputs = graph.input.iter().map(|input| input.name()).filter(|name| !initializers.contains(name));
        let column = |place: usize| batches.iter().filter_map(|batch| batch.get(place).cloned()).collect();
        let values = inputs.enumerate().map(|(place, name)| (name.to_owned(), column(place))).collect();
        Self { runtime, values, computed: HashSet::new() }
    }

    /// The values of `name` where it has been reached, for each batch.
    pub(super) fn values(&self, name: &str) -> &[Tensor] {
        self.values.get(name).map(Vec::as_slice).unwrap_or_default()
    }

    /// Runs what is missing of `model` up to `target`, which is on `route` through its graph, and forgets what nothing
    /// ahead reads. The graph may have changed since the last call, but for the names of what was computed.
    ///
    /// # Errors
    /// What the runtime says of the piece.
    pub(super) fn advance(&mut self, model: &Model, route: &Route, target: &str) -> Result<(), EngineError> {
        let graph = model.graph();
        if !self.values.contains_key(target) {
            let is_known = |name: &str| self.values.contains_key(name);
            let piece = route.before(graph, vec![target.to_owned()], &is_known);
            self.run(model, route, target, piece)?;
        }
        let (computed, values) = (&self.computed, &mut self.values);
        values.retain(|name, _| name == target || route.is_read(name, &|node| has_run(&graph.node[node], computed)));
        Ok(())
    }

    fn run(&mut self, model: &Model, route: &Route, target: &str, piece: HashSet<usize>) -> Result<(), EngineError> {
        let mut places: Vec<usize> = piece.iter().copied().collect();
        places.sort_unstable();
        let nodes = || places.iter().filter_map(|&place| model.graph().node.get(place));
        let read: HashSet<String> = nodes().flat_map(reads).collect();
        let mut inputs: Vec<String> = self.values.keys().filter(|name| read.contains(*name)).cloned().collect();
        inputs.sort_unstable();
        let variable = || nodes().filter(|node| !graph::is_constant(node)).flat_map(|node| &node.output);
        self.computed.extend(variable().cloned());
        let has_run = |node: usize| has_run(&model.graph().node[node], &self.computed);
        let kept = |name: &str| name == target || route.is_read(name, &has_run);
        let outputs: Vec<String> = variable().filter(|name| kept(name)).cloned().collect();

        let mut types: HashMap<String, i32> = HashMap::new();
        for name in &inputs {
            let first = self.values(name).first().map(|tensor| tensor.element().to_onnx());
            types.extend(first.map(|element| (name.clone(), element)));
        }
        let mut part = model.clone();
        let graph = part.graph_mut();
        graph.node = places.iter().filter_map(|&place| model.graph().node.get(place).cloned()).collect();
        graph.initializer.retain(|tensor| read.contains(tensor.name()));
        types.extend(graph.initializer.iter().filter_map(|tensor| Some((tensor.name().to_owned(), tensor.data_type?))));
        let declared = graph.value_info.iter().chain(&graph.output);
        types.extend(declared.filter_map(|value| Some((value.name().to_owned(), element_of(value)?))));
        graph.node.iter().for_each(|node| infer(node, &mut types));
        let declare = |name: &String| declaration(name, types.get(name).copied().unwrap_or(DataType::Float as i32));
        graph.input = inputs.iter().map(declare).collect();
        graph.output = outputs.iter().map(declare).collect();
        graph.value_info.clear();
        part.remove_unreferenced();

        let mut session = open_in(&part, self.runtime)?;
        let batches = inputs.first().map_or(1, |name| self.values(name).len());
        let mut given: Vec<Vec<Tensor>> = vec![Vec::with_capacity(batches); outputs.len()];
        for batch in 0..batches {
            let fed: Vec<Tensor> = inputs.iter().filter_map(|name| self.values(name).get(batch).cloned()).collect();
            given.iter_mut().zip(session.run(&fed)?).for_each(|(all, output)| all.push(output));
        }
        self.values.extend(outputs.into_iter().zip(given));
        Ok(())
    }
}

/// Whether what `node` gives is among what was `computed`.
fn has_run(node: &NodeProto, computed: &HashSet<String>) -> bool {
    node.output.iter().any(|name| computed.contains(name))
}

fn element_of(value: &ValueInfoProto) -> Option<i32> {
    match value.r#type.as_ref()?.value.as_ref()? {
        type_proto::Value::TensorType(tensor) => tensor.elem_type,
        _ => None,
    }
}

/// The element types of what `node` gives, as far as its kind says it: mostly that of its first input.
fn infer(node: &NodeProto, types: &mut HashMap<String, i32>) {
    let attribute = |name: &str| node.attribute.iter().find(|attribute| attribute.name() == name);
    let of_input = |place: usize| node.input.get(place).and_then(|name| types.get(name)).copied();
    let found = match node.op_type() {
        "Constant" => attribute("value").and_then(|value| value.t.as_ref()?.data_type).or(Some(match () {
            () if attribute("value_int").or_else(|| attribute("value_ints")).is_some() => DataType::Int64 as i32,
            () => DataType::Float as i32,
        })),
        "ConstantOfShape" => {
            attribute("value").and_then(|value| value.t.as_ref()?.data_type).or(Some(DataType::Float as i32))
        }
        "Cast" => attribute("to").and_then(|to| to.i).and_then(|to| i32::try_from(to).ok()),
        "Shape" | "Size" | "ArgMax" | "ArgMin" | "NonZero" => Some(DataType::Int64 as i32),
        "Equal" | "Greater" | "GreaterOrEqual" | "Less" | "LessOrEqual" | "And" | "Or" | "Xor" | "Not" | "IsNaN"
        | "IsInf" => Some(DataType::Bool as i32),
        "Where" | "OneHot" => of_input(node.input.len().saturating_sub(1)),
        _ => of_input(0),
    };
    for (place, name) in node.output.iter().enumerate().filter(|(_, name)| !name.is_empty()) {
        let element = match (node.op_type(), place) {
            ("TopK", 1) | ("MaxPool", 1) => Some(DataType::Int64 as i32),
            ("Dropout", 1) => Some(DataType::Bool as i32),
            _ => found,
        };
        if let Some(element) = element {
            types.entry(name.clone()).or_insert(element);
        }
    }
}
