//! What the passes may know about the data: plain values, gathered elsewhere.

use std::collections::BTreeMap;

use crate::Model;

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

/// Goes through a network layer by layer while its weights are compressed, and says what each layer then meets.
pub trait Follow: Send + Sync {
    /// Begins with the first layer of `original`, of which nothing is compressed yet.
    fn start(&self, original: &Model) -> Box<dyn Walk + '_>;
}

/// One way through a network; see [`Follow`].
pub trait Walk {
    /// The name of the next layer's weight, in an order in which each comes after those that it depends on, and how its
    /// input has moved by what `model` made of the layers before: the original with other values in its weights, or with
    /// other nodes between the same names. `None` behind the last layer.
    ///
    /// # Errors
    /// Why the layers that are left cannot be followed, in words.
    fn next(&mut self, model: &Model) -> Result<Option<(String, Option<Drift>)>, String>;
}

/// How the input of a layer has moved, from `x` in the original network to `y` behind layers that are compressed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Drift {
    /// The second moment of `y`, and its mean.
    pub moment: SecondMoment,
    /// `mean((x - y) y^T)`, in the blocks of the moment; not symmetric.
    pub cross: Vec<MomentBlock>,
    /// `mean(x - y)`, column by column.
    pub shift: Vec<f32>,
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
    /// Row-major, `size` squared; in a second moment symmetric.
    pub values: Vec<f32>,
}

impl SecondMoment {
    /// Mean of the diagonal: the mean square of an element of `x`. 0 where there is no column.
    pub fn mean_square(&self) -> f64 {
        let diagonal = |b: &MomentBlock| (0..b.size).map(|i| f64::from(b.values[i * b.size + i])).sum::<f64>();
        self.blocks.iter().map(diagonal).sum::<f64>() / self.columns().max(1) as f64
    }

    /// The covariance: what is left of the second moment without the mean of `x`. `None` where the mean is not known.
    pub fn covariance(&self) -> Option<Self> {
        if self.mean.len() != self.columns() {
            return None;
        }
        let mut start = 0;
        let block = |block: &MomentBlock| {
            let mean = &self.mean[start..start + block.size];
            start += block.size;
            let rows = block.values.chunks(block.size.max(1)).zip(mean);
            let values =
                rows.flat_map(|(row, &own)| row.iter().zip(mean).map(move |(&value, &other)| value - own * other));
            MomentBlock { size: block.size, values: values.collect() }
        };
        let blocks = self.blocks.iter().map(block).collect();
        Some(Self { blocks, mean: vec![0.0; self.mean.len()], samples: self.samples })
    }

    /// Number of columns that the blocks cover.
    pub fn columns(&self) -> usize {
        self.blocks.iter().map(|block| block.size).sum()
    }
}
