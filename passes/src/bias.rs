//! What a bias makes good of the errors in the kernel that it goes with: what is wrong in the mean of the outputs.
//!
//! Source: Nagel et al., "Data-free quantization through weight equalization and bias correction", 2019.

use ndarray::{Array2, ArrayView1};
use onnx_dcomp_forms::{Form, Values};
use onnx_dcomp_ir::{Evidence, Model, Role, WeightId};

/// The bias of the kernel `name`, which has `rows` rows, where it may change.
pub(crate) fn of(model: &Model, name: &str, rows: usize, evidence: &Evidence) -> Option<WeightId> {
    let id = model.weight_named(evidence.bias.get(name)?)?;
    let bias = model.weight(id);
    let may_change = matches!(bias.role, Role::Bias | Role::Activation) && bias.left_alone.is_none();
    let is_sound = bias.dtype().is_float() && bias.len() == rows && bias.form.dense().all_finite();
    (may_change && is_sound).then_some(id)
}

/// What a bias has to make good.
pub(crate) struct Correction {
    bias: WeightId,
    /// For each row.
    shift: Vec<f64>,
}

impl Correction {
    /// What `form` gives less than `dense`, row by row, where the inputs have the mean `mean`.
    pub(crate) fn of(bias: WeightId, dense: &Values, form: &Form, mean: &[f32]) -> Self {
        let columns = mean.len().max(1);
        let mut shift = vec![0.0; dense.len() / columns];
        let given = form.dense();
        for (index, (original, value)) in dense.iter().zip(given.iter()).enumerate() {
            let error = f64::from(original) - f64::from(value);
            shift[index / columns] += error * f64::from(mean[index % columns]);
        }
        Self { bias, shift }
    }

    /// What `error`, the rows that are left out, gives on inputs of the mean `mean`.
    pub(crate) fn of_error(bias: WeightId, error: &Array2<f64>, mean: &[f32]) -> Self {
        let dot = |row: ArrayView1<'_, f64>| row.iter().zip(mean).map(|(error, &mean)| error * f64::from(mean)).sum();
        Self { bias, shift: error.rows().into_iter().map(dot).collect() }
    }

    /// With `more` for each row.
    pub(crate) fn and(mut self, more: &[f64]) -> Self {
        self.shift.iter_mut().zip(more).for_each(|(shift, more)| *shift += more);
        self
    }

    pub(crate) fn apply(&self, model: &mut Model) {
        let bias = model.weight_mut(self.bias);
        let dense = bias.form.dense();
        let shifted: Vec<f32> =
            dense.iter().zip(&self.shift).map(|(value, shift)| (f64::from(value) + shift) as f32).collect();
        bias.form = Form::Dense(Values::from_f32(dense.dtype(), &shifted));
    }
}
