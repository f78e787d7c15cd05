//! Reads a model and writes it back, with a line on each: what the house costs before anything is compressed.
//!
//! `cargo run --release -p onnx-dcomp-ir --example copy -- in.onnx out.onnx [LARGEST_FILE_BYTES]`

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use onnx_dcomp_ir::{IrError, Model, SaveOptions};

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (Some(from), Some(to)) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: copy in.onnx out.onnx [LARGEST_FILE_BYTES]");
        return ExitCode::from(2);
    };
    let mut options = SaveOptions::default();
    if let Some(limit) = arguments.next().and_then(|text| text.parse().ok()) {
        options.largest_file_bytes = limit;
    }
    match copy(Path::new(&from), Path::new(&to), &options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn copy(from: &Path, to: &Path, options: &SaveOptions) -> Result<(), IrError> {
    let start = Instant::now();
    let model = Model::open(from)?;
    println!("read {} weights in {:.1} ms", model.weights().count(), start.elapsed().as_secs_f64() * 1e3);
    model.verify()?;
    for (_, weight) in model.weights() {
        println!(
            "  {:<40} {:>24} {:<5} {:<14} axis {:?} {}",
            weight.name,
            format!("{:?}", weight.shape),
            weight.dtype(),
            weight.role,
            weight.channel_axis,
            weight.scope
        );
    }
    let start = Instant::now();
    let saved = model.save_with(to, options)?;
    println!("wrote {} bytes in {:.1} ms", saved.total_bytes(), start.elapsed().as_secs_f64() * 1e3);
    Ok(())
}
