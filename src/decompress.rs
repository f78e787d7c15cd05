//! From packed to plain: the nodes that decode payloads become the initializers that they give.
//!
//! What is written is bit for bit what the runtimes decode.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use onnx_dcomp_codec::{DecodeError, Limits};
use onnx_dcomp_forms::DType;
use onnx_dcomp_ir::graph::{self, COMPRESSED_DOMAIN, is_constant};
use onnx_dcomp_ir::{Constant, ConstantData, Model};
use onnx_dcomp_passes::pack::DECODE;
use onnx_dcomp_passes::portable::{Computed, fold_back};
use onnx_dcomp_proto::attribute_proto::AttributeType;
use onnx_dcomp_proto::{AttributeProto, GraphProto, NodeProto, TensorProto};

use crate::compile::METADATA_KEY;
use crate::output::Staged;
use crate::{Error, Target, Watch};

/// What [`decompress`] did.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Decompressed {
    /// The packed file.
    pub input: PathBuf,
    /// The plain file.
    pub output: PathBuf,
    /// Payloads that were decoded; 0 where there was none.
    pub payloads: usize,
    /// Weights that they held, or that standard operators computed; 0 where the input was plain already.
    pub weights: usize,
    /// Bytes of the input, external data included.
    pub bytes_before: u64,
    /// Bytes of the output, external data included.
    pub bytes_after: u64,
}

/// Writes the model at `input` as plain ONNX to `output`, which may be the same file.
///
/// # Errors
/// Whatever reading, decoding or writing meets; `output` is then as it was.
pub fn decompress(input: &Path, output: &Path, watch: &dyn Watch) -> Result<Decompressed, Error> {
    let staged = Staged::beside(output)?;
    let mut model = Model::open(input)?;
    watch.begin("decoding", None);
    let unpacked = unpack(&mut model).and_then(|mut unpacked| {
        unpacked.weights += compute(&mut model)?.len();
        Ok(unpacked)
    });
    watch.end();
    let unpacked = unpacked?;
    watch.begin("writing", None);
    let saved = staged.save(&model);
    watch.end();
    let bytes_after = saved?.total_bytes();
    staged.commit()?;
    Ok(Decompressed {
        input: input.to_owned(),
        output: output.to_owned(),
        payloads: unpacked.payloads,
        weights: unpacked.weights,
        bytes_before: model.source().total_bytes(),
        bytes_after,
    })
}

/// How much [`unpack`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Unpacked {
    /// Payloads that were decoded.
    pub payloads: usize,
    /// Weights that they held.
    pub weights: usize,
    /// Bytes that these take as plain tensors.
    pub weight_bytes: u64,
}

/// What all payloads of a model may hold together: this, and so many times the model's own size. Nodes may share a
/// payload, so that what each may hold bounds nothing.
const LARGEST_WEIGHTS_BYTES: u64 = 16 << 30;
const LARGEST_RATIO: u64 = 1 << 10;

/// Whether `model` holds a node of ours.
pub fn is_packed(model: &Model) -> bool {
    fn any(nodes: &[NodeProto]) -> bool {
        nodes.iter().any(|node| is_ours(node) || graph::subgraphs(node).any(|graph| any(&graph.node)))
    }
    any(&model.graph().node) || model.proto.functions.iter().any(|function| any(&function.node))
}

/// Whether `model` says that its weights are computed by standard operators.
pub fn is_portable(model: &Model) -> bool {
    let made_by = model.proto.metadata_props.iter().find(|entry| entry.key() == METADATA_KEY);
    let target = made_by.and_then(|entry| entry.value().rsplit(' ').next()?.parse::<Target>().ok());
    target.is_some_and(Target::is_portable)
}

/// Whether `model` is a file of ours that is no plain one.
pub fn is_compressed(model: &Model) -> bool {
    is_packed(model) || is_portable(model)
}

/// Turns a portable model into a plain one: nodes that compute weights give way to what they compute.
///
/// # Errors
/// [`Error::Portable`] where they would compute more than a file of this size may hold. Drop the model then.
pub fn compute(model: &mut Model) -> Result<Vec<Computed>, Error> {
    if !is_portable(model) {
        return Ok(Vec::new());
    }
    let most = LARGEST_WEIGHTS_BYTES.max(model.source().total_bytes().saturating_mul(LARGEST_RATIO));
    let computed = fold_back(model, most);
    let computed = computed.map_err(|reason| Error::Portable { file: model.source().name().to_owned(), reason })?;
    for entry in &mut model.proto.metadata_props {
        if entry.key() == METADATA_KEY
            && let Some((head, _)) = entry.value().rsplit_once(' ')
        {
            entry.value = Some(head.to_owned());
        }
    }
    Ok(computed)
}

/// Turns a packed model into a plain one: the payloads and the nodes that decode them give way to plain tensors, and the
/// import of our operators goes. The tensors are held as the payload was: as initializers, or by Constant nodes.
///
/// # Errors
/// [`Error::Payload`] and [`Error::Packed`], which name the node. The model may then be half unpacked: drop it.
pub fn unpack(model: &mut Model) -> Result<Unpacked, Error> {
    let mut unpacked = Unpacked::default();
    if !is_packed(model) {
        return Ok(unpacked);
    }
    // The graphs are taken out so that they can change while the model is read.
    let mut graph = std::mem::take(model.graph_mut());
    let mut functions = std::mem::take(&mut model.proto.functions);
    let mut done = unpack_graph(model, &mut graph, &mut unpacked);
    for function in &mut functions {
        if done.is_err() {
            break;
        }
        let mut body = as_graph(std::mem::take(&mut function.node));
        done = unpack_graph(model, &mut body, &mut unpacked);
        function.node = body.node;
        function.opset_import.retain(|import| import.domain() != COMPRESSED_DOMAIN);
    }
    *model.graph_mut() = graph;
    model.proto.functions = functions;
    model.proto.opset_import.retain(|import| import.domain() != COMPRESSED_DOMAIN);
    done.map(|()| unpacked)
}

/// A function's body as a graph: one without initializers and declared types.
fn as_graph(node: Vec<NodeProto>) -> GraphProto {
    GraphProto { node, ..GraphProto::default() }
}

fn is_ours(node: &NodeProto) -> bool {
    node.domain() == COMPRESSED_DOMAIN
}

/// Takes our nodes out of `graph`, subgraphs included.
fn unpack_graph(model: &Model, graph: &mut GraphProto, unpacked: &mut Unpacked) -> Result<(), Error> {
    let mut payloads = HashSet::new();
    let mut nodes = Vec::with_capacity(graph.node.len());
    for mut node in std::mem::take(&mut graph.node) {
        for subgraph in graph::subgraphs_mut(&mut node) {
            unpack_graph(model, subgraph, unpacked)?;
        }
        if !is_ours(&node) {
            nodes.push(node);
            continue;
        }
        let payload = payload_of(model, &graph.initializer, &nodes, &node)?;
        let most = LARGEST_WEIGHTS_BYTES.max(model.source().total_bytes().saturating_mul(LARGEST_RATIO));
        let limits = Limits { max_decoded_bytes: most.saturating_sub(unpacked.weight_bytes) };
        let weights = decode_node(model, &node, &payload.bytes, &limits)?;
        unpacked.payloads += 1;
        unpacked.weight_bytes +=
            weights.iter().flat_map(|weight| &weight.raw_data).map(|raw| raw.len() as u64).sum::<u64>();
        unpacked.weights += weights.len();
        match payload.holder {
            Holder::Initializer => graph.initializer.extend(weights),
            Holder::Constant => nodes.extend(weights.into_iter().map(constant_node)),
        }
        payloads.extend(node.input);
    }
    let is_read = |name: &String| nodes.iter().any(|node| node.input.contains(name));
    payloads.retain(|name| !is_read(name));
    nodes.retain(|node| !(is_constant(node) && node.output.first().is_some_and(|name| payloads.contains(name))));
    graph.initializer.retain(|tensor| !payloads.contains(tensor.name()));
    graph.input.retain(|input| !payloads.contains(input.name()));
    graph.node = nodes;
    Ok(())
}

/// The Constant node that gives `tensor` under its name.
fn constant_node(mut tensor: TensorProto) -> NodeProto {
    let output = vec![tensor.name.take().unwrap_or_default()];
    let value = AttributeProto {
        name: Some("value".to_owned()),
        r#type: Some(AttributeType::Tensor as i32),
        t: Some(tensor),
        ..AttributeProto::default()
    };
    NodeProto { op_type: Some("Constant".to_owned()), output, attribute: vec![value], ..NodeProto::default() }
}

fn decode_node(model: &Model, node: &NodeProto, payload: &[u8], limits: &Limits) -> Result<Vec<TensorProto>, Error> {
    let broken = |source| broken_payload(model, node, source);
    let decoded = onnx_dcomp_codec::decode(payload, limits).map_err(broken)?;
    check_outputs(model, node, decoded.len())?;
    let named = decoded.into_iter().zip(&node.output).filter(|(_, name)| !name.is_empty());
    Ok(named
        .map(|(weight, name)| {
            let bytes = weight.values.bytes().clone();
            let dims = weight.shape.iter().map(|&length| length as i64).collect();
            let constant = Constant { shape: weight.shape, data: ConstantData::Values(weight.values) };
            TensorProto {
                name: Some(name.clone()),
                dims,
                data_type: Some(constant.data_type()),
                raw_data: Some(bytes),
                ..TensorProto::default()
            }
        })
        .collect())
}

/// What holds a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holder {
    Initializer,
    Constant,
}

struct Payload {
    bytes: Bytes,
    holder: Holder,
}

/// The payload of `node`, one of ours, which `initializers` or a Constant among `nodes` holds.
fn payload_of(
    model: &Model,
    initializers: &[TensorProto],
    nodes: &[NodeProto],
    node: &NodeProto,
) -> Result<Payload, Error> {
    if node.op_type() != DECODE {
        let operator = format!("{COMPRESSED_DOMAIN}::{}", node.op_type());
        return Err(packed(model, node, format!("this version does not know the operator `{operator}`; update it")));
    }
    let [name] = node.input.as_slice() else {
        return Err(packed(model, node, format!("it takes one input, the payload; found {}", node.input.len())));
    };
    let initializer = initializers.iter().find(|tensor| tensor.name() == name);
    let constant = || nodes.iter().find(|node| is_constant(node) && node.output.first() == Some(name));
    let (constant, holder) = match initializer {
        Some(tensor) => (model.constant_of_tensor(tensor), Holder::Initializer),
        None => (constant().and_then(|node| model.constant_of_node(node)), Holder::Constant),
    };
    match constant.map(|constant| constant.data) {
        Some(ConstantData::Values(values)) if values.dtype() == DType::U8 => {
            Ok(Payload { bytes: values.bytes().clone(), holder })
        }
        _ => Err(packed(model, node, format!("its payload `{name}` is no constant uint8 tensor of the same graph"))),
    }
}

/// What is done with a node of ours and its payload.
pub(crate) type VisitPayload<'a> = dyn FnMut(&NodeProto, &[u8]) -> Result<(), Error> + 'a;

/// Calls `visit` for every node of ours, in the main graph, in subgraphs and in functions, with its payload.
pub(crate) fn for_each_payload(model: &Model, visit: &mut VisitPayload<'_>) -> Result<(), Error> {
    fn walk(
        model: &Model,
        initializers: &[TensorProto],
        nodes: &[NodeProto],
        visit: &mut VisitPayload<'_>,
    ) -> Result<(), Error> {
        for node in nodes {
            for graph in graph::subgraphs(node) {
                walk(model, &graph.initializer, &graph.node, visit)?;
            }
            if is_ours(node) {
                visit(node, &payload_of(model, initializers, nodes, node)?.bytes)?;
            }
        }
        Ok(())
    }
    walk(model, &model.graph().initializer, &model.graph().node, visit)?;
    model.proto.functions.iter().try_for_each(|function| walk(model, &[], &function.node, visit))
}

/// Whether every payload is whole: its checksum, its records, and nodes that make sense.
///
/// # Errors
/// [`Error::Payload`] and [`Error::Packed`], which name the node.
pub(crate) fn check_payloads(model: &Model) -> Result<(), Error> {
    for_each_payload(model, &mut |node, payload| {
        let broken = |source| broken_payload(model, node, source);
        let held = onnx_dcomp_codec::inspect(payload).map_err(broken)?.len();
        check_outputs(model, node, held)
    })
}

/// The error of a payload that cannot be decoded.
pub(crate) fn broken_payload(model: &Model, node: &NodeProto, source: DecodeError) -> Error {
    Error::Payload { file: model.source().name().to_owned(), node: node_label(node).to_owned(), source }
}

/// A node has one output for each of the weights in its payload.
fn check_outputs(model: &Model, node: &NodeProto, weights: usize) -> Result<(), Error> {
    if weights == node.output.len() {
        return Ok(());
    }
    Err(packed(model, node, format!("its payload holds {weights} weights, it has {} outputs", node.output.len())))
}

/// What messages call `node`.
pub(crate) fn node_label(node: &NodeProto) -> &str {
    match node.name() {
        "" => node.output.first().map_or("", String::as_str),
        name => name,
    }
}

fn packed(model: &Model, node: &NodeProto, reason: String) -> Error {
    Error::Packed { file: model.source().name().to_owned(), node: node_label(node).to_owned(), reason }
}
