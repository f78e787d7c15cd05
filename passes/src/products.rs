//! Products of an input and a constant matrix, and convolutions with constant filters, which a pass may compute in
//! another way.

use onnx_dcomp_forms::DType;
use onnx_dcomp_ir::{GraphIndex, Model, Weight, WeightId, marker};
use onnx_dcomp_proto::NodeProto;

use crate::graph_bytes::protected_names;
use crate::node;

/// A `MatMul`, or a plain `Gemm`, whose second input is a matrix of `f32` that nothing else reads.
pub(crate) struct Product {
    /// Its place among the nodes of the main graph.
    pub(crate) node: usize,
    /// The matrix.
    pub(crate) id: WeightId,
    /// Elements that are summed up for an output; not 0.
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
    /// Whether the matrix has a row for each output.
    pub(crate) has_rows: bool,
    /// The name of what a `Gemm` adds.
    pub(crate) bias: Option<String>,
}

/// A `Conv` of one or two dimensions, whose second input are filters of `f32` that nothing else reads.
pub(crate) struct Convolution {
    /// Its place among the nodes of the main graph.
    pub(crate) node: usize,
    /// The filters.
    pub(crate) id: WeightId,
    /// The name of what is added to each channel of the output.
    pub(crate) bias: Option<String>,
}

/// The products of the main graph whose matrix `is_meant`, in the order of their nodes.
pub(crate) fn products(model: &Model, is_meant: impl Fn(&Weight) -> bool) -> Vec<Product> {
    let read =
        |node: &NodeProto, at, id, shape: &[usize]| product(node, at, id, shape).filter(|product| product.inputs > 0);
    on_constants(model, is_meant, read)
}

/// The convolutions of the main graph whose filters `is_meant`, in the order of their nodes.
pub(crate) fn convolutions(model: &Model, is_meant: impl Fn(&Weight) -> bool) -> Vec<Convolution> {
    on_constants(model, is_meant, |node, at, id, shape| {
        node::sole_output(node)?;
        let is_plain = node::standard_operator(node) == "Conv" && !node::has_references(node);
        let bias = node::input(node, 2).map(str::to_owned);
        (is_plain && (3..=4).contains(&shape.len())).then_some(Convolution { node: at, id, bias })
    })
}

/// What `read` makes of the nodes whose second input is a weight of `f32` that `is_meant`, and that nothing else reads.
fn on_constants<T>(
    model: &Model,
    is_meant: impl Fn(&Weight) -> bool,
    read: impl Fn(&NodeProto, usize, WeightId, &[usize]) -> Option<T>,
) -> Vec<T> {
    let graph = model.graph();
    let (index, protected) = (GraphIndex::new(graph), protected_names(&model.proto));
    let fits = |at: usize| {
        let node = graph.node.get(at)?;
        let name = node::input(node, 1)?;
        let is_seen = index.is_captured(name) || index.is_output(name) || protected.contains(name);
        if is_seen || index.consumers(name) != [(at, 1)] || model.is_overridable(graph, name) {
            return None;
        }
        let tensor = graph.initializer.iter().find(|tensor| tensor.name() == name)?;
        let id = marker::weight_of(tensor)?;
        let weight = model.get_weight(id)?;
        (weight.dtype() == DType::F32 && is_meant(weight)).then_some(())?;
        read(node, at, id, &weight.shape)
    };
    (0..graph.node.len()).filter_map(fits).collect()
}

fn product(node: &NodeProto, at: usize, id: WeightId, shape: &[usize]) -> Option<Product> {
    let &[first, second] = shape else { return None };
    node::sole_output(node)?;
    match node::standard_operator(node) {
        "MatMul" => Some(Product { node: at, id, inputs: first, outputs: second, has_rows: false, bias: None }),
        "Gemm" => {
            let is_plain = node::int(node, "transA", 0) == 0
                && node::float(node, "alpha", 1.0) == 1.0
                && node::float(node, "beta", 1.0) == 1.0
                && !node::has_references(node);
            let has_rows = node::int(node, "transB", 0) != 0;
            let (inputs, outputs) = if has_rows { (second, first) } else { (first, second) };
            let bias = node::input(node, 2).map(str::to_owned);
            is_plain.then_some(Product { node: at, id, inputs, outputs, has_rows, bias })
        }
        _ => None,
    }
}
