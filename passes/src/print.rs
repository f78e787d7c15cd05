//! A model as text: what `--print-after` shows.
//!
//! One line for each input, weight, small constant, node and output, in the order of the file:
//!
//! ```text
//! graph g (opset 17)
//!   input %x: float[N,3,32,32]
//!   weight %w: float[16,3,3,3] dense, density 1.00
//!   %y = Conv(%x, %w) {pads=[1,1,1,1]}
//!   output %y: float[N,16,32,32]
//! ```

use std::fmt::{self, Display, Write};

use onnx_dcomp_ir::{Model, marker};
use onnx_dcomp_proto::attribute_proto::AttributeType;
use onnx_dcomp_proto::tensor_proto::DataType;
use onnx_dcomp_proto::tensor_shape_proto::dimension;
use onnx_dcomp_proto::{AttributeProto, FunctionProto, GraphProto, NodeProto, TensorProto, ValueInfoProto, type_proto};

use crate::fold::tensor::Tensor;
use crate::graph_bytes::standard_version;

/// Elements of a list that are shown; the rest is counted.
const SHOWN: usize = 8;

/// The whole of `model` as text, for people and for tests.
pub fn print_model(model: &Model) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write_model(model, &mut text);
    text
}

fn write_model(model: &Model, text: &mut String) -> fmt::Result {
    let graph = model.graph();
    writeln!(text, "graph {} (opset {})", graph.name(), standard_version(&model.proto.opset_import))?;
    write_graph(model, graph, 1, text)?;
    model.proto.functions.iter().try_for_each(|function| write_function(model, function, text))
}

fn write_graph(model: &Model, graph: &GraphProto, depth: usize, text: &mut String) -> fmt::Result {
    let indent = "  ".repeat(depth);
    for input in &graph.input {
        writeln!(text, "{indent}input {}", value(input))?;
    }
    for tensor in &graph.initializer {
        writeln!(text, "{indent}{}", constant(model, tensor))?;
    }
    for node in &graph.node {
        write_node(model, node, depth, text)?;
    }
    for output in &graph.output {
        writeln!(text, "{indent}output {}", value(output))?;
    }
    Ok(())
}

fn write_function(model: &Model, function: &FunctionProto, text: &mut String) -> fmt::Result {
    let inputs = list(&function.input, |name| format!("%{name}"));
    let outputs = list(&function.output, |name| format!("%{name}"));
    writeln!(text, "function {}::{}({inputs}) -> ({outputs})", function.domain(), function.name())?;
    function.node.iter().try_for_each(|node| write_node(model, node, 1, text))
}

fn write_node(model: &Model, node: &NodeProto, depth: usize, text: &mut String) -> fmt::Result {
    let indent = "  ".repeat(depth);
    let name = |name: &String| if name.is_empty() { "_".to_owned() } else { format!("%{name}") };
    let domain = if node.domain().is_empty() { String::new() } else { format!("{}::", node.domain()) };
    write!(text, "{indent}{} = {domain}{}({})", list(&node.output, name), node.op_type(), list(&node.input, name))?;
    let plain: Vec<String> = node.attribute.iter().filter(|a| a.g.is_none()).map(|a| attribute(model, a)).collect();
    writeln!(text, "{}", if plain.is_empty() { String::new() } else { format!(" {{{}}}", plain.join(", ")) })?;
    for inner in node.attribute.iter().filter(|a| a.g.is_some()) {
        writeln!(text, "{indent}  {}:", inner.name())?;
        inner.g.iter().try_for_each(|graph| write_graph(model, graph, depth + 2, text))?;
    }
    Ok(())
}

fn list<T>(items: &[T], show: impl Fn(&T) -> String) -> String {
    items.iter().map(show).collect::<Vec<_>>().join(", ")
}

fn numbers<T: Display>(items: &[T]) -> String {
    let shown: Vec<String> = items.iter().take(SHOWN).map(ToString::to_string).collect();
    let rest = items.len().saturating_sub(SHOWN);
    if rest > 0 { format!("[{},… {rest} more]", shown.join(",")) } else { format!("[{}]", shown.join(",")) }
}

fn type_name(element: i32) -> String {
    DataType::try_from(element).map_or_else(|_| element.to_string(), |e| e.as_str_name().to_lowercase())
}

fn value(info: &ValueInfoProto) -> String {
    let Some(type_proto::Value::TensorType(tensor)) = info.r#type.as_ref().and_then(|t| t.value.as_ref()) else {
        return format!("%{}", info.name());
    };
    let dims = tensor.shape.as_ref().map_or_else(String::new, |shape| {
        let dims = shape.dim.iter().map(|dim| match &dim.value {
            Some(dimension::Value::DimValue(length)) => length.to_string(),
            Some(dimension::Value::DimParam(name)) => name.clone(),
            None => "?".to_owned(),
        });
        format!("[{}]", dims.collect::<Vec<_>>().join(","))
    });
    format!("%{}: {}{dims}", info.name(), type_name(tensor.elem_type()))
}

fn constant(model: &Model, tensor: &TensorProto) -> String {
    let head = format!("%{}: {}{}", tensor.name(), type_name(tensor.data_type()), numbers(&tensor.dims));
    match marker::weight_of(tensor).and_then(|id| model.get_weight(id)) {
        Some(weight) => {
            format!("weight {head} {}, density {:.2}", weight.form.kind().name(), weight.form.density())
        }
        None => format!("constant {head}{}", content(model, tensor)),
    }
}

fn content(model: &Model, tensor: &TensorProto) -> String {
    let values = Tensor::read(model, tensor).and_then(|t| match t.ints() {
        Some(values) => Some(numbers(&values)),
        None => t.floats().map(|values| numbers(&values)),
    });
    values.map_or_else(String::new, |values| format!(" = {values}"))
}

fn attribute(model: &Model, attribute: &AttributeProto) -> String {
    if !attribute.ref_attr_name().is_empty() {
        return format!("{}=@{}", attribute.name(), attribute.ref_attr_name());
    }
    let value = match attribute.r#type() {
        AttributeType::Int => attribute.i().to_string(),
        AttributeType::Float => attribute.f().to_string(),
        AttributeType::String => format!("{:?}", String::from_utf8_lossy(attribute.s())),
        AttributeType::Ints => numbers(&attribute.ints),
        AttributeType::Floats => numbers(&attribute.floats),
        AttributeType::Tensor => attribute.t.as_ref().map_or_else(String::new, |tensor| {
            format!("{}{}{}", type_name(tensor.data_type()), numbers(&tensor.dims), content(model, tensor))
        }),
        other => other.as_str_name().to_lowercase(),
    };
    format!("{}={value}", attribute.name())
}
