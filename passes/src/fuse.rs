//! `fuse`: layers with compressed weights are computed on what is compressed, and never on floats.
//!
//! MatMul and Gemm with a constant matrix of few distinct values become `DcompSparseGemm` or `DcompCodebookGemm`, whose
//! payload holds that matrix alone. A runtime that knows these operators keeps the non-zeros, or codes of four bits, in
//! memory, which is less for a product with one vector to wait for. Conv with few non-zeros becomes `DcompSparseConv`,
//! which multiplies for these alone. A Relu that alone reads what comes out goes into the operator. Which of them, or none, is decided for each weight by what the layer would take with
//! one vector or image; the costs are options, in picoseconds, measured on one core of an AMD EPYC (Zen 3).
//!
//! Sources: Han et al., "EIE: Efficient inference engine on compressed deep neural network", 2016; Park et al., "Faster
//! CNNs with direct sparse convolutions and guided pruning", 2017. Cost: that of packing.

mod cost;

use onnx_dcomp_codec::{Layout, Tensor, encode};
use onnx_dcomp_ir::{Evidence, GraphIndex, Model, Weight, WeightId};
use onnx_dcomp_proto::{AttributeProto, NodeProto, TensorProto, attribute_proto, tensor_proto};
use rayon::prelude::*;

use crate::graph_bytes::protected_names;
use crate::pack::{CoderChoice, DOMAIN, import};
use crate::products::{Convolution, Product, convolutions, products};
use crate::registry::Configured;
use crate::selection::{NamePattern, Settings, check_select};
use crate::{Pass, PassError, PassReport, node};

pub use cost::{convolution_work, product_work};

/// The operator whose matrix is held as its non-zeros.
pub const SPARSE: &str = "DcompSparseGemm";

/// The operator whose matrix is held as codes of four bits.
pub const CODEBOOK: &str = "DcompCodebookGemm";

/// The operator whose filters are held as their non-zeros.
pub const CONVOLUTION: &str = "DcompSparseConv";

crate::choices! {
    /// When a layer is fused.
    pub enum When {
        /// Where that is expected to be faster.
        Faster = "faster",
        /// Wherever it can be.
        Always = "always",
    }
}

crate::options! {
    /// Options of [`Fuse`].
    pub struct FuseOptions {
        /// When a layer is fused.
        pub when: When = When::Faster;
        /// How payloads are coded.
        pub coder: CoderChoice = CoderChoice::Auto;
        /// What an element of a dense matrix in memory takes, in picoseconds.
        pub dense: f64 = 260.0, within 0.0..=1e6;
        /// What an element of a dense matrix in a cache takes, in picoseconds.
        pub cached: f64 = 68.0, within 0.0..=1e6;
        /// What a non-zero of a sparse matrix takes, in picoseconds.
        pub nonzero: f64 = 470.0, within 0.0..=1e6;
        /// What an element of a matrix of four-bit codes takes, in picoseconds.
        pub code: f64 = 115.0, within 0.0..=1e6;
        /// What a multiplication of a dense convolution takes, in picoseconds.
        pub multiplication: f64 = 21.5, within 0.0..=1e6;
        /// What a multiplication of a sparse convolution takes, in picoseconds.
        pub filter: f64 = 48.0, within 0.0..=1e6;
        /// Weights to fuse, by name.
        pub select: NamePattern = NamePattern::all();
    }
}

/// Fuses layers with the decoding of their weight; see [the module](crate::fuse).
pub struct Fuse {
    settings: Settings<FuseOptions>,
}

impl Configured for Fuse {
    type Options = FuseOptions;
    const NAME: &'static str = "fuse";
    const SUMMARY: &'static str = "layers with compressed weights compute on what is compressed";
    const SOURCE: &'static str = "Han et al., EIE, 2016; Park et al., 2017";

    fn configured(settings: Settings<FuseOptions>) -> Self {
        Self { settings }
    }
}

impl From<FuseOptions> for Fuse {
    fn from(options: FuseOptions) -> Self {
        Self::configured(options.into())
    }
}

impl Pass for Fuse {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn run(&self, model: &mut Model, _: &Evidence) -> Result<PassReport, PassError> {
        check_select(Self::NAME, &self.settings.base().select, model)?;
        let mut report = PassReport::default();
        let is_meant = |weight: &Weight| {
            let options = self.settings.for_weight(weight);
            options.is_some_and(|options| options.select.matches(&weight.name)) && !weight.is_empty()
        };
        let shared: &Model = model;
        let elements = shared.weights().map(|(_, weight)| weight.len()).sum();
        let bias_fits =
            |product: &Product| product.bias.as_ref().is_none_or(|bias| is_vector(shared, bias, product.outputs));
        let products = products(shared, is_meant).into_iter().filter(bias_fits).map(Layer::Product);
        let convolutions = convolutions(shared, is_meant).into_iter().map(Layer::Convolution);
        let mut layers: Vec<Layer> = products.chain(convolutions).collect();
        layers.sort_by_key(Layer::node);
        let fused: Vec<(Layer, Result<Option<Fused>, PassError>)> = layers
            .into_par_iter()
            .map(|layer| {
                let fused = self.fused(shared.weight(layer.weight()), &layer, elements);
                (layer, fused)
            })
            .collect();
        let mut index = GraphIndex::new(model.graph());
        let (mut count, mut absorbed) = (0, Vec::new());
        // Numbers of nodes stay until all are done.
        for (layer, fused) in fused {
            let Some(fused) = fused? else { continue };
            absorbed.extend(layer.fuse(model, &mut index, fused));
            count += 1;
        }
        let mut number = 0..;
        model.graph_mut().node.retain(|_| number.next().is_none_or(|number| !absorbed.contains(&number)));
        if count > 0 {
            import(&mut model.proto.opset_import);
        }
        report.note(format!("{count} layers compute on compressed weights"));
        Ok(report)
    }
}

/// What may be fused.
enum Layer {
    Product(Product),
    Convolution(Convolution),
}

/// What a layer becomes.
struct Fused {
    operator: &'static str,
    payload: Vec<u8>,
}

impl Fuse {
    /// What becomes of the layer with `weight`, in a model of `elements`; `None` where it stays what it is.
    fn fused(&self, weight: &Weight, layer: &Layer, elements: usize) -> Result<Option<Fused>, PassError> {
        let Some(options) = self.settings.for_weight(weight) else { return Ok(None) };
        let operator = match layer {
            Layer::Product(product) => cost::of_product(&weight.form, product.inputs, product.outputs, &options),
            Layer::Convolution(_) => cost::of_convolution(&weight.form, &weight.shape, &options),
        };
        let Some(operator) = operator else { return Ok(None) };
        let layout = Layout::new(&weight.shape, weight.channel_axis);
        let tensor = Tensor { shape: &weight.shape, form: &weight.form, layout };
        let coder = options.coder.coder(weight.len(), elements);
        let payload = encode(&[tensor], coder).map_err(|error| PassError::Subject {
            pass: Self::NAME,
            subject: weight.name.clone(),
            reason: error.to_string(),
        })?;
        Ok(Some(Fused { operator, payload }))
    }
}

/// Whether `name` is a constant vector of `length` elements of the main graph.
fn is_vector(model: &Model, name: &str, length: usize) -> bool {
    let graph = model.graph();
    let found = graph.initializer.iter().find(|tensor| tensor.name() == name);
    found.is_some_and(|tensor| tensor.dims == [length as i64]) && !model.is_overridable(graph, name)
}

impl Layer {
    /// Its place among the nodes of the main graph.
    fn node(&self) -> usize {
        match self {
            Self::Product(product) => product.node,
            Self::Convolution(convolution) => convolution.node,
        }
    }

    fn weight(&self) -> WeightId {
        match self {
            Self::Product(product) => product.id,
            Self::Convolution(convolution) => convolution.id,
        }
    }

    /// Puts the fused operator in the place of the node, and takes the weight out; the place of a Relu that the operator
    /// does too.
    fn fuse(&self, model: &mut Model, index: &mut GraphIndex, fused: Fused) -> Option<usize> {
        let old = model.graph().node.get(self.node())?.clone();
        if let Some(name) = node::input(&old, 1) {
            model.remove_initializer(name);
        }
        let name = index.unique_name("p");
        let stored_bytes = fused.payload.len() as u64;
        model.add_initializer(TensorProto {
            name: Some(name.clone()),
            dims: vec![fused.payload.len() as i64],
            data_type: Some(tensor_proto::DataType::Uint8 as i32),
            raw_data: Some(fused.payload.into()),
            ..TensorProto::default()
        });
        let (bias, mut attribute) = match self {
            Self::Product(product) if product.has_rows => (product.bias.clone(), vec![transposed()]),
            Self::Product(product) => (product.bias.clone(), Vec::new()),
            // What the window measures follows from the filters.
            Self::Convolution(convolution) => {
                let kept = old.attribute.iter().filter(|attribute| attribute.name() != "kernel_shape");
                (convolution.bias.clone(), kept.cloned().collect())
            }
        };
        let relu = relu_after(model, index, &old);
        if relu.is_some() {
            attribute.push(activation("Relu"));
        }
        let output = relu.and_then(|relu| model.graph().node.get(relu)).map_or(&old.output, |relu| &relu.output);
        let input = node::input(&old, 0).unwrap_or_default().to_owned();
        let node = NodeProto {
            op_type: Some(fused.operator.into()),
            domain: Some(DOMAIN.into()),
            name: old.name.clone(),
            input: [input, name].into_iter().chain(bias).collect(),
            output: output.clone(),
            attribute,
            ..NodeProto::default()
        };
        if let Some(place) = model.graph_mut().node.get_mut(self.node()) {
            *place = node;
        }
        let weight = model.weight_mut(self.weight());
        weight.stored_bytes = Some(stored_bytes);
        relu
    }
}

/// The Relu that alone reads what `layer` gives.
fn relu_after(model: &Model, index: &GraphIndex, layer: &NodeProto) -> Option<usize> {
    let output = node::sole_output(layer)?;
    let &[(reader, 0)] = index.consumers(output) else { return None };
    let is_seen =
        index.is_output(output) || index.is_captured(output) || protected_names(&model.proto).contains(output);
    let relu = model.graph().node.get(reader).filter(|_| !is_seen)?;
    node::sole_output(relu)?;
    (node::standard_operator(relu) == "Relu").then_some(reader)
}

fn activation(name: &'static str) -> AttributeProto {
    AttributeProto {
        name: Some("activation".into()),
        r#type: Some(attribute_proto::AttributeType::String as i32),
        s: Some(name.into()),
        ..AttributeProto::default()
    }
}

fn transposed() -> AttributeProto {
    AttributeProto {
        name: Some("transB".into()),
        r#type: Some(attribute_proto::AttributeType::Int as i32),
        i: Some(1),
        ..AttributeProto::default()
    }
}
