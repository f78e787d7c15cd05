//! How fast products on compressed weights are, against the dense products of both runtimes.
//!
//! ```text
//! cargo build --release --workspace
//! cargo bench --bench fused -- [ROW] [--seconds N]
//! ```
//!
//! A fully connected layer from 25,088 to 4,096 elements, batch 1, on one thread, with 15 values besides zero, of which 4
//! or 10 % of the elements are not zero, or with 16 values and no zeros; 3x3 convolutions from 256 to 256 channels on 28x28
//! with as many, and one from 64 to 64 on 56x56; and `lenet300.onnx` pruned to the 8 % of Deep Compression (its accuracy is
//! not looked at here). The dense file, in onnxruntime and in tract, and the fused one, in
//! tract and through the operator library in onnxruntime, run in turn for N seconds (default 6); a number is the median
//! over the rounds. ROW is a part of the titles of the rows that are wanted.

#[path = "rounds/mod.rs"]
mod rounds;

use std::path::{Path, PathBuf};
use std::time::Duration;

use onnx_dcomp::{Compiler, Plan, RuntimeKind, RuntimeOptions, load};
use onnx_dcomp_engine::backend::open_with_library;
use onnx_dcomp_engine::{ModelSource, Session, Tensor};
use onnx_dcomp_fixtures::models::{convolution, fully_connected};
use onnx_dcomp_proto::write_model;
use rounds::{Failure, measure, median, operator_library};

const INPUTS: usize = 25_088;
const OUTPUTS: usize = 4_096;

fn main() -> Result<(), Failure> {
    let (mut seconds, mut wanted) = (6.0, String::new());
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--bench" => {}
            "--seconds" => seconds = arguments.next().ok_or("--seconds wants a number")?.parse()?,
            _ => wanted = argument,
        }
    }
    let time = Duration::from_secs_f64(seconds);
    let folder = tempfile::tempdir()?;
    println!("| layer or model | onnxruntime dense, ms | fused, ms | faster | tract dense, ms | fused, ms | faster |");
    println!("|---|---:|---:|---:|---:|---:|---:|");
    let layer = folder.path().join("layer.onnx");
    for (title, of) in [("4 % of weights", 25), ("10 % of weights", 10), ("16 values", 1)] {
        let title = format!("{INPUTS} → {OUTPUTS}, {title}");
        if title.contains(&wanted) {
            write_model(&fully_connected(INPUTS, OUTPUTS, value(of)), &mut std::fs::File::create(&layer)?)?;
            let fused = fused(&layer, "recognise, fuse(when=always), pack")?;
            print_row(&title, &layer, &fused, &[1, INPUTS], time)?;
        }
    }
    for (channels, size, of) in [(256, 28, 25), (256, 28, 10), (256, 28, 4), (64, 56, 10)] {
        let title = format!("3×3, {channels} → {channels} on {size}×{size}, {} % of weights", 100 / of);
        if title.contains(&wanted) {
            write_model(&convolution(channels, channels, size, value(of)), &mut std::fs::File::create(&layer)?)?;
            let fused = fused(&layer, "recognise, fuse(when=always), pack")?;
            print_row(&title, &layer, &fused, &[1, channels, size, size], time)?;
        }
    }
    let title = "`lenet300`, 8 % of weights";
    if !title.contains(&wanted) {
        return Ok(());
    }
    let lenet = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/lenet300.onnx");
    let copy = folder.path().join("lenet300.onnx");
    std::fs::copy(&lenet, &copy)?;
    let fused = fused(&copy, "fold, prune(sparsity=0.92), share(clusters=16), strip, fuse, pack")?;
    print_row(title, &lenet, &fused, &[1, 1, 28, 28], time)
}

/// Weights of which one in `of` is not zero, with 15 values; none is zero, with 16, where that is each.
fn value(of: u64) -> impl Fn(usize) -> f32 {
    // A number that looks drawn at random: the same in every run.
    move |index| {
        let random = (index as u64 ^ 0x5DEE_CE66).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let level = (random >> 32) % 16;
        if (random >> 40).is_multiple_of(of) && (level > 0 || of == 1) { level as f32 * 0.01 - 0.07 } else { 0.0 }
    }
}

/// The model at `path`, compressed by `passes`.
fn fused(path: &Path, passes: &str) -> Result<PathBuf, Failure> {
    let fused = path.with_extension("fused.onnx");
    Compiler::new(path).output(&fused).plan(Plan::Passes(passes.to_owned())).run()?;
    Ok(fused)
}

fn print_row(title: &str, dense: &Path, fused: &Path, shape: &[usize], time: Duration) -> Result<(), Failure> {
    let options = RuntimeOptions::default();
    let mut row = format!("| {title} |");
    for runtime in [RuntimeKind::Onnxruntime, RuntimeKind::Tract] {
        let compressed = match (runtime, operator_library()) {
            (RuntimeKind::Tract, _) => Some(load(fused, runtime, &options)?),
            (_, Some(library)) => Some(open_with_library(&library, ModelSource::path(fused), &options)?),
            _ => None,
        };
        let dense = onnx_dcomp_engine::available(runtime).ok().map(|()| load(dense, runtime, &options)).transpose()?;
        let Some((dense, compressed)) = dense.zip(compressed) else {
            row.push_str(" | | |");
            continue;
        };
        let mut sessions: Vec<Box<dyn Session>> = vec![dense, compressed];
        let values = (0..shape.iter().product()).map(|index: usize| (index as f32 * 0.37).sin()).collect();
        let rounds = measure(&mut sessions, &[Tensor::from_f32(shape.to_vec(), values)?], time)?;
        let [dense, compressed] = [0, 1].map(|session| median(rounds.iter().map(|round| round[session] * 1e3)));
        row.push_str(&format!(" {dense:.3} | {compressed:.3} | {:.1} × |", dense / compressed));
    }
    println!("{row}");
    Ok(())
}
