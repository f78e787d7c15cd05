//! Moves per-channel scale and shift into the weights of the layer before.

use std::collections::HashSet;

use onnx_dcomp_forms::FormKind;
use onnx_dcomp_ir::Role;
use onnx_dcomp_proto::tensor_proto::DataType;
use onnx_dcomp_proto::{GraphProto, NodeProto};

use super::affine::{self, Affine};
use super::knowledge::Knowledge;
use super::layout::{Layout, is_finite};
use super::store::{Store, weight_of};
use super::tensor::Tensor;
use super::uses::Uses;
use crate::node;

/// A summand that is one number for all channels may become a bias of at most this many numbers: what the node that
/// goes takes at the least.
const MAX_NEW_BIAS: usize = 8;

/// How deep Concat and Add may be nested between a layer and the node that it absorbs.
const MAX_DEPTH: usize = 8;

/// One sweep over a graph.
pub(crate) struct Sweep<'a, 'm> {
    graph: &'a mut GraphProto,
    store: &'a mut Store<'m>,
    knowledge: &'a Knowledge,
    uses: Uses,
    removed: Vec<bool>,
    /// Nodes whose constants `knowledge` does not know any more; they wait for the next sweep.
    touched: Vec<bool>,
}

/// How many nodes one sweep removed.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Absorbed {
    /// BatchNormalization nodes.
    pub(crate) normalizations: usize,
    /// Mul, Div, Add and Sub nodes.
    pub(crate) arithmetic: usize,
}

impl<'a, 'm> Sweep<'a, 'm> {
    /// Lets every layer of `graph` absorb what follows it.
    pub(crate) fn run(
        graph: &'a mut GraphProto,
        store: &'a mut Store<'m>,
        knowledge: &'a Knowledge,
        protected: &HashSet<String>,
    ) -> Absorbed {
        let uses = Uses::of(graph, protected);
        let removed = vec![false; graph.node.len()];
        let touched = removed.clone();
        let mut sweep = Self { graph, store, knowledge, uses, removed, touched };
        let mut absorbed = Absorbed::default();
        for index in 0..sweep.graph.node.len() {
            match sweep.absorb_node(index) {
                Some(true) => absorbed.normalizations += 1,
                Some(false) => absorbed.arithmetic += 1,
                None => {}
            }
        }
        let mut removed = sweep.removed.into_iter();
        sweep.graph.node.retain(|_| !removed.next().unwrap_or(false));
        absorbed
    }

    /// Moves node `index` into the layer before; says whether it was a BatchNormalization.
    fn absorb_node(&mut self, index: usize) -> Option<bool> {
        let node = &self.graph.node[index];
        let found = affine::read(self.knowledge, node, |name| self.axes_after_channels(name, 0))?;
        let source = node::input(node, found.input)?.to_owned();
        let output = node::sole_output(node)?.to_owned();
        let producer = self.uses.producer(&source)?;
        let channels = self.channels(&source, 0)?;
        if found.is_normalization && self.axes_after_channels(&source, 0)? + 2 != self.rank(&source)? {
            return None;
        }
        if !found.affine.fits(channels) || self.check(&source, &found.affine, 0).is_none() {
            return None;
        }
        self.apply(&source, &found.affine);
        for name in self.graph.node[index].input.clone() {
            self.uses.forget_reader(&name, index);
        }
        for name in &mut self.graph.node[producer].output {
            if *name == source {
                name.clone_from(&output);
            }
        }
        self.uses.set_producer(&output, producer);
        self.removed[index] = true;
        Some(found.is_normalization)
    }

    fn producer(&self, name: &str) -> Option<&NodeProto> {
        self.uses.producer(name).filter(|&index| !self.touched[index]).map(|index| &self.graph.node[index])
    }

    /// The producer of a part of what a layer returns. Parts are read once, so that no walk visits a node twice.
    fn part(&self, name: &str, depth: usize) -> Option<&NodeProto> {
        let is_part = depth < MAX_DEPTH && (depth == 0 || self.uses.is_read_once(name));
        self.producer(name).filter(|_| is_part)
    }

    /// Shape of the constant `name`.
    fn constant_dims(&self, name: &str) -> Option<&[usize]> {
        self.knowledge.constants.get(name).map(|constant| constant.tensor.dims.as_slice())
    }

    /// Number of axes of `name`.
    fn rank(&self, name: &str) -> Option<usize> {
        let node = self.producer(name);
        match node.map_or("", node::standard_operator) {
            "Conv" | "ConvTranspose" => Some(self.constant_dims(node::input(node?, 1)?)?.len()),
            "Gemm" => Some(2),
            _ => self.knowledge.dims(name).map(<[_]>::len),
        }
    }

    /// How many axes follow the output channels of what a layer calls `name`; `None` where that is not a layer.
    fn axes_after_channels(&self, name: &str, depth: usize) -> Option<usize> {
        let node = self.part(name, depth)?;
        match node::standard_operator(node) {
            "Conv" | "ConvTranspose" => self.rank(name)?.checked_sub(2),
            "Gemm" | "MatMul" => Some(0),
            "Concat" => {
                let rank = self.rank(name)?;
                let along = super::evaluate::axis(node::int(node, "axis", 1), rank)?;
                Some(rank - 1 - along)
            }
            "Add" => {
                let mut layers = node.input.iter().filter(|n| !self.knowledge.constants.contains_key(*n));
                self.axes_after_channels(layers.next()?, depth + 1)
            }
            _ => None,
        }
    }

    /// Number of output channels of what a layer calls `name`.
    fn channels(&self, name: &str, depth: usize) -> Option<usize> {
        let node = self.part(name, depth)?;
        let weight = |index| self.constant_dims(node::input(node, index)?);
        match node::standard_operator(node) {
            "Conv" => weight(1)?.first().copied(),
            "ConvTranspose" => weight(1)?.get(1)?.checked_mul(usize::try_from(node::int(node, "group", 1)).ok()?),
            "Gemm" => weight(1)?.get(usize::from(node::int(node, "transB", 0) == 0)).copied(),
            "MatMul" => match weight(1)? {
                &[_, columns] => Some(columns),
                _ => None,
            },
            "Concat" => {
                node.input.iter().try_fold(0usize, |sum, part| sum.checked_add(self.channels(part, depth + 1)?))
            }
            "Add" => {
                let mut layers = node.input.iter().filter(|n| !self.knowledge.constants.contains_key(*n));
                self.channels(layers.next()?, depth + 1)
            }
            _ => None,
        }
    }

    /// Whether the producer of `name` can take `affine` into its weights; `None` is no.
    fn check(&self, name: &str, affine: &Affine, depth: usize) -> Option<()> {
        let node = self.producer(name).filter(|_| depth < MAX_DEPTH && self.uses.is_read_once(name))?;
        node::sole_output(node).filter(|_| !node::has_references(node))?;
        let channels = self.channels(name, depth)?;
        affine.fits(channels).then_some(())?;
        match node::standard_operator(node) {
            "Conv" | "ConvTranspose" | "Gemm" => {
                self.weight_layout(node, affine)?;
                affine.shift.as_ref().map_or(Some(()), |_| self.shifted_bias(node, affine, channels).map(|_| ()))?;
                if let Some(bias) = node::input(node, 2) {
                    self.bias_values(node, bias, channels)?;
                } else if affine.shift.as_ref().is_some_and(|s| s.len() == 1) && channels > MAX_NEW_BIAS {
                    return None;
                }
                Some(())
            }
            "MatMul" => {
                affine.shift.is_none().then_some(())?;
                self.weight_layout(node, affine).map(|_| ())
            }
            "Concat" => {
                let mut first = 0;
                let after = self.axes_after_channels(name, depth)?;
                for part in &node.input {
                    let count = self.channels(part, depth + 1)?;
                    (self.axes_after_channels(part, depth + 1)? == after).then_some(())?;
                    self.check(part, &affine.channels(first, count), depth + 1)?;
                    first += count;
                }
                Some(())
            }
            "Add" => self.check_sum(name, node, affine, channels, depth),
            _ => None,
        }
    }

    fn check_sum(&self, name: &str, node: &NodeProto, affine: &Affine, channels: usize, depth: usize) -> Option<()> {
        let (a, b) = (node::input(node, 0)?, node::input(node, 1)?);
        let after = self.axes_after_channels(name, depth)?;
        if let Some((layer, constant)) = self.layer_and_constant(node) {
            let position = self.initializer_read_once(constant)?;
            let tensor = &self.knowledge.constants.get(constant)?.tensor;
            Tensor::read(self.store.model, &self.graph.initializer[position])?;
            affine::channel_vector(tensor, after)?;
            (tensor.len() == channels || affine.shift.as_ref().is_none_or(|s| s.len() == 1)).then_some(())?;
            (tensor.len() == channels || affine.scale.as_ref().is_none_or(|s| s.len() == 1)).then_some(())?;
            return if affine.scale.is_some() {
                self.check(layer, &affine.without_shift(), depth + 1)
            } else {
                Some(())
            };
        }
        let same_channels = self.channels(a, depth + 1)? == channels && self.channels(b, depth + 1)? == channels;
        let same_axes = self.axes_after_channels(b, depth + 1)? == after && self.rank(a)? == self.rank(b)?;
        (same_channels && same_axes).then_some(())?;
        self.check(a, affine, depth + 1)?;
        if affine.scale.is_some() { self.check(b, &affine.without_shift(), depth + 1) } else { Some(()) }
    }

    /// The two inputs of an Add of a layer and a constant.
    fn layer_and_constant<'n>(&self, node: &'n NodeProto) -> Option<(&'n str, &'n str)> {
        let (a, b) = (node::input(node, 0)?, node::input(node, 1)?);
        let is_constant = |name: &str| self.knowledge.constants.contains_key(name);
        match (is_constant(a), is_constant(b)) {
            (false, true) => Some((a, b)),
            (true, false) => Some((b, a)),
            _ => None,
        }
    }

    /// Position of the initializer `name`, which one node input reads and nothing else.
    fn initializer_read_once(&self, name: &str) -> Option<usize> {
        self.uses.initializer(name).filter(|_| self.uses.is_read_once(name))
    }

    /// Where the weight of `node` is and how its channels lie, if `affine` may scale it.
    fn weight_layout(&self, node: &NodeProto, affine: &Affine) -> Option<Layout> {
        let name = node::input(node, 1)?;
        let position = self.initializer_read_once(name)?;
        let tensor = &self.knowledge.constants.get(name)?.tensor;
        if affine.scale.is_some()
            && let Some(id) = weight_of(self.store.model, &self.graph.initializer[position])
        {
            // A codebook or a grid was chosen with care; scaling its channels apart would undo it.
            let form = self.store.model.weight(id).form.kind();
            matches!(form, FormKind::Dense | FormKind::Sparse).then_some(())?;
        }
        let (outer, channels) = match (node::standard_operator(node), &tensor.dims[..]) {
            ("Conv", &[channels, ..]) => (1, channels),
            ("ConvTranspose", &[inputs, outputs, ..]) => (inputs, outputs),
            ("Gemm", &[rows, columns]) if node::int(node, "transB", 0) == 0 => (rows, columns),
            ("Gemm", &[columns, _]) => (1, columns),
            ("MatMul", &[rows, columns]) => (rows, columns),
            _ => return None,
        };
        let group = match node::standard_operator(node) {
            "ConvTranspose" => usize::try_from(node::int(node, "group", 1)).ok()?,
            _ => 1,
        };
        let inner = tensor.len().checked_div(outer.checked_mul(channels)?)?;
        let rows_per_group = outer.checked_div(group).filter(|rows| rows * group == outer)?;
        let layout = Layout { position, channels, inner, rows_per_group };
        if inner == 0 || rows_per_group == 0 {
            return None;
        }
        // Other types reach far beyond any weight; half precision ends at 65504.
        let may_overflow = tensor.element == DataType::Float16 && affine.scale.is_some();
        (!may_overflow || is_finite(&layout.scaled(tensor, affine)?)).then_some(layout)
    }

    /// The bias of `node` for each of its channels, before `beta`.
    fn bias_values(&self, node: &NodeProto, bias: &str, channels: usize) -> Option<Vec<f64>> {
        let tensor = &self.knowledge.constants.get(bias)?.tensor;
        let values = affine::channel_vector(tensor, 0)?;
        let beta = if node.op_type() == "Gemm" { f64::from(node::float(node, "beta", 1.0)) } else { 1.0 };
        match values.len() {
            1 => Some(vec![values[0] * beta; channels]),
            count => (count == channels).then(|| values.iter().map(|v| v * beta).collect()),
        }
    }

    /// The new bias of `node`.
    fn shifted_bias(&self, node: &NodeProto, affine: &Affine, channels: usize) -> Option<Tensor> {
        let old = match node::input(node, 2) {
            Some(bias) => self.bias_values(node, bias, channels)?,
            None => vec![0.0; channels],
        };
        let element = self.knowledge.constants.get(node::input(node, 1)?)?.tensor.element;
        let new: Vec<f64> = (0..channels).map(|c| old[c] * affine.scale_at(c) + affine.shift_at(c)).collect();
        let tensor = Tensor::from_floats(element, vec![channels], &new)?;
        is_finite(&tensor).then_some(tensor)
    }

    /// Does what [`Self::check`] allowed.
    fn apply(&mut self, name: &str, affine: &Affine) {
        let Some(index) = self.uses.producer(name) else { return };
        let node = self.graph.node[index].clone();
        match node::standard_operator(&node) {
            "Concat" => {
                let mut first = 0;
                for part in &node.input {
                    let count = self.channels(part, 0).unwrap_or(0);
                    self.apply(part, &affine.channels(first, count));
                    first += count;
                }
            }
            "Add" => match self.layer_and_constant(&node) {
                Some((layer, constant)) => {
                    self.update_constant(constant, affine);
                    self.touched[index] = true;
                    if affine.scale.is_some() {
                        self.apply(layer, &affine.without_shift());
                    }
                }
                None => {
                    self.apply(&node.input[0], affine);
                    if affine.scale.is_some() {
                        self.apply(&node.input[1], &affine.without_shift());
                    }
                }
            },
            _ => self.update_layer(index, &node, name, affine),
        }
    }

    fn update_constant(&mut self, name: &str, affine: &Affine) {
        let Some(position) = self.uses.initializer(name) else { return };
        let proto = &mut self.graph.initializer[position];
        let Some(old) = Tensor::read(self.store.model, proto) else { return };
        let Some(values) = old.floats() else { return };
        let new: Vec<f64> =
            values.iter().enumerate().map(|(c, v)| v * affine.scale_at(c) + affine.shift_at(c)).collect();
        if let Some(tensor) = Tensor::from_floats(old.element, old.dims.clone(), &new) {
            self.store.replace(proto, &tensor);
        }
    }

    fn update_layer(&mut self, index: usize, node: &NodeProto, name: &str, affine: &Affine) {
        let Some(channels) = self.channels(name, 0) else { return };
        let needs_bias = node.op_type() != "MatMul" && (node::input(node, 2).is_some() || affine.shift.is_some());
        let bias = if needs_bias { self.shifted_bias(node, affine, channels) } else { None };
        if affine.scale.is_some()
            && let Some(layout) = self.weight_layout(node, affine)
            && let Some(old) = self.knowledge.constants.get(&node.input[1])
            && let Some(scaled) = layout.scaled(&old.tensor, affine)
        {
            self.store.replace(&mut self.graph.initializer[layout.position], &scaled);
        }
        self.touched[index] = true;
        let Some(bias) = bias else { return };
        let reusable = node::input(node, 2).and_then(|old| self.initializer_read_once(old));
        if let Some(position) = reusable {
            self.store.replace(&mut self.graph.initializer[position], &bias);
        } else {
            let weight = node::input(node, 1).unwrap_or("layer");
            let wanted = format!("{}.bias", weight.strip_suffix(".weight").unwrap_or(weight));
            let fresh = self.store.fresh_name(&wanted);
            self.store.add(self.graph, &fresh, &bias, Role::Bias, Some(0));
            let inputs = &mut self.graph.node[index].input;
            inputs.resize(3, String::new());
            inputs[2] = fresh;
        }
        // The new bias holds `beta` already.
        node::remove_attribute(&mut self.graph.node[index], "beta");
    }
}
