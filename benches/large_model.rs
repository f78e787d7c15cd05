//! What a large model costs: an FCN-8s on VGG-16 of 134 million weights, 538 MB.
//!
//! ```text
//! cargo bench --bench large_model -- [--model FILE] [--width SCALE] [--runs N] [--calibrate]
//! ```
//!
//! The model is generated into a temporary folder, or to FILE, where it stays and is used again. `--width` multiplies
//! its channels (1.0: 538 MB). Every step runs as a process of its own, whose processor time and peak of resident
//! memory (mapped files included) the system counts; opening runs `--runs` times (default 3), and the fastest counts.
//! With `--calibrate` two other steps take the place of all.
//!
//! - *graph*: read, `fold`, `strip`, write; the weights stay plain.
//! - *compile*: the default pipeline, no data; with the coder `small`, then with `fast`.
//! - *open*: a packed file to plain tensors, and to a session of onnxruntime, loaded and as one node through the operator
//!   library, beside a session of the dense file.
//! - *calibrate*: the default pipeline with error feedback, evidence from 8 images of overlapping shapes, and the output
//!   validated on 2 others; then the same again with the evidence that the first run left beside the model.

#[allow(dead_code, reason = "nothing runs in rounds here")]
#[path = "rounds/mod.rs"]
mod rounds;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use onnx_dcomp::report::style::grouped;
use onnx_dcomp_engine::backend::open_with_library;
use onnx_dcomp_engine::evidence::synthetic;
use onnx_dcomp_engine::{
    Dimension, ElementType, ModelSource, PreprocessOptions, RuntimeKind, RuntimeOptions, Tensor, TensorInfo, open,
};
use onnx_dcomp_fixtures::models::fcn8s_vgg16;
use onnx_dcomp_ir::Model;
use onnx_dcomp_load::unpack;
use onnx_dcomp_proto::write_model;
use rounds::{Failure, operator_library};
use wait4::Wait4;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["generate", file, width] => generate(Path::new(file), width.parse()?),
        ["open-packed", file] => open_packed(Path::new(file)),
        ["open-session", file] => open_session(Path::new(file)),
        ["open-one-node", file] => open_one_node(Path::new(file)),
        ["enclose", file, into] => enclose(Path::new(file), Path::new(into)),
        _ => measure(&Request::parse(&arguments)?),
    }
}

/// What the command line asks for.
struct Request {
    model: Option<PathBuf>,
    width: String,
    runs: usize,
    calibrate: bool,
}

impl Request {
    fn parse(arguments: &[String]) -> Result<Self, Failure> {
        let mut request = Self { model: None, width: "1.0".to_owned(), runs: 3, calibrate: false };
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{argument} wants a value"));
            match argument.as_str() {
                "--model" => request.model = Some(value()?.into()),
                "--width" => request.width.clone_from(value()?),
                "--runs" => request.runs = value()?.parse::<usize>()?.max(1),
                "--calibrate" => request.calibrate = true,
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
    if request.calibrate {
        return measure_calibrated(&model, folder.path());
    }
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
        let one_node = output.with_extension("session.onnx");
        cost(own("enclose").arg(output).arg(&one_node))?;
        let best = fastest(request.runs, || cost(own("open-one-node").arg(&one_node)))?;
        row(&format!("onnxruntime opens it as one node, coder `{coder}`"), None, best)?;
    }
    let best = fastest(request.runs, || cost(own("open-session").arg(&model)))?;
    row("onnxruntime opens the dense file", None, best)
}

/// Images that evidence is taken from, and those that the output is validated on.
const IMAGES: [(&str, usize); 2] = [("train", 8), ("test", 2)];

fn measure_calibrated(model: &Path, folder: &Path) -> Result<(), Failure> {
    let (images, output, evidence) = (folder.join("images"), folder.join("calibrated.onnx"), folder.join("evidence"));
    for (split, count) in IMAGES {
        draw(&images.join(split), count)?;
    }
    for step in ["compile, 8 images", "compile, evidence from the file"] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_onnx-dcomp"));
        command.arg(model).arg("-o").arg(&output).args(["--quiet", "--calibrate", "--data"]).arg(&images);
        row(step, Some(&output), cost(command.arg("--evidence").arg(&evidence))?)?;
    }
    println!("\nevidence: {} bytes", grouped(evidence.metadata()?.len()));
    Ok(())
}

/// Draws `count` images for the model into `folder`, which is made.
fn draw(folder: &Path, count: usize) -> Result<(), Failure> {
    const SIDE: usize = 224;
    std::fs::create_dir_all(folder)?;
    let image = |name: &str, channels: usize| TensorInfo {
        name: name.to_owned(),
        element: ElementType::F32,
        shape: Some(vec![
            Dimension::Dynamic(None),
            Dimension::Fixed(channels),
            Dimension::Fixed(SIDE),
            Dimension::Fixed(SIDE),
        ]),
    };
    let preprocess = PreprocessOptions::default().resolve(&[image("input", 3)], &[image("output", 21)])?;
    let mut small = Vec::new();
    write_model(&fcn8s_vgg16(0.01), &mut small)?;
    let model = Model::from_bytes(small.into(), None)?;
    let mut random = synthetic::generator(count as u64);
    let batches = synthetic::Inputs::new(&model, &preprocess).draw(count, &mut random)?;
    let drawn = batches.iter().filter_map(|batch| batch.first()).map(Tensor::to_f32);
    let values: Vec<f32> = drawn.flat_map(|values| values.to_vec()).collect();
    let plane = SIDE * SIDE;
    for (number, picture) in values.chunks_exact(3 * plane).enumerate() {
        let pixel = |x: u32, y: u32| {
            let at = y as usize * SIDE + x as usize;
            image::Rgb([0, 1, 2].map(|channel| (255.0 * picture[channel * plane + at]).round() as u8))
        };
        image::RgbImage::from_fn(SIDE as u32, SIDE as u32, pixel).save(folder.join(format!("{number}.png")))?;
    }
    Ok(())
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

fn open_one_node(path: &Path) -> Result<(), Failure> {
    let library = operator_library().ok_or("the operator library was not built")?;
    open_with_library(&library, ModelSource::path(path), &RuntimeOptions::default())?;
    Ok(())
}

fn enclose(packed: &Path, into: &Path) -> Result<(), Failure> {
    let mut model = Model::open(packed)?;
    model.enclose()?;
    model.save(into)?;
    Ok(())
}
