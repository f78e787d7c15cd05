//! How to make the same file again.

use maud::{Markup, html};

use super::Section;
use crate::report::Report;

pub(super) fn section(report: &Report<'_>) -> Option<Section> {
    let made = report.compilation;
    let lead = html! { "The same input, options and version give the same bytes, on any number of threads." };
    let body = html! {
        h3 { "Command" }
        pre { code { (report.reproduction.command) } }
        h3 { "Recipe: the same passes from a file" }
        pre { code { (report.reproduction.recipe) } }
        @if !made.passes.is_empty() {
            details {
                summary { "What each pass did" }
                @for pass in &made.passes {
                    h4 { code { (pass.text) } " " small { (format!("{:.2} s", pass.took.as_secs_f64())) } }
                    (changes(&pass.changes))
                }
            }
        }
        @if let Some(evidence) = &made.evidence {
            p.note { "Sensitivity was estimated from " (evidence) "." }
        }
    };
    Some(Section { id: "recipe", title: "Recipe", lead, body })
}

/// Lines of a pass that are shown; one for each weight of a large network would be a book.
const MOST_CHANGES: usize = 60;

fn changes(changes: &[String]) -> Markup {
    html! {
        @if !changes.is_empty() {
            ul.changes {
                @for change in changes.iter().take(MOST_CHANGES) { li { (change) } }
                @if changes.len() > MOST_CHANGES { li { "and " (changes.len() - MOST_CHANGES) " more" } }
            }
        }
    }
}
