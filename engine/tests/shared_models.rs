//! The published numbers of the shared models; `examples/baselines.rs` measures all of them in full.
//!
//! The models and data are no part of the repository: `DCOMP_DATA` names their folder (default: `../shared`).

use std::path::{Path, PathBuf};

use onnx_dcomp_engine::{
    DataFolder, ModelSource, PreprocessOptions, RuntimeKind, RuntimeOptions, ValidateOptions, Validation, open,
    validate,
};

/// The model in tract against itself, over at most `limit` samples; nothing where the files are missing.
fn measure(model: &str, data: &str, split: &str, limit: Option<usize>) -> Option<Validation> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    let shared = std::env::var_os("DCOMP_DATA").map_or(beside, PathBuf::from);
    let (path, data) = (shared.join("models").join(model), shared.join("data").join(data));
    if !path.is_file() || !data.exists() {
        println!("skipped: {model}: {} or {} is not there; set DCOMP_DATA", path.display(), data.display());
        return None;
    }
    let session = || open(RuntimeKind::Tract, ModelSource::path(&path), &RuntimeOptions::default()).unwrap();
    let (mut a, mut b) = (session(), session());
    let preprocess = PreprocessOptions::beside(&path).unwrap().unwrap().resolve(a.inputs(), a.outputs()).unwrap();
    let data = DataFolder::open(&data, &preprocess).unwrap().dataset(Some(split), limit).unwrap();
    let options = ValidateOptions::default();
    Some(validate(a.as_mut(), b.as_mut(), data.as_ref(), &preprocess, &options, &mut |_, _| {}).unwrap())
}

fn top1(report: &Validation) -> f64 {
    report.classification.as_ref().unwrap().top1_percent.unwrap().original
}

#[test]
fn lenet5_finds_9943_of_10000_digits() {
    let Some(report) = measure("lenet5.onnx", "mnist", "test", None) else { return };
    assert_eq!((report.samples, top1(&report)), (10_000, 99.43));
    assert_eq!((report.drop_points(), report.outputs[0].fidelity.max_abs_error), (0.0, 0.0));
}

#[test]
fn resnet20_is_near_its_published_number_on_five_hundred_images() {
    let Some(report) = measure("resnet20_cifar10.onnx", "cifar10", "test", Some(500)) else { return };
    assert_eq!(report.classification.as_ref().unwrap().classes.len(), 10);
    assert!((top1(&report) - 91.48).abs() < 3.0, "{}", top1(&report));
}

#[test]
fn squeezenet_is_near_its_published_number_on_a_few_images() {
    let Some(report) = measure("squeezenet_deepcomp.onnx", "imagenet-sample", "", Some(50)) else { return };
    assert!((top1(&report) - 61.8).abs() < 20.0, "{}", top1(&report));
}

#[test]
fn fcn8s_sees_roads() {
    let Some(report) = measure("fcn8s_camvid.onnx", "camvid", "val", Some(8)) else { return };
    let report = report.segmentation.unwrap();
    let road = report.classes.iter().find(|class| class.class == 3).unwrap();
    assert!(road.iou_percent.original > 80.0, "{road:?}");
    assert_eq!(report.pixel_agreement_percent, 100.0);
}
