//! `onnx-dcomp IN -o OUT`.

use std::path::PathBuf;

use clap::Args;
use onnx_dcomp_engine::RuntimeKind;
use onnx_dcomp_engine::validate::DropMetric;
use onnx_dcomp_passes::registry;

use super::samples::{SampleOptions, points, runtime};
use super::terminal::Terminal;
use super::{Shown, print, print_json};
use crate::budget::goal::metric;
use crate::budget::{Budget, Confidence, Floor, Goal};
use crate::report::compilation::Detail;
use crate::{Coder, Compiler, Error, Plan, PrintAfter, Quality, Target, Tuning, Verify};

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
    /// Keep what is found out about the weights in FILE; where model, samples and options are those that it was found
    /// out with, it is read from there instead. The output is the same.
    #[arg(long, value_name = "FILE")]
    evidence: Option<PathBuf>,
    /// Write a Makefile rule that names the files which the output depends on.
    #[arg(long, value_name = "FILE", requires = "output")]
    depfile: Option<PathBuf>,
    /// Samples (a folder or file) to validate on before anything is written.
    #[arg(long, value_name = "DIR", help_heading = "Samples")]
    data: Option<PathBuf>,
    /// Search the smallest file that loses at most so many percentage points; with a plan that says how finely to
    /// quantise, write nothing where more are lost. Exit code 3 where that cannot be kept.
    #[arg(long, value_name = "POINTS", value_parser = points, requires = "data", help_heading = "Budget")]
    max_drop: Option<f64>,
    /// How certain it must be that no more is lost on samples that nobody has seen, in percent; 50 asks for no margin
    /// [default: 50].
    #[arg(long, value_name = "PERCENT", requires = "max_drop", help_heading = "Budget")]
    confidence: Option<Confidence>,
    /// Search the best file of at most so many bytes; without samples, by the outputs on synthetic inputs. Exit code 3
    /// where none fits.
    #[arg(long, value_name = "N", conflicts_with = "max_drop", help_heading = "Budget")]
    max_bytes: Option<u64>,
    /// What a loss is counted in: top1, top5, miou, agreement, pixel-agreement, relative-error [default: what fits].
    #[arg(long, value_name = "METRIC", value_parser = metric, requires = "data", help_heading = "Budget")]
    metric: Option<DropMetric>,
    /// A class that must not fall below a share, such as 'recall[3]>=0.98' or 'iou[5]>=0.6'.
    #[arg(long, value_name = "FLOOR", requires = "data", help_heading = "Budget")]
    floor: Vec<Floor>,
    /// Let the passes learn from the training side of the samples, without labels; a search always does.
    #[arg(long, requires = "data", help_heading = "Samples")]
    calibrate: bool,
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
    /// What the output is made of: packed (smallest), fused (the same, and layers compute on what is compressed,
    /// where that is faster), session (packed, as one node that runs as fast as dense in an onnxruntime with nothing but
    /// our operator library), portable (standard operators alone, needs nothing of ours), portable-int4 (the same,
    /// with 4-bit MatMulNBits), dense (plain floats, no smaller) [default: packed].
    #[arg(long)]
    target: Option<Target>,
    /// What layers take on the processor that will run the model, where layers are fused: a file that `onnx-dcomp tune`
    /// wrote, or without one what is measured here and now [default: that of an AMD EPYC].
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true)]
    tune: Option<Option<PathBuf>>,
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
    let is_bounded = arguments.max_drop.is_some() || arguments.max_bytes.is_some() || !arguments.floor.is_empty();
    let is_planless = arguments.plan.is_empty();
    let plan = if is_bounded && is_planless { Plan::Search } else { arguments.plan.plan() };
    let mut compiler = Compiler::new(input).plan(plan);
    if let Some(output) = arguments.output.filter(|_| !arguments.dry_run) {
        compiler = compiler.output(output);
    }
    if let Some(target) = arguments.plan.target {
        compiler = compiler.target(target);
    }
    if let Some(file) = arguments.plan.tune {
        compiler = compiler.tune(file.map_or(Tuning::Here, Tuning::File));
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
    if let Some(evidence) = arguments.evidence {
        compiler = compiler.evidence(evidence);
    }
    if let Some(report) = arguments.report {
        compiler = compiler.report(report);
    }
    if let Some(bytes) = arguments.max_bytes.filter(|_| arguments.data.is_none()) {
        compiler = compiler.max_bytes(bytes);
    }
    if let Some(data) = arguments.data {
        let samples = arguments.samples.of(data);
        let budget = match (arguments.max_drop, arguments.max_bytes) {
            (Some(points), _) => Some(Budget::MaxDrop(points)),
            (_, Some(bytes)) => Some(Budget::MaxBytes(bytes)),
            // Floors and a metric alone bound nothing else.
            _ if !arguments.floor.is_empty() => Some(Budget::MaxDrop(f64::INFINITY)),
            _ => None,
        };
        compiler = match budget {
            Some(budget) => {
                let confidence = arguments.confidence.unwrap_or_default();
                let goal = Goal { budget, metric: arguments.metric, floors: arguments.floor, confidence };
                let compiler = compiler.budget(samples, arguments.runtime, goal);
                let is_open = is_planless || arguments.calibrate;
                compiler.calibrate(is_open)
            }
            None => compiler.validate(samples, arguments.runtime, None).calibrate(arguments.calibrate),
        };
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
    /// Whether nothing says what to do.
    fn is_empty(&self) -> bool {
        let Self { quality, lossless, preset, passes, recipe, .. } = self;
        quality.is_none() && !lossless && preset.is_none() && passes.is_none() && recipe.is_none()
    }

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
