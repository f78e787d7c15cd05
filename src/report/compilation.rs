//! The tables after a compression.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::style::{Style, grouped, shape, share, shortened};
use super::validation::comparison_table;
use super::{Compilation, Outcome, WeightRow};
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
        let mut table = style.table(&headings);
        let is_shown = |row: &WeightRow| detail == Detail::Everything || is_large(row);
        for row in self.weights.iter().filter(|row| is_shown(row)) {
            let before = row.bytes_before.map_or_else(|| "new".to_owned(), grouped);
            let cells = [
                shortened(&row.name, NAME_WIDTH),
                row.role.to_owned(),
                shape(&row.shape),
                row.form.to_owned(),
                format!("{:.1} %", 100.0 * row.density),
                format!("{:.2}", row.bits_per_weight),
                before,
                grouped(row.bytes_after),
                share(row.bytes_after, self.bytes_after),
            ];
            if row.left_alone.is_some() {
                table.add_row(cells.map(|cell| style.faint(cell)));
            } else {
                table.add_row(cells);
            }
        }
        let small: Vec<&WeightRow> = self.weights.iter().filter(|row| !is_shown(row)).collect();
        if !small.is_empty() {
            let elements: usize = small.iter().map(|row| row.shape.iter().product::<usize>()).sum();
            let before: u64 = small.iter().filter_map(|row| row.bytes_before).sum();
            let after: u64 = small.iter().map(|row| row.bytes_after).sum();
            let bits = format!("{:.2}", 8.0 * after as f64 / elements.max(1) as f64);
            let count = format!("{} small weights", small.len());
            let cells = [
                count,
                String::new(),
                grouped(elements as u64),
                String::new(),
                String::new(),
                bits,
                grouped(before),
                grouped(after),
                share(after, self.bytes_after),
            ];
            table.add_row(cells.map(|cell| style.faint(cell)));
        }
        if !self.removed.is_empty() && self.outcome == Outcome::Compressed {
            let bytes: u64 = self.removed.iter().map(|weight| weight.bytes).sum();
            let count = format!("{} weights folded away", self.removed.len());
            let blank = String::new;
            let cells = [count, blank(), blank(), blank(), blank(), blank(), grouped(bytes), "0".to_owned(), blank()];
            table.add_row(cells.map(|cell| style.faint(cell)));
        }
        let blank = String::new;
        table.add_row([
            "graph".to_owned(),
            blank(),
            blank(),
            blank(),
            blank(),
            blank(),
            grouped(self.graph_bytes_before),
            grouped(self.graph_bytes_after),
            share(self.graph_bytes_after, self.bytes_after),
        ]);
        let total = [
            "total".to_owned(),
            blank(),
            blank(),
            blank(),
            blank(),
            blank(),
            grouped(self.bytes_before),
            grouped(self.bytes_after),
            format!("{:.2}×", self.ratio()),
        ];
        table.add_row(total.map(|cell| style.strong(cell)));
        table
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
        match &self.fidelity {
            Some(Fidelity::Exact) => lines.push("fidelity   exact: every weight is bit for bit what it was".to_owned()),
            Some(Fidelity::Measured { sqnr_db, max_abs_error, inputs, .. }) => {
                let distance = match *sqnr_db {
                    f64::INFINITY => "no difference".to_owned(),
                    decibels => format!("{decibels:.1} dB, largest error {max_abs_error:.1e},"),
                };
                lines.push(format!("fidelity   {distance} on {inputs} synthetic inputs"));
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

fn is_large(row: &WeightRow) -> bool {
    row.bytes_before.unwrap_or(row.bytes_after).max(row.bytes_after) >= SMALL_BYTES
}
