//! The smallest file at a given loss, with no data given to the compiler: ours beside NNCodec's.
//!
//! ```text
//! cargo bench --bench no_data -- [MODEL …] [--qualities 10,12,14] [--damping 0.02] [--bit-price 0.02] [--limit N]
//!     [--quantize 'scheme=lattice, lattice=d4']
//! ```
//!
//! Each model is compressed at every quality and run on its data set in onnxruntime (tract where that is missing); the
//! data serve to measure, never to compress. For each bound on the loss the table has the smallest whole file that
//! keeps it, and what NNCodec 2.1.3 needs: its smallest bitstream over all options that were tried, which holds the
//! tensors alone, plus the bytes of our own stripped graph. NNCodec's figures were measured once on the same files and
//! data (CIFAR-10: on all 10,000 test images, of which ours has 5,000), and are constants here.
//!
//! Models and data are looked for in `DCOMP_DATA` (default `../shared`).

use std::path::{Path, PathBuf};

use onnx_dcomp_engine::evidence::{EvidenceOptions, gather};
use onnx_dcomp_engine::{
    DataFolder, ModelSource, PreprocessOptions, RuntimeKind, RuntimeOptions, ValidateOptions, available, open, validate,
};
use onnx_dcomp_ir::{Evidence, Model};
use onnx_dcomp_passes::{Pipeline, graph_bytes};

type Failure = Box<dyn std::error::Error>;

/// One model: its data, NNCodec's bytes at the three bounds, and the aims to try.
struct Subject {
    model: &'static str,
    data: &'static str,
    /// Bytes of NNCodec's bitstream for the bounds of [`Subject::bounds`].
    nncodec: [u64; 3],
    is_segmentation: bool,
    split: Option<&'static str>,
    /// Lowest and highest quality in decibel.
    qualities: [f64; 2],
}

const SUBJECTS: [Subject; 7] = [
    subject("lenet300", "mnist", [63_150, 33_796, 23_930], [20.0, 36.0]),
    subject("lenet5", "mnist", [90_171, 44_370, 32_248], [18.0, 34.0]),
    subject("resnet20_cifar10", "cifar10", [157_033, 116_046, 102_442], [12.0, 24.0]),
    subject("resnet32_cifar10", "cifar10", [283_837, 232_534, 205_662], [12.0, 24.0]),
    subject("squeezenet_deepcomp", "imagenet-sample", [386_406, 386_406, 386_406], [20.0, 26.0]),
    Subject {
        is_segmentation: true,
        ..subject("espnet_cityscapes", "cityscapes", [239_523, 171_103, 123_791], [22.0, 44.0])
    },
    Subject {
        is_segmentation: true,
        split: Some("val"),
        ..subject("fcn8s_camvid", "camvid", [2_201_778, 1_706_759, 916_755], [10.0, 30.0])
    },
];

const fn subject(model: &'static str, data: &'static str, nncodec: [u64; 3], qualities: [f64; 2]) -> Subject {
    Subject { model, data, nncodec, is_segmentation: false, split: None, qualities }
}

impl Subject {
    /// Bounds on the loss: points of top-1, or percent of pixels that change their class.
    fn bounds(&self) -> [f64; 3] {
        if self.is_segmentation { [1.0, 2.0, 5.0] } else { [0.1, 0.5, 1.0] }
    }
}

/// What the command line asks for.
struct Request {
    models: Vec<String>,
    qualities: Option<Vec<f64>>,
    damping: String,
    bit_price: String,
    /// More options of the pass, each with a comma before it.
    more: String,
    limit: Option<usize>,
}

impl Request {
    fn parse() -> Result<Self, Failure> {
        let mut request = Self {
            models: Vec::new(),
            qualities: None,
            damping: "0.02".into(),
            bit_price: "0.02".into(),
            more: String::new(),
            limit: None,
        };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{argument} wants a value"));
            match argument.as_str() {
                "--bench" => {}
                "--qualities" => {
                    request.qualities = Some(value()?.split(',').map(str::parse).collect::<Result<_, _>>()?);
                }
                "--damping" => request.damping = value()?,
                "--bit-price" => request.bit_price = value()?,
                "--quantize" => request.more = format!(", {}", value()?),
                "--limit" => request.limit = Some(value()?.parse()?),
                _ => request.models.push(argument),
            }
        }
        Ok(request)
    }
}

/// One compressed file.
struct Point {
    quality: f64,
    bytes: u64,
    loss: f64,
}

fn main() -> Result<(), Failure> {
    let request = Request::parse()?;
    let root = std::env::var_os("DCOMP_DATA")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from);
    let runtime =
        if available(RuntimeKind::Onnxruntime).is_ok() { RuntimeKind::Onnxruntime } else { RuntimeKind::Tract };
    println!("measured in {}", runtime.name());
    let mut rows = Vec::new();
    for subject in &SUBJECTS {
        let is_wanted =
            request.models.is_empty() || request.models.iter().any(|name| subject.model.contains(name.as_str()));
        let model = root.join("models").join(format!("{}.onnx", subject.model));
        if !is_wanted {
            continue;
        }
        if !model.exists() {
            println!("skipped {}: {} is not there (set DCOMP_DATA)", subject.model, model.display());
            continue;
        }
        rows.push(measure(subject, &model, &root, runtime, &request)?);
    }
    println!("\n| model | graph | loss ≤ | ours, whole file | quality | NNCodec + our graph | ratio |");
    println!("|---|---:|---:|---:|---:|---:|---:|");
    rows.iter().for_each(|row| print!("{row}"));
    Ok(())
}

fn measure(
    subject: &Subject,
    path: &Path,
    root: &Path,
    runtime: RuntimeKind,
    request: &Request,
) -> Result<String, Failure> {
    let preprocess = PreprocessOptions::beside(path)?.unwrap_or_default();
    let mut folded = Model::open(path)?;
    let none = Evidence::default();
    run("fold, recognise", &mut folded, &none)?;
    let started = std::time::Instant::now();
    let options = EvidenceOptions { preprocess: preprocess.clone(), ..EvidenceOptions::default() };
    let evidence = gather(&folded, &options, &mut |_, _| {})?;
    println!("\n{}: evidence from {} in {:.1} s", subject.model, evidence.source, started.elapsed().as_secs_f64());
    let mut stripped = folded.clone();
    run("strip", &mut stripped, &none)?;
    let graph = graph_bytes(&stripped);

    let runtime_options = RuntimeOptions { threads: 1 };
    let mut original = open(runtime, ModelSource::path(path), &runtime_options)?;
    let resolved = preprocess.resolve(original.inputs(), original.outputs())?;
    let data = DataFolder::open(&root.join("data").join(subject.data), &resolved)?;
    let data = data.dataset(subject.split, request.limit)?;
    let [low, high] = subject.qualities;
    let steps = 12;
    let sweep = (0..=steps).map(|step| high - (high - low) * f64::from(step) / f64::from(steps)).collect();
    let qualities: Vec<f64> = request.qualities.clone().unwrap_or(sweep);
    let mut points = Vec::new();
    for quality in qualities {
        let mut compressed = folded.clone();
        let Request { damping, bit_price, more, .. } = request;
        let quantize = format!("quantize(quality={quality}, damping={damping}, bit-price={bit_price}{more})");
        run(&quantize, &mut compressed, &evidence)?;
        let plain = compressed.to_bytes()?;
        let mut session = open(runtime, ModelSource::bytes("compressed", &plain), &runtime_options)?;
        let report = validate(
            original.as_mut(),
            session.as_mut(),
            data.as_ref(),
            &resolved,
            &ValidateOptions::default(),
            &mut |_, _| {},
        )?;
        run("strip, pack", &mut compressed, &evidence)?;
        let bytes = compressed.to_bytes()?.len() as u64;
        let loss = match &report.segmentation {
            Some(report) => 100.0 - report.pixel_agreement_percent,
            None => report.drop_points(),
        };
        let decibels = report.outputs.first().map_or(f64::INFINITY, |output| output.fidelity.sqnr_db);
        println!(
            "  quality {quality:5.1}: {bytes:9} bytes, loss {loss:6.2}, output {:.1} dB, {}",
            decibels,
            report
                .segmentation
                .as_ref()
                .and_then(|s| s.mean_iou_percent)
                .map_or(String::new(), |iou| format!("mIoU {:.2} → {:.2}", iou.original, iou.compressed))
        );
        points.push(Point { quality, bytes, loss });
    }
    Ok(rows(subject, graph, &points))
}

fn run(pipeline: &str, model: &mut Model, evidence: &Evidence) -> Result<(), Failure> {
    Pipeline::parse(pipeline)?.run(model, evidence, &mut ())?;
    Ok(())
}

/// The rows of the table for one model.
fn rows(subject: &Subject, graph: u64, points: &[Point]) -> String {
    let mut text = String::new();
    for (bound, nncodec) in subject.bounds().into_iter().zip(subject.nncodec) {
        let peer = nncodec + graph;
        let best = points.iter().filter(|point| point.loss <= bound).min_by_key(|point| point.bytes);
        let ours = best.map_or("none keeps the bound | | ".to_owned(), |point| {
            format!("{} (loss {:.2}) | {:.1} | ", point.bytes, point.loss, point.quality)
        });
        let ratio = best.map_or(String::new(), |point| format!("{:.2}", point.bytes as f64 / peer as f64));
        text.push_str(&format!("| {} | {graph} | {bound} | {ours}{peer} | {ratio} |\n", subject.model));
    }
    text
}
