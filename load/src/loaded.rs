//! A graph, and its weights beside it.

use std::path::Path;

use bytes::Bytes;
use onnx_dcomp_forms::Values;
use onnx_dcomp_ir::graph::COMPRESSED_DOMAIN;
use onnx_dcomp_ir::{Constant, ConstantData, Model};
use onnx_dcomp_proto::tensor_proto::DataLocation;
use onnx_dcomp_proto::{Message, OperatorSetIdProto, StringStringEntryProto, TensorProto};

use crate::shapes::shapes_follow;
use crate::{LoadError, unpack};

/// Tensors of fewer bytes stay in the graph: runtimes look into small constants while they optimise.
pub const INLINE_BELOW_BYTES: usize = 1024;

/// The file that the graph claims to find its weights in. There is none: who forgets to hand the weights over is told so
/// by the runtime.
pub const LOCATION: &str = "weights-are-handed-over-by-onnx-dcomp";

/// A model for a runtime: everything but its large weights, and these.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// What messages call the model.
    pub name: String,
    /// The model as plain ONNX. Of every tensor in [`Self::weights`] it holds name, type and shape, and as its data the
    /// file [`LOCATION`].
    pub graph: Vec<u8>,
    /// Large initializers of the main graph, each once.
    pub weights: Vec<LoadedWeight>,
    /// Small or overridable initializers of the main graph, and values of its Constant nodes; the graph holds them too.
    pub in_graph: Vec<LoadedWeight>,
    /// Whether the shapes of the outputs follow from those of the inputs alone, in whatever runtime.
    pub shapes_follow: bool,
}

/// A constant of the main graph, of a type that weights have: floating point, or 8-bit integers.
#[derive(Debug, Clone)]
pub struct LoadedWeight {
    /// Its name in the graph.
    pub name: String,
    /// Dimensions, outermost first.
    pub shape: Vec<usize>,
    /// The element type, a number of ONNX' `TensorProto.DataType`.
    pub data_type: i32,
    /// The elements.
    pub values: Values,
}

impl Loaded {
    /// Reads the model at `path`, packed or not, and decodes its payloads, in parallel.
    ///
    /// # Errors
    /// [`LoadError`], which names the file, and the node whose payload is broken.
    pub fn open(path: &Path) -> Result<Self, LoadError> {
        Self::of(Model::open(path)?)
    }

    /// Reads a model that is in memory, and decodes its payloads, in parallel. External data is looked for in `folder`,
    /// and refused where that is `None`.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn from_bytes(bytes: Bytes, folder: Option<&Path>) -> Result<Self, LoadError> {
        Self::of(Model::from_bytes(bytes, folder)?)
    }

    /// Reads the message that a `DcompSession` node holds, and decodes its payloads, in parallel.
    ///
    /// # Errors
    /// As [`Self::open`]; another model within that is refused.
    pub fn from_payload(message: Bytes) -> Result<Self, LoadError> {
        Self::of(Model::from_payload(message, "the model in it")?)
    }

    /// Decodes the payloads of `model`, in parallel.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn of(mut model: Model) -> Result<Self, LoadError> {
        unpack(&mut model)?;
        let mut initializers = std::mem::take(&mut model.graph_mut().initializer);
        let (mut weights, mut in_graph) = (Vec::new(), Vec::new());
        for tensor in &mut initializers {
            let name = tensor.name().to_owned();
            let Some(weight) = model.constant_of_tensor(tensor).and_then(|constant| weight(name, constant)) else {
                continue;
            };
            let is_small = weight.values.bytes().len() < INLINE_BELOW_BYTES;
            if is_small || model.is_overridable(model.graph(), &weight.name) {
                in_graph.push(weight);
            } else {
                *tensor = stand_in(&weight);
                weights.push(weight);
            }
        }
        model.graph_mut().initializer = initializers;
        in_graph.extend(model.graph().node.iter().filter_map(|node| {
            let name = node.output.first()?.clone();
            model.constant_of_node(node).and_then(|constant| weight(name, constant))
        }));
        let shapes_follow = shapes_follow(&model);
        Ok(Self { name: model.source().name().to_owned(), graph: model.to_bytes()?, weights, in_graph, shapes_follow })
    }
}

/// `None` for wide integers and truth values, which are no weights.
fn weight(name: String, constant: Constant) -> Option<LoadedWeight> {
    let data_type = constant.data_type();
    match constant.data {
        ConstantData::Values(values) => Some(LoadedWeight { name, shape: constant.shape, data_type, values }),
        ConstantData::Integers { .. } => None,
    }
}

/// The tensor that stands in the graph where `weight` was taken out.
fn stand_in(weight: &LoadedWeight) -> TensorProto {
    let entry = |key: &str, value: String| StringStringEntryProto { key: Some(key.to_owned()), value: Some(value) };
    TensorProto {
        name: Some(weight.name.clone()),
        dims: weight.shape.iter().map(|&length| length as i64).collect(),
        data_type: Some(weight.data_type),
        data_location: Some(DataLocation::External as i32),
        external_data: vec![
            entry("location", LOCATION.to_owned()),
            entry("offset", "0".to_owned()),
            entry("length", weight.values.bytes().len().to_string()),
        ],
        ..TensorProto::default()
    }
}

/// Whether `bytes`, an ONNX message, import our operators; reads nothing else of it.
pub fn is_packed_file(bytes: &[u8]) -> bool {
    /// The imports of a `ModelProto`.
    #[derive(Clone, PartialEq, Message)]
    struct Imports {
        #[prost(message, repeated, tag = "8")]
        opset_import: Vec<OperatorSetIdProto>,
    }
    let imports = Imports::decode(bytes).unwrap_or_default().opset_import;
    imports.iter().any(|import| import.domain() == COMPRESSED_DOMAIN)
}
