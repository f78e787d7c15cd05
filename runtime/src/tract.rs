//! Our operators for tract: `DcompDecode` here, the fused products in `gemm`, fused convolutions in
//! `convolution`, whole models in a node in `session`.
//!
//! The payload is decoded once, while tract reads the model; each weight becomes a constant, so that tract optimises
//! the graph as if the file had been dense, and the payload vanishes from the plan.
//!
//! tract has no bf16: such weights arrive as f32, which holds every bf16 value exactly.

mod convolution;
mod executor;
mod gemm;
mod session;

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use onnx_dcomp_codec::{Decoded, Limits};
use onnx_dcomp_forms::{DType, Values};
use onnx_dcomp_kernels::{CODEBOOK_OPERATOR, CONVOLUTION_OPERATOR, SPARSE_OPERATOR};
use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::f16;
use tract_onnx::tract_hir::internal::*;

use crate::{DECODE_OPERATOR, SESSION_OPERATOR};

pub use session::enclosed;

/// Teaches `onnx` to read packed models.
pub fn register(onnx: &mut tract_onnx::Onnx) {
    onnx.op_register.insert(DECODE_OPERATOR, build);
    onnx.op_register.insert(SPARSE_OPERATOR, gemm::build);
    onnx.op_register.insert(CODEBOOK_OPERATOR, gemm::build);
    onnx.op_register.insert(CONVOLUTION_OPERATOR, convolution::build);
    onnx.op_register.insert(SESSION_OPERATOR, session::build);
}

fn build(_context: &ParsingContext<'_>, node: &NodeProto) -> TractResult<(Box<dyn InferenceOp>, Vec<String>)> {
    ensure!(node.input.len() == 1, "{DECODE_OPERATOR} takes one input, the payload; found {}", node.input.len());
    let wanted = node.output.iter().map(|name| !name.is_empty()).collect();
    let name = if node.name.is_empty() { node.output.first() } else { Some(&node.name) };
    let node = name.cloned().unwrap_or_default();
    Ok((expand(Decode { node, wanted, weights: Arc::new(OnceLock::new()) }), vec![]))
}

/// The operator; its clones share the weights, so that a model translated several times decodes once.
#[derive(Debug, Clone)]
struct Decode {
    /// What messages call it.
    node: String,
    /// For each output of the node, whether it has a name and is therefore an outlet of tract's graph.
    wanted: Vec<bool>,
    weights: Arc<OnceLock<Vec<Arc<Tensor>>>>,
}

impl Decode {
    /// The weights in the order of the outlets.
    fn weights(&self, payload: &Tensor) -> TractResult<&[Arc<Tensor>]> {
        if let Some(weights) = self.weights.get() {
            return Ok(weights);
        }
        let weights = self.decode(payload).with_context(|| format!("decoding the payload of node `{}`", self.node))?;
        Ok(self.weights.get_or_init(|| weights))
    }

    fn decode(&self, payload: &Tensor) -> TractResult<Vec<Arc<Tensor>>> {
        ensure!(
            payload.datum_type() == DatumType::U8,
            "a payload is a uint8 tensor; this one holds {:?}",
            payload.datum_type()
        );
        let bytes = payload.try_as_plain_ram()?.as_slice::<u8>()?;
        let decoded = onnx_dcomp_codec::decode(bytes, &Limits::default())?;
        ensure!(
            decoded.len() == self.wanted.len(),
            "the payload holds {} weights, the node has {} outputs",
            decoded.len(),
            self.wanted.len()
        );
        let outlets = decoded.into_iter().zip(&self.wanted).filter(|(_, wanted)| **wanted);
        outlets.map(|(weight, _)| Ok(Arc::new(tensor(&weight)?))).collect()
    }
}

impl Expansion for Decode {
    fn name(&self) -> StaticName {
        DECODE_OPERATOR.into()
    }

    fn nboutputs(&self) -> TractResult<usize> {
        Ok(self.wanted.iter().filter(|wanted| **wanted).count())
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        solver: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, 1)?;
        check_output_arity(outputs, self.nboutputs()?)?;
        solver.given(&inputs[0].value, move |solver, payload| {
            for (weight, output) in self.weights(&payload)?.iter().zip(outputs) {
                let shape: TVec<TDim> = weight.shape().iter().map(|length| length.to_dim()).collect();
                solver.equals(&output.datum_type, weight.datum_type())?;
                solver.equals(&output.shape, ShapeFactoid::from(shape))?;
            }
            Ok(())
        })
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let [payload] = inputs else { bail!("{DECODE_OPERATOR} takes one input, found {}", inputs.len()) };
        let payload = model.outlet_fact(*payload)?.konst.clone();
        let payload = payload.with_context(|| format!("the payload of node `{}` is not a constant", self.node))?;
        let weights = self.weights(&payload)?;
        let constant = |(position, weight): (usize, &Arc<Tensor>)| {
            let name = if position == 0 { prefix.to_owned() } else { format!("{prefix}.{position}") };
            model.add_const(name, Arc::clone(weight))
        };
        weights.iter().enumerate().map(constant).collect()
    }
}

fn tensor(weight: &Decoded) -> TractResult<Tensor> {
    let (shape, values) = (weight.shape.as_slice(), &weight.values);
    let bytes: &Bytes = values.bytes();
    match values.dtype() {
        DType::F32 => Tensor::from_shape(shape, &elements(bytes, f32::from_le_bytes)),
        DType::F16 => Tensor::from_shape(shape, &elements(bytes, f16::from_le_bytes)),
        DType::F64 => Tensor::from_shape(shape, &elements(bytes, f64::from_le_bytes)),
        DType::I8 => Tensor::from_shape(shape, &elements(bytes, i8::from_le_bytes)),
        DType::U8 => Tensor::from_shape(shape, bytes),
        DType::BF16 => Tensor::from_shape(shape, &Values::to_f32(values)),
    }
}

fn elements<T, const N: usize>(bytes: &[u8], read: impl Fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks::<N>().0.iter().map(|word| read(*word)).collect()
}
