//! The rate-distortion curve of every scheme, and what each piece of the best one gives.
//!
//! ```text
//! cargo bench --bench schemes -- [MODEL …] [--scheme SCHEME …] [--limit N] [--draw | --ablation]
//! ```
//!
//! Bytes are those of the whole packed file, the distortion is that of the outputs on the first N samples of the test
//! side (default 1,000) in onnxruntime (tract where that is missing). Evidence is gathered from synthetic inputs, or from
//! 1,000 samples of the training side without their labels.
//!
//! The points go to `docs/schemes.csv`, which `docs/schemes.svg` is drawn from: `--draw` only draws. Where models or
//! schemes are named, their curves take the place of what the table had of them, and the others stay. `--ablation` prints
//! the tables of `docs/ablation.md` instead.

mod ablation;
#[path = "../measuring/mod.rs"]
mod measuring;
mod plot;

use std::path::Path;

use measuring::{CALIBRATION_SAMPLES, Failure, Knowledge, Setting, Source, run};
use plot::Curve;

/// The models: file, data, title.
const SUBJECTS: [[&str; 3]; 2] =
    [["resnet20_cifar10", "cifar10", "ResNet-20, CIFAR-10"], ["lenet5", "mnist", "LeNet-5, MNIST"]];

/// Aims in decibel. What is reached on the samples lies below them; the further, the worse the evidence.
const QUALITIES: [f64; 6] = [9.0, 15.0, 21.0, 27.0, 33.0, 39.0];

/// Names of curves.
const DEEP_COMPRESSION: &str = "deep compression";
const LOW_RANK_SPARSE: &str = "low-rank + sparse";

/// Sparsity and shared values of the 2016 paper's stages, whose retraining is missing here.
const PRUNED_AND_SHARED: [[f64; 2]; 6] =
    [[0.8, 16.0], [0.6, 16.0], [0.45, 32.0], [0.3, 32.0], [0.15, 64.0], [0.05, 128.0]];

/// Sparsity of the sparse part beside a tenth of the rank, and the aim for quantisation.
const LOW_RANK: [[f64; 2]; 4] = [[0.9, 15.0], [0.7, 21.0], [0.45, 27.0], [0.2, 33.0]];

/// Samples for the evidence on thin layers: it is gathered anew for each point, and there are three times as many layers.
const THIN_SAMPLES: usize = 64;

/// What the command line asks for.
struct Request {
    models: Vec<String>,
    schemes: Vec<String>,
    limit: usize,
    draws_only: bool,
    is_ablation: bool,
}

impl Request {
    fn parse() -> Result<Self, Failure> {
        let (models, schemes) = (Vec::new(), Vec::new());
        let mut request = Self { models, schemes, limit: 1000, draws_only: false, is_ablation: false };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{argument} wants a value"));
            match argument.as_str() {
                "--bench" => {}
                "--draw" => request.draws_only = true,
                "--ablation" => request.is_ablation = true,
                "--limit" => request.limit = value()?.parse()?,
                "--scheme" => request.schemes.push(value()?),
                _ => request.models.push(argument),
            }
        }
        Ok(request)
    }

    fn wants_model(&self, model: &str) -> bool {
        self.models.is_empty() || self.models.iter().any(|name| model.contains(name.as_str()))
    }

    fn wants_scheme(&self, scheme: &str) -> bool {
        self.schemes.is_empty() || self.schemes.iter().any(|name| name == scheme)
    }
}

/// One compressed file.
struct Point {
    bytes: u64,
    /// Energy of the outputs over that of their error.
    sqnr_db: f64,
}

/// Runs `lossy` on the folded model, and `lossless` on what is measured.
fn measure(setting: &mut Setting, lossy: &str, lossless: &str, evidence: &Knowledge) -> Result<Point, Failure> {
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
    let request = Request::parse()?;
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let table = docs.join("schemes.csv");
    let mut curves = match request.draws_only || table.exists() {
        true => plot::read(&std::fs::read_to_string(&table)?)?,
        false => Vec::new(),
    };
    if !request.draws_only {
        println!("measured in {}, {} samples", measuring::runtime().name(), request.limit);
        for [name, data, title] in SUBJECTS.into_iter().filter(|[name, ..]| request.wants_model(name)) {
            println!("\n{title}");
            let mut setting = Setting::open(name, data, None, Some("train"), Some(request.limit))?;
            match request.is_ablation {
                true => ablation::print(&mut setting, title)?,
                false => {
                    all_schemes(&request, &mut setting, title)?.into_iter().for_each(|curve| curve.replace(&mut curves))
                }
            }
        }
    }
    if !request.is_ablation {
        std::fs::write(table, plot::write(&curves))?;
        std::fs::write(docs.join("schemes.svg"), plot::draw(&curves, SUBJECTS.map(|[.., title]| title)))?;
    }
    Ok(())
}

/// The curves of one model that are asked for.
fn all_schemes(request: &Request, setting: &mut Setting, title: &str) -> Result<Vec<Curve>, Failure> {
    let mut curves = Vec::new();
    let mut add = |scheme: &str, points: Vec<Point>| {
        let points = points.iter().map(|point| [point.sqnr_db, point.bytes as f64]).collect();
        curves.push(Curve { model: title.to_owned(), scheme: scheme.to_owned(), points });
    };
    if request.wants_scheme(DEEP_COMPRESSION) {
        let points = PRUNED_AND_SHARED.map(|[sparsity, clusters]| {
            let lossy = format!("prune(sparsity={sparsity}), share(clusters={clusters}, init=linear)");
            measure(setting, &lossy, "strip, pack(coder=huffman)", &Knowledge::default())
        });
        add(DEEP_COMPRESSION, points.into_iter().collect::<Result<_, _>>()?);
    }
    for (source, suffix) in [(Source::Synthetic, ", no data"), (Source::Samples, "")] {
        let schemes: &[&str] = match source {
            Source::Synthetic => &["uniform", "trellis"],
            Source::Samples => &["lattice", "uniform", "trellis"],
        };
        let named = schemes.iter().map(|scheme| (*scheme, format!("{scheme}{suffix}")));
        let wanted: Vec<(&str, String)> = named.filter(|(_, name)| request.wants_scheme(name)).collect();
        let is_thin_wanted = source == Source::Samples && request.wants_scheme(LOW_RANK_SPARSE);
        if wanted.is_empty() && !is_thin_wanted {
            continue;
        }
        let evidence = setting.knowledge(&setting.folded, source, CALIBRATION_SAMPLES)?;
        println!("evidence from {}", evidence.evidence.source);
        for (scheme, name) in wanted {
            let points = QUALITIES.map(|quality| {
                let lossy = format!("quantize(scheme={scheme}, quality={quality})");
                measure(setting, &lossy, "strip, pack", &evidence)
            });
            add(&name, points.into_iter().collect::<Result<_, _>>()?);
        }
        if is_thin_wanted {
            let whole = setting.folded.clone();
            let mut points = Vec::new();
            for [sparsity, quality] in LOW_RANK {
                let mut thin = whole.clone();
                let lossy = format!("low-rank(rank=0.1, sparsity={sparsity}, emit=factors)");
                run(&lossy, &mut thin, &evidence)?;
                println!("  {lossy}, then");
                let evidence = setting.knowledge(&thin, source, THIN_SAMPLES)?;
                setting.folded = thin;
                points.push(measure(setting, &format!("quantize(quality={quality})"), "strip, pack", &evidence)?);
            }
            setting.folded = whole;
            add(LOW_RANK_SPARSE, points);
        }
    }
    Ok(curves)
}
