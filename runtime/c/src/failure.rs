//! Codes, the text of the last failure, and no panic that gets out.

use std::cell::RefCell;
use std::ffi::{CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};

use onnx_dcomp_codec::DecodeError;
use onnx_dcomp_load::LoadError;

/// `onnx_dcomp_code`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// `ONNX_DCOMP_OK`.
    Ok = 0,
    /// `ONNX_DCOMP_ARGUMENT`.
    Argument = 1,
    /// `ONNX_DCOMP_UNREADABLE`.
    Unreadable = 2,
    /// `ONNX_DCOMP_BROKEN`.
    Broken = 3,
    /// `ONNX_DCOMP_NEWER`.
    Newer = 4,
    /// `ONNX_DCOMP_BUG`.
    Bug = 5,
}

/// What went wrong.
pub(crate) struct Failure {
    code: Code,
    message: String,
}

impl Failure {
    pub(crate) fn new(code: Code, message: String) -> Self {
        Self { code, message }
    }

    /// A null pointer where there must be something.
    pub(crate) fn argument(name: &str) -> Self {
        Self::new(Code::Argument, format!("`{name}` must not be null"))
    }
}

impl From<LoadError> for Failure {
    fn from(error: LoadError) -> Self {
        let code = match &error {
            LoadError::Payload { source: DecodeError::NewerVersion { .. }, .. } => Code::Newer,
            LoadError::Payload { .. } | LoadError::Packed { .. } => Code::Broken,
            _ => Code::Unreadable,
        };
        Self::new(code, error.to_string())
    }
}

thread_local! {
    static LAST: RefCell<CString> = RefCell::default();
}

/// The text of the last failure in this thread; valid until the next one.
pub(crate) fn last_error() -> *const c_char {
    LAST.with_borrow(|text| text.as_ptr())
}

/// Does `work`; a panic ends here, since it must not run into C's frames.
pub(crate) fn guard(work: impl FnOnce() -> Result<(), Failure>) -> Code {
    let failure = match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(())) => return Code::Ok,
        Ok(Err(failure)) => failure,
        Err(_) => Failure::new(Code::Bug, "onnx-dcomp stopped by a bug of its own; please report it".to_owned()),
    };
    let text = CString::new(failure.message.replace('\0', " ")).unwrap_or_default();
    LAST.with_borrow_mut(|last| *last = text);
    failure.code
}
