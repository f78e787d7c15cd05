//! What is found out about a network without data, before its weights are compressed.

use onnx_dcomp_engine::evidence::{self, EvidenceOptions};
use onnx_dcomp_engine::{EngineError, PreprocessOptions};
use onnx_dcomp_ir::{Evidence, Model};

use crate::budget::judge::Judge;
use crate::{Error, Watch};

/// Runs `model` on inputs drawn from `seed` and finds out how much its output moves with each weight.
///
/// A network that cannot be run is no error: its weights alone must do, and the source of the evidence says so.
///
/// # Errors
/// Where the preprocessing does not fit the model: the user's to mend.
pub(crate) fn gather(
    model: &Model,
    preprocess: &PreprocessOptions,
    seed: u64,
    watch: &dyn Watch,
) -> Result<Evidence, EngineError> {
    let options = EvidenceOptions { seed, preprocess: preprocess.clone(), ..EvidenceOptions::default() };
    let mut is_begun = false;
    let gathered = evidence::gather(model, &options, &mut |done, total| {
        if !is_begun {
            watch.begin("estimating sensitivity", Some(total as u64));
            is_begun = true;
        }
        watch.advance(done as u64);
    });
    watch.end();
    match gathered {
        Err(error) if !matches!(error, EngineError::Preprocess { .. }) => {
            Ok(Evidence { source: format!("the weights alone, since {error}"), ..Evidence::default() })
        }
        gathered => gathered,
    }
}

/// Runs `model` on the samples that may be learnt from.
///
/// # Errors
/// Where a sample cannot be read, or the model does not run on it.
pub(crate) fn calibrate(
    model: &Model,
    judge: &Judge,
    preprocess: &PreprocessOptions,
    seed: u64,
    watch: &dyn Watch,
) -> Result<Evidence, Error> {
    let options = EvidenceOptions { seed, preprocess: preprocess.clone(), ..EvidenceOptions::default() };
    watch.begin("calibrating", None);
    let gathered = evidence::calibrate(model, judge.training(), &options, &mut |_, _| {});
    watch.end();
    let mut gathered = gathered?;
    let side = if judge.has_training_side() {
        "of the training side, without labels"
    } else {
        "of the search, without labels"
    };
    gathered.source = gathered.source.replacen("samples", &format!("samples {side}"), 1);
    Ok(gathered)
}
