//! The rate-distortion curve of every scheme, and what each piece of the best one gives.
//!
//! ```text
//! cargo bench --bench schemes -- [MODEL …] [--limit N] [--draw | --ablation]
//! ```
//!
//! Bytes are those of the whole packed file, the distortion is that of the outputs on the first N samples of the test
//! side (default 1,000) in onnxruntime (tract where that is missing). Evidence is gathered from synthetic inputs, or from
//! 1,000 samples of the training side without their labels.
//!
//! The points go to `docs/schemes.csv`, which `docs/schemes.svg` is drawn from: `--draw` only draws. `--ablation`
//! prints the tables of `docs/ablation.md` instead.

mod ablation;
#[path = "../measuring/mod.rs"]
mod measuring;
mod plot;

use std::path::Path;

use measuring::{CALIBRATION_SAMPLES, Failure, Setting, Source, run};
use onnx_dcomp_ir::Evidence;
use plot::Curve;

/// The models: file, data, title.
const SUBJECTS: [[&str; 3]; 2] =
    [["resnet20_cifar10", "cifar10", "ResNet-20, CIFAR-10"], ["lenet5", "mnist", "LeNet-5, MNIST"]];

/// Aims in decibel. What is reached on the samples lies below them; the further, the worse the evidence.
const QUALITIES: [f64; 6] = [9.0, 15.0, 21.0, 27.0, 33.0, 39.0];

/// Sparsity and shared values of the 2016 paper's stages, whose retraining is missing here.
const PRUNED_AND_SHARED: [[f64; 2]; 6] =
    [[0.8, 16.0], [0.6, 16.0], [0.45, 32.0], [0.3, 32.0], [0.15, 64.0], [0.05, 128.0]];

/// Sparsity of the sparse part beside a tenth of the rank, and the aim for quantisation.
const LOW_RANK: [[f64; 2]; 4] = [[0.9, 15.0], [0.7, 21.0], [0.45, 27.0], [0.2, 33.0]];

/// Samples for the evidence on thin layers: it is gathered anew for each point, and there are three times as many layers.
const THIN_SAMPLES: usize = 64;

/// One compressed file.
struct Point {
    bytes: u64,
    /// Energy of the outputs over that of their error.
    sqnr_db: f64,
}

/// Runs `lossy` on the folded model, and `lossless` on what is measured.
fn measure(setting: &mut Setting, lossy: &str, lossless: &str, evidence: &Evidence) -> Result<Point, Failure> {
    let mut model = setting.folded.clone();
    run(lossy, &mut model, evidence)?;
    let report = setting.validate(&model)?;
    run(lossless, &mut model, evidence)?;
    let bytes = model.to_bytes()?.len() as u64;
    let sqnr_db = report.outputs.first().map_or(f64::INFINITY, |output| output.fidelity.sqnr_db);
    println!("  {lossy}: {bytes} bytes, {sqnr_db:.2} dB, {:.2} points lost", report.drop_points());
    Ok(Point { bytes, sqnr_db })
}

fn main() -> Result<(), Failure> {
    let (mut models, mut limit, mut draws_only, mut is_ablation) = (Vec::new(), 1000, false, false);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--bench" => {}
            "--draw" => draws_only = true,
            "--ablation" => is_ablation = true,
            "--limit" => limit = arguments.next().ok_or("--limit wants a number")?.parse()?,
            _ => models.push(argument),
        }
    }
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let mut curves = match draws_only {
        true => plot::read(&std::fs::read_to_string(docs.join("schemes.csv"))?)?,
        false => Vec::new(),
    };
    if !draws_only {
        println!("measured in {}, {limit} samples", measuring::runtime().name());
        for [name, data, title] in SUBJECTS {
            if !models.is_empty() && !models.iter().any(|model| name.contains(model.as_str())) {
                continue;
            }
            println!("\n{title}");
            let mut setting = Setting::open(name, data, None, Some("train"), Some(limit))?;
            match is_ablation {
                true => ablation::print(&mut setting, title)?,
                false => curves.extend(all_schemes(&mut setting, title)?),
            }
        }
    }
    // Of some models alone no picture is drawn, since it would take the place of the whole one.
    if models.is_empty() && !is_ablation {
        std::fs::write(docs.join("schemes.csv"), plot::write(&curves))?;
        std::fs::write(docs.join("schemes.svg"), plot::draw(&curves, SUBJECTS.map(|[.., title]| title)))?;
    }
    Ok(())
}

/// The curves of one model.
fn all_schemes(setting: &mut Setting, title: &str) -> Result<Vec<Curve>, Failure> {
    let mut curves = Vec::new();
    let mut add = |scheme: &str, points: Vec<Point>| {
        let points = points.iter().map(|point| [point.sqnr_db, point.bytes as f64]).collect();
        curves.push(Curve { model: title.to_owned(), scheme: scheme.to_owned(), points });
    };
    let none = Evidence::default();
    let points = PRUNED_AND_SHARED.map(|[sparsity, clusters]| {
        let lossy = format!("prune(sparsity={sparsity}), share(clusters={clusters}, init=linear)");
        measure(setting, &lossy, "strip, pack(coder=huffman)", &none)
    });
    add("deep compression", points.into_iter().collect::<Result<_, _>>()?);
    for (source, suffix) in [(Source::Synthetic, ", no data"), (Source::Samples, "")] {
        let evidence = setting.evidence(&setting.folded, source, CALIBRATION_SAMPLES)?;
        println!("evidence from {}", evidence.source);
        let schemes: &[&str] = match source {
            Source::Synthetic => &["uniform", "trellis"],
            Source::Samples => &["lattice", "uniform", "trellis"],
        };
        for scheme in schemes {
            let points = QUALITIES.map(|quality| {
                let lossy = format!("quantize(scheme={scheme}, quality={quality})");
                measure(setting, &lossy, "strip, pack", &evidence)
            });
            add(&format!("{scheme}{suffix}"), points.into_iter().collect::<Result<_, _>>()?);
        }
        if source == Source::Samples {
            let whole = setting.folded.clone();
            let mut points = Vec::new();
            for [sparsity, quality] in LOW_RANK {
                let mut thin = whole.clone();
                let lossy = format!("low-rank(rank=0.1, sparsity={sparsity}, emit=factors)");
                run(&lossy, &mut thin, &evidence)?;
                println!("  {lossy}, then");
                let evidence = setting.evidence(&thin, source, THIN_SAMPLES)?;
                setting.folded = thin;
                points.push(measure(setting, &format!("quantize(quality={quality})"), "strip, pack", &evidence)?);
            }
            setting.folded = whole;
            add("low-rank + sparse", points);
        }
    }
    Ok(curves)
}
