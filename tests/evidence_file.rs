//! `--evidence FILE`: what was found out once is not found out again, and changes nothing but time.

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use predicates::str::contains;
use serde_json::Value;
use support::{fixture, folder, names_in, program};

/// A copy of LeNet-5 and its digits in a folder of their own, so that both can change.
struct Workshop {
    folder: tempfile::TempDir,
}

impl Workshop {
    fn new() -> Self {
        let folder = folder();
        for name in ["lenet5.onnx", "lenet5.preprocess.toml"] {
            fs::copy(fixture(name), folder.path().join(name)).expect("the fixture is there");
        }
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Compresses with `arguments` and the file of evidence; the bytes of the output, and what the program prints.
    fn compress(&self, arguments: &[&str]) -> (Vec<u8>, Value) {
        let (output, evidence) = (self.path("out.onnx"), self.path("net.evidence"));
        let ran = program()
            .arg(self.path("lenet5.onnx"))
            .arg("-o")
            .arg(&output)
            .arg("--json")
            .arg("--evidence")
            .arg(&evidence)
            .args(arguments)
            .assert()
            .success();
        let printed = serde_json::from_slice(&ran.get_output().stdout).expect("the program prints JSON");
        (fs::read(output).expect("the output is there"), printed)
    }
}

/// Where the only piece of evidence came from: `file`, or why it was gathered.
fn found(printed: &Value) -> String {
    let found = printed["evidence_file"]["found"].as_array().expect("what was done is said");
    assert_eq!(found.len(), 1, "{printed}");
    let text = |value: &Value| value.as_str().map(str::to_owned);
    match text(&found[0]["reason"]) {
        Some(reason) => reason,
        None => text(&found[0]["from"]).expect("it says from where"),
    }
}

fn digits() -> String {
    fixture("digits").display().to_string()
}

#[test]
fn a_second_run_reads_what_the_first_found_out_and_gives_the_same_bytes() {
    let data = digits();
    for arguments in [
        &[][..],
        &["--calibrate", "--data", &data],
        &["--max-drop", "2", "--data", &data],
        &["--max-bytes", "20000", "--data", &data],
    ] {
        let workshop = Workshop::new();
        let (first, printed) = workshop.compress(arguments);
        assert_eq!(found(&printed), "there was no such file", "{arguments:?}");
        let kept = fs::read(workshop.path("net.evidence")).unwrap();
        let (second, again) = workshop.compress(arguments);
        assert_eq!(found(&again), "file", "{arguments:?}");
        assert!(first == second, "{arguments:?}: the bytes changed");
        assert_eq!(again["evidence"], printed["evidence"], "the report says the same of where it comes from");
        assert!(kept == fs::read(workshop.path("net.evidence")).unwrap(), "{arguments:?}: the file changed");
        assert_eq!(
            names_in(workshop.folder.path()),
            ["lenet5.onnx", "lenet5.preprocess.toml", "net.evidence", "out.onnx"]
        );
    }
}

#[test]
fn the_output_is_the_same_without_the_file() {
    let (data, workshop) = (digits(), Workshop::new());
    workshop.compress(&["--calibrate", "--data", &data]);
    let (kept, _) = workshop.compress(&["--calibrate", "--data", &data]);
    let plain = workshop.path("plain.onnx");
    support::compress(&workshop.path("lenet5.onnx"), &plain, &["--calibrate", "--data", &data]);
    assert!(kept == fs::read(plain).unwrap());
}

#[test]
fn another_quality_needs_nothing_new_but_another_model_other_samples_and_another_seed_do() {
    let (workshop, digits) = (Workshop::new(), fixture("digits"));
    let data = workshop.path("data");
    fs::create_dir(&data).unwrap();
    for name in names_in(&digits) {
        fs::copy(digits.join(&name), data.join(&name)).unwrap();
    }
    let data = data.display().to_string();
    let calibrated = ["--calibrate", "--data", &data];
    let with = |more: &[&str]| found(&workshop.compress(&[&calibrated[..], more].concat()).1);
    assert_eq!(with(&[]), "there was no such file");
    assert_eq!(with(&["--quality", "high"]), "file");
    assert!(with(&["--seed", "3"]).ends_with("that of other inputs and other options"), "the seed draws the half too");
    assert_eq!(with(&["--seed", "3"]), "file");
    assert!(with(&["--seed", "3", "--limit", "100"]).ends_with("that of other inputs"));
    assert!(with(&["--seed", "3", "--limit", "100", "--scale", "0.01"]).ends_with("that of other inputs"));
    let synthetic = || found(&workshop.compress(&["--seed", "3"]).1);
    assert!(synthetic().contains("other inputs"));
    assert_eq!(synthetic(), "file");
    let model = workshop.path("lenet5.onnx");
    let mut bytes = fs::read(&model).unwrap();
    // The sign of some weight.
    let middle = bytes.len() / 2;
    bytes[middle..middle + 4].iter_mut().for_each(|byte| *byte ^= 1);
    fs::write(&model, bytes).unwrap();
    assert!(synthetic().ends_with("that of another model"));
}

#[test]
fn a_damaged_file_is_gathered_anew_and_replaced() {
    let workshop = Workshop::new();
    let (bytes, _) = workshop.compress(&[]);
    let file = workshop.path("net.evidence");
    let whole = fs::read(&file).unwrap();
    let flipped = |at: usize| {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x10;
        damaged
    };
    let damages = [
        (whole[..whole.len() - 1].to_vec(), "damaged"),
        (whole[..whole.len() / 2].to_vec(), "damaged"),
        (whole[..100].to_vec(), "damaged"),
        (flipped(whole.len() - 10), "digest"),
        (flipped(whole.len() / 2), "damaged"),
        ([whole.clone(), vec![0; 9]].concat(), "damaged"),
        (Vec::new(), "empty"),
    ];
    for (damaged, reason) in damages {
        fs::write(&file, damaged).unwrap();
        let (again, printed) = workshop.compress(&[]);
        assert!(found(&printed).contains(reason), "{}", found(&printed));
        assert!(again == bytes && fs::read(&file).unwrap() == whole, "{reason}");
    }
}

#[test]
fn what_is_no_evidence_is_never_replaced() {
    let workshop = Workshop::new();
    let refuses = |evidence: &Path, message: &str| {
        program()
            .arg(workshop.path("lenet5.onnx"))
            .arg("-o")
            .arg(workshop.path("out.onnx"))
            .arg("--evidence")
            .arg(evidence)
            .assert()
            .failure()
            .stderr(contains(message));
        assert!(!workshop.path("out.onnx").exists());
    };
    let foreign = workshop.path("notes.txt");
    for text in ["a", "notes, long enough to have held the header of a file of evidence, and then some more"] {
        fs::write(&foreign, text).unwrap();
        refuses(&foreign, "is no file of evidence");
        assert_eq!(fs::read_to_string(&foreign).unwrap(), text);
    }
    let model = fs::read(workshop.path("lenet5.onnx")).unwrap();
    refuses(&workshop.path("lenet5.onnx"), "is no file of evidence");
    assert!(fs::read(workshop.path("lenet5.onnx")).unwrap() == model);
    refuses(&workshop.path("out.onnx"), "give one of them another name");
    refuses(workshop.folder.path(), "Cannot read");
    refuses(&workshop.path("absent/net.evidence"), "there is no folder");
}

#[test]
fn where_layers_change_on_the_way_both_pieces_are_kept() {
    let workshop = Workshop::new();
    let passes = ["--passes", "fold, low-rank(rank=4), quantize, strip, pack"];
    let from = |printed: &Value| -> Vec<String> {
        let found = printed["evidence_file"]["found"].as_array().expect("what was done is said").iter();
        found.map(|found| found["from"].as_str().expect("it says from where").to_owned()).collect()
    };
    let (first, printed) = workshop.compress(&passes);
    assert_eq!(from(&printed), ["gathered", "gathered"]);
    let (second, printed) = workshop.compress(&passes);
    assert_eq!(from(&printed), ["file", "file"]);
    assert!(first == second);
}

#[test]
fn people_are_told_and_nothing_is_kept_where_no_pass_asks() {
    let workshop = Workshop::new();
    let says = |arguments: &[&str], message: &str| {
        program()
            .arg(workshop.path("lenet5.onnx"))
            .arg("-o")
            .arg(workshop.path("out.onnx"))
            .arg("--evidence")
            .arg(workshop.path("net.evidence"))
            .args(arguments)
            .assert()
            .success()
            .stdout(contains(message));
    };
    says(&["--lossless"], "no pass asked for any");
    assert!(!workshop.path("net.evidence").exists());
    says(&[], "gathered, since there was no such file; kept in");
    says(&[], "nothing was gathered");
}
