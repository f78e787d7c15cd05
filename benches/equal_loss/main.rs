//! The smallest file at a given loss: ours beside NNCodec's and CERWU's.
//!
//! ```text
//! cargo bench --bench equal_loss -- [MODEL …] [--calibrate] [--qualities 10,12,14] [--quantize OPTIONS] [--limit N]
//! ```
//!
//! Each model is compressed at every quality and run on its data set in onnxruntime (tract where that is missing).
//! Without `--calibrate` the data serve to measure, never to compress. With it, evidence comes from at most 1,000
//! samples of the training side, whose labels nobody looks at; of data without a training side, from the samples
//! themselves. Cityscapes' three frames are calibrated two by two: each is measured in the file that the other two
//! made, and bytes and loss at a quality are the means of the three; so that every frame counts once, and none was
//! calibrated on. `--quantize` gives options to the pass, such as `bit-price=0.01`.
//!
//! For each bound on the loss the table has the smallest whole file that keeps it, and what NNCodec 2.1.3 and CERWU need:
//! the smallest of all that were tried, which holds the tensors alone, plus the bytes of our own stripped graph. These
//! figures were measured once on the same files and data (NNCodec on CIFAR-10: on all 10,000 test images, of which 5,000
//! are here), and are constants here.

#[path = "../measuring/mod.rs"]
mod measuring;
mod subjects;

use measuring::{CALIBRATION_SAMPLES, Failure, Knowledge, Setting, Source, run};
use onnx_dcomp_passes::graph_bytes;
use subjects::{SUBJECTS, Subject};

/// What the command line asks for.
#[derive(Default)]
struct Request {
    models: Vec<String>,
    qualities: Option<Vec<f64>>,
    /// Options of the pass, each with a comma before it.
    quantize: String,
    calibrate: bool,
    limit: Option<usize>,
}

impl Request {
    fn parse() -> Result<Self, Failure> {
        let mut request = Self::default();
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{argument} wants a value"));
            match argument.as_str() {
                "--bench" => {}
                "--calibrate" => request.calibrate = true,
                "--qualities" => {
                    request.qualities = Some(value()?.split(',').map(str::parse).collect::<Result<_, _>>()?);
                }
                "--quantize" => request.quantize = format!(", {}", value()?),
                "--limit" => request.limit = Some(value()?.parse()?),
                _ => request.models.push(argument),
            }
        }
        Ok(request)
    }
}

/// One compressed file, or the mean of several at one quality.
#[derive(Clone, Copy)]
struct Point {
    quality: f64,
    bytes: u64,
    loss: f64,
}

fn main() -> Result<(), Failure> {
    let request = Request::parse()?;
    println!("measured in {}", measuring::runtime().name());
    let mut rows = Vec::new();
    for subject in &SUBJECTS {
        let is_wanted =
            request.models.is_empty() || request.models.iter().any(|name| subject.model.contains(name.as_str()));
        let model = measuring::root().join("models").join(format!("{}.onnx", subject.model));
        if !is_wanted {
            continue;
        }
        if !model.exists() {
            println!("skipped {}: {} is not there (set DCOMP_DATA)", subject.model, model.display());
            continue;
        }
        rows.push(measure(subject, &request)?);
    }
    println!(
        "\n| model | graph | loss ≤ | ours, whole file | quality | NNCodec + our graph | ratio | CERWU + our graph | ratio |"
    );
    println!("|---|---:|---:|---:|---:|---:|---:|---:|---:|");
    rows.iter().for_each(|row| print!("{row}"));
    Ok(())
}

fn measure(subject: &Subject, request: &Request) -> Result<String, Failure> {
    let open = || Setting::open(subject.model, subject.data, subject.split, subject.training_split, request.limit);
    let mut stripped = open()?.folded;
    run("strip", &mut stripped, &Knowledge::default())?;
    let graph = graph_bytes(&stripped);
    if !request.calibrate || subject.rounds == 1 {
        return Ok(rows(subject.model, subject, graph, &sweep(subject, open()?, request)?));
    }
    let (mut text, mut rounds) = (String::new(), Vec::new());
    for round in 0..subject.rounds {
        println!("\nround {} of {}: measured on one sample, calibrated with the others", round + 1, subject.rounds);
        let points = sweep(subject, open()?.leaving_out(round), request)?;
        text.push_str(&rows(&format!("{}, sample {}", subject.model, round + 1), subject, graph, &points));
        rounds.push(points);
    }
    let means = means(&rounds);
    println!("\n{}: means of all rounds", subject.model);
    for Point { quality, bytes, loss } in &means {
        println!("  quality {quality:5.1}: {bytes:9} bytes, loss {loss:6.2}");
    }
    Ok(text + &rows(subject.model, subject, graph, &means))
}

/// At each quality the mean of all rounds.
fn means(rounds: &[Vec<Point>]) -> Vec<Point> {
    let count = rounds.len();
    let Some(first) = rounds.first() else { return Vec::new() };
    let mean = |(place, point): (usize, &Point)| {
        let at_quality = || rounds.iter().filter_map(|points| points.get(place));
        let bytes = at_quality().map(|point| point.bytes).sum::<u64>().div_ceil(count as u64);
        let loss = at_quality().map(|point| point.loss).sum::<f64>() / count as f64;
        Point { bytes, loss, ..*point }
    };
    first.iter().enumerate().map(mean).collect()
}

/// A file at each quality.
fn sweep(subject: &Subject, mut setting: Setting, request: &Request) -> Result<Vec<Point>, Failure> {
    let started = std::time::Instant::now();
    let source = if request.calibrate { Source::Samples } else { Source::Synthetic };
    let evidence = setting.knowledge(&setting.folded, source, CALIBRATION_SAMPLES)?;
    println!(
        "\n{}: evidence from {} in {:.1} s",
        subject.model,
        evidence.evidence.source,
        started.elapsed().as_secs_f64()
    );
    let [low, high] = subject.qualities[usize::from(request.calibrate)];
    let steps = 12;
    let sweep = (0..=steps).map(|step| high - (high - low) * f64::from(step) / f64::from(steps)).collect();
    let qualities: Vec<f64> = request.qualities.clone().unwrap_or(sweep);
    let mut points = Vec::new();
    for quality in qualities {
        let mut compressed = setting.folded.clone();
        let quantize = format!("quantize(quality={quality}{})", request.quantize);
        run(&quantize, &mut compressed, &evidence)?;
        let report = setting.validate(&compressed)?;
        run("strip, pack", &mut compressed, &evidence)?;
        let bytes = compressed.to_bytes()?.len() as u64;
        let loss = match &report.segmentation {
            Some(report) => 100.0 - report.pixel_agreement_percent,
            None => report.drop_points(),
        };
        let decibels = report.outputs.first().map_or(f64::INFINITY, |output| output.fidelity.sqnr_db);
        let details = match (&report.classification, report.segmentation.as_ref().and_then(|s| s.mean_iou_percent)) {
            (Some(report), _) => format!("same class {:.2} %", report.agreement_percent),
            (_, Some(iou)) => format!("mIoU {:.2} → {:.2} %", iou.original, iou.compressed),
            _ => String::new(),
        };
        println!("  quality {quality:5.1}: {bytes:9} bytes, loss {loss:6.2}, output {decibels:.2} dB, {details}");
        points.push(Point { quality, bytes, loss });
    }
    Ok(points)
}

/// The rows of the table for one model, called `name`.
fn rows(name: &str, subject: &Subject, graph: u64, points: &[Point]) -> String {
    let mut text = String::new();
    for (place, bound) in subject.bounds().into_iter().enumerate() {
        let best = points.iter().filter(|point| point.loss <= bound).min_by_key(|point| point.bytes);
        let ours = best.map_or("none keeps the bound | ".to_owned(), |point| {
            format!("{} (loss {:.2}) | {:.1}", point.bytes, point.loss, point.quality)
        });
        let beside = |peer: Option<u64>| match peer.map(|bytes| bytes + graph) {
            Some(peer) => {
                let ratio = best.map_or(String::new(), |point| format!("{:.2}", point.bytes as f64 / peer as f64));
                format!("{peer} | {ratio}")
            }
            None => "– | ".to_owned(),
        };
        let (nncodec, cerwu) = (beside(Some(subject.nncodec[place])), beside(subject.cerwu.map(|bytes| bytes[place])));
        text.push_str(&format!("| {name} | {graph} | {bound} | {ours} | {nncodec} | {cerwu} |\n"));
    }
    text
}
