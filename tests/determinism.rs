//! The same input gives the same bytes.

mod support;

use support::{compress, fixture, folder, shared_model};

#[test]
fn one_and_two_threads_give_the_same_bytes() {
    let folder = folder();
    let (one, two) = (folder.path().join("one.onnx"), folder.path().join("two.onnx"));
    let presets = ["auto", "deep-compression", "lossless", "universal"];
    let lenet = presets.map(|preset| (fixture("lenet5.onnx"), preset));
    // Convolutions, normalisation and many layers.
    let resnet = shared_model("resnet20_cifar10.onnx").map(|model| (model, "auto"));
    for (model, preset) in lenet.into_iter().chain(resnet) {
        compress(&model, &one, &["--threads", "1", "--preset", preset]);
        compress(&model, &two, &["--threads", "2", "--preset", preset]);
        assert!(std::fs::read(&one).unwrap() == std::fs::read(&two).unwrap(), "{}, {preset}", model.display());
    }
}

#[test]
fn the_seed_reaches_the_random_parts_and_nothing_else_does() {
    let folder = folder();
    let bytes = |name: &str, arguments: &[&str]| {
        let path = folder.path().join(name);
        let shared = ["--passes", "share(clusters=8, init=random), pack"];
        compress(&fixture("lenet300.onnx"), &path, &[&shared[..], arguments].concat());
        std::fs::read(path).unwrap()
    };
    let seeded = bytes("a.onnx", &["--seed", "7"]);
    assert!(seeded == bytes("b.onnx", &["--seed", "7"]));
    assert!(seeded != bytes("c.onnx", &["--seed", "8"]));
}
