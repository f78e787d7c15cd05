//! The page as text: what it holds, and that it needs nothing else.

use std::path::Path;

use onnx_dcomp_engine::dataset::PixelLabels;
use onnx_dcomp_engine::examples::{Example, Said};
use onnx_dcomp_engine::metrics::classification::Classification;
use onnx_dcomp_engine::metrics::segmentation::{ClassMap, Segmentation};
use onnx_dcomp_engine::preprocess::Pixels;
use onnx_dcomp_engine::validate::DropMetric;
use onnx_dcomp_engine::{Task, Validation};

use super::*;
use crate::budget::{Budget, Candidate, Confirmation, Search, Source};
use crate::report::{Compilation, Histogram, Outcome, Point, RemovedWeight, Reproduction, WeightRow};
use crate::validation::{Illustration, Run, ValidationReport};

fn row(name: &str, elements: usize, bytes_after: u64) -> WeightRow {
    WeightRow {
        name: name.to_owned(),
        role: "conv",
        operator: Some("Conv".to_owned()),
        dtype: "f32",
        shape: vec![elements / 9, 9],
        form: "trellis",
        density: 0.4,
        bytes_before: Some(4 * elements as u64),
        bytes_after,
        bits_per_weight: 8.0 * bytes_after as f64 / elements as f64,
        left_alone: None,
    }
}

fn compilation() -> Compilation {
    Compilation {
        input: "nets/<b>net & co.onnx".into(),
        output: Some("out.onnx".into()),
        outcome: Outcome::Compressed,
        bytes_before: 1_000_000,
        bytes_after: 80_000,
        graph_bytes_before: 10_000,
        graph_bytes_after: 2_000,
        pipeline: "fold, quantize, pack".to_owned(),
        passes: Vec::new(),
        weights: vec![
            row("conv1.weight", 180_000, 60_000),
            row("a.very.long.name.of.a.layer.deep.in.a.network.conv2.weight", 60_000, 17_000),
            row("tiny.weight", 90, 40),
        ],
        removed: vec![RemovedWeight { name: "bn.scale".to_owned(), bytes: 64 }],
        evidence: None,
        evidence_file: None,
        fidelity: None,
        search: None,
        validation: None,
        warnings: Vec::new(),
        dependencies: Vec::new(),
    }
}

fn candidate(bytes: u64, drop_points: f64, keeps_budget: bool) -> Candidate {
    Candidate {
        quality: 30.0,
        bytes,
        samples: 1000,
        drop_points,
        standard_error: 0.1,
        agreement_percent: Some(98.0),
        sqnr_db: 25.0,
        keeps_budget,
    }
}

fn search() -> Search {
    Search {
        budget: Budget::MaxDrop(0.5),
        metric: DropMetric::Top1,
        source: Source::Samples,
        samples: 1000,
        sparsity: None,
        candidates: vec![
            candidate(90_000, 0.1, true),
            candidate(60_000, 48.0, false),
            candidate(80_000, 0.3, true),
            candidate(74_000, 0.9, false),
            candidate(77_000, f64::NAN, false),
        ],
        chosen: Some(2),
        confirmation: Some(Confirmation {
            samples: 1000,
            drop_points: 0.2,
            interval_95: [-0.1, 0.5],
            certainty: 0.97,
            tries: 2,
        }),
    }
}

fn validated(validation: Validation, illustration: Illustration) -> ValidationReport {
    let run =
        Run { runtime: "tract".to_owned(), drop: validation.drop(), validation, illustration: Some(illustration) };
    ValidationReport {
        original: "a.onnx".into(),
        compressed: "b.onnx".into(),
        data: "data".into(),
        runs: vec![run],
        skipped: Vec::new(),
        agreement: None,
        max_drop: Some(0.5),
    }
}

fn validation(task: Task) -> Validation {
    Validation {
        samples: 40,
        labelled: 40,
        task,
        outputs: Vec::new(),
        classification: None,
        segmentation: None,
        expected: None,
        notes: Vec::new(),
    }
}

fn classified() -> ValidationReport {
    let mut tally = Classification::new(3);
    let outputs = |class: usize| (0..3).map(|index| f32::from(u8::from(index == class))).collect::<Vec<_>>();
    for sample in 0..40 {
        tally.add(&outputs(sample % 3), &outputs(if sample == 7 { 0 } else { sample % 3 }), Some(sample % 3));
    }
    let picture = Pixels { height: 2, width: 2, channels: 1, values: vec![0, 90, 180, 255] };
    let said = Said::Class { label: Some(1), original: 1, compressed: 0 };
    let examples = vec![Example { name: "x/seven.png".to_owned(), picture, said }];
    let names = ["cat", "dog", "frog"].map(str::to_owned).to_vec();
    let found = Validation { classification: Some(tally.report()), ..validation(Task::Classification) };
    validated(found, Illustration { class_names: names, examples })
}

fn segmented() -> ValidationReport {
    let map = |classes: [u16; 4]| ClassMap { height: 2, width: 2, classes: classes.to_vec() };
    let labels = PixelLabels { height: 2, width: 2, classes: vec![0, 1, 1, 255] };
    let (original, compressed) = (map([0, 1, 1, 1]), map([0, 1, 0, 1]));
    let mut tally = Segmentation::new(2, Some(255));
    tally.add([&original, &compressed], Some(&labels)).unwrap();
    let picture = Pixels { height: 2, width: 2, channels: 3, values: vec![128; 12] };
    let said = Said::Pixels { label: Some(labels), original, compressed, agreement_percent: 75.0 };
    let examples = vec![Example { name: "street.png".to_owned(), picture, said }];
    let found = Validation { segmentation: Some(tally.report()), ..validation(Task::Segmentation) };
    validated(found, Illustration { class_names: Vec::new(), examples })
}

fn rendered(made: &Compilation, failure: Option<&str>) -> String {
    let histogram = |points: Vec<Point>| Histogram {
        weight: "conv1.weight".to_owned(),
        low: -1.0,
        high: 1.0,
        before: vec![1, 5, 9, 5, 1],
        after: vec![0, 4, 13, 4, 0],
        zeros_after: 10,
        points,
    };
    let point = |(value, count)| Point { value, count };
    let points = [(-0.5, 4), (0.0, 10), (0.5, 7)].map(point).to_vec();
    page(&Report {
        version: "1.2.3",
        input_sha256: "abcdef",
        failure: failure.map(str::to_owned),
        compilation: made,
        histograms: &[histogram(points), histogram(Vec::new())],
        reproduction: &Reproduction {
            command: "onnx-dcomp 'a b.onnx' -o out.onnx".to_owned(),
            recipe: "pipeline = \"fold, pack(coder=fast)\"".to_owned(),
        },
    })
}

/// Asserts that every element that is opened is closed, in the right order, and that no attribute is given twice.
fn assert_well_formed(page: &str) {
    const VOID: [&str; 4] = ["meta", "link", "img", "br"];
    let (head, rest) = page.split_once("<style>").unwrap();
    let (_, body) = rest.split_once("</style>").unwrap();
    let text = format!("{head}{body}");
    let mut open = Vec::new();
    for tag in text.split('<').skip(1) {
        let (tag, _) = tag.split_once('>').unwrap_or_else(|| panic!("`<{tag}` never ends"));
        if tag.starts_with('!') {
            continue;
        }
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "`</{name}>` closes nothing");
            continue;
        }
        let name = tag.split_whitespace().next().unwrap();
        assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
        let mut names: Vec<&str> = tag.split('"').step_by(2).flat_map(str::split_whitespace).collect();
        names.retain(|name| name.ends_with('='));
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all, "an attribute stands twice in <{tag}>");
        if !VOID.contains(&name) {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "never closed: {open:?}");
}

/// Asserts that nothing outside of the page is referred to.
fn assert_self_contained(page: &str) {
    for reference in ["http:", "https:", "//", "@import", "<script", "<iframe", "url(/", "file:"] {
        let found = page.match_indices(reference).map(|(at, _)| &page[at.saturating_sub(60)..at]);
        // Slashes also occur in what base64 makes of pictures.
        let real: Vec<&str> = found.filter(|before| reference != "//" || before.ends_with(':')).collect();
        assert!(real.is_empty(), "{reference} after {real:?}");
    }
    for source in page.split("src=\"").skip(1) {
        assert!(source.starts_with("data:image/"), "{}", &source[..source.len().min(40)]);
    }
    assert!(page.contains("Content-Security-Policy"));
}

#[test]
fn every_page_is_well_formed_and_needs_nothing_else() {
    let mut made = compilation();
    for validation in [None, Some(classified()), Some(segmented())] {
        for search in [None, Some(search()), Some(Search { chosen: None, confirmation: None, ..search() })] {
            (made.validation, made.search) = (validation.clone(), search);
            for failure in [None, Some("top-1 falls by <5> points")] {
                let page = rendered(&made, failure);
                assert_well_formed(&page);
                assert_self_contained(&page);
                assert!(
                    !page.contains("NaN")
                        || page.matches("NaN").count()
                            == page.matches("loss NaN").count() + page.matches(">NaN").count()
                );
            }
        }
    }
}

#[test]
fn names_are_shown_as_text_whatever_they_hold() {
    let page = rendered(&compilation(), None);
    assert!(page.contains("&lt;b&gt;net &amp; co.onnx"), "{page}");
    assert!(!page.contains("<b>"));
}

#[test]
fn every_large_layer_is_named_and_small_ones_share_a_line() {
    let page = rendered(&compilation(), None);
    assert!(
        page.contains("conv1.weight")
            && page.contains("title=\"a.very.long.name.of.a.layer.deep.in.a.network.conv2.weight\"")
    );
    assert!(page.contains("1 small weights") && !page.contains("tiny.weight"));
    assert!(page.contains("12.5") && page.contains("× smaller") && page.contains("1.00 MB"));
}

#[test]
fn there_are_rules_for_light_and_for_dark_and_every_colour_has_both() {
    let page = rendered(&compilation(), None);
    let (light, rest) = STYLE.split_once("@media (prefers-color-scheme: dark)").unwrap();
    let (dark, rules) = rest.split_once("\n}\n").unwrap();
    assert!(page.contains("prefers-color-scheme: dark"));
    let names = |text: &str| {
        let mut names: Vec<String> =
            text.split("--").skip(1).filter_map(|rule| rule.split_once(':')).map(|(name, _)| name.to_owned()).collect();
        names.sort();
        names
    };
    assert_eq!(names(light), names(dark));
    for used in rules.split("var(--").skip(1).filter_map(|rule| rule.split_once(')')).map(|(name, _)| name) {
        assert!(names(light).iter().any(|name| name == used) || ["photo", "shape"].contains(&used), "{used}");
    }
}

#[test]
fn the_curve_tells_kept_from_broken_and_marks_the_choice_and_its_interval() {
    let mut made = compilation();
    made.search = Some(search());
    let page = rendered(&made, None);
    let svg = page.split_once("figure class=\"plot\"").unwrap().1.split_once("</svg>").unwrap().0;
    assert_eq!(svg.matches("candidate kept").count(), 2, "{svg}");
    assert_eq!(svg.matches("candidate broken").count(), 3);
    assert_eq!((svg.matches("class=\"halo\"").count(), svg.matches("class=\"confirmed\"").count()), (1, 1));
    // What lies far above is drawn at the edge with its number.
    assert!(svg.contains(">48.0<") && svg.contains("budget: 0.5 points"), "{svg}");
    for number in ["80,000 bytes", "−0.50 to +0.10", "not quite unseen"] {
        assert!(page.contains(number), "{number}");
    }
    made.search = Some(Search { budget: Budget::MaxBytes(81_000), ..search() });
    assert!(rendered(&made, None).contains("budget: 81,000 bytes"));
}

#[test]
fn classes_have_their_names_their_confusion_and_samples_that_differ() {
    let mut made = compilation();
    made.validation = Some(classified());
    let page = rendered(&made, None);
    for text in ["Recall of each class", "frog", "Confusion, original", "What changed", "data:image/png", "seven.png"] {
        assert!(page.contains(text), "{text}");
    }
}

#[test]
fn scenes_have_one_photograph_and_four_maps() {
    let mut made = compilation();
    made.validation = Some(segmented());
    let page = rendered(&made, None);
    assert_eq!(page.matches("--photo:url(data:image/").count(), 1);
    assert_eq!(page.matches("<img src=\"data:image/png").count(), 4);
    assert!(page.contains("IoU of each class") && page.contains("75.00 %"));
}

#[test]
fn a_broken_bound_is_said_first() {
    let page = rendered(&compilation(), Some("top-1 falls by 5 points"));
    let (at, hero) = (page.find("Not written.").unwrap(), page.find("class=\"hero\"").unwrap());
    assert!(at < hero);
}

#[test]
fn bytes_and_points_read_as_people_say_them() {
    let bytes = [
        (0, "0 B"),
        (999, "999 B"),
        (1_000, "1.00 kB"),
        (27_431, "27.4 kB"),
        (999_900, "1.00 MB"),
        (537_000_000, "537 MB"),
    ];
    for (number, text) in bytes {
        assert_eq!(bytes_text(number), text);
    }
    assert_eq!(
        (points_text(-0.5, 2), points_text(0.25, 2), points_text(-0.001, 2)),
        ("−0.50".into(), "+0.25".into(), "±0.00".into())
    );
    assert_eq!(file_name(Path::new("a/b.onnx")), "b.onnx");
}
