//! `onnx-dcomp tune [-o FILE]`.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;

use super::terminal::Terminal;
use super::{Shown, print, print_json};
use crate::Error;
use crate::costs::Costs;
use crate::output::Staged;

/// Measure what layers take on this machine, dense and on compressed weights, for `--target fused --tune=FILE`.
#[derive(Debug, Args)]
pub(super) struct Tune {
    /// Where the costs go, in TOML.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    shown: Shown,
}

pub(super) fn run(arguments: Tune) -> Result<(), Error> {
    let terminal = Terminal::new(&arguments.shown);
    let staged = arguments.output.as_deref().map(Staged::beside).transpose()?;
    let costs = Costs::measure(&terminal)?;
    if let Some(staged) = staged {
        staged.save_bytes(costs.to_toml().as_bytes())?;
        staged.commit()?;
    }
    if arguments.shown.json {
        return print_json(&costs);
    }
    if arguments.shown.quiet {
        return Ok(());
    }
    let mut text = String::new();
    let lines = [
        ("an element of a dense matrix in memory", costs.dense),
        ("an element of a dense matrix in a cache", costs.cached),
        ("an element of a matrix of four-bit codes", costs.code),
        ("a non-zero of a sparse matrix", costs.nonzero),
        ("a multiplication of a dense convolution", costs.multiplication),
        ("a multiplication of a sparse convolution", costs.filter),
    ];
    for (what, picoseconds) in lines {
        let _ = writeln!(text, "{what:<42} {picoseconds:>7.1} ps");
    }
    let percent = |dense: f64, sparse: f64| 100.0 * (dense / sparse).min(1.0);
    let _ = writeln!(
        text,
        "\nfaster on compressed weights: matrices of up to {:.0} % of non-zeros ({:.0} % in a cache), convolutions of up to \
         {:.0} %",
        percent(costs.dense, costs.nonzero),
        percent(costs.cached, costs.nonzero),
        percent(costs.multiplication, costs.filter),
    );
    print(&text)
}
