//! What is found out about a network before its weights are compressed.
//!
//! | module | what |
//! |---|---|
//! | `calibration` | the samples that passes may learn from |
//! | [`kept`] | evidence that is kept in a file from one compilation to the next |

mod calibration;
pub mod kept;

use std::sync::Arc;

use onnx_dcomp_engine::evidence::{self, EvidenceKey, EvidenceOptions, Follower};
use onnx_dcomp_engine::{EngineError, PreprocessOptions};
use onnx_dcomp_ir::{Evidence, Follow, Model};
use onnx_dcomp_passes::{Observer, PassError, PassReport, Pipeline};

pub(crate) use calibration::CalibrationSamples;
pub(crate) use kept::KeptFile;
pub use kept::{EvidenceRecord, Found};

use crate::{Error, Watch};

/// What passes may ask about a model.
#[derive(Clone, Default)]
pub(crate) struct Knowledge {
    pub(crate) evidence: Arc<Evidence>,
    /// The network on samples, layer by layer; where there are samples to learn from.
    pub(crate) follower: Option<Arc<Follower>>,
}

impl Knowledge {
    /// Runs `pipeline` on `model` with what is known.
    pub(crate) fn run(
        &self,
        pipeline: &Pipeline,
        model: &mut Model,
        observer: &mut dyn Observer,
    ) -> Result<Vec<PassReport>, PassError> {
        let follow = self.follower.as_deref().map(|follower| -> &dyn Follow { follower });
        pipeline.run_following(model, &self.evidence, follow, observer)
    }
}

/// How evidence is gathered in one compilation.
pub(crate) struct Gathering {
    options: EvidenceOptions,
    /// The samples that serve; `None`: synthetic inputs.
    samples: Option<CalibrationSamples>,
    kept: Option<KeptFile>,
}

impl Gathering {
    /// From `samples`, or where there are none from synthetic inputs that fit what `preprocess` says; `kept` is looked
    /// into first.
    pub(crate) fn new(
        preprocess: &PreprocessOptions,
        seed: u64,
        samples: Option<CalibrationSamples>,
        kept: Option<KeptFile>,
    ) -> Self {
        let options = EvidenceOptions { seed, preprocess: preprocess.clone(), ..EvidenceOptions::default() };
        Self { options, samples, kept }
    }

    /// What is known of the weights of `model`.
    ///
    /// A network that cannot be run on synthetic inputs is no error: its weights alone must do, and the source of the
    /// evidence says so.
    ///
    /// # Errors
    /// Where a sample cannot be read, the model does not run on it, or the preprocessing does not fit the model; and
    /// where the file of evidence cannot be written.
    pub(crate) fn gather(&mut self, model: &Model, watch: &dyn Watch) -> Result<Knowledge, Error> {
        let evidence = self.evidence(model, watch)?;
        let follower = match &self.samples {
            // Where no layer was found there is nothing to follow.
            Some(samples) if !evidence.second_moment.is_empty() => Some(Arc::new(samples.follower(model)?)),
            _ => None,
        };
        Ok(Knowledge { evidence, follower })
    }

    fn evidence(&mut self, model: &Model, watch: &dyn Watch) -> Result<Arc<Evidence>, Error> {
        let key = self.kept.is_some().then(|| self.key(model, watch)).transpose()?;
        if let (Some(kept), Some(key)) = (&mut self.kept, &key)
            && let Some(found) = kept.find(key)
        {
            return Ok(found);
        }
        let gathered = Arc::new(match &self.samples {
            Some(samples) => samples.calibrate(model, &self.options, watch)?,
            None => self.estimate(model, watch)?,
        });
        if let (Some(kept), Some(key)) = (&mut self.kept, key) {
            kept.keep(key, &gathered)?;
        }
        Ok(gathered)
    }

    /// What became of the file of evidence, where one was named.
    pub(crate) fn into_record(self) -> Option<EvidenceRecord> {
        self.kept.map(KeptFile::into_record)
    }

    fn key(&self, model: &Model, watch: &dyn Watch) -> Result<EvidenceKey, Error> {
        watch.begin("looking for evidence", None);
        let key = match &self.samples {
            Some(samples) => samples.key(model, &self.options),
            None => EvidenceKey::of_synthetic(model, &self.options),
        };
        watch.end();
        Ok(key?)
    }

    /// Runs `model` on synthetic inputs.
    fn estimate(&self, model: &Model, watch: &dyn Watch) -> Result<Evidence, Error> {
        let mut is_begun = false;
        let gathered = evidence::gather(model, &self.options, &mut |done, total| {
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
            gathered => Ok(gathered?),
        }
    }
}
