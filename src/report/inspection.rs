//! The table of a file.

use std::fmt::Write as _;

use super::style::{Style, grouped, shape, share, shortened};
use crate::inspect::Inspection;

const NAME_WIDTH: usize = 28;

impl Inspection {
    /// The table, ready to print.
    pub fn to_text(&self, style: Style) -> String {
        let mut table =
            style.table(&["weight", "role", "shape", "form", "coder", ">density", ">bits", ">bytes", ">share"]);
        for weight in &self.weights {
            table.add_row([
                shortened(&weight.name, NAME_WIDTH),
                weight.role.to_owned(),
                shape(&weight.shape),
                weight.form.to_owned(),
                weight.coder.unwrap_or("–").to_owned(),
                format!("{:.1} %", 100.0 * weight.density),
                format!("{:.2}", weight.bits_per_weight),
                grouped(weight.bytes),
                share(weight.bytes, self.bytes),
            ]);
        }
        let blank = String::new;
        let line = |name: &str, bytes: u64| {
            let share = share(bytes, self.bytes);
            [name.to_owned(), blank(), blank(), blank(), blank(), blank(), blank(), grouped(bytes), share]
        };
        table.add_row(line("graph", self.graph_bytes));
        table.add_row(line("total", self.bytes).map(|cell| style.strong(cell)));
        let mut text = format!("{table}\n");
        let sets: Vec<String> = self
            .operator_sets
            .iter()
            .map(|(domain, version)| format!("{} {version}", if domain.is_empty() { "ai.onnx" } else { domain }))
            .collect();
        let _ = writeln!(text, "file       {}", self.file.display());
        let _ = writeln!(text, "graph      {} nodes, IR version {}, {}", self.nodes, self.ir_version, sets.join(", "));
        let _ = writeln!(
            text,
            "weights    {} tensors, {} bytes as plain floats",
            self.weights.len(),
            grouped(self.dense_bytes)
        );
        if let Some(made_by) = &self.made_by {
            let _ = writeln!(text, "made by    onnx-dcomp {made_by}");
        }
        text
    }
}
