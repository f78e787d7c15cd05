//! BatchNormalization that no layer can absorb becomes Mul and Add.
//!
//! That is what it computes in inference, with two vectors where it needs four, and less text. The vectors have all axes of
//! the input: tract takes longer over vectors that lack the first one than over BatchNormalization.

use onnx_dcomp_ir::Role;
use onnx_dcomp_proto::{GraphProto, Message};

use super::affine;
use super::knowledge::Knowledge;
use super::store::Store;
use super::tensor::{Tensor, element_bytes};
use crate::node;

/// Bytes of a Mul or Add node, a little more than once its names are short.
const NODE_BYTES: usize = 22;
/// Bytes of a tensor beside its elements and its dimensions, likewise.
const TENSOR_BYTES: usize = 12;

/// Splits the BatchNormalization nodes of `graph` where that saves bytes; returns how many.
pub(crate) fn run(graph: &mut GraphProto, store: &mut Store, knowledge: &Knowledge) -> usize {
    let mut reads = std::collections::HashMap::<String, usize>::new();
    for name in graph.node.iter().flat_map(|n| &n.input) {
        *reads.entry(name.clone()).or_default() += 1;
    }
    let mut split = 0;
    for mut old in std::mem::take(&mut graph.node) {
        let found = affine::read(knowledge, &old, |_| None).filter(|found| found.is_normalization);
        let rank = node::input(&old, 0).and_then(|name| knowledge.dims(name)).map(<[_]>::len);
        let (Some(found), Some(rank), Some(output)) = (found, rank, node::sole_output(&old).map(str::to_owned)) else {
            graph.node.push(old);
            continue;
        };
        // From version 14 of the operator on, its input may be of another type than its parameters.
        let same_type = knowledge.opset < 14 || knowledge.fact(&old.input[0]).element == Some(found.element);
        let channels = found.affine.scale.as_ref().map_or(0, Vec::len);
        let size = element_bytes(found.element).unwrap_or(0);
        let goes = old.input[1..].iter().filter(|name| reads.get(*name) == Some(&1)).count();
        let saved = old.encoded_len() + goes * (TENSOR_BYTES + channels * size);
        let spent = 2 * (NODE_BYTES + TENSOR_BYTES + 2 * rank + channels * size);
        let mut dims = vec![1; rank.max(2)];
        dims[1] = channels;
        let vector = |part: &Option<Vec<f64>>| {
            let tensor = Tensor::from_floats(found.element, dims.clone(), part.as_deref()?)?;
            tensor.floats()?.iter().all(|v| v.is_finite()).then_some(tensor)
        };
        let (Some(scale), Some(shift), true) =
            (vector(&found.affine.scale), vector(&found.affine.shift), same_type && rank >= 2 && spent < saved)
        else {
            graph.node.push(old);
            continue;
        };
        let scale_name = store.fresh_name(&old.input[1]);
        let shift_name = store.fresh_name(&old.input[2]);
        let scaled_name = store.fresh_name(&output);
        store.add(graph, &scale_name, &scale, Role::Normalization, Some(1));
        store.add(graph, &shift_name, &shift, Role::Normalization, Some(1));
        let x = std::mem::take(&mut old.input[0]);
        graph.node.push(node::standard("Mul", &[&x, &scale_name], &scaled_name));
        graph.node.push(node::standard("Add", &[&scaled_name, &shift_name], &output));
        split += 1;
    }
    split
}
