//! Reports: what is in them, when they are written, and how a browser takes the page.

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use onnx_dcomp_ir::Model;
use serde_json::Value;
use support::{compress, fixture, folder, names_in, program};

fn arguments<'a>(report: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["--report", report], more].concat()
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn without_samples_the_page_tells_of_sizes_weights_and_the_recipe() {
    let folder = folder();
    let (output, report) = (folder.path().join("out.onnx"), folder.path().join("report.html"));
    compress(&fixture("lenet5.onnx"), &output, &arguments(report.to_str().unwrap(), &[]));
    let page = text(&report);
    assert_eq!(names_in(folder.path()), ["out.onnx", "report.html"]);
    for (_, weight) in Model::open(&fixture("lenet5.onnx")).unwrap().weights().filter(|(_, weight)| weight.len() > 256)
    {
        assert!(page.contains(&weight.name), "{} is missing", weight.name);
    }
    for part in
        ["id=\"layers\"", "id=\"weights\"", "id=\"recipe\"", "onnx-dcomp ", "pipeline = ", "prefers-color-scheme"]
    {
        assert!(page.contains(part), "{part} is missing");
    }
    for absent in ["id=\"accuracy\"", "id=\"samples\"", "id=\"search\"", "http://", "https://", "<script"] {
        assert!(!page.contains(absent), "{absent} is there");
    }
    assert!(page.len() < 500_000, "{} bytes", page.len());
}

#[test]
fn with_samples_the_page_tells_of_classes_and_shows_what_differs() {
    let folder = folder();
    let (output, report) = (folder.path().join("out.onnx"), folder.path().join("report.html"));
    let digits = fixture("digits").display().to_string();
    let passes = "fold, prune(sparsity=0.93), share(clusters=4), strip, pack";
    let more = ["--data", &digits, "--passes", passes, "--limit", "200"];
    compress(&fixture("lenet5.onnx"), &output, &arguments(report.to_str().unwrap(), &more));
    let page = text(&report);
    for part in
        ["Recall of each class", "Confusion, compressed", "different classes", "data:image/png;base64,", "top-1"]
    {
        assert!(page.contains(part), "{part} is missing");
    }
}

#[test]
fn the_json_holds_what_the_page_shows_and_its_recipe_makes_the_same_weights() {
    let folder = folder();
    let (output, report) = (folder.path().join("out.onnx"), folder.path().join("report.json"));
    compress(&fixture("lenet300.onnx"), &output, &arguments(report.to_str().unwrap(), &["--quality", "small"]));
    let json: Value = serde_json::from_str(&text(&report)).unwrap();
    assert_eq!(json["bytes_after"].as_u64(), Some(output.metadata().unwrap().len()));
    assert_eq!(json["output"].as_str(), output.to_str());
    let histogram = &json["histograms"][0];
    let sum = |key: &str| histogram[key].as_array().unwrap().iter().map(|count| count.as_u64().unwrap()).sum::<u64>();
    assert!(sum("before") > 0 && sum("before") == sum("after"), "{histogram}");
    let command = json["reproduction"]["command"].as_str().unwrap();
    assert!(command.contains("lenet300.onnx") && command.ends_with("--quality small"), "{command}");
    let recipe = folder.path().join("recipe.toml");
    std::fs::write(&recipe, json["reproduction"]["recipe"].as_str().unwrap()).unwrap();
    let again = folder.path().join("again.onnx");
    compress(&fixture("lenet300.onnx"), &again, &["--recipe", recipe.to_str().unwrap()]);
    let plain = |packed: &Path| {
        let plain = packed.with_extension("plain.onnx");
        program().arg("decompress").arg(packed).arg("-o").arg(&plain).assert().success();
        let model = Model::open(&plain).unwrap();
        model.weights().map(|(_, weight)| weight.original.bytes().to_vec()).collect::<Vec<_>>()
    };
    assert!(plain(&output) == plain(&again), "the recipe makes other weights");
}

#[test]
fn a_broken_bound_leaves_the_report_and_no_model() {
    let folder = folder();
    let (output, report) = (folder.path().join("out.onnx"), folder.path().join("report.html"));
    program()
        .arg(fixture("lenet5.onnx"))
        .arg("-o")
        .arg(&output)
        .args(["--passes", "prune(sparsity=0.99), pack", "--max-drop", "0.01", "--limit", "100", "--report"])
        .arg(&report)
        .arg("--data")
        .arg(fixture("digits"))
        .assert()
        .code(3);
    assert_eq!(names_in(folder.path()), ["report.html"]);
    let page = text(&report);
    assert!(page.contains("Not written.") && page.contains("the bound is 0.01 points"));
}

#[test]
fn a_dry_run_writes_the_report_alone() {
    let folder = folder();
    let report = folder.path().join("report.json");
    program().arg(fixture("lenet300.onnx")).arg("--dry-run").arg("--report").arg(&report).assert().success();
    assert_eq!(names_in(folder.path()), ["report.json"]);
}

#[test]
fn a_report_of_no_known_kind_or_in_the_place_of_a_model_is_refused_before_work_starts() {
    let folder = folder();
    let model = folder.path().join("net.html");
    std::fs::copy(fixture("lenet300.onnx"), &model).unwrap();
    let before = std::fs::read(&model).unwrap();
    let refused = |output: &str, report: &str, reason: &str| {
        let output = folder.path().join(output);
        let run = program().arg(&model).arg("-o").arg(output).arg("--report").arg(folder.path().join(report)).assert();
        run.code(2).stderr(predicates::str::contains(reason.to_owned()));
    };
    refused("out.onnx", "report.pdf", "give it the ending .html");
    refused("out.onnx", "net.html", "would replace the model");
    refused("out.json", "out.json", "would replace the model");
    assert_eq!(names_in(folder.path()), ["net.html"]);
    assert!(std::fs::read(&model).unwrap() == before);
    program()
        .arg(&model)
        .arg("-o")
        .arg(folder.path().join("out.onnx"))
        .arg("--report")
        .arg(folder.path().join("absent/report.html"))
        .assert()
        .code(1)
        .stderr(predicates::str::contains("Cannot write"));
}

/// A browser without a window; `None` with a word on the standard error where none is installed.
fn browser() -> Option<PathBuf> {
    let folders: Vec<PathBuf> = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).collect();
    let names = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"];
    let found =
        names.iter().find_map(|name| folders.iter().map(|folder| folder.join(name)).find(|path| path.is_file()));
    if found.is_none() {
        eprintln!("skipped: no Chromium or Chrome was found in PATH");
    }
    found
}

/// What the page at `page` becomes in a browser, and what the browser says on its console.
fn opened(browser: &Path, page: &Path, profile: &Path) -> (String, Vec<String>) {
    let done = Command::new(browser)
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--enable-logging=stderr",
            "--dump-dom",
        ])
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg(format!("file://{}", page.display()))
        .output()
        .expect("the browser starts");
    let said = String::from_utf8_lossy(&done.stderr);
    let console = said.lines().filter(|line| line.contains("CONSOLE")).map(str::to_owned).collect();
    (String::from_utf8_lossy(&done.stdout).into_owned(), console)
}

#[test]
fn a_browser_opens_the_page_without_a_complaint() {
    let Some(browser) = browser() else { return };
    let folder = folder();
    let (page, profile) = (folder.path().join("report.html"), folder.path().join("profile"));
    // A page that complains shows that complaints would be heard.
    let complaining = folder.path().join("complaining.html");
    std::fs::write(&complaining, "<!DOCTYPE html><script>console.error('heard')</script>").unwrap();
    if !opened(&browser, &complaining, &profile).1.iter().any(|line| line.contains("heard")) {
        eprintln!("skipped: {} does not tell what is said on its console", browser.display());
        return;
    }
    let digits = fixture("digits").display().to_string();
    let more = ["--data", &digits, "--limit", "100", "--quality", "small"];
    let output = folder.path().join("out.onnx");
    compress(&fixture("lenet5.onnx"), &output, &arguments(page.to_str().unwrap(), &more));
    let (shown, console) = opened(&browser, &page, &profile);
    assert!(console.is_empty(), "{console:#?}");
    assert!(shown.contains("× smaller") && shown.contains("</footer>"), "the browser shows another page");
}
