//! The message, encoded around the data of its tensors.
//!
//! A message that holds tensors is taken apart: what remains is encoded as it is, the parts follow as fields of their
//! own. (The order of different fields has no meaning in protobuf.) Data of weights is only counted here, and made when
//! it is written, one weight at a time.

use std::io::{self, Write};

use bytes::Bytes;
use onnx_dcomp_proto::prost::encoding::{WireType, encode_key, encode_varint};
use onnx_dcomp_proto::tensor_proto::DataLocation;
use onnx_dcomp_proto::{
    AttributeProto, FunctionProto, GraphProto, Message, ModelProto, NodeProto, StringStringEntryProto, TensorProto,
    TrainingInfoProto,
};

use crate::{IrError, Model, SaveOptions, WeightId, marker, tensors};

/// A part of the output.
pub(crate) enum Piece {
    /// Bytes of the message.
    Encoded(Vec<u8>),
    /// Data of a tensor that is no weight, shared with the model.
    Shared(Bytes),
    /// Data of a weight, made when it is written.
    Weight { id: WeightId, bytes: u64 },
}

impl Piece {
    fn bytes(&self) -> u64 {
        match self {
            Self::Encoded(bytes) => bytes.len() as u64,
            Self::Shared(bytes) => bytes.len() as u64,
            Self::Weight { bytes, .. } => *bytes,
        }
    }

    fn write(&self, model: &Model, into: &mut impl Write) -> io::Result<()> {
        match self {
            Self::Encoded(bytes) => into.write_all(bytes),
            Self::Shared(bytes) => into.write_all(bytes),
            Self::Weight { id, .. } => into.write_all(model.weight(*id).form.dense().bytes()),
        }
    }
}

/// A message, or a part of one, in the order in which it is written.
#[derive(Default)]
pub(crate) struct Pieces {
    list: Vec<Piece>,
    /// Size of the whole.
    pub(crate) bytes: u64,
}

impl Pieces {
    /// `rest`: a message whose fields of interest were taken out.
    fn of(rest: &impl Message) -> Self {
        let mut pieces = Self::default();
        pieces.push(Piece::Encoded(rest.encode_to_vec()));
        pieces
    }

    fn push(&mut self, piece: Piece) {
        self.bytes += piece.bytes();
        match (self.list.last_mut(), piece) {
            (Some(Piece::Encoded(before)), Piece::Encoded(more)) => before.extend_from_slice(&more),
            (_, piece) => self.list.push(piece),
        }
    }

    /// Appends a length-delimited field.
    fn field(&mut self, number: u32, value: Pieces) {
        let mut head = Vec::new();
        encode_key(number, WireType::LengthDelimited, &mut head);
        encode_varint(value.bytes, &mut head);
        self.push(Piece::Encoded(head));
        value.list.into_iter().for_each(|piece| self.push(piece));
    }

    pub(crate) fn write(&self, model: &Model, into: &mut impl Write) -> io::Result<()> {
        self.list.iter().try_for_each(|piece| piece.write(model, into))
    }
}

/// The second file.
pub(crate) struct External<'a> {
    pub(crate) location: String,
    pub(crate) options: &'a SaveOptions,
    pub(crate) end: u64,
    pub(crate) pieces: Vec<(u64, Piece)>,
}

pub(crate) fn write_aligned(model: &Model, pieces: &[(u64, Piece)], into: &mut impl Write) -> io::Result<()> {
    let mut at = 0;
    for (start, piece) in pieces {
        io::copy(&mut io::Read::take(io::repeat(0), start - at), into)?;
        piece.write(model, into)?;
        at = start + piece.bytes();
    }
    Ok(())
}

/// Tensors with more raw data than this are shared with the model, not copied into the encoded message.
const SHARED_FROM_BYTES: usize = 4096;

/// Numbers of the fields that lead to tensors, by message.
mod fields {
    pub(super) const MODEL_GRAPH: u32 = 7;
    pub(super) const MODEL_TRAINING_INFO: u32 = 20;
    pub(super) const MODEL_FUNCTIONS: u32 = 25;
    pub(super) const TRAINING_INITIALIZATION: u32 = 1;
    pub(super) const TRAINING_ALGORITHM: u32 = 2;
    pub(super) const GRAPH_NODE: u32 = 1;
    pub(super) const GRAPH_INITIALIZER: u32 = 5;
    pub(super) const FUNCTION_NODE: u32 = 7;
    pub(super) const NODE_ATTRIBUTE: u32 = 5;
    pub(super) const ATTRIBUTE_T: u32 = 5;
    pub(super) const ATTRIBUTE_G: u32 = 6;
    pub(super) const ATTRIBUTE_TENSORS: u32 = 10;
    pub(super) const ATTRIBUTE_GRAPHS: u32 = 11;
    pub(super) const TENSOR_RAW_DATA: u32 = 9;
}

/// Encodes a message around its tensors' data. The message is taken apart, so that nothing is encoded twice.
pub(crate) struct Encoder<'a> {
    pub(crate) model: &'a Model,
    pub(crate) external: Option<External<'a>>,
}

impl Encoder<'_> {
    pub(crate) fn of_model(&mut self, mut model: ModelProto) -> Result<Pieces, IrError> {
        let graph = model.graph.take();
        let training = std::mem::take(&mut model.training_info);
        let functions = std::mem::take(&mut model.functions);
        let mut pieces = Pieces::of(&model);
        if let Some(graph) = graph {
            pieces.field(fields::MODEL_GRAPH, self.of_graph(graph)?);
        }
        for training in training {
            pieces.field(fields::MODEL_TRAINING_INFO, self.of_training(training)?);
        }
        for function in functions {
            pieces.field(fields::MODEL_FUNCTIONS, self.of_function(function)?);
        }
        Ok(pieces)
    }

    fn of_training(&mut self, mut training: TrainingInfoProto) -> Result<Pieces, IrError> {
        let initialization = training.initialization.take();
        let algorithm = training.algorithm.take();
        let mut pieces = Pieces::of(&training);
        if let Some(graph) = initialization {
            pieces.field(fields::TRAINING_INITIALIZATION, self.of_graph(graph)?);
        }
        if let Some(graph) = algorithm {
            pieces.field(fields::TRAINING_ALGORITHM, self.of_graph(graph)?);
        }
        Ok(pieces)
    }

    fn of_function(&mut self, mut function: FunctionProto) -> Result<Pieces, IrError> {
        let nodes = std::mem::take(&mut function.node);
        let mut pieces = Pieces::of(&function);
        for node in nodes {
            pieces.field(fields::FUNCTION_NODE, self.of_node(node)?);
        }
        Ok(pieces)
    }

    fn of_graph(&mut self, mut graph: GraphProto) -> Result<Pieces, IrError> {
        let nodes = std::mem::take(&mut graph.node);
        let initializers = std::mem::take(&mut graph.initializer);
        let mut pieces = Pieces::of(&graph);
        for node in nodes {
            pieces.field(fields::GRAPH_NODE, self.of_node(node)?);
        }
        for tensor in initializers {
            pieces.field(fields::GRAPH_INITIALIZER, self.of_tensor(tensor)?);
        }
        Ok(pieces)
    }

    fn of_node(&mut self, mut node: NodeProto) -> Result<Pieces, IrError> {
        let attributes = std::mem::take(&mut node.attribute);
        let mut pieces = Pieces::of(&node);
        for attribute in attributes {
            pieces.field(fields::NODE_ATTRIBUTE, self.of_attribute(attribute)?);
        }
        Ok(pieces)
    }

    fn of_attribute(&mut self, mut attribute: AttributeProto) -> Result<Pieces, IrError> {
        let (tensor, graph) = (attribute.t.take(), attribute.g.take());
        let tensors = std::mem::take(&mut attribute.tensors);
        let graphs = std::mem::take(&mut attribute.graphs);
        let mut pieces = Pieces::of(&attribute);
        if let Some(tensor) = tensor {
            pieces.field(fields::ATTRIBUTE_T, self.of_tensor(tensor)?);
        }
        if let Some(graph) = graph {
            pieces.field(fields::ATTRIBUTE_G, self.of_graph(graph)?);
        }
        for tensor in tensors {
            pieces.field(fields::ATTRIBUTE_TENSORS, self.of_tensor(tensor)?);
        }
        for graph in graphs {
            pieces.field(fields::ATTRIBUTE_GRAPHS, self.of_graph(graph)?);
        }
        Ok(pieces)
    }

    fn of_tensor(&mut self, mut tensor: TensorProto) -> Result<Pieces, IrError> {
        let Some(data) = self.take_data(&mut tensor)? else { return Ok(Pieces::of(&tensor)) };
        if let Some(external) = &mut self.external
            && data.bytes() >= external.options.inline_below_bytes
        {
            let start = external.end.next_multiple_of(external.options.alignment_bytes.max(1));
            external.end = start + data.bytes();
            let entry =
                |key: &str, value: String| StringStringEntryProto { key: Some(key.to_owned()), value: Some(value) };
            tensor.external_data = vec![
                entry("location", external.location.clone()),
                entry("offset", start.to_string()),
                entry("length", data.bytes().to_string()),
            ];
            tensor.set_data_location(DataLocation::External);
            external.pieces.push((start, data));
            return Ok(Pieces::of(&tensor));
        }
        let mut pieces = Pieces::of(&tensor);
        pieces.field(fields::TENSOR_RAW_DATA, Pieces { bytes: data.bytes(), list: vec![data] });
        Ok(pieces)
    }

    /// The data of a weight, or raw data worth sharing, taken out of `tensor`.
    fn take_data(&self, tensor: &mut TensorProto) -> Result<Option<Piece>, IrError> {
        if !marker::is_marked(tensor) {
            return Ok(tensor.raw_data.take_if(|raw| raw.len() >= SHARED_FROM_BYTES).map(Piece::Shared));
        }
        let weight = marker::weight_of(tensor).and_then(|id| Some((id, self.model.get_weight(id)?)));
        let (id, weight) = weight.ok_or_else(|| IrError::Unsound {
            place: format!("tensor `{}`", tensor.name()),
            problem: "its marker leads to no weight".to_owned(),
        })?;
        marker::clear_data(tensor);
        tensor.data_type = Some(tensors::data_type_of(weight.form.dtype()));
        let bytes = weight.form.len() as u64 * weight.form.dtype().element_bytes() as u64;
        Ok(Some(Piece::Weight { id, bytes }))
    }
}
