//! `int4`: matrices become the 4-bit blocks of MatMulNBits, an operator of onnxruntime that tract has too.
//!
//! MatMul and Gemm with a constant matrix become `com.microsoft::MatMulNBits`, and an Add for the bias: 4 bits a weight,
//! a step (`f32`) for each 32 that are multiplied with one stretch of the input, no zero points, so 5 bits in all. Both
//! runtimes keep such a matrix in 4 bits and compute on it, faster than on floats. The step is the best of a few around
//! the largest magnitude. Matrices whose inputs are no multiple of 32, or that others read too, are left to other
//! passes.
//!
//! Source of the layout: the schema of `MatMulNBits`; of the steps' sign: llama.cpp's `Q4_0`, where the largest magnitude
//! takes the lowest level, of which there is one more. Cost: ten roundings an element.

use bytes::Bytes;
use onnx_dcomp_forms::{DType, Form, Values};
use onnx_dcomp_ir::{Evidence, GraphIndex, Model, Weight};
use onnx_dcomp_proto::tensor_proto::DataType;
use onnx_dcomp_proto::{AttributeProto, GraphProto, NodeProto, OperatorSetIdProto, TensorProto, attribute_proto};
use rayon::prelude::*;

use crate::products::{Product, products};
use crate::registry::Configured;
use crate::selection::{NamePattern, Settings, check_select, reason_to_leave};
use crate::{Pass, PassError, PassReport, node};

/// The domain of MatMulNBits.
const DOMAIN: &str = "com.microsoft";

/// Weights that share a step.
const BLOCK: usize = 32;

/// What a level is counted from.
const ZERO: i32 = 8;

crate::options! {
    /// Options of [`Int4`].
    pub struct Int4Options {
        /// Weights to write so, by name.
        pub select: NamePattern = NamePattern::all();
    }
}

/// Puts matrices in 4-bit blocks; see [the module](crate::int4).
pub struct Int4 {
    settings: Settings<Int4Options>,
}

impl Configured for Int4 {
    type Options = Int4Options;
    const NAME: &'static str = "int4";
    const SUMMARY: &'static str = "matrices become the 4-bit blocks of MatMulNBits, on which runtimes compute";
    const SOURCE: &'static str = "Dettmers and Zettlemoyer, The case for 4-bit precision, 2023 (small blocks)";

    fn configured(settings: Settings<Int4Options>) -> Self {
        Self { settings }
    }
}

impl Pass for Int4 {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn run(&self, model: &mut Model, _: &Evidence) -> Result<PassReport, PassError> {
        check_select(Self::NAME, &self.settings.base().select, model)?;
        let products = self.products(model);
        let shared: &Model = model;
        let blocks: Vec<Blocks> =
            products.par_iter().map(|product| Blocks::of(&product.columns(shared.weight(product.id)))).collect();
        let mut report = PassReport::default();
        report.note(format!("{} matrices in 4-bit blocks", products.len()));
        if !products.is_empty() && !model.proto.opset_import.iter().any(|import| import.domain() == DOMAIN) {
            let import = OperatorSetIdProto { domain: Some(DOMAIN.into()), version: Some(1) };
            model.proto.opset_import.push(import);
        }
        let mut index = GraphIndex::new(model.graph());
        // The last first: numbers of the nodes before it stay.
        for (product, blocks) in products.iter().zip(blocks).rev() {
            product.replace(model, &mut index, blocks);
        }
        Ok(report)
    }
}

impl Int4 {
    fn products(&self, model: &Model) -> Vec<Product> {
        let fits = |weight: &Weight| {
            let options = self.settings.for_weight(weight);
            let is_meant = options.is_some_and(|options| options.select.matches(&weight.name));
            is_meant && reason_to_leave(weight).is_none() && weight.form.dense().all_finite()
        };
        let in_blocks = |product: &Product| product.inputs.is_multiple_of(BLOCK);
        products(model, fits).into_iter().filter(in_blocks).collect()
    }
}

impl Product {
    /// The weights of each output, one after the other.
    fn columns(&self, weight: &Weight) -> Vec<f32> {
        let values = weight.form.dense().to_f32();
        if self.has_rows {
            return values;
        }
        let at = |index: usize| index % self.inputs * self.outputs + index / self.inputs;
        (0..values.len()).map(|index| values.get(at(index)).copied().unwrap_or_default()).collect()
    }

    /// Values in the order of the weight's elements.
    fn stored(&self, columns: &[f32]) -> Vec<f32> {
        if self.has_rows {
            return columns.to_vec();
        }
        let at = |index: usize| index % self.outputs * self.inputs + index / self.outputs;
        (0..columns.len()).map(|index| columns.get(at(index)).copied().unwrap_or_default()).collect()
    }

    /// Puts MatMulNBits in the place of the node, and takes the matrix out.
    fn replace(&self, model: &mut Model, index: &mut GraphIndex, blocks: Blocks) {
        let per_row = self.inputs / BLOCK;
        let names = [index.unique_name("q"), index.unique_name("s")];
        let levels = TensorProto {
            name: Some(names[0].clone()),
            dims: vec![self.outputs as i64, per_row as i64, (BLOCK / 2) as i64],
            data_type: Some(DataType::Uint8 as i32),
            raw_data: Some(blocks.packed.into()),
            ..TensorProto::default()
        };
        let steps: Bytes = blocks.steps.iter().flat_map(|step| step.to_le_bytes()).collect::<Vec<u8>>().into();
        let steps = TensorProto {
            name: Some(names[1].clone()),
            dims: vec![(self.outputs * per_row) as i64],
            data_type: Some(DataType::Float as i32),
            raw_data: Some(steps),
            ..TensorProto::default()
        };
        let stored_bytes = levels.raw_data().len() + steps.raw_data().len();
        let Some(old) = model.graph().node.get(self.node).cloned() else { return };
        if let Some(name) = node::input(&old, 1) {
            model.remove_initializer(name);
        }
        model.add_initializer(levels);
        model.add_initializer(steps);
        self.put(model.graph_mut(), index, &old, names);
        let values = Values::from_f32(DType::F32, &self.stored(&blocks.values));
        let weight = model.weight_mut(self.id);
        weight.form = Form::Dense(values);
        weight.stored_bytes = Some(stored_bytes as u64);
        weight.left_alone = Some("in the 4-bit blocks of MatMulNBits".to_owned());
    }

    fn put(&self, graph: &mut GraphProto, index: &mut GraphIndex, old: &NodeProto, [levels, steps]: [String; 2]) {
        let output = node::sole_output(old).unwrap_or_default().to_owned();
        let product = if self.bias.is_some() { index.unique_name("m") } else { output.clone() };
        let int = |name: &str, value: usize| AttributeProto {
            name: Some(name.into()),
            r#type: Some(attribute_proto::AttributeType::Int as i32),
            i: Some(value as i64),
            ..AttributeProto::default()
        };
        let attribute = vec![int("K", self.inputs), int("N", self.outputs), int("bits", 4), int("block_size", BLOCK)];
        let multiply = NodeProto {
            op_type: Some("MatMulNBits".into()),
            domain: Some(DOMAIN.into()),
            name: old.name.clone(),
            input: vec![node::input(old, 0).unwrap_or_default().into(), levels, steps],
            output: vec![product.clone()],
            attribute,
            ..NodeProto::default()
        };
        let mut nodes = vec![multiply];
        if let Some(bias) = &self.bias {
            nodes.push(node::standard("Add", &[&product, bias], &output));
        }
        graph.node.splice(self.node..=self.node, nodes);
    }
}

/// A matrix in blocks of 4 bits.
struct Blocks {
    /// Two levels a byte, the first in the low bits.
    packed: Vec<u8>,
    /// One for each block.
    steps: Vec<f32>,
    /// What both stand for.
    values: Vec<f32>,
}

impl Blocks {
    fn of(columns: &[f32]) -> Self {
        let mut own = Self { packed: Vec::new(), steps: Vec::new(), values: Vec::with_capacity(columns.len()) };
        for block in columns.chunks_exact(BLOCK) {
            let step = best_step(block);
            let levels: Vec<i32> = block.iter().map(|&value| level(value, step)).collect();
            own.packed.extend(levels.as_chunks::<2>().0.iter().map(|&[low, high]| (low | high << 4) as u8));
            own.values.extend(levels.iter().map(|&level| (level - ZERO) as f32 * step));
            own.steps.push(step);
        }
        own
    }
}

fn level(value: f32, step: f32) -> i32 {
    if step == 0.0 { ZERO } else { ((value / step).round() as i32 + ZERO).clamp(0, 15) }
}

/// The step of least squared error among a few. It may be negative, so that the one level more lies on the side of the
/// largest magnitude.
fn best_step(block: &[f32]) -> f32 {
    let peak = block.iter().copied().fold(0f32, |peak, value| if value.abs() > peak.abs() { value } else { peak });
    let steps = (0..10).map(|at| -peak / (6.0 + 0.25 * at as f32));
    let error = |step: f32| -> f64 {
        let difference = |&value: &f32| f64::from(value - (level(value, step) - ZERO) as f32 * step);
        block.iter().map(|value| difference(value).powi(2)).sum()
    };
    // Nearest to the usual one, an eighth of the largest magnitude, where errors are the same.
    steps.rev().min_by(|&a, &b| error(a).total_cmp(&error(b))).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_hold_what_their_levels_and_steps_say() {
        let columns: Vec<f32> = (0..128).map(|index| ((index * 37 % 101) as f32 - 50.0) * 0.01).collect();
        let blocks = Blocks::of(&columns);
        assert_eq!((blocks.packed.len(), blocks.steps.len()), (64, 4));
        let read = blocks.packed.iter().flat_map(|&byte| [byte & 15, byte >> 4]).enumerate();
        for (at, level) in read {
            assert_eq!(blocks.values[at], (i32::from(level) - ZERO) as f32 * blocks.steps[at / BLOCK]);
        }
        let errors = columns.iter().zip(&blocks.values).map(|(a, b)| (a - b).abs());
        assert!(errors.fold(0f32, f32::max) < 0.06, "half a step");
    }

    #[test]
    fn a_block_of_zeros_stays_one() {
        assert!(Blocks::of(&[0.0; BLOCK]).values.iter().all(|&value| value == 0.0));
    }
}
