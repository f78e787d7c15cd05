//! A network followed layer by layer while it is being compressed: what moves is seen, what does not is not.

#![cfg(feature = "tract")]

use std::path::{Path, PathBuf};

use onnx_dcomp_engine::evidence::{EvidenceOptions, Follower, calibrate, layer};
use onnx_dcomp_engine::{DataFolder, Dataset, EngineError, Label, PreprocessOptions, Sample, Tensor, declared};
use onnx_dcomp_forms::{Form, Values};
use onnx_dcomp_ir::{Drift, Follow, Model, marker};
use onnx_dcomp_proto::NodeProto;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures").join(name)
}

/// LeNet-5 and the digits that it knows.
fn lenet() -> (Model, Box<dyn Dataset>) {
    let path = fixture("lenet5.onnx");
    let model = Model::open(&path).expect("the fixture is there");
    let preprocess = PreprocessOptions::beside(&path).expect("readable").expect("it is there");
    let inputs = declared::inputs(&model).expect("inputs");
    let resolved = preprocess.resolve(&inputs, &declared::outputs(&model).expect("outputs")).expect("it fits");
    let folder = DataFolder::open(&fixture("digits"), &resolved).expect("digits");
    (model, folder.dataset(None, None).expect("samples"))
}

/// Numbers that fit the inputs of a model, whatever they mean.
struct Numbers(Vec<Vec<usize>>);

impl Dataset for Numbers {
    fn len(&self) -> usize {
        4
    }

    fn sample(&self, index: usize) -> Result<Sample, EngineError> {
        let input = |shape: &Vec<usize>| {
            let count = shape.iter().product::<usize>();
            let values = (0..count).map(|at| ((at * 7 + index * 5) % 11) as f32 / 11.0 - 0.4).collect();
            Tensor::from_f32(shape.clone(), values)
        };
        let inputs = self.0.iter().map(input).collect::<Result<_, _>>()?;
        Ok(Sample { name: format!("numbers {index}"), inputs, label: Label::None, batches: false })
    }
}

/// Every layer of `model`, as `follower` meets them while `change` does what it will to each that was met.
fn walk(follower: &Follower, model: &mut Model, change: &dyn Fn(&mut Model, &str)) -> Vec<(String, Option<Drift>)> {
    let mut walk = follower.start(model);
    let mut met = Vec::new();
    while let Some((name, drift)) = walk.next(model).expect("it can be followed") {
        change(model, &name);
        met.push((name, drift));
    }
    met
}

fn halve(model: &mut Model, name: &str) {
    let weight = model.weight_mut(model.weight_named(name).expect("the weight is there"));
    let halved: Vec<f32> = weight.form.dense().iter().map(|value| 0.5 * value).collect();
    weight.form = Form::Dense(Values::from_f32(weight.dtype(), &halved));
}

#[test]
fn where_nothing_changes_nothing_moves_and_every_layer_is_met_in_order() {
    let (mut model, data) = lenet();
    let follower = Follower::new(&model, data.as_ref()).expect("it runs");
    let names: Vec<String> = layer::layers(&model).into_iter().map(|layer| layer.weight).collect();
    let met = walk(&follower, &mut model, &|_, _| {});
    assert_eq!(met.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>(), names);
    assert!(met[0].1.is_none(), "the inputs of the network never move");
    for (name, drift) in &met[1..] {
        let drift = drift.as_ref().expect("LeNet's rows lie one after the other");
        assert!(drift.cross.iter().all(|block| block.values.iter().all(|&value| value == 0.0)), "{name}");
        assert!(drift.shift.iter().all(|&shift| shift == 0.0), "{name}");
    }
}

#[test]
fn moments_are_those_that_a_whole_run_gives() {
    let (mut model, data) = lenet();
    let options = EvidenceOptions { samples: 500, ..EvidenceOptions::default() };
    let whole = calibrate(&model, data.as_ref(), &options, &mut |_, _| {}).expect("it runs");
    let follower = Follower::new(&model, data.as_ref()).expect("it runs");
    for (name, drift) in walk(&follower, &mut model, &|_, _| {}) {
        let Some(drift) = drift else { continue };
        let (piecewise, whole) = (drift.moment.mean_square(), whole.second_moment[&name].mean_square());
        // Of convolutions other patches are taken.
        assert!((piecewise / whole - 1.0).abs() < 0.05, "{name}: {piecewise} and {whole}");
    }
}

#[test]
fn half_a_layer_halves_what_the_next_one_meets() {
    let (mut model, data) = lenet();
    // Without biases, so that what comes out is half as large.
    for (id, _) in model.clone().weights().filter(|(_, weight)| weight.shape.len() == 1) {
        let weight = model.weight_mut(id);
        weight.form = Form::Dense(Values::from_f32(weight.dtype(), &vec![0.0; weight.len()]));
    }
    let follower = Follower::new(&model, data.as_ref()).expect("it runs");
    let met = walk(&follower, &mut model, &halve);
    for (depth, (name, drift)) in met.iter().enumerate().skip(1) {
        let drift = drift.as_ref().expect("LeNet's rows lie one after the other");
        // y = x / 2^depth, so that x - y is (2^depth - 1) y.
        let factor = 2f64.powi(depth as i32) - 1.0;
        for (cross, moment) in drift.cross.iter().zip(&drift.moment.blocks) {
            let scale = f64::from(moment.values.iter().fold(0f32, |most, value| most.max(value.abs())));
            for (&cross, &moment) in cross.values.iter().zip(&moment.values) {
                let off = (f64::from(cross) - factor * f64::from(moment)).abs();
                assert!(off < 1e-3 * factor * scale, "{name}: {cross} and {moment}");
            }
        }
    }
}

#[test]
fn a_kernel_that_something_else_reads_is_met_and_not_moved() {
    let (mut model, data) = lenet();
    let third = layer::layers(&model)[2].clone();
    let graph = model.graph_mut();
    let initializers = graph.initializer.iter();
    let kernel = initializers.clone().find(|tensor| marker::weight_of(tensor) == Some(third.id)).expect("it is there");
    let reader = NodeProto {
        op_type: Some("Identity".to_owned()),
        input: vec![kernel.name().to_owned()],
        output: vec!["read".to_owned()],
        ..NodeProto::default()
    };
    graph.node.push(reader);
    let follower = Follower::new(&model, data.as_ref()).expect("it runs");
    for (name, drift) in walk(&follower, &mut model, &halve).into_iter().skip(1) {
        assert_eq!(drift.is_none(), name == third.weight, "{name}");
    }
}

#[test]
fn the_way_is_the_same_on_any_number_of_threads() {
    let with = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads start");
        pool.install(|| {
            let (mut model, data) = lenet();
            walk(&Follower::new(&model, data.as_ref()).expect("it runs"), &mut model, &halve)
        })
    };
    assert_eq!(with(1), with(3));
}

#[test]
fn branches_loops_shared_kernels_and_other_types_are_followed_or_the_reason_is_said() {
    let mut followed = 0;
    let mut models: Vec<PathBuf> = std::fs::read_dir(fixture("models"))
        .expect("the fixtures are there")
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "onnx"))
        .collect();
    models.sort();
    for path in models {
        let Ok(mut model) = Model::open(&path) else { continue };
        let Ok(inputs) = declared::inputs(&model) else { continue };
        let length = |dimension: &onnx_dcomp_engine::Dimension| dimension.fixed().unwrap_or(1);
        let shapes = inputs.iter().map(|input| input.shape.iter().flatten().map(length).collect()).collect();
        let Ok(follower) = Follower::new(&model, &Numbers(shapes)) else { continue };
        let mut walk = follower.start(&model.clone());
        loop {
            match walk.next(&model) {
                Ok(Some((name, _))) => {
                    halve(&mut model, &name);
                    followed += 1;
                }
                Ok(None) => break,
                Err(reason) => {
                    assert!(!reason.is_empty(), "{}", path.display());
                    break;
                }
            }
        }
    }
    assert!(followed > 20, "{followed} layers");
}
