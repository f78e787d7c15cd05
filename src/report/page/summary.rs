//! The result in one look: sizes, and what they cost.

use maud::{Markup, html};

use super::{bytes_text, percent_length, points_text};
use crate::fidelity::Fidelity;
use crate::report::style::grouped;
use crate::report::validation::numbers;
use crate::report::{Compilation, Outcome, Report};
use crate::validation::Run;

/// The head of the page.
pub(super) fn header(report: &Report<'_>, name: &str) -> Markup {
    let made = report.compilation;
    html! {
        header {
            p.eyebrow { "Compression report" }
            h1 { (name) }
            p.subtitle {
                @match &made.output {
                    Some(output) => { "to " code { (output.display()) } ", " },
                    None => { "nothing was written, " },
                }
                (grouped(made.bytes_before)) " to " (grouped(made.bytes_after)) " bytes"
            }
            @if let Some(failure) = &report.failure {
                p.banner.bad { strong { "Not written. " } (failure) "." }
            }
            @if made.outcome == Outcome::Unchanged {
                p.banner { strong { "Unchanged. " } "No smaller form was found: the output is the input, byte for byte." }
            }
            div.hero {
                p.ratio { (format!("{:.*}", if made.ratio() < 100.0 { 1 } else { 0 }, made.ratio())) span { "× smaller" } }
                div.sizes {
                    (size_bar("before", made.bytes_before, made.bytes_before, "original"))
                    (size_bar("after", made.bytes_after, made.bytes_before, "compressed"))
                }
            }
            div.cards {
                @for card in cards(made) { (card) }
            }
            @for warning in &made.warnings {
                p.banner { strong { "Note. " } (warning) }
            }
        }
    }
}

fn size_bar(label: &str, bytes: u64, whole: u64, class: &str) -> Markup {
    let share = bytes as f64 / whole.max(1) as f64;
    html! {
        div.size {
            span { (label) }
            div.track { div class={ "fill " (class) } style={ "width:" (percent_length(share)) } {} }
            strong title={ (grouped(bytes)) " bytes" } { (bytes_text(bytes)) }
        }
    }
}

fn cards(made: &Compilation) -> Vec<Markup> {
    let mut cards = Vec::new();
    let run = made.validation.as_ref().and_then(|validation| validation.runs.first());
    if let Some(run) = run {
        cards.extend(accuracy_cards(made, run));
    }
    let elements: u64 = made.weights.iter().map(|row| row.shape.iter().product::<usize>() as u64).sum();
    let stored: u64 = made.weights.iter().map(|row| row.bytes_after).sum();
    let nonzero: f64 = made.weights.iter().map(|row| row.density * row.shape.iter().product::<usize>() as f64).sum();
    if elements > 0 {
        let bits = 8.0 * stored as f64 / elements as f64;
        cards.push(card("Bits per weight", &format!("{bits:.2}"), &format!("{} weights", grouped(elements)), ""));
        let zeros = 100.0 * (1.0 - nonzero / elements as f64);
        cards.push(card("Zeros", &format!("{zeros:.1} %"), "of all weights", ""));
    }
    cards.extend(fidelity_card(made.fidelity.as_ref()));
    cards
}

fn accuracy_cards(made: &Compilation, run: &Run) -> Vec<Markup> {
    let bound = made.validation.as_ref().and_then(|validation| validation.max_drop);
    let mut cards = Vec::new();
    for (name, both) in numbers(run).into_iter().take(2) {
        let class = match bound {
            Some(bound) if name == run.drop.metric.name() && run.drop.points > bound => "bad",
            Some(_) if name == run.drop.metric.name() => "good",
            _ => "",
        };
        let change = format!("{} points, was {:.2} %", points_text(-both.drop(), 2), both.original);
        cards.push(card(name, &format!("{:.2} %", both.compressed), &change, class));
    }
    let validation = &run.validation;
    let on_samples = format!("{} samples, {}", grouped(validation.samples as u64), run.runtime);
    if let Some(report) = &validation.classification {
        let text = format!("{:.2} %", report.agreement_percent);
        cards.push(card("Agreement", &text, &on_samples, ""));
    }
    if let Some(report) = &validation.segmentation {
        let text = format!("{:.2} %", report.pixel_agreement_percent);
        cards.push(card("Agreement of pixels", &text, &on_samples, ""));
    }
    cards
}

fn fidelity_card(fidelity: Option<&Fidelity>) -> Option<Markup> {
    let (value, note) = match fidelity? {
        Fidelity::Exact => ("exact".to_owned(), "every weight is what it was".to_owned()),
        Fidelity::Measured { sqnr_db, inputs, .. } if sqnr_db.is_finite() => {
            (format!("{sqnr_db:.1} dB"), format!("signal over noise, {inputs} synthetic inputs"))
        }
        Fidelity::Measured { inputs, .. } => ("no difference".to_owned(), format!("{inputs} synthetic inputs")),
        Fidelity::Unknown { reason } => ("unknown".to_owned(), reason.clone()),
    };
    Some(card("Output fidelity", &value, &note, ""))
}

fn card(label: &str, value: &str, note: &str, class: &str) -> Markup {
    html! {
        div class={ "card " (class) } {
            p.label { (label) }
            p.value { (value) }
            p.note { (note) }
        }
    }
}
