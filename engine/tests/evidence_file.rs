//! Evidence in a file: it comes back bit for bit, and nothing else passes for it.

use std::path::Path;
use std::sync::Arc;

use onnx_dcomp_engine::evidence::{EvidenceFile, EvidenceFileError, EvidenceKey, EvidenceOptions};
use onnx_dcomp_ir::{Evidence, Model, MomentBlock, SecondMoment};

fn key(seed: u64) -> EvidenceKey {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/lenet300.onnx");
    let model = Model::open(&path).expect("the fixture is there");
    EvidenceKey::of_synthetic(&model, &EvidenceOptions { seed, ..EvidenceOptions::default() }).expect("a key")
}

/// Evidence with names and numbers that do not come back by luck.
fn evidence() -> Evidence {
    let block = |size: usize| MomentBlock {
        size,
        values: (0..size * size).map(|place| f32::from_bits(0x3f80_0001 + 0x0123_4567 * (place as u32 % 7))).collect(),
    };
    let moment = |sizes: &[usize], mean: usize| SecondMoment {
        blocks: sizes.iter().map(|&size| block(size)).collect(),
        mean: vec![-f32::MIN_POSITIVE / 2.0; mean],
        samples: 12_345,
    };
    Evidence {
        sensitivity: [("a", 0.1 + 0.2), ("a/0", f64::MIN_POSITIVE), ("\"ü\\\n", 1e300 / 3.0)]
            .map(|(name, value)| (name.to_owned(), value))
            .into(),
        bias: [("a".to_owned(), "b".to_owned())].into(),
        second_moment: [("a", moment(&[2, 3], 5)), ("a/0", moment(&[1], 0)), ("", moment(&[], 0))]
            .map(|(name, moment)| (name.to_owned(), moment))
            .into(),
        source: "7 samples, \"quoted\"".to_owned(),
    }
}

fn bytes_of(file: &EvidenceFile) -> Vec<u8> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("evidence");
    file.save(&path).expect("the file is written");
    std::fs::read(path).expect("the file is there")
}

fn file() -> EvidenceFile {
    EvidenceFile { entries: vec![(key(1), Arc::new(evidence())), (key(2), Arc::default())] }
}

#[test]
fn evidence_comes_back_bit_for_bit_under_its_key() {
    let file = file();
    let bytes = bytes_of(&file);
    assert_eq!(bytes, bytes_of(&file), "the same evidence gives the same file");
    let read = EvidenceFile::parse(&bytes).expect("it is evidence");
    assert_eq!(read, file);
    assert_eq!(read.find(&key(1)).map(|found| found.source.clone()), Some(evidence().source));
    assert!(read.find(&key(3)).is_none());
    assert_eq!(read.nearest_differences(&key(3)), Some(vec!["other options"]));
}

#[test]
fn no_part_of_a_file_and_no_file_with_a_bit_flipped_is_evidence() {
    let bytes = bytes_of(&file());
    for end in 0..bytes.len() {
        assert!(EvidenceFile::parse(&bytes[..end]).is_err(), "the first {end} bytes");
    }
    let mut flipped = bytes.clone();
    for at in 0..bytes.len() {
        flipped[at] ^= 1 << (at % 8);
        // A space behind the header, or the case of a digit of an escape, may change without changing what is said.
        if let Ok(read) = EvidenceFile::parse(&flipped) {
            assert_eq!(read, file(), "bit {} of byte {at}", at % 8);
        }
        flipped[at] = bytes[at];
    }
}

#[test]
fn other_files_are_foreign() {
    let empty = 2u64.to_le_bytes().into_iter().chain(*b"{}").collect::<Vec<u8>>();
    for bytes in [&b""[..], b"onnx", &[0; 100], &empty] {
        assert!(matches!(EvidenceFile::parse(bytes), Err(EvidenceFileError::Foreign)), "{bytes:?}");
    }
}
