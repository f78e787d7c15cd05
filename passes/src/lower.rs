//! `lower`: forms become what a plain ONNX file can hold.
//!
//! The target `dense` writes every weight as plain floats with its compressed values: what any runtime reads, and what
//! a packed file decodes to. Weights that were packed before stay packed.

use onnx_dcomp_forms::Form;
use onnx_dcomp_ir::{Evidence, Model, WeightId};

use crate::registry::Configured;
use crate::selection::Settings;
use crate::{Pass, PassError, PassReport};

crate::choices! {
    /// What forms are turned into.
    pub enum Target {
        /// Plain floats.
        Dense = "dense",
    }
}

crate::options! {
    /// Options of [`Lower`].
    pub struct LowerOptions {
        /// What forms are turned into.
        pub target: Target = Target::Dense;
    }
}

/// Turns forms into plain tensors; see [the module](crate::lower).
pub struct Lower {
    settings: Settings<LowerOptions>,
}

impl Configured for Lower {
    type Options = LowerOptions;
    const NAME: &'static str = "lower";
    const SUMMARY: &'static str = "forms become plain tensors that any runtime reads";
    const SOURCE: &'static str = "every compiler's last pass";

    fn configured(settings: Settings<LowerOptions>) -> Self {
        Self { settings }
    }
}

impl Pass for Lower {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn run(&self, model: &mut Model, _: &Evidence) -> Result<PassReport, PassError> {
        let Target::Dense = self.settings.base().target;
        let ids: Vec<WeightId> = model.weights().map(|(id, _)| id).collect();
        let mut report = PassReport::default();
        let mut lowered = 0;
        for id in ids {
            let weight = model.weight(id);
            let is_plain = matches!(weight.form, Form::Dense(_)) || weight.stored_bytes.is_some();
            if self.settings.for_weight(weight).is_some() && !is_plain {
                let dense = weight.form.dense();
                model.weight_mut(id).form = Form::Dense(dense);
                lowered += 1;
            }
        }
        report.note(format!("wrote {lowered} weights as plain values"));
        Ok(report)
    }
}
