//! A model whose outputs are remembered, for data that it runs on again and again.

use super::{RuntimeKind, Session};
use crate::error::EngineError;
use crate::tensor::{Tensor, TensorInfo};

/// Elements of all outputs together beyond which nothing more is remembered: 256 MB of `f32`.
const MOST_ELEMENTS: usize = 1 << 26;

/// Remembers what a model gave for each run, in their order; from [`Recorded::rewind`] on the runs are taken for the
/// same as before, and the model need not run again.
pub struct Recorded {
    session: Box<dyn Session>,
    runs: Vec<Vec<Tensor>>,
    elements: usize,
    next: usize,
}

impl Recorded {
    /// Nothing remembered yet.
    pub fn new(session: Box<dyn Session>) -> Self {
        Self { session, runs: Vec::new(), elements: 0, next: 0 }
    }

    /// Goes back to the first run. The runs that follow must have the inputs that they had before.
    pub fn rewind(&mut self) {
        self.next = 0;
    }
}

impl Session for Recorded {
    fn runtime(&self) -> RuntimeKind {
        self.session.runtime()
    }

    fn inputs(&self) -> &[TensorInfo] {
        self.session.inputs()
    }

    fn outputs(&self) -> &[TensorInfo] {
        self.session.outputs()
    }

    fn run(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, EngineError> {
        self.next += 1;
        if let Some(known) = self.runs.get(self.next - 1) {
            return Ok(known.clone());
        }
        let outputs = self.session.run(inputs)?;
        let elements: usize = outputs.iter().map(Tensor::len).sum();
        // What was left out leaves no room for what follows, or the order would be lost.
        if self.runs.len() == self.next - 1 && self.elements + elements <= MOST_ELEMENTS {
            self.elements += elements;
            self.runs.push(outputs.clone());
        }
        Ok(outputs)
    }
}
