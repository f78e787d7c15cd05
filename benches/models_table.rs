//! The README's table: each model of the shared folder compressed with no options and no data, then validated on its
//! data set in both runtimes.
//!
//! ```text
//! cargo bench --bench models_table -- [MODEL …] [--limit N] [--quality QUALITY] [--target TARGET] [--readme]
//! ```
//!
//! With the target `portable` or `portable-int4`, one table: whole files and accuracy. Else it prints three tables in Markdown: whole files and accuracy, whole files without any loss, and the bytes of the graphs
//! alone after `fold` and `strip`. Names of models filter; `--limit` takes at most N samples of each data set;
//! `--readme` puts the tables into the README, between its two marks.
//! Models and data are looked for in `DCOMP_DATA` (default `../shared`).

use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use onnx_dcomp::report::style::grouped;
use onnx_dcomp::validation::Run;
use onnx_dcomp::{Compiler, Plan, Quality, Samples, Target, ValidationReport, Validator};
use onnx_dcomp_ir::{Evidence, Model};
use onnx_dcomp_passes::{Pipeline, graph_bytes};

type Failure = Box<dyn std::error::Error>;

/// Model, data set, and what the data set is called.
const SUBJECTS: [[&str; 3]; 7] = [
    ["lenet300", "mnist", "MNIST"],
    ["lenet5", "mnist", "MNIST"],
    ["resnet20_cifar10", "cifar10", "CIFAR-10"],
    ["resnet32_cifar10", "cifar10", "CIFAR-10"],
    ["squeezenet_deepcomp", "imagenet-sample", "ImageNet, a sample"],
    ["espnet_cityscapes", "cityscapes", "Cityscapes"],
    ["fcn8s_camvid", "camvid", "CamVid"],
];

/// What the command line asks for.
#[derive(Default)]
struct Request {
    models: Vec<String>,
    limit: Option<usize>,
    quality: Quality,
    target: Target,
    readme: bool,
}

impl Request {
    fn parse() -> Result<Self, Failure> {
        let mut request = Self::default();
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{argument} wants a value"));
            match argument.as_str() {
                "--bench" => {}
                "--readme" => request.readme = true,
                "--limit" => request.limit = Some(value()?.parse()?),
                "--quality" => request.quality = value()?.parse()?,
                "--target" => request.target = value()?.parse()?,
                _ => request.models.push(argument),
            }
        }
        Ok(request)
    }

    fn wants(&self, model: &str) -> bool {
        self.models.is_empty() || self.models.iter().any(|name| model.contains(name.as_str()))
    }
}

/// The lines of each table.
#[derive(Default)]
struct Tables {
    accuracy: String,
    lossless: String,
    graphs: String,
}

fn main() -> Result<(), Failure> {
    let request = Request::parse()?;
    let root = std::env::var_os("DCOMP_DATA")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from);
    let folder = tempfile::tempdir()?;
    let mut tables = Tables::default();
    for [name, data, data_name] in SUBJECTS.into_iter().filter(|[name, ..]| request.wants(name)) {
        let model = root.join("models").join(format!("{name}.onnx"));
        if !model.exists() {
            eprintln!("skipped {name}: {} is not there (set DCOMP_DATA)", model.display());
            continue;
        }
        let packed = folder.path().join(format!("{name}.onnx"));
        let started = Instant::now();
        let compiler = Compiler::new(&model).output(&packed).target(request.target);
        let made = compiler.clone().quality(request.quality).run()?;
        let compiled = started.elapsed();
        let samples = Samples { path: root.join("data").join(data), limit: request.limit, ..Samples::default() };
        let report = Validator::new(&model, &packed, samples).run(&())?;
        eprintln!(
            "{name}: compiled in {:.1} s, validated in {:.1} s",
            compiled.as_secs_f64(),
            (started.elapsed() - compiled).as_secs_f64()
        );
        let sizes = |after: u64, ratio: f64| {
            format!("`{name}` | {} | {} | {ratio:.1}×", grouped(made.bytes_before), grouped(after))
        };
        tables.accuracy +=
            &format!("| {} | {} |\n", sizes(made.bytes_after, made.ratio()), accuracy(&report, data_name));
        let exact = compiler.plan(Plan::Lossless).run()?;
        tables.lossless += &format!("| {} |\n", sizes(exact.bytes_after, exact.ratio()));
        tables.graphs += &graph_row(name, &model)?;
    }
    let section = tables.section(&request);
    if request.readme {
        write_readme(&section, request.target)?
    } else {
        println!("{section}")
    }
    Ok(())
}

impl Tables {
    fn section(&self, request: &Request) -> String {
        if request.target != Target::Packed {
            let limit = request.limit.map(|limit| format!(", at most {limit} samples")).unwrap_or_default();
            return format!(
                "Measured with version {} on {}: `--target {}`, quality {}, no data given to the compiler{limit}.\n\n\
                 | model | bytes | compressed | ratio | data (samples) | metric | tract | onnxruntime | same class |\n\
                 |---|---:|---:|---:|---|---|---:|---:|---:|\n{}\n\
                 With `--lossless` there is something to gain only where values repeat, as in SqueezeNet's codebooks:\n\n\
                 | model | bytes | compressed | ratio |\n|---|---:|---:|---:|\n{}",
                env!("CARGO_PKG_VERSION"),
                today(),
                request.target,
                request.quality,
                self.accuracy,
                self.lossless,
            );
        }
        format!(
            "## Results\n\n\
             Measured with version {} on {}: quality {}, no data given to the compiler; then validated in both runtimes.\n\
             Bytes are whole files. *Same class* is how often original and compressed agree (in segmentation: on a \
             pixel).\n\n\
             | model | bytes | compressed | ratio | data (samples) | metric | tract | onnxruntime | same class |\n\
             |---|---:|---:|---:|---|---|---:|---:|---:|\n{}\n\
             With `--lossless`:\n\n\
             | model | bytes | compressed | ratio |\n|---|---:|---:|---:|\n{}\n\
             The graph alone, without weights:\n\n\
             | model | bytes | after `fold, strip` | of it |\n|---|---:|---:|---:|\n{}",
            env!("CARGO_PKG_VERSION"),
            today(),
            request.quality,
            self.accuracy,
            self.lossless,
            self.graphs
        )
    }
}

/// Puts `section` between the two marks of the README that belong to `target`.
fn write_readme(section: &str, target: Target) -> Result<(), Failure> {
    let end = "<!-- end -->";
    let start = match target {
        Target::Packed => "<!-- results: cargo bench --bench models_table -- --readme -->\n".to_owned(),
        target => format!("<!-- {target}: cargo bench --bench models_table -- --target {target} --readme -->\n"),
    };
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let text = std::fs::read_to_string(&path)?;
    let parts = text.split_once(&start).and_then(|(head, rest)| Some((head, rest.split_once(end)?.1)));
    let (head, tail) = parts.ok_or("the README lacks the marks of its results")?;
    std::fs::write(&path, format!("{head}{start}{section}\n{end}{tail}"))?;
    Ok(())
}

/// Data, metric, the metric in each runtime before and after, and how often both give the same class.
fn accuracy(report: &ValidationReport, data: &str) -> String {
    let in_runtime = |name: &str| report.runs.iter().find(|run| run.runtime == name);
    let change = |name: &str| {
        let both = in_runtime(name).and_then(metric);
        both.map_or_else(|| "not run".to_owned(), |(_, before, after)| format!("{before:.2} → {after:.2} %"))
    };
    let Some(first) = report.runs.first() else { return String::new() };
    let validation = &first.validation;
    let samples = match validation.labelled {
        labelled if labelled == validation.samples => grouped(labelled as u64),
        labelled => format!("{}, {labelled} labelled", validation.samples),
    };
    let same = match (&validation.classification, &validation.segmentation) {
        (Some(report), _) => report.agreement_percent,
        (_, Some(report)) => report.pixel_agreement_percent,
        _ => f64::NAN,
    };
    let name = metric(first).map_or("", |(name, ..)| name);
    let (tract, onnxruntime) = (change("tract"), change("onnxruntime"));
    format!("{data} ({samples}) | {name} | {tract} | {onnxruntime} | {same:.2} %")
}

/// Name and values of the number that a data set with labels is judged by.
fn metric(run: &Run) -> Option<(&'static str, f64, f64)> {
    let classification = run.validation.classification.as_ref().and_then(|report| report.top1_percent);
    let segmentation = run.validation.segmentation.as_ref().and_then(|report| report.mean_iou_percent);
    classification.or(segmentation).map(|both| (run.drop.metric.name(), both.original, both.compressed))
}

fn graph_row(name: &str, path: &Path) -> Result<String, Failure> {
    let mut model = Model::open(path)?;
    let before = graph_bytes(&model);
    Pipeline::parse("fold, strip")?.run(&mut model, &Evidence::default(), &mut ())?;
    let after = graph_bytes(&model);
    let share = 100.0 * after as f64 / before as f64;
    Ok(format!("| `{name}` | {} | {} | {share:.0} % |\n", grouped(before), grouped(after)))
}

/// The date of today (UTC), as year, month and day.
fn today() -> String {
    let days = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs() / 86_400);
    // Years begin in March here, so that the day which some years have more stands at the end.
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year}-{month:02}-{day:02}")
}
