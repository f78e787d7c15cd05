//! `onnx-dcomp IN -o OUT`.

use std::path::PathBuf;

use clap::Args;
use onnx_dcomp_engine::RuntimeKind;
use onnx_dcomp_passes::registry;

use super::samples::{SampleOptions, points, runtime};
use super::terminal::Terminal;
use super::{Shown, print, print_json};
use crate::report::compilation::Detail;
use crate::{Coder, Compiler, Error, Plan, PrintAfter, Quality, Target, Verify};

/// Compress a model.
#[derive(Debug, Args)]
pub(super) struct Compress {
    /// The model.
    // Optional for the type alone: beside another command it is not there.
    #[arg(value_name = "IN", required = true)]
    input: Option<PathBuf>,
    /// Where the compressed model goes; it may be IN.
    #[arg(long, short, value_name = "OUT", required_unless_present = "dry_run")]
    output: Option<PathBuf>,
    #[command(flatten)]
    plan: PlanOptions,
    /// Seed of everything random [default: 0].
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Threads to use; the output does not depend on it [default: all].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// Do everything but write the model.
    #[arg(long)]
    dry_run: bool,
    /// Write a report: a page to read (.html), or JSON for machines (.json).
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Write a Makefile rule that names the files which the output depends on.
    #[arg(long, value_name = "FILE", requires = "output")]
    depfile: Option<PathBuf>,
    /// Samples (a folder or file) to validate on before anything is written.
    #[arg(long, value_name = "DIR", help_heading = "Samples")]
    data: Option<PathBuf>,
    /// Write nothing and exit with 3 where more percentage points are lost.
    #[arg(long, value_name = "POINTS", value_parser = points, allow_negative_numbers = true, requires = "data", help_heading = "Samples")]
    max_drop: Option<f64>,
    /// Runtimes to validate in: tract, ort [default: the first that runs the model].
    #[arg(long, value_name = "LIST", value_parser = runtime, value_delimiter = ',', requires = "data", help_heading = "Samples")]
    runtime: Vec<RuntimeKind>,
    #[command(flatten)]
    samples: SampleOptions,
    #[command(flatten)]
    debugging: Debugging,
    #[command(flatten)]
    shown: Shown,
}

/// What is done to the model.
#[derive(Debug, Args)]
#[command(next_help_heading = "Compression")]
struct PlanOptions {
    /// What to aim for: high, balanced, small, or the fidelity of the output in decibels [default: balanced].
    #[arg(long, value_name = "QUALITY", group = "plan", allow_negative_numbers = true)]
    quality: Option<Quality>,
    /// Change no value: graph and coding only.
    #[arg(long, group = "plan")]
    lossless: bool,
    /// A pipeline with a name; `onnx-dcomp passes` lists them.
    #[arg(long, value_name = "NAME", group = "plan")]
    preset: Option<String>,
    /// A pipeline, such as 'fold, prune(sparsity=0.9), share(clusters=32), pack'.
    #[arg(long, value_name = "TEXT", group = "plan")]
    passes: Option<String>,
    /// A pipeline and rules for single weights, in TOML.
    #[arg(long, value_name = "FILE", group = "plan")]
    recipe: Option<PathBuf>,
    /// What the output is made of: packed (smallest), dense (plain floats, no smaller) [default: packed].
    #[arg(long)]
    target: Option<Target>,
    /// The entropy coder: small (fewest bytes), fast (decodes at memory speed), huffman [default: small, and
    /// fast for the large weights of large models].
    #[arg(long)]
    coder: Option<Coder>,
}

/// For whoever debugs a pass.
#[derive(Debug, Args)]
#[command(next_help_heading = "Debugging")]
struct Debugging {
    /// Print the model as text after a pass, or after all.
    #[arg(long, value_name = "PASS|all")]
    print_after: Option<String>,
    /// Say how long each pass took.
    #[arg(long)]
    time_passes: bool,
    /// Verify the model after every pass.
    #[arg(long)]
    verify_each: bool,
}

pub(super) fn run(arguments: Compress) -> Result<(), Error> {
    let terminal = Terminal::new(&arguments.shown).timing_passes(arguments.debugging.time_passes);
    let shown = arguments.shown.clone();
    let compiled = compiler(arguments)?.run_watched(&terminal)?;
    if shown.json {
        return print_json(&compiled);
    }
    if shown.quiet {
        return Ok(());
    }
    let detail = if shown.verbose > 0 { Detail::Everything } else { Detail::Layers };
    print(&compiled.to_text(terminal.style(), detail))
}

fn compiler(arguments: Compress) -> Result<Compiler, Error> {
    let input = arguments.input.ok_or_else(|| Error::Usage("no model was given".to_owned()))?;
    let mut compiler = Compiler::new(input).plan(arguments.plan.plan());
    if let Some(output) = arguments.output.filter(|_| !arguments.dry_run) {
        compiler = compiler.output(output);
    }
    if let Some(target) = arguments.plan.target {
        compiler = compiler.target(target);
    }
    if let Some(coder) = arguments.plan.coder {
        compiler = compiler.coder(coder);
    }
    if let Some(seed) = arguments.seed {
        compiler = compiler.seed(seed);
    }
    if let Some(threads) = arguments.threads {
        compiler = compiler.threads(usize::from(threads));
    }
    if let Some(depfile) = arguments.depfile {
        compiler = compiler.depfile(depfile);
    }
    if let Some(report) = arguments.report {
        compiler = compiler.report(report);
    }
    if let Some(data) = arguments.data {
        compiler = compiler.validate(arguments.samples.of(data), arguments.runtime, arguments.max_drop);
    }
    if arguments.debugging.verify_each {
        compiler = compiler.verify(Verify::AfterEachPass);
    }
    match arguments.debugging.print_after.as_deref() {
        None => Ok(compiler),
        Some("all") => Ok(compiler.print_after(PrintAfter::All)),
        Some(name) => match registry::find(name) {
            Some(_) => Ok(compiler.print_after(PrintAfter::Pass(name.to_owned()))),
            None => Err(super::passes::unknown(name)),
        },
    }
}

impl PlanOptions {
    fn plan(&self) -> Plan {
        if self.lossless {
            return Plan::Lossless;
        }
        match (&self.preset, &self.passes, &self.recipe) {
            (Some(name), ..) => Plan::Preset(name.clone()),
            (_, Some(text), _) => Plan::Passes(text.clone()),
            (.., Some(file)) => Plan::Recipe(file.clone()),
            _ => Plan::Auto(self.quality.unwrap_or_default()),
        }
    }
}
