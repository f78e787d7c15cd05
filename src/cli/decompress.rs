//! `onnx-dcomp decompress IN -o OUT`.

use std::path::PathBuf;

use clap::Args;

use super::terminal::Terminal;
use super::{Shown, print, print_json};
use crate::Error;
use crate::report::style::grouped;

/// Turn a packed or portable model back into plain ONNX.
#[derive(Debug, Args)]
pub(super) struct Decompress {
    /// The packed or portable model.
    #[arg(value_name = "IN")]
    input: PathBuf,
    /// Where the plain model goes; it may be IN.
    #[arg(long, short, value_name = "OUT")]
    output: PathBuf,
    #[command(flatten)]
    shown: Shown,
}

pub(super) fn run(arguments: Decompress) -> Result<(), Error> {
    let terminal = Terminal::new(&arguments.shown);
    let done = crate::decompress(&arguments.input, &arguments.output, &terminal)?;
    if arguments.shown.json {
        return print_json(&done);
    }
    if arguments.shown.quiet {
        return Ok(());
    }
    let what = match done.payloads {
        0 if done.weights > 0 => format!("{} weights from standard operators", done.weights),
        0 => "the model was plain already".to_owned(),
        1 => format!("{} weights from one payload", done.weights),
        payloads => format!("{} weights from {payloads} payloads", done.weights),
    };
    print(&format!(
        "{}: {what}, {} → {} bytes\n",
        done.output.display(),
        grouped(done.bytes_before),
        grouped(done.bytes_after)
    ))
}
