//! Constants of a graph, by name.

use onnx_dcomp_forms::Values;
use onnx_dcomp_proto::tensor_proto::DataType;
use onnx_dcomp_proto::{AttributeProto, GraphProto, NodeProto, TensorProto};

use crate::graph::is_constant;
use crate::read::storage;
use crate::{Model, marker, tensors};

/// A value that is the same in every run of the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Constant {
    /// The shape; empty for a scalar.
    pub shape: Vec<usize>,
    /// The elements.
    pub data: ConstantData,
}

/// The elements of a [`Constant`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConstantData {
    /// Elements of a type that weights have: floating point, or 8-bit integers.
    Values(Values),
    /// Other integers, and truth values as 0 and 1.
    Integers {
        /// The element type, a number of ONNX' `TensorProto.DataType`.
        data_type: i32,
        /// The elements.
        values: Vec<i64>,
    },
}

impl Constant {
    /// Number of elements.
    pub fn len(&self) -> usize {
        match &self.data {
            ConstantData::Values(values) => values.len(),
            ConstantData::Integers { values, .. } => values.len(),
        }
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The element type, a number of ONNX' `TensorProto.DataType`.
    pub fn data_type(&self) -> i32 {
        match &self.data {
            ConstantData::Values(values) => tensors::data_type_of(values.dtype()),
            ConstantData::Integers { data_type, .. } => *data_type,
        }
    }

    /// The elements as weights have them; `None` for wider integers and truth values.
    pub fn values(&self) -> Option<&Values> {
        match &self.data {
            ConstantData::Values(values) => Some(values),
            ConstantData::Integers { .. } => None,
        }
    }

    /// The elements as integers; `None` where they are floating-point numbers.
    pub fn integers(&self) -> Option<Vec<i64>> {
        match &self.data {
            ConstantData::Integers { values, .. } => Some(values.clone()),
            ConstantData::Values(values) if values.dtype().is_float() => None,
            ConstantData::Values(values) => Some(values.iter().map(|value| value as i64).collect()),
        }
    }

    /// The elements as `f32`; `None` where they are integers wider than 8 bits, or truth values.
    pub fn floats(&self) -> Option<Vec<f32>> {
        self.values().map(Values::to_f32)
    }
}

impl Model {
    /// The constant called `name` that `graph` itself defines: an initializer or a Constant node, weight or not.
    ///
    /// A weight gives the values of its present form. `None` where there is no such constant, where users may override
    /// it ([`Self::is_overridable`]), and for strings, sparse tensors and types that we cannot read.
    pub fn constant(&self, graph: &GraphProto, name: &str) -> Option<Constant> {
        if let Some(tensor) = graph.initializer.iter().find(|tensor| tensor.name() == name) {
            return if self.is_overridable(graph, name) { None } else { self.constant_of_tensor(tensor) };
        }
        graph
            .node
            .iter()
            .find(|node| is_constant(node) && node.output.first().is_some_and(|output| output == name))
            .and_then(|node| self.constant_of_node(node))
    }

    /// The elements of `tensor`, a tensor of this model's message.
    pub fn constant_of_tensor(&self, tensor: &TensorProto) -> Option<Constant> {
        let shape = tensors::shape(&tensor.dims).ok()?;
        if let Some(id) = marker::weight_of(tensor) {
            return Some(Constant { shape, data: ConstantData::Values(self.get_weight(id)?.form.dense()) });
        }
        let data = match tensors::dtype_of(tensor.data_type()) {
            Some(dtype) => ConstantData::Values(storage::values(tensor, dtype).ok()?),
            None => {
                let values = storage::integers(tensor).ok()??;
                ConstantData::Integers { data_type: tensor.data_type(), values }
            }
        };
        Some(Constant { shape, data })
    }

    /// The value of `node`, a Constant node of this model's message.
    pub fn constant_of_node(&self, node: &NodeProto) -> Option<Constant> {
        if !is_constant(node) {
            return None;
        }
        node.attribute.iter().find_map(|attribute| self.constant_of_attribute(attribute))
    }

    fn constant_of_attribute(&self, attribute: &AttributeProto) -> Option<Constant> {
        let floats = |values: &[f32]| ConstantData::Values(Values::from_f32(onnx_dcomp_forms::DType::F32, values));
        let integers = |values: Vec<i64>| ConstantData::Integers { data_type: DataType::Int64 as i32, values };
        Some(match attribute.name() {
            "value" => self.constant_of_tensor(attribute.t.as_ref()?)?,
            "value_float" => Constant { shape: Vec::new(), data: floats(&[attribute.f?]) },
            "value_floats" => Constant { shape: vec![attribute.floats.len()], data: floats(&attribute.floats) },
            "value_int" => Constant { shape: Vec::new(), data: integers(vec![attribute.i?]) },
            "value_ints" => Constant { shape: vec![attribute.ints.len()], data: integers(attribute.ints.clone()) },
            _ => return None,
        })
    }
}
