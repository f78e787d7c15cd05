//! What was measured on samples, class by class.

use maud::{Markup, html};
use onnx_dcomp_engine::metrics::Both;

use super::confusion;
use super::picture::class_color;
use super::{Section, percent_length, points_text};
use crate::report::Compilation;
use crate::report::style::grouped;
use crate::report::validation::{likenesses, numbers};
use crate::validation::{Run, ValidationReport};

/// The most classes that have a line each; of more, those that change most.
const MOST_CLASSES: usize = 30;

pub(super) fn section(made: &Compilation) -> Option<Section> {
    let report = made.validation.as_ref().filter(|report| !report.runs.is_empty())?;
    let first = report.runs.first()?;
    let lead = html! {
        (grouped(first.validation.samples as u64)) " samples of " code { (report.data.display()) } ", "
        (grouped(first.validation.labelled as u64)) " with labels, run through both models."
        @if let Some(bound) = report.max_drop { " At most " (bound) " points of " (first.drop.metric.name()) " may be lost." }
    };
    let body = html! {
        (measures(report))
        @if !first.validation.notes.is_empty() {
            p.note { "Assumed: " (first.validation.notes.join("; ")) "." }
        }
        @for skipped in &report.skipped { p.note { "Skipped: " (skipped.runtime) ": " (skipped.reason) } }
        @if let Some(classes) = Classes::of(first) { (classes.markup()) }
        @if let Some(report) = &first.validation.classification { (confusion::matrices(report, class_names(first))) }
    };
    Some(Section { id: "accuracy", title: "Accuracy", lead, body })
}

fn measures(report: &ValidationReport) -> Markup {
    html! {
        div.scroll {
            table {
                thead {
                    tr {
                        th { "Runtime" } th { "Measure" } th.number { "Original" } th.number { "Compressed" }
                        th.number { "Change, points" }
                    }
                }
                tbody {
                    @for run in &report.runs {
                        @for (name, both) in numbers(run) {
                            tr {
                                td { (run.runtime) } td { (name) }
                                td.number { (format!("{:.3} %", both.original)) }
                                td.number { strong { (format!("{:.3} %", both.compressed)) } }
                                td.number { (points_text(-both.drop(), 3)) }
                            }
                        }
                        @for (name, value) in likenesses(run) {
                            tr { td { (run.runtime) } td { (name) } td {} td.number { (value) } td {} }
                        }
                    }
                }
            }
        }
    }
}

/// The names of the classes, as far as anything says them.
pub(super) fn class_names(run: &Run) -> &[String] {
    run.illustration.as_ref().map(|illustration| illustration.class_names.as_slice()).unwrap_or_default()
}

/// What people call class `class`.
pub(super) fn class_name(names: &[String], class: usize) -> String {
    names.get(class).cloned().unwrap_or_else(|| class.to_string())
}

/// A measure of every class.
struct Classes<'a> {
    measure: &'static str,
    counted: &'static str,
    rows: Vec<(usize, u64, Both)>,
    names: &'a [String],
    /// Whether each class has a colour in the pictures.
    coloured: bool,
}

impl<'a> Classes<'a> {
    fn of(run: &'a Run) -> Option<Self> {
        let names = class_names(run);
        let segmentation = run.validation.segmentation.as_ref().filter(|report| !report.classes.is_empty());
        if let Some(report) = segmentation {
            let rows = report.classes.iter().map(|class| (class.class, class.pixels, class.iou_percent)).collect();
            return Some(Self { measure: "IoU", counted: "Pixels", rows, names, coloured: true });
        }
        let report = run.validation.classification.as_ref().filter(|report| !report.classes.is_empty())?;
        let rows = report.classes.iter().map(|class| (class.class, class.samples, class.recall_percent)).collect();
        Some(Self { measure: "Recall", counted: "Samples", rows, names, coloured: false })
    }

    fn markup(mut self) -> Markup {
        let all = self.rows.len();
        if all > MOST_CLASSES {
            self.rows.sort_by(|a, b| b.2.drop().abs().total_cmp(&a.2.drop().abs()).then(a.0.cmp(&b.0)));
            self.rows.truncate(MOST_CLASSES);
        }
        let least = self.rows.iter().map(|(_, _, both)| both.original.min(both.compressed)).fold(100.0, f64::min);
        let low = ((least - 4.0) / 10.0).floor().clamp(0.0, 9.0) * 10.0;
        let at = |percent: f64| percent_length(0.02 + 0.96 * (percent - low) / (100.0 - low));
        html! {
            figure {
                figcaption {
                    (self.measure) " of each class"
                    @if all > MOST_CLASSES { ": the " (MOST_CLASSES) " of " (all) " that change most" }
                }
                p.legend { span.dot.original {} "original" span.dot.compressed {} "compressed" }
                div.scroll {
                    table.classes {
                        thead {
                            tr {
                                th { "Class" }
                                th.wide { span.ends { span { (low) " %" } span { "100 %" } } }
                                th.number { (self.counted) } th.number { "Original" } th.number { "Compressed" }
                                th.number { "Change" }
                            }
                        }
                        tbody {
                            @for (class, count, both) in &self.rows {
                                tr {
                                    td.name {
                                        @if self.coloured { span.swatch style={ "background:" (class_color(*class).css()) } {} }
                                        (class_name(self.names, *class))
                                    }
                                    td.wide { (dumbbell(&at(both.original), &at(both.compressed), both.drop() > 0.0)) }
                                    td.number { (grouped(*count)) }
                                    td.number { (format!("{:.1} %", both.original)) }
                                    td.number { (format!("{:.1} %", both.compressed)) }
                                    td.number.loss[both.drop() >= 0.05].gain[both.drop() <= -0.05] { (points_text(-both.drop(), 1)) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Two points on a line, and what lies between them.
fn dumbbell(original: &str, compressed: &str, is_loss: bool) -> Markup {
    html! {
        svg.dumbbell width="100%" height="18" aria-hidden="true" {
            line.rail x1="2%" x2="98%" y1="9" y2="9" {}
            line class=(if is_loss { "loss" } else { "gain" }) x1=(original) x2=(compressed) y1="9" y2="9" {}
            circle.original cx=(original) cy="9" r="5.5" {}
            circle.compressed cx=(compressed) cy="9" r="4.5" {}
        }
    }
}
