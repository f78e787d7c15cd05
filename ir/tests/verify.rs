//! A sound model passes; each broken rule is found and named.

mod support;

use onnx_dcomp_forms::{DType, Form, Values};
use onnx_dcomp_ir::{IrError, Model, Role};
use onnx_dcomp_proto::{GraphProto, StringStringEntryProto};
use support::*;

fn sound() -> Model {
    let nodes = vec![node("MatMul", &["x", "w"], &["a"]), node("Relu", &["a"], &["y"])];
    read(&model(vec![ramp("w", &[4, 4])], nodes))
}

/// One way to break a model.
type Damage = fn(&mut Model);

fn problem(model: &Model) -> String {
    match model.verify() {
        Ok(()) => panic!("the model should be refused"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn each_broken_rule_is_named() {
    assert_eq!(sound().verify().map_err(|error| error.to_string()), Ok(()));
    let broken: Vec<(&str, Damage)> = vec![
        ("node 0 `a` (MatMul): its input `gone` is not defined", |model| {
            model.graph_mut().node[0].input[1] = "gone".to_owned();
        }),
        ("its input `a` is not defined before it", |model| model.graph_mut().node.swap(0, 1)),
        ("its output `a` is defined twice", |model| model.graph_mut().node[1].output[0] = "a".to_owned()),
        ("its output `w` is defined twice", |model| model.graph_mut().node[1].output[0] = "w".to_owned()),
        ("initializer `w`: it is defined twice", |model| {
            let twin = model.graph().initializer[0].clone();
            model.graph_mut().initializer.push(twin);
        }),
        ("input `x`: it is declared twice", |model| model.graph_mut().input.push(value("x"))),
        ("output `z`: nothing defines it", |model| model.graph_mut().output.push(value("z"))),
        ("it names no operator", |model| model.graph_mut().node[1].op_type = None),
        ("domain `ai.dcomp` is not imported", |model| {
            model.graph_mut().node[1].domain = Some("ai.dcomp".to_owned());
        }),
        ("tensor `w`: it is 2×8 of data type 1, its weight `w` is 4×4 of f32", |model| {
            model.graph_mut().initializer[0].dims = vec![2, 8];
        }),
        ("its marker leads to no weight", |model| {
            model.graph_mut().initializer[0].external_data[0].value = Some("17".to_owned());
        }),
        ("both a marker and data of its own", |model| {
            let entry = StringStringEntryProto { key: Some("location".to_owned()), value: None };
            model.graph_mut().initializer[0].external_data.push(entry);
        }),
        ("shape 3 needs 12 bytes of raw data, found 8", |model| {
            let mut short = floats("c", &[3], &[1.0, 2.0]);
            short.dims = vec![3];
            model.graph_mut().initializer.push(short);
        }),
        ("shape 3 needs 3 elements of int64_data, found 2", |model| {
            let mut short = int64s("c", &[1, 2]);
            short.dims = vec![3];
            model.graph_mut().initializer.push(short);
        }),
        ("IR version 3 wants every initializer among the graph's inputs", |model| model.proto.ir_version = Some(3)),
        ("it has no graph", |model| model.proto.graph = None),
        ("another function has the same domain and name", |model| {
            let twin = function("F", &[], &[], vec![]);
            model.proto.functions = vec![twin.clone(), twin];
        }),
        ("function `F`, output `b`: nothing defines it", |model| {
            model.proto.functions.push(function("F", &["a"], &["b"], vec![]));
        }),
        ("weight `w`: shape 2×2", |model| {
            let id = model.weight_named("w").expect("it is a weight");
            model.weight_mut(id).shape = vec![2, 2];
        }),
    ];
    for (expected, break_it) in broken {
        let mut model = sound();
        break_it(&mut model);
        let found = problem(&model);
        assert!(found.contains(expected), "`{expected}` is not in: {found}");
    }
}

#[test]
fn subgraphs_see_what_is_defined_before_their_node() {
    let body = |reads: &str| GraphProto {
        name: Some("body".to_owned()),
        node: vec![node("Relu", &[reads], &["z"])],
        output: vec![value("z")],
        ..GraphProto::default()
    };
    let with = |reads: &str| {
        let mut choice = node("If", &["x"], &["y"]);
        choice.attribute = vec![subgraph("then_branch", body(reads))];
        read(&model(vec![], vec![node("Abs", &["x"], &["before"]), choice, node("Abs", &["y"], &["after"])]))
    };
    assert_eq!(with("before").verify().map_err(|error| error.to_string()), Ok(()));
    let found = problem(&with("after"));
    assert!(found.contains("subgraph `body`, node 0 `z` (Relu): its input `after`"), "{found}");
}

#[test]
fn a_form_must_fit_its_weight() {
    let mut model = sound();
    let id = model.weight_named("w").expect("it is a weight");
    let short = Form::Dense(Values::from_f32(DType::F32, &[0.0; 15]));
    let other = Form::Dense(Values::from_f32(DType::F16, &[0.0; 16]));
    for form in [short, other] {
        assert!(matches!(model.set_form(id, form), Err(IrError::FormMismatch { .. })));
    }
    let fitting = Form::Dense(Values::from_f32(DType::F32, &[1.0; 16]));
    assert!(model.set_form(id, fitting.clone()).is_ok());
    assert_eq!(model.weight(id).form, fitting);
    assert_eq!(model.verify().map_err(|error| error.to_string()), Ok(()));
}

#[test]
fn added_weights_get_names_of_their_own() {
    let mut model = sound();
    let values = Values::from_f32(DType::F16, &[0.5; 6]);
    let id = model.add_weight("extra", &[2, 3], values.clone(), Role::Gemm, Some(0));
    assert_eq!(model.weight_named("extra"), Some(id));
    assert_eq!(model.constant(model.graph(), "extra").and_then(|constant| constant.values().cloned()), Some(values));
    assert_eq!(model.verify().map_err(|error| error.to_string()), Ok(()));
}
