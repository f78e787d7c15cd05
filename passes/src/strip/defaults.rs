//! Attributes that say what the operator does anyway.

use onnx_dcomp_proto::attribute_proto::AttributeType;
use onnx_dcomp_proto::{AttributeProto, NodeProto};

use crate::node;

/// A value that an attribute has where it is left out.
#[derive(Debug, Clone, Copy)]
enum Value {
    Int(i64),
    Float(f32),
    Text(&'static str),
    /// A list of this number, as long as the operator's window has axes.
    All(i64),
}

use Value::{All, Float, Int, Text};

/// Operator, attribute, first version of the operator set with that default, the default.
///
/// From the operators' specification. Only what exporters write is listed; what is missing here stays in the file.
/// Where a default changed, there is an entry for each, and the newest that the model's version reaches holds.
const DEFAULTS: &[(&str, &str, i64, Value)] = &[
    ("ArgMax", "axis", 1, Int(0)),
    ("ArgMax", "keepdims", 1, Int(1)),
    ("ArgMax", "select_last_index", 12, Int(0)),
    ("ArgMin", "axis", 1, Int(0)),
    ("ArgMin", "keepdims", 1, Int(1)),
    ("ArgMin", "select_last_index", 12, Int(0)),
    ("AveragePool", "auto_pad", 1, Text("NOTSET")),
    ("AveragePool", "ceil_mode", 10, Int(0)),
    ("AveragePool", "count_include_pad", 7, Int(0)),
    ("AveragePool", "dilations", 19, All(1)),
    ("AveragePool", "pads", 1, All(0)),
    ("AveragePool", "strides", 1, All(1)),
    ("BatchNormalization", "epsilon", 1, Float(1e-5)),
    ("BatchNormalization", "momentum", 1, Float(0.9)),
    ("BatchNormalization", "spatial", 1, Int(1)),
    ("BatchNormalization", "training_mode", 14, Int(0)),
    ("Conv", "auto_pad", 1, Text("NOTSET")),
    ("Conv", "dilations", 1, All(1)),
    ("Conv", "group", 1, Int(1)),
    ("Conv", "pads", 1, All(0)),
    ("Conv", "strides", 1, All(1)),
    ("ConvTranspose", "auto_pad", 1, Text("NOTSET")),
    ("ConvTranspose", "dilations", 1, All(1)),
    ("ConvTranspose", "group", 1, Int(1)),
    ("ConvTranspose", "output_padding", 1, All(0)),
    ("ConvTranspose", "pads", 1, All(0)),
    ("ConvTranspose", "strides", 1, All(1)),
    ("CumSum", "exclusive", 11, Int(0)),
    ("CumSum", "reverse", 11, Int(0)),
    ("DepthToSpace", "mode", 11, Text("DCR")),
    ("DequantizeLinear", "axis", 13, Int(1)),
    ("Elu", "alpha", 1, Float(1.0)),
    ("Flatten", "axis", 1, Int(1)),
    ("Gather", "axis", 1, Int(0)),
    ("GatherElements", "axis", 11, Int(0)),
    ("GatherND", "batch_dims", 12, Int(0)),
    ("Gelu", "approximate", 20, Text("none")),
    ("Gemm", "alpha", 1, Float(1.0)),
    ("Gemm", "beta", 1, Float(1.0)),
    ("Gemm", "transA", 1, Int(0)),
    ("Gemm", "transB", 1, Int(0)),
    ("GRU", "direction", 1, Text("forward")),
    ("GRU", "layout", 14, Int(0)),
    ("GRU", "linear_before_reset", 3, Int(0)),
    ("HardSigmoid", "alpha", 1, Float(0.2)),
    ("HardSigmoid", "beta", 1, Float(0.5)),
    ("Hardmax", "axis", 1, Int(1)),
    ("Hardmax", "axis", 13, Int(-1)),
    ("InstanceNormalization", "epsilon", 1, Float(1e-5)),
    ("LayerNormalization", "axis", 17, Int(-1)),
    ("LayerNormalization", "epsilon", 17, Float(1e-5)),
    ("LayerNormalization", "stash_type", 17, Int(1)),
    ("LeakyRelu", "alpha", 1, Float(0.01)),
    ("LogSoftmax", "axis", 1, Int(1)),
    ("LogSoftmax", "axis", 13, Int(-1)),
    ("LRN", "alpha", 1, Float(0.0001)),
    ("LRN", "beta", 1, Float(0.75)),
    ("LRN", "bias", 1, Float(1.0)),
    ("LSTM", "direction", 1, Text("forward")),
    ("LSTM", "input_forget", 1, Int(0)),
    ("LSTM", "layout", 14, Int(0)),
    ("MaxPool", "auto_pad", 1, Text("NOTSET")),
    ("MaxPool", "ceil_mode", 10, Int(0)),
    ("MaxPool", "dilations", 10, All(1)),
    ("MaxPool", "pads", 1, All(0)),
    ("MaxPool", "storage_order", 8, Int(0)),
    ("MaxPool", "strides", 1, All(1)),
    ("Mod", "fmod", 10, Int(0)),
    ("OneHot", "axis", 9, Int(-1)),
    ("Pad", "mode", 1, Text("constant")),
    ("Pad", "value", 1, Float(0.0)),
    ("QuantizeLinear", "axis", 13, Int(1)),
    ("QuantizeLinear", "saturate", 19, Int(1)),
    ("ReduceL1", "keepdims", 1, Int(1)),
    ("ReduceL2", "keepdims", 1, Int(1)),
    ("ReduceMax", "keepdims", 1, Int(1)),
    ("ReduceMean", "keepdims", 1, Int(1)),
    ("ReduceMin", "keepdims", 1, Int(1)),
    ("ReduceProd", "keepdims", 1, Int(1)),
    ("ReduceSum", "keepdims", 1, Int(1)),
    ("ReduceSum", "noop_with_empty_axes", 13, Int(0)),
    ("Reshape", "allowzero", 14, Int(0)),
    ("Resize", "coordinate_transformation_mode", 11, Text("half_pixel")),
    ("Resize", "cubic_coeff_a", 11, Float(-0.75)),
    ("Resize", "exclude_outside", 11, Int(0)),
    ("Resize", "extrapolation_value", 11, Float(0.0)),
    ("Resize", "mode", 10, Text("nearest")),
    ("Resize", "nearest_mode", 11, Text("round_prefer_floor")),
    ("RNN", "direction", 1, Text("forward")),
    ("RNN", "layout", 14, Int(0)),
    ("ScatterElements", "axis", 11, Int(0)),
    ("Shape", "start", 15, Int(0)),
    ("Softmax", "axis", 1, Int(1)),
    ("Softmax", "axis", 13, Int(-1)),
    ("Split", "axis", 2, Int(0)),
    ("ThresholdedRelu", "alpha", 10, Float(1.0)),
    ("TopK", "axis", 1, Int(-1)),
    ("TopK", "largest", 11, Int(1)),
    ("TopK", "sorted", 11, Int(1)),
    ("Trilu", "upper", 14, Int(1)),
    ("Upsample", "mode", 7, Text("nearest")),
];

/// Removes the attributes of `node` that hold the default of operator set `version`; returns how many.
pub(crate) fn drop_defaults(node: &mut NodeProto, version: i64) -> usize {
    let operator = node::standard_operator(node).to_owned();
    if operator.is_empty() {
        return 0;
    }
    // Padding beyond the edge counts in this mode, so only a pool without any may forget how padding counts.
    let pads_nothing = node::int(node, "ceil_mode", 0) == 0
        && node::string(node, "auto_pad", "NOTSET") == "NOTSET"
        && node::ints(node, "pads").is_none_or(|pads| pads.iter().all(|&pad| pad == 0));
    let before = node.attribute.len();
    node.attribute.retain(|attribute| {
        let is_idle = operator == "AveragePool" && attribute.name() == "count_include_pad" && pads_nothing;
        !((is_idle && attribute.ref_attr_name().is_empty()) || is_default(&operator, attribute, version))
    });
    before - node.attribute.len()
}

fn is_default(operator: &str, attribute: &AttributeProto, version: i64) -> bool {
    if !attribute.ref_attr_name().is_empty() {
        return false;
    }
    let entries = DEFAULTS.iter().filter(|(op, name, ..)| *op == operator && *name == attribute.name());
    let newest = entries.filter(|(_, _, since, _)| *since <= version).max_by_key(|(_, _, since, _)| *since);
    match (newest.map(|(.., default)| *default), attribute.r#type()) {
        (Some(Int(value)), AttributeType::Int) => attribute.i() == value,
        (Some(Float(value)), AttributeType::Float) => attribute.f().to_bits() == value.to_bits(),
        (Some(Text(value)), AttributeType::String) => attribute.s() == value.as_bytes(),
        (Some(All(value)), AttributeType::Ints) => attribute.ints.iter().all(|&v| v == value),
        _ => false,
    }
}
