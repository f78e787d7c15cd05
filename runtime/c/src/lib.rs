//! Packed models for C, and for every language that calls C.
//!
//! `runtime/include/onnx_dcomp.h` describes each function; this is what stands behind it. The library is another one
//! than the operator library: that one is loaded into processes that read ONNX files themselves, so it only decodes
//! payloads, while this one reads files.
//!
//! | module | what |
//! |---|---|
//! | `model` | an opened model, whose tensors C may look at |
//! | `failure` | codes, the text of the last failure, and no panic that gets out |

#![allow(unsafe_code, reason = "the interface is one of C")]

mod failure;
mod model;

use std::ffi::{CStr, OsStr, c_char};
use std::path::Path;
use std::{ptr, slice};

use bytes::Bytes;
use onnx_dcomp_load::Loaded;

use crate::failure::{Code, Failure, guard, last_error};
use crate::model::{Model, Tensor};

/// `onnx_dcomp_version`.
#[unsafe(no_mangle)]
pub extern "C" fn onnx_dcomp_version() -> *const c_char {
    const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");
    VERSION.as_ptr().cast()
}

/// `onnx_dcomp_last_error`.
#[unsafe(no_mangle)]
pub extern "C" fn onnx_dcomp_last_error() -> *const c_char {
    last_error()
}

/// `onnx_dcomp_open`.
///
/// # Safety
/// `path` is null or ends with a zero; `model` is null or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn onnx_dcomp_open(path: *const c_char, model: *mut *mut Model) -> Code {
    guard(|| {
        // SAFETY: the caller's promise.
        let path = unsafe { text(path, "path") }?;
        // SAFETY: the caller's promise.
        unsafe { give(model, || Ok(Loaded::open(&as_path(path)?)?)) }
    })
}

/// `onnx_dcomp_open_bytes`.
///
/// # Safety
/// `bytes` is null, or so many bytes may be read there; `model` is null or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn onnx_dcomp_open_bytes(bytes: *const u8, length: usize, model: *mut *mut Model) -> Code {
    guard(|| {
        if bytes.is_null() || isize::try_from(length).is_err() {
            return Err(Failure::argument("bytes"));
        }
        // SAFETY: the caller's promise. The bytes are copied, since the model may outlive them.
        let bytes = Bytes::copy_from_slice(unsafe { slice::from_raw_parts(bytes, length) });
        // SAFETY: the caller's promise.
        unsafe { give(model, || Ok(Loaded::from_bytes(bytes, None)?)) }
    })
}

/// `onnx_dcomp_close`.
///
/// # Safety
/// `model` is null, or came from `onnx_dcomp_open` and is not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn onnx_dcomp_close(model: *mut Model) {
    if !model.is_null() {
        // SAFETY: the caller's promise.
        drop(unsafe { Box::from_raw(model) });
    }
}

/// `onnx_dcomp_graph`.
///
/// # Safety
/// `model` is null or open; `bytes` and `length` are null or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn onnx_dcomp_graph(model: *const Model, bytes: *mut *const u8, length: *mut usize) -> Code {
    guard(|| {
        // SAFETY: the caller's promise.
        let graph = unsafe { opened(model) }?.graph();
        if bytes.is_null() || length.is_null() {
            return Err(Failure::argument("bytes and length"));
        }
        // SAFETY: the caller's promise.
        unsafe { (*bytes, *length) = (graph.as_ptr(), graph.len()) };
        Ok(())
    })
}

/// `onnx_dcomp_tensor_count`.
///
/// # Safety
/// `model` is null or open.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn onnx_dcomp_tensor_count(model: *const Model) -> usize {
    // SAFETY: the caller's promise.
    unsafe { model.as_ref() }.map_or(0, Model::len)
}

/// `onnx_dcomp_tensor_at`.
///
/// # Safety
/// `model` is null or open; `tensor` is null or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn onnx_dcomp_tensor_at(model: *const Model, index: usize, tensor: *mut Tensor) -> Code {
    guard(|| {
        // SAFETY: the caller's promise.
        let model = unsafe { opened(model) }?;
        let found = model.tensor(index).ok_or_else(|| {
            Failure::new(Code::Argument, format!("there is no tensor {index}: the model has {}", model.len()))
        })?;
        // SAFETY: the caller's promise.
        unsafe { write(tensor, found) }
    })
}

/// `onnx_dcomp_tensor_named`.
///
/// # Safety
/// `model` is null or open; `name` is null or ends with a zero; `tensor` is null or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn onnx_dcomp_tensor_named(
    model: *const Model,
    name: *const c_char,
    tensor: *mut Tensor,
) -> Code {
    guard(|| {
        // SAFETY: the caller's promise, for both.
        let (model, name) = unsafe { (opened(model)?, text(name, "name")?) };
        let found = model.named(name).ok_or_else(|| {
            Failure::new(Code::Argument, format!("the model has no tensor `{}`", name.to_string_lossy()))
        })?;
        // SAFETY: the caller's promise.
        unsafe { write(tensor, found) }
    })
}

/// Opens a model for the caller, and leaves null where that fails.
///
/// # Safety
/// `model` is null or may be written to.
unsafe fn give(model: *mut *mut Model, open: impl FnOnce() -> Result<Loaded, Failure>) -> Result<(), Failure> {
    if model.is_null() {
        return Err(Failure::argument("model"));
    }
    // SAFETY: the caller's promise.
    unsafe { *model = ptr::null_mut() };
    let opened = Box::new(Model::new(open()?)?);
    // SAFETY: the caller's promise.
    unsafe { *model = Box::into_raw(opened) };
    Ok(())
}

/// # Safety
/// `model` is null or open.
unsafe fn opened<'a>(model: *const Model) -> Result<&'a Model, Failure> {
    // SAFETY: the caller's promise.
    unsafe { model.as_ref() }.ok_or_else(|| Failure::argument("model"))
}

/// # Safety
/// `text` is null or ends with a zero.
unsafe fn text<'a>(text: *const c_char, argument: &str) -> Result<&'a CStr, Failure> {
    if text.is_null() {
        return Err(Failure::argument(argument));
    }
    // SAFETY: the caller's promise.
    Ok(unsafe { CStr::from_ptr(text) })
}

/// # Safety
/// `target` is null or may be written to.
unsafe fn write(target: *mut Tensor, tensor: Tensor) -> Result<(), Failure> {
    if target.is_null() {
        return Err(Failure::argument("tensor"));
    }
    // SAFETY: the caller's promise.
    unsafe { target.write(tensor) };
    Ok(())
}

/// A path as the system has it: any bytes on Unix, UTF-8 elsewhere.
fn as_path(path: &CStr) -> Result<std::path::PathBuf, Failure> {
    #[cfg(unix)]
    let path: &OsStr = std::os::unix::ffi::OsStrExt::from_bytes(path.to_bytes());
    #[cfg(not(unix))]
    let path: &OsStr = path.to_str().map_err(|_| Failure::new(Code::Argument, "the path is no UTF-8".into()))?.as_ref();
    Ok(Path::new(path).to_owned())
}
