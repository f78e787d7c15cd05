//! What layers take on a processor, dense and on compressed weights: what the target `fused` decides by.
//!
//! | module | what |
//! |---|---|
//! | `measuring` | finding out what they take here |

mod measuring;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{Error, Watch};

/// Costs in picoseconds on one thread; the options of the pass `fuse`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Costs {
    /// An element of a dense matrix in memory.
    pub dense: f64,
    /// An element of a dense matrix in a cache.
    pub cached: f64,
    /// A non-zero of a sparse matrix.
    pub nonzero: f64,
    /// An element of a matrix of four-bit codes.
    pub code: f64,
    /// A multiplication of a dense convolution.
    pub multiplication: f64,
    /// A multiplication of a sparse convolution.
    pub filter: f64,
}

/// Where costs come from, where the defaults of the pass `fuse` are not for this processor.
#[derive(Debug, Clone, PartialEq)]
pub enum Tuning {
    /// They are measured on this machine, each time: which layers are fused then depends on it.
    Here,
    /// A file holds them, in TOML, as `onnx-dcomp tune -o FILE` writes it.
    File(PathBuf),
    /// These.
    Costs(Costs),
}

impl Tuning {
    /// The costs.
    ///
    /// # Errors
    /// Where they cannot be read or measured.
    pub fn costs(&self, watch: &dyn Watch) -> Result<Costs, Error> {
        match self {
            Self::Here => Costs::measure(watch),
            Self::File(file) => Costs::read(file),
            Self::Costs(costs) => Ok(*costs),
        }
    }
}

impl Costs {
    /// Measures on this machine, for some seconds: small models run in tract, and dense ones in onnxruntime too where that
    /// is there; the faster one counts.
    ///
    /// # Errors
    /// Where this build has no tract.
    pub fn measure(watch: &dyn Watch) -> Result<Self, Error> {
        measuring::measure(watch)
    }

    /// Reads the costs in `file`.
    ///
    /// # Errors
    /// [`Error::Read`] and [`Error::Usage`], with what is wrong and where.
    pub fn read(file: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(file).map_err(|source| Error::Read { file: file.to_owned(), source })?;
        let costs: Self = toml::from_str(&text).map_err(|error| {
            let hint = "`onnx-dcomp tune -o FILE` writes such a file";
            Error::Usage(format!("{} does not say what layers take: {error}{hint}", file.display()))
        })?;
        match costs.named().into_iter().find(|(_, cost)| !(0.0..=1e6).contains(cost)) {
            Some((name, cost)) => {
                let file = file.display();
                Err(Error::Usage(format!("{file}: {name} = {cost} is no number of picoseconds from 0 to 1,000,000")))
            }
            None => Ok(costs),
        }
    }

    /// The costs as a file to read.
    pub fn to_toml(&self) -> String {
        let lines = self.named().map(|(name, cost)| format!("{name} = {cost:?}\n"));
        format!("# What layers take, in picoseconds: see `onnx-dcomp passes fuse`.\n{}", lines.concat())
    }

    /// The options of the pass `fuse` that say the same.
    pub(crate) fn options(&self) -> [(String, String); 6] {
        self.named().map(|(name, cost)| (name.to_owned(), cost.to_string()))
    }

    fn named(&self) -> [(&'static str, f64); 6] {
        let Self { dense, cached, nonzero, code, multiplication, filter } = *self;
        [
            ("dense", dense),
            ("cached", cached),
            ("nonzero", nonzero),
            ("code", code),
            ("multiplication", multiplication),
            ("filter", filter),
        ]
    }
}
