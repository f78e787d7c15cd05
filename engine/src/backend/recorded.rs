//! A model whose outputs are remembered, for data that it runs on again and again.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hasher};

use super::{RuntimeKind, Session};
use crate::error::EngineError;
use crate::tensor::{Dimension, Tensor, TensorData, TensorInfo};

/// Elements of all outputs together beyond which nothing more is remembered: 256 MB of `f32`.
const MOST_ELEMENTS: usize = 1 << 26;

/// Remembers what a model gave for each sample, so that it runs on each only once, whatever samples come with it and in
/// whichever order.
///
/// Samples are told apart by a digest of their contents. Where a batch is open on the first axis of every input and
/// output, each of its rows is a sample; else a whole run is.
pub struct Recorded {
    session: Box<dyn Session>,
    batches: bool,
    known: HashMap<u128, Vec<Tensor>>,
    elements: usize,
}

impl Recorded {
    /// Nothing remembered yet.
    pub fn new(session: Box<dyn Session>) -> Self {
        let is_open = |info: &TensorInfo| {
            info.shape.as_ref().is_some_and(|shape| matches!(shape.first(), Some(Dimension::Dynamic(_))))
        };
        let batches = session.inputs().iter().chain(session.outputs()).all(is_open);
        Self { session, batches, known: HashMap::new(), elements: 0 }
    }

    fn remember(&mut self, key: u128, outputs: Vec<Tensor>) {
        let elements: usize = outputs.iter().map(Tensor::len).sum();
        if self.elements + elements <= MOST_ELEMENTS && self.known.insert(key, outputs).is_none() {
            self.elements += elements;
        }
    }

    fn run_whole(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, EngineError> {
        let key = digest(inputs);
        if let Some(known) = self.known.get(&key) {
            return Ok(known.clone());
        }
        let outputs = self.session.run(inputs)?;
        self.remember(key, outputs.clone());
        Ok(outputs)
    }

    /// Runs the rows that are new, and puts all together again.
    fn run_rows(&mut self, inputs: &[Tensor], rows: usize) -> Result<Vec<Tensor>, EngineError> {
        let row = |at: usize| inputs.iter().map(|input| input.rows(at, at + 1)).collect::<Vec<Tensor>>();
        let keys: Vec<u128> = (0..rows).map(|at| digest(&row(at))).collect();
        let new: Vec<usize> = (0..rows).filter(|&at| !self.known.contains_key(&keys[at])).collect();
        if new.len() == rows {
            let outputs = self.session.run(inputs)?;
            if outputs.iter().all(|output| output.shape().first() == Some(&rows)) {
                for (at, &key) in keys.iter().enumerate() {
                    self.remember(key, outputs.iter().map(|output| output.rows(at, at + 1)).collect());
                }
            }
            return Ok(outputs);
        }
        let mut fresh: HashMap<u128, Vec<Tensor>> = HashMap::new();
        if !new.is_empty() {
            let gathered: Vec<Tensor> = inputs
                .iter()
                .map(|input| {
                    let parts: Vec<Tensor> = new.iter().map(|&at| input.rows(at, at + 1)).collect();
                    Tensor::concatenate(&parts.iter().collect::<Vec<_>>())
                })
                .collect::<Result<_, _>>()?;
            let outputs = self.session.run(&gathered)?;
            for (place, &at) in new.iter().enumerate() {
                let own: Vec<Tensor> = outputs.iter().map(|output| output.rows(place, place + 1)).collect();
                self.remember(keys[at], own.clone());
                fresh.insert(keys[at], own);
            }
        }
        let all: Vec<&Vec<Tensor>> =
            keys.iter().filter_map(|key| self.known.get(key).or_else(|| fresh.get(key))).collect();
        let output = |index: usize| {
            let parts: Vec<&Tensor> = all.iter().filter_map(|outputs| outputs.get(index)).collect();
            Tensor::concatenate(&parts)
        };
        (0..self.session.outputs().len()).map(output).collect()
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
        let rows = inputs.first().and_then(|input| input.shape().first()).copied().unwrap_or(1);
        let are_alike = inputs.iter().all(|input| input.shape().first() == Some(&rows));
        if self.batches && are_alike && rows > 0 { self.run_rows(inputs, rows) } else { self.run_whole(inputs) }
    }
}

/// A digest of shapes and elements: two halves of 64 bits, so that equal digests of different samples do not happen.
fn digest(inputs: &[Tensor]) -> u128 {
    let half = |seed: u8| {
        let mut hasher = DefaultHasher::new();
        hasher.write_u8(seed);
        for input in inputs {
            input.shape().iter().for_each(|&length| hasher.write_usize(length));
            write(&mut hasher, input.data());
        }
        hasher.finish()
    };
    u128::from(half(0)) << 64 | u128::from(half(1))
}

/// Feeds the elements to `hasher`, two words of 32 bits at once where they are as wide.
fn write(hasher: &mut DefaultHasher, data: &TensorData) {
    match data {
        TensorData::F32(values) => {
            let pairs = values.chunks(2);
            pairs.for_each(|pair| {
                let bits = pair.iter().fold(0u64, |bits, value| bits << 32 | u64::from(value.to_bits()));
                hasher.write_u64(bits);
            });
        }
        TensorData::F64(values) => values.iter().for_each(|value| hasher.write_u64(value.to_bits())),
        TensorData::F16(values) => values.iter().for_each(|value| hasher.write_u16(value.to_bits())),
        TensorData::BF16(values) => values.iter().for_each(|value| hasher.write_u16(value.to_bits())),
        TensorData::I8(values) => values.iter().for_each(|&value| hasher.write_i8(value)),
        TensorData::I16(values) => values.iter().for_each(|&value| hasher.write_i16(value)),
        TensorData::I32(values) => values.iter().for_each(|&value| hasher.write_i32(value)),
        TensorData::I64(values) => values.iter().for_each(|&value| hasher.write_i64(value)),
        TensorData::U8(values) => hasher.write(values),
        TensorData::U16(values) => values.iter().for_each(|&value| hasher.write_u16(value)),
        TensorData::U32(values) => values.iter().for_each(|&value| hasher.write_u32(value)),
        TensorData::U64(values) => values.iter().for_each(|&value| hasher.write_u64(value)),
        TensorData::Bool(values) => values.iter().for_each(|&value| hasher.write_u8(u8::from(value))),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::tensor::ElementType;

    /// Doubles rows, and counts them.
    struct Doubling {
        infos: Vec<TensorInfo>,
        ran: Arc<AtomicUsize>,
    }

    impl Session for Doubling {
        fn runtime(&self) -> RuntimeKind {
            RuntimeKind::Tract
        }

        fn inputs(&self) -> &[TensorInfo] {
            &self.infos
        }

        fn outputs(&self) -> &[TensorInfo] {
            &self.infos
        }

        fn run(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, EngineError> {
            self.ran.fetch_add(inputs[0].shape()[0], Ordering::Relaxed);
            let doubled = inputs[0].to_f32().iter().map(|value| 2.0 * value).collect();
            Ok(vec![Tensor::from_f32(inputs[0].shape().to_vec(), doubled)?])
        }
    }

    fn recorded(first: Dimension) -> (Recorded, Arc<AtomicUsize>) {
        let shape = Some(vec![first, Dimension::Fixed(2)]);
        let infos = vec![TensorInfo { name: "x".to_owned(), element: ElementType::F32, shape }];
        let ran = Arc::new(AtomicUsize::new(0));
        (Recorded::new(Box::new(Doubling { infos, ran: Arc::clone(&ran) })), ran)
    }

    fn rows(values: &[f32]) -> Tensor {
        Tensor::from_f32(vec![values.len(), 2], values.iter().flat_map(|&value| [value, -value]).collect())
            .expect("two values a row")
    }

    #[test]
    fn each_sample_runs_once_whatever_comes_with_it_and_in_whichever_order() {
        let (mut session, ran) = recorded(Dimension::Dynamic(None));
        for batch in [&[1.0, 2.0, 3.0][..], &[3.0, 4.0, 1.0], &[4.0], &[2.0, 1.0]] {
            let doubled: Vec<f32> = batch.iter().map(|value| 2.0 * value).collect();
            assert_eq!(session.run(&[rows(batch)]).expect("it runs"), [rows(&doubled)]);
        }
        assert_eq!(ran.load(Ordering::Relaxed), 4);
    }

    #[test]
    fn where_the_batch_is_fixed_a_run_is_a_sample() {
        let (mut session, ran) = recorded(Dimension::Fixed(2));
        for batch in [[1.0, 2.0], [2.0, 1.0], [1.0, 2.0]] {
            assert_eq!(session.run(&[rows(&batch)]).expect("it runs"), [rows(&batch.map(|value| 2.0 * value))]);
        }
        assert_eq!(ran.load(Ordering::Relaxed), 4);
    }
}
