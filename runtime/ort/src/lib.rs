//! The operator library that lets a stock onnxruntime run packed models.
//!
//! onnxruntime, from whatever language, loads the library with its session options and calls [`RegisterCustomOps`]:
//!
//! ```python
//! options = onnxruntime.SessionOptions()
//! options.register_custom_ops_library("libonnx_dcomp_ort.so")
//! session = onnxruntime.InferenceSession("net.session.onnx", options)
//! ```
//!
//! The payload of a `DcompDecode` node is decoded once, when onnxruntime creates the node's kernel; each run copies the
//! weights to where onnxruntime wants them. onnxruntime folds no foreign operator, so it does not know that the weights
//! are constants, and some of its optimisations do not apply: `onnx_dcomp::load` and the C interface have no such cost.
//!
//! A file of the target `session` has none: its one node, `DcompSession`, holds the packed model as a whole, for which
//! the library opens a session of its own within the host's, with the decoded weights handed over. That one is optimised
//! as if the file had been dense. It has the options that the host's had when the library was registered, which
//! therefore comes last.
//!
//! The library is written against the C interface of onnxruntime 1.17, which later versions extend and keep. It links
//! nothing of onnxruntime: the functions come through the table that [`RegisterCustomOps`] is given.
//!
//! | module | what |
//! |---|---|
//! | `api` | onnxruntime's functions with Rust's errors; errors as onnxruntime's statuses; no panic gets out |
//! | `tensor` | what is in onnxruntime's tensors |
//! | `host` | sessions of the host's onnxruntime that are made in here |
//! | `session` | `DcompSession`: a packed model as a whole in one node |
//! | `gemm` | the products, which compute on compressed weights |
//! | `convolution` | convolutions, which compute on compressed filters |
//! | `threads` | onnxruntime's threads, lent to both |
//! | `kernel` | one `DcompDecode` node: its decoded weights, and handing them out |
//! | `operator` | what onnxruntime is told of `DcompDecode`, and registering all operators |

#![allow(unsafe_code, reason = "onnxruntime's interface is one of C")]

mod api;
mod convolution;
mod gemm;
mod host;
mod kernel;
mod operator;
mod session;
mod tensor;
mod threads;

use ort_sys::{OrtApiBase, OrtSessionOptions, OrtStatusPtr};

use crate::api::Api;

/// Registers our operators with the sessions that `options` will make; onnxruntime calls it by this name.
///
/// Returns null, or a status where onnxruntime is older than 1.17 or refuses.
///
/// # Safety
/// As onnxruntime calls it: both pointers are valid, and the functions behind `base` are onnxruntime's.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn RegisterCustomOps(
    options: *mut OrtSessionOptions,
    base: *const OrtApiBase,
) -> OrtStatusPtr {
    // SAFETY: the caller's promise.
    unsafe { Api::of_host(base, |api| operator::register(api, options)) }
}
