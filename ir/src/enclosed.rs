//! A model as a whole inside one node of another.
//!
//! Where a runtime takes what foreign operators give for unknown values, a packed model runs slower than a dense one. So
//! it can be *enclosed*: the file then holds a graph with the same inputs and outputs, and a single node
//! `ai.dcomp::DcompSession`, whose first input is a constant uint8 tensor: the ONNX message of the model. The operator
//! opens a session for that, once. Inputs and outputs of the node are those of the model in it, in its order.
//!
//! The message in the node holds graph, functions, operator sets and IR version; defaults of graph inputs, metadata and
//! all else stay outside, where hosts look for them. Reading a file opens what is enclosed, so that nothing else
//! here sees more than the model in it. It holds no other enclosed model, and no external data.

use std::collections::HashSet;

use bytes::Bytes;
use onnx_dcomp_forms::DType;
use onnx_dcomp_proto::tensor_proto::DataType;
use onnx_dcomp_proto::type_proto::Value;
use onnx_dcomp_proto::{GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, ValueInfoProto};

use crate::graph::{COMPRESSED_DOMAIN, sparse_name};
use crate::read::storage;
use crate::{GraphIndex, IrError, Model};

/// The operator that runs the model in it.
pub const SESSION_OPERATOR: &str = "DcompSession";

/// The version of our domain that has the operator.
const DOMAIN_VERSION: i64 = 1;

impl Model {
    /// Puts the whole model into one node. Its weights stay in the table, for whoever asks what became of them.
    ///
    /// # Errors
    /// [`IrError::NotEnclosable`] where the graph's inputs and outputs cannot be those of a node; nothing has changed then.
    pub fn enclose(&mut self) -> Result<(), IrError> {
        let (inputs, defaults) = self.interface()?;
        let mut inner = ModelProto {
            ir_version: self.proto.ir_version,
            opset_import: self.proto.opset_import.clone(),
            graph: self.proto.graph.take(),
            functions: std::mem::take(&mut self.proto.functions),
            training_info: std::mem::take(&mut self.proto.training_info),
            ..ModelProto::default()
        };
        let graph = inner.graph.get_or_insert_default();
        let mut outer = GraphProto {
            name: graph.name.clone(),
            input: graph.input.iter().filter(|input| inputs.contains(input.name())).cloned().collect(),
            output: graph.output.clone(),
            ..GraphProto::default()
        };
        let is_default = |tensor: &mut TensorProto| defaults.contains(tensor.name());
        outer.initializer = graph.initializer.extract_if(.., is_default).collect();
        let rest = std::mem::replace(&mut self.proto, inner);
        let message = self.to_bytes();
        let inner = std::mem::replace(&mut self.proto, rest);
        let payload = GraphIndex::new(&outer).unique_name("model");
        let (names, outputs) = (outer.input.iter(), outer.output.iter());
        outer.node = vec![NodeProto {
            input: std::iter::once(payload.as_str())
                .chain(names.map(|input| input.name()))
                .map(str::to_owned)
                .collect(),
            output: outputs.map(|output| output.name().to_owned()).collect(),
            op_type: Some(SESSION_OPERATOR.to_owned()),
            domain: Some(COMPRESSED_DOMAIN.to_owned()),
            ..NodeProto::default()
        }];
        let message = message?;
        let payload = TensorProto {
            name: Some(payload),
            dims: vec![message.len() as i64],
            data_type: Some(DataType::Uint8 as i32),
            raw_data: Some(message.into()),
            ..TensorProto::default()
        };
        outer.initializer.insert(0, payload);
        self.proto.graph = Some(outer);
        // Earlier versions want the payload among the graph's inputs, where hosts would see it.
        self.proto.ir_version = Some(inner.ir_version().max(Self::OVERRIDABLE_IR_VERSION));
        let ours = OperatorSetIdProto { domain: Some(COMPRESSED_DOMAIN.to_owned()), version: Some(DOMAIN_VERSION) };
        let is_standard = |import: &&OperatorSetIdProto| matches!(import.domain(), "" | "ai.onnx");
        let standard = inner.opset_import.iter().filter(is_standard).cloned();
        self.proto.opset_import = standard.chain([ours]).collect();
        Ok(())
    }

    /// Reads the message that a node of an enclosed model holds; `name` is what messages call it.
    ///
    /// # Errors
    /// As [`Model::from_bytes`].
    pub fn from_payload(message: Bytes, name: &str) -> Result<Self, IrError> {
        crate::read::read_one(message, name.to_owned())
    }

    /// The names of the graph's inputs, and of those that have a default.
    fn interface(&self) -> Result<(HashSet<String>, HashSet<String>), IrError> {
        let graph = self.graph();
        let not = |reason: String| IrError::NotEnclosable { reason };
        let initializers: HashSet<&str> = graph.initializer.iter().map(|tensor| tensor.name()).collect();
        let may_override = self.proto.ir_version() >= Self::OVERRIDABLE_IR_VERSION;
        let is_input = |name: &str| may_override || !initializers.contains(name);
        let inputs: HashSet<&str> =
            graph.input.iter().map(|input| input.name()).filter(|name| is_input(name)).collect();
        let sparse = graph.sparse_initializer.iter().map(sparse_name).find(|name| inputs.contains(name));
        if let Some(name) = sparse {
            return Err(not(format!("the default of its input `{name}` is sparse")));
        }
        let mut outputs = HashSet::new();
        for output in &graph.output {
            let name = output.name();
            if inputs.contains(name) || initializers.contains(name) || !outputs.insert(name) {
                return Err(not(format!("its output `{name}` is an input, an initializer or another output as well")));
            }
        }
        if outputs.is_empty() {
            return Err(not("it has no outputs".to_owned()));
        }
        let declared = graph.input.iter().filter(|input| inputs.contains(input.name())).chain(&graph.output);
        if let Some(value) = declared.clone().find(|value| !holds_numbers(value)) {
            return Err(not(format!("`{}` is no tensor of numbers of a declared type", value.name())));
        }
        let owned = |names: &mut dyn Iterator<Item = &str>| names.map(str::to_owned).collect();
        Ok((owned(&mut inputs.iter().copied()), owned(&mut inputs.intersection(&initializers).copied())))
    }
}

/// Whether `value` is declared as a tensor whose elements are whole bytes in a row.
fn holds_numbers(value: &ValueInfoProto) -> bool {
    let kind = value.r#type.as_ref().and_then(|kind| kind.value.as_ref());
    let Some(Value::TensorType(tensor)) = kind else { return false };
    use DataType as Kind;
    [
        Kind::Float,
        Kind::Uint8,
        Kind::Int8,
        Kind::Uint16,
        Kind::Int16,
        Kind::Int32,
        Kind::Int64,
        Kind::Bool,
        Kind::Float16,
        Kind::Double,
        Kind::Uint32,
        Kind::Uint64,
        Kind::Bfloat16,
    ]
    .iter()
    .any(|&known| known as i32 == tensor.elem_type())
}

/// The message in the only node of `proto`; `None` where nothing is enclosed there.
pub(crate) fn message(proto: &ModelProto) -> Option<Bytes> {
    let graph = proto.graph.as_ref()?;
    let [node] = graph.node.as_slice() else { return None };
    let is_session = node.domain() == COMPRESSED_DOMAIN && node.op_type() == SESSION_OPERATOR;
    let name = node.input.first().filter(|_| is_session)?;
    let payload = graph.initializer.iter().find(|tensor| tensor.name() == name)?;
    let is_bytes = payload.data_type() == DataType::Uint8 as i32;
    let values = storage::values(payload, DType::U8).ok().filter(|_| is_bytes)?;
    Some(values.bytes().clone())
}

/// The model that was enclosed in `outer`, whose only node held the message `inner`.
///
/// # Errors
/// What is wrong where the node does not fit what is in it.
pub(crate) fn opened(mut outer: ModelProto, mut inner: ModelProto) -> Result<ModelProto, String> {
    let around = outer.graph.take().unwrap_or_default();
    let graph = inner.graph.get_or_insert_default();
    let initialized: HashSet<&str> = graph.initializer.iter().map(|tensor| tensor.name()).collect();
    let inputs = graph.input.iter().map(|input| input.name()).filter(|name| !initialized.contains(name));
    let outputs = graph.output.iter().map(|output| output.name());
    for node in &around.node {
        let read = node.input.iter().skip(1).map(String::as_str);
        let given = node.output.iter().map(String::as_str);
        if !read.eq(inputs.clone()) || !given.eq(outputs.clone()) {
            return Err("its inputs and outputs have other names than those of the model in it".to_owned());
        }
    }
    let is_default = |tensor: &TensorProto| graph.input.iter().any(|input| input.name() == tensor.name());
    let defaults: Vec<TensorProto> = around.initializer.into_iter().filter(is_default).collect();
    graph.initializer.extend(defaults);
    Ok(ModelProto {
        ir_version: inner.ir_version,
        opset_import: inner.opset_import,
        graph: inner.graph,
        functions: inner.functions,
        training_info: inner.training_info,
        ..outer
    })
}
