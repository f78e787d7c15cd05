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
    /// The bias that is added to what a kernel gives, where no other layer has the same one.
    pub bias: BTreeMap<String, String>,
    /// The second moment of what a weight's rows are multiplied with.
    pub second_moment: BTreeMap<String, SecondMoment>,
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

/// The second moment `mean(x x^T)` of the input `x` that the rows of a weight meet, in diagonal blocks.
///
/// For a convolution `x` is the patch under the kernel, in the order of the kernel's elements.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SecondMoment {
    /// Diagonal blocks, from the first column on; together they cover a row.
    pub blocks: Vec<MomentBlock>,
    /// The mean of each column of `x`; empty where it is not known.
    pub mean: Vec<f32>,
    /// How many inputs `x` were averaged.
    pub samples: usize,
}

/// One diagonal block of a [`SecondMoment`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MomentBlock {
    /// Columns in the block.
    pub size: usize,
    /// Row-major, `size` squared, symmetric.
    pub values: Vec<f32>,
}

impl SecondMoment {
    /// Number of columns that the blocks cover.
    pub fn columns(&self) -> usize {
        self.blocks.iter().map(|block| block.size).sum()
    }
}
