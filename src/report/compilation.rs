//! The tables after a compression.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use onnx_dcomp_engine::metrics::segmentation::FEWEST_FRAMES;
use onnx_dcomp_engine::validate::DropMetric;

use super::style::{Style, Weight, grouped, shape, share, shortened};
use super::validation::comparison_table;
use super::{Compilation, Outcome, WeightRow};
use crate::budget::{Budget, FoundSparsity, Search, Source};
use crate::fidelity::Fidelity;

/// How much is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Detail {
    /// Small weights share a line.
    #[default]
    Layers,
    /// Every weight has a line.
    Everything,
}

/// Weights of fewer bytes share a line, unless everything is shown.
const SMALL_BYTES: u64 = 1024;
const NAME_WIDTH: usize = 26;

impl Compilation {
    /// The tables, ready to print.
    pub fn to_text(&self, style: Style, detail: Detail) -> String {
        let mut text = String::new();
        let _ = writeln!(text, "{}", self.weights_table(style, detail));
        for line in self.left_alone_lines().into_iter().chain(self.lines()) {
            let _ = writeln!(text, "{line}");
        }
        if let Some(validation) = &self.validation {
            let _ = write!(text, "\n{}", comparison_table(validation, style));
        }
        text
    }

    fn weights_table(&self, style: Style, detail: Detail) -> comfy_table::Table {
        let headings = ["weight", "role", "shape", "form", ">density", ">bits", ">before", ">after", ">share"];
        let is_shown = |row: &WeightRow| detail == Detail::Everything || is_large(row);
        let mut rows: Vec<(Weight, [String; 9])> =
            self.weights.iter().filter(|row| is_shown(row)).map(|row| self.weight_line(row)).collect();
        let small: Vec<&WeightRow> = self.weights.iter().filter(|row| !is_shown(row)).collect();
        if !small.is_empty() {
            let elements: usize = small.iter().map(|row| row.shape.iter().product::<usize>()).sum();
            let before: u64 = small.iter().filter_map(|row| row.bytes_before).sum();
            let after: u64 = small.iter().map(|row| row.bytes_after).sum();
            let mut line = self.sum_line(format!("{} small", small.len()), before, after);
            line[2] = grouped(elements as u64);
            line[5] = format!("{:.2}", 8.0 * after as f64 / elements.max(1) as f64);
            rows.push((Weight::Faint, line));
        }
        if !self.removed.is_empty() && self.outcome == Outcome::Compressed {
            let bytes = self.removed.iter().map(|weight| weight.bytes).sum();
            rows.push((Weight::Faint, self.sum_line(format!("{} folded", self.removed.len()), bytes, 0)));
        }
        rows.push((Weight::Plain, self.sum_line("graph".to_owned(), self.graph_bytes_before, self.graph_bytes_after)));
        let mut total = self.sum_line("total".to_owned(), self.bytes_before, self.bytes_after);
        total[8] = format!("{:.2}×", self.ratio());
        rows.push((Weight::Strong, total));
        style.named_table(headings, rows)
    }

    fn weight_line(&self, row: &WeightRow) -> (Weight, [String; 9]) {
        let cells = [
            row.name.clone(),
            row.role.to_owned(),
            shape(&row.shape),
            row.form.to_owned(),
            format!("{:.1} %", 100.0 * row.density),
            format!("{:.2}", row.bits_per_weight),
            row.bytes_before.map_or_else(|| "new".to_owned(), grouped),
            grouped(row.bytes_after),
            share(row.bytes_after, self.bytes_after),
        ];
        (if row.left_alone.is_some() { Weight::Faint } else { Weight::Plain }, cells)
    }

    /// A line for several weights, or for what is no weight.
    fn sum_line(&self, name: String, before: u64, after: u64) -> [String; 9] {
        let mut line = <[String; 9]>::default();
        line[0] = name;
        line[6] = grouped(before);
        line[7] = grouped(after);
        line[8] = share(after, self.bytes_after);
        line
    }

    /// Why weights keep their values, a line for each reason.
    fn left_alone_lines(&self) -> Vec<String> {
        if self.outcome == Outcome::Unchanged {
            return Vec::new();
        }
        let mut reasons: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for row in &self.weights {
            if let Some(reason) = &row.left_alone {
                reasons.entry(reason).or_default().push(&row.name);
            }
        }
        let line = |(reason, names): (&str, Vec<&str>)| {
            let first = shortened(names.first().copied().unwrap_or_default(), NAME_WIDTH);
            match names.len() {
                1 => format!("kept       {first}: {reason}"),
                count => format!("kept       {first} and {} more: {reason}", count - 1),
            }
        };
        reasons.into_iter().map(line).collect()
    }

    fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if self.outcome == Outcome::Unchanged {
            lines.push("unchanged  no smaller form was found: the output is the input, byte for byte".to_owned());
        }
        if let Some(evidence) = &self.evidence {
            lines.push(format!("estimated  sensitivity from {evidence}"));
        }
        lines.extend(self.evidence_file.iter().map(|record| format!("evidence   {record}")));
        lines.extend(self.search.iter().flat_map(search_lines));
        match &self.fidelity {
            Some(Fidelity::Exact) => lines.push("fidelity   exact: every weight is bit for bit what it was".to_owned()),
            Some(Fidelity::Measured { sqnr_db, max_abs_error, inputs, .. }) => {
                let distance = match *sqnr_db {
                    f64::INFINITY => "no difference".to_owned(),
                    decibels => format!("{decibels:.1} dB, largest error {max_abs_error:.1e},"),
                };
                let plural = if *inputs == 1 { "" } else { "s" };
                lines.push(format!("fidelity   {distance} on {inputs} synthetic input{plural}"));
            }
            Some(Fidelity::Unknown { reason }) => lines.push(format!("fidelity   {reason}")),
            None => {}
        }
        let place = match &self.output {
            Some(output) => output.display().to_string(),
            None => "nothing (dry run)".to_owned(),
        };
        lines.push(format!(
            "written    {place}: {} bytes, {:.2}× smaller than {}",
            grouped(self.bytes_after),
            self.ratio(),
            self.input.display()
        ));
        lines
    }
}

/// What was tried, and what is known of the choice.
fn search_lines(search: &Search) -> Vec<String> {
    let metric = search.metric.name();
    let asked = match search.budget {
        Budget::MaxDrop(points) if points.is_finite() => {
            format!("the smallest file that loses at most {points} points")
        }
        Budget::MaxDrop(_) => "the smallest file that keeps the floors".to_owned(),
        Budget::MaxBytes(bytes) => format!("the best file of at most {} bytes", grouped(bytes)),
    };
    let (tried, samples, source) = (search.candidates.len(), grouped(search.samples as u64), search.source.name());
    let mut lines: Vec<String> = search.sparsity.iter().map(sparsity_line).collect();
    lines.push(match (search.source, search.samples) {
        (Source::Synthetic, 0) => format!("searched   {asked}: {tried} tried, by their aims alone"),
        _ => format!("searched   {asked}: {tried} tried on {samples} {source}"),
    });
    if let Some(confirmed) = &search.confirmation {
        let [low, high] = confirmed.interval_95;
        let interval = match search.metric {
            _ if low.is_finite() && high.is_finite() => {
                let certainty = match confirmed.certainty {
                    share if share.is_finite() => format!("; within the budget: {:.0} %", 100.0 * share),
                    _ => String::new(),
                };
                format!(" (95 %: {low:+.2} to {high:+.2}{certainty})")
            }
            DropMetric::MeanIou | DropMetric::PixelAgreement => {
                format!(" (fewer than {FEWEST_FRAMES} frames: how uncertain that is cannot be said)")
            }
            _ => String::new(),
        };
        let tries = match confirmed.tries {
            1 => String::new(),
            tries => format!(", after {} finer ones were needed", tries - 1),
        };
        lines.push(format!(
            "confirmed  {metric} loses {:+.2} points{interval} on {} other samples{tries}",
            confirmed.drop_points,
            grouped(confirmed.samples as u64)
        ));
    }
    lines
}

/// How sparse the layers may be.
fn sparsity_line(found: &FoundSparsity) -> String {
    let each = || found.layers.iter().map(|layer| 100.0 * layer.sparsity);
    let (least, most) = (each().fold(100.0, f64::min), each().fold(0.0, f64::max));
    format!(
        "pruned     {:.1} % of {} layers, between {least:.0} and {most:.0} % of each, found in {} rounds",
        100.0 * found.overall(),
        found.layers.len(),
        found.evaluations
    )
}

/// Whether a weight has a line of its own.
pub(super) fn is_large(row: &WeightRow) -> bool {
    row.bytes_before.unwrap_or(row.bytes_after).max(row.bytes_after) >= SMALL_BYTES
}
