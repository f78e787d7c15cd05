//! onnxruntime's threads, lent to our kernels for a run.

use std::cell::Cell;
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};

use onnx_dcomp_kernels::Threads;
use onnx_dcomp_kernels::threads::{Part, in_parts};
use ort_sys::OrtKernelContext;

use crate::api::{Api, Failure, call};

/// Multiplications that are worth a thread's while: some 50 µs of them.
const PART: usize = 1 << 19;
/// Parts at most; how many threads there are onnxruntime does not tell.
const PARTS: usize = 16;
/// Units that share what a part sets up, at least.
const UNITS: usize = 16;

/// The threads of the session that a kernel runs in.
pub(crate) struct Lent {
    api: Api,
    context: *mut OrtKernelContext,
    /// What onnxruntime said of the last work.
    outcome: Cell<Result<(), Failure>>,
}

impl Lent {
    /// # Safety
    /// `context` is what onnxruntime passed to run a kernel, which is not done before this is dropped.
    pub(crate) unsafe fn new(api: Api, context: *mut OrtKernelContext) -> Self {
        Self { api, context, outcome: Cell::new(Ok(())) }
    }

    /// Whether all work was done.
    pub(crate) fn outcome(self) -> Result<(), Failure> {
        self.outcome.into_inner()
    }
}

/// A task, as onnxruntime carries it to its threads.
struct Shared<'a> {
    task: &'a (dyn Fn(usize) + Sync),
    has_panicked: AtomicBool,
}

unsafe extern "C" fn run(shared: *mut c_void, number: usize) {
    // SAFETY: `Lent::run` passes it, and waits until all calls have returned.
    let shared = unsafe { &*shared.cast::<Shared<'_>>() };
    // Nothing may unwind into onnxruntime.
    if catch_unwind(AssertUnwindSafe(|| (shared.task)(number))).is_err() {
        shared.has_panicked.store(true, Ordering::Relaxed);
    }
}

impl Threads for Lent {
    fn run(&self, outputs: &mut [f32], unit: usize, multiplications: usize, work: Part<'_>) {
        let parts = (multiplications / PART).min(outputs.len() / unit / UNITS).clamp(1, PARTS);
        if parts == 1 {
            work(0, outputs);
            return;
        }
        in_parts(outputs, unit, parts, work, |parts, task| {
            let shared = Shared { task, has_panicked: AtomicBool::new(false) };
            let data = (&raw const shared).cast_mut().cast::<c_void>();
            let done = call!(self.api, KernelContext_ParallelFor(self.context, run, parts, 0, data));
            let panicked =
                || Err(Failure::Ours("a part of its work failed; this is a bug, please report it".to_owned()));
            self.outcome.set(if shared.has_panicked.into_inner() { panicked() } else { done });
        });
    }
}
