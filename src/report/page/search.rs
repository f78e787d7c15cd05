//! The rate-distortion curve of a budget search.

use maud::{Markup, html};

use super::axis::Axis;
use super::{Section, bytes_text, points_text};
use crate::budget::{Budget, Candidate, Confirmation, Search};
use crate::report::Compilation;
use crate::report::style::grouped;

/// Size of the drawing, and the edges of the plot in it.
const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 380.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 940.0;
const TOP: f64 = 20.0;
const BOTTOM: f64 = 330.0;

/// 97.5 % of a normal distribution lie below so many standard deviations.
const NORMAL_975: f64 = 1.96;

pub(super) fn section(made: &Compilation) -> Option<Section> {
    let search = made.search.as_ref().filter(|search| !search.candidates.is_empty())?;
    let asked = match search.budget {
        Budget::MaxDrop(points) => format!("the smallest file that loses at most {points} points"),
        Budget::MaxBytes(bytes) => format!("the best file of at most {} bytes", grouped(bytes)),
    };
    let lead = html! {
        (search.candidates.len()) " files were tried to find " (asked) ", each measured by " (search.metric.name()) " on "
        (grouped(search.samples as u64)) " " (search.source.name()) ". Lower and further left is better."
    };
    let body = html! {
        figure.plot { (plot(search)) (legend(search)) }
        (verdict(search))
        (table(search))
    };
    Some(Section { id: "search", title: "Search", lead, body })
}

/// The bytes and points of a plot.
struct Plot {
    bytes: Axis,
    points: Axis,
}

impl Plot {
    fn of(search: &Search) -> Self {
        let candidates = &search.candidates;
        let bytes = candidates.iter().map(|candidate| candidate.bytes as f64);
        let bound = match search.budget {
            Budget::MaxBytes(bytes) => Some(bytes as f64),
            Budget::MaxDrop(_) => None,
        };
        let (low, high) = range(bytes.chain(bound));
        let margin = 0.06 * (high - low).max(0.02 * high);
        let points = Axis::new(points_shown(search), [BOTTOM, TOP]);
        Self { bytes: Axis::new([low - margin, high + margin], [LEFT, RIGHT]), points }
    }

    fn x(&self, bytes: u64) -> f64 {
        self.bytes.at(bytes as f64)
    }
}

fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    values
        .filter(|value| value.is_finite())
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)))
}

/// The range of losses that is drawn: what lies far above the bound and the choice would press the rest flat.
fn points_shown(search: &Search) -> [f64; 2] {
    let spread = |candidate: &Candidate| NORMAL_975 * finite(candidate.standard_error);
    let drops = search.candidates.iter().map(|candidate| candidate.drop_points);
    let (_, highest) = range(drops);
    let mut of_interest = vec![0.5];
    if let Budget::MaxDrop(bound) = search.budget {
        of_interest.push(bound);
    }
    let chosen = search.chosen.and_then(|place| search.candidates.get(place));
    of_interest.extend(chosen.map(|chosen| chosen.drop_points + spread(chosen)));
    of_interest.extend(search.confirmation.map(|confirmed| confirmed.interval_95[1]));
    let (_, interest) = range(of_interest.into_iter());
    let top = highest.min(3.0 * interest).max(1.15 * interest);
    let lowest = search.candidates.iter().map(|candidate| candidate.drop_points - spread(candidate));
    let lowest = lowest.chain(search.confirmation.map(|confirmed| confirmed.interval_95[0]));
    let (lowest, _) = range(lowest.chain([0.0]));
    let margin = 0.06 * (top - lowest.max(-top));
    [lowest.max(-top) - margin, top + margin]
}

fn aim(candidate: &Candidate) -> String {
    if candidate.quality.is_finite() { format!("{:.2}", candidate.quality) } else { "∞".to_owned() }
}

fn finite(value: f64) -> f64 {
    if value.is_finite() { value } else { 0.0 }
}

fn plot(search: &Search) -> Markup {
    let plot = Plot::of(search);
    html! {
        svg viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } role="img"
            aria-label={ "loss in " (search.metric.name()) " over bytes of every file that was tried" } {
            (axes(&plot, search))
            (budget(&plot, search.budget))
            polyline.frontier points=(frontier(&plot, &search.candidates)) {}
            @for (place, candidate) in search.candidates.iter().enumerate() {
                (point(&plot, place, candidate, search.chosen == Some(place)))
            }
            @if let Some(chosen) = search.chosen.and_then(|place| search.candidates.get(place)) {
                @if let Some(confirmed) = &search.confirmation { (confirmation(&plot, chosen, confirmed)) }
                (callout(&plot, chosen))
            }
        }
    }
}

fn axes(plot: &Plot, search: &Search) -> Markup {
    html! {
        @for tick in plot.points.ticks(5) {
            @let y = plot.points.at(tick);
            line class={ "grid " (if tick == 0.0 { "zero" } else { "" }) } x1=(LEFT) x2=(RIGHT) y1=(length(y)) y2=(length(y)) {}
            text.tick x=(LEFT - 8.0) y=(length(y + 4.0)) text-anchor="end" { (tick_text(tick)) }
        }
        @for tick in plot.bytes.ticks(7) {
            @let x = plot.bytes.at(tick);
            line.grid.faint x1=(length(x)) x2=(length(x)) y1=(TOP) y2=(BOTTOM) {}
            text.tick x=(length(x)) y=(BOTTOM + 18.0) text-anchor="middle" { (bytes_text(tick.max(0.0) as u64)) }
        }
        text.axis x=((LEFT + RIGHT) / 2.0) y=(HEIGHT - 8.0) text-anchor="middle" { "whole file" }
        text.axis transform={ "translate(16 " ((TOP + BOTTOM) / 2.0) ") rotate(-90)" } text-anchor="middle" {
            "loss in " (search.metric.name()) ", points"
        }
    }
}

fn tick_text(value: f64) -> String {
    let text = format!("{}", (value * 1000.0).round() / 1000.0);
    text.replace('-', "−")
}

/// The bound as a line, and what lies beyond it shaded.
fn budget(plot: &Plot, budget: Budget) -> Markup {
    match budget {
        Budget::MaxDrop(bound) => {
            let y = plot.points.at(bound);
            html! {
                rect.beyond x=(LEFT) y=(TOP) width=(RIGHT - LEFT) height=(length((y - TOP).max(0.0))) {}
                line.bound x1=(LEFT) x2=(RIGHT) y1=(length(y)) y2=(length(y)) {}
                text.bound-label x=(RIGHT - 8.0) y=(length(y - 7.0)) text-anchor="end" { "budget: " (bound) " points" }
            }
        }
        Budget::MaxBytes(bound) => {
            let x = plot.x(bound);
            html! {
                rect.beyond x=(length(x)) y=(TOP) width=(length((RIGHT - x).max(0.0))) height=(BOTTOM - TOP) {}
                line.bound x1=(length(x)) x2=(length(x)) y1=(TOP) y2=(BOTTOM) {}
                text.bound-label x=(length(x - 8.0)) y=(TOP + 14.0) text-anchor="end" { "budget: " (grouped(bound)) " bytes" }
            }
        }
    }
}

/// The candidates that no other one beats in both bytes and loss, as points of a line.
fn frontier(plot: &Plot, candidates: &[Candidate]) -> String {
    let mut sorted: Vec<&Candidate> = candidates.iter().filter(|candidate| candidate.drop_points.is_finite()).collect();
    sorted.sort_by(|a, b| a.bytes.cmp(&b.bytes).then(a.drop_points.total_cmp(&b.drop_points)));
    let mut best = f64::INFINITY;
    sorted.retain(|candidate| {
        let improves = candidate.drop_points < best;
        best = best.min(candidate.drop_points);
        improves
    });
    // What is too far above to be drawn to scale has no place on a line.
    sorted.retain(|candidate| plot.points.holds(candidate.drop_points));
    let place = |candidate: &&Candidate| {
        format!("{},{}", length(plot.x(candidate.bytes)), length(plot.points.at(candidate.drop_points)))
    };
    sorted.iter().map(place).collect::<Vec<_>>().join(" ")
}

fn point(plot: &Plot, place: usize, candidate: &Candidate, is_chosen: bool) -> Markup {
    let (x, y) = (plot.x(candidate.bytes), plot.points.at(candidate.drop_points));
    let error = finite(candidate.standard_error);
    let [above, below] = [error, -error].map(|error| plot.points.at(candidate.drop_points + error));
    let class = if candidate.keeps_budget { "kept" } else { "broken" };
    let is_inside = plot.points.holds(candidate.drop_points);
    html! {
        g class={ "candidate " (class) } {
            title {
                "try " (place + 1) ": " (grouped(candidate.bytes)) " bytes, loss " (format!("{:.3}", candidate.drop_points))
                " ± " (format!("{error:.3}")) " points, aim " (aim(candidate)) " dB"
            }
            @if is_inside {
                line.error x1=(length(x)) x2=(length(x)) y1=(length(above)) y2=(length(below)) {}
            }
            @if is_chosen { circle.halo cx=(length(x)) cy=(length(y)) r="12" {} }
            @if !is_inside {
                // Too far above to be drawn to scale.
                path.mark d={ "M" (length(x - 6.0)) " " (TOP + 11.0) "L" (length(x)) " " (TOP + 1.0) "L" (length(x + 6.0)) " " (TOP + 11.0) "Z" } {}
                text.tick x=(length(x)) y=(TOP + 25.0) text-anchor="middle" { (format!("{:.1}", candidate.drop_points)) }
            } @else if candidate.keeps_budget {
                circle.mark cx=(length(x)) cy=(length(y)) r="5.5" {}
            } @else {
                path.mark d={ "M" (length(x - 4.5)) " " (length(y - 4.5)) "l9 9m0 -9l-9 9" } {}
            }
        }
    }
}

/// What the chosen file loses on samples that the search had not seen, with its interval.
fn confirmation(plot: &Plot, chosen: &Candidate, confirmed: &Confirmation) -> Markup {
    let x = plot.x(chosen.bytes) + 18.0;
    let y = plot.points.at(confirmed.drop_points);
    let [low, high] = confirmed.interval_95.map(|points| plot.points.at(points));
    html! {
        g.confirmed {
            title {
                "confirmed: loss " (format!("{:.3}", confirmed.drop_points)) " points, 95 % between "
                (format!("{:.3} and {:.3}", confirmed.interval_95[0], confirmed.interval_95[1]))
            }
            line x1=(length(x)) x2=(length(x)) y1=(length(high)) y2=(length(low)) {}
            @for end in [low, high] {
                line x1=(length(x - 5.0)) x2=(length(x + 5.0)) y1=(length(end)) y2=(length(end)) {}
            }
            path d={ "M" (length(x)) " " (length(y - 7.0)) "l7 7l-7 7l-7 -7Z" } {}
        }
    }
}

/// The words at the chosen point, on the side where there is room.
fn callout(plot: &Plot, chosen: &Candidate) -> Markup {
    let (x, y) = (plot.x(chosen.bytes), plot.points.at(chosen.drop_points));
    let is_left = x > (LEFT + RIGHT) / 2.0;
    let (x, anchor) = if is_left { (x - 18.0, "end") } else { (x + 32.0, "start") };
    // Above the bottom edge, where the ticks are.
    let y = (y + 4.0).clamp(TOP + 12.0, BOTTOM - 6.0);
    html! {
        text.callout x=(length(x)) y=(length(y)) text-anchor=(anchor) { (bytes_text(chosen.bytes)) }
    }
}

fn legend(search: &Search) -> Markup {
    html! {
        p.legend {
            svg.key viewBox="0 0 16 16" aria-hidden="true" { g.candidate.kept { circle.mark cx="8" cy="8" r="5.5" {} } } "keeps the budget"
            svg.key viewBox="0 0 16 16" aria-hidden="true" { g.candidate.broken { path.mark d="M3.5 3.5l9 9m0 -9l-9 9" {} } } "breaks it"
            @if search.chosen.is_some() {
                svg.key viewBox="0 0 26 26" aria-hidden="true" {
                    g.candidate.kept { circle.halo cx="13" cy="13" r="11" {} circle.mark cx="13" cy="13" r="5.5" {} }
                } "chosen"
            }
            @if search.confirmation.is_some() {
                svg.key viewBox="0 0 16 16" aria-hidden="true" { g.confirmed { path d="M8 1l7 7l-7 7l-7 -7Z" {} } }
                "confirmed on other samples, with 95 % interval"
            }
            svg.key viewBox="0 0 16 16" aria-hidden="true" { polyline.frontier points="0,3 8,12 16,14" {} } "best found; thin bars are ± one standard error"
        }
    }
}

fn verdict(search: &Search) -> Markup {
    match (search.chosen.and_then(|place| search.candidates.get(place)), &search.confirmation) {
        (Some(chosen), Some(confirmed)) => html! {
            p.statement {
                strong { (grouped(chosen.bytes)) " bytes" } " were chosen. On "
                strong { (grouped(confirmed.samples as u64)) " samples that the search had not seen" } ", "
                (search.metric.name()) " changes by " strong { (points_text(-confirmed.drop_points, 2)) " points" }
                @if confirmed.interval_95.iter().all(|points| points.is_finite()) {
                    " (95 %: " (points_text(-confirmed.interval_95[1], 2)) " to " (points_text(-confirmed.interval_95[0], 2))
                    @if confirmed.certainty.is_finite() {
                        "; that the budget is kept on other samples is certain to " (format!("{:.0} %", 100.0 * confirmed.certainty))
                    }
                    ")"
                }
                "."
                @if confirmed.tries > 1 {
                    " " (confirmed.tries) " candidates were held against these samples, so they are not quite unseen."
                }
            }
        },
        (Some(chosen), None) => html! {
            p.statement { strong { (grouped(chosen.bytes)) " bytes" } " were chosen; nothing was left to confirm the loss on." }
        },
        (None, _) => html! { p.statement { strong { "No file kept the budget." } } },
    }
}

fn table(search: &Search) -> Markup {
    html! {
        details {
            summary { "Every file that was tried" }
            div.scroll {
                table {
                    thead {
                        tr {
                            th.number { "Try" } th.number { "Aim, dB" } th.number { "Bytes" } th.number { "Samples" }
                            th.number { "Loss, points" } th.number { "Standard error" } th.number { "Agreement" }
                            th.number { "Output, dB" } th { "Budget" }
                        }
                    }
                    tbody {
                        @for (place, candidate) in search.candidates.iter().enumerate() {
                            tr.chosen[search.chosen == Some(place)] {
                                td.number { (place + 1) }
                                td.number { (aim(candidate)) }
                                td.number { (grouped(candidate.bytes)) }
                                td.number { (grouped(candidate.samples as u64)) }
                                td.number { (format!("{:.3}", candidate.drop_points)) }
                                td.number { (if candidate.standard_error.is_finite() { format!("{:.3}", candidate.standard_error) } else { "–".to_owned() }) }
                                td.number { (candidate.agreement_percent.map(|percent| format!("{percent:.2} %")).unwrap_or_default()) }
                                td.number { (format!("{:.1}", candidate.sqnr_db)) }
                                td { (if candidate.keeps_budget { "kept" } else { "broken" })
                                    @if search.chosen == Some(place) { ", " strong { "chosen" } } }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// A length of the drawing, with one digit.
fn length(value: f64) -> String {
    format!("{value:.1}")
}
