//! What a [`Compiler`] can be asked for.

use std::path::PathBuf;

use onnx_dcomp_codec::Coder;
use onnx_dcomp_engine::RuntimeKind;

use super::{Check, Compiler};
use crate::budget::Goal;
use crate::observe::{PrintAfter, Verify};
use crate::validation::Samples;
use crate::{Plan, Quality, Target, Tuning};

impl Compiler {
    /// Where the compressed model goes; it may be the input itself. Default: nothing is written.
    #[must_use]
    pub fn output(mut self, path: impl Into<PathBuf>) -> Self {
        self.output = Some(path.into());
        self
    }

    /// What to aim for. Default: balanced.
    #[must_use]
    pub fn quality(self, quality: Quality) -> Self {
        self.plan(Plan::Auto(quality))
    }

    /// What to do. Default: the default pipeline, at balanced quality.
    #[must_use]
    pub fn plan(mut self, plan: Plan) -> Self {
        self.plan = plan;
        self
    }

    /// What the output is made of. Default: packed.
    #[must_use]
    pub fn target(mut self, target: Target) -> Self {
        self.choices.target = target;
        self
    }

    /// What layers take on the processor that will run the model, where layers are fused. Default: that of an AMD EPYC.
    #[must_use]
    pub fn tune(mut self, tuning: Tuning) -> Self {
        self.tuning = Some(tuning);
        self
    }

    /// The entropy coder, where the plan does not name one. Default: the pass `pack` chooses, for size first.
    #[must_use]
    pub fn coder(mut self, coder: Coder) -> Self {
        self.choices.coder = Some(coder);
        self
    }

    /// Seed of everything random, where the plan does not name one. Default: 0.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.choices.seed = Some(seed);
        self
    }

    /// Threads to use; 0 takes those of the surrounding thread pool. The output does not depend on it. Default: 0.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }

    /// Validates on these samples, in the first of `runtimes` that runs the model (all runtimes where there is none),
    /// before anything is written. Where more than `max_drop` percentage points are lost, nothing is written and
    /// [`Self::run`] ends with [`Error::Budget`](crate::Error::Budget). Default: no validation.
    #[must_use]
    pub fn validate(mut self, samples: Samples, runtimes: Vec<RuntimeKind>, max_drop: Option<f64>) -> Self {
        let calibrates = self.check.is_some_and(|check| check.calibrates);
        self.check = Some(Check { samples, runtimes, goal: max_drop.map(Goal::max_drop), calibrates });
        self
    }

    /// Keeps to `goal` on these samples. Where the plan leaves open how finely weights are quantised (as
    /// [`Plan::Search`] does), the smallest file that keeps it, or the best that fits, is searched, with what the
    /// training side of the samples (without its labels) tells of the weights; else the goal is checked. Where it
    /// cannot be kept, nothing is written and [`Self::run`] ends with [`Error::Unmet`](crate::Error::Unmet) or
    /// [`Error::Budget`](crate::Error::Budget).
    #[must_use]
    pub fn budget(mut self, samples: Samples, runtimes: Vec<RuntimeKind>, goal: Goal) -> Self {
        self.check = Some(Check { samples, runtimes, goal: Some(goal), calibrates: true });
        self
    }

    /// Keeps to a number of bytes without samples. Where the plan leaves open how finely weights are quantised, the best
    /// file that fits is searched, by the error of the outputs on synthetic inputs; else the bytes are checked. Where
    /// nothing fits, nothing is written and [`Self::run`] ends with [`Error::Unmet`](crate::Error::Unmet). A goal of
    /// [`Self::budget`] comes first. Default: any number.
    #[must_use]
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = Some(bytes);
        self
    }

    /// Lets the passes learn from the training side of the samples that [`Self::validate`] or [`Self::budget`] names,
    /// instead of from synthetic inputs. Default: only where a budget is searched.
    #[must_use]
    pub fn calibrate(mut self, calibrates: bool) -> Self {
        if let Some(check) = &mut self.check {
            check.calibrates = calibrates;
        }
        self
    }

    /// Verifies the model after every pass. Default: after the last one.
    #[must_use]
    pub fn verify(mut self, verify: Verify) -> Self {
        self.observing.verify = verify;
        self
    }

    /// Makes a text of the model after passes, for [`Watch::pass`](crate::Watch::pass). Default: none.
    #[must_use]
    pub fn print_after(mut self, passes: PrintAfter) -> Self {
        self.observing.print_after = passes;
        self
    }

    /// Writes a Makefile rule that says which files the output depends on. Default: none.
    #[must_use]
    pub fn depfile(mut self, path: impl Into<PathBuf>) -> Self {
        self.depfile = Some(path.into());
        self
    }
}
