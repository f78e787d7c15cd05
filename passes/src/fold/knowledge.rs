//! What can be said of a graph's tensors without running it: constants, shapes, and the contents of shape vectors.
//!
//! One walk over the nodes in their order. Lengths that depend on the input are symbols, so that the shape `[N, 64, 1,
//! 1]` survives Shape, Gather, Unsqueeze and Concat as `[N, -1]`.

use std::collections::{HashMap, HashSet};

use onnx_dcomp_ir::Model;
use onnx_dcomp_proto::tensor_proto::DataType;
use onnx_dcomp_proto::tensor_shape_proto::dimension;
use onnx_dcomp_proto::{GraphProto, Message, NodeProto, TypeProto, type_proto};

use super::dim::Dim;
use super::evaluate::{self, evaluate};
use super::shapes;
use super::tensor::{Tensor, element_bytes};
use crate::node;

/// A constant, and what it costs to keep it as a computation.
pub(crate) struct Constant {
    /// Its value.
    pub(crate) tensor: Tensor,
    /// Bytes of the nodes and tensors that nothing but this constant needs, itself included.
    pub(crate) cost: usize,
    /// Whether it is an initializer already.
    pub(crate) stored: bool,
}

/// The shape and the element type of a tensor, as far as they are known.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fact {
    /// The shape; `None` where not even the number of axes is known.
    pub(crate) dims: Option<Vec<Dim>>,
    /// The type of an element.
    pub(crate) element: Option<DataType>,
}

/// What is known of the tensors of one graph.
pub(crate) struct Knowledge {
    /// Constants by name.
    pub(crate) constants: HashMap<String, Constant>,
    facts: HashMap<String, Fact>,
    contents: HashMap<String, Vec<Dim>>,
    symbols: u32,
    /// Version of the standard operators.
    pub(crate) opset: i64,
}

impl Knowledge {
    /// Walks over `graph`, whose weights stand in `model`.
    pub(crate) fn gather(graph: &GraphProto, model: &Model, opset: i64, ir_version: i64) -> Self {
        let mut knowledge =
            Self { constants: HashMap::new(), facts: HashMap::new(), contents: HashMap::new(), symbols: 0, opset };
        for info in graph.value_info.iter().chain(&graph.input) {
            let fact = knowledge.declared(info.r#type.as_ref());
            knowledge.facts.insert(info.name().into(), fact);
        }
        let overridable: HashSet<&str> =
            if ir_version < 4 { HashSet::new() } else { graph.input.iter().map(|i| i.name()).collect() };
        for initializer in graph.initializer.iter().filter(|i| !overridable.contains(i.name())) {
            let dims = initializer.dims.iter().map(|&dim| usize::try_from(dim).ok().map(Dim::Known)).collect();
            let fact = Fact { dims, element: DataType::try_from(initializer.data_type()).ok() };
            knowledge.facts.insert(initializer.name().into(), fact);
            if let Some(tensor) = Tensor::read(model, initializer) {
                let cost = initializer.encoded_len() + tensor.bytes.len();
                knowledge.insert_constant(initializer.name(), tensor, cost, true);
            }
        }
        let mut reads: HashMap<&str, usize> = HashMap::new();
        for name in graph.node.iter().flat_map(|n| &n.input) {
            *reads.entry(name).or_default() += 1;
        }
        for node in &graph.node {
            knowledge.visit(node, model, &reads);
        }
        knowledge
    }

    /// Shape and type of `name`.
    pub(crate) fn fact(&self, name: &str) -> Fact {
        self.facts.get(name).cloned().unwrap_or_default()
    }

    /// Shape of `name`, where at least its number of axes is known.
    pub(crate) fn dims(&self, name: &str) -> Option<&[Dim]> {
        self.facts.get(name)?.dims.as_deref()
    }

    /// The elements of the integer vector `name`, constant or not.
    pub(crate) fn contents(&self, name: &str) -> Option<&[Dim]> {
        self.contents.get(name).map(Vec::as_slice)
    }

    /// The constant integers of `name`.
    pub(crate) fn ints(&self, name: &str) -> Option<Vec<i64>> {
        self.constants.get(name)?.tensor.ints()
    }

    /// The constant integers of input `index` of `node`: inner `None` where the input is left out, outer `None` where
    /// it is not constant.
    pub(crate) fn optional_ints(&self, node: &NodeProto, index: usize) -> Option<Option<Vec<i64>>> {
        match node::input(node, index) {
            Some(name) => self.ints(name).map(Some),
            None => Some(None),
        }
    }

    /// A length that nothing is known of.
    pub(crate) fn fresh(&mut self) -> Dim {
        self.symbols += 1;
        Dim::Symbol(self.symbols)
    }

    fn declared(&mut self, declared: Option<&TypeProto>) -> Fact {
        let Some(type_proto::Value::TensorType(tensor)) = declared.and_then(|t| t.value.as_ref()) else {
            return Fact::default();
        };
        let element = DataType::try_from(tensor.elem_type()).ok().filter(|&e| e != DataType::Undefined);
        // Two axes of one symbolic name may differ in practice, so every axis gets a symbol of its own.
        let dims = tensor.shape.as_ref().map(|shape| {
            let dims = shape.dim.iter().map(|dim| match dim.value {
                Some(dimension::Value::DimValue(length)) => usize::try_from(length).ok().map(Dim::Known),
                _ => None,
            });
            dims.map(|dim| dim.unwrap_or_else(|| self.fresh())).collect()
        });
        Fact { dims, element }
    }

    fn insert_constant(&mut self, name: &str, tensor: Tensor, cost: usize, stored: bool) {
        let dims = tensor.dims.iter().map(|&dim| Dim::Known(dim)).collect();
        if tensor.len() <= 64
            && let Some(values) = tensor.ints()
            && let Some(contents) = values.iter().map(|&v| usize::try_from(v).ok().map(Dim::Known)).collect()
        {
            self.contents.insert(name.into(), contents);
        }
        self.facts.insert(name.into(), Fact { dims: Some(dims), element: Some(tensor.element) });
        self.constants.insert(name.into(), Constant { tensor, cost, stored });
    }

    fn visit(&mut self, node: &NodeProto, model: &Model, reads: &HashMap<&str, usize>) {
        if node::standard_operator(node).is_empty() || node::has_references(node) {
            return;
        }
        if let Some(output) = node::sole_output(node)
            && let Some((tensor, cost)) = self.evaluate(node, model, reads)
        {
            self.insert_constant(output, tensor, cost, false);
            return;
        }
        if let Some(output) = node::sole_output(node)
            && let Some(contents) = self.shape_arithmetic(node)
        {
            self.contents.insert(output.into(), contents);
        }
        for (index, fact) in shapes::infer(self, node).into_iter().enumerate() {
            if let Some(output) = node.output.get(index).filter(|name| !name.is_empty()) {
                let declared = self.fact(output);
                let dims = fact.dims.or(declared.dims);
                self.facts.insert(output.clone(), Fact { dims, element: fact.element.or(declared.element) });
            }
        }
    }

    fn evaluate(&self, node: &NodeProto, model: &Model, reads: &HashMap<&str, usize>) -> Option<(Tensor, usize)> {
        let read = |proto: &_| Tensor::read(model, proto);
        if matches!(node.op_type(), "Shape" | "Size") {
            // The shape is enough: the tensor itself need not be constant.
            let dims = self.dims(node::input(node, 0)?)?;
            let known = dims.iter().map(|d| i64::try_from(d.known()?).ok()).collect::<Option<Vec<_>>>()?;
            let tensor = match node.op_type() {
                "Shape" => Tensor::vector(evaluate::slice_of_shape(node, &known)),
                _ => {
                    Tensor::from_ints(DataType::Int64, vec![], &[known.iter().try_fold(1, |p, &d| d.checked_mul(p))?])?
                }
            };
            return Some((tensor, node.encoded_len()));
        }
        if !node::is_pure(node) {
            return None;
        }
        let mut cost = node.encoded_len();
        let mut inputs = Vec::with_capacity(node.input.len());
        for name in &node.input {
            if name.is_empty() {
                inputs.push(None);
                continue;
            }
            let constant = self.constants.get(name)?;
            if reads.get(name.as_str()) == Some(&1) {
                cost += constant.cost;
            }
            inputs.push(Some(&constant.tensor));
        }
        let tensor = evaluate(node, &inputs, self.opset, &read)?;
        element_bytes(tensor.element)?;
        Some((tensor, cost))
    }

    /// The contents of a shape vector that partly depends on the input.
    fn shape_arithmetic(&mut self, node: &NodeProto) -> Option<Vec<Dim>> {
        let first = node::input(node, 0)?;
        match node.op_type() {
            "Shape" => Some(evaluate::slice_of_shape(node, self.dims(first)?).to_vec()),
            "Identity" | "Squeeze" | "Unsqueeze" => self.contents(first).map(<[Dim]>::to_vec),
            "Cast" if matches!(node::int(node, "to", 0), 6 | 7) => self.contents(first).map(<[Dim]>::to_vec),
            "Concat" => {
                let mut contents = Vec::new();
                for name in &node.input {
                    match self.contents(name) {
                        Some(part) => contents.extend_from_slice(part),
                        None => {
                            // A part such as the -1 of a Reshape target stays unknown, but not its length.
                            let length =
                                self.dims(name).and_then(|d| if d.len() == 1 { d[0].known() } else { None })?;
                            for _ in 0..length.min(64) {
                                let unknown = self.fresh();
                                contents.push(unknown);
                            }
                        }
                    }
                }
                Some(contents)
            }
            "Gather" => {
                let length = self.contents(first)?.len();
                let indices = self.ints(node::input(node, 1)?)?;
                let contents = self.contents(first)?;
                indices.iter().map(|&i| Some(contents[evaluate::axis(i, length)?])).collect()
            }
            "Slice" => {
                let contents = self.contents(first)?;
                let ranges = evaluate::SliceRanges::read(node, |index| self.optional_ints(node, index))?;
                let (&[start], &[end], &[1]) = (&ranges.starts[..], &ranges.ends[..], &ranges.steps[..]) else {
                    return None;
                };
                let (from, count) = evaluate::slice_range(contents.len(), start, end, 1)?;
                contents.get(from..from + count).map(<[Dim]>::to_vec)
            }
            _ => None,
        }
    }
}
