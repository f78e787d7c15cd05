//! The arrows between the crates point one way only.

use std::collections::{BTreeMap, BTreeSet};

/// What each crate may depend on, of our own.
const ALLOWED: [(&str, &[&str]); 13] = [
    ("onnx-dcomp-proto", &[]),
    ("onnx-dcomp-forms", &[]),
    ("onnx-dcomp-codec", &["onnx-dcomp-forms"]),
    ("onnx-dcomp-ir", &["onnx-dcomp-proto", "onnx-dcomp-forms"]),
    ("onnx-dcomp-passes", &["onnx-dcomp-proto", "onnx-dcomp-ir", "onnx-dcomp-forms", "onnx-dcomp-codec"]),
    ("onnx-dcomp-kernels", &["onnx-dcomp-forms", "onnx-dcomp-codec"]),
    ("onnx-dcomp-runtime", &["onnx-dcomp-forms", "onnx-dcomp-codec", "onnx-dcomp-kernels"]),
    ("onnx-dcomp-ort", &["onnx-dcomp-forms", "onnx-dcomp-codec", "onnx-dcomp-kernels", "onnx-dcomp-load"]),
    ("onnx-dcomp-c", &["onnx-dcomp-codec", "onnx-dcomp-load"]),
    ("onnx-dcomp-load", &["onnx-dcomp-proto", "onnx-dcomp-ir", "onnx-dcomp-forms", "onnx-dcomp-codec"]),
    (
        "onnx-dcomp-engine",
        &[
            "onnx-dcomp-proto",
            "onnx-dcomp-ir",
            "onnx-dcomp-forms",
            "onnx-dcomp-codec",
            "onnx-dcomp-load",
            "onnx-dcomp-runtime",
        ],
    ),
    (
        "onnx-dcomp",
        &[
            "onnx-dcomp-proto",
            "onnx-dcomp-ir",
            "onnx-dcomp-forms",
            "onnx-dcomp-codec",
            "onnx-dcomp-load",
            "onnx-dcomp-passes",
            "onnx-dcomp-engine",
        ],
    ),
    ("onnx-dcomp-fixtures", &["onnx-dcomp-proto"]),
];

/// Our crates, with what of our own they depend on outside of tests.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let metadata = cargo_metadata::MetadataCommand::new().no_deps().exec().expect("cargo describes the workspace");
    let of_package = |package: &cargo_metadata::Package| {
        let normal = |dependency: &&cargo_metadata::Dependency| {
            dependency.kind == cargo_metadata::DependencyKind::Normal && dependency.name.starts_with("onnx-dcomp")
        };
        let own = package.dependencies.iter().filter(normal).map(|dependency| dependency.name.clone());
        (package.name.to_string(), own.collect())
    };
    metadata.packages.iter().map(of_package).collect()
}

#[test]
fn no_crate_knows_more_than_it_may() {
    let found = dependencies();
    for (name, dependencies) in &found {
        let allowed = ALLOWED.iter().find(|(known, _)| known == name);
        let (_, allowed) = allowed.unwrap_or_else(|| panic!("say in this test what the new crate `{name}` may know"));
        for dependency in dependencies {
            assert!(allowed.contains(&dependency.as_str()), "`{name}` must not know `{dependency}`");
        }
    }
    assert!(found.len() >= ALLOWED.len(), "{found:?}");
}

#[test]
fn a_device_that_only_runs_a_model_links_no_compiler() {
    let light = ["onnx-dcomp-forms", "onnx-dcomp-codec", "onnx-dcomp-kernels"];
    let runtime = &dependencies()["onnx-dcomp-runtime"];
    assert!(runtime.iter().all(|name| light.contains(&name.as_str())), "{runtime:?}");
}
