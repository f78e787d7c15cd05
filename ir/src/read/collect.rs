//! Takes the data of every weight out of the message, wherever it lives.

use std::collections::{HashMap, HashSet};

use onnx_dcomp_forms::{Form, Values};
use onnx_dcomp_proto::attribute_proto::AttributeType;
use onnx_dcomp_proto::tensor_proto::DataType;
use onnx_dcomp_proto::{AttributeProto, GraphProto, ModelProto, NodeProto, SparseTensorProto, TensorProto};

use super::{sparse, storage};
use crate::error::TensorProblem;
use crate::graph::{COMPRESSED_DOMAIN, is_constant};
use crate::{IrError, Model, Role, Scope, Source, Weight, WeightId, marker, tensors};

/// Why an overridable weight is left alone.
const OVERRIDABLE: &str = "graph input with a default value";

/// What all sparse tensors of a model may take as dense ones: this, and so many times the model's own size. Those
/// beyond stay as they are, so that a small file cannot ask for all memory.
const SPARSE_BUDGET_BYTES: u64 = 64 << 20;
const SPARSE_BUDGET_RATIO: u64 = 256;

/// Takes the weights out of `proto`, in the order in which a walk over the main graph and the functions meets them.
pub(super) fn collect(proto: &mut ModelProto, source: &Source) -> Result<Vec<Weight>, IrError> {
    let mut collector = Collector {
        file: source.name(),
        may_override: proto.ir_version() >= Model::OVERRIDABLE_IR_VERSION,
        sparse_budget: SPARSE_BUDGET_BYTES.saturating_add(source.total_bytes().saturating_mul(SPARSE_BUDGET_RATIO)),
        table: Vec::new(),
        copies: HashMap::new(),
    };
    if let Some(graph) = &mut proto.graph {
        collector.graph(graph, &Scope::Main)?;
    }
    for function in &mut proto.functions {
        let scope = Scope::Function { domain: function.domain().to_owned(), name: function.name().to_owned() };
        collector.nodes(&mut function.node, &scope)?;
    }
    Ok(collector.table)
}

struct Collector<'a> {
    file: &'a str,
    may_override: bool,
    sparse_budget: u64,
    table: Vec<Weight>,
    /// How many weights asked for a name so far, which makes the next one unique.
    copies: HashMap<String, usize>,
}

impl Collector<'_> {
    fn graph(&mut self, graph: &mut GraphProto, scope: &Scope) -> Result<(), IrError> {
        let inputs: HashSet<&str> = graph.input.iter().map(|input| input.name()).collect();
        let payloads: HashSet<&str> = graph
            .node
            .iter()
            .filter(|node| node.domain() == COMPRESSED_DOMAIN)
            .flat_map(|node| node.input.iter().map(String::as_str))
            .collect();
        for tensor in &mut graph.initializer {
            if payloads.contains(tensor.name()) {
                continue;
            }
            let overridable = self.may_override && inputs.contains(tensor.name());
            let name = tensor.name().to_owned();
            self.tensor(tensor, &name, scope, overridable)?;
        }
        let mut still_sparse = Vec::new();
        for sparse in std::mem::take(&mut graph.sparse_initializer) {
            let name = sparse.values.as_ref().map(|values| values.name().to_owned()).unwrap_or_default();
            let overridable = self.may_override && inputs.contains(name.as_str());
            match self.sparse(&sparse, &name, scope, overridable)? {
                Some(dense) => graph.initializer.push(dense),
                None => still_sparse.push(sparse),
            }
        }
        graph.sparse_initializer = still_sparse;
        self.nodes(&mut graph.node, scope)
    }

    fn nodes(&mut self, nodes: &mut [NodeProto], scope: &Scope) -> Result<(), IrError> {
        for (index, node) in nodes.iter_mut().enumerate() {
            if is_constant(node) {
                let name = node.output.first().cloned().unwrap_or_default();
                for attribute in &mut node.attribute {
                    self.constant(attribute, &name, scope)?;
                }
                continue;
            }
            let label = match (node.name(), tensors::node_label(node)) {
                ("", "") => format!("{}_{index}", node.op_type()),
                ("", label) => label.to_owned(),
                (name, _) => name.to_owned(),
            };
            for attribute in &mut node.attribute {
                let attribute_name = attribute.name.clone().unwrap_or_default();
                for (number, graph) in attribute.g.iter_mut().chain(&mut attribute.graphs).enumerate() {
                    let mut path = format!("{label}.{attribute_name}");
                    if number > 0 {
                        path.push_str(&format!("[{number}]"));
                    }
                    if let Scope::Subgraph(outer) = scope {
                        path = format!("{outer}.{path}");
                    }
                    self.graph(graph, &Scope::Subgraph(path))?;
                }
            }
        }
        Ok(())
    }

    /// The value of a Constant node; `value_floats` and `sparse_value` become `value`, which every version of the
    /// operator has.
    fn constant(&mut self, attribute: &mut AttributeProto, name: &str, scope: &Scope) -> Result<(), IrError> {
        match attribute.name() {
            "value" => {
                if let Some(tensor) = &mut attribute.t {
                    self.tensor(tensor, name, scope, false)?;
                }
            }
            "value_floats" if attribute.floats.len() >= Model::MIN_TABLE_LEN => {
                let mut tensor = TensorProto {
                    dims: vec![attribute.floats.len() as i64],
                    data_type: Some(DataType::Float as i32),
                    float_data: std::mem::take(&mut attribute.floats),
                    ..TensorProto::default()
                };
                self.tensor(&mut tensor, name, scope, false)?;
                become_value(attribute, tensor);
            }
            "sparse_value" => {
                let Some(sparse) = attribute.sparse_tensor.take() else { return Ok(()) };
                match self.sparse(&sparse, name, scope, false)? {
                    Some(dense) => become_value(attribute, TensorProto { name: None, ..dense }),
                    None => attribute.sparse_tensor = Some(sparse),
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Takes the data out of `tensor` where it is a weight.
    fn tensor(
        &mut self,
        tensor: &mut TensorProto,
        name: &str,
        scope: &Scope,
        overridable: bool,
    ) -> Result<(), IrError> {
        let Some(dtype) = tensors::dtype_of(tensor.data_type()) else { return Ok(()) };
        let count = tensors::element_count(&tensor.dims).map_err(|problem| self.problem(name, problem))?;
        if tensor.segment.is_some() || count < Model::MIN_TABLE_LEN {
            return Ok(());
        }
        let values = storage::values(tensor, dtype).map_err(|problem| self.problem(name, problem))?;
        let shape = tensors::shape(&tensor.dims).map_err(|problem| self.problem(name, problem))?;
        let id = self.push(name, scope, shape, values, overridable);
        marker::mark(tensor, id);
        Ok(())
    }

    /// The dense tensor that stands for `sparse`; `None` where that is no weight, or is too large.
    fn sparse(
        &mut self,
        sparse: &SparseTensorProto,
        name: &str,
        scope: &Scope,
        overridable: bool,
    ) -> Result<Option<TensorProto>, IrError> {
        let data_type = sparse.values.as_ref().map(|values| values.data_type()).unwrap_or_default();
        let Some(dtype) = tensors::dtype_of(data_type) else { return Ok(None) };
        let problem = |problem| IrError::Tensor { tensor: name.to_owned(), file: self.file.to_owned(), problem };
        let count = tensors::element_count(&sparse.dims).map_err(problem)?;
        // Weight, original and its form are one buffer.
        let bytes = count as u64 * dtype.element_bytes() as u64;
        if count < Model::MIN_TABLE_LEN || bytes > self.sparse_budget {
            return Ok(None);
        }
        let values = sparse::dense(sparse, dtype).map_err(problem)?;
        let shape = tensors::shape(&sparse.dims).map_err(problem)?;
        self.sparse_budget -= bytes;
        let id = self.push(name, scope, shape, values, overridable);
        let stored = sparse.values.as_ref();
        let mut tensor = TensorProto {
            name: Some(name.to_owned()),
            dims: sparse.dims.clone(),
            data_type: Some(data_type),
            doc_string: stored.and_then(|values| values.doc_string.clone()),
            metadata_props: stored.map(|values| values.metadata_props.clone()).unwrap_or_default(),
            ..TensorProto::default()
        };
        marker::mark(&mut tensor, id);
        Ok(Some(tensor))
    }

    fn push(&mut self, name: &str, scope: &Scope, shape: Vec<usize>, values: Values, overridable: bool) -> WeightId {
        let id = WeightId(self.table.len() as u32);
        let name = self.unique(name);
        self.table.push(Weight {
            name,
            scope: scope.clone(),
            shape,
            role: Role::Other,
            operator: None,
            channel_axis: None,
            form: Form::Dense(values.clone()),
            original: values,
            left_alone: overridable.then(|| OVERRIDABLE.to_owned()),
            overridable,
            stored_bytes: None,
        });
        id
    }

    fn unique(&mut self, name: &str) -> String {
        let name = if name.is_empty() { "unnamed" } else { name };
        let mut candidate = name.to_owned();
        while self.copies.contains_key(&candidate) {
            let copies = self.copies.entry(name.to_owned()).or_insert(1);
            *copies += 1;
            candidate = format!("{name}#{copies}");
        }
        self.copies.insert(candidate.clone(), 1);
        candidate
    }

    fn problem(&self, tensor: &str, problem: TensorProblem) -> IrError {
        let tensor = if tensor.is_empty() { "an unnamed tensor" } else { tensor };
        IrError::Tensor { tensor: tensor.to_owned(), file: self.file.to_owned(), problem }
    }
}

/// Makes `attribute` the attribute `value` of a Constant node.
fn become_value(attribute: &mut AttributeProto, tensor: TensorProto) {
    attribute.name = Some("value".to_owned());
    attribute.set_type(AttributeType::Tensor);
    attribute.t = Some(tensor);
}
