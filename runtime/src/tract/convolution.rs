//! `DcompSparseConv` for tract: the payload becomes a [`FusedConvolution`] while tract reads the model, and stays one
//! while it runs.

use std::sync::{Arc, OnceLock};

use onnx_dcomp_kernels::{
    ACTIVATION_ATTRIBUTE, Activation, CONVOLUTION_OPERATOR, Epilogue, FusedConvolution, Padding, WindowAttributes,
};
use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

use super::executor::Executor;

pub(super) fn build(
    _context: &ParsingContext<'_>,
    node: &NodeProto,
) -> TractResult<(Box<dyn InferenceOp>, Vec<String>)> {
    let inputs = node.input.len();
    ensure!(
        matches!(inputs, 2 | 3),
        "{CONVOLUTION_OPERATOR} takes images, a payload and maybe a bias; found {inputs} inputs"
    );
    let integers = |name| Ok::<_, TractError>(node.get_attr_opt_vec::<i64>(name)?.unwrap_or_default());
    let attributes = WindowAttributes {
        strides: integers("strides")?,
        dilations: integers("dilations")?,
        pads: integers("pads")?,
        auto_pad: node.get_attr_opt::<String>("auto_pad")?.unwrap_or_default(),
    };
    let groups = node.get_attr_opt::<i64>("group")?.unwrap_or(1);
    let activation = Activation::named(&node.get_attr_opt::<String>(ACTIVATION_ATTRIBUTE)?.unwrap_or_default())?;
    let name = if node.name.is_empty() { node.output.first() } else { Some(&node.name) };
    let node = name.cloned().unwrap_or_default();
    Ok((
        expand(Unread { node, attributes, groups, activation, inputs, convolution: Arc::new(OnceLock::new()) }),
        vec![],
    ))
}

/// The operator before its payload is known; its clones share the filters.
#[derive(Debug, Clone)]
struct Unread {
    /// What messages call it.
    node: String,
    attributes: WindowAttributes,
    groups: i64,
    activation: Activation,
    inputs: usize,
    convolution: Arc<OnceLock<Arc<FusedConvolution>>>,
}

impl Unread {
    fn convolution(&self, payload: &Tensor) -> TractResult<&Arc<FusedConvolution>> {
        if let Some(convolution) = self.convolution.get() {
            return Ok(convolution);
        }
        let decode = || {
            let held = payload.datum_type();
            ensure!(held == DatumType::U8, "a payload is a uint8 tensor; this one holds {held:?}");
            let bytes = payload.try_as_plain_ram()?.as_slice::<u8>()?;
            Ok(Arc::new(FusedConvolution::decode(bytes, self.groups, &self.attributes)?))
        };
        let convolution = decode().with_context(|| format!("decoding the payload of node `{}`", self.node))?;
        Ok(self.convolution.get_or_init(|| convolution))
    }
}

impl Expansion for Unread {
    fn name(&self) -> StaticName {
        CONVOLUTION_OPERATOR.into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        solver: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, self.inputs)?;
        check_output_arity(outputs, 1)?;
        solver.equals(&inputs[0].datum_type, DatumType::F32)?;
        solver.equals(&outputs[0].datum_type, DatumType::F32)?;
        solver.equals(&inputs[0].rank, &outputs[0].rank)?;
        solver.given_2(&inputs[0].shape, &inputs[1].value, move |solver, shape, payload| {
            let convolution = self.convolution(&payload)?;
            let output = output_shape(convolution, &shape).with_context(|| format!("node `{}`", self.node))?;
            solver.equals(&outputs[0].shape, output)
        })
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let [input, payload, bias @ ..] = inputs else { bail!("{CONVOLUTION_OPERATOR} lacks inputs") };
        let payload = model.outlet_fact(*payload)?.konst.clone();
        let payload = payload.with_context(|| format!("the payload of node `{}` is not a constant", self.node))?;
        let filters = Arc::clone(self.convolution(&payload)?);
        let convolution = Convolution { node: self.node.clone(), activation: self.activation, convolution: filters };
        let inputs: TVec<OutletId> = std::iter::once(*input).chain(bias.iter().copied()).collect();
        model.wire_node(prefix, convolution, &inputs)
    }
}

/// The shape that comes out for images of that `shape`, whose lengths need not be known.
fn output_shape(convolution: &FusedConvolution, shape: &[TDim]) -> TractResult<TVec<TDim>> {
    let (axes, channels) = (convolution.axes(), convolution.convolution().channels());
    ensure!(
        shape.len() == axes + 2 && shape[1] == channels.to_dim(),
        "its input has the shape {shape:?} where images of {channels} channels and {axes} axes go"
    );
    if let Some(known) = shape.iter().map(|length| length.to_usize().ok()).collect::<Option<Vec<usize>>>() {
        let output = convolution.output_shape(&known).map_err(TractError::msg)?;
        return Ok(output.iter().map(|length| length.to_dim()).collect());
    }
    let window = convolution.convolution().window();
    let mut output: TVec<TDim> = tvec!(shape[0].clone(), convolution.convolution().filters().to_dim());
    for (length, axis) in shape[2..].iter().zip(2 - axes..) {
        let stride = window.strides[axis];
        output.push(match window.padding {
            Padding::Explicit { before, behind } => {
                let reach = (window.kernel[axis] - 1) * window.dilations[axis] + 1;
                let free = length.clone() + before[axis].to_dim() + behind[axis].to_dim() - reach.to_dim();
                free / stride as u64 + 1
            }
            Padding::SameUpper | Padding::SameLower => length.clone().divceil(stride),
        });
    }
    Ok(output)
}

/// The operator in the plan.
#[derive(Debug, Clone)]
struct Convolution {
    /// What messages call it.
    node: String,
    activation: Activation,
    convolution: Arc<FusedConvolution>,
}

impl PartialEq for Convolution {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.convolution, &other.convolution) && self.activation == other.activation
    }
}

impl Eq for Convolution {}

impl Op for Convolution {
    fn name(&self) -> StaticName {
        CONVOLUTION_OPERATOR.into()
    }

    fn info(&self) -> TractResult<Vec<String>> {
        let filters = self.convolution.convolution();
        Ok(vec![format!("{} to {} channels, {} bytes", filters.channels(), filters.filters(), filters.bytes())])
    }

    op_as_typed_op!();
}

impl EvalOp for Convolution {
    op_out_of_plan!();

    fn eval(&self, _context: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let input = inputs.first().context("a convolution lacks its input")?;
        let named = |reason: String| TractError::msg(format!("node `{}`: {reason}", self.node));
        let shape = self.convolution.output_shape(input.shape()).map_err(named)?;
        let bias = match inputs.get(1) {
            Some(bias) => Some(bias.try_as_plain_ram()?.as_slice::<f32>()?),
            None => None,
        };
        let epilogue = Epilogue { bias, activation: self.activation };
        let mut outputs = Tensor::zero::<f32>(&shape)?;
        let images = input.try_as_plain_ram()?.as_slice::<f32>()?;
        let mut plain = outputs.try_as_plain_ram_mut()?;
        let done = self.convolution.convolve(images, input.shape(), epilogue, plain.as_slice_mut::<f32>()?, &Executor);
        done.map_err(named)?;
        Ok(tvec!(outputs.into_tvalue()))
    }
}

impl TypedOp for Convolution {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let input = inputs.first().context("a convolution lacks its input")?;
        Ok(tvec!(f32::fact(output_shape(&self.convolution, &input.shape.to_tvec())?)))
    }

    as_op!();
}
