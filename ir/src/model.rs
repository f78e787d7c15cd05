//! The message and its weights.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use onnx_dcomp_forms::{Form, Values};
use onnx_dcomp_proto::{GraphProto, ModelProto, TensorProto, UnknownField};
use sha2::{Digest, Sha256};

use crate::{IrError, Role, Scope, Weight, WeightId, graph, mapped, marker, read, tensors};

/// An ONNX model and its weight table.
///
/// Cheap to clone as long as the weights are dense: they share the file's map.
#[derive(Debug, Clone)]
pub struct Model {
    /// The whole message. Tensors whose data stands in the weight table hold a [`marker`] instead.
    pub proto: ModelProto,
    pub(crate) table: Vec<Option<Weight>>,
    source: Source,
}

impl Model {
    /// Weights with fewer elements are left alone by the passes.
    pub const MIN_WEIGHT_LEN: usize = 64;

    /// Tensors with fewer elements are never weights.
    pub const MIN_TABLE_LEN: usize = 4;

    /// From this IR version on an initializer need not be a graph input, and one that is can be overridden.
    pub const OVERRIDABLE_IR_VERSION: i64 = 4;

    /// Reads the model at `path`. The file is mapped, not copied; external data is looked for beside it.
    ///
    /// # Errors
    /// [`IrError::Read`], [`IrError::NotOnnx`], [`IrError::Truncated`], or [`IrError::Tensor`] where a tensor's data
    /// does not fit its shape or lies where it must not.
    pub fn open(path: &Path) -> Result<Self, IrError> {
        let bytes = mapped::map(path).map_err(|source| IrError::Read { file: path.to_owned(), source })?;
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        read::read(bytes, path.display().to_string(), Some(path), Some(folder))
    }

    /// Reads a model that is in memory. External data is looked for in `folder`, and refused where that is `None`.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn from_bytes(bytes: Bytes, folder: Option<&Path>) -> Result<Self, IrError> {
        read::read(bytes, "model in memory".to_owned(), None, folder)
    }

    pub(crate) fn new(proto: ModelProto, table: Vec<Option<Weight>>, source: Source) -> Self {
        Self { proto, table, source }
    }

    /// The file that the model was read from.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// The fields of the file that our description of ONNX does not know. They cannot be kept: whoever writes the
    /// model says so. Looks through the whole file, payloads excluded.
    pub fn unknown_fields(&self) -> Vec<UnknownField> {
        onnx_dcomp_proto::unknown_fields(self.source.bytes())
    }

    /// The main graph; empty where a pass has taken it out.
    pub fn graph(&self) -> &GraphProto {
        static EMPTY: OnceLock<GraphProto> = OnceLock::new();
        self.proto.graph.as_ref().unwrap_or_else(|| EMPTY.get_or_init(GraphProto::default))
    }

    /// The main graph, to change.
    pub fn graph_mut(&mut self) -> &mut GraphProto {
        self.proto.graph.get_or_insert_default()
    }

    /// The weights, in the order in which the file names them.
    pub fn weights(&self) -> impl Iterator<Item = (WeightId, &Weight)> {
        let numbered = self.table.iter().enumerate();
        numbered.filter_map(|(index, weight)| weight.as_ref().map(|weight| (WeightId(index as u32), weight)))
    }

    /// The weight `id`.
    ///
    /// # Panics
    /// Where the weight was removed, or `id` belongs to another model.
    pub fn weight(&self, id: WeightId) -> &Weight {
        self.table[id.index()].as_ref().expect("the weight is still in the table")
    }

    /// The weight `id`, to change.
    ///
    /// # Panics
    /// As [`Self::weight`].
    pub fn weight_mut(&mut self, id: WeightId) -> &mut Weight {
        self.table[id.index()].as_mut().expect("the weight is still in the table")
    }

    /// The weight `id`, or `None` where the table has none of that number.
    pub fn get_weight(&self, id: WeightId) -> Option<&Weight> {
        self.table.get(id.index())?.as_ref()
    }

    /// The weight that people call `name`.
    pub fn weight_named(&self, name: &str) -> Option<WeightId> {
        self.weights().find(|(_, weight)| weight.name == name).map(|(id, _)| id)
    }

    /// Gives the weight `id` another form.
    ///
    /// # Errors
    /// [`IrError::FormMismatch`] where the form has another number of elements or another type.
    ///
    /// # Panics
    /// As [`Self::weight`].
    pub fn set_form(&mut self, id: WeightId, form: Form) -> Result<(), IrError> {
        let weight = self.weight_mut(id);
        if form.len() != weight.len() || form.dtype() != weight.dtype() {
            return Err(IrError::FormMismatch {
                weight: weight.name.clone(),
                expected: weight.len(),
                found: form.len(),
                expected_dtype: weight.dtype(),
                found_dtype: form.dtype(),
            });
        }
        weight.form = form;
        Ok(())
    }

    /// Adds a dense weight as a new initializer of the main graph, and as a graph input where the IR version wants that.
    ///
    /// `name` is the name of the value in the graph and must be new there; the weight's name for people is the same,
    /// made unique.
    ///
    /// # Panics
    /// Where `shape` does not have as many elements as `values`.
    pub fn add_weight(
        &mut self,
        name: &str,
        shape: &[usize],
        values: Values,
        role: Role,
        channel_axis: Option<usize>,
    ) -> WeightId {
        let elements = shape.iter().try_fold(1usize, |count, &length| count.checked_mul(length));
        assert_eq!(elements, Some(values.len()), "the shape of a new weight has as many elements as its values");
        let id = WeightId(self.table.len() as u32);
        let mut tensor = TensorProto {
            name: Some(name.to_owned()),
            dims: shape.iter().map(|&length| length as i64).collect(),
            data_type: Some(tensors::data_type_of(values.dtype())),
            ..TensorProto::default()
        };
        marker::mark(&mut tensor, id);
        let mut unique = name.to_owned();
        let mut copy = 2;
        while self.weight_named(&unique).is_some() {
            unique = format!("{name}#{copy}");
            copy += 1;
        }
        self.table.push(Some(Weight {
            name: unique,
            scope: Scope::Main,
            shape: shape.to_vec(),
            role,
            operator: None,
            channel_axis,
            form: Form::Dense(values.clone()),
            original: values,
            left_alone: None,
            overridable: false,
            stored_bytes: None,
        }));
        self.add_initializer(tensor);
        id
    }

    /// Adds `tensor` as an initializer of the main graph, and as a graph input where the IR version wants that.
    pub fn add_initializer(&mut self, tensor: TensorProto) {
        let as_input = self.proto.ir_version() < Self::OVERRIDABLE_IR_VERSION;
        let graph = self.graph_mut();
        if as_input {
            graph.input.push(graph::value_info_of(&tensor));
        }
        graph.initializer.push(tensor);
    }

    /// Takes the initializer `name` out of the main graph, and the graph input that old IR versions want beside it, so
    /// that a node can define the name instead.
    ///
    /// `None` where there is no such initializer, or where it is the default of an input that users may set
    /// ([`Weight::overridable`]); then nothing changes.
    pub fn remove_initializer(&mut self, name: &str) -> Option<TensorProto> {
        if self.is_overridable(self.graph(), name) {
            return None;
        }
        let graph = self.graph_mut();
        let at = graph.initializer.iter().position(|tensor| tensor.name() == name)?;
        graph.input.retain(|input| input.name() != name);
        Some(graph.initializer.remove(at))
    }

    /// Whether an initializer of `graph` called `name` is only the default of a graph input.
    pub fn is_overridable(&self, graph: &GraphProto, name: &str) -> bool {
        self.proto.ir_version() >= Self::OVERRIDABLE_IR_VERSION && graph.input.iter().any(|input| input.name() == name)
    }

    /// Drops the weights that no tensor leads to any more.
    pub fn remove_unreferenced(&mut self) {
        let mut referenced = vec![false; self.table.len()];
        tensors::for_each(&self.proto, &mut |tensor| {
            if let Some(slot) = marker::weight_of(tensor).and_then(|id| referenced.get_mut(id.index())) {
                *slot = true;
            }
        });
        for (slot, referenced) in self.table.iter_mut().zip(referenced) {
            if !referenced {
                *slot = None;
            }
        }
    }
}

/// The file, or the bytes, that a model was read from.
#[derive(Debug, Clone)]
pub struct Source(Arc<SourceParts>);

#[derive(Debug)]
struct SourceParts {
    path: Option<PathBuf>,
    name: String,
    bytes: Bytes,
    external: Vec<(PathBuf, Bytes)>,
    digest: OnceLock<[u8; 32]>,
}

impl Source {
    pub(crate) fn new(path: Option<&Path>, name: String, bytes: Bytes, external: Vec<(PathBuf, Bytes)>) -> Self {
        Self(Arc::new(SourceParts { path: path.map(Path::to_owned), name, bytes, external, digest: OnceLock::new() }))
    }

    /// The model's path; `None` where it was read from memory.
    pub fn path(&self) -> Option<&Path> {
        self.0.path.as_deref()
    }

    /// A name for messages: the path, where there is one.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The main file's bytes, as they came.
    pub fn bytes(&self) -> &Bytes {
        &self.0.bytes
    }

    /// The files with external data that the model uses, in the order of first use.
    pub fn external_files(&self) -> impl Iterator<Item = &Path> {
        self.0.external.iter().map(|(path, _)| path.as_path())
    }

    /// Bytes of the main file and of the external files together.
    pub fn total_bytes(&self) -> u64 {
        let external: u64 = self.0.external.iter().map(|(_, bytes)| bytes.len() as u64).sum();
        self.0.bytes.len() as u64 + external
    }

    /// SHA-256 of the main file followed by the external files in the order of first use. Computed once, when asked.
    pub fn sha256(&self) -> [u8; 32] {
        *self.0.digest.get_or_init(|| {
            let mut hash = Sha256::new();
            hash.update(&self.0.bytes);
            self.0.external.iter().for_each(|(_, bytes)| hash.update(bytes));
            hash.finalize().into()
        })
    }

    /// [`Self::sha256`] in lower-case hexadecimal digits.
    pub fn sha256_hex(&self) -> String {
        self.sha256().iter().fold(String::with_capacity(64), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    }
}
