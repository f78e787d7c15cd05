//! The tables after a validation.

use std::fmt::Write as _;

use onnx_dcomp_engine::metrics::Both;

use super::style::{Style, grouped};
use crate::validation::{Run, ValidationReport};

/// The most classes that have a line each.
const MAX_CLASSES: usize = 40;

impl ValidationReport {
    /// The tables, ready to print.
    pub fn to_text(&self, style: Style) -> String {
        let mut text = comparison_table(self, style);
        if let Some(classes) = self.runs.first().and_then(|run| classes_table(run, style)) {
            let _ = write!(text, "\n{classes}\n");
        }
        text
    }
}

/// One line for each runtime and number, and what is to be said beside.
pub(crate) fn comparison_table(report: &ValidationReport, style: Style) -> String {
    let mut table = style.table(&["runtime", "measure", ">original", ">compressed", ">drop (points)"]);
    for run in &report.runs {
        for (name, both) in numbers(run) {
            let points = format!("{:+.3}", both.drop());
            let is_good = report.max_drop.is_none_or(|bound| both.drop() <= bound);
            table.add_row([
                style.strong(&run.runtime),
                comfy_table::Cell::new(name),
                comfy_table::Cell::new(format!("{:.3} %", both.original)),
                comfy_table::Cell::new(format!("{:.3} %", both.compressed)),
                style.verdict(points, is_good),
            ]);
        }
        for (name, value) in likenesses(run) {
            let cells = [run.runtime.clone(), name, String::new(), value, String::new()];
            table.add_row(cells);
        }
    }
    let mut text = format!("{table}\n");
    let samples = report.runs.first().map(|run| (run.validation.samples, run.validation.labelled));
    if let Some((samples, labelled)) = samples {
        let _ = writeln!(
            text,
            "samples    {} of {}, {} with labels",
            grouped(samples as u64),
            report.data.display(),
            grouped(labelled as u64)
        );
    }
    for note in report.runs.first().map(|run| run.validation.notes.as_slice()).unwrap_or_default() {
        let _ = writeln!(text, "assumed    {note}");
    }
    if let Some(agreement) = &report.agreement {
        let classes = agreement.agreement_percent.map(|percent| format!(", same class in {percent:.2} %"));
        let _ = writeln!(
            text,
            "runtimes   {} and {} {} on {} samples: relative error {:.1e}{}",
            agreement.runtimes[0],
            agreement.runtimes[1],
            if agreement.agrees() { "agree" } else { "DISAGREE" },
            agreement.samples,
            agreement.fidelity.relative_error,
            classes.unwrap_or_default()
        );
    }
    for skipped in &report.skipped {
        let _ = writeln!(text, "skipped    {}: {}", skipped.runtime, skipped.reason);
    }
    text
}

/// The numbers that both sides have.
pub(super) fn numbers(run: &Run) -> Vec<(&'static str, Both)> {
    let mut numbers = Vec::new();
    if let Some(report) = &run.validation.classification {
        numbers.extend(report.top1_percent.map(|both| ("top-1", both)));
        numbers.extend(report.top5_percent.map(|both| ("top-5", both)));
    }
    if let Some(report) = &run.validation.segmentation {
        numbers.extend(report.mean_iou_percent.map(|both| ("mIoU", both)));
        numbers.extend(report.pixel_accuracy_percent.map(|both| ("pixel accuracy", both)));
    }
    numbers
}

/// How alike the two sides are.
pub(super) fn likenesses(run: &Run) -> Vec<(String, String)> {
    let mut lines = Vec::new();
    if let Some(report) = &run.validation.classification {
        lines.push(("agreement".to_owned(), format!("{:.3} %", report.agreement_percent)));
    }
    if let Some(report) = &run.validation.segmentation {
        lines.push(("pixel agreement".to_owned(), format!("{:.3} %", report.pixel_agreement_percent)));
    }
    for output in &run.validation.outputs {
        let fidelity = &output.fidelity;
        let distance = match fidelity.sqnr_db {
            f64::INFINITY => "exact".to_owned(),
            decibels => format!("{decibels:.1} dB, ±{:.1e}", fidelity.max_abs_error),
        };
        let broken = match fidelity.non_finite_mismatches {
            0 => String::new(),
            count => format!(", {count} not finite"),
        };
        lines.push((format!("output `{}`", super::style::shortened(&output.name, 20)), distance + &broken));
    }
    if let Some(expected) = &run.validation.expected {
        let sides = format!("{:.1e} / {:.1e}", expected.original.max_abs_error, expected.compressed.max_abs_error);
        lines.push(("error to expected".to_owned(), sides));
    }
    lines
}

fn classes_table(run: &Run, style: Style) -> Option<comfy_table::Table> {
    let (what, counted, rows): (_, _, Vec<(usize, u64, Both)>) = match &run.validation {
        validation if validation.segmentation.as_ref().is_some_and(|report| !report.classes.is_empty()) => {
            let report = validation.segmentation.as_ref()?;
            (
                ">IoU",
                ">pixels",
                report.classes.iter().map(|class| (class.class, class.pixels, class.iou_percent)).collect(),
            )
        }
        validation => {
            let report = validation.classification.as_ref()?;
            let rows = report.classes.iter().map(|class| (class.class, class.samples, class.recall_percent));
            (">recall", ">samples", rows.collect())
        }
    };
    if rows.is_empty() || rows.len() > MAX_CLASSES {
        return None;
    }
    let original = format!("{what} original");
    let compressed = format!("{what} compressed");
    let mut table = style.table(&[">class", counted, &original, &compressed, ">drop (points)"]);
    for (class, count, both) in rows {
        table.add_row([
            class.to_string(),
            grouped(count),
            format!("{:.2} %", both.original),
            format!("{:.2} %", both.compressed),
            format!("{:+.2}", both.drop()),
        ]);
    }
    Some(table)
}
