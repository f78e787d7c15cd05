//! `pack`: weights become the outputs of `DcompDecode` nodes, which hold them entropy-coded.
//!
//! Each graph, and each function, gets its own nodes, in front of all others: one for its small weights together, so
//! that the adaptive coder learns from each what the next looks like, and one for each large weight, so that they are
//! decoded side by side. A node has one input, the payload (uint8), and attributes that tell people what it holds. A
//! graph whose weights would not shrink is left as it is.
//!
//! Cost: that of the coder; memory: the payloads.

use std::collections::HashSet;

use bytes::Bytes;
use onnx_dcomp_codec::{Coder, Layout, Tensor, encode};
use onnx_dcomp_forms::FormKind;
use onnx_dcomp_ir::{Evidence, GraphIndex, Model, WeightId, graph, marker};
use onnx_dcomp_proto::{
    AttributeProto, GraphProto, Message, NodeProto, OperatorSetIdProto, TensorProto, attribute_proto, tensor_proto,
};

use crate::registry::Configured;
use crate::selection::{NamePattern, Settings, check_select};
use crate::{Pass, PassError, PassReport};

/// The domain of our operators.
pub const DOMAIN: &str = "ai.dcomp";

/// The version of [`DOMAIN`] that is written.
pub const DOMAIN_VERSION: i64 = 1;

/// The operator that decodes a payload into weights.
pub const DECODE: &str = "DcompDecode";

/// From this many elements on a weight gets a node of its own: its own statistics are then worth more than what it
/// learns from others, and nodes can be decoded side by side.
const LARGE: usize = 1 << 22;

crate::choices! {
    /// How payloads are coded.
    pub enum CoderChoice {
        /// `small`, but `fast` for the large weights of large models, which would take long to open.
        Auto = "auto",
        /// Adaptive context mixing: the smallest.
        Small = "small",
        /// Interleaved rANS: decodes at memory speed.
        Fast = "fast",
        /// Canonical Huffman over values and gaps, as in Deep Compression.
        Huffman = "huffman",
    }
}

impl CoderChoice {
    /// The coder of a weight of `elements` in a model of `total`.
    pub(crate) fn coder(self, elements: usize, total: usize) -> Coder {
        match self {
            Self::Auto if elements >= SLOW_WEIGHT && total >= SLOW_MODEL => Coder::Fast,
            Self::Auto | Self::Small => Coder::Small,
            Self::Fast => Coder::Fast,
            Self::Huffman => Coder::Huffman,
        }
    }
}

/// Elements of a model that takes seconds to open with the coder `small`.
const SLOW_MODEL: usize = 1 << 24;

/// Elements of a weight that is coded `fast` in such a model.
const SLOW_WEIGHT: usize = 1 << 20;

crate::options! {
    /// Options of [`Pack`].
    pub struct PackOptions {
        /// How payloads are coded.
        pub coder: CoderChoice = CoderChoice::Auto;
        /// Weights to pack, by name.
        pub select: NamePattern = NamePattern::all();
    }
}

/// Entropy-codes weights; see [the module](crate::pack).
pub struct Pack {
    settings: Settings<PackOptions>,
}

impl Configured for Pack {
    type Options = PackOptions;
    const NAME: &'static str = "pack";
    const SUMMARY: &'static str = "entropy-codes the weights into the payloads of DcompDecode nodes";
    const SOURCE: &'static str = "Han, Mao and Dally, Deep Compression, 2016; Duda, Asymmetric numeral systems, 2013; \
                                  Mahoney, Adaptive weighing of context models, 2005";

    fn configured(settings: Settings<PackOptions>) -> Self {
        Self { settings }
    }
}

impl From<PackOptions> for Pack {
    fn from(options: PackOptions) -> Self {
        Self::configured(options.into())
    }
}

/// One weight on its way into a payload.
struct Packable {
    id: WeightId,
    /// The tensor's name in its graph, which the node's output takes over.
    name: String,
    coder: Coder,
    /// Bytes of the tensor, data included, where it stands now.
    plain_bytes: u64,
}

/// What holds the constants of a graph.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holder {
    /// An initializer.
    Initializer,
    /// A Constant node, where initializers cannot be, or cost more.
    Constant,
}

/// A node and its payload.
struct Payload {
    weights: Vec<Packable>,
    bytes: Bytes,
}

impl Pass for Pack {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn run(&self, model: &mut Model, _: &Evidence) -> Result<PassReport, PassError> {
        check_select(Self::NAME, &self.settings.base().select, model)?;
        // The graphs are taken out so that they can change while the weight table is read.
        let mut main = model.proto.graph.take().unwrap_or_default();
        let mut functions = std::mem::take(&mut model.proto.functions);
        // Old versions of ONNX want each initializer declared as an input; a Constant node is shorter, and as good.
        let model_declares = model.proto.ir_version() < Model::OVERRIDABLE_IR_VERSION;
        let elements = model.weights().map(|(_, weight)| weight.len()).sum();
        let mut packer = Packer { pass: self, model, elements, report: PassReport::default(), stored: Vec::new() };
        let in_main = if model_declares { Holder::Constant } else { Holder::Initializer };
        let result = packer.graph(&mut main, in_main).and_then(|in_graph| {
            let mut packed = in_graph;
            for function in &mut functions {
                // A function body is a graph without initializers and declared types.
                let mut body = GraphProto { node: std::mem::take(&mut function.node), ..GraphProto::default() };
                let in_function = packer.graph(&mut body, Holder::Constant)?;
                function.node = body.node;
                if in_function {
                    import(&mut function.opset_import);
                }
                packed |= in_function;
            }
            Ok(packed)
        });
        let Packer { report, stored, .. } = packer;
        model.proto.graph = Some(main);
        model.proto.functions = functions;
        if result? {
            import(&mut model.proto.opset_import);
        }
        for (id, bytes) in stored {
            model.weight_mut(id).stored_bytes = Some(bytes);
        }
        Ok(report)
    }
}

/// Declares that our domain is used.
pub(crate) fn import(opsets: &mut Vec<OperatorSetIdProto>) {
    if !opsets.iter().any(|opset| opset.domain() == DOMAIN) {
        opsets.push(OperatorSetIdProto { domain: Some(DOMAIN.into()), version: Some(DOMAIN_VERSION) });
    }
}

/// A weight whose tensor may give way to the output of a node.
pub(crate) struct Replaceable {
    pub(crate) id: WeightId,
    /// The tensor's name in its graph.
    pub(crate) name: String,
    /// Bytes of the tensor, data included.
    pub(crate) plain_bytes: u64,
}

/// The weights whose tensors stand in `graph` itself and may become outputs of a node.
pub(crate) fn replaceable(model: &Model, graph: &GraphProto) -> Vec<Replaceable> {
    let constants = graph.node.iter().filter(|node| graph::is_constant(node)).filter_map(|node| {
        let tensor = node.attribute.first()?.t.as_ref()?;
        Some((node.output.first()?.as_str(), tensor))
    });
    let initializers = graph.initializer.iter().map(|tensor| (tensor.name(), tensor));
    let tensors = initializers.chain(constants).filter(|(name, _)| !model.is_overridable(graph, name));
    let replaceable = tensors.filter_map(|(name, tensor)| {
        let id = marker::weight_of(tensor)?;
        let weight = model.get_weight(id).filter(|weight| !weight.is_empty())?;
        let plain_bytes = weight.dense_bytes() + tensor.encoded_len() as u64;
        Some(Replaceable { id, name: name.to_owned(), plain_bytes })
    });
    replaceable.collect()
}

/// Takes the plain tensors called `names` out of `graph`, for nodes to define these names.
pub(crate) fn take_out(graph: &mut GraphProto, names: &HashSet<&str>) {
    graph.initializer.retain(|tensor| !names.contains(tensor.name()));
    // Old versions of ONNX declare each initializer as an input too; a node's output must not be one.
    graph.input.retain(|input| !names.contains(input.name()));
    let is_named = |node: &NodeProto| node.output.first().is_some_and(|output| names.contains(output.as_str()));
    graph.node.retain(|node| !(graph::is_constant(node) && is_named(node)));
}

/// The Constant node that gives `tensor` under its name.
pub(crate) fn constant_node(mut tensor: TensorProto) -> NodeProto {
    let output = vec![tensor.name.take().unwrap_or_default()];
    let value = AttributeProto {
        name: Some("value".into()),
        r#type: Some(attribute_proto::AttributeType::Tensor as i32),
        t: Some(tensor),
        ..AttributeProto::default()
    };
    NodeProto { op_type: Some("Constant".into()), output, attribute: vec![value], ..NodeProto::default() }
}

/// The state of one run.
struct Packer<'a> {
    pass: &'a Pack,
    model: &'a Model,
    /// Elements of all weights.
    elements: usize,
    report: PassReport,
    stored: Vec<(WeightId, u64)>,
}

impl Packer<'_> {
    /// Packs the weights of `graph` and of the graphs below it; whether there was any.
    fn graph(&mut self, graph: &mut GraphProto, holder: Holder) -> Result<bool, PassError> {
        let mut packed = false;
        for node in &mut graph.node {
            for subgraph in graph::subgraphs_mut(node) {
                packed |= self.graph(subgraph, holder)?;
            }
        }
        let mut groups: Vec<Vec<Packable>> = Vec::new();
        for packable in self.packable(graph) {
            let is_large = |packable: &Packable| self.model.weight(packable.id).len() >= LARGE;
            // One payload has one coder.
            let joins = |group: &&mut Vec<Packable>| group[0].coder == packable.coder && !is_large(&group[0]);
            match groups.iter_mut().find(joins).filter(|_| !is_large(&packable)) {
                Some(group) => group.push(packable),
                None => groups.push(vec![packable]),
            }
        }
        let mut payloads = Vec::new();
        for group in groups {
            payloads.extend(self.payload(group)?);
        }
        let mut index = GraphIndex::new(graph);
        for payload in payloads.into_iter().rev() {
            packed = true;
            self.insert(graph, &mut index, payload, holder);
        }
        Ok(packed)
    }

    /// The weights of `graph` itself that are to be packed.
    fn packable(&self, graph: &GraphProto) -> Vec<Packable> {
        let packable =
            replaceable(self.model, graph).into_iter().filter_map(|Replaceable { id, name, plain_bytes }| {
                let weight = self.model.weight(id);
                let options = self.pass.settings.for_weight(weight)?;
                let coder = options.coder.coder(weight.len(), self.elements);
                options.select.matches(&weight.name).then_some(Packable { id, name, coder, plain_bytes })
            });
        packable.collect()
    }

    /// Codes a group of weights; `None` where that saves nothing.
    fn payload(&mut self, mut group: Vec<Packable>) -> Result<Option<Payload>, PassError> {
        let coder = group[0].coder;
        group.sort_by_key(|packable| packable.id);
        let tensors: Vec<Tensor<'_>> = group
            .iter()
            .map(|packable| {
                let weight = self.model.weight(packable.id);
                let layout = Layout::new(&weight.shape, weight.channel_axis);
                Tensor { shape: &weight.shape, form: &weight.form, layout }
            })
            .collect();
        let bytes = encode(&tensors, coder).map_err(|error| PassError::Subject {
            pass: Pack::NAME,
            subject: self.model.weight(group[0].id).name.clone(),
            reason: error.to_string(),
        })?;
        // A node, its attributes and the payload's tensor take about this much.
        const NODE_BYTES: u64 = 110;
        let plain: u64 = group.iter().map(|packable| packable.plain_bytes).sum();
        if bytes.len() as u64 + NODE_BYTES >= plain {
            self.report.note(format!("{} weights would not shrink, and stay as they are", group.len()));
            return Ok(None);
        }
        self.attribute_bytes(&group, bytes.len() as u64);
        self.report.note(format!("{} weights in a payload of {} bytes, was {plain}", group.len(), bytes.len()));
        Ok(Some(Payload { weights: group, bytes: bytes.into() }))
    }

    /// Splits a payload's bytes among its weights, by their order-0 estimates.
    fn attribute_bytes(&mut self, group: &[Packable], bytes: u64) {
        let estimates: Vec<f64> =
            group.iter().map(|packable| self.model.weight(packable.id).form.order0_bits() + 8.0).collect();
        let total: f64 = estimates.iter().sum();
        let (mut sum, mut given) = (0.0, 0);
        for (packable, estimate) in group.iter().zip(estimates) {
            sum += estimate;
            let until = (bytes as f64 * (sum / total)).round() as u64;
            self.stored.push((packable.id, until.saturating_sub(given)));
            given = until;
        }
    }

    /// Puts the node in front, and takes the plain tensors out.
    fn insert(&self, graph: &mut GraphProto, index: &mut GraphIndex, payload: Payload, holder: Holder) {
        let names: HashSet<&str> = payload.weights.iter().map(|packable| packable.name.as_str()).collect();
        take_out(graph, &names);
        let name = index.unique_name("p");
        let tensor = TensorProto {
            dims: vec![payload.bytes.len() as i64],
            data_type: Some(tensor_proto::DataType::Uint8 as i32),
            raw_data: Some(payload.bytes.clone()),
            ..TensorProto::default()
        };
        let node = self.node(&payload, &name);
        if holder == Holder::Constant {
            let constant = constant_node(TensorProto { name: Some(name), ..tensor });
            graph.node.splice(0..0, [constant, node]);
        } else {
            graph.initializer.push(TensorProto { name: Some(name), ..tensor });
            graph.node.insert(0, node);
        }
    }

    fn node(&self, payload: &Payload, input: &str) -> NodeProto {
        let weights = || payload.weights.iter().map(|packable| self.model.weight(packable.id));
        let elements: usize = weights().map(|weight| weight.len()).sum();
        let nonzeros: usize = weights().map(|weight| weight.form.nonzeros()).sum();
        // The form that most elements have; a graph viewer shows it.
        let mut by_form: Vec<(FormKind, usize)> = Vec::new();
        for weight in weights() {
            match by_form.iter_mut().find(|(kind, _)| *kind == weight.form.kind()) {
                Some((_, count)) => *count += weight.len(),
                None => by_form.push((weight.form.kind(), weight.len())),
            }
        }
        let form = by_form.iter().rev().max_by_key(|(_, count)| *count).map_or("", |(kind, _)| kind.name());
        let bits_per_weight = 8.0 * payload.bytes.len() as f64 / elements.max(1) as f64;
        let float = |name: &str, value: f64| AttributeProto {
            name: Some(name.into()),
            r#type: Some(attribute_proto::AttributeType::Float as i32),
            f: Some(value as f32),
            ..AttributeProto::default()
        };
        NodeProto {
            op_type: Some(DECODE.into()),
            domain: Some(DOMAIN.into()),
            input: vec![input.into()],
            output: payload.weights.iter().map(|packable| packable.name.clone()).collect(),
            attribute: vec![
                AttributeProto {
                    name: Some("form".into()),
                    r#type: Some(attribute_proto::AttributeType::String as i32),
                    s: Some(Bytes::from_static(form.as_bytes())),
                    ..AttributeProto::default()
                },
                float("density", nonzeros as f64 / elements.max(1) as f64),
                float("bits", bits_per_weight),
            ],
            ..NodeProto::default()
        }
    }
}
