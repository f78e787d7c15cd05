//! Histograms of the largest weights, with the values that remain.

use maud::{Markup, html};

use super::Section;
use super::axis::Axis;
use crate::report::histogram::MOST_HISTOGRAMS;
use crate::report::style::{grouped, shortened};
use crate::report::{Histogram, Report, WeightRow};

const WIDTH: f64 = 300.0;
/// Where the columns stand.
const BASE: f64 = 96.0;
/// The top of the highest column.
const TOP: f64 = 14.0;
/// Distinct values up to which each has a bar.
const BARS: usize = 256;

pub(super) fn section(report: &Report<'_>) -> Option<Section> {
    if report.histograms.is_empty() {
        return None;
    }
    let lead = html! {
        "How the values are spread before (area) and after (bars), each drawn to its own highest value other than zero. "
        "The marks below are the values that remain. "
        @if report.histograms.len() == MOST_HISTOGRAMS { "Only the " (MOST_HISTOGRAMS) " largest layers are here." }
    };
    let row = |histogram: &Histogram| report.compilation.weights.iter().find(|row| row.name == histogram.weight);
    let body = html! {
        div.histograms {
            @for histogram in report.histograms { (card(histogram, row(histogram))) }
        }
    };
    Some(Section { id: "weights", title: "Weights", lead, body })
}

fn card(histogram: &Histogram, row: Option<&WeightRow>) -> Markup {
    let all: u64 = histogram.after.iter().sum();
    let zeros = histogram.zeros_after as f64 / all.max(1) as f64;
    let values = match histogram.points.len() {
        0 => "many values".to_owned(),
        count => format!("{} values", grouped(count as u64)),
    };
    html! {
        figure.histogram {
            figcaption {
                span title=(histogram.weight) { (shortened(&histogram.weight, 30)) }
                @if let Some(row) = row { small { (format!("{:.2} bits", row.bits_per_weight)) } }
            }
            (drawing(histogram))
            p.note {
                span { (values) }
                span { (format!("{:.1} % zeros", 100.0 * zeros)) }
            }
        }
    }
}

fn drawing(histogram: &Histogram) -> Markup {
    let axis = Axis::new([histogram.low, histogram.high], [2.0, WIDTH - 2.0]);
    let label = format!("values of {} before and after", histogram.weight);
    html! {
        svg viewBox={ "0 0 " (WIDTH) " 124" } role="img" aria-label=(label) {
            path.before d=(steps(histogram, &histogram.before)) {}
            @if histogram.points.is_empty() {
                path.after-line d=(steps(histogram, &histogram.after)) {}
            } @else {
                path.after d=(bars(histogram, axis)) style={ "stroke-width:" (bar_width(histogram)) } {}
            }
            line.base x1="2" x2=(WIDTH - 2.0) y1=(BASE) y2=(BASE) {}
            path.points d=(marks(histogram, axis)) {}
            @for (value, anchor) in [(histogram.low, "start"), (0.0, "middle"), (histogram.high, "end")] {
                @if axis.holds(value) && is_apart(value, histogram) {
                    text.tick x=(format!("{:.1}", axis.at(value))) y="121" text-anchor=(anchor) { (number(value)) }
                }
            }
        }
    }
}

/// Whether a tick at zero would not run into those at the ends.
fn is_apart(value: f64, histogram: &Histogram) -> bool {
    let share = (value - histogram.low) / (histogram.high - histogram.low);
    value != 0.0 || (0.2..=0.8).contains(&share)
}

fn number(value: f64) -> String {
    let text = if value == 0.0 { "0".to_owned() } else { format!("{value:.*}", if value.abs() < 0.1 { 3 } else { 2 }) };
    text.replace('-', "−")
}

/// The outline of `counts`, the intervals of `histogram`. What lies at zero is cut off where it would press the others
/// flat.
fn steps(histogram: &Histogram, counts: &[u64]) -> String {
    let of_zero = histogram.bin_of(0.0);
    let others = counts.iter().enumerate().filter(|(place, _)| Some(*place) != of_zero);
    let most = others.map(|(_, &count)| count).max().unwrap_or(0).max(1) as f64;
    let step = (WIDTH - 4.0) / counts.len().max(1) as f64;
    let mut path = format!("M2 {BASE}");
    for (place, count) in counts.iter().enumerate() {
        let y = BASE - (BASE - TOP) * (*count as f64 / most).min(1.0);
        path.push_str(&format!("V{y:.1}H{:.1}", 2.0 + step * (place + 1) as f64));
    }
    path + &format!("V{BASE}Z")
}

/// A bar for each value; that of zero is cut off where it would press the others flat.
fn bars(histogram: &Histogram, axis: Axis) -> String {
    let others = histogram.points.iter().filter(|point| point.value != 0.0).map(|point| point.count);
    let most = others.max().unwrap_or(0).max(1) as f64;
    let mut path = String::new();
    for point in histogram.points.iter().take(BARS).filter(|point| axis.holds(point.value)) {
        let height = (BASE - TOP) * (point.count as f64 / most).min(1.0);
        path.push_str(&format!("M{:.1} {BASE}v-{height:.1}", axis.at(point.value)));
        if point.value == 0.0 && point.count as f64 > most {
            // Broken off: it goes on far above.
            path.push_str(&format!("M{:.1} {:.1}v-6", axis.at(0.0), TOP - 3.0));
        }
    }
    path
}

fn bar_width(histogram: &Histogram) -> &'static str {
    match histogram.points.len() {
        0..=40 => "3",
        41..=90 => "2",
        _ => "1",
    }
}

/// The marks below the axis.
fn marks(histogram: &Histogram, axis: Axis) -> String {
    let shown = histogram.points.iter().filter(|point| axis.holds(point.value));
    shown.map(|point| format!("M{:.1} {:.1}v6", axis.at(point.value), BASE + 3.0)).collect()
}
