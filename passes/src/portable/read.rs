//! The way back: nodes that compute constants give way to what they compute.
//!
//! Reads what [`Portable`](super::Portable) writes, bit for bit as runtimes compute it. Files may be hostile: what a node
//! gives is bounded before it is made.

use std::collections::{HashMap, HashSet};

use half::{bf16, f16};
use onnx_dcomp_ir::graph::{for_each_captured_name, is_constant, subgraphs, subgraphs_mut};
use onnx_dcomp_ir::{Model, marker};
use onnx_dcomp_proto::tensor_proto::DataType;
use onnx_dcomp_proto::{GraphProto, Message, NodeProto, TensorProto};

use crate::fold::evaluate::{SliceRanges, broadcast, slice_range};
use crate::fold::tensor::{Tensor, element_bytes, element_count};
use crate::node;
use crate::pack::constant_node;

/// A weight that nodes computed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Computed {
    /// Its name in its graph.
    pub name: String,
    /// Bytes of the nodes and constants that computed it; what several share counts for the first.
    pub bytes: u64,
    /// The operator that tells how it was held: ScatterElements, Gather, or Mul.
    pub operator: &'static str,
}

/// Puts what constant nodes of `model` compute in their place, in all graphs; at most `most_bytes` in all.
///
/// # Errors
/// Where they would compute more: the model is then half folded, drop it.
pub fn fold_back(model: &mut Model, most_bytes: u64) -> Result<Vec<Computed>, String> {
    let mut graph = std::mem::take(model.graph_mut());
    let mut functions = std::mem::take(&mut model.proto.functions);
    let mut reader = Reader { model, left: most_bytes, computed: Vec::new() };
    let mut done = reader.graph(&mut graph, true);
    for function in &mut functions {
        if done.is_err() {
            break;
        }
        let mut body = GraphProto { node: std::mem::take(&mut function.node), ..GraphProto::default() };
        let kept: HashSet<String> = function.output.iter().cloned().collect();
        done = reader.nodes(&mut body, false, &kept);
        function.node = body.node;
    }
    let computed = reader.computed;
    *model.graph_mut() = graph;
    model.proto.functions = functions;
    model.remove_unreferenced();
    done.map(|()| computed)
}

struct Reader<'a> {
    model: &'a Model,
    /// Bytes that may still be computed.
    left: u64,
    computed: Vec<Computed>,
}

impl Reader<'_> {
    fn graph(&mut self, graph: &mut GraphProto, has_initializers: bool) -> Result<(), String> {
        for node in &mut graph.node {
            for subgraph in subgraphs_mut(node) {
                self.graph(subgraph, has_initializers)?;
            }
        }
        let outputs = graph.output.iter().map(|output| output.name().to_owned()).collect();
        self.nodes(graph, has_initializers, &outputs)
    }

    fn nodes(
        &mut self,
        graph: &mut GraphProto,
        has_initializers: bool,
        outputs: &HashSet<String>,
    ) -> Result<(), String> {
        let mut known = self.constants(graph);
        let given: HashSet<String> = known.keys().cloned().collect();
        let mut makers: HashMap<String, NodeProto> = HashMap::new();
        let mut rest = Vec::with_capacity(graph.node.len());
        for node in std::mem::take(&mut graph.node) {
            match self.value(&node, &known)? {
                Some((name, value)) => {
                    known.insert(name.clone(), value);
                    makers.insert(name, node);
                }
                None => rest.push(node),
            }
        }
        let mut read: HashSet<String> = outputs.clone();
        for node in &rest {
            read.extend(node.input.iter().cloned());
            for subgraph in subgraphs(node) {
                for_each_captured_name(subgraph, &mut |name| {
                    read.insert(name.to_owned());
                });
            }
        }
        let holders: HashMap<&str, u64> = constant_bytes(self.model, graph, &rest);
        let mut needed: Vec<&String> = makers.keys().filter(|name| read.contains(*name)).collect();
        needed.sort();
        let mut counted = HashSet::new();
        let mut made = Vec::new();
        for name in needed {
            let (bytes, operator) = account(name, &makers, &holders, &mut counted);
            self.computed.push(Computed { name: name.clone(), bytes, operator });
            made.extend(known.get(name).map(|value| value.write(name)));
        }
        drop(holders);
        let is_used = |name: &str| read.contains(name) || !given.contains(name);
        // What only the nodes that are gone have read.
        let consumed: HashSet<String> = makers.values().flat_map(|node| node.input.iter().cloned()).collect();
        let is_dead = |name: &str| consumed.contains(name) && !is_used(name);
        graph.initializer.retain(|tensor| !is_dead(tensor.name()));
        rest.retain(|node| !(is_constant(node) && node.output.first().is_some_and(|output| is_dead(output))));
        match has_initializers && self.model.proto.ir_version() >= Model::OVERRIDABLE_IR_VERSION {
            true => graph.initializer.extend(made),
            false => drop(rest.splice(0..0, made.into_iter().map(constant_node))),
        }
        graph.node = rest;
        Ok(())
    }

    fn constants(&self, graph: &GraphProto) -> HashMap<String, Tensor> {
        let read = |tensor: &TensorProto| Tensor::read(self.model, tensor);
        let initializers = graph.initializer.iter().filter(|tensor| !self.model.is_overridable(graph, tensor.name()));
        let initializers = initializers.filter_map(|tensor| Some((tensor.name().to_owned(), read(tensor)?)));
        let nodes = graph.node.iter().filter(|node| is_constant(node));
        let nodes =
            nodes.filter_map(|node| Some((node.output.first()?.clone(), read(node.attribute.first()?.t.as_ref()?)?)));
        initializers.chain(nodes).collect()
    }

    /// The name and value of what `node` gives, where its inputs are known.
    fn value(&mut self, node: &NodeProto, known: &HashMap<String, Tensor>) -> Result<Option<(String, Tensor)>, String> {
        let Some(output) = node::sole_output(node).filter(|_| !node.input.is_empty()) else { return Ok(None) };
        let Some(inputs) = node.input.iter().map(|name| known.get(name)).collect::<Option<Vec<_>>>() else {
            return Ok(None);
        };
        let most = usize::try_from(self.left).unwrap_or(usize::MAX);
        let Some(value) = evaluate(node, &inputs, most) else { return Ok(None) };
        let bytes = value.bytes.len() as u64;
        self.left = self.left.checked_sub(bytes).ok_or("its nodes compute more than a model of this size may hold")?;
        Ok(Some((output.to_owned(), value)))
    }
}

/// Bytes of each constant of `graph`, by name.
fn constant_bytes<'a>(model: &Model, graph: &'a GraphProto, nodes: &'a [NodeProto]) -> HashMap<&'a str, u64> {
    // The data of most constants lies in the weight table.
    let data = |tensor: &TensorProto| {
        let weight = marker::weight_of(tensor).and_then(|id| model.get_weight(id));
        weight.map_or(0, |weight| weight.dense_bytes())
    };
    let tensors = graph.initializer.iter().map(|tensor| (tensor.name(), tensor.encoded_len() as u64 + data(tensor)));
    let nodes = nodes.iter().filter(|node| is_constant(node)).filter_map(|node| {
        let held: u64 = node.attribute.iter().filter_map(|attribute| attribute.t.as_ref()).map(data).sum();
        Some((node.output.first()?.as_str(), node.encoded_len() as u64 + held))
    });
    tensors.chain(nodes).collect()
}

/// Bytes that are needed for `name` and were not counted before, and the operator that tells how it is held.
fn account(
    name: &str,
    makers: &HashMap<String, NodeProto>,
    holders: &HashMap<&str, u64>,
    counted: &mut HashSet<String>,
) -> (u64, &'static str) {
    let (mut bytes, mut operator) = (0, "Mul");
    let mut left = vec![name];
    while let Some(name) = left.pop() {
        if !counted.insert(name.to_owned()) {
            continue;
        }
        bytes += holders.get(name).copied().unwrap_or_default();
        let Some(node) = makers.get(name) else { continue };
        bytes += node.encoded_len() as u64;
        operator = match (node.op_type(), operator) {
            ("ScatterElements", _) => "ScatterElements",
            ("Gather", "Mul") => "Gather",
            _ => operator,
        };
        left.extend(node.input.iter().map(String::as_str));
    }
    (bytes, operator)
}

/// What `node` gives of `inputs`, which it has all; `None` for operators that the writer does not use, for types that do
/// not fit, and for more than `most` bytes.
fn evaluate(node: &NodeProto, inputs: &[&Tensor], most: usize) -> Option<Tensor> {
    let first = *inputs.first()?;
    match (node::standard_operator(node), inputs) {
        ("Cast", [x]) => cast(x, DataType::try_from(i32::try_from(node::int(node, "to", 0)).ok()?).ok()?, most),
        ("Gather", [table, indices]) if node::int(node, "axis", 0) == 0 => gather(table, indices, most),
        ("Reshape", [x, shape]) => reshape(x, shape),
        ("Slice", _) => head(node, inputs),
        ("Concat", _) if node::int(node, "axis", 1) == 0 => concat(inputs, most),
        ("Mul" | "Add", [a, b]) => binary(node.op_type(), a, b, most),
        ("CumSum", [x, axis]) if node::int(node, "exclusive", 0) == 1 && axis.ints()? == [0] => {
            let mut sum = 0i64;
            let before = |value: i64| {
                let after = sum.checked_add(value)?;
                Some(std::mem::replace(&mut sum, after))
            };
            (x.dims.len() == 1).then_some(())?;
            let sums = x.ints()?.into_iter().map(before).collect::<Option<Vec<_>>>()?;
            Tensor::from_ints(x.element, x.dims.clone(), &sums)
        }
        ("ConstantOfShape", [shape]) => {
            let dims =
                shape.ints()?.into_iter().map(|length| usize::try_from(length).ok()).collect::<Option<Vec<_>>>()?;
            let value = node::attribute(node, "value")?.t.as_ref()?;
            let element = DataType::try_from(value.data_type()).ok()?;
            let bytes = element_count(&dims)?.checked_mul(element_bytes(element)?).filter(|&bytes| bytes <= most)?;
            let is_zero = value.raw_data.as_ref().is_some_and(|raw| raw.iter().all(|&byte| byte == 0));
            is_zero.then(|| Tensor::new(element, dims, vec![0; bytes]))?
        }
        ("ScatterElements", [_, positions, values]) if node::int(node, "axis", 0) == 0 => {
            scatter(first, positions, values)
        }
        _ => None,
    }
}

fn cast(x: &Tensor, to: DataType, most: usize) -> Option<Tensor> {
    let bytes = x.len().checked_mul(element_bytes(to)?).filter(|&bytes| bytes <= most)?;
    let mut out = Vec::with_capacity(bytes);
    match (to, floats(x)) {
        (DataType::Int32, None) => {
            for value in x.ints()? {
                out.extend_from_slice(&i32::try_from(value).ok()?.to_le_bytes());
            }
        }
        // Integers of 16 bits, which every type of floats but the halves holds exactly.
        (DataType::Float, None) if matches!(x.element, DataType::Int8 | DataType::Int16 | DataType::Uint8) => {
            x.ints()?.into_iter().for_each(|value| out.extend_from_slice(&(value as f32).to_le_bytes()));
        }
        (DataType::Float, None) if x.element == DataType::Float16 => {
            let halves = x.bytes.as_chunks::<2>().0.iter().map(|word| f16::from_le_bytes(*word).to_f32());
            halves.for_each(|value| out.extend_from_slice(&value.to_le_bytes()));
        }
        (DataType::Float16, Some(values)) => {
            values.into_iter().for_each(|value| out.extend_from_slice(&f16::from_f32(value).to_le_bytes()));
        }
        (DataType::Bfloat16, Some(values)) => {
            values.into_iter().for_each(|value| out.extend_from_slice(&bf16::from_f32(value).to_le_bytes()));
        }
        (DataType::Double, Some(values)) => {
            values.into_iter().for_each(|value| out.extend_from_slice(&f64::from(value).to_le_bytes()));
        }
        _ => return None,
    }
    Tensor::new(to, x.dims.clone(), out)
}

/// The elements of a tensor of `f32`.
fn floats(x: &Tensor) -> Option<Vec<f32>> {
    let words = || x.bytes.as_chunks::<4>().0.iter().map(|word| f32::from_le_bytes(*word)).collect();
    (x.element == DataType::Float).then(words)
}

fn gather(table: &Tensor, indices: &Tensor, most: usize) -> Option<Tensor> {
    let (rows, row_dims) = table.dims.split_first()?;
    let row = element_count(row_dims)?.checked_mul(element_bytes(table.element)?)?;
    indices.len().checked_mul(row).filter(|&bytes| bytes <= most)?;
    let mut bytes = Vec::with_capacity(indices.len() * row);
    for index in indices.ints()? {
        let index = usize::try_from(index).ok().filter(|index| index < rows)?;
        bytes.extend_from_slice(table.bytes.get(index * row..(index + 1) * row)?);
    }
    Tensor::new(table.element, [&indices.dims, row_dims].concat(), bytes)
}

fn reshape(x: &Tensor, shape: &Tensor) -> Option<Tensor> {
    let shape = shape.ints()?;
    let known: Vec<usize> = shape.iter().filter_map(|&length| usize::try_from(length).ok()).collect();
    let missing = x.len().checked_div(element_count(&known)?);
    let length = |&length: &i64| if length == -1 { missing } else { usize::try_from(length).ok() };
    Tensor::new(x.element, shape.iter().map(length).collect::<Option<_>>()?, x.bytes.clone())
}

fn head(node: &NodeProto, inputs: &[&Tensor]) -> Option<Tensor> {
    let x = *inputs.first()?;
    let ranges = SliceRanges::read(node, |index| match inputs.get(index) {
        Some(tensor) => tensor.ints().map(Some),
        None => Some(None),
    })?;
    let (&[0], &[end], &[1], &[0]) = (&ranges.starts[..], &ranges.ends[..], &ranges.steps[..], &ranges.axes[..]) else {
        return None;
    };
    let &[length] = &x.dims[..] else { return None };
    let (_, count) = slice_range(length, 0, end, 1)?;
    Tensor::new(x.element, vec![count], x.bytes.slice(..count * element_bytes(x.element)?))
}

fn concat(inputs: &[&Tensor], most: usize) -> Option<Tensor> {
    let first = inputs.first()?;
    let bytes = inputs.iter().try_fold(0usize, |sum, part| sum.checked_add(part.bytes.len()));
    let mut joined = Vec::with_capacity(bytes.filter(|&bytes| bytes <= most)?);
    for part in inputs {
        (part.dims.len() == 1 && part.element == first.element).then(|| joined.extend_from_slice(&part.bytes))?;
    }
    Tensor::new(first.element, vec![inputs.iter().map(|part| part.len()).sum()], joined)
}

fn binary(operator: &str, a: &Tensor, b: &Tensor, most: usize) -> Option<Tensor> {
    let dims = broadcast(&a.dims, &b.dims)?;
    let count = element_count(&dims)?;
    // One of both has the shape of the result; the other is a scalar, a number for each channel, or as large.
    let (a, b) = if a.len() == count && a.dims == dims { (a, b) } else { (b, a) };
    (a.dims == dims && a.element == b.element && a.bytes.len() <= most).then_some(())?;
    let other = places(&dims, &b.dims)?;
    if let (Some(x), Some(y)) = (floats(a), floats(b)) {
        let at = |(index, x): (usize, &f32)| {
            let y = y.get(other.of(index)).copied().unwrap_or_default();
            if operator == "Mul" { x * y } else { x + y }
        };
        let bytes: Vec<u8> = x.iter().enumerate().map(at).flat_map(f32::to_le_bytes).collect();
        return Tensor::new(DataType::Float, dims, bytes);
    }
    let (x, y) = (a.ints()?, b.ints()?);
    let at = |(index, &x): (usize, &i64)| {
        let y = *y.get(other.of(index))?;
        if operator == "Mul" { x.checked_mul(y) } else { x.checked_add(y) }
    };
    let values = x.iter().enumerate().map(at).collect::<Option<Vec<_>>>()?;
    Tensor::from_ints(a.element, dims, &values)
}

/// Where the elements of a smaller operand are.
struct Places {
    inner: usize,
    count: usize,
}

impl Places {
    fn of(&self, index: usize) -> usize {
        index / self.inner % self.count
    }
}

/// How an operand of `small` dimensions spreads over `dims`; `None` where more than one run of its axes does.
fn places(dims: &[usize], small: &[usize]) -> Option<Places> {
    let offset = dims.len().checked_sub(small.len())?;
    let spread: Vec<usize> = (0..small.len()).filter(|&axis| small[axis] != 1).collect();
    let (Some(&first), Some(&last)) = (spread.first(), spread.last()) else {
        return Some(Places { inner: 1, count: 1 });
    };
    let is_whole = (first..=last).all(|axis| small[axis] == dims[axis + offset]);
    let inner = dims[last + offset + 1..].iter().product::<usize>().max(1);
    is_whole.then(|| Places { inner, count: small.iter().product::<usize>().max(1) })
}

fn scatter(into: &Tensor, positions: &Tensor, values: &Tensor) -> Option<Tensor> {
    let size = element_bytes(into.element)?;
    let fits = into.dims.len() == 1 && values.element == into.element && positions.dims == values.dims;
    let mut bytes = fits.then(|| into.bytes.to_vec())?;
    for (position, value) in positions.ints()?.into_iter().zip(values.bytes.chunks_exact(size)) {
        let at = usize::try_from(position).ok()?.checked_mul(size)?;
        bytes.get_mut(at..at.checked_add(size)?)?.copy_from_slice(value);
    }
    Tensor::new(into.element, into.dims.clone(), bytes)
}
