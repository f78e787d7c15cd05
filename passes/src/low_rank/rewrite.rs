//! A layer becomes two thin ones, and a sparse one beside them.
//!
//! | before | after |
//! |---|---|
//! | Conv with `W` | Conv with `V`, as `W` was; Conv 1x1 with `U`, and the bias |
//! | Gemm with `W` | Gemm with `V`; Gemm with `U`, and the bias |
//! | MatMul with `W` on the right | MatMul with `V`; MatMul with `U` |
//!
//! Where there is a sparse part, the same operator with `S` reads the same input, and an Add puts both together. The
//! result keeps its name.

use std::collections::HashSet;

use ndarray::Array2;
use onnx_dcomp_forms::{DType, Form, Sparse, Values};
use onnx_dcomp_ir::{GraphIndex, Model, Role, WeightId, marker};
use onnx_dcomp_proto::attribute_proto::AttributeType;
use onnx_dcomp_proto::{AttributeProto, GraphProto, NodeProto};

use crate::graph_bytes::{protected_names, standard_version};
use crate::node;

/// The first version of the standard operators in which a Gemm needs no third input.
const GEMM_WITHOUT_BIAS: i64 = 11;

/// A layer whose kernel can be taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Number of the node in the main graph.
    pub node: usize,
    /// Name of the kernel's tensor.
    tensor: String,
    kind: Kind,
    shape: Vec<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Conv,
    /// With `transB`: a row for each output.
    GemmOfRows,
    Gemm,
    MatMul,
}

/// What stands for a kernel of `m` rows, one for each output, and `n` columns.
#[derive(Debug, Clone)]
pub struct Factors {
    /// `U`, `m` by the rank.
    pub left: Array2<f64>,
    /// `V`, the rank by `n`.
    pub right: Array2<f64>,
    /// `S`, `m` by `n`; `None` where it is empty.
    pub sparse: Option<Array2<f64>>,
}

/// The layers of the main graph.
pub struct Layers<'m> {
    model: &'m Model,
    index: GraphIndex,
    protected: HashSet<String>,
    opset: i64,
}

impl<'m> Layers<'m> {
    /// Of `model`.
    pub fn new(model: &'m Model) -> Self {
        Self {
            model,
            index: GraphIndex::new(model.graph()),
            protected: protected_names(&model.proto),
            opset: standard_version(&model.proto.opset_import),
        }
    }

    /// The layer whose kernel is the weight `id`.
    ///
    /// # Errors
    /// Why there is none that can be taken apart, in words.
    pub fn of(&self, id: WeightId) -> Result<Layer, &'static str> {
        let graph = self.model.graph();
        let tensor = graph.initializer.iter().find(|tensor| marker::weight_of(tensor) == Some(id));
        let tensor = tensor.ok_or("not an initializer of the main graph")?.name();
        let is_seen = self.index.is_captured(tensor) || self.index.is_output(tensor) || self.protected.contains(tensor);
        if is_seen || self.model.weight(id).overridable {
            return Err("not read by its layer alone");
        }
        let &[(at, 1)] = self.index.consumers(tensor) else { return Err("not read by one layer alone") };
        let node = graph.node.get(at).ok_or("not read by one layer alone")?;
        let shape = &self.model.weight(id).shape;
        let kind = kind(node, shape.len(), self.opset)?;
        if node::has_references(node) || node::sole_output(node).is_none() {
            return Err("its layer is not one that can be taken apart");
        }
        let layer = Layer { node: at, tensor: tensor.to_owned(), kind, shape: shape.clone() };
        let [rows, columns] = layer.size();
        if rows.min(columns) < 2 { Err("a single row or column") } else { Ok(layer) }
    }
}

fn kind(node: &NodeProto, axes: usize, opset: i64) -> Result<Kind, &'static str> {
    match (node::standard_operator(node), axes) {
        ("Conv", 3..) if node::int(node, "group", 1) != 1 => Err("a convolution in groups"),
        ("Conv", 3..) => Ok(Kind::Conv),
        ("Gemm", 2) if opset < GEMM_WITHOUT_BIAS => Err("a Gemm of an operator set below 11, which needs a bias"),
        ("Gemm", 2) if node::int(node, "transA", 0) != 0 => Err("a Gemm whose input is transposed"),
        ("Gemm", 2) if node::int(node, "transB", 0) != 0 => Ok(Kind::GemmOfRows),
        ("Gemm", 2) => Ok(Kind::Gemm),
        ("MatMul", 2) => Ok(Kind::MatMul),
        _ => Err("its layer is not one that can be taken apart"),
    }
}

impl Layer {
    /// Rows and columns of the kernel, a row for each output.
    pub fn size(&self) -> [usize; 2] {
        let (first, rest) = (self.shape.first().copied().unwrap_or(0), self.shape.iter().skip(1).product());
        if self.has_rows() { [first, rest] } else { [rest, first] }
    }

    /// The kernel's `values` with a row for each output.
    pub fn matrix(&self, values: &Values) -> Array2<f64> {
        let [rows, columns] = self.size();
        let values: Vec<f64> = values.iter().map(f64::from).collect();
        let at = |(row, column)| if self.has_rows() { row * columns + column } else { column * rows + row };
        Array2::from_shape_fn((rows, columns), |place| values.get(at(place)).copied().unwrap_or_default())
    }

    /// `matrix` in the order of the kernel's elements.
    pub fn values(&self, dtype: DType, matrix: &Array2<f64>) -> Values {
        if self.has_rows() { stored(dtype, matrix) } else { stored(dtype, &matrix.t().to_owned()) }
    }

    fn has_rows(&self) -> bool {
        matches!(self.kind, Kind::Conv | Kind::GemmOfRows)
    }

    /// Operators, beyond the one there is, that `factors` take.
    pub fn further_operators(has_sparse: bool) -> usize {
        if has_sparse { 3 } else { 1 }
    }

    /// Puts `factors` in the place of the kernel.
    ///
    /// Numbers of nodes behind this layer's change: of several layers the last goes first.
    pub fn replace(&self, model: &mut Model, factors: &Factors) {
        let Some(id) = weight_of(model, &self.tensor) else { return };
        let old_kernel = model.weight(id).clone();
        let dtype = old_kernel.dtype();
        let mut names = Names::of(model.graph());
        let mut add =
            |model: &mut Model, suffix: &str, shape: &[usize], values: Values, place: (Role, Option<usize>)| {
                let name = names.fresh(&format!("{}.{suffix}", self.tensor));
                let id = model.add_weight(&name, shape, values, place.0, place.1);
                let for_people = unique_weight_name(model, id, &format!("{}.{suffix}", old_kernel.name));
                let weight = model.weight_mut(id);
                (weight.name, weight.operator) = (for_people, old_kernel.operator.clone());
                (name, id)
            };
        let rank = factors.left.ncols();
        let [rows, columns] = self.size();
        let plain = |matrix: &Array2<f64>| stored(dtype, matrix);
        let turned = |matrix: &Array2<f64>| stored(dtype, &matrix.t().to_owned());
        let (place, first, second, right, left) = match self.kind {
            Kind::Conv => {
                let (mut first, mut second) = (self.shape.clone(), vec![1; self.shape.len()]);
                (first[0], second[0], second[1]) = (rank, rows, rank);
                ((Role::Conv, Some(0)), first, second, plain(&factors.right), plain(&factors.left))
            }
            // Rows one after the other suit the quantiser, whichever way the kernel lay.
            Kind::Gemm | Kind::GemmOfRows => {
                let (first, second) = (vec![rank, columns], vec![rows, rank]);
                ((Role::Gemm, Some(0)), first, second, plain(&factors.right), plain(&factors.left))
            }
            Kind::MatMul => {
                let (first, second) = (vec![columns, rank], vec![rank, rows]);
                ((Role::MatMul, Some(1)), first, second, turned(&factors.right), turned(&factors.left))
            }
        };
        let (right, _) = add(model, "v", &first, right, place);
        let (left, _) = add(model, "u", &second, left, place);
        let sparse = factors.sparse.as_ref().map(|sparse| {
            let values = self.values(dtype, sparse);
            let form = Form::Sparse(Sparse::from_dense(&values));
            let (name, id) = add(model, "s", &self.shape, values, (old_kernel.role, old_kernel.channel_axis));
            model.weight_mut(id).form = form;
            name
        });
        let Some(old) = model.graph().node.get(self.node).cloned() else { return };
        let output = old.output.first().cloned().unwrap_or_default();
        let mut fresh = |suffix: &str| names.fresh(&format!("{output}.{suffix}"));
        let between = fresh("v");
        let sum = sparse.map(|kernel| (kernel, fresh("u"), fresh("s")));
        let product = sum.as_ref().map_or(&output, |(_, product, _)| product);
        let mut new = vec![self.first(&old, &right, &between), self.second(old.clone(), &left, &between, product)];
        if let Some((kernel, product, beside)) = &sum {
            new.push(self.beside(&old, kernel, beside));
            new.push(node::standard("Add", &[product, beside], &output));
        }
        model.graph_mut().node.splice(self.node..=self.node, new);
        model.remove_initializer(&self.tensor);
        model.remove_unreferenced();
    }

    /// `V` on the input of `old`.
    fn first(&self, old: &NodeProto, kernel: &str, output: &str) -> NodeProto {
        let mut new = node::standard(old.op_type(), &[&old.input[0], kernel], output);
        match self.kind {
            Kind::Conv => new.attribute = old.attribute.clone(),
            Kind::GemmOfRows | Kind::Gemm => new.attribute = vec![transposed()],
            Kind::MatMul => {}
        }
        new
    }

    /// `U` on what `V` gives, and all else that `old` did.
    fn second(&self, mut old: NodeProto, kernel: &str, input: &str, output: &str) -> NodeProto {
        (old.input[0], old.input[1], old.output[0]) = (input.to_owned(), kernel.to_owned(), output.to_owned());
        match self.kind {
            Kind::Conv => old.attribute.clear(),
            Kind::GemmOfRows | Kind::Gemm => {
                node::remove_attribute(&mut old, "transB");
                old.attribute.push(transposed());
            }
            Kind::MatMul => {}
        }
        old
    }

    /// `S` on the input of `old`.
    fn beside(&self, old: &NodeProto, kernel: &str, output: &str) -> NodeProto {
        let mut new = node::standard(old.op_type(), &[&old.input[0], kernel], output);
        new.attribute = old.attribute.iter().filter(|attribute| attribute.name() != "beta").cloned().collect();
        new
    }
}

fn transposed() -> AttributeProto {
    AttributeProto {
        name: Some("transB".to_owned()),
        r#type: Some(AttributeType::Int as i32),
        i: Some(1),
        ..AttributeProto::default()
    }
}

/// The elements of `matrix`, row after row, in the type of the kernel.
fn stored(dtype: DType, matrix: &Array2<f64>) -> Values {
    let values: Vec<f32> = matrix.iter().map(|&value| value as f32).collect();
    Values::from_f32(dtype, &values)
}

/// The weight whose initializer is `tensor`.
fn weight_of(model: &Model, tensor: &str) -> Option<WeightId> {
    let found = model.graph().initializer.iter().find(|initializer| initializer.name() == tensor)?;
    marker::weight_of(found)
}

/// `wanted`, or `wanted` with a number where another weight than `id` is called so.
fn unique_weight_name(model: &Model, id: WeightId, wanted: &str) -> String {
    let is_free = |name: &str| model.weight_named(name).is_none_or(|other| other == id);
    let numbered = (2..).map(|number| format!("{wanted}#{number}"));
    std::iter::once(wanted.to_owned()).chain(numbered).find(|name| is_free(name)).unwrap_or_default()
}

/// Names that are taken, those of declarations without a definition included.
struct Names {
    index: GraphIndex,
    declared: HashSet<String>,
}

impl Names {
    fn of(graph: &GraphProto) -> Self {
        let declared = graph.value_info.iter().map(|info| info.name().to_owned()).collect();
        Self { index: GraphIndex::new(graph), declared }
    }

    fn fresh(&mut self, wanted: &str) -> String {
        loop {
            let name = self.index.unique_name(wanted);
            if !self.declared.contains(&name) {
                return name;
            }
        }
    }
}
