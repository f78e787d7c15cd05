//! Running packed models as fast as dense ones.
//!
//! [`load()`] gives a session in either runtime. Whoever has sessions of their own takes [`Loaded`], a graph with its
//! weights beside it, and hands both over ([`onnx_dcomp_load::onnxruntime::session`] does that for the crate `ort`); a
//! program that only runs models needs the crate `onnx-dcomp-load` alone.

use std::path::Path;

use onnx_dcomp_engine::{EngineError, ModelSource, RuntimeKind, RuntimeOptions, Session, open};

pub use onnx_dcomp_load::{LoadError, Loaded, LoadedWeight};

/// Makes the model at `path`, packed or plain, ready to run in `runtime`.
///
/// Payloads are decoded in parallel, and the runtime gets their weights as what it takes for constants (onnxruntime:
/// external initializers), so that it optimises, and computes, as if the file had been dense.
///
/// ```no_run
/// use onnx_dcomp::{RuntimeKind, load};
///
/// let mut session = load("net.packed.onnx".as_ref(), RuntimeKind::Onnxruntime, &Default::default())?;
/// println!("{:?}", session.inputs());
/// # Ok::<(), onnx_dcomp::EngineError>(())
/// ```
///
/// # Errors
/// [`EngineError`]: the runtime is not there, the model cannot be read, or a payload is broken.
pub fn load(path: &Path, runtime: RuntimeKind, options: &RuntimeOptions) -> Result<Box<dyn Session>, EngineError> {
    open(runtime, ModelSource::path(path), options)
}
