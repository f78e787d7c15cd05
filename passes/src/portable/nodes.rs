//! Nodes and constants that are about to join a graph.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use onnx_dcomp_forms::{DType, Values};
use onnx_dcomp_ir::graph::{defined_names, subgraphs};
use onnx_dcomp_proto::prost::length_delimiter_len;
use onnx_dcomp_proto::tensor_proto::DataType;
use onnx_dcomp_proto::{AttributeProto, GraphProto, Message, NodeProto, TensorProto, attribute_proto};

use super::radix::Radix;
use crate::fold::tensor::shorten;
use crate::node::standard;
use crate::pack::{Holder, constant_node};

/// A constant that several weights may use.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Shared {
    /// The digits of each byte, `int32`.
    Table { radix: Radix, scale: usize, offset: usize },
    /// Integers, `int64`.
    Longs(Vec<i64>),
    /// An integer without axes, `int32`.
    Scalar(i32),
}

/// The element type of ONNX that holds `dtype`.
pub(super) fn data_type(dtype: DType) -> DataType {
    match dtype {
        DType::F32 => DataType::Float,
        DType::F16 => DataType::Float16,
        DType::BF16 => DataType::Bfloat16,
        DType::F64 => DataType::Double,
        DType::I8 => DataType::Int8,
        DType::U8 => DataType::Uint8,
    }
}

/// What is added to a graph.
pub(super) struct Added {
    /// Names that the graph and those below it use.
    taken: HashSet<String>,
    /// Number of the next name.
    next_name: usize,
    holder: Holder,
    opset: i64,
    /// In the order in which they must run.
    pub(super) nodes: Vec<NodeProto>,
    pub(super) tensors: Vec<TensorProto>,
    shared: HashMap<Shared, String>,
}

/// A point to return to.
pub(super) struct Mark {
    next_name: usize,
    nodes: usize,
    tensors: usize,
    shared: HashMap<Shared, String>,
}

impl Added {
    /// Nothing yet, for `graph`, whose constants are held by `holder`.
    pub(super) fn new(graph: &GraphProto, holder: Holder, opset: i64) -> Self {
        let mut taken = HashSet::new();
        take_names(graph, &mut taken);
        Self { taken, next_name: 0, holder, opset, nodes: Vec::new(), tensors: Vec::new(), shared: HashMap::new() }
    }

    pub(super) fn mark(&self) -> Mark {
        let Self { next_name, nodes, tensors, shared, .. } = self;
        Mark { next_name: *next_name, nodes: nodes.len(), tensors: tensors.len(), shared: shared.clone() }
    }

    /// Takes back what was added since `mark`.
    pub(super) fn return_to(&mut self, mark: Mark) {
        self.nodes.truncate(mark.nodes);
        self.tensors.truncate(mark.tensors);
        self.next_name = mark.next_name;
        self.shared = mark.shared;
    }

    /// Bytes of the file for what was added since `mark`.
    pub(super) fn bytes_since(&self, mark: &Mark) -> u64 {
        let framed = |bytes: usize| bytes + 1 + length_delimiter_len(bytes);
        let nodes = self.nodes[mark.nodes..].iter().map(|node| framed(node.encoded_len()));
        let tensors = self.tensors[mark.tensors..].iter().map(|tensor| framed(tensor.encoded_len()));
        nodes.chain(tensors).sum::<usize>() as u64
    }

    fn name(&mut self) -> String {
        loop {
            let name = format!("_{:x}", self.next_name);
            self.next_name += 1;
            if !self.taken.contains(&name) {
                return name;
            }
        }
    }

    /// A constant.
    pub(super) fn constant(&mut self, dims: &[usize], data_type: DataType, bytes: impl Into<Bytes>) -> String {
        let name = self.name();
        let mut tensor = TensorProto {
            name: Some(name.clone()),
            dims: dims.iter().map(|&length| length as i64).collect(),
            data_type: Some(data_type as i32),
            raw_data: Some(bytes.into()),
            ..TensorProto::default()
        };
        if matches!(data_type, DataType::Int32 | DataType::Int64) {
            shorten(&mut tensor);
        }
        match self.holder {
            Holder::Initializer => self.tensors.push(tensor),
            Holder::Constant => self.nodes.push(constant_node(tensor)),
        }
        name
    }

    /// The elements of `values` as a constant.
    pub(super) fn values(&mut self, dims: &[usize], values: &Values) -> String {
        self.constant(dims, data_type(values.dtype()), values.bytes().clone())
    }

    fn shared(&mut self, key: Shared, make: impl FnOnce(&mut Self) -> String) -> String {
        if let Some(name) = self.shared.get(&key) {
            return name.clone();
        }
        let name = make(self);
        self.shared.insert(key, name.clone());
        name
    }

    pub(super) fn longs(&mut self, values: &[i64]) -> String {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.shared(Shared::Longs(values.to_vec()), |own| own.constant(&[values.len()], DataType::Int64, bytes))
    }

    pub(super) fn scalar(&mut self, value: i32) -> String {
        let bytes = value.to_le_bytes().to_vec();
        self.shared(Shared::Scalar(value), |own| own.constant(&[], DataType::Int32, bytes))
    }

    /// A table with a row for each byte in use: its digits, times `scale`, plus `offset`; `int32`.
    pub(super) fn table(&mut self, radix: Radix, scale: usize, offset: usize) -> String {
        let key = Shared::Table { radix, scale, offset };
        if (scale, offset) == (1, 0) {
            return self.shared(key, |own| {
                let bytes = own.constant(&[radix.rows(), radix.per_byte], DataType::Uint8, radix.table());
                own.cast(&bytes, DataType::Int32)
            });
        }
        let digits = self.table(radix, 1, 0);
        self.shared(key, |own| own.scaled(digits, scale, offset))
    }

    /// `scale` times `input` plus `offset`, `int32`.
    pub(super) fn scaled(&mut self, mut input: String, scale: usize, offset: usize) -> String {
        for (operator, by, nothing) in [("Mul", scale, 1), ("Add", offset, 0)] {
            if by != nothing {
                let by = self.scalar(by as i32);
                input = self.node(operator, &[&input, &by], Vec::new());
            }
        }
        input
    }

    /// A node of the standard domain; the name of its output.
    pub(super) fn node(&mut self, operator: &str, inputs: &[&str], attributes: Vec<AttributeProto>) -> String {
        let output = self.name();
        self.nodes.push(NodeProto { attribute: attributes, ..standard(operator, inputs, &output) });
        output
    }

    pub(super) fn cast(&mut self, input: &str, to: DataType) -> String {
        self.node("Cast", &[input], vec![int("to", to as i64)])
    }

    pub(super) fn gather(&mut self, table: &str, indices: &str) -> String {
        self.node("Gather", &[table, indices], Vec::new())
    }

    pub(super) fn reshape(&mut self, input: &str, shape: &[i64]) -> String {
        let shape = self.longs(shape);
        self.node("Reshape", &[input, &shape], Vec::new())
    }

    /// The first `count` elements of a vector.
    pub(super) fn head(&mut self, input: &str, count: usize) -> String {
        /// From this version on Slice takes its ranges as inputs.
        const SLICE_BY_INPUTS: i64 = 10;
        if self.opset < SLICE_BY_INPUTS {
            let ranges = vec![ints("starts", &[0]), ints("ends", &[count as i64])];
            return self.node("Slice", &[input], ranges);
        }
        let (start, end) = (self.longs(&[0]), self.longs(&[count as i64]));
        self.node("Slice", &[input, &start, &end], Vec::new())
    }

    pub(super) fn concat(&mut self, parts: &[String]) -> String {
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        self.node("Concat", &parts, vec![int("axis", 0)])
    }

    /// Gives the output of the last node the name `name`.
    pub(super) fn call_last(&mut self, name: &str) {
        if let Some(output) = self.nodes.last_mut().and_then(|node| node.output.first_mut()) {
            name.clone_into(output);
        }
    }
}

fn take_names(graph: &GraphProto, taken: &mut HashSet<String>) {
    taken.extend(defined_names(graph).map(str::to_owned));
    for node in &graph.node {
        taken.extend(node.input.iter().cloned());
        subgraphs(node).for_each(|subgraph| take_names(subgraph, taken));
    }
}

/// An attribute of one integer.
pub(super) fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto {
        name: Some(name.into()),
        r#type: Some(attribute_proto::AttributeType::Int as i32),
        i: Some(value),
        ..AttributeProto::default()
    }
}

fn ints(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto {
        name: Some(name.into()),
        r#type: Some(attribute_proto::AttributeType::Ints as i32),
        ints: values.to_vec(),
        ..AttributeProto::default()
    }
}

/// An attribute of one tensor.
pub(super) fn tensor(name: &str, value: TensorProto) -> AttributeProto {
    AttributeProto {
        name: Some(name.into()),
        r#type: Some(attribute_proto::AttributeType::Tensor as i32),
        t: Some(value),
        ..AttributeProto::default()
    }
}
