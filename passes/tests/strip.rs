//! What `strip` drops, and what it must keep.

mod support;

use std::collections::HashSet;

use onnx_dcomp_ir::Model;
use onnx_dcomp_passes::{Fold, Strip, graph_bytes, print_model};
use onnx_dcomp_proto::tensor_proto::DataType;
use onnx_dcomp_proto::{StringStringEntryProto, TensorAnnotation};
use support::*;

#[test]
fn inner_names_are_short_and_distinct_and_outer_ones_stay() {
    let mut nodes = Vec::new();
    let mut last = "a".to_owned();
    for index in 0..200 {
        let next = if index == 199 { "the result".to_owned() } else { format!("/layer{index}/Relu_output_0") };
        nodes.push(node("Relu", &[&last], &next, vec![]));
        last = next;
    }
    let mut model = model(graph(nodes, vec![], vec![value("a", &[0, 3])], vec![value("the result", &[0, 3])]));
    run(&Strip, &mut model);
    let graph = model.graph();
    assert_eq!(graph.input[0].name(), "a");
    assert_eq!(graph.output[0].name(), "the result");
    let names: HashSet<&String> = graph.node.iter().flat_map(|n| &n.output).collect();
    assert_eq!(names.len(), 200);
    assert!(names.iter().all(|name| name.len() <= 2 || *name == "the result"));
    assert!(graph.node.iter().all(|n| n.name.is_none()));
    assert_eq!(graph.node[0].input, ["a"]);
}

#[test]
fn captured_names_are_renamed_in_step() {
    let branch = |operator: &str, name: &str| {
        let inner =
            graph(vec![node(operator, &["long outer name"], name, vec![])], vec![], vec![], vec![value(name, &[0, 3])]);
        graph_attribute(if operator == "Neg" { "then_branch" } else { "else_branch" }, inner)
    };
    let nodes = vec![
        node("Relu", &["x"], "long outer name", vec![]),
        node("If", &["condition"], "y", vec![branch("Neg", "p"), branch("Abs", "q")]),
    ];
    let inputs = vec![value("x", &[0, 3]), typed_value("condition", &[], DataType::Bool as i32)];
    let mut model = model(graph(nodes, vec![], inputs, vec![value("y", &[0, 3])]));
    run(&Strip, &mut model);
    let nodes = &model.graph().node;
    let captured = nodes[0].output[0].clone();
    assert_eq!(captured.len(), 1);
    for attribute in &nodes[1].attribute {
        assert!(attribute.name().ends_with("_branch"));
        let inner = attribute.g.as_ref().expect("a branch");
        assert_eq!(inner.node[0].input, [captured.as_str()]);
        assert_eq!(inner.output[0].name(), inner.node[0].output[0]);
        assert_ne!(inner.output[0].name(), captured);
    }
}

#[test]
fn defaults_go_by_version() {
    let attributes_left = |operator: &str, opset: i64, attribute: Attribute| {
        let mut graph = graph(
            vec![node(operator, &["x"], "y", vec![attribute])],
            vec![],
            vec![value("x", &[0, 3, 4, 4])],
            vec![value("y", &[0, 3, 4, 4])],
        );
        graph.name = Some("g".into());
        let mut model = open(&proto(graph, opset));
        run(&Strip, &mut model);
        model.graph().node[0].attribute.len()
    };
    assert_eq!(attributes_left("Softmax", 11, int("axis", 1)), 0);
    assert_eq!(attributes_left("Softmax", 13, int("axis", 1)), 1);
    assert_eq!(attributes_left("Softmax", 13, int("axis", -1)), 0);
    assert_eq!(attributes_left("Softmax", 11, int("axis", -1)), 1);
    assert_eq!(attributes_left("LeakyRelu", 17, float("alpha", 0.01)), 0);
    assert_eq!(attributes_left("LeakyRelu", 17, float("alpha", 0.02)), 1);
    assert_eq!(attributes_left("MaxPool", 17, ints("kernel_shape", &[1, 1])), 1);
    assert_eq!(attributes_left("MaxPool", 17, ints("strides", &[1, 1])), 0);
    assert_eq!(attributes_left("MaxPool", 17, ints("strides", &[2, 1])), 1);
}

#[test]
fn a_window_goes_only_where_the_weight_says_it() {
    let conv = |weight: &str| {
        let attributes = vec![ints("kernel_shape", &[3, 3]), int("group", 1), ints("pads", &[1, 1, 1, 1])];
        node("Conv", &["x", weight], "y", attributes)
    };
    let ends = || (vec![value("x", &[0, 2, 5, 5])], vec![value("y", &[0, 4, 5, 5])]);
    let (input, output) = ends();
    let mut stored = model(graph(vec![conv("w")], vec![floats("w", &[4, 2, 3, 3], &noise(72, 1))], input, output));
    run(&Strip, &mut stored);
    let names = |model: &Model| -> Vec<String> {
        model.graph().node.last().expect("a node").attribute.iter().map(|a| a.name().to_owned()).collect()
    };
    assert_eq!(names(&stored), ["pads"]);
    let (mut input, output) = ends();
    input.push(value("w", &[4, 2, 3, 3]));
    let mut given = model(graph(vec![conv("w")], vec![], input, output));
    run(&Strip, &mut given);
    assert_eq!(names(&given), ["kernel_shape", "pads"]);
}

#[test]
fn integers_are_written_the_shorter_way_with_the_same_values() {
    let nodes = vec![node("Pad", &["x", "small"], "y", vec![]), node("Gather", &["y", "large"], "z", vec![])];
    let large: Vec<i64> = (0..4).map(|i| -1 - i).collect();
    let tensors = vec![longs("small", &[0, 0, 3, 3]), longs("large", &large)];
    let mut model = model(graph(nodes, tensors, vec![value("x", &[0, 3])], vec![value("z", &[4, 9])]));
    run(&Strip, &mut model);
    let tensors = &model.graph().initializer;
    assert_eq!(tensors[0].int64_data, [0, 0, 3, 3]);
    assert!(tensors[0].raw_data.is_none());
    // A negative number takes ten bytes as a variable-length one.
    assert_eq!(tensors[1].raw_data().len(), 32);
    assert!(tensors[1].int64_data.is_empty());
}

#[test]
fn annotated_names_and_metadata_of_the_model_stay() {
    let nodes = vec![node("Relu", &["x"], "activation", vec![]), node("Neg", &["activation"], "y", vec![])];
    let mut graph = graph(nodes, vec![], vec![value("x", &[0, 3])], vec![value("y", &[0, 3])]);
    graph.quantization_annotation =
        vec![TensorAnnotation { tensor_name: Some("activation".into()), quant_parameter_tensor_names: vec![] }];
    let mut message = proto(graph, 17);
    message.metadata_props = vec![StringStringEntryProto { key: Some("licence".into()), value: Some("MIT".into()) }];
    message.producer_name = Some("somebody".into());
    message.doc_string = Some("a long story".into());
    let mut model = open(&message);
    run(&Strip, &mut model);
    assert_eq!(model.graph().node[0].output, ["activation"]);
    assert_eq!(model.proto.metadata_props[0].value(), "MIT");
    assert_eq!((model.proto.producer_name(), model.proto.doc_string()), ("", ""));
}

#[test]
fn graphs_of_trained_models_shrink_to_a_third() {
    for path in trained() {
        let mut model = Model::open(&path).expect("a sound model");
        let before = graph_bytes(&model);
        run(&Fold, &mut model);
        run(&Strip, &mut model);
        let after = graph_bytes(&model);
        println!("{}: {before} -> {after} bytes", path.display());
        // Of the two tiny models, half is the interface.
        let bound = if before < 2000 { 50 } else { 35 };
        assert!(after * 100 <= before * bound, "{}: {before} -> {after}\n{}", path.display(), print_model(&model));
    }
}
