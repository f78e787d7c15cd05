//! `onnx-dcomp inspect FILE`.

use std::path::PathBuf;

use clap::Args;

use super::terminal::Terminal;
use super::{Shown, print, print_json};
use crate::Error;

/// Show where the bytes of a model are, packed or plain.
#[derive(Debug, Args)]
pub(super) struct Inspect {
    /// The model.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    shown: Shown,
}

pub(super) fn run(arguments: Inspect) -> Result<(), Error> {
    let terminal = Terminal::new(&arguments.shown);
    let inspection = crate::inspect(&arguments.file)?;
    if arguments.shown.json {
        return print_json(&inspection);
    }
    print(&inspection.to_text(terminal.style()))
}
