//! Where the bytes went, layer by layer.

use maud::{Markup, html};

use super::{Section, bytes_text, percent_length};
use crate::report::compilation::is_large;
use crate::report::style::{grouped, shape, share, shortened};
use crate::report::{Compilation, Outcome, WeightRow};

const NAME_WIDTH: usize = 34;
/// Height of the columns of the profile, in units of the drawing.
const COLUMN_HEIGHT: f64 = 90.0;

pub(super) fn section(made: &Compilation) -> Option<Section> {
    let large: Vec<&WeightRow> = made.weights.iter().filter(|row| is_large(row)).collect();
    let lead = html! {
        "Every layer before and after, in the order of the file. Bits count everything that is stored for a weight: "
        "values, tables, and the zeros' places."
    };
    let body = html! {
        (composition(made, &large))
        @if large.len() > 1 { (profile(&large)) }
        (table(made, &large))
    };
    Some(Section { id: "layers", title: "Layers", lead, body })
}

/// What both files consist of, as two strips.
fn composition(made: &Compilation, large: &[&WeightRow]) -> Markup {
    let before = |row: &&WeightRow| row.bytes_before.unwrap_or_default();
    let after = |row: &&WeightRow| row.bytes_after;
    html! {
        figure {
            figcaption { "What each file consists of" }
            (strip("before", made.bytes_before, large, &before, made.graph_bytes_before))
            (strip("after", made.bytes_after, large, &after, made.graph_bytes_after))
            p.legend {
                span.swatch.even {} span.swatch.odd {} "layers, in turn"
                span.swatch.rest {} "small weights"
                span.swatch.graph {} "graph: nodes, names, shapes"
            }
        }
    }
}

fn strip(label: &str, whole: u64, large: &[&WeightRow], bytes: &dyn Fn(&&WeightRow) -> u64, graph: u64) -> Markup {
    let layers: u64 = large.iter().map(bytes).sum();
    let rest = whole.saturating_sub(layers).saturating_sub(graph);
    let part = |class: &str, name: &str, bytes: u64| {
        let of_whole = bytes as f64 / whole.max(1) as f64;
        html! {
            @if bytes > 0 {
                div class=(class) style={ "width:" (percent_length(of_whole)) }
                    title={ (name) ": " (grouped(bytes)) " bytes, " (share(bytes, whole)) } {
                    @if of_whole > 0.07 { span { (name) } }
                }
            }
        }
    };
    html! {
        div.strip-row {
            span.strip-label { (label) }
            div.strip {
                @for (place, row) in large.iter().enumerate() {
                    (part(if place % 2 == 0 { "even" } else { "odd" }, &row.name, bytes(row)))
                }
                (part("rest", "small weights", rest))
                (part("graph", "graph", graph))
            }
            strong { (bytes_text(whole)) }
        }
    }
}

/// Bits and zeros of each layer as columns, in the order of the file.
fn profile(large: &[&WeightRow]) -> Markup {
    let most_bits = large.iter().map(|row| row.bits_per_weight).fold(1.0, f64::max).ceil();
    let bits: Vec<f64> = large.iter().map(|row| row.bits_per_weight / most_bits).collect();
    let zeros: Vec<f64> = large.iter().map(|row| 1.0 - row.density).collect();
    html! {
        div.two {
            figure {
                figcaption { "Bits per weight, layer by layer" }
                (columns(large, &bits, &format!("{most_bits:.0} bits"), "compressed"))
            }
            figure {
                figcaption { "Zeros, layer by layer" }
                (columns(large, &zeros, "100 %", "zeros"))
            }
        }
    }
}

fn columns(large: &[&WeightRow], shares: &[f64], top: &str, class: &str) -> Markup {
    let width = 520.0;
    let (left, right) = (44.0, width);
    let step = (right - left) / large.len().max(1) as f64;
    let bar = (step * 0.78).min(26.0);
    html! {
        svg viewBox={ "0 0 " (width) " " (COLUMN_HEIGHT + 16.0) } role="img" aria-label="one column for each layer" {
            @for (fraction, label) in [(0.0, "0"), (0.5, ""), (1.0, top)] {
                @let y = 8.0 + COLUMN_HEIGHT * (1.0 - fraction);
                line.grid x1=(left) x2=(right) y1=(y) y2=(y) {}
                text.tick x=(left - 6.0) y=(y + 3.5) text-anchor="end" { (label) }
            }
            @for ((place, row), share) in large.iter().enumerate().zip(shares) {
                @let height = COLUMN_HEIGHT * share.clamp(0.0, 1.0);
                rect class={ "column " (class) } rx="1.5" height=(format!("{height:.1}"))
                    x=(format!("{:.1}", left + step * (place as f64 + 0.5) - bar / 2.0))
                    y=(format!("{:.1}", 8.0 + COLUMN_HEIGHT - height)) width=(format!("{bar:.1}")) {
                    title { (row.name) ": " (format!("{:.2} bits, {:.1} % zeros", row.bits_per_weight, 100.0 * (1.0 - row.density))) }
                }
            }
        }
    }
}

fn table(made: &Compilation, large: &[&WeightRow]) -> Markup {
    let largest = large.iter().filter_map(|row| row.bytes_before).max().unwrap_or(1).max(1);
    let small: Vec<&WeightRow> = made.weights.iter().filter(|row| !is_large(row)).collect();
    let small_before: u64 = small.iter().filter_map(|row| row.bytes_before).sum();
    let small_after: u64 = small.iter().map(|row| row.bytes_after).sum();
    let removed = made.removed.iter().filter(|_| made.outcome == Outcome::Compressed);
    let folded: u64 = removed.clone().map(|weight| weight.bytes).sum();
    let small_text = match removed.count() {
        0 => format!("{} small weights", small.len()),
        count => format!("{} small weights, and {count} folded into them or the layers", small.len()),
    };
    html! {
        div.scroll {
            table.layers {
                thead {
                    tr {
                        th { "Layer" } th { "Form" } th.wide { "Size: before, after" } th.number { "Before" }
                        th.number { "After" } th.number { "Smaller" } th.number { "Bits" } th.number { "Zeros" }
                        th.number { "Share" }
                    }
                }
                tbody {
                    @for row in large { (layer(made, row, largest)) }
                    @if !small.is_empty() || folded > 0 {
                        // What is folded mostly goes on as the small weights: apart, neither line would say what became of it.
                        (sum(&small_text, small_before + folded, small_after, made.bytes_after))
                    }
                    (sum("graph", made.graph_bytes_before, made.graph_bytes_after, made.bytes_after))
                }
                tfoot { (sum("total", made.bytes_before, made.bytes_after, made.bytes_after)) }
            }
        }
    }
}

fn layer(made: &Compilation, row: &WeightRow, largest: u64) -> Markup {
    let before = row.bytes_before;
    let of_largest = |bytes: u64| percent_length(bytes as f64 / largest as f64);
    html! {
        tr {
            td.name {
                span title=(row.name) { (shortened(&row.name, NAME_WIDTH)) }
                small { (row.operator.as_deref().unwrap_or(row.role)) " " (shape(&row.shape)) }
            }
            td {
                @match &row.left_alone {
                    Some(reason) => span.pill.plain title=(reason) { "kept" },
                    None => span.pill { (row.form) },
                }
            }
            td.wide {
                div.bar.original style={ "width:" (of_largest(before.unwrap_or_default())) } {}
                div.bar.compressed style={ "width:" (of_largest(row.bytes_after)) } {}
            }
            td.number { (before.map_or_else(|| "new".to_owned(), grouped)) }
            td.number { strong { (grouped(row.bytes_after)) } }
            td.number { (before.map_or_else(String::new, |before| ratio(before, row.bytes_after))) }
            td.number { (format!("{:.2}", row.bits_per_weight)) }
            td.number { (zeros(row)) }
            td.number { (share(row.bytes_after, made.bytes_after)) }
        }
    }
}

fn zeros(row: &WeightRow) -> Markup {
    let zeros = 1.0 - row.density;
    html! {
        span.meter title="zeros" { span style={ "width:" (percent_length(zeros)) } {} }
        span.fixed { (format!("{:.1} %", 100.0 * zeros)) }
    }
}

/// A line for several weights, or for what is no weight.
fn sum(name: &str, before: u64, after: u64, whole: u64) -> Markup {
    html! {
        tr.sum {
            td.name colspan="3" { (name) }
            td.number { (grouped(before)) }
            td.number { strong { (grouped(after)) } }
            td.number { @if after > 0 { (ratio(before, after)) } }
            td {} td {}
            td.number { (share(after, whole)) }
        }
    }
}

fn ratio(before: u64, after: u64) -> String {
    format!("{:.1}×", before as f64 / after.max(1) as f64)
}
