//! One `DcompDecode` node.

use std::ptr;

use onnx_dcomp_codec::{Decoded, Limits};
use onnx_dcomp_forms::DType;
use ort_sys::{OrtKernelContext, OrtKernelInfo};

use crate::api::{Api, Failure};
use crate::gemm::NO_CONSTANT;
use crate::operator::Runs;

/// A node with its weights, decoded.
pub(crate) struct Kernel {
    api: Api,
    /// One for each output of the node, in that order.
    weights: Vec<Weight>,
}

struct Weight {
    shape: Vec<i64>,
    decoded: Decoded,
}

impl Kernel {
    /// Decodes the payload of a node; messages name the node.
    ///
    /// # Safety
    /// `info` is what onnxruntime passed to create the kernel, which is not yet done.
    pub(crate) unsafe fn new(api: Api, info: *const OrtKernelInfo) -> Result<Self, Failure> {
        // SAFETY: the caller's promise, for all three.
        let (name, made) = unsafe { (label(api, info), Self::decode(api, info)) };
        made.map_err(|failure| match failure {
            Failure::Ours(reason) => Failure::Ours(format!("node `{name}`: {reason}")),
            Failure::Theirs(status) => Failure::Theirs(status),
        })
    }

    /// # Safety
    /// See [`Self::new`].
    unsafe fn decode(api: Api, info: *const OrtKernelInfo) -> Result<Self, Failure> {
        // SAFETY: the caller's promise.
        let (inputs, outputs) = unsafe { api.arity(info) }?;
        if inputs != 1 {
            return Err(format!("it takes one input, the payload; found {inputs}").into());
        }
        // SAFETY: the caller's promise.
        let payload = unsafe { api.constant_bytes(info, 0) }?.ok_or_else(|| NO_CONSTANT.to_owned())?;
        let decoded = onnx_dcomp_codec::decode(payload, &Limits::default()).map_err(|error| error.to_string())?;
        if decoded.len() != outputs {
            let held = decoded.len();
            return Err(format!("its payload holds {held} weights, it has {outputs} outputs").into());
        }
        let weights = decoded.into_iter().map(Weight::new).collect::<Result<_, _>>()?;
        Ok(Self { api, weights })
    }
}

impl Runs for Kernel {
    fn api(&self) -> Api {
        self.api
    }

    /// Copies the weights to where onnxruntime wants them.
    unsafe fn run(&self, context: *mut OrtKernelContext) -> Result<(), Failure> {
        for (index, weight) in self.weights.iter().enumerate() {
            // SAFETY: the caller's promise.
            let target = unsafe { self.api.output(context, index, &weight.shape) }?;
            let bytes = weight.decoded.values.bytes();
            if !target.is_null() {
                // SAFETY: onnxruntime has just allocated a tensor of this shape, whose elements are as wide as ours:
                // `Weight::new` takes f32 only, and `operator` declares no other type.
                unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), target, bytes.len()) };
            }
        }
        Ok(())
    }
}

impl Weight {
    fn new(decoded: Decoded) -> Result<Self, Failure> {
        // onnxruntime asks for the types of outputs before it shows what is in the payload.
        if decoded.values.dtype() != DType::F32 {
            let kind = decoded.values.dtype();
            return Err(format!(
                "its payload holds weights of the type {kind}, and this library gives f32 only; open the model with \
                 `onnx_dcomp::load`, or turn it into plain ONNX with `onnx-dcomp decompress`"
            )
            .into());
        }
        let too_long = |_| format!("the shape {:?} exceeds what onnxruntime can express", decoded.shape);
        let shape = decoded.shape.iter().map(|&length| i64::try_from(length)).collect::<Result<_, _>>();
        Ok(Self { shape: shape.map_err(too_long)?, decoded })
    }
}

/// What messages call the node: its name, or that of its first output.
///
/// # Safety
/// See [`Kernel::new`].
pub(crate) unsafe fn label(api: Api, info: *const OrtKernelInfo) -> String {
    // SAFETY: the caller's promise.
    let name = unsafe { api.node_name(info) }.unwrap_or_default();
    if name.is_empty() {
        // SAFETY: the caller's promise.
        return unsafe { api.output_name(info, 0) }.unwrap_or_default();
    }
    name
}
