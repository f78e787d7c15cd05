//! tract's threads, lent to our kernels.

use onnx_dcomp_kernels::Threads;
use onnx_dcomp_kernels::threads::Part;
use tract_onnx::tract_hir::tract_core::tract_linalg::multithread::par_chunks_mut;

/// The threads of tract's executor: one, unless whoever runs the model set another.
pub(super) struct Executor;

impl Threads for Executor {
    fn run(&self, outputs: &mut [f32], unit: usize, multiplications: usize, work: Part<'_>) {
        // The work cannot fail.
        let _ = par_chunks_mut(outputs, unit, multiplications, |first, part| {
            work(first, part);
            Ok(())
        });
    }
}
