//! A packed model in a browser, or under Node: decoder and tract as one WebAssembly module.
//!
//! ```text
//! cargo build --release --target wasm32-unknown-unknown -p onnx-dcomp-runtime --features tract --example web
//! ```
//!
//! The module needs nothing from its host. It holds one model, which takes and gives one `f32` tensor; `web.mjs` beside
//! this file shows how a host calls it.

#![allow(unsafe_code, reason = "the functions are called from JavaScript")]

use std::cell::RefCell;
use std::ptr;
use std::sync::Arc;

use tract_onnx::prelude::*;

#[derive(Default)]
struct State {
    model: Option<Arc<TypedRunnableModel>>,
    shape: Vec<usize>,
    output: Vec<f32>,
    failure: String,
}

thread_local! {
    static STATE: RefCell<State> = RefCell::default();
}

/// So many bytes for the host to write into; taken back by [`open`] and [`run`].
#[unsafe(no_mangle)]
pub extern "C" fn reserve(bytes: usize) -> *mut u8 {
    Box::into_raw(vec![0u8; bytes].into_boxed_slice()).cast()
}

/// # Safety
/// `start` is what [`reserve`] gave for as many `bytes`, and is given once.
unsafe fn taken(start: *mut u8, bytes: usize) -> Box<[u8]> {
    // SAFETY: the caller's promise.
    unsafe { Box::from_raw(ptr::slice_from_raw_parts_mut(start, bytes)) }
}

/// Opens the ONNX model in memory of [`reserve`], for an input of four dimensions; 1 where that succeeds.
///
/// # Safety
/// See [`taken`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn open(start: *mut u8, bytes: usize, a: usize, b: usize, c: usize, d: usize) -> u32 {
    // SAFETY: the caller's promise.
    let file = unsafe { taken(start, bytes) };
    noted(|state| {
        let mut onnx = tract_onnx::onnx();
        onnx_dcomp_runtime::tract::register(&mut onnx);
        let model = onnx.model_for_read(&mut &file[..])?.with_input_fact(0, f32::fact([a, b, c, d]).into())?;
        state.model = Some(model.into_optimized()?.into_runnable()?);
        state.shape = vec![a, b, c, d];
        Ok(())
    })
}

/// Runs the model on the floats in memory of [`reserve`]; 1 where that succeeds.
///
/// # Safety
/// See [`taken`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn run(start: *mut u8, bytes: usize) -> u32 {
    // SAFETY: the caller's promise.
    let input = unsafe { taken(start, bytes) };
    noted(|state| {
        let model = state.model.clone().ok_or_else(|| TractError::msg("no model is open"))?;
        let input: Vec<f32> = input.as_chunks().0.iter().map(|word| f32::from_le_bytes(*word)).collect();
        let outputs = model.run(tvec!(Tensor::from_shape(&state.shape, &input)?.into()))?;
        state.output = outputs[0].try_as_plain_ram()?.as_slice::<f32>()?.to_vec();
        Ok(())
    })
}

/// Where the floats of the last run are; [`output_length`] says how many.
#[unsafe(no_mangle)]
pub extern "C" fn output() -> *const f32 {
    STATE.with_borrow(|state| state.output.as_ptr())
}

/// Number of floats that the last run gave.
#[unsafe(no_mangle)]
pub extern "C" fn output_length() -> usize {
    STATE.with_borrow(|state| state.output.len())
}

/// Where the text of the last failure is; [`failure_length`] says how many bytes of UTF-8.
#[unsafe(no_mangle)]
pub extern "C" fn failure() -> *const u8 {
    STATE.with_borrow(|state| state.failure.as_ptr())
}

/// Length of the text of the last failure, in bytes.
#[unsafe(no_mangle)]
pub extern "C" fn failure_length() -> usize {
    STATE.with_borrow(|state| state.failure.len())
}

/// Does `work`, and keeps the text of its error.
fn noted(work: impl FnOnce(&mut State) -> TractResult<()>) -> u32 {
    STATE.with_borrow_mut(|state| match work(state) {
        Ok(()) => 1,
        Err(error) => {
            state.failure = format!("{error:#}");
            0
        }
    })
}
