//! Reads a model and writes it back, with a line on each: what the house costs before anything is compressed.
//!
//! `cargo run --release -p onnx-dcomp-ir --example copy -- in.onnx out.onnx [LARGEST_FILE_BYTES]`

use std::path::Path;
use std::time::Instant;

use onnx_dcomp_ir::{IrError, Model, SaveOptions};

fn main() -> Result<(), IrError> {
    let mut arguments = std::env::args().skip(1);
    let (Some(from), Some(to)) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: copy in.onnx out.onnx [LARGEST_FILE_BYTES]");
        std::process::exit(2);
    };
    let mut options = SaveOptions::default();
    if let Some(limit) = arguments.next().and_then(|text| text.parse().ok()) {
        options.largest_file_bytes = limit;
    }
    let start = Instant::now();
    let model = Model::open(Path::new(&from))?;
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
    let saved = model.save_with(Path::new(&to), &options)?;
    println!("wrote {} bytes in {:.1} ms", saved.total_bytes(), start.elapsed().as_secs_f64() * 1e3);
    Ok(())
}
