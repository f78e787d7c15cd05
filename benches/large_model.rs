//! What a large model costs: an FCN-8s on VGG-16 of 134 million weights, 538 MB.
//!
//! ```text
//! cargo bench --bench large_model -- [--model FILE] [--width SCALE] [--runs N]
//! ```
//!
//! The model is generated into a temporary folder, or to FILE, where it stays and is used again. `--width` multiplies
//! its channels (1.0: 538 MB). Every step runs as a process of its own, whose processor time and peak of resident
//! memory (mapped files included) the system counts; opening runs `--runs` times (default 3), and the fastest counts.
//!
//! - *graph*: read, `fold`, `strip`, write; the weights stay plain.
//! - *compile*: the default pipeline, no data; with the coder `small`, then with `fast`.
//! - *open*: a packed file to plain tensors, and to a session of onnxruntime, beside a session of the dense file.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use onnx_dcomp::report::style::grouped;
use onnx_dcomp_engine::{ModelSource, RuntimeKind, RuntimeOptions, open};
use onnx_dcomp_fixtures::models::fcn8s_vgg16;
use onnx_dcomp_ir::Model;
use onnx_dcomp_load::unpack;
use onnx_dcomp_proto::write_model;
use wait4::Wait4;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["generate", file, width] => generate(Path::new(file), width.parse()?),
        ["open-packed", file] => open_packed(Path::new(file)),
        ["open-session", file] => open_session(Path::new(file)),
        _ => measure(&Request::parse(&arguments)?),
    }
}

/// What the command line asks for.
struct Request {
    model: Option<PathBuf>,
    width: String,
    runs: usize,
}

impl Request {
    fn parse(arguments: &[String]) -> Result<Self, Failure> {
        let mut request = Self { model: None, width: "1.0".to_owned(), runs: 3 };
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let value = arguments.next().ok_or_else(|| format!("{argument} wants a value"))?;
            match argument.as_str() {
                "--model" => request.model = Some(value.into()),
                "--width" => request.width.clone_from(value),
                "--runs" => request.runs = value.parse::<usize>()?.max(1),
                _ => return Err(format!("unknown option `{argument}`").into()),
            }
        }
        Ok(request)
    }
}

/// What a process cost.
#[derive(Clone, Copy)]
struct Cost {
    seconds: f64,
    cpu_seconds: f64,
    peak_bytes: u64,
}

fn measure(request: &Request) -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let beside = |name: &str| folder.path().join(name);
    let model = request.model.clone().unwrap_or_else(|| beside("fcn8s_vgg16.onnx"));
    if !model.exists() {
        // A process of its own, since a child begins with the peak of its parent.
        cost(own("generate").arg(&model).arg(&request.width))?;
    }
    println!("model: {} bytes\n", grouped(model.metadata()?.len()));
    println!("| step | bytes | CPU s | wall s | peak MB |\n|---|---:|---:|---:|---:|");
    let plain = beside("graph.onnx");
    let compile = |output: &Path, options: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_onnx-dcomp"));
        cost(command.arg(&model).arg("-o").arg(output).arg("--quiet").args(options))
    };
    row("graph: read, fold, strip, write", Some(&plain), compile(&plain, &["--passes", "fold, strip"])?)?;
    std::fs::remove_file(&plain)?;
    let mut packed = Vec::new();
    for coder in ["small", "fast"] {
        let output = beside(&format!("{coder}.onnx"));
        row(&format!("compile, no data, coder `{coder}`"), Some(&output), compile(&output, &["--coder", coder])?)?;
        packed.push((coder, output));
    }
    for (coder, output) in &packed {
        let best = fastest(request.runs, || cost(own("open-packed").arg(output)))?;
        row(&format!("open to plain tensors, coder `{coder}`"), None, best)?;
        let best = fastest(request.runs, || cost(own("open-session").arg(output)))?;
        row(&format!("onnxruntime opens the packed file, coder `{coder}`"), None, best)?;
    }
    let best = fastest(request.runs, || cost(own("open-session").arg(&model)))?;
    row("onnxruntime opens the dense file", None, best)
}

/// This program, to do one step.
fn own(step: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap_or_else(|_| "large_model".into()));
    command.arg(step);
    command
}

fn cost(command: &mut Command) -> Result<Cost, Failure> {
    let started = Instant::now();
    let used = command.stdout(Stdio::null()).spawn()?.wait4()?;
    if !used.status.success() {
        return Err(format!("{command:?} ended with {}", used.status).into());
    }
    Ok(Cost {
        seconds: started.elapsed().as_secs_f64(),
        cpu_seconds: (used.rusage.utime + used.rusage.stime).as_secs_f64(),
        peak_bytes: used.rusage.maxrss,
    })
}

fn fastest(runs: usize, mut run: impl FnMut() -> Result<Cost, Failure>) -> Result<Cost, Failure> {
    let mut best = run()?;
    for _ in 1..runs {
        let next = run()?;
        if next.seconds < best.seconds {
            best = next;
        }
    }
    Ok(best)
}

fn row(step: &str, written: Option<&Path>, cost: Cost) -> Result<(), Failure> {
    let bytes = written.map(|path| path.metadata().map(|file| grouped(file.len()))).transpose()?.unwrap_or_default();
    let peak = cost.peak_bytes as f64 / 1e6;
    println!("| {step} | {bytes} | {:.2} | {:.2} | {peak:.0} |", cost.cpu_seconds, cost.seconds);
    Ok(())
}

fn generate(path: &Path, width_scale: f64) -> Result<(), Failure> {
    write_model(&fcn8s_vgg16(width_scale), &mut std::fs::File::create(path)?)?;
    Ok(())
}

fn open_packed(path: &Path) -> Result<(), Failure> {
    let mut model = Model::open(path)?;
    match unpack(&mut model)?.weights {
        0 => Err("the file is not packed".into()),
        _ => Ok(()),
    }
}

fn open_session(path: &Path) -> Result<(), Failure> {
    open(RuntimeKind::Onnxruntime, ModelSource::path(path), &RuntimeOptions::default())?;
    Ok(())
}
