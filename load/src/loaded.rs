//! A graph, and its weights beside it.

use std::path::Path;

use bytes::Bytes;
use onnx_dcomp_forms::Values;
use onnx_dcomp_ir::graph::COMPRESSED_DOMAIN;
use onnx_dcomp_ir::{ConstantData, Model};
use onnx_dcomp_proto::tensor_proto::DataLocation;
use onnx_dcomp_proto::{Message, OperatorSetIdProto, StringStringEntryProto, TensorProto};

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
    /// Initializers of the main graph, each once.
    pub weights: Vec<LoadedWeight>,
}

/// An initializer.
#[derive(Debug, Clone)]
pub struct LoadedWeight {
    /// Its name in the graph.
    pub name: String,
    /// Dimensions, outermost first.
    pub shape: Vec<usize>,
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

    /// Decodes the payloads of `model`, in parallel.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn of(mut model: Model) -> Result<Self, LoadError> {
        unpack(&mut model)?;
        let mut initializers = std::mem::take(&mut model.graph_mut().initializer);
        let weights = initializers.iter_mut().filter_map(|tensor| take_data(&model, tensor)).collect();
        model.graph_mut().initializer = initializers;
        Ok(Self { name: model.source().name().to_owned(), graph: model.to_bytes()?, weights })
    }
}

/// Takes the data out of a large initializer that nobody may override.
fn take_data(model: &Model, tensor: &mut TensorProto) -> Option<LoadedWeight> {
    let name = tensor.name().to_owned();
    if model.is_overridable(model.graph(), &name) {
        return None;
    }
    let constant = model.constant_of_tensor(tensor)?;
    let data_type = constant.data_type();
    let ConstantData::Values(values) = constant.data else { return None };
    if values.bytes().len() < INLINE_BELOW_BYTES {
        return None;
    }
    let entry = |key: &str, value: String| StringStringEntryProto { key: Some(key.to_owned()), value: Some(value) };
    let stand_in = TensorProto {
        name: Some(name.clone()),
        dims: std::mem::take(&mut tensor.dims),
        data_type: Some(data_type),
        data_location: Some(DataLocation::External as i32),
        external_data: vec![
            entry("location", LOCATION.to_owned()),
            entry("offset", "0".to_owned()),
            entry("length", values.bytes().len().to_string()),
        ],
        ..TensorProto::default()
    };
    *tensor = stand_in;
    Some(LoadedWeight { name, shape: constant.shape, values })
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
