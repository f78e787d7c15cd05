//! Evidence from synthetic inputs: what it says, and that it says the same twice.

#![cfg(feature = "tract")]

use std::path::{Path, PathBuf};

use onnx_dcomp_engine::PreprocessOptions;
use onnx_dcomp_engine::evidence::{EvidenceOptions, gather, synthetic};
use onnx_dcomp_ir::{Evidence, Model};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures").join(name)
}

fn evidence_of(name: &str, options: &EvidenceOptions) -> (Model, Evidence) {
    let path = fixture(name);
    let model = Model::open(&path).expect("the fixture is there");
    let preprocess = PreprocessOptions::beside(&path).expect("readable").unwrap_or_default();
    let options = EvidenceOptions { preprocess, ..options.clone() };
    let evidence = gather(&model, &options, &mut |done, total| assert!(done <= total)).expect("evidence");
    (model, evidence)
}

fn few() -> EvidenceOptions {
    EvidenceOptions { samples: 32, ..EvidenceOptions::default() }
}

#[test]
fn every_kernel_and_bias_of_lenet_gets_a_sensitivity() {
    let (model, evidence) = evidence_of("lenet5.onnx", &few());
    for (_, weight) in model.weights() {
        let sensitivity = evidence.sensitivity.get(&weight.name);
        assert!(sensitivity.is_some_and(|s| s.is_finite() && *s > 0.0), "{}: {sensitivity:?}", weight.name);
    }
    assert!(evidence.source.contains("synthetic images"), "{}", evidence.source);
}

#[test]
fn second_moments_cover_the_rows_and_are_symmetric() {
    let (model, evidence) = evidence_of("lenet5.onnx", &few());
    assert_eq!(evidence.second_moment.len(), 4);
    for (name, moment) in &evidence.second_moment {
        let weight = model.weight(model.weight_named(name).expect("the weight is there"));
        assert_eq!(moment.columns(), weight.len() / weight.shape[0], "{name}");
        for block in &moment.blocks {
            for row in 0..block.size {
                assert!(block.values[row * block.size + row] >= 0.0, "{name}: a mean square is not negative");
                for column in 0..row {
                    let (a, b) = (block.values[row * block.size + column], block.values[column * block.size + row]);
                    assert!((a - b).abs() <= 1e-4 * (1.0 + a.abs()), "{name}: {a} and {b}");
                }
            }
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_evidence_on_any_number_of_threads() {
    let with = |threads: usize, seed: u64| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads start");
        pool.install(|| evidence_of("lenet300.onnx", &EvidenceOptions { seed, ..few() }).1)
    };
    let evidence = with(1, 7);
    assert_eq!(evidence, with(3, 7));
    assert_ne!(evidence, with(1, 8));
}

#[test]
fn a_model_too_large_to_run_is_judged_by_its_weights() {
    let options = EvidenceOptions { largest_model_bytes: 1000, ..few() };
    let (_, evidence) = evidence_of("lenet300.onnx", &options);
    assert!(evidence.sensitivity.is_empty() && evidence.second_moment.is_empty());
    assert!(evidence.source.contains("the weights alone"), "{}", evidence.source);
}

#[test]
fn a_model_that_no_runtime_knows_is_judged_by_its_weights() {
    let (_, evidence) = evidence_of("models/unknown_domain.onnx", &few());
    assert!(evidence.sensitivity.is_empty());
    assert!(evidence.source.contains("the weights alone"), "{}", evidence.source);
}

#[test]
fn recurrent_embedding_and_shared_models_do_not_fail() {
    for name in ["lstm", "embedding", "shared_weight", "grouped_convolutions", "if_branches", "half_precision"] {
        let (_, evidence) = evidence_of(&format!("models/{name}.onnx"), &few());
        assert!(!evidence.source.is_empty(), "{name}");
        assert!(evidence.sensitivity.values().all(|s| s.is_finite() && *s > 0.0), "{name}");
    }
}

#[test]
fn generators_depend_on_their_seed_alone() {
    use rand::RngExt;
    let draw = |seed: u64| synthetic::generator(seed).random_range(0.0f64..1.0);
    assert_eq!(draw(3).to_bits(), draw(3).to_bits());
    assert_ne!(draw(3).to_bits(), draw(4).to_bits());
}
