//! Pruning and sharing by what a layer's output makes of errors: `prune(criterion=obs)` and `share(feedback=on)`.

mod support;

use std::collections::BTreeMap;

use onnx_dcomp_forms::{Form, GridKind};
use onnx_dcomp_ir::{Evidence, Model, MomentBlock, SecondMoment};
use onnx_dcomp_passes::{Pipeline, Recipe};
use support::{floats, graph, int, model, node, noise, read, value};

const DAMPING: f64 = 0.02;

/// Rows and columns of the two layers.
const FC1: [usize; 2] = [18, 20];
const FC2: [usize; 2] = [16, 18];

/// Two fully connected layers, of whose kernels rows are contiguous.
fn network() -> Model {
    let gemm = |input, weight, output| node("Gemm", &[input, weight], output, vec![int("transB", 1)]);
    let weight = |name, [rows, columns]: [usize; 2], seed| {
        floats(name, &[rows as i64, columns as i64], &noise(rows * columns, seed))
    };
    model(graph(
        vec![gemm("x", "fc1", "a"), node("Relu", &["a"], "b", vec![]), gemm("b", "fc2", "y")],
        vec![weight("fc1", FC1, 1), weight("fc2", FC2, 2)],
        vec![value("x", &[0, FC1[1] as i64])],
        vec![value("y", &[0, FC2[0] as i64])],
    ))
}

/// The second moment of inputs that share a few sources, in blocks of `sizes`.
fn moment(sizes: &[usize], seed: u32) -> SecondMoment {
    let block = |(number, &size): (usize, &usize)| {
        let sources = 3;
        let mix = noise(size * sources, seed + number as u32);
        let values = (0..size * size).map(|at| {
            let (i, j) = (at / size, at % size);
            let shared: f32 = (0..sources).map(|s| mix[i * sources + s] * mix[j * sources + s]).sum();
            shared + if i == j { 0.1 } else { 0.0 }
        });
        MomentBlock { size, values: values.collect() }
    };
    SecondMoment { blocks: sizes.iter().enumerate().map(block).collect(), mean: Vec::new(), samples: 1 }
}

fn evidence() -> Evidence {
    let second_moment = BTreeMap::from([("fc1".to_owned(), moment(&[12, 8], 7)), ("fc2".to_owned(), moment(&[18], 9))]);
    Evidence { second_moment, ..Evidence::default() }
}

/// The second moment as one matrix, scaled to a mean diagonal of one and damped.
fn damped(moment: &SecondMoment) -> Vec<Vec<f64>> {
    let n = moment.columns();
    let mut matrix = vec![vec![0f64; n]; n];
    let mut start = 0;
    for block in &moment.blocks {
        for i in 0..block.size {
            for j in 0..block.size {
                matrix[start + i][start + j] = f64::from(block.values[i * block.size + j]);
            }
        }
        start += block.size;
    }
    let mean = (0..n).map(|i| matrix[i][i]).sum::<f64>() / n as f64;
    matrix.iter_mut().flatten().for_each(|value| *value /= mean);
    (0..n).for_each(|i| matrix[i][i] += DAMPING);
    matrix
}

/// `E H`, row by row, where `E` is the difference.
fn pulls(before: &[f32], after: &[f32], h: &[Vec<f64>]) -> Vec<f64> {
    let n = h.len();
    let errors: Vec<f64> = before.iter().zip(after).map(|(a, b)| f64::from(*a) - f64::from(*b)).collect();
    errors.chunks(n).flat_map(|row| (0..n).map(|j| (0..n).map(|i| row[i] * h[i][j]).sum::<f64>())).collect()
}

/// `tr(E H E^T)`, what the outputs make of the difference.
fn output_error(before: &[f32], after: &[f32], h: &[Vec<f64>]) -> f64 {
    let errors = before.iter().zip(after).map(|(a, b)| f64::from(*a) - f64::from(*b));
    errors.zip(pulls(before, after, h)).map(|(error, pull)| error * pull).sum()
}

fn run(pipeline: &str, model: &mut Model, evidence: &Evidence) -> Vec<String> {
    let reports = Pipeline::parse(pipeline).unwrap().run(model, evidence, &mut ()).unwrap();
    model.verify().unwrap();
    reports.into_iter().flat_map(|report| report.changes).collect()
}

fn after(pipeline: &str) -> Model {
    let mut model = network();
    if !pipeline.is_empty() {
        run(pipeline, &mut model, &evidence());
    }
    model
}

fn zeros(values: &[f32]) -> usize {
    values.iter().filter(|&&value| value == 0.0).count()
}

const LAYERS: [&str; 2] = ["fc1", "fc2"];

fn layer_h(name: &str) -> Vec<Vec<f64>> {
    damped(&evidence().second_moment[name])
}

/// Gauss and Jordan.
fn inverse(matrix: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let n = matrix.len();
    let mut rows: Vec<Vec<f64>> = (0..n)
        .map(|i| matrix[i].iter().copied().chain((0..n).map(|j| f64::from(u8::from(i == j)))).collect())
        .collect();
    for i in 0..n {
        let pivot = rows[i][i];
        rows[i].iter_mut().for_each(|value| *value /= pivot);
        let source = rows[i].clone();
        for (_, row) in rows.iter_mut().enumerate().filter(|(k, _)| *k != i) {
            let factor = row[i];
            row.iter_mut().zip(&source).for_each(|(value, s)| *value -= factor * s);
        }
    }
    rows.into_iter().map(|row| row[n..].to_vec()).collect()
}

/// Optimal Brain Surgeon as in the book: one element of one row at a time, the inverse from scratch each time.
fn reference(values: &[f32], h: &[Vec<f64>], count: usize) -> Vec<f64> {
    let n = h.len();
    let mut rows: Vec<Vec<f64>> =
        values.chunks(n).map(|row| row.iter().map(|&value| f64::from(value)).collect()).collect();
    let mut left: Vec<Vec<usize>> = vec![(0..n).collect(); rows.len()];
    for _ in 0..count {
        // For every row that has elements left: cost of its cheapest, its place, and the inverse.
        let candidates = rows.iter().zip(&left).enumerate().filter(|(_, (_, left))| !left.is_empty());
        let best = candidates.map(|(number, (row, left))| {
            let part: Vec<Vec<f64>> = left.iter().map(|&i| left.iter().map(|&j| h[i][j]).collect()).collect();
            let inverse = inverse(&part);
            let cost = |at: usize| row[left[at]].powi(2) / inverse[at][at];
            let at = (0..left.len()).min_by(|&a, &b| cost(a).total_cmp(&cost(b))).unwrap();
            (cost(at), number, at, inverse)
        });
        let (_, number, at, inverse) = best.min_by(|a, b| a.0.total_cmp(&b.0)).unwrap();
        let (row, left) = (&mut rows[number], &mut left[number]);
        let factor = row[left[at]] / inverse[at][at];
        left.iter().enumerate().for_each(|(other, &column)| row[column] -= factor * inverse[other][at]);
        row[left.remove(at)] = 0.0;
    }
    rows.concat()
}

#[test]
fn pruning_is_that_of_the_surgeon_step_by_step() {
    for sparsity in [0.2, 0.5, 0.85] {
        let pruned = after(&format!("prune(sparsity={sparsity}, criterion=obs)"));
        for name in LAYERS {
            let before = read(&network(), name);
            let count = (sparsity * before.len() as f64).round() as usize;
            let expected = reference(&before, &layer_h(name), count);
            let found = read(&pruned, name);
            assert_eq!(zeros(&found), count, "{name} at {sparsity}");
            for (at, (found, expected)) in found.iter().zip(&expected).enumerate() {
                assert!((f64::from(*found) - expected).abs() < 1e-4, "{name}[{at}]: {found}, reference {expected}");
            }
        }
    }
}

#[test]
fn moving_the_others_is_never_worse_than_zeroing_and_here_far_better() {
    for sparsity in [0.1, 0.4, 0.7, 0.95] {
        let pruned = after(&format!("prune(sparsity={sparsity}, criterion=obs)"));
        let by_magnitude = after(&format!("prune(sparsity={sparsity})"));
        for name in LAYERS {
            let (before, h, found) = (read(&network(), name), layer_h(name), read(&pruned, name));
            let zeroed: Vec<f32> =
                before.iter().zip(&found).map(|(&value, &found)| if found == 0.0 { 0.0 } else { value }).collect();
            let moved = output_error(&before, &found, &h);
            assert!(moved <= output_error(&before, &zeroed, &h) * (1.0 + 1e-6), "{name} at {sparsity}");
            let magnitude = output_error(&before, &read(&by_magnitude, name), &h);
            assert!(moved < 0.7 * magnitude, "{name} at {sparsity}: {moved}, by magnitude {magnitude}");
        }
    }
}

#[test]
fn what_is_left_has_no_reason_to_move() {
    let pruned = after("prune(sparsity=0.6, criterion=obs)");
    for name in LAYERS {
        let (before, found) = (read(&network(), name), read(&pruned, name));
        let pulls = pulls(&before, &found, &layer_h(name));
        for (at, _) in found.iter().enumerate().filter(|(_, value)| **value != 0.0) {
            assert!(pulls[at].abs() < 1e-5, "{name}[{at}]: {}", pulls[at]);
        }
    }
}

#[test]
fn zeros_that_were_there_count_and_stay() {
    let mut model = network();
    run("prune(sparsity=0.5)", &mut model, &evidence());
    let before = read(&model, "fc2");
    run("prune(sparsity=0.5, criterion=obs)", &mut model, &evidence());
    assert_eq!(read(&model, "fc2"), before, "nothing was left to do");
    run("prune(sparsity=0.75, criterion=obs)", &mut model, &evidence());
    let found = read(&model, "fc2");
    assert_eq!(zeros(&found), found.len() * 3 / 4);
    assert!(before.iter().zip(&found).all(|(before, found)| *before != 0.0 || found.to_bits() == 0));
}

#[test]
fn the_network_as_a_whole_reaches_the_sparsity_where_the_output_feels_it_least() {
    let mut evidence = evidence();
    evidence.sensitivity = BTreeMap::from([("fc1".to_owned(), 100.0), ("fc2".to_owned(), 1.0)]);
    let mut model = network();
    run("prune(sparsity=0.5, criterion=obs, scope=sensitivity)", &mut model, &evidence);
    let (first, second) = (zeros(&read(&model, "fc1")), zeros(&read(&model, "fc2")));
    assert_eq!(first + second, (FC1[0] * FC1[1] + FC2[0] * FC2[1]) / 2);
    assert!(second > 3 * first, "{first} of the sensitive layer, {second} of the other");
}

#[test]
fn weights_without_evidence_go_by_magnitude_and_are_named() {
    let mut known = evidence();
    known.second_moment.remove("fc2");
    let mut model = network();
    let said = run("prune(sparsity=0.5, criterion=obs)", &mut model, &known);
    assert!(said.iter().any(|line| line.contains("by magnitude") && line.contains("`fc2`") && !line.contains("`fc1`")));
    assert_eq!(read(&model, "fc2"), read(&after("prune(sparsity=0.5)"), "fc2"));
    assert_ne!(read(&model, "fc1"), read(&after("prune(sparsity=0.5)"), "fc1"));
    // Values that a grid ties to each other do not move.
    run("quantize(scheme=uniform, step=0.1), prune(sparsity=0.7, criterion=obs)", &mut model, &known);
    let grids =
        model.weights().filter(|(_, w)| matches!(&w.form, Form::Grid(grid) if grid.kind() == GridKind::Uniform));
    assert_eq!(grids.count(), 2);
}

#[test]
fn without_correlations_the_surgeon_goes_by_magnitude() {
    let mut evidence = evidence();
    for moment in evidence.second_moment.values_mut() {
        let size = moment.columns();
        let values = (0..size * size).map(|at| if at / size == at % size { 3.0 } else { 0.0 }).collect();
        moment.blocks = vec![MomentBlock { size, values }];
    }
    let mut model = network();
    run("prune(sparsity=0.6, criterion=obs)", &mut model, &evidence);
    for name in LAYERS {
        assert_eq!(read(&model, name), read(&after("prune(sparsity=0.6)"), name));
    }
}

#[test]
fn rules_give_single_weights_a_sparsity_and_a_criterion_of_their_own() {
    let recipe = Recipe::parse(
        r#"
        pipeline = "prune(sparsity=0.25, criterion=obs)"
        [[rule]]
        match = "fc2"
        prune = { sparsity = 0.75 }
        "#,
    )
    .unwrap();
    assert_eq!(recipe.options_of("prune").collect::<Vec<_>>(), [("sparsity", "0.75")]);
    let mut model = network();
    let rules = recipe.rules(&model).unwrap();
    let text = recipe.pipeline_text().unwrap().unwrap();
    Pipeline::build(&text, &rules).unwrap().run(&mut model, &evidence(), &mut ()).unwrap();
    assert_eq!(read(&model, "fc1"), read(&after("prune(sparsity=0.25, criterion=obs)"), "fc1"));
    assert_eq!(read(&model, "fc2"), read(&after("prune(sparsity=0.75, criterion=obs)"), "fc2"));
}

const SHARED: [&str; 4] = [
    "share(clusters=6, feedback=F)",
    "prune(sparsity=0.6, criterion=obs), share(clusters=8, feedback=F)",
    "share(clusters=12, lambda=0.01, feedback=F)",
    "prune(sparsity=0.3), share(clusters=auto, output-error=0.02, feedback=F)",
];

/// The pipeline without its last pass.
fn before_sharing(pipeline: &str) -> &str {
    pipeline.rsplit_once("share").map_or("", |(first, _)| first.trim_end_matches(", "))
}

/// Bits of an ideal order-0 code for the codes alone.
fn code_bits(form: &Form) -> f64 {
    let Form::Codebook(codebook) = form else { panic!("the weight is not shared") };
    let mut counts = BTreeMap::<u16, f64>::new();
    codebook.codes().iter().for_each(|&code| *counts.entry(code).or_default() += 1.0);
    counts.values().map(|uses| uses * (codebook.codes().len() as f64 / uses).log2()).sum()
}

#[test]
fn feedback_never_raises_the_error_of_the_outputs_and_keeps_zeros() {
    let mut gains = Vec::new();
    for pipeline in SHARED {
        let (without, with) = (after(&pipeline.replace('F', "off")), after(&pipeline.replace('F', "on")));
        let unshared = after(before_sharing(pipeline));
        for name in LAYERS {
            let (before, h) = (read(&unshared, name), layer_h(name));
            let found = read(&with, name);
            let (plain, fed_back) =
                (output_error(&before, &read(&without, name), &h), output_error(&before, &found, &h));
            assert!(before.iter().zip(&found).all(|(before, found)| *before != 0.0 || *found == 0.0), "{pipeline}");
            // Where bits have a price, that counts too.
            let energy: f64 = before.iter().map(|value| f64::from(*value).powi(2)).sum();
            let price = if pipeline.contains("lambda") { 0.01 * energy / before.len() as f64 } else { 0.0 };
            let bits = |model: &Model| price * code_bits(&model.weight(model.weight_named(name).unwrap()).form);
            assert!(
                pipeline.contains("auto") || fed_back + bits(&with) <= (plain + bits(&without)) * (1.0 + 1e-6),
                "{pipeline}, {name}: {fed_back}, without {plain}"
            );
            gains.push(fed_back / plain);
        }
    }
    // Sparse rows leave less to make up with.
    assert!(gains[..2].iter().all(|gain| *gain < 0.5) && gains[2..4].iter().all(|gain| *gain < 0.8), "{gains:?}");
}

#[test]
fn centroids_are_the_best_for_their_codes() {
    for pipeline in SHARED {
        let shared = after(&pipeline.replace('F', "on"));
        let unshared = after(before_sharing(pipeline));
        for name in LAYERS {
            let form = &shared.weight(shared.weight_named(name).unwrap()).form;
            let Form::Codebook(codebook) = form else { panic!("{name} is not shared") };
            let pulls = pulls(&read(&unshared, name), &read(&shared, name), &layer_h(name));
            for (code, centroid) in codebook.centroids().iter().enumerate().filter(|(_, centroid)| *centroid != 0.0) {
                let uses = codebook.codes().iter().zip(&pulls).filter(|(of, _)| usize::from(**of) == code);
                let slope: f64 = uses.clone().map(|(_, pull)| pull).sum();
                assert!(slope.abs() < 1e-4, "{pipeline}, {name}: slope {slope} at {centroid}");
                assert!(uses.count() > 0, "{pipeline}, {name}: nothing uses {centroid}");
            }
        }
    }
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let pipelines = SHARED.map(|pipeline| pipeline.replace('F', "on"));
    let forms = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| pipelines.clone().map(|pipeline| LAYERS.map(|name| read(&after(&pipeline), name))))
    };
    assert_eq!(forms(1), forms(2));
}
