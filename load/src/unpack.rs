//! From packed to plain: the nodes that decode payloads become the initializers that they give, bit for bit what the
//! runtimes decode.

use std::collections::HashSet;

use bytes::Bytes;
use onnx_dcomp_codec::{DecodeError, Decoded, Limits};
use onnx_dcomp_forms::DType;
use onnx_dcomp_ir::enclosed::SESSION_OPERATOR;
use onnx_dcomp_ir::graph::{self, COMPRESSED_DOMAIN, is_constant};
use onnx_dcomp_ir::{Constant, ConstantData, Model};
use onnx_dcomp_proto::attribute_proto::AttributeType;
use onnx_dcomp_proto::{AttributeProto, GraphProto, NodeProto, TensorProto};
use rayon::prelude::*;

use crate::LoadError;

/// The operator that decodes a payload into weights.
const DECODE: &str = "DcompDecode";

/// The operators that compute on the weight in a payload: their second input.
const PRODUCTS: [&str; 3] = ["DcompSparseGemm", "DcompCodebookGemm", CONVOLUTION];

/// The one of them that takes the place of a `Conv`.
const CONVOLUTION: &str = "DcompSparseConv";

/// Their attribute that names the standard operator which the outputs go through.
const ACTIVATION: &str = "activation";

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

/// What the weights of `model` may take as plain tensors: more is refused, as a file that is made to exhaust memory.
pub fn most_decoded_bytes(model: &Model) -> u64 {
    LARGEST_WEIGHTS_BYTES.max(model.source().total_bytes().saturating_mul(LARGEST_RATIO))
}

/// Whether `model` holds a node of ours.
pub fn is_packed(model: &Model) -> bool {
    fn any(nodes: &[NodeProto]) -> bool {
        nodes.iter().any(|node| is_ours(node) || graph::subgraphs(node).any(|graph| any(&graph.node)))
    }
    any(&model.graph().node) || model.proto.functions.iter().any(|function| any(&function.node))
}

/// Turns a packed model into a plain one: the payloads and the nodes that decode them give way to plain tensors, and the
/// import of our operators goes. The tensors are held as the payload was: as initializers, or by Constant nodes.
///
/// # Errors
/// [`LoadError::Payload`] and [`LoadError::Packed`], which name the node. The model may then be half unpacked: drop it.
pub fn unpack(model: &mut Model) -> Result<Unpacked, LoadError> {
    let mut unpacked = Unpacked::default();
    if !is_packed(model) {
        return Ok(unpacked);
    }
    let mut decoded = decode_all(model)?.into_iter();
    // The graphs are taken out so that they can change while the model is read.
    let mut graph = std::mem::take(model.graph_mut());
    let mut functions = std::mem::take(&mut model.proto.functions);
    let mut done = unpack_graph(model, &mut graph, &mut decoded, &mut unpacked);
    for function in &mut functions {
        if done.is_err() {
            break;
        }
        let mut body = as_graph(std::mem::take(&mut function.node));
        done = unpack_graph(model, &mut body, &mut decoded, &mut unpacked);
        function.node = body.node;
        function.opset_import.retain(|import| import.domain() != COMPRESSED_DOMAIN);
    }
    *model.graph_mut() = graph;
    model.proto.functions = functions;
    model.proto.opset_import.retain(|import| import.domain() != COMPRESSED_DOMAIN);
    done.map(|()| unpacked)
}

/// The weights of every node of ours, in the order of [`for_each_payload`]; payloads are decoded side by side.
fn decode_all(model: &Model) -> Result<Vec<Vec<Decoded>>, LoadError> {
    let mut left = most_decoded_bytes(model);
    let mut payloads = Vec::new();
    for_each_payload(model, &mut |node, payload| {
        let records = onnx_dcomp_codec::inspect(payload).map_err(|source| broken_payload(model, node, source))?;
        check_outputs(model, node, records.len())?;
        let limits = Limits { max_decoded_bytes: left };
        left = left.saturating_sub(records.iter().fold(0, |sum, record| record.decoded_bytes().saturating_add(sum)));
        payloads.push((node_label(node).to_owned(), payload.clone(), limits));
        Ok(())
    })?;
    let decode = |(node, payload, limits): (String, Bytes, Limits)| {
        let file = || model.source().name().to_owned();
        let broken = |source| LoadError::Payload { file: file(), node, source };
        onnx_dcomp_codec::decode(&payload, &limits).map_err(broken)
    };
    let decoded: Vec<Result<Vec<Decoded>, LoadError>> = payloads.into_par_iter().map(decode).collect();
    decoded.into_iter().collect()
}

/// A function's body as a graph: one without initializers and declared types.
fn as_graph(node: Vec<NodeProto>) -> GraphProto {
    GraphProto { node, ..GraphProto::default() }
}

fn is_ours(node: &NodeProto) -> bool {
    node.domain() == COMPRESSED_DOMAIN
}

/// Takes our nodes out of `graph`, subgraphs included.
fn unpack_graph(
    model: &Model,
    graph: &mut GraphProto,
    decoded: &mut impl Iterator<Item = Vec<Decoded>>,
    unpacked: &mut Unpacked,
) -> Result<(), LoadError> {
    let mut payloads = HashSet::new();
    let mut names: HashSet<String> = graph::defined_names(graph).map(str::to_owned).collect();
    let mut nodes = Vec::with_capacity(graph.node.len());
    for mut node in std::mem::take(&mut graph.node) {
        for subgraph in graph::subgraphs_mut(&mut node) {
            unpack_graph(model, subgraph, &mut *decoded, unpacked)?;
        }
        if !is_ours(&node) {
            nodes.push(node);
            continue;
        }
        let payload = payload_of(model, &graph.initializer, &nodes, &node)?;
        let decoded = decoded.next().unwrap_or_default();
        let weights = tensors(weight_names(&node), decoded);
        unpacked.payloads += 1;
        unpacked.weight_bytes +=
            weights.iter().flat_map(|weight| &weight.raw_data).map(|raw| raw.len() as u64).sum::<u64>();
        unpacked.weights += weights.len();
        if is_product(&node) {
            graph.initializer.retain(|tensor| tensor.name() != payload.name);
            nodes.retain(|node| !(is_constant(node) && node.output.first() == Some(&payload.name)));
        }
        match payload.holder {
            Holder::Initializer => graph.initializer.extend(weights),
            Holder::Constant => nodes.extend(weights.into_iter().map(constant_node)),
        }
        match is_product(&node) {
            true => nodes.extend(plain_product(node, &mut names)),
            false => payloads.extend(node.input),
        }
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

fn is_product(node: &NodeProto) -> bool {
    PRODUCTS.contains(&node.op_type())
}

/// The standard operators that compute what `node`, a product, does; `names` are taken.
fn plain_product(mut node: NodeProto, names: &mut HashSet<String>) -> Vec<NodeProto> {
    let place = node.attribute.iter().position(|attribute| attribute.name() == ACTIVATION);
    let activation = place.map(|place| node.attribute.remove(place).s.unwrap_or_default());
    let Some(activation) = activation.and_then(|name| String::from_utf8(name.to_vec()).ok()) else {
        return vec![plain_layer(node)];
    };
    let output = node.output.first().cloned().unwrap_or_default();
    let mut sums = format!("{output}.sums");
    while !names.insert(sums.clone()) {
        sums.push('_');
    }
    let (input, output) = (vec![sums.clone()], std::mem::replace(&mut node.output, vec![sums]));
    vec![plain_layer(node), NodeProto { op_type: Some(activation), input, output, ..NodeProto::default() }]
}

/// The standard operator that computes what `node`, a product without activation, does.
fn plain_layer(node: NodeProto) -> NodeProto {
    if node.op_type() == CONVOLUTION {
        return NodeProto { op_type: Some("Conv".to_owned()), domain: None, ..node };
    }
    let is_transposed = node.attribute.iter().any(|attribute| attribute.name() == "transB" && attribute.i() != 0);
    // A Gemm takes two-dimensional inputs alone; only a Gemm has a bias, or a matrix that lies the other way round.
    let is_gemm = is_transposed || node.input.len() > 2;
    let operator = if is_gemm { "Gemm" } else { "MatMul" };
    NodeProto { op_type: Some(operator.to_owned()), domain: None, ..node }
}

/// The names that the weights in the payload of `node`, one of ours, have once they are plain: those of its outputs; a
/// product's matrix takes the name of the payload.
pub fn weight_names(node: &NodeProto) -> &[String] {
    match is_product(node) {
        true => node.input.get(1..2).unwrap_or_default(),
        false => &node.output,
    }
}

/// What a payload holds, as tensors of these names.
fn tensors(names: &[String], decoded: Vec<Decoded>) -> Vec<TensorProto> {
    let named = decoded.into_iter().zip(names).filter(|(_, name)| !name.is_empty());
    named
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
        .collect()
}

/// What holds a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holder {
    Initializer,
    Constant,
}

struct Payload {
    name: String,
    bytes: Bytes,
    holder: Holder,
}

/// The payload of `node`, one of ours, which `initializers` or a Constant among `nodes` holds.
fn payload_of(
    model: &Model,
    initializers: &[TensorProto],
    nodes: &[NodeProto],
    node: &NodeProto,
) -> Result<Payload, LoadError> {
    if node.op_type() == SESSION_OPERATOR {
        let reason = "it holds a whole model, and is only read where it is the one node of a file";
        return Err(packed(model, node, format!("{reason}; onnxruntime runs others, with the operator library")));
    }
    if node.op_type() != DECODE && !is_product(node) {
        let operator = format!("{COMPRESSED_DOMAIN}::{}", node.op_type());
        return Err(packed(model, node, format!("this version does not know the operator `{operator}`; update it")));
    }
    let name = match (is_product(node), node.input.as_slice()) {
        (false, [name]) | (true, [_, name] | [_, name, _]) => name,
        (false, inputs) => {
            return Err(packed(model, node, format!("it takes one input, the payload; found {}", inputs.len())));
        }
        (true, inputs) => {
            let found = inputs.len();
            return Err(packed(model, node, format!("it takes an input, a payload and maybe a bias; found {found}")));
        }
    };
    let initializer = initializers.iter().find(|tensor| tensor.name() == name);
    let constant = || nodes.iter().find(|node| is_constant(node) && node.output.first() == Some(name));
    let (constant, holder) = match initializer {
        Some(tensor) => (model.constant_of_tensor(tensor), Holder::Initializer),
        None => (constant().and_then(|node| model.constant_of_node(node)), Holder::Constant),
    };
    match constant.map(|constant| constant.data) {
        Some(ConstantData::Values(values)) if values.dtype() == DType::U8 => {
            Ok(Payload { name: name.clone(), bytes: values.bytes().clone(), holder })
        }
        _ => Err(packed(model, node, format!("its payload `{name}` is no constant uint8 tensor of the same graph"))),
    }
}

/// What is done with a node of ours and its payload.
pub type VisitPayload<'a> = dyn FnMut(&NodeProto, &Bytes) -> Result<(), LoadError> + 'a;

/// Calls `visit` for every node of ours, in the main graph, in subgraphs and in functions, with its payload.
pub fn for_each_payload(model: &Model, visit: &mut VisitPayload<'_>) -> Result<(), LoadError> {
    fn walk(
        model: &Model,
        initializers: &[TensorProto],
        nodes: &[NodeProto],
        visit: &mut VisitPayload<'_>,
    ) -> Result<(), LoadError> {
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
/// [`LoadError::Payload`] and [`LoadError::Packed`], which name the node.
pub fn check_payloads(model: &Model) -> Result<(), LoadError> {
    for_each_payload(model, &mut |node, payload| {
        let broken = |source| broken_payload(model, node, source);
        let held = onnx_dcomp_codec::inspect(payload).map_err(broken)?.len();
        check_outputs(model, node, held)
    })
}

/// The error of a payload that cannot be decoded.
pub fn broken_payload(model: &Model, node: &NodeProto, source: DecodeError) -> LoadError {
    LoadError::Payload { file: model.source().name().to_owned(), node: node_label(node).to_owned(), source }
}

/// A node has one output for each of the weights in its payload.
fn check_outputs(model: &Model, node: &NodeProto, weights: usize) -> Result<(), LoadError> {
    if weights == node.output.len() {
        return Ok(());
    }
    Err(packed(model, node, format!("its payload holds {weights} weights, it has {} outputs", node.output.len())))
}

/// What messages call `node`.
pub fn node_label(node: &NodeProto) -> &str {
    match node.name() {
        "" => node.output.first().map_or("", String::as_str),
        name => name,
    }
}

fn packed(model: &Model, node: &NodeProto, reason: String) -> LoadError {
    LoadError::Packed { file: model.source().name().to_owned(), node: node_label(node).to_owned(), reason }
}
