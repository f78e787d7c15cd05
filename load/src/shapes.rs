//! Whether the shapes of a model's outputs follow from those of its inputs: then whoever knows the one knows the other,
//! and can make room before a run.

use std::collections::HashMap;

use onnx_dcomp_ir::Model;
use onnx_dcomp_ir::graph::{is_standard, subgraphs};
use onnx_dcomp_proto::{GraphProto, NodeProto};

/// The newest operator set whose operators were looked at.
const NEWEST_OPERATOR_SET: i64 = 24;

/// Operators whose outputs have shapes that depend on the elements of these inputs, in any version of the operator.
const READ_FOR_SHAPES: [(&str, &[usize]); 41] = [
    ("AffineGrid", &[1]),
    ("BlackmanWindow", &[0]),
    ("CenterCropPad", &[1]),
    ("Col2Im", &[1, 2]),
    ("Compress", &[1]),
    ("ConstantOfShape", &[0]),
    ("DFT", &[1, 2]),
    ("Expand", &[1]),
    ("HammingWindow", &[0]),
    ("HannWindow", &[0]),
    ("ImageDecoder", &[0]),
    ("MaxUnpool", &[2]),
    ("MelWeightMatrix", &[0, 1, 2, 3, 4]),
    ("NonMaxSuppression", &[0, 1, 2, 3, 4]),
    ("NonZero", &[0]),
    ("OneHot", &[1]),
    ("Pad", &[1, 3]),
    ("Range", &[0, 1, 2]),
    ("ReduceL1", &[1]),
    ("ReduceL2", &[1]),
    ("ReduceLogSum", &[1]),
    ("ReduceLogSumExp", &[1]),
    ("ReduceMax", &[1]),
    ("ReduceMean", &[1]),
    ("ReduceMin", &[1]),
    ("ReduceProd", &[1]),
    ("ReduceSum", &[1]),
    ("ReduceSumSquare", &[1]),
    ("Reshape", &[1]),
    ("Resize", &[1, 2, 3]),
    ("STFT", &[1, 3]),
    ("Slice", &[1, 2, 3, 4]),
    ("Split", &[1]),
    ("Squeeze", &[1]),
    ("StringNormalizer", &[0]),
    ("StringSplit", &[0]),
    ("Tile", &[1, 2]),
    ("TopK", &[1]),
    ("Unique", &[0]),
    ("Unsqueeze", &[1]),
    ("Upsample", &[1]),
];

/// What a value depends on, beside the shapes of the graph's inputs.
#[derive(Debug, Clone, Copy, Default)]
struct Depends {
    /// Its elements on the elements of the graph's inputs.
    elements: bool,
    /// Its shape on them.
    shape: bool,
}

/// Whether the shapes of all outputs of `model`, a plain one, follow from the shapes of its inputs alone. `false` where
/// that cannot be told: sequences and control flow, functions, foreign operators, and operator sets newer than this.
pub(crate) fn shapes_follow(model: &Model) -> bool {
    let standard = model.proto.opset_import.iter().filter(|import| matches!(import.domain(), "" | "ai.onnx"));
    let is_known = standard.map(|import| import.version()).all(|version| version <= NEWEST_OPERATOR_SET);
    is_known && model.proto.functions.is_empty() && follow(model.graph())
}

fn follow(graph: &GraphProto) -> bool {
    let given = Depends { elements: true, shape: false };
    let mut values: HashMap<&str, Depends> = graph.input.iter().map(|input| (input.name(), given)).collect();
    // An initializer that is also an input counts as an input: users may set it.
    for node in &graph.node {
        if !is_standard(node) || subgraphs(node).next().is_some() || is_of_sequences(node) {
            return false;
        }
        let inputs: Vec<Depends> =
            node.input.iter().map(|name| values.get(name.as_str()).copied().unwrap_or_default()).collect();
        let of_node = outputs(node.op_type(), &inputs);
        values.extend(node.output.iter().map(|name| (name.as_str(), of_node)));
    }
    graph.output.iter().all(|output| values.get(output.name()).is_none_or(|depends| !depends.shape))
}

fn outputs(operator: &str, inputs: &[Depends]) -> Depends {
    let shape = inputs.iter().any(|input| input.shape);
    if matches!(operator, "Shape" | "Size") {
        return Depends { elements: shape, shape: false };
    }
    let elements = inputs.iter().any(|input| input.elements || input.shape);
    let read = READ_FOR_SHAPES.iter().find(|(known, _)| *known == operator).map_or([].as_slice(), |(_, read)| read);
    let by_elements = read.iter().filter_map(|&at| inputs.get(at)).any(|input| input.elements);
    Depends { elements, shape: shape || by_elements }
}

fn is_of_sequences(node: &NodeProto) -> bool {
    ["Sequence", "Optional", "ConcatFromSequence", "SplitToSequence"].iter().any(|part| node.op_type().contains(part))
}

#[cfg(test)]
mod tests {
    use onnx_dcomp_proto::{Message, ModelProto, OperatorSetIdProto, ValueInfoProto};

    use super::*;

    fn node(operator: &str, input: &[&str], output: &str) -> NodeProto {
        NodeProto {
            op_type: Some(operator.to_owned()),
            input: input.iter().map(|name| (*name).to_owned()).collect(),
            output: vec![output.to_owned()],
            ..NodeProto::default()
        }
    }

    fn do_follow(nodes: &[NodeProto]) -> bool {
        let value = |name: &str| ValueInfoProto { name: Some(name.to_owned()), ..ValueInfoProto::default() };
        let graph = GraphProto {
            input: vec![value("x")],
            output: vec![value("y")],
            node: nodes.to_vec(),
            ..GraphProto::default()
        };
        let import = OperatorSetIdProto { domain: None, version: Some(17) };
        let proto = ModelProto { graph: Some(graph), opset_import: vec![import], ..ModelProto::default() };
        shapes_follow(&Model::from_bytes(proto.encode_to_vec().into(), None).unwrap())
    }

    #[test]
    fn shapes_that_are_computed_from_shapes_follow() {
        assert!(do_follow(&[node("Relu", &["x"], "y")]));
        assert!(do_follow(&[node("Shape", &["x"], "s"), node("Reshape", &["x", "s"], "y")]));
        assert!(do_follow(&[node("Shape", &["x"], "s"), node("ConstantOfShape", &["s"], "y")]));
        // Elements that nobody reads for a shape.
        assert!(do_follow(&[node("NonZero", &["x"], "n"), node("Relu", &["x"], "y")]));
    }

    #[test]
    fn shapes_that_are_computed_from_elements_do_not() {
        assert!(!do_follow(&[node("NonZero", &["x"], "y")]));
        assert!(!do_follow(&[node("Cast", &["x"], "s"), node("ConstantOfShape", &["s"], "y")]));
        let through_shape =
            [node("NonZero", &["x"], "n"), node("Shape", &["n"], "s"), node("ConstantOfShape", &["s"], "y")];
        assert!(!do_follow(&through_shape));
        assert!(!do_follow(&[node("SequenceAt", &["x"], "y")]));
        assert!(!do_follow(&[NodeProto { domain: Some("elsewhere".to_owned()), ..node("Relu", &["x"], "y") }]));
    }
}
