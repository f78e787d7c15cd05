//! What the passes may know about the data: plain values, gathered elsewhere.

use std::collections::BTreeMap;

/// What is known of a network beyond its weights.
///
/// Everything is keyed by the weight's name, so that evidence survives passes that reorder the weight table.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Evidence {
    /// How much the network's output moves when a weight does: relative squared error of the output for one unit of
    /// squared error summed over the weight's elements. Greater than zero; weights that are missing get
    /// [`Evidence::sensitivity_of`]'s estimate.
    pub sensitivity: BTreeMap<String, f64>,
    /// Where this comes from, in words for the report: "16 synthetic inputs, scaled to fit …".
    pub source: String,
}

impl Evidence {
    /// The sensitivity of `name`, or, where nothing was measured, the inverse of its energy: in a chain of layers the
    /// noise-to-signal ratios of the weights add up at the output, whatever the layers' sizes.
    pub fn sensitivity_of(&self, name: &str, energy: f64) -> f64 {
        self.sensitivity.get(name).copied().unwrap_or(if energy > 0.0 { 1.0 / energy } else { 0.0 })
    }
}
