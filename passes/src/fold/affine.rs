//! Per-channel scale and shift: reading them from a node, and their arithmetic.
//!
//! BatchNormalization in inference, and Mul, Div, Add and Sub with a constant, all compute `scale · x + shift` with one
//! pair of numbers for each channel, so they can move into the weights of the layer before (Jacob et al.,
//! "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", 2018, section 3.2).

use onnx_dcomp_proto::NodeProto;
use onnx_dcomp_proto::tensor_proto::DataType;

use super::knowledge::Knowledge;
use super::tensor::Tensor;
use crate::node;

/// `scale · x + shift`, with one number for each channel, or one for all.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Affine {
    /// Factors; `None` for one.
    pub(crate) scale: Option<Vec<f64>>,
    /// Summands; `None` for zero.
    pub(crate) shift: Option<Vec<f64>>,
}

impl Affine {
    /// Whether it holds for `channels` channels: each part has one number, or as many.
    pub(crate) fn fits(&self, channels: usize) -> bool {
        let fits = |part: &Option<Vec<f64>>| part.as_ref().is_none_or(|p| p.len() == 1 || p.len() == channels);
        fits(&self.scale) && fits(&self.shift)
    }

    /// Whether all numbers are finite.
    pub(crate) fn is_finite(&self) -> bool {
        self.scale.iter().chain(&self.shift).flatten().all(|value| value.is_finite())
    }

    /// The factor of `channel`.
    pub(crate) fn scale_at(&self, channel: usize) -> f64 {
        self.scale.as_ref().map_or(1.0, |part| pick(part, channel))
    }

    /// The summand of `channel`.
    pub(crate) fn shift_at(&self, channel: usize) -> f64 {
        self.shift.as_ref().map_or(0.0, |part| pick(part, channel))
    }

    /// The part that concerns `count` channels from `first` on.
    pub(crate) fn channels(&self, first: usize, count: usize) -> Self {
        let cut = |part: &Option<Vec<f64>>| {
            part.as_ref().map(|p| if p.len() == 1 { p.clone() } else { p[first..first + count].to_vec() })
        };
        Self { scale: cut(&self.scale), shift: cut(&self.shift) }
    }

    /// The same without the summand.
    pub(crate) fn without_shift(&self) -> Self {
        Self { scale: self.scale.clone(), shift: None }
    }
}

fn pick(part: &[f64], channel: usize) -> f64 {
    if part.len() == 1 { part[0] } else { part[channel] }
}

/// A node that computes an [`Affine`] of one of its inputs.
pub(crate) struct AffineNode {
    /// Position of the input that is scaled and shifted.
    pub(crate) input: usize,
    /// What it does.
    pub(crate) affine: Affine,
    /// Type of the constants.
    pub(crate) element: DataType,
    /// Whether it is a BatchNormalization, whose channels are axis 1 whatever the rank.
    pub(crate) is_normalization: bool,
}

/// Reads `node`; `from_right` says for a name how many axes come after its channels.
pub(crate) fn read(
    knowledge: &Knowledge,
    node: &NodeProto,
    from_right: impl Fn(&str) -> Option<usize>,
) -> Option<AffineNode> {
    match node::standard_operator(node) {
        "BatchNormalization" => {
            let (affine, element) = batch_normalization(knowledge, node)?;
            Some(AffineNode { input: 0, affine, element, is_normalization: true })
        }
        "Mul" | "Add" | "Sub" | "Div" if knowledge.opset >= 7 => {
            let (a, b) = (node::input(node, 0)?, node::input(node, 1)?);
            let (input, constant) = match (knowledge.constants.get(a), knowledge.constants.get(b)) {
                (None, Some(constant)) => (0, &constant.tensor),
                (Some(constant), None) => (1, &constant.tensor),
                _ => return None,
            };
            let from_right = from_right(node::input(node, input)?)?;
            let values = channel_vector(constant, from_right)?;
            let negated = || values.iter().map(|v| -v).collect();
            let affine = match (node.op_type(), input) {
                ("Mul", _) => Affine { scale: Some(values), shift: None },
                ("Add", _) => Affine { scale: None, shift: Some(values) },
                ("Sub", 0) => Affine { scale: None, shift: Some(negated()) },
                ("Sub", _) => Affine { scale: Some(vec![-1.0]), shift: Some(values) },
                ("Div", 0) => Affine { scale: Some(values.iter().map(|v| 1.0 / v).collect()), shift: None },
                _ => return None,
            };
            let is_usable = affine.is_finite();
            is_usable.then_some(AffineNode { input, affine, element: constant.element, is_normalization: false })
        }
        _ => None,
    }
}

/// The elements of `constant` along the axis that `from_right` axes follow; `None` where it varies along another.
pub(crate) fn channel_vector(constant: &Tensor, from_right: usize) -> Option<Vec<f64>> {
    let values = constant.floats()?;
    if values.len() == 1 {
        // One number broadcasts whatever its rank, but must not add axes that the result did not have.
        return (constant.dims.len() <= from_right + 2).then_some(values);
    }
    let channel_axis = constant.dims.len().checked_sub(from_right + 1)?;
    let is_vector = channel_axis <= 1 && values.len() == constant.dims[channel_axis];
    is_vector.then_some(values)
}

/// What a BatchNormalization does in inference, and the type of its parameters.
fn batch_normalization(knowledge: &Knowledge, node: &NodeProto) -> Option<(Affine, DataType)> {
    let is_inference = node::int(node, "training_mode", 0) == 0 && node::int(node, "spatial", 1) == 1;
    if !is_inference || knowledge.opset < 7 || node::sole_output(node).is_none() || node::has_references(node) {
        return None;
    }
    let parameter = |index: usize| {
        let tensor = &knowledge.constants.get(node::input(node, index)?)?.tensor;
        Some((tensor.floats().filter(|values| tensor.dims.len() == 1 && !values.is_empty())?, tensor.element))
    };
    let (gamma, element) = parameter(1)?;
    let ((beta, _), (mean, _), (variance, _)) = (parameter(2)?, parameter(3)?, parameter(4)?);
    let channels = gamma.len();
    if [&beta, &mean, &variance].iter().any(|part| part.len() != channels) {
        return None;
    }
    let epsilon = f64::from(node::float(node, "epsilon", 1e-5));
    let scale: Vec<f64> = gamma.iter().zip(&variance).map(|(g, v)| g / (v + epsilon).sqrt()).collect();
    let shift = (0..channels).map(|c| beta[c] - mean[c] * scale[c]).collect();
    let affine = Affine { scale: Some(scale), shift: Some(shift) };
    affine.is_finite().then_some((affine, element))
}
