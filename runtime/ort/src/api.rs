//! onnxruntime's functions with Rust's errors.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

use ort_sys::{
    ONNXTensorElementDataType, OrtApi, OrtApiBase, OrtCustomOp, OrtCustomOpDomain, OrtErrorCode, OrtKernelContext,
    OrtKernelInfo, OrtSessionOptions, OrtStatus, OrtStatusPtr, OrtValue,
};

use crate::tensor::{self, Memory};

/// The version of onnxruntime's interface that is asked for. Before it, onnxruntime does not find the types of a variable
/// number of outputs.
pub(crate) const API_VERSION: u32 = 17;

/// Why something cannot be done.
#[derive(Debug)]
pub(crate) enum Failure {
    /// In our words.
    Ours(String),
    /// In onnxruntime's; passed on as it is.
    Theirs(*mut OrtStatus),
}

impl From<String> for Failure {
    fn from(message: String) -> Self {
        Self::Ours(message)
    }
}

/// Shape and elements of a tensor.
pub(crate) type Floats<'a> = (Vec<i64>, &'a [f32]);

/// onnxruntime's table of functions.
///
/// The table of an old onnxruntime ends earlier than the type says, so it is only ever reached through the pointer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Api(*const OrtApi);

// SAFETY: the table is onnxruntime's, which never changes it, and its functions may be called from any thread.
unsafe impl Send for Api {}
// SAFETY: as above.
unsafe impl Sync for Api {}

/// Calls a function of the table, and turns the status that it returns into a `Result`.
macro_rules! call {
    ($api:expr, $function:ident($($argument:expr),* $(,)?)) => {{
        let api: Api = $api;
        // SAFETY: the table belongs to version `API_VERSION` or a later one, which all have the function; what the
        // arguments have to be is said where the macro is used.
        let ort_sys::OrtStatusPtr(status) = unsafe { ((*api.table()).$function)($($argument),*) };
        if status.is_null() { Ok(()) } else { Err(Failure::Theirs(status)) }
    }};
}
pub(crate) use call;

impl Api {
    /// The table that onnxruntime handed to a callback; the same rules as for [`Self::of_host`] hold.
    pub(crate) unsafe fn of_callback(api: *const OrtApi) -> Self {
        Self(api)
    }

    /// The table; only functions that version [`API_VERSION`] has may be called.
    pub(crate) fn table(self) -> *const OrtApi {
        self.0
    }

    /// Does `work` with the table of the host, whatever its version.
    ///
    /// # Safety
    /// `base` comes from onnxruntime.
    pub(crate) unsafe fn of_host(
        base: *const OrtApiBase,
        work: impl FnOnce(Self) -> Result<(), Failure>,
    ) -> OrtStatusPtr {
        // SAFETY: the caller's promise; onnxruntime has had both functions from its first version on.
        let (first, api, version) = unsafe {
            (((*base).GetApi)(1), ((*base).GetApi)(API_VERSION), CStr::from_ptr(((*base).GetVersionString)()))
        };
        if api.is_null() {
            let version = version.to_string_lossy();
            // Version 1 of the table holds what makes a status.
            return Self(first).guard(|| {
                Err(Failure::Ours(format!(
                    "this library needs onnxruntime 1.{API_VERSION} or newer, and was loaded by {version}; update \
                     onnxruntime, or turn the model into plain ONNX with `onnx-dcomp decompress`"
                )))
            });
        }
        Self(api).guard(|| work(Self(api)))
    }

    /// `failure`, with onnxruntime's words in ours.
    pub(crate) fn in_words(self, failure: Failure) -> String {
        match failure {
            Failure::Ours(message) => message,
            Failure::Theirs(status) => {
                // SAFETY: a call returned the status, and nothing else holds it.
                unsafe {
                    let message = CStr::from_ptr(((*self.0).GetErrorMessage)(status)).to_string_lossy().into_owned();
                    ((*self.0).ReleaseStatus)(status);
                    message
                }
            }
        }
    }

    /// Does `work`; null where it ends well, otherwise a status that says why not. A panic ends here too: it must not
    /// run into onnxruntime's frames.
    pub(crate) fn guard(self, work: impl FnOnce() -> Result<(), Failure>) -> OrtStatusPtr {
        let message = match catch_unwind(AssertUnwindSafe(work)) {
            Ok(Ok(())) => return OrtStatusPtr(ptr::null_mut()),
            Ok(Err(Failure::Theirs(status))) => return OrtStatusPtr(status),
            Ok(Err(Failure::Ours(message))) => message,
            Err(_) => "stopped by a bug of its own; please report it".to_owned(),
        };
        let message = format!("onnx-dcomp {}: {message}", env!("CARGO_PKG_VERSION")).replace('\0', " ");
        let message = CString::new(message).unwrap_or_default();
        // SAFETY: every version of the table has the function; it copies the message.
        unsafe { ((*self.0).CreateStatus)(OrtErrorCode::ORT_FAIL, message.as_ptr()) }
    }

    /// A new domain that holds `operators`; it is never freed, and so outlives every session.
    pub(crate) fn domain(
        self,
        name: &CStr,
        operators: &[&'static OrtCustomOp],
    ) -> Result<*mut OrtCustomOpDomain, Failure> {
        let mut domain = ptr::null_mut();
        // The name is copied; the operators live as long as the program.
        call!(self, CreateCustomOpDomain(name.as_ptr(), &raw mut domain))?;
        for &operator in operators {
            call!(self, CustomOpDomain_Add(domain, ptr::from_ref(operator)))?;
        }
        Ok(domain)
    }

    /// Makes the operators of `domain` known to the sessions of `options`, which keep the pointer.
    ///
    /// # Safety
    /// `options` come from onnxruntime; `domain` is one of [`Self::domain`].
    pub(crate) unsafe fn add_domain(
        self,
        options: *mut OrtSessionOptions,
        domain: *mut OrtCustomOpDomain,
    ) -> Result<(), Failure> {
        call!(self, AddCustomOpDomain(options, domain))
    }

    /// The name of the node that a kernel is made for; empty where it has none.
    ///
    /// # Safety
    /// As for every function here with `info`: it is what onnxruntime passed to create a kernel, which is not yet done.
    pub(crate) unsafe fn node_name(self, info: *const OrtKernelInfo) -> Result<String, Failure> {
        // SAFETY: the length is the buffer's; a null buffer asks for the length.
        string(|buffer, length| call!(self, KernelInfo_GetNodeName(info, buffer, length)))
    }

    /// The name of output `index` of the node that a kernel is made for.
    ///
    /// # Safety
    /// See [`Self::node_name`].
    pub(crate) unsafe fn output_name(self, info: *const OrtKernelInfo, index: usize) -> Result<String, Failure> {
        string(|buffer, length| call!(self, KernelInfo_GetOutputName(info, index, buffer, length)))
    }

    /// Number of inputs and of outputs of the node that a kernel is made for.
    ///
    /// # Safety
    /// See [`Self::node_name`].
    pub(crate) unsafe fn arity(self, info: *const OrtKernelInfo) -> Result<(usize, usize), Failure> {
        let (mut inputs, mut outputs) = (0, 0);
        call!(self, KernelInfo_GetInputCount(info, &raw mut inputs))?;
        call!(self, KernelInfo_GetOutputCount(info, &raw mut outputs))?;
        Ok((inputs, outputs))
    }

    /// The bytes of input `index`, a uint8 tensor, of the node that a kernel is made for; `None` where it is no
    /// constant. They live as long as `info`.
    ///
    /// # Safety
    /// See [`Self::node_name`].
    pub(crate) unsafe fn constant_bytes<'a>(
        self,
        info: *const OrtKernelInfo,
        index: usize,
    ) -> Result<Option<&'a [u8]>, Failure> {
        let kind = ONNXTensorElementDataType::ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8;
        // SAFETY: the caller's promise.
        let memory = unsafe { self.constant(info, index, kind) }?;
        // SAFETY: the tensor is so long; onnxruntime keeps constants as they are.
        Ok(memory.map(|Memory { data, bytes, .. }| match bytes == 0 || data.is_null() {
            true => &[][..],
            false => unsafe { std::slice::from_raw_parts(data, bytes) },
        }))
    }

    /// The elements of input `index`, a tensor of `f32`, of the node that a kernel is made for; `None` where it is no
    /// constant. They live as long as `info`.
    ///
    /// # Safety
    /// See [`Self::node_name`].
    pub(crate) unsafe fn constant_floats<'a>(
        self,
        info: *const OrtKernelInfo,
        index: usize,
    ) -> Result<Option<&'a [f32]>, Failure> {
        let kind = ONNXTensorElementDataType::ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
        // SAFETY: the caller's promise.
        let memory = unsafe { self.constant(info, index, kind) }?;
        // SAFETY: the tensor is so long, and of this type; onnxruntime keeps constants as they are.
        Ok(memory.map(|Memory { data, bytes, .. }| match bytes == 0 || data.is_null() {
            true => &[][..],
            false => unsafe { std::slice::from_raw_parts(data.cast::<f32>(), bytes / size_of::<f32>()) },
        }))
    }

    /// The memory of input `index`, a tensor of `kind`, of the node that a kernel is made for; `None` where it is no
    /// constant.
    ///
    /// # Safety
    /// See [`Self::node_name`].
    unsafe fn constant(
        self,
        info: *const OrtKernelInfo,
        index: usize,
        kind: ONNXTensorElementDataType,
    ) -> Result<Option<Memory>, Failure> {
        let (mut is_constant, mut value): (c_int, *const OrtValue) = (0, ptr::null());
        call!(self, KernelInfoGetConstantInput_tensor(info, index, &raw mut is_constant, &raw mut value))?;
        if is_constant == 0 || value.is_null() {
            return Ok(None);
        }
        // SAFETY: onnxruntime's value; nothing is written to it.
        unsafe { tensor::memory(self, value.cast_mut(), kind) }.map(Some)
    }

    /// An attribute that is an integer; `None` where the node has none of that name.
    ///
    /// # Safety
    /// See [`Self::node_name`].
    pub(crate) unsafe fn integer(self, info: *const OrtKernelInfo, name: &CStr) -> Option<i64> {
        let mut value = 0;
        let read = call!(self, KernelInfoGetAttribute_int64(info, name.as_ptr(), &raw mut value));
        self.or_default(read.map(|()| Some(value)))
    }

    /// An attribute that is a list of integers; empty where the node has none of that name.
    ///
    /// # Safety
    /// See [`Self::node_name`].
    pub(crate) unsafe fn integers(self, info: *const OrtKernelInfo, name: &CStr) -> Vec<i64> {
        let read = || {
            let mut length = 0;
            call!(self, KernelInfoGetAttributeArray_int64(info, name.as_ptr(), ptr::null_mut(), &raw mut length))?;
            let mut values = vec![0; length];
            call!(self, KernelInfoGetAttributeArray_int64(info, name.as_ptr(), values.as_mut_ptr(), &raw mut length))?;
            Ok(values)
        };
        self.or_default(read())
    }

    /// An attribute that is a text; empty where the node has none of that name.
    ///
    /// # Safety
    /// See [`Self::node_name`].
    pub(crate) unsafe fn text(self, info: *const OrtKernelInfo, name: &CStr) -> String {
        self.or_default(string(|buffer, length| {
            call!(self, KernelInfoGetAttribute_string(info, name.as_ptr(), buffer, length))
        }))
    }

    /// What was read, or its default where it was not there.
    fn or_default<T: Default>(self, read: Result<T, Failure>) -> T {
        read.unwrap_or_else(|failure| {
            if let Failure::Theirs(status) = failure {
                // SAFETY: a call returned it, and nothing else holds it.
                unsafe { ((*self.0).ReleaseStatus)(status) };
            }
            T::default()
        })
    }

    /// Shape and elements of input `index`, a tensor of `f32` in a processor's memory; `None` where the node has no such
    /// input. They live as long as the run.
    ///
    /// # Safety
    /// As for [`Self::output`].
    pub(crate) unsafe fn floats<'a>(
        self,
        context: *mut OrtKernelContext,
        index: usize,
    ) -> Result<Option<Floats<'a>>, Failure> {
        let mut count = 0;
        call!(self, KernelContext_GetInputCount(context, &raw mut count))?;
        // SAFETY: the caller's promise.
        let value = if index < count { unsafe { self.input_value(context, index) }? } else { ptr::null() };
        if value.is_null() {
            return Ok(None);
        }
        let kind = ONNXTensorElementDataType::ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
        // SAFETY: onnxruntime's value; nothing is written to it.
        let Memory { shape, data, bytes } = unsafe { tensor::memory(self, value.cast_mut(), kind) }?;
        if bytes == 0 || data.is_null() {
            return Ok(Some((shape, &[])));
        }
        // SAFETY: the tensor has so many elements of this type, which nobody changes while its readers run.
        Ok(Some((shape, unsafe { std::slice::from_raw_parts(data.cast::<f32>(), bytes / size_of::<f32>()) })))
    }

    /// Input `index`; null where it was left out.
    ///
    /// # Safety
    /// As for [`Self::output`].
    pub(crate) unsafe fn input_value(
        self,
        context: *mut OrtKernelContext,
        index: usize,
    ) -> Result<*const OrtValue, Failure> {
        let mut value: *const OrtValue = ptr::null();
        call!(self, KernelContext_GetInput(context, index, &raw mut value))?;
        Ok(value)
    }

    /// The element type of output `index` of the node that a kernel is made for; `None` for what is no tensor.
    ///
    /// # Safety
    /// See [`Self::node_name`].
    pub(crate) unsafe fn output_element(
        self,
        info: *const OrtKernelInfo,
        index: usize,
    ) -> Result<Option<ONNXTensorElementDataType>, Failure> {
        let mut kind = ptr::null_mut();
        call!(self, KernelInfo_GetOutputTypeInfo(info, index, &raw mut kind))?;
        // SAFETY: made above.
        unsafe { tensor::element(self, kind) }
    }

    /// Output `index`, made as a tensor of that `shape`.
    ///
    /// # Safety
    /// As for [`Self::output`].
    pub(crate) unsafe fn output_value(
        self,
        context: *mut OrtKernelContext,
        index: usize,
        shape: &[i64],
    ) -> Result<*mut OrtValue, Failure> {
        let mut value: *mut OrtValue = ptr::null_mut();
        call!(self, KernelContext_GetOutput(context, index, shape.as_ptr(), shape.len(), &raw mut value))?;
        Ok(value)
    }

    /// The memory of output `index`, a tensor of that `shape`; null where it has no bytes.
    ///
    /// # Safety
    /// `context` is what onnxruntime passed to run a kernel, which is not yet done.
    pub(crate) unsafe fn output(
        self,
        context: *mut OrtKernelContext,
        index: usize,
        shape: &[i64],
    ) -> Result<*mut u8, Failure> {
        // SAFETY: the caller's promise.
        let value = unsafe { self.output_value(context, index, shape) }?;
        if value.is_null() {
            return Ok(ptr::null_mut());
        }
        let mut data: *mut c_void = ptr::null_mut();
        call!(self, GetTensorMutableData(value, &raw mut data))?;
        Ok(data.cast())
    }
}

/// A string that onnxruntime writes into a buffer, whose length it says when there is none.
fn string(read: impl Fn(*mut c_char, *mut usize) -> Result<(), Failure>) -> Result<String, Failure> {
    let mut length = 0;
    read(ptr::null_mut(), &raw mut length)?;
    let mut buffer = vec![0u8; length];
    read(buffer.as_mut_ptr().cast(), &raw mut length)?;
    let text = CStr::from_bytes_until_nul(&buffer).map(CStr::to_string_lossy);
    Ok(text.map_or_else(|_| String::new(), std::borrow::Cow::into_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A host that keeps what it is told of a failure instead of making a status.
    unsafe extern "system" fn create_status(_: OrtErrorCode, message: *const c_char) -> OrtStatusPtr {
        // SAFETY: `guard` passes a string.
        let message = unsafe { CStr::from_ptr(message) }.to_owned();
        OrtStatusPtr(message.into_raw().cast())
    }

    fn text(status: OrtStatusPtr) -> String {
        assert!(!status.0.is_null());
        // SAFETY: `create_status` made it.
        unsafe { CString::from_raw(status.0.cast()) }.into_string().unwrap()
    }

    /// The begin of a table of functions, which is all that an old host and a failing call need.
    static TABLE: [unsafe extern "system" fn(OrtErrorCode, *const c_char) -> OrtStatusPtr; 1] = [create_status];

    unsafe extern "system" fn old_api(version: u32) -> *const OrtApi {
        if version < API_VERSION { TABLE.as_ptr().cast() } else { ptr::null() }
    }

    unsafe extern "system" fn old_version() -> *const c_char {
        c"1.16.3".as_ptr()
    }

    #[test]
    fn a_host_that_is_too_old_is_told_so() {
        let base = OrtApiBase { GetApi: old_api, GetVersionString: old_version };
        // SAFETY: the base is as an old onnxruntime would have it.
        let status = unsafe { Api::of_host(&base, |_| unreachable!("there is nothing to register with")) };
        let text = text(status);
        assert!(text.contains("1.16.3") && text.contains("1.17") && text.contains("decompress"), "{text}");
    }

    #[test]
    fn a_panic_becomes_a_status() {
        let status = Api(TABLE.as_ptr().cast()).guard(|| panic!("as a test"));
        assert!(text(status).contains("bug"));
    }
}
