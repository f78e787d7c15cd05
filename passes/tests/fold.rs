//! What `fold` rewrites, and what it must leave alone.

mod support;

use onnx_dcomp_forms::DType;
use onnx_dcomp_passes::{Fold, graph_bytes, print_model};
use onnx_dcomp_proto::tensor_proto::DataType;
use onnx_dcomp_proto::{GraphProto, NodeProto, TensorProto};
use support::*;

const EPSILON: f32 = 1e-3;

/// A BatchNormalization over `channels` channels, and its parameters.
fn normalization(input: &str, output: &str, channels: usize) -> (NodeProto, Vec<TensorProto>) {
    let names = ["gamma", "beta", "mean", "variance"];
    let node = node(
        "BatchNormalization",
        &[input, names[0], names[1], names[2], names[3]],
        output,
        vec![float("epsilon", EPSILON)],
    );
    let parameter = |(seed, name): (usize, &&str)| {
        let mut values = noise(channels, seed as u32 + 7);
        if *name == "variance" {
            values.iter_mut().for_each(|v| *v = v.abs() + 0.1);
        }
        floats(name, &[channels as i64], &values)
    };
    (node, names.iter().enumerate().map(parameter).collect())
}

/// Factor and summand of each channel, from the definition.
fn scale_and_shift(parameters: &[TensorProto]) -> Vec<(f64, f64)> {
    let column = |index: usize| -> Vec<f64> {
        let words = parameters[index].raw_data().as_chunks().0.iter();
        words.map(|&w| f64::from(f32::from_le_bytes(w))).collect()
    };
    let (gamma, beta, mean, variance) = (column(0), column(1), column(2), column(3));
    (0..gamma.len())
        .map(|c| {
            let scale = gamma[c] / (variance[c] + f64::from(EPSILON)).sqrt();
            (scale, beta[c] - mean[c] * scale)
        })
        .collect()
}

fn assert_close(found: &[f32], expected: &[f64]) {
    assert_eq!(found.len(), expected.len());
    for (index, (&f, &e)) in found.iter().zip(expected).enumerate() {
        assert!((f64::from(f) - e).abs() <= 1e-6 * e.abs().max(1e-3), "element {index}: {f}, expected {e}");
    }
}

/// A layer `y = operator(x, w, b)` and a BatchNormalization behind it.
fn normalized_layer(
    operator: &str,
    dims: &[i64],
    channels: usize,
    attributes: Vec<support::Attribute>,
) -> (GraphProto, Vec<(f64, f64)>) {
    let (bn, parameters) = normalization("y", "z", channels);
    let affine = scale_and_shift(&parameters);
    let count = dims.iter().product::<i64>() as usize;
    let mut tensors = vec![floats("w", dims, &noise(count, 1)), floats("b", &[channels as i64], &noise(channels, 2))];
    tensors.extend(parameters);
    let rank = dims.len();
    let shape: Vec<i64> = if rank == 2 { vec![0, 3] } else { vec![0, 4, 9, 9] };
    let nodes = vec![node(operator, &["x", "w", "b"], "y", attributes), bn];
    let output = if rank == 2 { value("z", &[0, channels as i64]) } else { value("z", &[0, channels as i64, 0, 0]) };
    (graph(nodes, tensors, vec![value("x", &shape)], vec![output]), affine)
}

#[test]
fn normalization_moves_into_a_grouped_convolution() {
    let (graph, affine) = normalized_layer("Conv", &[6, 2, 3, 3], 6, vec![int("group", 2)]);
    let mut model = model(graph);
    run(&Fold, &mut model);
    assert_eq!(operators(&model), ["Conv"]);
    assert_eq!(model.graph().node[0].output, ["z"]);
    let weight: Vec<f64> = noise(108, 1).iter().enumerate().map(|(i, &w)| f64::from(w) * affine[i / 18].0).collect();
    assert_close(&read(&model, "w"), &weight);
    let bias: Vec<f64> = noise(6, 2).iter().zip(&affine).map(|(&b, (s, t))| f64::from(b) * s + t).collect();
    assert_close(&read(&model, &model.graph().node[0].input[2].clone()), &bias);
    assert_eq!(model.graph().initializer.len(), 2);
}

#[test]
fn normalization_moves_into_a_grouped_transposed_convolution() {
    // Four input channels in two groups; each group has three output channels.
    let (graph, affine) = normalized_layer("ConvTranspose", &[4, 3, 2, 2], 6, vec![int("group", 2)]);
    let mut model = model(graph);
    run(&Fold, &mut model);
    assert_eq!(operators(&model), ["ConvTranspose"]);
    let channel = |i: usize| (i / 24) * 3 + (i / 4) % 3;
    let weight: Vec<f64> = noise(48, 1).iter().enumerate().map(|(i, &w)| f64::from(w) * affine[channel(i)].0).collect();
    assert_close(&read(&model, "w"), &weight);
}

#[test]
fn normalization_moves_into_a_fully_connected_layer_both_ways_round() {
    for transposed in [false, true] {
        let dims = if transposed { [5, 3] } else { [3, 5] };
        let attributes = vec![int("transB", i64::from(transposed)), float("alpha", 0.5), float("beta", 2.0)];
        let (graph, affine) = normalized_layer("Gemm", &dims, 5, attributes);
        let mut model = model(graph);
        run(&Fold, &mut model);
        assert_eq!(operators(&model), ["Gemm"]);
        let channel = |i: usize| if transposed { i / 3 } else { i % 5 };
        let weight: Vec<f64> =
            noise(15, 1).iter().enumerate().map(|(i, &w)| f64::from(w) * affine[channel(i)].0).collect();
        assert_close(&read(&model, "w"), &weight);
        // The new bias holds the old `beta`, which goes.
        let bias: Vec<f64> = noise(5, 2).iter().zip(&affine).map(|(&b, (s, t))| 2.0 * f64::from(b) * s + t).collect();
        assert_close(&read(&model, &model.graph().node[0].input[2].clone()), &bias);
        let names: Vec<&str> = model.graph().node[0].attribute.iter().map(|a| a.name()).collect();
        assert_eq!(names, ["transB", "alpha"]);
    }
}

#[test]
fn arithmetic_by_channel_moves_too_and_a_missing_bias_appears() {
    let scale = floats("s", &[1, 4, 1, 1], &[1.0, -2.0, 0.5, 3.0]);
    let shift = floats("t", &[4, 1, 1], &[0.25, 0.5, -1.0, 2.0]);
    let nodes = vec![
        node("Conv", &["x", "w"], "a", vec![]),
        node("Mul", &["s", "a"], "b", vec![]),
        node("Sub", &["b", "t"], "c", vec![]),
    ];
    let tensors = vec![floats("w", &[4, 2, 1, 1], &noise(8, 3)), scale, shift];
    let mut model = model(graph(nodes, tensors, vec![value("x", &[0, 2, 5, 5])], vec![value("c", &[0, 4, 5, 5])]));
    run(&Fold, &mut model);
    assert_eq!(operators(&model), ["Conv"]);
    let bias = model.graph().node[0].input[2].clone();
    assert_eq!(read(&model, &bias), [-0.25, -0.5, 1.0, -2.0]);
    let expected: Vec<f64> =
        noise(8, 3).iter().zip([1.0, 1.0, -2.0, -2.0, 0.5, 0.5, 3.0, 3.0]).map(|(&w, s)| f64::from(w) * s).collect();
    assert_close(&read(&model, "w"), &expected);
}

#[test]
fn normalization_behind_a_concatenation_is_shared_out() {
    let (bn, parameters) = normalization("y", "z", 5);
    let affine = scale_and_shift(&parameters);
    let nodes = vec![
        node("Conv", &["x", "v"], "a", vec![]),
        node("Conv", &["x", "w"], "b", vec![]),
        node("Concat", &["a", "b"], "y", vec![int("axis", 1)]),
        bn,
    ];
    let mut tensors = vec![floats("v", &[2, 4, 1, 1], &noise(8, 1)), floats("w", &[3, 4, 1, 1], &noise(12, 2))];
    tensors.extend(parameters);
    let mut model = model(graph(nodes, tensors, vec![value("x", &[0, 4, 5, 5])], vec![value("z", &[0, 5, 5, 5])]));
    run(&Fold, &mut model);
    assert_eq!(operators(&model), ["Conv", "Conv", "Concat"]);
    let expected: Vec<f64> =
        noise(12, 2).iter().enumerate().map(|(i, &w)| f64::from(w) * affine[2 + i / 4].0).collect();
    assert_close(&read(&model, "w"), &expected);
}

#[test]
fn what_others_see_is_not_rescaled() {
    // The convolution's result is a graph output; its weight has another reader; a subgraph captures the result.
    let base = || normalized_layer("Conv", &[6, 4, 3, 3], 6, vec![]).0;
    let mut exposed = base();
    exposed.output.push(value("y", &[0, 6, 7, 7]));
    let mut shared = base();
    shared.node.insert(0, node("Conv", &["x", "w"], "other", vec![]));
    shared.output.push(value("other", &[0, 6, 7, 7]));
    let mut captured = base();
    let branch =
        |name: &str| graph(vec![node("Relu", &["y"], name, vec![])], vec![], vec![], vec![value(name, &[0, 6, 7, 7])]);
    captured.node.push(node(
        "If",
        &["condition"],
        "chosen",
        vec![graph_attribute("then_branch", branch("p")), graph_attribute("else_branch", branch("q"))],
    ));
    captured.input.push(typed_value("condition", &[], DataType::Bool as i32));
    captured.output.push(value("chosen", &[0, 6, 7, 7]));
    for graph in [exposed, shared, captured] {
        let mut model = model(graph);
        run(&Fold, &mut model);
        assert_eq!(read(&model, "w"), noise(216, 1), "{}", print_model(&model));
        assert!(operators(&model).contains(&"Mul"), "split instead: {}", print_model(&model));
    }
}

#[test]
fn a_default_that_callers_may_override_is_no_constant() {
    let (mut graph, _) = normalized_layer("Conv", &[6, 4, 3, 3], 6, vec![]);
    graph.input.push(value("w", &[6, 4, 3, 3]));
    let mut model = model(graph);
    run(&Fold, &mut model);
    assert_eq!(read(&model, "w"), noise(216, 1));
    assert!(model.graph().input.iter().any(|i| i.name() == "w"));
}

#[test]
fn half_precision_stays_half_precision() {
    let bits = |values: &[f32]| values.iter().flat_map(|&v| half::f16::from_f32(v).to_le_bytes()).collect::<Vec<u8>>();
    let tensor =
        |name: &str, dims: &[i64], values: &[f32]| support::tensor(name, dims, DataType::Float16 as i32, bits(values));
    let nodes = vec![node("Conv", &["x", "w"], "y", vec![]), node("Mul", &["y", "s"], "z", vec![])];
    let tensors =
        vec![tensor("w", &[4, 1, 1, 1], &[1.0, 2.0, 3.0, 4.0]), tensor("s", &[4, 1, 1], &[2.0, 0.5, -1.0, 0.25])];
    let half = DataType::Float16 as i32;
    let ends = (vec![typed_value("x", &[0, 1, 4, 4], half)], vec![typed_value("z", &[0, 4, 4, 4], half)]);
    let mut folded = model(graph(nodes.clone(), tensors.clone(), ends.0.clone(), ends.1.clone()));
    run(&Fold, &mut folded);
    assert_eq!(operators(&folded), ["Conv"]);
    assert_eq!(read(&folded, "w"), [2.0, 1.0, -3.0, 1.0]);
    assert!(folded.weights().all(|(_, weight)| weight.dtype() == DType::F16));

    // Where a product would be infinite, nothing moves.
    let huge = vec![tensor("w", &[4, 1, 1, 1], &[60000.0; 4]), tensor("s", &[4, 1, 1], &[2.0; 4])];
    let mut kept = model(graph(nodes, huge, ends.0, ends.1));
    run(&Fold, &mut kept);
    assert_eq!(operators(&kept), ["Conv", "Mul"]);
}

#[test]
fn a_reshape_to_the_batch_size_becomes_flatten() {
    let nodes = vec![
        node("Shape", &["x"], "shape", vec![]),
        node("Gather", &["shape", "zero"], "n", vec![int("axis", 0)]),
        node("Unsqueeze", &["n", "zeros"], "n1", vec![]),
        node("Concat", &["n1", "minus"], "target", vec![int("axis", 0)]),
        node("Reshape", &["x", "target"], "y", vec![]),
    ];
    let mut zero = longs("zero", &[0]);
    zero.dims.clear();
    let tensors = vec![zero, longs("zeros", &[0]), longs("minus", &[-1])];
    let mut model = model(graph(nodes, tensors, vec![value("x", &[0, 6, 2, 2])], vec![value("y", &[0, 24])]));
    run(&Fold, &mut model);
    assert_eq!(
        print_model(&model),
        "graph a graph (opset 17)\n  input %x: float[N,6,2,2]\n  %y = Flatten(%x)\n  output %y: float[N,24]\n"
    );
}

#[test]
fn slices_join_and_pads_lose_their_zero() {
    let nodes = vec![
        node("Slice", &["x", "0", "max", "2", "2"], "a", vec![]),
        node("Slice", &["a", "0", "max", "3", "2"], "b", vec![]),
        node("Pad", &["b", "pads", "zero"], "y", vec![]),
    ];
    let mut zero = floats("zero", &[1], &[0.0]);
    zero.dims.clear();
    let tensors = vec![
        longs("0", &[0]),
        longs("2", &[2]),
        longs("3", &[3]),
        longs("max", &[i64::MAX]),
        longs("pads", &[0, 1, 0, 0, 0, 1, 0, 0]),
        zero,
    ];
    let mut model = model(graph(nodes, tensors, vec![value("x", &[0, 4, 8, 8])], vec![value("y", &[0, 6, 4, 4])]));
    run(&Fold, &mut model);
    assert_eq!(operators(&model), ["Slice", "Pad"]);
    assert_eq!(model.graph().node[1].input.len(), 2);
}

#[test]
fn nodes_without_effect_go_and_outputs_keep_their_names() {
    let nodes = vec![
        node("Identity", &["x"], "a", vec![]),
        node("Relu", &["a"], "b", vec![]),
        node("Dropout", &["b"], "c", vec![]),
        node("Identity", &["c"], "y", vec![]),
        node("Identity", &["b"], "z", vec![]),
        node("Neg", &["b"], "dead", vec![]),
    ];
    let ends = [0, 3];
    let mut model = model(graph(nodes, vec![], vec![value("x", &ends)], vec![value("y", &ends), value("z", &ends)]));
    run(&Fold, &mut model);
    assert_eq!(operators(&model), ["Relu", "Identity"]);
    let outputs: Vec<&str> = model.graph().output.iter().map(|o| o.name()).collect();
    assert_eq!(outputs, ["y", "z"]);
}

#[test]
fn equal_tensors_and_equal_computations_become_one() {
    let nodes = vec![
        node("Mul", &["x", "s"], "a", vec![]),
        node("Mul", &["x", "t"], "b", vec![]),
        node("Sub", &["a", "b"], "y", vec![]),
    ];
    let tensors = vec![floats("s", &[100], &noise(100, 5)), floats("t", &[100], &noise(100, 5))];
    let mut model = model(graph(nodes, tensors, vec![value("x", &[0, 100])], vec![value("y", &[0, 100])]));
    run(&Fold, &mut model);
    assert_eq!(operators(&model), ["Mul", "Sub"]);
    assert_eq!(model.weights().count(), 1);
}

#[test]
fn no_model_grows_and_folding_again_changes_nothing() {
    for path in fixtures().into_iter().chain(trained()) {
        let mut model = onnx_dcomp_ir::Model::open(&path).expect("a sound model");
        let before = model.to_bytes().expect("it can be written").len();
        run(&Fold, &mut model);
        let after = model.to_bytes().expect("it can be written").len();
        assert!(after <= before, "{}: {before} bytes became {after}", path.display());
        let (text, bytes) = (print_model(&model), graph_bytes(&model));
        let report = run(&Fold, &mut model);
        assert_eq!(report.changes, Vec::<String>::new(), "{}", path.display());
        assert_eq!((print_model(&model), graph_bytes(&model)), (text, bytes), "{}", path.display());
    }
}

#[test]
fn a_choice_whose_types_break_the_rules_is_left_alone() {
    let floats = |name: &str| floats(name, &[3], &noise(3, 1));
    let truth = || tensor("c", &[3], DataType::Bool as i32, vec![1, 0, 1]);
    let half = |name: &str| tensor(name, &[3], DataType::Float16 as i32, vec![0; 6]);
    // A condition of integers, and two choices of different types: no runtime takes either.
    for constants in [vec![longs("c", &[1, 0, 1]), floats("a"), floats("b")], vec![truth(), half("a"), floats("b")]] {
        let nodes = vec![node("Where", &["c", "a", "b"], "w", vec![]), node("Add", &["x", "w"], "y", vec![])];
        let mut model = model(graph(nodes, constants, vec![value("x", &[3])], vec![value("y", &[3])]));
        run(&Fold, &mut model);
        assert_eq!(operators(&model), ["Where", "Add"]);
    }
}
