//! Prune, share and recognise, seen from outside: what becomes of the weights of a small network.

use onnx_dcomp_forms::{Codebook, DType, Form, Grid, GridKind, Lattice, Steps, Values};
use onnx_dcomp_ir::{Evidence, Model, Weight};
use onnx_dcomp_passes::{Pipeline, PipelineText, Recipe, VerifyEach};
use onnx_dcomp_proto::tensor_proto::DataType;
use onnx_dcomp_proto::{GraphProto, Message, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, ValueInfoProto};

/// Numbers that look like a weight's: a bell, the same on every run.
fn bell(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u32 << 24) as f32 - 0.5
    };
    (0..len).map(|_| next() + next() + next()).collect()
}

fn tensor(name: &str, dims: &[i64], data_type: DataType, bytes: Vec<u8>) -> TensorProto {
    TensorProto {
        name: Some(name.to_owned()),
        dims: dims.to_vec(),
        data_type: Some(data_type as i32),
        raw_data: Some(bytes.into()),
        ..TensorProto::default()
    }
}

fn floats(name: &str, dims: &[i64], values: &[f32]) -> TensorProto {
    tensor(name, dims, DataType::Float, Values::from_f32(DType::F32, values).bytes().to_vec())
}

/// A chain of matrix products. `fc2` is 100 times smaller than `fc1`; `fc3` is in half precision.
fn network() -> Model {
    let mut broken = bell(100, 4);
    broken[7] = f32::NAN;
    let small: Vec<f32> = bell(30 * 20, 2).iter().map(|value| value * 0.01).collect();
    let half = Values::from_f32(DType::F16, &bell(20 * 10, 3)).bytes().to_vec();
    let initializer = vec![
        floats("fc1.weight", &[40, 30], &bell(40 * 30, 1)),
        floats("fc1.bias", &[30], &bell(30, 5)),
        floats("fc2.weight", &[30, 20], &small),
        tensor("fc3.weight", &[20, 10], DataType::Float16, half),
        floats("broken.weight", &[10, 10], &broken),
        floats("tiny.weight", &[10, 4], &bell(40, 6)),
    ];
    let node = |operator: &str, input: &str, weight: &str, output: &str| NodeProto {
        op_type: Some(operator.to_owned()),
        input: vec![input.to_owned(), weight.to_owned()],
        output: vec![output.to_owned()],
        ..NodeProto::default()
    };
    let value = |name: &str| ValueInfoProto { name: Some(name.to_owned()), ..ValueInfoProto::default() };
    let graph = GraphProto {
        name: Some("chain".to_owned()),
        node: vec![
            node("MatMul", "x", "fc1.weight", "a"),
            node("Add", "a", "fc1.bias", "b"),
            node("MatMul", "b", "fc2.weight", "c"),
            node("MatMul", "c", "fc3.weight", "d"),
            node("MatMul", "d", "broken.weight", "e"),
            node("MatMul", "e", "tiny.weight", "y"),
        ],
        initializer,
        input: vec![value("x")],
        output: vec![value("y")],
        ..GraphProto::default()
    };
    let opset = OperatorSetIdProto { domain: Some(String::new()), version: Some(17) };
    let proto =
        ModelProto { ir_version: Some(8), graph: Some(graph), opset_import: vec![opset], ..ModelProto::default() };
    Model::from_bytes(proto.encode_to_vec().into(), None).unwrap()
}

fn run(model: &mut Model, pipeline: &str) -> Vec<String> {
    let pipeline = Pipeline::parse(pipeline).unwrap();
    let reports = pipeline.run(model, &Evidence::default(), &mut VerifyEach).unwrap();
    reports.into_iter().flat_map(|report| report.changes).collect()
}

fn after(pipeline: &str) -> Model {
    let mut model = network();
    run(&mut model, pipeline);
    model
}

fn weight<'a>(model: &'a Model, name: &str) -> &'a Weight {
    model.weight(model.weight_named(name).unwrap())
}

fn zeros(weight: &Weight) -> usize {
    weight.len() - weight.form.nonzeros()
}

const PRUNABLE: [&str; 3] = ["fc1.weight", "fc2.weight", "fc3.weight"];
const HELD: [&str; 3] = ["fc1.bias", "broken.weight", "tiny.weight"];

#[test]
fn prune_zeroes_the_smallest_of_each_weight_and_nothing_else() {
    let model = after("prune(sparsity=0.7)");
    for name in PRUNABLE {
        let weight = weight(&model, name);
        assert_eq!(zeros(weight), (0.7 * weight.len() as f64).round() as usize, "{name}");
        let (now, before) = (weight.form.dense(), &weight.original);
        let (mut lost, mut kept) = (0f32, f32::INFINITY);
        for index in 0..now.len() {
            if now.bits(index) == 0 {
                lost = lost.max(before.get(index).abs());
            } else {
                assert_eq!(now.bits(index), before.bits(index));
                kept = kept.min(before.get(index).abs());
            }
        }
        assert!(lost <= kept, "{name}");
        assert_eq!(weight.left_alone, None);
    }
}

#[test]
fn what_may_not_be_touched_keeps_every_bit_and_says_why() {
    let model = after("prune(sparsity=0.7), share(clusters=4)");
    let reasons = HELD.map(|name| {
        let weight = weight(&model, name);
        assert_eq!(weight.form.dense(), weight.original, "{name}");
        weight.left_alone.clone().unwrap()
    });
    assert!(reasons[0].contains("bias") && reasons[1].contains("NaN") && reasons[2].contains("tiny"), "{reasons:?}");
}

#[test]
fn network_wide_scopes_meet_the_sparsity_of_the_whole() {
    let total: usize = PRUNABLE.iter().map(|name| weight(&network(), name).len()).sum();
    for scope in ["global", "normalised", "sensitivity"] {
        let model = after(&format!("prune(sparsity=0.6, scope={scope})"));
        let zeros: Vec<usize> = PRUNABLE.iter().map(|name| zeros(weight(&model, name))).collect();
        assert_eq!(zeros.iter().sum::<usize>(), (0.6 * total as f64).round() as usize, "{scope}");
        let small_is_emptied = zeros[1] == weight(&model, "fc2.weight").len();
        assert_eq!(small_is_emptied, scope == "global", "{scope}: {zeros:?}");
    }
    assert!(run(&mut network(), "prune(sparsity=0.6, scope=global)")[0].contains("`fc2.weight` lost all"));
}

#[test]
fn pruning_stays_in_the_form_that_it_finds() {
    let mut model = network();
    let id = model.weight_named("fc1.weight").unwrap();
    let levels: Vec<i16> = weight(&model, "fc1.weight").original.iter().map(|value| (value * 40.0) as i16).collect();
    for kind in [GridKind::Uniform, GridKind::Trellis, GridKind::Lattice { lattice: Lattice::D4, seed: 1 }] {
        let grid = Grid::new(levels.clone(), Steps::PerTensor(0.025), kind, DType::F32).unwrap();
        model.set_form(id, Form::Grid(grid.clone())).unwrap();
        run(&mut model, "prune(sparsity=0.5)");
        let Form::Grid(pruned) = &model.weight(id).form else { panic!("the form changed") };
        if kind != GridKind::Uniform {
            assert_eq!(pruned, &grid, "levels of a trellis or a lattice depend on each other");
        } else {
            assert_eq!(pruned.levels().iter().filter(|&&level| level == 0).count(), 600);
        }
    }
    let table = Values::from_f32(DType::F32, &[-0.5, 0.25, 0.5]);
    let codes = (0..1200).map(|index| (index % 3) as u16).collect();
    model.set_form(id, Form::Codebook(Codebook::new(codes, table).unwrap())).unwrap();
    run(&mut model, "prune(sparsity=0.5)");
    let Form::Codebook(codebook) = &model.weight(id).form else { panic!("the form changed") };
    assert_eq!(codebook.centroids().to_f32(), [0.0, -0.5, 0.25, 0.5]);
    assert_eq!(codebook.codes().iter().filter(|&&code| code == 0).count(), 600);
    assert_eq!(codebook.codes()[0], 0, "of equal magnitudes the first go, after all smaller ones have gone");
    assert!((1..1200).step_by(3).all(|index| codebook.codes()[index] == 0));
}

#[test]
fn shared_weights_hold_few_ascending_values_and_exact_zeros() {
    let model = after("prune(sparsity=0.5), share(clusters=16)");
    for name in PRUNABLE {
        let weight = weight(&model, name);
        let Form::Codebook(codebook) = &weight.form else { panic!("{name} is not shared") };
        assert_eq!(codebook.centroids().dtype(), weight.dtype());
        assert!(codebook.centroids().len() <= 16 && codebook.has_zero());
        assert!(codebook.centroids().to_f32()[1..].is_sorted_by(|a, b| a < b));
        assert_eq!(zeros(weight), weight.len() / 2, "{name}: zeros stay, and no other element becomes one");
        assert!(weight.form.squared_error(&weight.original) < 0.12 * Form::Dense(weight.original.clone()).energy());
    }
}

trait Energy {
    fn energy(&self) -> f64;
}

impl Energy for Form {
    fn energy(&self) -> f64 {
        self.dense().iter().map(|value| f64::from(value).powi(2)).sum()
    }
}

#[test]
fn a_price_on_bits_buys_a_smaller_code_for_a_larger_error() {
    let measure = |pipeline: &str| {
        let model = after(pipeline);
        let weight = weight(&model, "fc1.weight");
        (weight.form.order0_bits(), weight.form.squared_error(&weight.original))
    };
    let (plain_bits, plain_error) = measure("share(clusters=64)");
    let (bits, error) = measure("share(clusters=64, lambda=0.005)");
    assert!(bits < 0.85 * plain_bits && error > plain_error, "{bits} {plain_bits} {error} {plain_error}");
}

#[test]
fn automatic_numbers_of_clusters_meet_the_aim_and_follow_it() {
    let mut last = f64::INFINITY;
    for aim in [0.03, 0.003] {
        let model = after(&format!("share(clusters=auto, output-error={aim})"));
        let errors = PRUNABLE.map(|name| {
            let weight = weight(&model, name);
            weight.form.squared_error(&weight.original) / Form::Dense(weight.original.clone()).energy()
        });
        let error: f64 = errors.iter().sum();
        assert!(error <= aim * 1.01 && error > aim * 0.3, "{aim}: {errors:?}");
        assert!(error < last);
        last = error;
    }
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let pipelines = ["prune(sparsity=0.6, scope=normalised), share(init=random, seed=3)", "share(clusters=auto)"];
    for pipeline in pipelines {
        let forms = [1, 3].map(|threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let model = pool.install(|| after(pipeline));
            model.weights().map(|(_, weight)| weight.form.clone()).filter(|form| form.dense().all_finite()).collect()
        });
        let [one, three]: [Vec<Form>; 2] = forms;
        assert_eq!(one, three, "{pipeline}");
    }
}

#[test]
fn recognised_weights_are_bit_exact_and_others_stay() {
    let mut model = network();
    let id = model.weight_named("fc1.weight").unwrap();
    let few: Vec<f32> = (0..1200).map(|index| [-0.0, 0.5, f32::MIN_POSITIVE, 0.0][index * 7 % 4]).collect();
    let few = Values::from_f32(DType::F32, &few);
    model.set_form(id, Form::Dense(few.clone())).unwrap();
    run(&mut model, "recognise(max=16)");
    assert!(matches!(model.weight(id).form, Form::Codebook(_)));
    assert_eq!(model.weight(id).form.dense(), few);
    assert!(matches!(weight(&model, "fc2.weight").form, Form::Dense(_)));
}

#[test]
fn a_pattern_for_no_weight_is_an_error_that_names_the_nearest() {
    let pipeline = Pipeline::parse("prune(select=fc1.wieght)").unwrap();
    let error = pipeline.run(&mut network(), &Evidence::default(), &mut ()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "pass `prune`: option `select`: no weight is called `fc1.wieght`; did you mean `fc1.weight`?"
    );
}

fn with_recipe(recipe: &str) -> Model {
    let recipe = Recipe::parse(recipe).unwrap();
    let mut model = network();
    let rules = recipe.rules(&model).unwrap();
    let text = recipe.pipeline_text().unwrap().unwrap();
    Pipeline::build(&text, &rules).unwrap().run(&mut model, &Evidence::default(), &mut VerifyEach).unwrap();
    model
}

#[test]
fn the_last_rule_that_speaks_of_an_option_wins() {
    let model = with_recipe(
        r#"
        pipeline = "prune(sparsity=0.25), share(clusters=8)"
        [[rule]]
        role = "MatMul"
        prune = { sparsity = 0.5 }
        [[rule]]
        match = "fc2*"
        operator = "matmul"
        prune = { sparsity = 0.75 }
        share = false
        [[rule]]
        match = "*3.weight"
        skip = true
        "#,
    );
    assert_eq!(zeros(weight(&model, "fc1.weight")), 600);
    assert_eq!(zeros(weight(&model, "fc2.weight")), 450);
    assert!(matches!(weight(&model, "fc1.weight").form, Form::Codebook(_)));
    assert!(matches!(weight(&model, "fc2.weight").form, Form::Dense(_)));
    assert_eq!(weight(&model, "fc3.weight").form.dense(), weight(&model, "fc3.weight").original);
}

#[test]
fn a_rule_for_no_weight_is_an_error_that_names_the_nearest() {
    let recipe = Recipe::parse("pipeline = \"prune\"\n[[rule]]\nmatch = \"fc1.wait\"\nskip = true\n").unwrap();
    let error = recipe.rules(&network()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "recipe, line 2: no weight fits the rule with match = \"fc1.wait\"; did you mean `fc1.weight`?"
    );
    let recipe = Recipe::parse("[[rule]]\noperator = \"Matmull\"\nskip = true\n").unwrap();
    let error = recipe.rules(&network()).unwrap_err().to_string();
    assert!(error.ends_with("operator = \"Matmull\"; did you mean `MatMul`?"), "{error}");
}

#[test]
fn mistakes_in_recipes_are_shown_where_they_are() {
    let blame = |text: &str, line: usize, message: &str, blamed: &str| {
        let error = Recipe::parse(text).unwrap_err();
        let shown = error.to_string();
        assert!(shown.starts_with(&format!("recipe, line {line}: ")) && shown.contains(message), "{shown}");
        assert_eq!(&text[error.span], blamed, "{shown}");
    };
    blame("seed = 1\nsead = 1", 2, "unknown key `sead`; did you mean `seed`?", "sead");
    blame("seed = -1", 1, "`seed`: expected a whole number, found `-1`", "-1");
    blame("seed = ", 1, "", "");
    blame("preset = \"deep-compresion\"", 1, "did you mean `deep-compression`?", "\"deep-compresion\"");
    blame("quality = \"hihg\"", 1, "did you mean `high`?", "\"hihg\"");
    blame("pipeline = \"prune, shore\"", 1, "unknown pass `shore`; did you mean `share`?", "shore");
    blame("pipeline = \"prune\"\npreset = \"auto\"", 2, "exclude each other", "preset");
    let rule = |line: &str| format!("[[rule]]\nmatch = \"*\"\n{line}");
    blame(&rule("prine = false"), 3, "unknown key `prine`; did you mean `prune`?", "prine");
    blame(&rule("prune = 3"), 3, "`prune`: expected options in braces, or false, found `3`", "3");
    blame(&rule("prune = { sparsity = 1.5 }"), 3, "expected a number in 0.0..1.0, found `1.5`", "1.5");
    blame(&rule("prune = { sparsty = 0.5 }"), 3, "unknown option `sparsty`; did you mean `sparsity`?", "sparsty");
    blame("[[rule]]\nrole = \"Cnov\"", 2, "did you mean `conv`?", "\"Cnov\"");
    blame("[[rule]]\nskip = true", 1, "does not say which weights", "[[rule]]");
    blame(
        &format!("pipeline = \"prune\"\n{}", rule("share = false")),
        2,
        "`share`, which is not in the pipe",
        "[[rule]]",
    );
}

#[test]
fn a_seed_of_the_recipe_reaches_the_passes_that_draw() {
    let recipe = Recipe::parse("seed = 9\npipeline = \"prune, share(seed=2), share\"").unwrap();
    let text = recipe.pipeline_text().unwrap().unwrap();
    assert_eq!(text, PipelineText::parse("prune, share(seed=2), share(seed=9)").unwrap());
}
