//! The table of a file.

use std::fmt::Write as _;

use super::style::{Style, Weight, grouped, shape, share};
use crate::inspect::{InspectedWeight, Inspection};

impl Inspection {
    /// The table, ready to print.
    pub fn to_text(&self, style: Style) -> String {
        let headings = ["weight", "role", "shape", "form", "coder", ">density", ">bits", ">bytes", ">share"];
        let of_weight = |weight: &InspectedWeight| {
            let cells = [
                weight.name.clone(),
                weight.role.to_owned(),
                shape(&weight.shape),
                weight.form.to_owned(),
                weight.coder.unwrap_or("–").to_owned(),
                format!("{:.1} %", 100.0 * weight.density),
                format!("{:.2}", weight.bits_per_weight),
                grouped(weight.bytes),
                share(weight.bytes, self.bytes),
            ];
            (Weight::Plain, cells)
        };
        let sum = |name: &str, bytes: u64| {
            let mut line = <[String; 9]>::default();
            (line[0], line[7], line[8]) = (name.to_owned(), grouped(bytes), share(bytes, self.bytes));
            line
        };
        let mut rows: Vec<(Weight, [String; 9])> = self.weights.iter().map(of_weight).collect();
        rows.push((Weight::Plain, sum("graph", self.graph_bytes)));
        rows.push((Weight::Strong, sum("total", self.bytes)));
        let mut text = format!("{}\n", style.named_table(headings, rows));
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
