//! `recognise`: weights that hold few distinct values become codebooks, bit for bit.
//!
//! Models that some other tool has clustered or quantised, and then written as plain floats, are caught here without
//! being told. Lossless, so that every weight of floats is looked at, whatever its role.
//!
//! Cost: one hash look-up for each element, given up at the first value too many.

use onnx_dcomp_forms::{Codebook, Form};
use onnx_dcomp_ir::{Evidence, Model, WeightId};
use rayon::prelude::*;

use crate::registry::Configured;
use crate::selection::{NamePattern, Settings, check_select};
use crate::{Pass, PassError, PassReport};

crate::options! {
    /// Options of [`Recognise`].
    pub struct RecogniseOptions {
        /// The most distinct values that count as few.
        pub max: u32 = 256, within 1..=65536;
        /// Weights to look at, by name.
        pub select: NamePattern = NamePattern::all();
    }
}

/// Turns weights that hold few distinct values into codebooks; see [the module](crate::recognise).
pub struct Recognise {
    settings: Settings<RecogniseOptions>,
}

impl Configured for Recognise {
    type Options = RecogniseOptions;
    const NAME: &'static str = "recognise";
    const SUMMARY: &'static str = "weights that hold few distinct values become codebooks, bit for bit";
    const SOURCE: &'static str =
        "folklore; the values are those of Han, Mao and Dally, Deep Compression, 2016, or the like";

    fn configured(settings: Settings<RecogniseOptions>) -> Self {
        Self { settings }
    }
}

impl From<RecogniseOptions> for Recognise {
    fn from(options: RecogniseOptions) -> Self {
        Self::configured(options.into())
    }
}

impl Pass for Recognise {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn run(&self, model: &mut Model, _: &Evidence) -> Result<PassReport, PassError> {
        check_select(Self::NAME, &self.settings.base().select, model)?;
        let ids: Vec<WeightId> = model.weights().map(|(id, _)| id).collect();
        let shared: &Model = model;
        let found: Vec<(WeightId, Form)> =
            ids.par_iter().filter_map(|&id| Some((id, self.codebook(shared, id)?))).collect();
        let mut report = PassReport::default();
        if !found.is_empty() {
            report.note(format!("recognised {} weights as codebooks", found.len()));
        }
        for (id, form) in found {
            model.weight_mut(id).form = form;
        }
        Ok(report)
    }
}

impl Recognise {
    fn codebook(&self, model: &Model, id: WeightId) -> Option<Form> {
        let weight = model.weight(id);
        let options = self.settings.for_weight(weight)?;
        let is_open = matches!(weight.form, Form::Dense(_) | Form::Sparse(_))
            && weight.dtype().is_float()
            && weight.len() >= Model::MIN_WEIGHT_LEN
            && options.select.matches(&weight.name);
        let codebook = is_open.then(|| Codebook::recognise(&weight.form.dense(), options.max as usize))??;
        let form = Form::Codebook(codebook);
        (form.order0_bits() < weight.form.order0_bits()).then_some(form)
    }
}
