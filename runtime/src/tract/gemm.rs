//! `DcompSparseGemm` and `DcompCodebookGemm` for tract: the payload becomes a [`FusedMatrix`] while tract reads the
//! model, and stays one while it runs.

use std::sync::{Arc, OnceLock};

use onnx_dcomp_kernels::{ACTIVATION_ATTRIBUTE, Activation, Epilogue, FusedMatrix, TRANSPOSED_ATTRIBUTE};
use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

use super::executor::Executor;

pub(super) fn build(
    _context: &ParsingContext<'_>,
    node: &NodeProto,
) -> TractResult<(Box<dyn InferenceOp>, Vec<String>)> {
    let (operator, inputs) = (node.op_type.clone(), node.input.len());
    ensure!(matches!(inputs, 2 | 3), "{operator} takes an input, a payload and maybe a bias; found {inputs} inputs");
    let is_transposed = node.get_attr_opt::<i64>(TRANSPOSED_ATTRIBUTE)?.unwrap_or(0) != 0;
    let activation = Activation::named(&node.get_attr_opt::<String>(ACTIVATION_ATTRIBUTE)?.unwrap_or_default())?;
    let name = if node.name.is_empty() { node.output.first() } else { Some(&node.name) };
    let node = name.cloned().unwrap_or_default();
    Ok((
        expand(Unread { node, operator, is_transposed, activation, inputs, matrix: Arc::new(OnceLock::new()) }),
        vec![],
    ))
}

/// The operator before its payload is known; its clones share the matrix.
#[derive(Debug, Clone)]
struct Unread {
    /// What messages call it.
    node: String,
    operator: String,
    is_transposed: bool,
    activation: Activation,
    inputs: usize,
    matrix: Arc<OnceLock<Arc<FusedMatrix>>>,
}

impl Unread {
    fn matrix(&self, payload: &Tensor) -> TractResult<&Arc<FusedMatrix>> {
        if let Some(matrix) = self.matrix.get() {
            return Ok(matrix);
        }
        let decode = || {
            let held = payload.datum_type();
            ensure!(held == DatumType::U8, "a payload is a uint8 tensor; this one holds {held:?}");
            let bytes = payload.try_as_plain_ram()?.as_slice::<u8>()?;
            Ok(Arc::new(FusedMatrix::decode(bytes, &self.operator, self.is_transposed)?))
        };
        let matrix = decode().with_context(|| format!("decoding the payload of node `{}`", self.node))?;
        Ok(self.matrix.get_or_init(|| matrix))
    }
}

impl Expansion for Unread {
    fn name(&self) -> StaticName {
        self.operator.clone().into()
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
            let matrix = self.matrix(&payload)?;
            let mut shape = shape;
            let Some(last) = shape.last_mut() else { bail!("node `{}` wants a vector, not a scalar", self.node) };
            ensure!(
                *last == matrix.columns().to_dim(),
                "node `{}` takes vectors of {} elements; it is given ones of {last}",
                self.node,
                matrix.columns()
            );
            *last = matrix.rows().to_dim();
            solver.equals(&outputs[0].shape, shape)
        })
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let [input, payload, bias @ ..] = inputs else { bail!("{} lacks inputs", self.operator) };
        let payload = model.outlet_fact(*payload)?.konst.clone();
        let payload = payload.with_context(|| format!("the payload of node `{}` is not a constant", self.node))?;
        let matrix = Arc::clone(self.matrix(&payload)?);
        let product = Product { operator: self.operator.clone(), activation: self.activation, matrix };
        let inputs: TVec<OutletId> = std::iter::once(*input).chain(bias.iter().copied()).collect();
        model.wire_node(prefix, product, &inputs)
    }
}

/// The operator in the plan.
#[derive(Debug, Clone)]
struct Product {
    operator: String,
    activation: Activation,
    matrix: Arc<FusedMatrix>,
}

impl PartialEq for Product {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.matrix, &other.matrix) && self.activation == other.activation
    }
}

impl Eq for Product {}

impl Op for Product {
    fn name(&self) -> StaticName {
        self.operator.clone().into()
    }

    fn info(&self) -> TractResult<Vec<String>> {
        let matrix = &self.matrix;
        Ok(vec![format!("{} to {} elements, {} bytes", matrix.columns(), matrix.rows(), matrix.bytes())])
    }

    op_as_typed_op!();
}

impl EvalOp for Product {
    op_out_of_plan!();

    fn eval(&self, _context: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let (rows, columns) = (self.matrix.rows(), self.matrix.columns());
        let input = inputs.first().context("a product lacks its input")?;
        let mut shape: TVec<usize> = input.shape().into();
        match shape.last_mut() {
            Some(last) if *last == columns => *last = rows,
            _ => bail!("the input of a product has shape {:?} where vectors of {columns} elements go", input.shape()),
        }
        let bias = match inputs.get(1) {
            Some(bias) => Some(bias.try_as_plain_ram()?.as_slice::<f32>()?),
            None => None,
        };
        ensure!(bias.is_none_or(|bias| bias.len() == rows), "the bias of a product has not its {rows} elements");
        let epilogue = Epilogue { bias, activation: self.activation };
        let mut outputs = vec![0f32; shape.iter().product()];
        self.matrix.multiply(input.try_as_plain_ram()?.as_slice::<f32>()?, epilogue, &mut outputs, &Executor);
        Ok(tvec!(Tensor::from_shape(&shape, &outputs)?.into_tvalue()))
    }
}

impl TypedOp for Product {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let mut shape = inputs.first().context("a product lacks its input")?.shape.to_tvec();
        let last = shape.last_mut().context("a product wants vectors, not a scalar")?;
        *last = self.matrix.rows().to_dim();
        Ok(tvec!(f32::fact(shape)))
    }

    as_op!();
}
