//! What people read before they read anything else.

mod support;

use support::program;

fn help_of(command: &[&str]) -> String {
    let done = program().env("COLUMNS", "100").args(command).arg("--help").assert().success();
    String::from_utf8(done.get_output().stdout.clone()).unwrap()
}

#[test]
fn the_help_is_as_it_was_read() {
    for (name, command) in [
        ("main", &[][..]),
        ("validate", &["validate"]),
        ("decompress", &["decompress"]),
        ("inspect", &["inspect"]),
        ("passes", &["passes"]),
    ] {
        insta::assert_snapshot!(name, help_of(command));
    }
}

#[test]
fn every_pass_and_preset_is_listed() {
    let done = program().arg("passes").assert().success();
    let text = String::from_utf8(done.get_output().stdout.clone()).unwrap();
    for name in onnx_dcomp_passes::registry::names() {
        assert!(text.contains(&format!("{name}: ")), "{name} is missing");
    }
    for preset in onnx_dcomp::plan::preset_names() {
        assert!(text.contains(&format!("  {preset}: ")), "{preset} is missing");
    }
}

#[test]
fn completions_are_made_for_every_shell() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        program().args(["completions", shell]).assert().success().stdout(predicates::str::contains("decompress"));
    }
}

#[test]
fn machines_get_the_passes_and_the_presets() {
    let done = program().args(["passes", "--json"]).assert().success();
    let listed: serde_json::Value = serde_json::from_slice(&done.get_output().stdout).unwrap();
    let names = |of: &str| -> Vec<String> {
        let listed = listed[of].as_array().unwrap().iter();
        listed.map(|entry| entry["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names("passes"), onnx_dcomp_passes::registry::names());
    assert_eq!(names("presets"), onnx_dcomp::plan::preset_names());
}
