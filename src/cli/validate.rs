//! `onnx-dcomp validate A B --data DIR`.

use std::path::PathBuf;

use clap::Args;
use onnx_dcomp_engine::RuntimeKind;

use super::samples::{SampleOptions, points, runtime};
use super::terminal::Terminal;
use super::{Shown, print, print_json};
use crate::{Error, Validator};

/// Compare two models on samples, in every runtime.
#[derive(Debug, Args)]
#[command(after_help = "Exit code 3 where more than --max-drop points are lost, or the runtimes disagree.")]
pub(super) struct Validate {
    /// The original.
    #[arg(value_name = "A")]
    original: PathBuf,
    /// Its compressed form, packed or plain.
    #[arg(value_name = "B")]
    compressed: PathBuf,
    /// Samples: a folder or file.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Runtimes to run both in: tract, ort [default: all that are there].
    #[arg(long, value_name = "LIST", value_parser = runtime, value_delimiter = ',')]
    runtime: Vec<RuntimeKind>,
    /// Exit with 3 where more percentage points are lost.
    #[arg(long, value_name = "POINTS", value_parser = points, allow_negative_numbers = true)]
    max_drop: Option<f64>,
    /// Threads that one operator may use [default: 1].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    #[command(flatten)]
    samples: SampleOptions,
    #[command(flatten)]
    shown: Shown,
}

pub(super) fn run(arguments: Validate) -> Result<(), Error> {
    let terminal = Terminal::new(&arguments.shown);
    let report = Validator::new(arguments.original, arguments.compressed, arguments.samples.of(arguments.data))
        .runtimes(arguments.runtime)
        .max_drop(arguments.max_drop)
        .threads(usize::from(arguments.threads.unwrap_or(1)))
        .run(&terminal)?;
    if arguments.shown.json {
        print_json(&report)?;
    } else if !arguments.shown.quiet {
        print(&report.to_text(terminal.style()))?;
    }
    report.check("")
}
