//! `DcompSparseGemm` and `DcompCodebookGemm`: the matrix stays compressed in memory.

use std::ffi::{CStr, c_char, c_void};

use onnx_dcomp_kernels::{Activation, CODEBOOK_OPERATOR, Epilogue, FusedMatrix, SPARSE_OPERATOR};
use ort_sys::{
    ONNXTensorElementDataType, OrtApi, OrtCustomOp, OrtCustomOpInputOutputCharacteristic, OrtKernelContext,
    OrtKernelInfo, OrtStatusPtr,
};

use crate::api::{Api, Failure};
use crate::kernel::label;
use crate::operator::{Runs, create_with, operator as base};
use crate::threads::Lent;

/// The operators' types, as files have them.
const SPARSE: &CStr = c"DcompSparseGemm";
const CODEBOOK: &CStr = c"DcompCodebookGemm";

/// Why a payload that only a run shows cannot be decoded.
pub(crate) const NO_CONSTANT: &str = "its payload is no constant of the same graph, so that it cannot be decoded";

/// Where the payload stands among the inputs.
pub(crate) const PAYLOAD: usize = 1;

/// A function that onnxruntime calls to make a kernel.
pub(crate) type Create = unsafe extern "system" fn(
    *const OrtCustomOp,
    *const OrtApi,
    *const OrtKernelInfo,
    *mut *mut c_void,
) -> OrtStatusPtr;

/// An input of f32, a payload of uint8 and maybe a bias of f32 in, one f32 tensor out.
pub(crate) const fn operator<K: Runs>(
    name: unsafe extern "system" fn(*const OrtCustomOp) -> *const c_char,
    create: Create,
) -> OrtCustomOp {
    let mut operator = base::<K>();
    operator.GetName = Some(name);
    operator.GetInputType = Some(input_type);
    operator.GetInputTypeCount = Some(three);
    operator.GetInputCharacteristic = Some(input_characteristic);
    operator.GetOutputCharacteristic = Some(output_characteristic);
    operator.CreateKernelV2 = Some(create);
    operator
}

pub(crate) unsafe extern "system" fn sparse_name(_: *const OrtCustomOp) -> *const c_char {
    SPARSE.as_ptr()
}

pub(crate) unsafe extern "system" fn codebook_name(_: *const OrtCustomOp) -> *const c_char {
    CODEBOOK.as_ptr()
}

unsafe extern "system" fn three(_: *const OrtCustomOp) -> usize {
    3
}

unsafe extern "system" fn input_type(_: *const OrtCustomOp, index: usize) -> ONNXTensorElementDataType {
    match index {
        PAYLOAD => ONNXTensorElementDataType::ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8,
        _ => ONNXTensorElementDataType::ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT,
    }
}

unsafe extern "system" fn input_characteristic(
    _: *const OrtCustomOp,
    index: usize,
) -> OrtCustomOpInputOutputCharacteristic {
    match index {
        0 | PAYLOAD => OrtCustomOpInputOutputCharacteristic::INPUT_OUTPUT_REQUIRED,
        _ => OrtCustomOpInputOutputCharacteristic::INPUT_OUTPUT_OPTIONAL,
    }
}

unsafe extern "system" fn output_characteristic(
    _: *const OrtCustomOp,
    _: usize,
) -> OrtCustomOpInputOutputCharacteristic {
    OrtCustomOpInputOutputCharacteristic::INPUT_OUTPUT_REQUIRED
}

pub(crate) unsafe extern "system" fn create_sparse(
    _: *const OrtCustomOp,
    api: *const OrtApi,
    info: *const OrtKernelInfo,
    kernel: *mut *mut c_void,
) -> OrtStatusPtr {
    // SAFETY: onnxruntime's promises, passed on.
    unsafe { create_with(api, kernel, |api| Product::new(api, info, SPARSE_OPERATOR)) }
}

pub(crate) unsafe extern "system" fn create_codebook(
    _: *const OrtCustomOp,
    api: *const OrtApi,
    info: *const OrtKernelInfo,
    kernel: *mut *mut c_void,
) -> OrtStatusPtr {
    // SAFETY: onnxruntime's promises, passed on.
    unsafe { create_with(api, kernel, |api| Product::new(api, info, CODEBOOK_OPERATOR)) }
}

/// What a layer adds.
pub(crate) enum Bias {
    /// These numbers, in every run; none where the node has no bias.
    Constant(Option<Vec<f32>>),
    /// What the run shows.
    OfRun,
}

impl Bias {
    /// Where it stands among the inputs.
    const INPUT: usize = 2;

    /// # Safety
    /// `info` is what onnxruntime passed to create the kernel, which is not yet done.
    pub(crate) unsafe fn new(api: Api, info: *const OrtKernelInfo) -> Result<Self, Failure> {
        // SAFETY: the caller's promise.
        if unsafe { api.arity(info) }?.0 <= Self::INPUT {
            return Ok(Self::Constant(None));
        }
        // SAFETY: the caller's promise.
        let constant = unsafe { api.constant_floats(info, Self::INPUT) }?;
        Ok(constant.map_or(Self::OfRun, |bias| Self::Constant(Some(bias.to_vec()))))
    }

    /// The numbers for a run.
    ///
    /// # Safety
    /// `context` is what onnxruntime passed to run the kernel; they live as long as the run.
    pub(crate) unsafe fn of_run(&self, api: Api, context: *mut OrtKernelContext) -> Result<Option<&[f32]>, Failure> {
        match self {
            Self::Constant(bias) => Ok(bias.as_deref()),
            // SAFETY: the caller's promise.
            Self::OfRun => Ok(unsafe { api.floats(context, Self::INPUT) }?.map(|(_, bias)| bias)),
        }
    }
}

/// A node with its matrix.
pub(crate) struct Product {
    api: Api,
    /// What messages call the node.
    name: String,
    matrix: FusedMatrix,
    bias: Bias,
    activation: Activation,
}

impl Product {
    /// # Safety
    /// `info` is what onnxruntime passed to create the kernel, which is not yet done.
    unsafe fn new(api: Api, info: *const OrtKernelInfo, operator: &str) -> Result<Self, Failure> {
        // SAFETY: the caller's promise, for all.
        let (name, payload, transposed, bias, activation) = unsafe {
            let payload = api.constant_bytes(info, PAYLOAD)?;
            let transposed = api.integer(info, c"transB");
            (label(api, info), payload, transposed, Bias::new(api, info)?, api.text(info, c"activation"))
        };
        let named = |reason: String| Failure::Ours(format!("node `{name}`: {reason}"));
        let payload = payload.ok_or_else(|| named(NO_CONSTANT.to_owned()))?;
        let matrix = FusedMatrix::decode(payload, operator, transposed.unwrap_or(0) != 0);
        let matrix = matrix.map_err(|error| named(error.to_string()))?;
        let activation = Activation::named(&activation).map_err(|error| named(error.to_string()))?;
        Ok(Self { api, name, matrix, bias, activation })
    }
}

impl Runs for Product {
    fn api(&self) -> Api {
        self.api
    }

    unsafe fn run(&self, context: *mut OrtKernelContext) -> Result<(), Failure> {
        let named = |reason: String| Failure::Ours(format!("node `{}`: {reason}", self.name));
        // SAFETY: the caller's promise, for both.
        let (input, bias) = unsafe { (self.api.floats(context, 0)?, self.bias.of_run(self.api, context)?) };
        let (mut shape, input) = input.ok_or_else(|| named("it lacks its input".to_owned()))?;
        let (rows, columns) = (self.matrix.rows(), self.matrix.columns());
        match shape.last_mut() {
            Some(last) if usize::try_from(*last) == Ok(columns) => *last = rows as i64,
            _ => {
                let reason = format!("its input has the shape {shape:?} where vectors of {columns} elements go");
                return Err(named(reason));
            }
        }
        if bias.is_some_and(|bias| bias.len() != rows) {
            return Err(named(format!("its bias has not {rows} elements")));
        }
        // SAFETY: the caller's promise.
        let target = unsafe { self.api.output(context, 0, &shape) }?;
        if target.is_null() {
            return Ok(());
        }
        let length = input.len() / columns * rows;
        // SAFETY: onnxruntime has just allocated a tensor of f32 of this shape: `rows` elements for each vector of the
        // input, whose length its shape says. Nobody else has it before the run ends.
        let outputs = unsafe {
            target.write_bytes(0, length * size_of::<f32>());
            std::slice::from_raw_parts_mut(target.cast::<f32>(), length)
        };
        // SAFETY: the caller's promise.
        let threads = unsafe { Lent::new(self.api, context) };
        let epilogue = Epilogue { bias, activation: self.activation };
        self.matrix.multiply(input, epilogue, outputs, &threads);
        threads.outcome()
    }
}
