//! Low-rank passes, seen from outside: what layers become, and that they compute what the kernel they stand for does.

mod support;

use onnx_dcomp_ir::{Evidence, Model, MomentBlock, Role, SecondMoment, Weight};
use onnx_dcomp_passes::{Pipeline, Recipe, VerifyEach, print_model};
use onnx_dcomp_proto::tensor_proto::DataType;
use onnx_dcomp_proto::{GraphProto, ModelProto};
use support::*;

fn run(model: &mut Model, pipeline: &str, evidence: &Evidence) -> Vec<String> {
    let reports = Pipeline::parse(pipeline).unwrap().run(model, evidence, &mut VerifyEach);
    let reports = reports.unwrap_or_else(|error| panic!("{error:?}\n{}", print_model(model)));
    reports.into_iter().flat_map(|report| report.changes).collect()
}

fn weight<'a>(model: &'a Model, name: &str) -> &'a Weight {
    model.weight(model.weight_named(name).unwrap_or_else(|| panic!("{name} in\n{}", print_model(model))))
}

/// A Conv with everything that a Conv can have.
fn convolution() -> GraphProto {
    let attributes = vec![
        ints("kernel_shape", &[3, 2]),
        ints("pads", &[1, 0, 2, 1]),
        ints("strides", &[2, 1]),
        ints("dilations", &[1, 2]),
    ];
    let tensors = vec![floats("w", &[24, 8, 3, 2], &noise(24 * 48, 1)), floats("b", &[24], &noise(24, 2))];
    let nodes = vec![node("Conv", &["x", "w", "b"], "y", attributes)];
    graph(nodes, tensors, vec![value("x", &[0, 8, 9, 9])], vec![value("y", &[0, 24, 0, 0])])
}

fn fully_connected(is_transposed: bool) -> GraphProto {
    let attributes = vec![int("transB", i64::from(is_transposed)), float("alpha", 0.5), float("beta", 2.0)];
    let dims = if is_transposed { [30, 40] } else { [40, 30] };
    let tensors = vec![floats("w", &dims, &noise(1200, 1)), floats("b", &[30], &noise(30, 2))];
    let nodes = vec![node("Gemm", &["x", "w", "b"], "y", attributes)];
    graph(nodes, tensors, vec![value("x", &[0, 40])], vec![value("y", &[0, 30])])
}

fn product() -> GraphProto {
    let nodes = vec![node("MatMul", &["x", "w"], "y", vec![])];
    let tensors = vec![floats("w", &[40, 30], &noise(1200, 1))];
    graph(nodes, tensors, vec![value("x", &[0, 3, 40])], vec![value("y", &[0, 3, 30])])
}

/// A product, among names that the new tensors would like to have.
fn crowded() -> GraphProto {
    let mut graph = product();
    graph.node.push(node("Relu", &["y"], "y.v", vec![]));
    graph.node.push(node("Add", &["y.v", "w.v"], "w.u", vec![]));
    graph.initializer.push(floats("w.v", &[30], &noise(30, 5)));
    graph.output.push(value("w.u", &[0, 3, 30]));
    graph.value_info.push(value("y.u", &[7]));
    graph
}

fn half() -> GraphProto {
    let half = DataType::Float16 as i32;
    let bits: Vec<u8> = noise(1200, 1).iter().flat_map(|&v| half::f16::from_f32(v).to_le_bytes()).collect();
    let nodes = vec![node("MatMul", &["x", "w"], "y", vec![])];
    let ends = (vec![typed_value("x", &[0, 40], half)], vec![typed_value("y", &[0, 30], half)]);
    graph(nodes, vec![tensor("w", &[40, 30], half, bits)], ends.0, ends.1)
}

/// From before initializers could do without being inputs.
fn old(mut graph: GraphProto) -> ModelProto {
    let declared: Vec<_> = graph.initializer.iter().map(|tensor| value(tensor.name(), &tensor.dims)).collect();
    graph.input.extend(declared);
    ModelProto { ir_version: Some(3), ..proto(graph, 11) }
}

fn networks() -> Vec<(&'static str, ModelProto)> {
    vec![
        ("convolution", proto(convolution(), 17)),
        ("rows", proto(fully_connected(true), 17)),
        ("columns", proto(fully_connected(false), 17)),
        ("product", proto(product(), 17)),
        ("crowded", proto(crowded(), 17)),
        ("half", proto(half(), 17)),
        ("old", old(fully_connected(true))),
    ]
}

#[test]
fn thin_layers_compute_what_the_kernel_they_stand_for_does() {
    let folder = std::env::temp_dir().join(format!("dcomp-low-rank-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (mut pairs, mut count) = (String::new(), 0);
    for (name, proto) in networks() {
        for sparsity in [1.0, 0.95] {
            let made = |emit: &str| {
                let mut model = open(&proto);
                run(&mut model, &format!("low-rank(rank=4, sparsity={sparsity}, emit={emit})"), &Evidence::default());
                let path = folder.join(format!("{name}-{sparsity}-{emit}.onnx"));
                model.save(&path).unwrap();
                (path, model.graph().node.len() - proto.graph.as_ref().unwrap().node.len())
            };
            let ((dense, same), (thin, more)) = (made("weight"), made("factors"));
            assert_eq!((same, more), (0, if sparsity < 1.0 { 3 } else { 1 }), "{name}");
            pairs += &format!("{}\t{}\n", dense.display(), thin.display());
            count += 1;
        }
    }
    let verdicts = same_outputs(&pairs);
    std::fs::remove_dir_all(&folder).unwrap();
    let Some(verdicts) = verdicts else {
        println!("skipped: no python3 with onnxruntime, onnx and numpy");
        return;
    };
    assert_eq!(verdicts.matches("\tsame").count(), count, "{verdicts}");
}

#[test]
fn rank_and_sparsity_are_as_asked() {
    let mut model = model(convolution());
    let said = run(&mut model, "low-rank(rank=0.25, sparsity=0.9, emit=factors)", &Evidence::default());
    assert_eq!(operators(&model), ["Conv", "Conv", "Conv", "Add"]);
    let (v, u, s) = (weight(&model, "w.v"), weight(&model, "w.u"), weight(&model, "w.s"));
    assert_eq!((v.shape.as_slice(), u.shape.as_slice()), (&[6, 8, 3, 2][..], &[24, 6, 1, 1][..]));
    assert_eq!(s.shape, [24, 8, 3, 2]);
    assert_eq!(s.form.nonzeros(), 115);
    for kernel in [v, u, s] {
        assert_eq!((kernel.role, kernel.channel_axis), (Role::Conv, Some(0)));
        assert_eq!(kernel.operator.as_deref(), Some("Conv"));
    }
    assert!(model.weight_named("w").is_none());
    assert_eq!(model.graph().node.last().unwrap().output, ["y"]);
    assert_eq!(said, ["1 layers became two thin ones, 1 of them with a sparse one beside: 1152 numbers became 547"]);
}

#[test]
fn new_kernels_have_names_of_their_own() {
    let mut model = model(crowded());
    run(&mut model, "low-rank(rank=3, sparsity=0.95, emit=factors)", &Evidence::default());
    let names: Vec<&str> = model.weights().map(|(_, weight)| weight.name.as_str()).collect();
    assert_eq!(names, ["w.v", "w.v#2", "w.u", "w.s"]);
    let declared = model.graph().value_info.iter().map(|info| info.name());
    for name in declared {
        assert!(model.graph().node.iter().all(|node| !node.output.iter().any(|output| output == name)), "{name}");
    }
}

#[test]
fn noise_has_no_low_rank_and_stays_as_it_is() {
    for (name, proto) in networks() {
        let mut model = open(&proto);
        let before = print_model(&model);
        let said = run(&mut model, "low-rank", &Evidence::default());
        assert_eq!(print_model(&model), before, "{name}");
        assert_eq!(said, ["1 kernels stay as they are: parts of low rank would take more space at this quality"]);
    }
}

/// `rows` by `columns`, of rank two.
fn flat(rows: usize, columns: usize) -> Vec<f32> {
    let (left, right) = (noise(rows * 2, 1), noise(2 * columns, 2));
    let element = |index: usize| {
        let (row, column) = (index / columns, index % columns);
        left[2 * row] * right[column] + left[2 * row + 1] * right[columns + column]
    };
    (0..rows * columns).map(element).collect()
}

#[test]
fn a_kernel_of_low_rank_is_found_without_being_told() {
    let mut graph = product();
    graph.initializer[0] = floats("w", &[40, 30], &flat(40, 30));
    let mut model = model(graph);
    run(&mut model, "low-rank(sparsity=1)", &Evidence::default());
    assert_eq!(operators(&model), ["MatMul", "MatMul"]);
    assert_eq!(weight(&model, "w.v").shape, [40, 2]);
}

#[test]
fn what_cannot_be_taken_apart_stays_and_the_report_says_why() {
    let said = |graph: GraphProto, opset: i64| {
        let mut model = open(&proto(graph, opset));
        let before = print_model(&model);
        let said = run(&mut model, "low-rank(rank=2, emit=factors)", &Evidence::default());
        assert_eq!(print_model(&model), before);
        said.join("; ")
    };
    let grouped = {
        let tensors = vec![floats("w", &[24, 4, 3, 3], &noise(24 * 36, 1))];
        let nodes = vec![node("Conv", &["x", "w"], "y", vec![int("group", 2)])];
        graph(nodes, tensors, vec![value("x", &[0, 8, 9, 9])], vec![value("y", &[0, 24, 7, 7])])
    };
    assert!(said(grouped, 17).contains("1 kernels stay as they are: a convolution in groups"));
    assert!(said(fully_connected(true), 10).contains("below 11"));
    let mut shared = product();
    shared.node.push(node("MatMul", &["x", "w"], "z", vec![]));
    shared.output.push(value("z", &[0, 3, 30]));
    assert!(said(shared, 17).contains("not read by one layer alone"));
    let mut exposed = product();
    exposed.output.push(value("w", &[40, 30]));
    assert!(said(exposed, 17).contains("not read by its layer alone"));
    let mut overridable = product();
    overridable.input.push(value("w", &[40, 30]));
    said(overridable, 17);
    let left = {
        let tensors = vec![floats("w", &[30, 40], &noise(1200, 1))];
        let nodes = vec![node("MatMul", &["w", "x"], "y", vec![])];
        graph(nodes, tensors, vec![value("x", &[40, 5])], vec![value("y", &[30, 5])])
    };
    assert!(said(left, 17).contains("not read by one layer alone"));
}

#[test]
fn the_inputs_that_are_known_decide_what_is_kept() {
    // The first twenty columns meet inputs a hundred times as large as the others.
    let scale = |column: usize| if column < 20 { 10.0 } else { 0.1 };
    let values = (0..1600).map(|at| if at / 40 == at % 40 { scale(at % 40) } else { 0.0 }).collect();
    let moment = SecondMoment { blocks: vec![MomentBlock { size: 40, values }], mean: Vec::new(), samples: 1 };
    let mut known = Evidence::default();
    known.second_moment.insert("w".to_owned(), moment);
    let error = |evidence: &Evidence| {
        let mut model = model(fully_connected(true));
        run(&mut model, "low-rank(rank=8, sparsity=1, damping=0, emit=weight)", evidence);
        let weight = weight(&model, "w");
        let pairs = weight.form.dense().to_f32().into_iter().zip(weight.original.to_f32());
        pairs.enumerate().map(|(at, (now, before))| scale(at % 40) * (now - before).powi(2)).sum::<f32>()
    };
    assert!(error(&known) < 0.8 * error(&Evidence::default()));
}

#[test]
fn rules_are_for_single_weights() {
    let nodes = vec![
        node("MatMul", &["x", "first"], "a", vec![]),
        node("MatMul", &["a", "second"], "b", vec![]),
        node("MatMul", &["b", "third"], "y", vec![]),
    ];
    let kernel = |name: &str, seed: u32| floats(name, &[30, 30], &noise(900, seed));
    let tensors = vec![kernel("first", 1), kernel("second", 2), kernel("third", 3)];
    let mut model = model(graph(nodes, tensors, vec![value("x", &[0, 30])], vec![value("y", &[0, 30])]));
    let recipe = Recipe::parse(
        "pipeline = 'low-rank(rank=3, sparsity=1, emit=factors)'
         [[rule]]
         match = 'second'
         low-rank = { rank = 0.2, sparsity = 0.9 }
         [[rule]]
         match = 'third'
         low-rank = false",
    )
    .unwrap();
    let rules = recipe.rules(&model).unwrap();
    let pipeline = Pipeline::build(recipe.pipeline.as_ref().unwrap(), &rules).unwrap();
    pipeline.run(&mut model, &Evidence::default(), &mut VerifyEach).unwrap();
    assert_eq!(operators(&model), ["MatMul", "MatMul", "MatMul", "MatMul", "MatMul", "Add", "MatMul"]);
    assert_eq!(weight(&model, "first.v").shape, [30, 3]);
    assert_eq!(weight(&model, "second.v").shape, [30, 6]);
    assert_eq!(weight(&model, "second.s").form.nonzeros(), 90);
    assert_eq!(weight(&model, "third").shape, [30, 30]);
}

#[test]
fn ranks_are_read_as_fractions_and_numbers() {
    let message = |rank: &str| Pipeline::parse(&format!("low-rank(rank={rank})")).err().map(|error| error.to_string());
    for rank in ["auto", "0", "0.25", "1", "64"] {
        assert_eq!(message(rank), None);
    }
    for rank in ["-1", "2.5", "many", "NaN"] {
        let expected = "expected `auto` (or 0), a fraction of the rows or columns below 1, or a whole number";
        assert!(message(rank).is_some_and(|message| message.contains(expected)), "{rank}");
    }
}

#[test]
fn later_passes_go_on_with_what_it_leaves() {
    let mut model = model(convolution());
    let before = model.weights().map(|(_, weight)| weight.dense_bytes()).sum::<u64>();
    run(&mut model, "low-rank(rank=4, sparsity=0.95, emit=factors), quantize, strip, pack", &Evidence::default());
    assert!(model.to_bytes().unwrap().len() as u64 * 2 < before);
    assert!(model.weights().all(|(_, weight)| weight.stored_bytes.is_some()));
}
