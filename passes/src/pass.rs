//! What a pass is, and what it reports.

use onnx_dcomp_ir::{Evidence, Follow, Model};

/// One step of a pipeline.
pub trait Pass: Send + Sync {
    /// The name by which pipelines and recipes call it.
    fn name(&self) -> &'static str;

    /// Rewrites `model`.
    ///
    /// # Errors
    /// [`PassError`] says which weight or node stood in the way. The model may then be half rewritten: drop it.
    fn run(&self, model: &mut Model, evidence: &Evidence) -> Result<PassReport, PassError>;

    /// Rewrites `model` layer by layer, where the pass knows how to make good in one layer what it has done to those
    /// before, which `follow` says; else as [`Self::run`].
    ///
    /// # Errors
    /// As [`Self::run`].
    fn run_following(
        &self,
        model: &mut Model,
        evidence: &Evidence,
        _follow: &dyn Follow,
    ) -> Result<PassReport, PassError> {
        self.run(model, evidence)
    }
}

/// What a pass did, in words for people.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PassReport {
    /// One line for each thing of note: "folded 21 BatchNormalization nodes".
    pub changes: Vec<String>,
}

impl PassReport {
    /// Adds a line.
    pub fn note(&mut self, change: impl Into<String>) {
        self.changes.push(change.into());
    }
}

/// Why a pass cannot do its work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PassError {
    /// An option that is outside its range, or does not go with another: the user's to mend.
    #[error("pass `{pass}`: option `{option}`: {reason}")]
    Option {
        /// Name of the pass.
        pass: &'static str,
        /// Name of the option.
        option: &'static str,
        /// What was found, and what is allowed.
        reason: String,
    },
    /// A weight or node that the pass cannot handle and may not leave alone.
    #[error("pass `{pass}`: `{subject}`: {reason}")]
    Subject {
        /// Name of the pass.
        pass: &'static str,
        /// Name of the weight or node.
        subject: String,
        /// What stood in the way.
        reason: String,
    },
    /// The pass left a model that contradicts itself: a bug in the pass, not in the input.
    #[error("pass `{pass}` left an inconsistent model; this is a bug in onnx-dcomp")]
    Inconsistent {
        /// Name of the pass.
        pass: &'static str,
        /// What [`Model::verify`] found.
        #[source]
        source: Box<onnx_dcomp_ir::IrError>,
    },
}
