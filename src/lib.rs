//! A compiler from ONNX to ONNX that makes trained networks small, and proves that they still work.
//!
//! [`Compiler`] compresses a model; the command line is built on it, and so can a build script be. [`decompress()`] gives
//! plain ONNX back, [`Validator`] compares two models on samples, [`inspect()`] tells where the bytes of a file are.
//!
//! ```no_run
//! use onnx_dcomp::{Compiler, Quality};
//!
//! let made = Compiler::new("net.onnx").output("net.packed.onnx").quality(Quality::Balanced).run()?;
//! println!("{} → {} bytes", made.bytes_before, made.bytes_after);
//! # Ok::<(), onnx_dcomp::Error>(())
//! ```
//!
//! | module | what |
//! |---|---|
//! | [`compile`] | [`Compiler`]: from file to file |
//! | [`plan`] | [`Plan`]: which passes run; [`Target`]: what the output is made of |
//! | [`budget`] | the search for the smallest file within a bound |
//! | [`costs`] | what layers take on a processor, for the target `fused` |
//! | [`quality`] | [`Quality`]: what to aim for |
//! | [`evidence`] | what is found out about a network before it is compressed, and kept |
//! | [`fidelity`] | how far the outputs are from the original's, without data |
//! | [`observe`] | what is done beside the passes: verifying, printing, timing |
//! | [`output`] | writing without leaving anything behind |
//! | [`mod@decompress`] | from packed to plain |
//! | [`mod@load`] | running packed models as fast as dense ones |
//! | [`mod@inspect`] | where the bytes are |
//! | [`validation`] | [`Validator`]: two models over a data set, in every runtime |
//! | [`report`] | tables, pages and JSON |
//! | [`watch`] | [`Watch`]: hearing how far long work is |
//! | [`error`] | [`Error`], and the exit codes |
//! | [`cli`] | the command line |

pub mod budget;
pub mod cli;
pub mod compile;
pub mod costs;
pub mod decompress;
pub mod error;
pub mod evidence;
pub mod fidelity;
pub mod inspect;
pub mod load;
pub mod observe;
pub mod output;
pub mod plan;
pub mod quality;
pub mod report;
pub mod validation;
pub mod watch;

pub use budget::{Budget, Search};
pub use compile::Compiler;
pub use costs::{Costs, Tuning};
pub use decompress::{Decompressed, decompress};
pub use error::Error;
pub use inspect::{Inspection, inspect};
pub use load::load;
pub use observe::{PrintAfter, Verify};
pub use onnx_dcomp_codec::Coder;
pub use onnx_dcomp_engine::{EngineError, RuntimeKind, RuntimeOptions};
pub use plan::{Plan, Target};
pub use quality::Quality;
pub use report::{Compilation, Outcome};
pub use validation::{Comparison, Samples, ValidationReport, Validator};
pub use watch::{PassRecord, Watch};

/// The examples of the README.
#[cfg(all(doctest, feature = "tract"))]
#[doc = include_str!("../README.md")]
struct Readme;
