//! The compression passes.
//!
//! A pass is a small struct of its options that rewrites a [`Model`](onnx_dcomp_ir::Model): it moves weights from one
//! [`Form`](onnx_dcomp_forms::Form) to a smaller one, or tidies the graph around them. One file a pass:
//!
//! | module | what it does |
//! |---|---|
//! | [`nearest`] | the name that somebody probably meant |
//! | [`options`] | options of a pass, declared once |
//! | [`pass`] | what a pass is, and what it reports |
//! | [`pipeline`] | pipelines: text, presets, running |
//! | [`prune`] | zeroes the smallest elements |
//! | [`recognise`] | finds codebooks in plain floats, bit for bit |
//! | [`registry`] | all passes, by name |
//! | [`selection`] | which weights a pass may change, and with which options |
//! | [`share`] | k-means: alike elements share a value |

pub mod nearest;
pub mod options;
pub mod pass;
pub mod pipeline;
pub mod prune;
pub mod recognise;
pub mod registry;
pub mod selection;
pub mod share;

pub use options::{NoOptions, OptionError, Options};
pub use pass::{Pass, PassError, PassReport};
pub use pipeline::{Observer, PRESETS, Pipeline, PipelineError, PipelineText, Position, Preset, Rules, VerifyEach};
pub use prune::{Prune, PruneOptions};
pub use recognise::{Recognise, RecogniseOptions};
pub use registry::{Configured, PassDescription};
pub use selection::{NamePattern, Selector, Settings};
pub use share::{Share, ShareOptions};
