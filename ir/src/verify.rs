//! Whether a model is sound: what every pass must leave behind.

use std::collections::HashSet;

use onnx_dcomp_proto::{FunctionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto};

use crate::error::shape_text;
use crate::graph::{sparse_name, subgraphs};
use crate::read::storage;
use crate::{IrError, Model, marker, tensors};

/// From this IR version on a model says which operator sets it uses.
const OPERATOR_SET_IR_VERSION: i64 = 3;

impl Model {
    /// Whether the model is sound: every name is defined once, before it is read; every node names an operator of an
    /// imported set; tensors have as much data as their shape asks for; every marker leads to a weight of the tensor's
    /// shape and type; forms fit their weights; old IR versions declare their initializers as inputs.
    ///
    /// A weak form of what `onnx.checker` looks at: attributes and types of operators are not checked.
    ///
    /// # Errors
    /// [`IrError::Unsound`] that names the place and the rule.
    pub fn verify(&self) -> Result<(), IrError> {
        for (_, weight) in self.weights() {
            let place = || format!("weight `{}`", weight.name);
            let elements = weight.shape.iter().try_fold(1usize, |count, &length| count.checked_mul(length));
            let sound = elements == Some(weight.len())
                && weight.form.len() == weight.len()
                && weight.form.dtype() == weight.dtype()
                && weight.channel_axis.is_none_or(|axis| axis < weight.shape.len());
            if !sound {
                let shape = shape_text(&weight.shape);
                let (form, len) = (weight.form.len(), weight.len());
                return unsound(place(), format!("shape {shape}, {len} elements and a form of {form} do not agree"));
            }
        }
        let Some(graph) = &self.proto.graph else { return unsound("model".to_owned(), "it has no graph".to_owned()) };
        let checker = Checker { model: self, proto: &self.proto };
        let imports = Imports::of(&self.proto, &self.proto.opset_import);
        checker.graph(graph, "graph", &imports, &HashSet::new())?;
        checker.inputs_of_old_versions(graph)?;
        let mut functions = HashSet::new();
        for function in &self.proto.functions {
            if !functions.insert((function.domain(), function.name(), function.overload())) {
                let place = format!("function `{}`", function.name());
                return unsound(place, "another function has the same domain and name".to_owned());
            }
            checker.function(function)?;
        }
        Ok(())
    }
}

fn unsound<T>(place: String, problem: String) -> Result<T, IrError> {
    Err(IrError::Unsound { place, problem })
}

/// The domains whose operators may be used; `None` where the model is too old to say.
struct Imports<'a>(Option<HashSet<&'a str>>);

impl<'a> Imports<'a> {
    fn of(proto: &ModelProto, imports: &'a [OperatorSetIdProto]) -> Self {
        let domains = || imports.iter().map(|import| short_domain(import.domain())).collect();
        Self((proto.ir_version() >= OPERATOR_SET_IR_VERSION).then(domains))
    }

    fn allows(&self, domain: &str) -> bool {
        self.0.as_ref().is_none_or(|domains| domains.contains(short_domain(domain)))
    }
}

/// ONNX' own domain has two names.
fn short_domain(domain: &str) -> &str {
    if domain == "ai.onnx" { "" } else { domain }
}

struct Checker<'a> {
    model: &'a Model,
    proto: &'a ModelProto,
}

impl<'a> Checker<'a> {
    /// `outer`: the names that the graphs around this one define before its node.
    fn graph(
        &self,
        graph: &'a GraphProto,
        place: &str,
        imports: &Imports,
        outer: &HashSet<&'a str>,
    ) -> Result<(), IrError> {
        let mut defined = HashSet::new();
        for input in &graph.input {
            if input.name().is_empty() {
                return unsound(place.to_owned(), "an input has no name".to_owned());
            }
            if !defined.insert(input.name()) {
                return unsound(format!("{place}, input `{}`", input.name()), "it is declared twice".to_owned());
            }
        }
        let mut initialized = HashSet::new();
        let dense = graph.initializer.iter().map(|tensor| tensor.name());
        for name in dense.chain(graph.sparse_initializer.iter().map(sparse_name)) {
            if name.is_empty() {
                return unsound(place.to_owned(), "an initializer has no name".to_owned());
            }
            if !initialized.insert(name) {
                return unsound(format!("{place}, initializer `{name}`"), "it is defined twice".to_owned());
            }
        }
        for tensor in &graph.initializer {
            self.tensor(tensor, tensor.name())?;
        }
        defined.extend(initialized);
        self.nodes(&graph.node, place, imports, &mut defined, outer)?;
        for output in &graph.output {
            let name = output.name();
            if !defined.contains(name) && !outer.contains(name) {
                return unsound(format!("{place}, output `{name}`"), "nothing defines it".to_owned());
            }
        }
        Ok(())
    }

    fn function(&self, function: &'a FunctionProto) -> Result<(), IrError> {
        let place = format!("function `{}`", function.name());
        // A function that imports nothing uses what the model imports.
        let own = if function.opset_import.is_empty() { &self.proto.opset_import } else { &function.opset_import };
        let imports = Imports::of(self.proto, own);
        let mut defined: HashSet<&str> = function.input.iter().map(String::as_str).collect();
        self.nodes(&function.node, &place, &imports, &mut defined, &HashSet::new())?;
        for name in &function.output {
            if !defined.contains(name.as_str()) {
                return unsound(format!("{place}, output `{name}`"), "nothing defines it".to_owned());
            }
        }
        Ok(())
    }

    fn nodes(
        &self,
        nodes: &'a [NodeProto],
        place: &str,
        imports: &Imports,
        defined: &mut HashSet<&'a str>,
        outer: &HashSet<&'a str>,
    ) -> Result<(), IrError> {
        for (index, node) in nodes.iter().enumerate() {
            let here = || {
                let label = if node.name().is_empty() { tensors::node_label(node) } else { node.name() };
                format!("{place}, node {index} `{label}` ({})", node.op_type())
            };
            if node.op_type().is_empty() {
                return unsound(here(), "it names no operator".to_owned());
            }
            if !imports.allows(node.domain()) {
                return unsound(here(), format!("the operator set of domain `{}` is not imported", node.domain()));
            }
            let unknown =
                |name: &&String| !name.is_empty() && !defined.contains(name.as_str()) && !outer.contains(name.as_str());
            if let Some(name) = node.input.iter().find(unknown) {
                return unsound(here(), format!("its input `{name}` is not defined before it"));
            }
            for attribute in &node.attribute {
                attribute
                    .t
                    .iter()
                    .chain(&attribute.tensors)
                    .try_for_each(|tensor| self.tensor(tensor, tensors::label(tensor, tensors::node_label(node))))?;
            }
            let mut around = None;
            for subgraph in subgraphs(node) {
                let around = around.get_or_insert_with(|| outer.union(defined).copied().collect());
                self.graph(subgraph, &format!("{}, subgraph `{}`", here(), subgraph.name()), imports, around)?;
            }
            for name in node.output.iter().filter(|name| !name.is_empty()) {
                if !defined.insert(name) {
                    return unsound(here(), format!("its output `{name}` is defined twice"));
                }
            }
        }
        Ok(())
    }

    fn tensor(&self, tensor: &TensorProto, name: &str) -> Result<(), IrError> {
        let place = || format!("tensor `{name}`");
        if !marker::is_marked(tensor) {
            return self.plain_tensor(tensor).map_err(|problem| IrError::Unsound { place: place(), problem });
        }
        let Some(weight) = marker::weight_of(tensor).and_then(|id| self.model.get_weight(id)) else {
            return unsound(place(), "its marker leads to no weight".to_owned());
        };
        let same_shape = tensors::shape(&tensor.dims).is_ok_and(|shape| shape == weight.shape);
        if !same_shape || tensor.data_type() != tensors::data_type_of(weight.dtype()) {
            let found = format!("{} of data type {}", shape_text(&tensor.dims), tensor.data_type());
            let wanted = format!("{} of {}", shape_text(&weight.shape), weight.dtype());
            return unsound(place(), format!("it is {found}, its weight `{}` is {wanted}", weight.name));
        }
        if tensor.external_data.len() > 1 || tensor.raw_data.is_some() || !tensor.float_data.is_empty() {
            return unsound(place(), "it has both a marker and data of its own".to_owned());
        }
        Ok(())
    }

    /// Tensors that are no weights must have as many elements as their shape asks for.
    fn plain_tensor(&self, tensor: &TensorProto) -> Result<(), String> {
        let count = tensors::element_count(&tensor.dims).map_err(|problem| problem.to_string())?;
        if tensor.segment.is_some() {
            return Ok(());
        }
        if let (Some(raw), Some(bits)) = (&tensor.raw_data, tensors::element_bits(tensor.data_type()))
            && !raw.is_empty()
        {
            let needed = (count as u128 * bits as u128).div_ceil(8);
            let shape = || shape_text(&tensor.dims);
            let problem = || format!("shape {} needs {needed} bytes of raw data, found {}", shape(), raw.len());
            return if raw.len() as u128 == needed { Ok(()) } else { Err(problem()) };
        }
        let read = match tensors::dtype_of(tensor.data_type()) {
            Some(dtype) => storage::values(tensor, dtype).map(drop),
            None => storage::integers(tensor).map(drop),
        };
        read.map_err(|problem| problem.to_string())
    }

    fn inputs_of_old_versions(&self, graph: &GraphProto) -> Result<(), IrError> {
        if self.proto.ir_version() >= Model::OVERRIDABLE_IR_VERSION {
            return Ok(());
        }
        let inputs: HashSet<&str> = graph.input.iter().map(|input| input.name()).collect();
        let undeclared = graph.initializer.iter().find(|tensor| !inputs.contains(tensor.name()));
        undeclared.map_or(Ok(()), |tensor| {
            let version = self.proto.ir_version();
            unsound(
                format!("initializer `{}`", tensor.name()),
                format!("IR version {version} wants every initializer among the graph's inputs"),
            )
        })
    }
}
