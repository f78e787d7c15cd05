//! What onnxruntime is told of `DcompDecode`, and how it finds the products in `gemm`.

use std::ffi::{CStr, c_char, c_int, c_void};

use ort_sys::{
    ONNXTensorElementDataType, OrtApi, OrtCustomOp, OrtCustomOpInputOutputCharacteristic, OrtKernelContext,
    OrtKernelInfo, OrtMemType, OrtSessionOptions, OrtStatusPtr,
};

use crate::api::{API_VERSION, Api, Failure};
use crate::convolution::{self, Convolution};
use crate::gemm::{self, Product};
use crate::host::Options;
use crate::kernel::Kernel;
use crate::session::Operator;

/// The operator and its domain, as files have them. The crate that has these names for Rust may come with tract, which
/// has no place in here.
const NAME: &CStr = c"DcompDecode";
const DOMAIN: &CStr = c"ai.dcomp";

static DECODE: OrtCustomOp = decode();
static SPARSE: OrtCustomOp = gemm::operator::<Product>(gemm::sparse_name, gemm::create_sparse);
static CODEBOOK: OrtCustomOp = gemm::operator::<Product>(gemm::codebook_name, gemm::create_codebook);
static CONVOLUTION: OrtCustomOp = gemm::operator::<Convolution>(convolution::name, convolution::create);

/// Makes our operators known to the sessions of `options`, and remembers these for sessions within sessions.
///
/// Sessions keep what is registered, and nobody says when the last of them is gone: about a kilobyte for each call stays as
/// long as the process.
///
/// # Safety
/// `options` come from onnxruntime.
pub(crate) unsafe fn register(api: Api, options: *mut OrtSessionOptions) -> Result<(), Failure> {
    // SAFETY: the caller's promise. They are copied before our own domain is in them: a session within a session runs
    // what is decoded.
    let session = Operator::new(unsafe { Options::copied(api, options) }?);
    let session: &'static Operator = Box::leak(Box::new(session));
    let domain = api.domain(DOMAIN, &[&DECODE, &SPARSE, &CODEBOOK, &CONVOLUTION, session.as_custom_op()])?;
    // SAFETY: onnxruntime gave the options, `Api::domain` the domain.
    unsafe { api.add_domain(options, domain) }
}

/// A node with all that it needs to run.
pub(crate) trait Runs {
    /// The functions of the onnxruntime that made its kernel.
    fn api(&self) -> Api;

    /// Runs it.
    ///
    /// # Safety
    /// `context` is what onnxruntime passed to run this kernel, which is not yet done.
    unsafe fn run(&self, context: *mut OrtKernelContext) -> Result<(), Failure>;
}

/// What all our operators have: they run on the processor, as kernels `K`, and give f32 where they do not say otherwise.
pub(crate) const fn operator<K: Runs>() -> OrtCustomOp {
    // SAFETY: a version and optional functions, for all of which zero is a value. Fields of later versions stay zero;
    // onnxruntime reads none of them, since the version says so.
    let mut operator: OrtCustomOp = unsafe { std::mem::zeroed() };
    operator.version = API_VERSION;
    operator.GetExecutionProviderType = Some(provider);
    operator.GetInputMemoryType = Some(input_memory);
    operator.GetOutputType = Some(output_type);
    operator.GetOutputTypeCount = Some(one);
    operator.KernelComputeV2 = Some(compute::<K>);
    operator.KernelDestroy = Some(destroy::<K>);
    operator
}

/// One uint8 tensor in, any number of f32 tensors out.
const fn decode() -> OrtCustomOp {
    let mut operator = operator::<Kernel>();
    operator.GetName = Some(name);
    operator.GetInputType = Some(input_type);
    operator.GetInputTypeCount = Some(one);
    operator.GetInputCharacteristic = Some(input_characteristic);
    operator.GetVariadicInputMinArity = Some(at_least_one);
    operator.GetVariadicInputHomogeneity = Some(is_homogeneous);
    operator.GetOutputCharacteristic = Some(variadic);
    operator.GetVariadicOutputMinArity = Some(at_least_one);
    operator.GetVariadicOutputHomogeneity = Some(is_homogeneous);
    operator.CreateKernelV2 = Some(create);
    operator
}

unsafe extern "system" fn name(_: *const OrtCustomOp) -> *const c_char {
    NAME.as_ptr()
}

/// Null means the processor.
unsafe extern "system" fn provider(_: *const OrtCustomOp) -> *const c_char {
    std::ptr::null()
}

pub(crate) unsafe extern "system" fn one(_: *const OrtCustomOp) -> usize {
    1
}

pub(crate) unsafe extern "system" fn at_least_one(_: *const OrtCustomOp) -> c_int {
    1
}

unsafe extern "system" fn is_homogeneous(_: *const OrtCustomOp) -> c_int {
    1
}

unsafe extern "system" fn input_type(_: *const OrtCustomOp, _: usize) -> ONNXTensorElementDataType {
    ONNXTensorElementDataType::ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8
}

unsafe extern "system" fn output_type(_: *const OrtCustomOp, _: usize) -> ONNXTensorElementDataType {
    ONNXTensorElementDataType::ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT
}

unsafe extern "system" fn input_characteristic(
    _: *const OrtCustomOp,
    _: usize,
) -> OrtCustomOpInputOutputCharacteristic {
    OrtCustomOpInputOutputCharacteristic::INPUT_OUTPUT_REQUIRED
}

pub(crate) unsafe extern "system" fn variadic(_: *const OrtCustomOp, _: usize) -> OrtCustomOpInputOutputCharacteristic {
    OrtCustomOpInputOutputCharacteristic::INPUT_OUTPUT_VARIADIC
}

unsafe extern "system" fn input_memory(_: *const OrtCustomOp, _: usize) -> OrtMemType {
    OrtMemType::OrtMemTypeDefault
}

unsafe extern "system" fn create(
    _: *const OrtCustomOp,
    api: *const OrtApi,
    info: *const OrtKernelInfo,
    kernel: *mut *mut c_void,
) -> OrtStatusPtr {
    // SAFETY: onnxruntime's promises, passed on; `info` describes the node.
    unsafe { create_with(api, kernel, |api| Kernel::new(api, info)) }
}

/// Puts what `make` gives where onnxruntime wants the kernel.
///
/// # Safety
/// `api` and `kernel` are what onnxruntime passed to create a kernel.
pub(crate) unsafe fn create_with<K>(
    api: *const OrtApi,
    kernel: *mut *mut c_void,
    make: impl FnOnce(Api) -> Result<K, Failure>,
) -> OrtStatusPtr {
    // SAFETY: onnxruntime passes its table of the version that the operator asks for.
    let api = unsafe { Api::of_callback(api) };
    api.guard(|| {
        let made = Box::into_raw(Box::new(make(api)?));
        // SAFETY: the caller's promise.
        unsafe { *kernel = made.cast() };
        Ok(())
    })
}

unsafe extern "system" fn compute<K: Runs>(kernel: *mut c_void, context: *mut OrtKernelContext) -> OrtStatusPtr {
    // SAFETY: onnxruntime passes what `create_with` made, and several threads may read it.
    let kernel = unsafe { &*kernel.cast::<K>() };
    // SAFETY: onnxruntime passes the context of this run.
    kernel.api().guard(|| unsafe { kernel.run(context) })
}

unsafe extern "system" fn destroy<K>(kernel: *mut c_void) {
    if !kernel.is_null() {
        // SAFETY: onnxruntime passes what `create_with` made, once.
        drop(unsafe { Box::from_raw(kernel.cast::<K>()) });
    }
}
