//! The compression passes.
//!
//! A pass is a small struct of its options that rewrites a [`Model`](onnx_dcomp_ir::Model): it moves weights from one
//! [`Form`](onnx_dcomp_forms::Form) to a smaller one, or tidies the graph around them. One file a pass:
//!
//! | module | what it does |
//! |---|---|
//! | [`options`] | options of a pass, declared once |
//! | [`pass`] | what a pass is, and what it reports |

pub mod nearest;
pub mod options;
pub mod pass;

pub use options::{NoOptions, Options};
pub use pass::{Pass, PassError, PassReport};
