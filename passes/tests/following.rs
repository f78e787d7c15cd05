//! Passes that go layer by layer: a weight whose inputs have moved is moved with them.

use std::path::Path;

use onnx_dcomp_forms::Values;
use onnx_dcomp_ir::{Drift, Evidence, Follow, Model, MomentBlock, SecondMoment, Walk};
use onnx_dcomp_passes::Pipeline;

/// The kernel whose inputs have moved, and the columns that it has.
const MOVED: &str = "fc2.weight";
const COLUMNS: usize = 300;

/// What is added to the diagonal before the moment is inverted, at least.
const DAMPING: f64 = 0.1;

fn lenet300() -> Model {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/lenet300.onnx");
    Model::open(&path).expect("the fixture is there")
}

fn identity() -> MomentBlock {
    let values = (0..COLUMNS * COLUMNS).map(|at| f32::from(u8::from(at / COLUMNS == at % COLUMNS))).collect();
    MomentBlock { size: COLUMNS, values }
}

fn moment() -> SecondMoment {
    SecondMoment { blocks: vec![identity()], mean: vec![0.0; COLUMNS], samples: 1_000_000 }
}

/// Meets the kernels of LeNet-300-100 in their order; the inputs of the second are half of what they were. Cannot go on
/// behind so many.
struct HalfTheInputs(usize);

impl Follow for HalfTheInputs {
    fn start(&self, original: &Model) -> Box<dyn Walk + '_> {
        let kernels = original.weights().filter(|(_, weight)| weight.role.is_kernel());
        let names = kernels.map(|(_, weight)| weight.name.clone()).take(self.0).collect::<Vec<_>>();
        Box::new(Way(names.into_iter()))
    }
}

struct Way(std::vec::IntoIter<String>);

impl Walk for Way {
    fn next(&mut self, _: &Model) -> Result<Option<(String, Option<Drift>)>, String> {
        let name = self.0.next().ok_or("there the road ends")?;
        // x - y = y, so that the cross moment is the moment.
        let drift = Drift { moment: moment(), cross: vec![identity()], shift: vec![0.0; COLUMNS] };
        let drift = (name == MOVED).then_some(drift);
        Ok(Some((name, drift)))
    }
}

/// The kernel before and after `pipeline`, and what the passes said.
fn moved(pipeline: &str, evidence: &Evidence, follow: &dyn Follow) -> (Values, Values, String) {
    let mut model = lenet300();
    let (before, after) = pipeline.split_once(" | ").unwrap_or(("fold", pipeline));
    let parse = |text: &str| Pipeline::parse(text).expect("a pipeline");
    parse(before).run(&mut model, &Evidence::default(), &mut ()).expect("it runs");
    let dense = |model: &Model| model.weight(model.weight_named(MOVED).expect("its name stays")).form.dense();
    let start = dense(&model).clone();
    let said = parse(after).run_following(&mut model, evidence, Some(follow), &mut ()).expect("it runs");
    let said = said.iter().flat_map(|report| report.changes.clone()).collect::<Vec<_>>().join("; ");
    (start, dense(&model), said)
}

/// What `after` is of `before`, by least squares.
fn ratio(before: &Values, after: &Values) -> f64 {
    let sum = |a: &Values, b: &Values| a.iter().zip(b.iter()).map(|(a, b)| f64::from(a) * f64::from(b)).sum::<f64>();
    sum(before, after) / sum(before, before)
}

#[test]
fn half_the_inputs_want_twice_the_weight_less_what_is_doubted() {
    let wanted = 1.0 + 1.0 / (1.0 + DAMPING);
    for pass in ["quantize(quality=60", "quantize(scheme=uniform, quality=60", "low-rank(emit=weight, rank=99"] {
        let (before, after, _) = moved(&format!("{pass})"), &Evidence::default(), &HalfTheInputs(3));
        let reached = ratio(&before, &after);
        assert!((reached - wanted).abs() < 0.02, "{pass}: {reached} times the weight");
        let (before, after, _) = moved(&format!("{pass}, follow=off)"), &Evidence::default(), &HalfTheInputs(3));
        let kept = ratio(&before, &after);
        assert!((kept - 1.0).abs() < 0.02, "{pass}: {kept} times the weight");
    }
}

#[test]
fn what_was_pruned_stays_zero_however_inputs_move() {
    let mut evidence = Evidence::default();
    evidence.second_moment.insert(MOVED.to_owned(), moment());
    let pipeline = "fold, prune(sparsity=0.8) | quantize(quality=60)";
    let (before, after, _) = moved(pipeline, &evidence, &HalfTheInputs(3));
    assert!(before.iter().zip(after.iter()).all(|(before, after)| before != 0.0 || after == 0.0));
    assert!(ratio(&before, &after) > 1.5);
}

#[test]
fn where_the_way_ends_the_rest_is_done_as_ever_and_it_is_said() {
    let (before, after, said) = moved("quantize(quality=60)", &Evidence::default(), &HalfTheInputs(1));
    assert!((ratio(&before, &after) - 1.0).abs() < 0.02);
    assert!(said.contains("2 layers were not followed: there the road ends"), "{said}");
    assert!(said.contains("quantised 6 weights"), "{said}");
    let (.., whole) = moved("quantize(quality=60)", &Evidence::default(), &HalfTheInputs(3));
    assert!(whole.contains("quantised 6 weights") && !whole.contains("followed"), "{whole}");
}
