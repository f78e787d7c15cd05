//! Roles and channel axes follow from the operators that read a weight.

mod support;

use onnx_dcomp_ir::{Model, Role};
use onnx_dcomp_proto::attribute_proto::AttributeType;
use onnx_dcomp_proto::tensor_proto::DataType;
use onnx_dcomp_proto::{AttributeProto, GraphProto, NodeProto, TensorProto};
use support::*;

fn with(mut node: NodeProto, attributes: &[AttributeProto]) -> NodeProto {
    node.attribute.extend_from_slice(attributes);
    node
}

fn permutation(order: &[i64]) -> AttributeProto {
    AttributeProto { ints: order.to_vec(), ..attribute("perm", AttributeType::Ints) }
}

fn role_of(model: &Model, name: &str) -> (Role, Option<usize>) {
    let weight = model.weight(model.weight_named(name).expect("it is a weight"));
    (weight.role, weight.channel_axis)
}

/// The role that a weight `w` of `dims` gets from `nodes`.
fn role(dims: &[i64], nodes: Vec<NodeProto>) -> (Role, Option<usize>) {
    role_of(&read(&model(vec![ramp("w", dims)], nodes)), "w")
}

#[test]
fn operators_give_roles_by_their_inputs() {
    let one = |operator: &str, inputs: &[&str]| node(operator, inputs, &["y"]);
    let cases: Vec<(&[i64], NodeProto, Role, Option<usize>)> = vec![
        (&[8, 3, 3, 3], one("Conv", &["x", "w"]), Role::Conv, Some(0)),
        (&[8], one("Conv", &["x", "k", "w"]), Role::Bias, None),
        (&[3, 8, 3, 3], one("ConvTranspose", &["x", "w"]), Role::ConvTranspose, Some(1)),
        (&[4, 8], one("Gemm", &["x", "w", "b"]), Role::Gemm, Some(1)),
        (&[4, 8], with(one("Gemm", &["x", "w"]), &[integer("transB", 1)]), Role::Gemm, Some(0)),
        (&[4, 8], with(one("Gemm", &["x", "w"]), &[integer("transB", 0)]), Role::Gemm, Some(1)),
        (&[8], one("Gemm", &["x", "m", "w"]), Role::Bias, None),
        (&[2, 4, 8], one("MatMul", &["x", "w"]), Role::MatMul, Some(2)),
        (&[2, 4, 8], one("MatMul", &["w", "x"]), Role::MatMul, Some(1)),
        (&[100, 8], one("Gather", &["w", "x"]), Role::Embedding, Some(0)),
        (&[100, 8], with(one("Gather", &["w", "x"]), &[integer("axis", -1)]), Role::Embedding, Some(1)),
        (&[1, 16, 4], one("LSTM", &["x", "w", "r", "b"]), Role::Recurrent, Some(1)),
        (&[1, 12, 4], one("GRU", &["x", "k", "w"]), Role::Recurrent, Some(1)),
        (&[1, 32], one("LSTM", &["x", "k", "r", "w"]), Role::Bias, None),
        (&[8], one("BatchNormalization", &["x", "s", "b", "w", "v"]), Role::Normalization, None),
        (&[8], one("LayerNormalization", &["x", "w"]), Role::Normalization, None),
        (&[8, 1, 1], one("PRelu", &["x", "w"]), Role::Activation, None),
        (&[8, 4], one("Mul", &["x", "w"]), Role::Other, None),
        (&[4], one("QLinearConv", &["x", "xs", "xz", "k", "w", "z", "s", "o"]), Role::Quantized, None),
        (&[4], one("DequantizeLinear", &["x", "w"]), Role::Quantized, None),
        (&[8, 4], one("MatMulInteger", &["x", "w"]), Role::Quantized, None),
    ];
    for (dims, node, expected, axis) in cases {
        let shown = format!("{} {:?}", node.op_type(), node.input);
        assert_eq!(role(dims, vec![node]), (expected, axis), "{shown}");
    }
}

#[test]
fn roles_are_found_through_nodes_that_hand_the_weight_on() {
    let identity = node("Identity", &["w"], &["a"]);
    let turned = with(node("Transpose", &["a"], &["b"]), &[permutation(&[1, 0])]);
    let product = node("MatMul", &["x", "b"], &["y"]);
    assert_eq!(role(&[8, 4], vec![identity, turned, product]), (Role::MatMul, Some(0)));
    let reversed = node("Transpose", &["w"], &["b"]);
    let filters = node("Conv", &["x", "b"], &["y"]);
    assert_eq!(role(&[3, 3, 2, 8], vec![reversed, filters]), (Role::Conv, Some(3)));
}

#[test]
fn quantised_weights_keep_their_role_and_show_their_channels() {
    let integers = TensorProto { raw_data: Some(vec![1u8; 72].into()), ..tensor("w", &[8, 1, 3, 3], DataType::Int8) };
    let nodes = vec![node("DequantizeLinear", &["w", "s"], &["d"]), node("Conv", &["x", "d"], &["y"])];
    let model = read(&model(vec![integers, ramp("s", &[8])], nodes));
    assert_eq!(role_of(&model, "w"), (Role::Quantized, Some(0)));
    assert_eq!(role_of(&model, "s"), (Role::Quantized, None));
}

#[test]
fn floats_that_the_graph_rounds_are_not_quantised_yet() {
    let nodes = vec![
        node("QuantizeLinear", &["w", "s"], &["q"]),
        node("DequantizeLinear", &["q", "s"], &["d"]),
        node("Conv", &["x", "d"], &["y"]),
    ];
    assert_eq!(role(&[8, 1, 3, 3], nodes), (Role::Conv, Some(0)));
}

#[test]
fn bit_exact_uses_win_over_others() {
    let nodes = vec![node("MatMul", &["x", "w"], &["a"]), node("DequantizeLinear", &["a", "w"], &["y"])];
    assert_eq!(role(&[4, 4], nodes).0, Role::Quantized);
}

#[test]
fn an_addition_behind_a_layer_is_its_bias() {
    let nodes = |other| vec![node("MatMul", &["x", "m"], &["a"]), node("Add", &["w", other], &["y"])];
    assert_eq!(role(&[8], nodes("a")).0, Role::Bias);
    assert_eq!(role(&[8], nodes("x")).0, Role::Other);
    assert_eq!(role(&[8, 8], nodes("a")).0, Role::Other);
}

#[test]
fn roles_are_found_in_subgraphs_and_functions() {
    let body = |nodes| GraphProto { name: Some("body".to_owned()), node: nodes, ..GraphProto::default() };
    let mut choice = node("If", &["flag"], &["y"]);
    choice.attribute = vec![
        subgraph("then_branch", body(vec![node("Identity", &["w"], &["v"]), node("Conv", &["x", "v"], &["a"])])),
        subgraph("else_branch", body(vec![])),
    ];
    assert_eq!(role(&[8, 3, 3, 3], vec![choice]), (Role::Conv, Some(0)));

    let mut call = node("Layer", &["x", "w"], &["y"]);
    call.domain = Some("local".to_owned());
    let mut proto = model(vec![ramp("w", &[8, 4])], vec![call]);
    let gemm = with(node("Gemm", &["a", "k"], &["b"]), &[integer("transB", 1)]);
    proto.functions.push(function("Layer", &["a", "k"], &["b"], vec![gemm]));
    assert_eq!(role_of(&read(&proto), "w"), (Role::Gemm, Some(0)));
}

#[test]
fn names_in_sibling_branches_do_not_mix() {
    let body = |operator: &str| GraphProto {
        initializer: vec![ramp("w", &[4, 4])],
        node: vec![node(operator, &["x", "w"], &["a"])],
        ..GraphProto::default()
    };
    let mut choice = node("If", &["flag"], &["y"]);
    choice.attribute = vec![subgraph("then_branch", body("MatMul")), subgraph("else_branch", body("PRelu"))];
    let model = read(&model(vec![], vec![choice]));
    assert_eq!(role_of(&model, "w").0, Role::MatMul);
    assert_eq!(role_of(&model, "w#2").0, Role::Activation);
}

#[test]
fn functions_that_call_themselves_end() {
    let mut call = node("Loop", &["x", "w"], &["y"]);
    call.domain = Some("local".to_owned());
    let again = |output| NodeProto { domain: Some("local".to_owned()), ..node("Loop", &["a", "k"], &[output]) };
    let mut proto = model(vec![ramp("w", &[4, 4])], vec![call]);
    proto.functions.push(function("Loop", &["a", "k"], &["b"], vec![again("b"), again("c"), again("d")]));
    assert_eq!(role_of(&read(&proto), "w").0, Role::Other);
}
