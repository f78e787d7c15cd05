//! The samples that passes may learn from: nobody looks at their labels, and where a folder has a training side, no
//! candidate is measured on them.

use onnx_dcomp_engine::dataset::half::halves;
use onnx_dcomp_engine::evidence::{self, EvidenceKey, EvidenceOptions, Follower};
use onnx_dcomp_engine::{DataFolder, Dataset, EngineError, PreprocessOptions, declared};
use onnx_dcomp_ir::{Evidence, Model};

use crate::validation::Samples;
use crate::{Error, Watch};

/// The training side of a folder, or where it has none the half that a search looks at.
pub(crate) struct CalibrationSamples {
    data: Box<dyn Dataset>,
    /// Which these are, in words.
    side: &'static str,
}

impl CalibrationSamples {
    /// Finds them in the folder of `samples`, as inputs of `model`; `seed` draws the halves.
    ///
    /// # Errors
    /// Where the folder cannot be read, or a sample does not fit the model.
    pub(crate) fn open(
        model: &Model,
        samples: &Samples,
        preprocess: &PreprocessOptions,
        seed: u64,
    ) -> Result<Self, Error> {
        let (inputs, outputs) = (declared::inputs(model)?, declared::outputs(model)?);
        let folder = DataFolder::open(&samples.path, &preprocess.resolve(&inputs, &outputs)?)?;
        let measured = samples.split.as_deref().or(folder.default_split());
        let training = folder.training_split().filter(|split| Some(*split) != measured);
        let (data, side): (Box<dyn Dataset>, _) = match training {
            Some(split) => (folder.dataset(Some(split), None)?, "of the training side, without labels"),
            None => {
                let [searched, _] = halves(folder.dataset(samples.split.as_deref(), samples.limit)?, seed);
                (Box::new(searched), "of the half that a search looks at, without labels")
            }
        };
        data.sample(0)?.check(&inputs)?;
        Ok(Self { data, side })
    }

    /// What [`Self::calibrate`] depends on.
    ///
    /// # Errors
    /// Where a sample cannot be read.
    pub(crate) fn key(&self, model: &Model, options: &EvidenceOptions) -> Result<EvidenceKey, EngineError> {
        EvidenceKey::of_samples(model, self.data.as_ref(), options)
    }

    /// Follows `model`, or what is made from it, on some of the samples.
    ///
    /// # Errors
    /// Where a sample cannot be read, or no runtime takes the model.
    pub(crate) fn follower(&self, model: &Model) -> Result<Follower, EngineError> {
        Follower::new(model, self.data.as_ref())
    }

    /// Runs `model` on the samples.
    ///
    /// # Errors
    /// Where a sample cannot be read, or the model does not run on it.
    pub(crate) fn calibrate(
        &self,
        model: &Model,
        options: &EvidenceOptions,
        watch: &dyn Watch,
    ) -> Result<Evidence, EngineError> {
        watch.begin("calibrating", None);
        let gathered = evidence::calibrate(model, self.data.as_ref(), options, &mut |_, _| {});
        watch.end();
        let mut gathered = gathered?;
        gathered.source = gathered.source.replacen("samples", &format!("samples {}", self.side), 1);
        Ok(gathered)
    }
}
