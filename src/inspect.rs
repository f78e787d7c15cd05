//! Where the bytes of a file are.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use onnx_dcomp_codec::{Coder, Limits, Stream};
use onnx_dcomp_forms::Form;
use onnx_dcomp_ir::{Model, Weight};
use onnx_dcomp_load::unpack::{broken_payload, for_each_payload, unpack, weight_names};
use serde::Serialize;

use crate::Error;
use crate::compile::METADATA_KEY;
use crate::decompress::compute;

/// What is in a file.
#[derive(Debug, Clone, Serialize)]
pub struct Inspection {
    /// The file.
    pub file: PathBuf,
    /// Bytes, external data included.
    pub bytes: u64,
    /// Bytes beside the weights: nodes, names, shapes, small constants.
    pub graph_bytes: u64,
    /// Bytes that the weights would take as plain tensors.
    pub dense_bytes: u64,
    /// Number of nodes of the main graph.
    pub nodes: usize,
    /// ONNX' IR version.
    pub ir_version: i64,
    /// Domains and versions of the operator sets.
    pub operator_sets: Vec<(String, i64)>,
    /// How the file was made, where it says so.
    pub made_by: Option<String>,
    /// The weights, in the order of the file.
    pub weights: Vec<InspectedWeight>,
}

/// A weight of a file.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct InspectedWeight {
    /// Its name.
    pub name: String,
    /// Where it lives.
    pub scope: String,
    /// What operators do with it.
    pub role: &'static str,
    /// The operator that reads it.
    pub operator: Option<String>,
    /// The element type.
    pub dtype: &'static str,
    /// The shape, outermost axis first.
    pub shape: Vec<usize>,
    /// How it is represented.
    pub form: &'static str,
    /// The entropy coder; `None` where it is not coded.
    pub coder: Option<&'static str>,
    /// Non-zero elements over all elements.
    pub density: f64,
    /// Bits stored for each element, all of its side tables included.
    pub bits_per_weight: f64,
    /// Bytes stored for it. Weights that share a stream take their part of it by the entropy of their values.
    pub bytes: u64,
}

/// Looks into the file at `path`, packed, portable or plain.
///
/// # Errors
/// Where it cannot be read, or a payload cannot be decoded.
pub fn inspect(path: &Path) -> Result<Inspection, Error> {
    let mut model = Model::open(path)?;
    let bytes = model.source().total_bytes();
    let mut packed = packed_weights(&model)?;
    let nodes = model.graph().node.len();
    let ir_version = model.proto.ir_version();
    let imports = model.proto.opset_import.iter();
    let operator_sets = imports.map(|import| (import.domain().to_owned(), import.version())).collect();
    let made_by = model.proto.metadata_props.iter().find(|entry| entry.key() == METADATA_KEY);
    let made_by = made_by.map(|entry| entry.value().to_owned());
    let computed = compute(&mut model)?.into_iter();
    packed.extend(computed.map(|computed| {
        let form = match computed.operator {
            "ScatterElements" => "sparse",
            "Gather" => "codebook",
            _ => "uniform",
        };
        (computed.name, PackedWeight { form, coder: None, density: None, bytes: computed.bytes })
    }));
    if !packed.is_empty() {
        // Only as plain tensors do the weights have roles.
        unpack(&mut model)?;
        model = Model::from_bytes(model.to_bytes()?.into(), None)?;
    }
    let weights: Vec<InspectedWeight> =
        model.weights().map(|(_, weight)| inspected(weight, packed.get(&weight.name))).collect();
    let stored: u64 = weights.iter().map(|weight| weight.bytes).sum();
    Ok(Inspection {
        file: path.to_owned(),
        bytes,
        graph_bytes: bytes.saturating_sub(stored),
        dense_bytes: model.weights().map(|(_, weight)| weight.dense_bytes()).sum(),
        nodes,
        ir_version,
        operator_sets,
        made_by,
        weights,
    })
}

/// What a payload, or the operators that compute it, say of a weight.
struct PackedWeight {
    form: &'static str,
    coder: Option<Coder>,
    density: Option<f64>,
    bytes: u64,
}

/// The weights in payloads, by name.
fn packed_weights(model: &Model) -> Result<HashMap<String, PackedWeight>, Error> {
    let mut packed = HashMap::new();
    for_each_payload(model, &mut |node, payload| {
        let broken = |source| broken_payload(model, node, source);
        let records = onnx_dcomp_codec::inspect(payload).map_err(broken)?;
        let forms = onnx_dcomp_codec::decode_forms(payload, &Limits::default()).map_err(broken)?;
        let is_shared = |stream: &Stream| matches!(stream, Stream::Shared(_));
        let shared = records.iter().zip(&forms).filter(|(record, _)| is_shared(&record.stream));
        let shared_bits: f64 = shared.map(|(_, (_, form))| coded_bits(form)).sum();
        for ((record, (_, form)), name) in records.iter().zip(&forms).zip(weight_names(node)) {
            let stream_bytes = match record.stream {
                Stream::Own(bytes) => bytes,
                Stream::Shared(bytes) => (bytes as f64 * coded_bits(form) / shared_bits.max(1.0)).round() as u64,
            };
            let bytes = record.record_bytes as u64 + stream_bytes;
            let (form, density) = (record.form.name(), form.density());
            let held = PackedWeight { form, coder: Some(record.coder), density: Some(density), bytes };
            packed.insert(name.clone(), held);
        }
        Ok(())
    })?;
    Ok(packed)
}

/// Bits that the values of `form` take at least, one by one; never nothing, so that shares add up.
fn coded_bits(form: &Form) -> f64 {
    form.order0_bits().max(1.0)
}

fn inspected(weight: &Weight, packed: Option<&PackedWeight>) -> InspectedWeight {
    let bytes = packed.map_or_else(|| weight.dense_bytes(), |packed| packed.bytes);
    InspectedWeight {
        name: weight.name.clone(),
        scope: weight.scope.to_string(),
        role: weight.role.name(),
        operator: weight.operator.clone(),
        dtype: weight.dtype().name(),
        shape: weight.shape.clone(),
        form: packed.map_or_else(|| weight.form.kind().name(), |packed| packed.form),
        coder: packed.and_then(|packed| packed.coder).map(Coder::name),
        density: packed.and_then(|packed| packed.density).unwrap_or_else(|| weight.form.density()),
        bits_per_weight: 8.0 * bytes as f64 / weight.len().max(1) as f64,
        bytes,
    }
}
