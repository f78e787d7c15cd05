//! Reproduces the published numbers of the shared models, in both runtimes, over all samples.
//!
//! `cargo run --release -p onnx-dcomp-engine --example baselines [SAMPLES]`; the models and data lie in the folder that
//! `DCOMP_DATA` names (default: `../shared` beside the repository).

use std::path::{Path, PathBuf};

use onnx_dcomp_engine::{
    DataFolder, EngineError, ModelSource, PreprocessOptions, RuntimeKind, RuntimeOptions, ValidateOptions, Validation,
    open, validate,
};

/// Model, data, split, and the published top-1 or mIoU in percent.
const BASELINES: [(&str, &str, &str, f64); 8] = [
    ("lenet5", "mnist", "test", 99.43),
    ("lenet300", "mnist", "test", 98.94),
    ("resnet20_cifar10", "cifar10", "test", 91.48),
    ("resnet32_cifar10", "cifar10", "test", 92.32),
    ("squeezenet_deepcomp", "imagenet-sample", "", 61.80),
    ("espnet_cityscapes", "cityscapes", "val", 51.63),
    ("fcn8s_camvid", "camvid", "val", 58.79),
    ("fcn8s_camvid", "camvid", "test", 48.53),
];

fn main() -> Result<(), EngineError> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    let shared = std::env::var_os("DCOMP_DATA").map_or(beside, PathBuf::from);
    let limit = std::env::args().nth(1).and_then(|samples| samples.parse().ok());
    println!("| model | data | samples | published | onnxruntime | tract | agreement | max error |");
    println!("|---|---|---|---|---|---|---|---|");
    for (model, data, split, published) in BASELINES {
        let path = shared.join("models").join(model).with_extension("onnx");
        print_row(
            &format!("{model} | {data} {split}"),
            published,
            &run(&path, &shared.join("data").join(data), split, limit)?,
        );
    }
    // The second frame with labels has them at an eighth of its size.
    let folder = tempfile::tempdir().map_err(|source| EngineError::Read { path: "temporary folder".into(), source })?;
    let frame = "val/frankfurt/frankfurt_000000_000294";
    let cityscapes = shared.join("data/cityscapes");
    for (from, to) in [
        (cityscapes.join("leftImg8bit"), format!("leftImg8bit/{frame}_leftImg8bit.png")),
        (cityscapes.join("small_256x128/gtFine"), format!("gtFine/{frame}_gtFine_labelTrainIds.png")),
    ] {
        let (from, to) = (from.join(to.split_once('/').map_or("", |(_, rest)| rest)), folder.path().join(&to));
        let copied = std::fs::create_dir_all(to.parent().unwrap_or(&to)).and_then(|()| std::fs::copy(&from, &to));
        copied.map_err(|source| EngineError::Read { path: from, source })?;
    }
    let report = run(&shared.join("models/espnet_cityscapes.onnx"), folder.path(), "val", None)?;
    print_row("espnet_cityscapes | 000294", 60.53, &report);
    Ok(())
}

fn run(model: &Path, data: &Path, split: &str, limit: Option<usize>) -> Result<Validation, EngineError> {
    let options = RuntimeOptions::default();
    let mut reference = open(RuntimeKind::Onnxruntime, ModelSource::path(model), &options)?;
    let mut tract = open(RuntimeKind::Tract, ModelSource::path(model), &options)?;
    let preprocess = PreprocessOptions::beside(model)?.unwrap_or_default();
    let preprocess = preprocess.resolve(reference.inputs(), reference.outputs())?;
    let data = DataFolder::open(data, &preprocess)?.dataset(Some(split), limit)?;
    let quiet = &mut |_, _| {};
    validate(reference.as_mut(), tract.as_mut(), data.as_ref(), &preprocess, &ValidateOptions::default(), quiet)
}

fn print_row(name: &str, published: f64, report: &Validation) {
    let (found, agreement, more) = match (&report.classification, &report.segmentation) {
        (Some(report), _) => {
            let top5 = report.top5_percent.map(|top5| format!(" (top-5 {:.2} %)", top5.original));
            (report.top1_percent, report.agreement_percent, top5.unwrap_or_default())
        }
        (_, Some(report)) => {
            let accuracy =
                report.pixel_accuracy_percent.map(|accuracy| format!(" (pixels {:.2} %)", accuracy.original));
            (report.mean_iou_percent, report.pixel_agreement_percent, accuracy.unwrap_or_default())
        }
        _ => (None, 0.0, String::new()),
    };
    let side = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.2} %"));
    println!(
        "| {name} | {} | {published:.2} % | {}{more} | {} | {agreement:.3} % | {:.1e} |",
        report.samples,
        side(found.map(|both| both.original)),
        side(found.map(|both| both.compressed)),
        report.outputs.first().map_or(0.0, |output| output.fidelity.max_abs_error)
    );
}
