//! `fuse`: products with compressed matrices are computed on what is compressed, and never on floats.
//!
//! MatMul and Gemm with a constant matrix of few distinct values become `DcompSparseGemm` or `DcompCodebookGemm`, whose
//! payload holds that matrix alone. A runtime that knows these operators keeps the non-zeros, or codes of four bits, in
//! memory, which is less for a product with one vector to wait for. Which of them, or neither, is decided for each
//! matrix by what its product with one vector would take; the costs are options, in picoseconds, measured on one core of
//! an AMD EPYC (Zen 3).
//!
//! Source: Han et al., "EIE: Efficient inference engine on compressed deep neural network", 2016. Cost: that of packing.

use onnx_dcomp_codec::{Layout, Tensor, encode};
use onnx_dcomp_forms::Form;
use onnx_dcomp_ir::{Evidence, GraphIndex, Model, Weight};
use onnx_dcomp_proto::{AttributeProto, NodeProto, TensorProto, attribute_proto, tensor_proto};
use rayon::prelude::*;

use crate::pack::{CoderChoice, DOMAIN, import};
use crate::products::{Product, products};
use crate::registry::Configured;
use crate::selection::{NamePattern, Settings, check_select};
use crate::{Pass, PassError, PassReport, node};

/// The operator whose matrix is held as its non-zeros.
pub const SPARSE: &str = "DcompSparseGemm";

/// The operator whose matrix is held as codes of four bits.
pub const CODEBOOK: &str = "DcompCodebookGemm";

/// Distinct non-zeros that `DcompSparseGemm` can hold in two bytes each, and those that it can hold at all.
const SPARSE_VALUES: [usize; 2] = [16, 256];

/// Distinct values that `DcompCodebookGemm` can hold.
const CODEBOOK_VALUES: usize = 16;

/// Bytes of a matrix that stay in a processor's cache from run to run.
const CACHED_BYTES: usize = 1 << 23;

crate::choices! {
    /// When a product is fused.
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
        /// When a product is fused.
        pub when: When = When::Faster;
        /// How payloads are coded.
        pub coder: CoderChoice = CoderChoice::Auto;
        /// What an element of a dense matrix in memory takes, in picoseconds.
        pub dense: f64 = 180.0, within 0.0..=1e6;
        /// What an element of a dense matrix in a cache takes, in picoseconds.
        pub cached: f64 = 50.0, within 0.0..=1e6;
        /// What a non-zero of a sparse matrix takes, in picoseconds.
        pub nonzero: f64 = 430.0, within 0.0..=1e6;
        /// What an element of a matrix of four-bit codes takes, in picoseconds.
        pub code: f64 = 155.0, within 0.0..=1e6;
        /// Matrices to fuse, by name.
        pub select: NamePattern = NamePattern::all();
    }
}

/// Fuses products with the decoding of their matrix; see [the module](crate::fuse).
pub struct Fuse {
    settings: Settings<FuseOptions>,
}

impl Configured for Fuse {
    type Options = FuseOptions;
    const NAME: &'static str = "fuse";
    const SUMMARY: &'static str = "products with compressed matrices compute on what is compressed";
    const SOURCE: &'static str = "Han et al., EIE, 2016";

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
        let fused: Vec<(Product, Result<Option<Fused>, PassError>)> = products(shared, is_meant)
            .into_par_iter()
            .filter(|product| product.bias.as_ref().is_none_or(|bias| is_vector(shared, bias, product.outputs)))
            .map(|product| {
                let fused = self.fused(shared.weight(product.id), &product, elements);
                (product, fused)
            })
            .collect();
        let mut index = GraphIndex::new(model.graph());
        let mut count = 0;
        // The last first: numbers of the nodes before it stay.
        for (product, fused) in fused.into_iter().rev() {
            let Some(fused) = fused? else { continue };
            product.fuse(model, &mut index, fused);
            count += 1;
        }
        if count > 0 {
            import(&mut model.proto.opset_import);
        }
        report.note(format!("{count} products compute on compressed weights"));
        Ok(report)
    }
}

/// What a product becomes.
struct Fused {
    operator: &'static str,
    payload: Vec<u8>,
}

impl Fuse {
    /// What becomes of the product with `weight`, in a model of `elements`; `None` where it stays what it is.
    fn fused(&self, weight: &Weight, product: &Product, elements: usize) -> Result<Option<Fused>, PassError> {
        let Some(options) = self.settings.for_weight(weight) else { return Ok(None) };
        let Some(operator) = operator(&weight.form, product, &options) else { return Ok(None) };
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

/// The operator for a matrix; `None` where none is suited, or the dense product is expected to be faster.
fn operator(form: &Form, product: &Product, options: &FuseOptions) -> Option<&'static str> {
    if matches!(form, Form::Dense(_)) {
        return None;
    }
    let distinct = form.distinct_values(SPARSE_VALUES[1] + 1)?;
    let values = distinct.iter().filter(|&&value| value != 0.0).count();
    let (elements, nonzeros) = (form.len() as f64, form.nonzeros() as f64);
    let dense = elements * if form.len() * 4 > CACHED_BYTES { options.dense } else { options.cached };
    // A third byte costs about a third more; a row of a panel about as much as a dozen non-zeros.
    let entry = options.nonzero * if values > SPARSE_VALUES[0] { 1.35 } else { 1.0 };
    let panels = product.inputs.div_ceil(4095) as f64;
    let sparse = entry * (nonzeros + 12.0 * panels * product.outputs as f64);
    let codes = elements * options.code;
    let can_be_sparse = values <= SPARSE_VALUES[1];
    let can_be_codes = distinct.len() <= CODEBOOK_VALUES;
    let choices = [(can_be_sparse, SPARSE, sparse), (can_be_codes, CODEBOOK, codes)];
    let best = choices.into_iter().filter(|(can_be, ..)| *can_be).min_by(|a, b| a.2.total_cmp(&b.2))?;
    (options.when == When::Always || best.2 < dense).then_some(best.1)
}

/// Whether `name` is a constant vector of `length` elements of the main graph.
fn is_vector(model: &Model, name: &str, length: usize) -> bool {
    let graph = model.graph();
    let found = graph.initializer.iter().find(|tensor| tensor.name() == name);
    found.is_some_and(|tensor| tensor.dims == [length as i64]) && !model.is_overridable(graph, name)
}

impl Product {
    /// Puts the fused operator in the place of the node, and takes the matrix out.
    fn fuse(&self, model: &mut Model, index: &mut GraphIndex, fused: Fused) {
        let Some(old) = model.graph().node.get(self.node).cloned() else { return };
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
        let transposed = AttributeProto {
            name: Some("transB".into()),
            r#type: Some(attribute_proto::AttributeType::Int as i32),
            i: Some(1),
            ..AttributeProto::default()
        };
        let input = node::input(&old, 0).unwrap_or_default().to_owned();
        let node = NodeProto {
            op_type: Some(fused.operator.into()),
            domain: Some(DOMAIN.into()),
            name: old.name.clone(),
            input: [input, name].into_iter().chain(self.bias.clone()).collect(),
            output: old.output.clone(),
            attribute: if self.has_rows { vec![transposed] } else { Vec::new() },
            ..NodeProto::default()
        };
        if let Some(place) = model.graph_mut().node.get_mut(self.node) {
            *place = node;
        }
        let weight = model.weight_mut(self.id);
        weight.stored_bytes = Some(stored_bytes);
    }
}
