//! Which classes are taken for which, before and after.

use maud::{Markup, html};
use onnx_dcomp_engine::metrics::classification::ClassificationReport;

use super::accuracy::class_name;
use crate::report::style::shortened;

/// More classes than this are no picture.
const MOST_CLASSES: usize = 20;
/// Side of a cell in the drawing.
const CELL: f64 = 26.0;
/// Room for the names of rows and columns.
const NAMES: f64 = 74.0;

/// The matrices of both sides, and what changed between them.
pub(super) fn matrices(report: &ClassificationReport, names: &[String]) -> Markup {
    let classes = report.confusion.len();
    if !(2..=MOST_CLASSES).contains(&classes) || report.original_confusion.len() != classes {
        return html! {};
    }
    let change: Vec<Vec<f64>> = differences(&report.original_confusion, &report.confusion);
    html! {
        div.three {
            figure { figcaption { "Confusion, original" } (matrix(&counts(&report.original_confusion), names, Kind::Counts)) }
            figure { figcaption { "Confusion, compressed" } (matrix(&counts(&report.confusion), names, Kind::Counts)) }
            figure { figcaption { "What changed" } (matrix(&change, names, Kind::Change)) }
        }
        p.note { "Rows are labels, columns predictions. In the last one, teal is better and orange worse." }
    }
}

fn counts(confusion: &[Vec<u64>]) -> Vec<Vec<f64>> {
    confusion.iter().map(|row| row.iter().map(|&count| count as f64).collect()).collect()
}

fn differences(before: &[Vec<u64>], after: &[Vec<u64>]) -> Vec<Vec<f64>> {
    let row = |(before, after): (&Vec<u64>, &Vec<u64>)| {
        before.iter().zip(after).map(|(&before, &after)| after as f64 - before as f64).collect()
    };
    before.iter().zip(after).map(row).collect()
}

/// What the cells of a matrix hold.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// How many samples.
    Counts,
    /// How many more, or fewer.
    Change,
}

fn matrix(cells: &[Vec<f64>], names: &[String], kind: Kind) -> Markup {
    let side = CELL * cells.len() as f64;
    let size = NAMES + side + 2.0;
    let values = || cells.iter().flatten().copied();
    let row_sums: Vec<f64> = cells.iter().map(|row| row.iter().sum::<f64>().max(1.0)).collect();
    let largest_change = values().map(f64::abs).fold(1.0, f64::max);
    html! {
        svg.matrix viewBox={ "0 0 " (size) " " (size) } role="img" aria-label="a cell for each label and prediction" {
            @for place in 0..cells.len() {
                @let middle = NAMES + CELL * (place as f64 + 0.5);
                @let name = shortened(&class_name(names, place), 10);
                text.tick x=(NAMES - 6.0) y=(middle + 4.0) text-anchor="end" { (name) }
                text.tick transform={ "translate(" (middle + 4.0) " " (NAMES - 6.0) ") rotate(-90)" } { (name) }
            }
            @for (row, counts) in cells.iter().enumerate() {
                @for (column, &count) in counts.iter().enumerate() {
                    @let share = match kind {
                        Kind::Counts => count / row_sums.get(row).copied().unwrap_or(1.0),
                        Kind::Change => count.abs() / largest_change,
                    };
                    @let is_good = match kind {
                        Kind::Counts => row == column,
                        Kind::Change => (row == column) == (count > 0.0),
                    };
                    (cell([NAMES + CELL * column as f64, NAMES + CELL * row as f64], count, share, is_good, kind))
                }
            }
        }
    }
}

fn cell([x, y]: [f64; 2], count: f64, share: f64, is_good: bool, kind: Kind) -> Markup {
    // Rare mistakes are what one looks for: the root lifts them.
    let opacity = if count == 0.0 { 0.0 } else { 0.12 + 0.88 * share.clamp(0.0, 1.0).sqrt() };
    let text = match kind {
        _ if count == 0.0 => String::new(),
        Kind::Counts => format!("{count}"),
        Kind::Change if count > 0.0 => format!("+{count}"),
        Kind::Change => format!("−{}", -count),
    };
    html! {
        rect.cell x=(x + 1.0) y=(y + 1.0) width=(CELL - 2.0) height=(CELL - 2.0) rx="3" {}
        @if count != 0.0 {
            rect class=(if is_good { "good" } else { "bad" }) x=(x + 1.0) y=(y + 1.0) width=(CELL - 2.0) height=(CELL - 2.0) rx="3"
                fill-opacity=(format!("{opacity:.2}")) {}
            text.count.on-dark[opacity > 0.6] x=(x + CELL / 2.0) y=(y + CELL / 2.0 + 3.5) text-anchor="middle" { (text) }
        }
    }
}
