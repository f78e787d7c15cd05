//! Weights are found wherever they live, and what is no weight stays as it is.

mod support;

use onnx_dcomp_forms::DType;
use onnx_dcomp_ir::{ConstantData, Model, Role, Scope, marker};
use onnx_dcomp_proto::attribute_proto::AttributeType;
use onnx_dcomp_proto::tensor_proto::DataType;
use onnx_dcomp_proto::{AttributeProto, GraphProto, Message, SparseTensorProto, TensorProto};
use support::*;

fn names(model: &Model) -> Vec<&str> {
    model.weights().map(|(_, weight)| weight.name.as_str()).collect()
}

#[test]
fn initializers_constants_and_value_floats_are_weights() {
    let listed =
        AttributeProto { floats: vec![1.0, 2.0, 3.0, 4.0], ..attribute("value_floats", AttributeType::Floats) };
    let short = AttributeProto { floats: vec![1.0, 2.0], ..attribute("value_floats", AttributeType::Floats) };
    let mut floats_node = node("Constant", &[], &["c2"]);
    floats_node.attribute.push(listed);
    let mut short_node = node("Constant", &[], &["c3"]);
    short_node.attribute.push(short);
    let model = read(&model(
        vec![ramp("w", &[2, 3]), ramp("tiny", &[3]), int64s("shape", &[1, 2, 3, 4, 5])],
        vec![constant("c1", ramp("", &[5])), floats_node, short_node, node("Identity", &["x"], &["y"])],
    ));
    assert_eq!(names(&model), ["w", "c1", "c2"]);
    let floats = model.constant(model.graph(), "c2").expect("it is a constant");
    assert_eq!((floats.shape.clone(), floats.floats()), (vec![4], Some(vec![1.0, 2.0, 3.0, 4.0])));
    let untouched = model.constant(model.graph(), "c3").expect("it is a constant");
    assert_eq!(untouched.floats(), Some(vec![1.0, 2.0]));
    let integers = model.constant(model.graph(), "shape").expect("it is a constant");
    assert_eq!(integers.integers(), Some(vec![1, 2, 3, 4, 5]));
    assert!(matches!(integers.data, ConstantData::Integers { data_type: 7, .. }));
    assert_eq!(model.constant(model.graph(), "x"), None);
}

#[test]
fn subgraphs_and_functions_are_looked_into() {
    let branch = |name: &str| GraphProto {
        name: Some(name.to_owned()),
        initializer: vec![ramp("w", &[4, 4])],
        node: vec![node("MatMul", &["x", "w"], &["z"]), constant("c", ramp("", &[6]))],
        output: vec![value("z")],
        ..GraphProto::default()
    };
    let mut choice = node("If", &["flag"], &["y"]);
    choice.name = Some("choose".to_owned());
    let mut outer = branch("else");
    let mut inner_choice = node("If", &["flag"], &["deep"]);
    inner_choice.attribute.push(subgraph("then_branch", branch("inner")));
    outer.node.push(inner_choice);
    choice.attribute = vec![subgraph("then_branch", branch("then")), subgraph("else_branch", outer)];
    let mut proto = model(vec![], vec![choice]);
    proto.functions.push(function(
        "Layer",
        &["a"],
        &["b"],
        vec![constant("k", ramp("", &[4, 4])), node("MatMul", &["a", "k"], &["b"])],
    ));
    let model = read(&proto);
    let found: Vec<(String, String)> =
        model.weights().map(|(_, weight)| (weight.name.clone(), weight.scope.to_string())).collect();
    let expected = [
        ("w", "subgraph choose.then_branch"),
        ("c", "subgraph choose.then_branch"),
        ("w#2", "subgraph choose.else_branch"),
        ("c#2", "subgraph choose.else_branch"),
        ("w#3", "subgraph choose.else_branch.deep.then_branch"),
        ("c#3", "subgraph choose.else_branch.deep.then_branch"),
        ("k", "function local::Layer"),
    ];
    assert_eq!(found, expected.map(|(name, scope)| (name.to_owned(), scope.to_owned())));
    let function_weight = model.weight(model.weight_named("k").expect("it is in the table"));
    assert_eq!(function_weight.scope, Scope::Function { domain: "local".to_owned(), name: "Layer".to_owned() });
    assert_eq!((function_weight.role, function_weight.channel_axis), (Role::MatMul, Some(1)));
}

#[test]
fn every_storage_of_every_weight_type_gives_the_same_bits() {
    let quarter_halves = [0x3400_u16, 0xb400, 0x7e01, 0x0001];
    let as_bytes = |words: &[u16]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
    let half =
        TensorProto { int32_data: quarter_halves.map(i32::from).to_vec(), ..tensor("half", &[4], DataType::Float16) };
    // As some writers do it: bit patterns above 0x7fff come with a sign.
    let brain = TensorProto {
        int32_data: quarter_halves.map(|word| i32::from(word as i16)).to_vec(),
        ..tensor("brain", &[2, 2], DataType::Bfloat16)
    };
    let double =
        TensorProto { double_data: vec![0.1, -0.0, f64::INFINITY, 1e300], ..tensor("double", &[4], DataType::Double) };
    let single = TensorProto {
        float_data: vec![0.1, -0.0, f32::from_bits(0x7fc0_1234), 1e-40],
        ..tensor("single", &[4], DataType::Float)
    };
    let signed = TensorProto { int32_data: vec![-128, -1, 0, 127], ..tensor("signed", &[4], DataType::Int8) };
    let unsigned = TensorProto { int32_data: vec![0, 1, 128, 255], ..tensor("unsigned", &[4], DataType::Uint8) };
    let raw =
        TensorProto { raw_data: Some(as_bytes(&quarter_halves).into()), ..tensor("raw", &[4], DataType::Float16) };
    let model = read(&model(vec![half, brain, double, single, signed, unsigned, raw], vec![]));
    let bits = |name: &str| {
        let weight = model.weight(model.weight_named(name).expect("it is in the table"));
        (weight.dtype(), (0..weight.len()).map(|index| weight.original.bits(index)).collect::<Vec<_>>())
    };
    assert_eq!(bits("half"), (DType::F16, quarter_halves.map(u64::from).to_vec()));
    assert_eq!(bits("brain"), (DType::BF16, quarter_halves.map(u64::from).to_vec()));
    assert_eq!(bits("raw"), bits("half"));
    assert_eq!(bits("double"), (DType::F64, [0.1, -0.0, f64::INFINITY, 1e300].map(f64::to_bits).to_vec()));
    assert_eq!(
        bits("single"),
        (DType::F32, [0.1f32, -0.0, f32::from_bits(0x7fc0_1234), 1e-40].map(|v| u64::from(v.to_bits())).to_vec())
    );
    assert_eq!(bits("signed"), (DType::I8, vec![0x80, 0xff, 0, 0x7f]));
    assert_eq!(bits("unsigned"), (DType::U8, vec![0, 1, 128, 255]));
}

fn sparse(indices: TensorProto, dims: &[i64]) -> SparseTensorProto {
    SparseTensorProto { values: Some(floats("s", &[3], &[1.0, 2.0, 3.0])), indices: Some(indices), dims: dims.to_vec() }
}

#[test]
fn sparse_initializers_become_dense_whatever_their_indices() {
    let linear = int64s("", &[1, 3, 5]);
    let coordinates = TensorProto { dims: vec![3, 2], ..int64s("", &[0, 1, 1, 0, 1, 2]) };
    for indices in [linear, coordinates] {
        let mut proto = model(vec![], vec![node("Add", &["x", "s"], &["y"])]);
        let graph = proto.graph.get_or_insert_default();
        graph.sparse_initializer.push(sparse(indices, &[2, 3]));
        let model = read(&proto);
        assert!(model.graph().sparse_initializer.is_empty());
        let constant = model.constant(model.graph(), "s").expect("it is an initializer now");
        assert_eq!(constant.shape, [2, 3]);
        assert_eq!(constant.floats(), Some(vec![0.0, 1.0, 0.0, 2.0, 0.0, 3.0]));
        assert_eq!(model.verify().map_err(|error| error.to_string()), Ok(()));
    }
}

#[test]
fn damaged_sparse_initializers_are_refused() {
    let cases = [
        (int64s("", &[1, 3, 6]), "index 6 is outside of shape 2×3"),
        (int64s("", &[1, 3, -1]), "index -1 is outside of shape 2×3"),
        (int64s("", &[3, 1, 5]), "index 1 does not stand behind the one before it"),
        (int64s("", &[1, 3]), "3 values have indices of shape 2"),
        (TensorProto { dims: vec![3, 2], ..int64s("", &[0, 1, 1, 0, 1, 3]) }, "index 3 is outside of shape 2×3"),
        (floats("", &[3], &[0.0, 1.0, 2.0]), "its indices are not integers"),
    ];
    for (indices, expected) in cases {
        let mut proto = model(vec![], vec![]);
        proto.graph.get_or_insert_default().sparse_initializer.push(sparse(indices, &[2, 3]));
        let message = complaint(&proto);
        assert!(message.contains("`s`") && message.contains(expected), "{message}");
    }
}

#[test]
fn a_sparse_initializer_that_would_fill_the_memory_stays_sparse() {
    let mut proto = model(vec![], vec![node("Add", &["x", "s"], &["y"])]);
    let huge = sparse(int64s("", &[1, 3, 5]), &[1 << 20, 1 << 20]);
    proto.graph.get_or_insert_default().sparse_initializer.push(huge);
    let model = read(&proto);
    assert_eq!(model.weights().count(), 0);
    assert_eq!(model.graph().sparse_initializer.len(), 1);
    assert_eq!(model.verify().map_err(|error| error.to_string()), Ok(()));
}

#[test]
fn initializers_that_are_inputs_follow_the_rules_of_their_ir_version() {
    let with_input = |version: i64| {
        let mut proto = model(vec![ramp("w", &[4, 4])], vec![node("MatMul", &["x", "w"], &["y"])]);
        proto.ir_version = Some(version);
        proto.graph.get_or_insert_default().input.push(value("w"));
        read(&proto)
    };
    let mut old = with_input(3);
    let weight = old.weight(old.weight_named("w").expect("it is in the table"));
    assert_eq!((weight.overridable, weight.left_alone.as_deref()), (false, None));
    assert!(old.constant(old.graph(), "w").is_some());
    old.add_weight("new", &[4], weight.original.slice(0, 4), Role::Other, None);
    assert_eq!(old.verify().map_err(|error| error.to_string()), Ok(()));
    assert!(old.remove_initializer("w").is_some());
    let inputs: Vec<&str> = old.graph().input.iter().map(|input| input.name()).collect();
    assert_eq!(inputs, ["x", "new"]);

    let mut new = with_input(4);
    let weight = new.weight(new.weight_named("w").expect("it is in the table"));
    assert_eq!((weight.overridable, weight.left_alone.as_deref()), (true, Some("graph input with a default value")));
    assert_eq!(new.constant(new.graph(), "w"), None);
    assert_eq!(new.remove_initializer("w"), None);
    assert_eq!(new.graph().initializer.len(), 1);
}

#[test]
fn a_marker_travels_with_its_tensor() {
    let mut model = read(&model(vec![ramp("w", &[4, 4])], vec![node("MatMul", &["x", "w"], &["y"])]));
    let tensor = model.graph_mut().initializer.remove(0);
    assert_eq!((tensor.raw_data.clone(), tensor.dims.clone()), (None, vec![4, 4]));
    let id = marker::weight_of(&tensor).expect("the tensor is marked");
    let renamed = TensorProto { name: Some("short".to_owned()), ..tensor.clone() };
    let twin = TensorProto { name: Some("twin".to_owned()), ..tensor };
    model.graph_mut().initializer.extend([renamed, twin]);
    let values = model.weight(id).original.clone();
    let again = read(
        &onnx_dcomp_proto::ModelProto::decode(&model.to_bytes().expect("it is sound")[..]).expect("it is a model"),
    );
    for name in ["short", "twin"] {
        assert_eq!(again.weight(again.weight_named(name).expect("it was written")).original, values);
    }
    model.graph_mut().initializer.clear();
    model.remove_unreferenced();
    assert_eq!(model.weights().count(), 0);
}

#[test]
fn payloads_of_compressed_files_are_no_weights() {
    let payload = TensorProto { raw_data: Some(vec![7u8; 100].into()), ..tensor("payload", &[100], DataType::Uint8) };
    let mut decode = node("DcompDecode", &["payload"], &["w"]);
    decode.domain = Some("ai.dcomp".to_owned());
    let model = read(&model(vec![payload], vec![decode, node("Add", &["x", "w"], &["y"])]));
    assert_eq!(model.weights().count(), 0);
    let constant = model.constant(model.graph(), "payload").expect("it is an initializer");
    assert_eq!(constant.values().map(|values| values.bytes().to_vec()), Some(vec![7u8; 100]));
}
