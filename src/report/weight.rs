//! A weight before and after.

use std::collections::HashMap;

use onnx_dcomp_forms::Form;
use onnx_dcomp_ir::{Model, Weight};
use onnx_dcomp_passes::selection::reason_to_leave;
use serde::Serialize;

use super::{Outcome, RemovedWeight};

/// What became of a weight.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WeightRow {
    /// Its name.
    pub name: String,
    /// What operators do with it.
    pub role: &'static str,
    /// The operator that reads it.
    pub operator: Option<String>,
    /// The element type.
    pub dtype: &'static str,
    /// The shape, outermost axis first.
    pub shape: Vec<usize>,
    /// How it is represented.
    pub form: &'static str,
    /// Non-zero elements over all elements.
    pub density: f64,
    /// Bytes stored for it in the input; `None` where a pass made it.
    pub bytes_before: Option<u64>,
    /// Bytes stored for it in the output.
    pub bytes_after: u64,
    /// Bits stored for each element, all of its side tables included.
    pub bits_per_weight: f64,
    /// Why its values are what they were; `None` where they were compressed.
    pub left_alone: Option<String>,
}

/// The weights of the input, to compare with.
#[derive(Debug, Clone)]
pub(crate) struct WeightsBefore(Vec<(String, u64)>);

impl WeightsBefore {
    pub(crate) fn of(model: &Model) -> Self {
        Self(model.weights().map(|(_, weight)| (weight.name.clone(), weight.dense_bytes())).collect())
    }

    /// Bytes of all weights.
    pub(crate) fn bytes(&self) -> u64 {
        self.0.iter().map(|(_, bytes)| bytes).sum()
    }

    /// The weights of `model`, and those that it no longer has.
    pub(crate) fn rows(&self, model: &Model, outcome: Outcome) -> (Vec<WeightRow>, Vec<RemovedWeight>) {
        let mut before: HashMap<&str, u64> = self.0.iter().map(|(name, bytes)| (name.as_str(), *bytes)).collect();
        let rows =
            model.weights().map(|(_, weight)| row(weight, before.remove(weight.name.as_str()), outcome)).collect();
        let gone = self.0.iter().filter(|(name, _)| before.contains_key(name.as_str()));
        (rows, gone.map(|(name, bytes)| RemovedWeight { name: name.clone(), bytes: *bytes }).collect())
    }
}

fn row(weight: &Weight, bytes_before: Option<u64>, outcome: Outcome) -> WeightRow {
    let bytes_after = stored_bytes(weight);
    let elements = weight.len().max(1) as f64;
    WeightRow {
        name: weight.name.clone(),
        role: weight.role.name(),
        operator: weight.operator.clone(),
        dtype: weight.dtype().name(),
        shape: weight.shape.clone(),
        form: weight.form.kind().name(),
        density: weight.form.density(),
        bytes_before,
        bytes_after,
        bits_per_weight: 8.0 * bytes_after as f64 / elements,
        left_alone: left_alone(weight, outcome),
    }
}

/// Bytes that the output stores for `weight`: those that a pass has packed it into, or the plain tensor's.
fn stored_bytes(weight: &Weight) -> u64 {
    weight.stored_bytes.unwrap_or_else(|| weight.dense_bytes())
}

fn left_alone(weight: &Weight, outcome: Outcome) -> Option<String> {
    if outcome == Outcome::Unchanged {
        return Some("the whole file is unchanged".to_owned());
    }
    if !matches!(weight.form, Form::Dense(_)) {
        return None;
    }
    let not_finite = || {
        let finite = !weight.dtype().is_float() || weight.original.all_finite();
        (!finite).then(|| "holds NaN or infinite values, which are kept bit for bit".to_owned())
    };
    let same = || (weight.form.dense() == weight.original).then(|| "nothing smaller was found".to_owned());
    weight.left_alone.clone().or_else(|| reason_to_leave(weight)).or_else(not_finite).or_else(same)
}
