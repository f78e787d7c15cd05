//! A report as one page of HTML: no script, nothing loaded from elsewhere, readable in light and dark and on paper.
//!
//! | module | what |
//! |---|---|
//! | `summary` | the result in one look |
//! | `layers` | where the bytes went, layer by layer |
//! | `search` | the rate-distortion curve of a budget search |
//! | `weights` | histograms with centroids |
//! | `accuracy` | what was measured on samples, class by class |
//! | `confusion` | which classes are taken for which |
//! | `samples` | pictures with what both sides say of them |
//! | `recipe` | how to make the same file again |
//! | `axis` | scales and their ticks |
//! | `picture` | pictures as data URIs |
//! | `page.css` | how all of it looks |

mod accuracy;
mod axis;
mod confusion;
mod layers;
mod picture;
mod recipe;
mod samples;
mod search;
mod summary;
#[cfg(test)]
mod tests;
mod weights;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::Report;

const STYLE: &str = include_str!("page.css");

/// Whatever the page says, a browser loads nothing for it.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:";

/// A part of the page with a heading.
struct Section {
    /// Anchor.
    id: &'static str,
    /// Heading.
    title: &'static str,
    /// What one sees here, in a sentence.
    lead: Markup,
    body: Markup,
}

/// The page.
pub(super) fn page(report: &Report<'_>) -> String {
    let made = report.compilation;
    let sections: Vec<Section> = [
        layers::section(made),
        search::section(made),
        accuracy::section(made),
        samples::section(made),
        weights::section(report),
        recipe::section(report),
    ]
    .into_iter()
    .flatten()
    .collect();
    let name = file_name(&made.input);
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (name) " – onnx-dcomp" }
                // An icon of its own keeps browsers from asking for one.
                link rel="icon" href="data:,";
                style { (PreEscaped(STYLE)) }
            }
            body {
                main {
                    (summary::header(report, &name))
                    nav aria-label="Sections" {
                        @for section in &sections {
                            a href={ "#" (section.id) } { (section.title) }
                        }
                    }
                    @for section in &sections {
                        section id=(section.id) {
                            h2 { (section.title) }
                            p.lead { (section.lead) }
                            (section.body)
                        }
                    }
                    footer {
                        "onnx-dcomp " (report.version) " · input SHA-256 " code { (report.input_sha256) }
                    }
                }
            }
        }
    };
    markup.into_string()
}

/// The last part of a path.
fn file_name(path: &std::path::Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// A share of 1 as a length of CSS and SVG.
fn percent_length(share: f64) -> String {
    format!("{:.2}%", 100.0 * if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 })
}

/// A number of bytes as people say it: `27.4 kB`.
fn bytes_text(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["kB", "MB", "GB", "TB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1000.0;
    let mut unit = UNITS[0];
    for next in UNITS.into_iter().skip(1) {
        if value < 999.5 {
            break;
        }
        (value, unit) = (value / 1000.0, next);
    }
    match value {
        value if value < 9.995 => format!("{value:.2} {unit}"),
        value if value < 99.95 => format!("{value:.1} {unit}"),
        value => format!("{value:.0} {unit}"),
    }
}

/// A change in percentage points with its sign.
fn points_text(points: f64, digits: usize) -> String {
    let text = format!("{:.digits$}", points.abs());
    match text.parse::<f64>() {
        Ok(0.0) => format!("±{text}"),
        _ if points < 0.0 => format!("−{text}"),
        _ => format!("+{text}"),
    }
}
