//! The index answers who defines and who reads a name.

mod support;

use onnx_dcomp_ir::GraphIndex;
use onnx_dcomp_ir::graph::for_each_captured_name;
use onnx_dcomp_proto::GraphProto;
use support::*;

fn graph() -> GraphProto {
    let body = GraphProto {
        node: vec![node("Add", &["a", "own"], &["inner"]), node("Add", &["inner", "w"], &["z"])],
        initializer: vec![ramp("own", &[4])],
        output: vec![value("z")],
        ..GraphProto::default()
    };
    let mut choice = node("If", &["flag"], &["b"]);
    choice.attribute = vec![subgraph("then_branch", body)];
    let nodes = vec![node("Relu", &["x"], &["a"]), choice, node("Sum", &["a", "b", "", "a"], &["y"])];
    model(vec![ramp("w", &[4])], nodes).graph.expect("the model has a graph")
}

#[test]
fn producers_consumers_and_captures() {
    let index = GraphIndex::new(&graph());
    assert_eq!((index.producer("a"), index.producer("x"), index.producer("inner")), (Some(0), None, None));
    assert_eq!(index.consumers("a"), [(2, 0), (2, 3)]);
    assert_eq!(index.consumers("y"), []);
    assert_eq!(index.consumers(""), []);
    assert_eq!((index.captured_by("w"), index.captured_by("a")), (&[1][..], &[1][..]));
    assert!(!index.is_captured("own") && !index.is_captured("inner"));
    assert!(index.is_output("y") && !index.is_output("a"));
    assert!(index.is_used("w") && index.is_used("y") && !index.is_used("z"));
}

#[test]
fn a_subgraph_that_only_gives_an_outer_value_back_reads_it() {
    let body = GraphProto { output: vec![value("x")], ..GraphProto::default() };
    let mut names = Vec::new();
    for_each_captured_name(&body, &mut |name| names.push(name.to_owned()));
    assert_eq!(names, ["x"]);
}

#[test]
fn new_names_meet_nobody() {
    let mut index = GraphIndex::new(&graph());
    assert_eq!(index.unique_name("fresh"), "fresh");
    assert_eq!(index.unique_name("fresh"), "fresh_1");
    assert_eq!(index.unique_name("inner"), "inner_1", "names of subgraphs count");
    assert_eq!(index.unique_name("flag"), "flag_1", "names that are only read count");
    assert_ne!(index.unique_name(""), "");
}
