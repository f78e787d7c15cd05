//! `load` gives what the plain file gives, bit for bit, in the same runtime.

mod support;

use std::path::{Path, PathBuf};

use onnx_dcomp::load::Loaded;
use onnx_dcomp::{RuntimeKind, RuntimeOptions, decompress, load};
use onnx_dcomp_engine::evidence::synthetic::{Inputs, generator};
use onnx_dcomp_engine::{PreprocessOptions, Session, Tensor, available};
use onnx_dcomp_ir::{Evidence, Model};
use onnx_dcomp_passes::Pipeline;
use support::{fixture, folder, shared_model};

/// Shares values, which is quick and leaves weights worth packing.
fn pack(model: &Path, packed: &Path) {
    let mut model = Model::open(model).unwrap();
    let pipeline = Pipeline::parse("share(clusters=8), pack").unwrap();
    pipeline.run(&mut model, &Evidence::default(), &mut ()).unwrap();
    model.save(packed).unwrap();
}

/// Inputs for the model at `path`; `None` where nothing synthetic can be drawn for it.
fn inputs(path: &Path, session: &dyn Session) -> Option<Vec<Tensor>> {
    let preprocess = PreprocessOptions::beside(path).unwrap().unwrap_or_default();
    let preprocess = preprocess.resolve(session.inputs(), session.outputs()).ok()?;
    let model = Model::open(path).unwrap();
    let mut inputs = Inputs::new(&model, &preprocess);
    inputs.use_full_size();
    Some(inputs.draw(1, &mut generator(3)).ok()?.swap_remove(0))
}

/// Shapes and elements; a NaN is like itself here.
fn bits(outputs: &[Tensor]) -> Vec<(Vec<usize>, Vec<u32>)> {
    let bits = |output: &Tensor| output.to_f32().iter().map(|value| value.to_bits()).collect();
    outputs.iter().map(|output| (output.shape().to_vec(), bits(output))).collect()
}

/// Compares the packed with the plain form of `model` in `runtime`; whether there was something to compare.
fn is_compared(model: &Path, folder: &Path, runtime: RuntimeKind) -> bool {
    let (packed, plain) = (folder.join("packed.onnx"), folder.join("plain.onnx"));
    pack(model, &packed);
    if decompress(&packed, &plain, &()).unwrap().payloads == 0 {
        return false;
    }
    let options = RuntimeOptions::default();
    // Not every runtime opens every fixture.
    let Ok(mut reference) = load(&plain, runtime, &options) else { return false };
    let Some(inputs) = inputs(model, reference.as_ref()) else { return false };
    let Ok(expected) = reference.run(&inputs) else { return false };
    let found = load(&packed, runtime, &options).unwrap().run(&inputs).unwrap();
    assert_eq!(bits(&found), bits(&expected), "{} in {runtime}", model.display());
    true
}

#[test]
fn a_loaded_model_gives_the_bits_of_the_plain_one() {
    let folder = folder();
    let models = std::fs::read_dir(fixture("models")).unwrap().map(|entry| entry.unwrap().path());
    let models = models.filter(|path| path.extension().is_some_and(|extension| extension == "onnx"));
    let models: Vec<PathBuf> =
        models.chain([fixture("lenet5.onnx")]).chain(shared_model("resnet20_cifar10.onnx")).collect();
    for runtime in RuntimeKind::ALL {
        if let Err(error) = available(runtime) {
            eprintln!("skipped: {error}");
            continue;
        }
        let compared = models.iter().filter(|model| is_compared(model, folder.path(), runtime)).count();
        assert!(compared >= 10, "{runtime}: {compared}");
    }
}

#[test]
fn the_graph_holds_no_weight_that_is_handed_over() {
    let folder = folder();
    let packed = folder.path().join("packed.onnx");
    pack(&fixture("lenet5.onnx"), &packed);
    let loaded = Loaded::open(&packed).unwrap();
    let mut names: Vec<&str> = loaded.weights.iter().chain(&loaded.in_graph).map(|weight| &*weight.name).collect();
    names.sort_unstable();
    let mut expected =
        ["conv1", "conv2", "fc1", "fc2"].map(|layer| [format!("{layer}.bias"), format!("{layer}.weight")]).concat();
    expected.sort_unstable();
    assert_eq!(names, expected);
    assert!(loaded.graph.len() < 4096, "{} bytes", loaded.graph.len());
    let bytes: usize = loaded.weights.iter().map(|weight| weight.values.bytes().len()).sum();
    assert!(bytes > 1_700_000, "{bytes}");
}
