//! `DcompSparseConv`: the filters stay compressed in memory.

use std::ffi::{CStr, c_char, c_void};

use onnx_dcomp_kernels::{Activation, Epilogue, FusedConvolution, WindowAttributes};
use ort_sys::{OrtApi, OrtCustomOp, OrtKernelContext, OrtKernelInfo, OrtStatusPtr};

use crate::api::{Api, Failure};
use crate::gemm::{Bias, NO_CONSTANT, PAYLOAD};
use crate::kernel::label;
use crate::operator::{Runs, create_with};
use crate::threads::Lent;

/// The operator's type, as files have it.
const NAME: &CStr = c"DcompSparseConv";

pub(crate) unsafe extern "system" fn name(_: *const OrtCustomOp) -> *const c_char {
    NAME.as_ptr()
}

pub(crate) unsafe extern "system" fn create(
    _: *const OrtCustomOp,
    api: *const OrtApi,
    info: *const OrtKernelInfo,
    kernel: *mut *mut c_void,
) -> OrtStatusPtr {
    // SAFETY: onnxruntime's promises, passed on.
    unsafe { create_with(api, kernel, |api| Convolution::new(api, info)) }
}

/// A node with its filters.
pub(crate) struct Convolution {
    api: Api,
    /// What messages call the node.
    name: String,
    convolution: FusedConvolution,
    bias: Bias,
    activation: Activation,
}

impl Convolution {
    /// # Safety
    /// `info` is what onnxruntime passed to create the kernel, which is not yet done.
    unsafe fn new(api: Api, info: *const OrtKernelInfo) -> Result<Self, Failure> {
        // SAFETY: the caller's promise, for all.
        let (name, payload, groups, attributes, bias, activation) = unsafe {
            let attributes = WindowAttributes {
                strides: api.integers(info, c"strides"),
                dilations: api.integers(info, c"dilations"),
                pads: api.integers(info, c"pads"),
                auto_pad: api.text(info, c"auto_pad"),
            };
            let payload = api.constant_bytes(info, PAYLOAD)?;
            let activation = api.text(info, c"activation");
            (label(api, info), payload, api.integer(info, c"group"), attributes, Bias::new(api, info)?, activation)
        };
        let named = |reason: String| Failure::Ours(format!("node `{name}`: {reason}"));
        let payload = payload.ok_or_else(|| named(NO_CONSTANT.to_owned()))?;
        let convolution = FusedConvolution::decode(payload, groups.unwrap_or(1), &attributes);
        let convolution = convolution.map_err(|error| named(error.to_string()))?;
        let activation = Activation::named(&activation).map_err(|error| named(error.to_string()))?;
        Ok(Self { api, name, convolution, bias, activation })
    }
}

impl Runs for Convolution {
    fn api(&self) -> Api {
        self.api
    }

    unsafe fn run(&self, context: *mut OrtKernelContext) -> Result<(), Failure> {
        let named = |reason: String| Failure::Ours(format!("node `{}`: {reason}", self.name));
        // SAFETY: the caller's promise, for both.
        let (input, bias) = unsafe { (self.api.floats(context, 0)?, self.bias.of_run(self.api, context)?) };
        let (shape, input) = input.ok_or_else(|| named("it lacks its input".to_owned()))?;
        // onnxruntime's tensors have no negative lengths.
        let shape: Vec<usize> = shape.iter().map(|&length| usize::try_from(length).unwrap_or(0)).collect();
        let output = self.convolution.output_shape(&shape).map_err(named)?;
        let lengths: Option<Vec<i64>> = output.iter().map(|&length| i64::try_from(length).ok()).collect();
        let lengths =
            lengths.ok_or_else(|| named(format!("its output has the shape {output:?}, which is too large")))?;
        // SAFETY: the caller's promise.
        let target = unsafe { self.api.output(context, 0, &lengths) }?;
        if target.is_null() {
            return Ok(());
        }
        let length = output.iter().product::<usize>();
        // SAFETY: onnxruntime has just allocated a tensor of f32 of this shape. Nobody else has it before the run ends.
        let outputs = unsafe {
            target.write_bytes(0, length * size_of::<f32>());
            std::slice::from_raw_parts_mut(target.cast::<f32>(), length)
        };
        // SAFETY: the caller's promise.
        let threads = unsafe { Lent::new(self.api, context) };
        let epilogue = Epilogue { bias, activation: self.activation };
        self.convolution.convolve(input, &shape, epilogue, outputs, &threads).map_err(named)?;
        threads.outcome()
    }
}
