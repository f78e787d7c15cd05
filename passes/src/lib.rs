//! The compression passes.
//!
//! A pass is a small struct of its options that rewrites a [`Model`](onnx_dcomp_ir::Model): it moves weights from one
//! [`Form`](onnx_dcomp_forms::Form) to a smaller one, or tidies the graph around them. One file a pass:
//!
//! | module | what it does |
//! |---|---|
//! | `bias` | what a bias makes good |
//! | [`curvature`] | what the output of a layer makes of errors in its weight |
//! | `drift` | what a weight should rather be where its layer's input has moved |
//! | [`fold`] | what can be computed before the model runs: constants, BatchNormalization, dead code |
//! | `following` | work in the order of the network |
//! | [`fuse`] | products compute on compressed weights |
//! | [`graph_bytes`](mod@graph_bytes) | how large a model is beside its weights |
//! | [`int4`] | matrices become 4-bit blocks, on which runtimes compute |
//! | [`low_rank`] | kernels become two thin ones and a sparse one |
//! | [`lower`] | forms become plain tensors |
//! | [`nearest`] | the name that somebody probably meant |
//! | [`options`](mod@options) | options of a pass, declared once |
//! | [`pack`] | entropy-codes the weights into `DcompDecode` nodes |
//! | [`pass`] | what a pass is, and what it reports |
//! | [`pipeline`] | pipelines: text, presets, running |
//! | [`portable`] | weights become what nodes of standard operators compute |
//! | [`print`](mod@print) | a model as text |
//! | [`prune`] | zeroes the smallest elements, or those that the outputs miss least |
//! | [`quantize`] | moves elements to a grid, by rate and distortion |
//! | [`recipe`] | recipes: a pipeline, and rules for single weights, in TOML |
//! | [`recognise`] | finds codebooks in plain floats, bit for bit |
//! | [`registry`] | all passes, by name |
//! | [`selection`] | which weights a pass may change, and with which options |
//! | [`share`] | k-means: alike elements share a value |
//! | [`strip`] | short names, no documentation, no defaults |

mod bias;
pub mod curvature;
mod drift;
pub mod fold;
mod following;
pub mod fuse;
pub mod graph_bytes;
pub mod int4;
pub mod low_rank;
pub mod lower;
pub mod nearest;
mod node;
pub mod options;
pub mod pack;
pub mod pass;
pub mod pipeline;
pub mod portable;
pub mod print;
mod products;
pub mod prune;
pub mod quantize;
pub mod recipe;
pub mod recognise;
pub mod registry;
pub mod selection;
pub mod share;
pub mod strip;

pub use fold::Fold;
pub use fuse::{Fuse, FuseOptions};
pub use graph_bytes::graph_bytes;
pub use int4::{Int4, Int4Options};
pub use low_rank::{LowRank, LowRankOptions};
pub use lower::Lower;
pub use options::{NoOptions, OptionError, Options};
pub use pack::{Pack, PackOptions};
pub use pass::{Pass, PassError, PassReport};
pub use pipeline::{Observer, PRESETS, Pipeline, PipelineError, PipelineText, Position, Preset, Rules, VerifyEach};
pub use portable::{Portable, PortableOptions};
pub use print::print_model;
pub use prune::{Prune, PruneOptions};
pub use quantize::{Quantize, QuantizeOptions};
pub use recipe::{Quality, Recipe, RecipeError};
pub use recognise::{Recognise, RecogniseOptions};
pub use registry::{Configured, PassDescription};
pub use selection::{NamePattern, Selector, Settings};
pub use share::{Share, ShareOptions};
pub use strip::Strip;
