//! What the operators do with a weight, found from those that read it.
//!
//! The weight is followed from where it is defined through nodes that only hand it on (Identity, Cast, Transpose,
//! quantisation), into subgraphs that capture it and into functions that it is given to. The axis of its output
//! channels is followed back through transposes, so that it is an axis of the stored tensor.

use std::collections::HashMap;
use std::fmt;

use onnx_dcomp_proto::{FunctionProto, GraphProto, ModelProto, NodeProto, TensorProto};

use crate::graph::{defined_names, is_constant, is_standard, subgraphs};
use crate::{Weight, WeightId, marker};

/// What the operators do with a weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Filters of a convolution. Channel axis 0.
    Conv,
    /// Filters of a transposed convolution. Channel axis 1, that of the output channels of one group.
    ConvTranspose,
    /// Matrix of a fully connected layer. Channel axis 0 with `transB`, else 1.
    Gemm,
    /// Constant factor of a matrix product. The last axis on the right side, the one before it on the left.
    MatMul,
    /// Table of a look-up. The axis of the entries, usually 0.
    Embedding,
    /// Matrix of a recurrent layer (LSTM, GRU, RNN). Channel axis 1, the gates.
    Recurrent,
    /// Bias of a layer.
    Bias,
    /// Scale, shift or statistics of a normalization.
    Normalization,
    /// Part of a computation that is quantised already: must stay bit-exact.
    Quantized,
    /// Slopes of a PRelu.
    Activation,
    /// Anything else.
    Other,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 11] = [
        Self::Conv,
        Self::ConvTranspose,
        Self::Gemm,
        Self::MatMul,
        Self::Embedding,
        Self::Recurrent,
        Self::Bias,
        Self::Normalization,
        Self::Quantized,
        Self::Activation,
        Self::Other,
    ];

    /// Short name, as in tables and rules: `conv`, `conv-transpose`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Conv => "conv",
            Self::ConvTranspose => "conv-transpose",
            Self::Gemm => "gemm",
            Self::MatMul => "matmul",
            Self::Embedding => "embedding",
            Self::Recurrent => "recurrent",
            Self::Bias => "bias",
            Self::Normalization => "normalization",
            Self::Quantized => "quantized",
            Self::Activation => "activation",
            Self::Other => "other",
        }
    }

    /// Whether the weight is a matrix or a bank of filters: what most of a network's elements are.
    pub const fn is_kernel(self) -> bool {
        matches!(self, Self::Conv | Self::ConvTranspose | Self::Gemm | Self::MatMul | Self::Embedding | Self::Recurrent)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How deep functions may call each other, and how many uses of one weight are looked at.
const MAX_DEPTH: usize = 16;
const MAX_USES: usize = 256;

/// Gives every weight the role, operator and channel axis that its readers ask for.
pub(crate) fn assign(proto: &ModelProto, table: &mut [Weight]) {
    let mut bodies = Bodies::default();
    if let Some(graph) = &proto.graph {
        bodies.add_graph(graph);
    }
    for function in &proto.functions {
        bodies.add_function(function);
    }
    for (name, body, id) in std::mem::take(&mut bodies.weights) {
        let Some(weight) = table.get_mut(id.index()) else { continue };
        let mut uses = Uses { bodies: &bodies, shape: &weight.shape, found: Vec::new(), left: MAX_USES };
        let axes: Vec<usize> = (0..weight.shape.len()).collect();
        uses.follow(name, body, &View { axes, rounded: false }, MAX_DEPTH);
        let quantized = uses.found.iter().find(|found| found.role == Role::Quantized);
        let known = quantized.or_else(|| uses.found.iter().find(|found| found.role != Role::Other));
        if let Some(found) = known.or(uses.found.first()) {
            let axis_of_role = uses.found.iter().find_map(|other| other.channel_axis);
            weight.role = found.role;
            weight.operator = Some(found.operator.to_owned());
            weight.channel_axis = if quantized.is_some() { axis_of_role } else { found.channel_axis };
        }
    }
}

/// The graphs and function bodies of a model, each with the readers of its names.
#[derive(Default)]
struct Bodies<'a> {
    list: Vec<Body<'a>>,
    functions: HashMap<(&'a str, &'a str, &'a str), (usize, &'a FunctionProto)>,
    weights: Vec<(&'a str, usize, WeightId)>,
}

#[derive(Default)]
struct Body<'a> {
    readers: HashMap<&'a str, Vec<Reader<'a>>>,
    producers: HashMap<&'a str, &'a NodeProto>,
}

#[derive(Clone, Copy)]
struct Reader<'a> {
    node: &'a NodeProto,
    input: usize,
    /// The body in which the node stands: names that it defines are read there.
    body: usize,
}

impl<'a> Bodies<'a> {
    fn add_graph(&mut self, graph: &'a GraphProto) -> usize {
        let body = self.add_nodes(&graph.node);
        for tensor in &graph.initializer {
            self.add_weight(tensor, tensor.name(), body);
        }
        body
    }

    fn add_function(&mut self, function: &'a FunctionProto) {
        let body = self.add_nodes(&function.node);
        self.functions.insert((function.domain(), function.name(), function.overload()), (body, function));
    }

    fn add_nodes(&mut self, nodes: &'a [NodeProto]) -> usize {
        let body = self.list.len();
        self.list.push(Body::default());
        for node in nodes {
            for (input, name) in node.input.iter().enumerate() {
                self.list[body].readers.entry(name).or_default().push(Reader { node, input, body });
            }
            for name in &node.output {
                self.list[body].producers.insert(name, node);
            }
            if is_constant(node) {
                let tensors = node.attribute.iter().filter_map(|attribute| attribute.t.as_ref());
                let name = node.output.first().map(String::as_str).unwrap_or_default();
                tensors.for_each(|tensor| self.add_weight(tensor, name, body));
            }
            for subgraph in subgraphs(node) {
                let inner = self.add_graph(subgraph);
                let defined: std::collections::HashSet<&str> = defined_names(subgraph).collect();
                let mut captured: Vec<(&'a str, Vec<Reader<'a>>)> = self.list[inner]
                    .readers
                    .iter()
                    .filter(|(name, _)| !defined.contains(*name))
                    .map(|(name, readers)| (*name, readers.clone()))
                    .collect();
                captured.sort_unstable_by_key(|(name, _)| *name);
                for (name, readers) in captured {
                    self.list[body].readers.entry(name).or_default().extend(readers);
                }
            }
        }
        body
    }

    fn add_weight(&mut self, tensor: &'a TensorProto, name: &'a str, body: usize) {
        if let Some(id) = marker::weight_of(tensor) {
            self.weights.push((name, body, id));
        }
    }
}

/// One use of a weight.
struct Use<'a> {
    role: Role,
    channel_axis: Option<usize>,
    operator: &'a str,
}

/// What a value has to do with the stored weight.
struct View {
    /// Which axis of the weight each axis of the value is.
    axes: Vec<usize>,
    /// Whether the graph itself rounds the weight to integers on the way.
    rounded: bool,
}

struct Uses<'a> {
    bodies: &'a Bodies<'a>,
    /// Shape of the stored weight.
    shape: &'a [usize],
    found: Vec<Use<'a>>,
    left: usize,
}

impl<'a> Uses<'a> {
    /// Collects the uses of `name`, a value that `view` ties to the weight.
    fn follow(&mut self, name: &str, body: usize, view: &View, depth: usize) {
        let bodies = self.bodies;
        for reader in bodies.list[body].readers.get(name).map(Vec::as_slice).unwrap_or_default() {
            if self.left == 0 || depth == 0 {
                return;
            }
            self.left -= 1;
            let node = reader.node;
            let key = (node.domain(), node.op_type(), node.overload());
            if let Some((inner, function)) = bodies.functions.get(&key) {
                if let Some(parameter) = function.input.get(reader.input) {
                    self.follow(parameter, *inner, view, depth - 1);
                }
                continue;
            }
            match hands_on(node, reader.input, view) {
                Some(view) => {
                    // Integers that the file holds; floats that the graph rounds first may still change.
                    if node.op_type() == "DequantizeLinear" && !view.rounded {
                        self.found.push(Use { role: Role::Quantized, channel_axis: None, operator: node.op_type() });
                    }
                    if let Some(output) = node.output.first() {
                        self.follow(output, reader.body, &view, depth - 1);
                    }
                }
                None => {
                    let (role, axis) = self.role_at(reader);
                    let channel_axis = axis.and_then(|axis| axis.of(&view.axes));
                    self.found.push(Use { role, channel_axis, operator: node.op_type() });
                }
            }
        }
    }

    /// What `reader` does with the weight, and the axis of its channels as the operator sees it.
    fn role_at(&self, reader: &Reader) -> (Role, Option<Axis>) {
        let node = reader.node;
        if is_quantized_operator(node.op_type()) {
            return (Role::Quantized, None);
        }
        let is_set = |name| integer_attribute(node, name).is_some_and(|value| value != 0);
        match (node.op_type(), reader.input) {
            ("Conv" | "FusedConv" | "DeformConv", 1) => (Role::Conv, Some(Axis::FromFirst(0))),
            ("ConvTranspose", 1) => (Role::ConvTranspose, Some(Axis::FromFirst(1))),
            ("Conv" | "FusedConv" | "ConvTranspose" | "Gemm" | "FusedGemm", 2) | ("DeformConv", 3) => {
                (Role::Bias, None)
            }
            ("Gemm" | "FusedGemm", 0) => (Role::Gemm, Some(Axis::FromFirst(usize::from(is_set("transA"))))),
            ("Gemm" | "FusedGemm", 1) => (Role::Gemm, Some(Axis::FromFirst(usize::from(!is_set("transB"))))),
            ("MatMul", 0) => (Role::MatMul, Some(Axis::FromLast(1))),
            ("MatMul", 1) => (Role::MatMul, Some(Axis::FromLast(0))),
            ("FusedMatMul", 0) => (Role::MatMul, Some(Axis::FromLast(usize::from(!is_set("transA"))))),
            ("FusedMatMul", 1) => (Role::MatMul, Some(Axis::FromLast(usize::from(is_set("transB"))))),
            ("Gather", 0) => {
                let axis = integer_attribute(node, "axis").unwrap_or(0);
                let from = usize::try_from(axis).map(Axis::FromFirst);
                let from = from.unwrap_or(Axis::FromLast(axis.unsigned_abs().saturating_sub(1) as usize));
                (Role::Embedding, Some(from))
            }
            ("LSTM" | "GRU" | "RNN", 1 | 2) => (Role::Recurrent, Some(Axis::FromFirst(1))),
            ("LSTM" | "GRU" | "RNN", 3) => (Role::Bias, None),
            ("BatchNormalization", 1..=4)
            | ("LayerNormalization" | "GroupNormalization" | "InstanceNormalization", 1 | 2)
            | ("RMSNormalization" | "SimplifiedLayerNormalization", 1)
            | ("SkipLayerNormalization", 2 | 3)
            | ("SkipSimplifiedLayerNormalization", 2) => (Role::Normalization, None),
            ("PRelu", 1) => (Role::Activation, None),
            ("Add", input) if self.is_bias_of(reader, 1 - input.min(1)) => (Role::Bias, None),
            _ => (Role::Other, None),
        }
    }

    /// Whether the weight is one number a channel, and is added to what a layer gives at input `other`.
    fn is_bias_of(&self, reader: &Reader, other: usize) -> bool {
        let layer =
            reader.node.input.get(other).and_then(|name| self.bodies.list[reader.body].producers.get(name.as_str()));
        let is_vector = self.shape.iter().filter(|&&length| length > 1).count() <= 1;
        let layers = ["Conv", "ConvTranspose", "Gemm", "MatMul"];
        is_vector && layer.is_some_and(|layer| is_standard(layer) && layers.contains(&layer.op_type()))
    }
}

/// An axis, counted from either end.
enum Axis {
    FromFirst(usize),
    FromLast(usize),
}

impl Axis {
    fn of(self, axes: &[usize]) -> Option<usize> {
        match self {
            Self::FromFirst(axis) => axes.get(axis).copied(),
            Self::FromLast(axis) => axes.iter().rev().nth(axis).copied(),
        }
    }
}

/// What the output of `node` has to do with the weight, where the node hands its input on, element by element.
fn hands_on(node: &NodeProto, input: usize, view: &View) -> Option<View> {
    if input != 0 {
        return None;
    }
    let axes = match node.op_type() {
        "Identity" | "Cast" | "CastLike" | "Dropout" | "QuantizeLinear" | "DequantizeLinear" => view.axes.clone(),
        "Transpose" => {
            let order = node.attribute.iter().find(|attribute| attribute.name() == "perm");
            match order {
                None => view.axes.iter().rev().copied().collect(),
                Some(order) if order.ints.len() == view.axes.len() => {
                    let place = |&from: &i64| usize::try_from(from).ok().and_then(|from| view.axes.get(from).copied());
                    order.ints.iter().map(place).collect::<Option<_>>()?
                }
                Some(_) => return None,
            }
        }
        _ => return None,
    };
    Some(View { axes, rounded: view.rounded || node.op_type() == "QuantizeLinear" })
}

/// Operators that compute on quantised numbers, where scales and zero points count too.
fn is_quantized_operator(operator: &str) -> bool {
    const PREFIXES: [&str; 4] = ["QLinear", "QGemm", "QAttention", "QEmbed"];
    const NAMES: [&str; 13] = [
        "QuantizeLinear",
        "DequantizeLinear",
        "DynamicQuantizeLinear",
        "DynamicQuantizeMatMul",
        "DynamicQuantizeLSTM",
        "MatMulInteger",
        "MatMulInteger16",
        "MatMulIntegerToFloat",
        "ConvInteger",
        "MatMulNBits",
        "MatMulBnb4",
        "MatMulFpQ4",
        "GatherBlockQuantized",
    ];
    PREFIXES.iter().any(|prefix| operator.starts_with(prefix)) || NAMES.contains(&operator)
}

fn integer_attribute(node: &NodeProto, name: &str) -> Option<i64> {
    node.attribute.iter().find(|attribute| attribute.name() == name).and_then(|attribute| attribute.i)
}
