//! Reading and writing single ONNX nodes: their operator, attributes, inputs, and the graphs inside them.

use onnx_dcomp_proto::{AttributeProto, GraphProto, NodeProto};

/// The domain of `node`, the default one as the empty string whichever way it is written.
pub(crate) fn domain(node: &NodeProto) -> &str {
    match node.domain() {
        "ai.onnx" => "",
        other => other,
    }
}

/// The operator of `node` where that is one of the standard domain; the empty string for any other.
pub(crate) fn standard_operator(node: &NodeProto) -> &str {
    if domain(node).is_empty() && node.overload().is_empty() { node.op_type() } else { "" }
}

/// The attribute `name` of `node`, unless it only refers to one of a function's attributes.
pub(crate) fn attribute<'a>(node: &'a NodeProto, name: &str) -> Option<&'a AttributeProto> {
    node.attribute.iter().find(|a| a.name() == name)
}

/// Whether an attribute of `node` takes its value from the function that `node` belongs to.
pub(crate) fn has_references(node: &NodeProto) -> bool {
    node.attribute.iter().any(|a| !a.ref_attr_name().is_empty())
}

/// The integer attribute `name`, or `default` where it is missing.
pub(crate) fn int(node: &NodeProto, name: &str, default: i64) -> i64 {
    attribute(node, name).and_then(|a| a.i).unwrap_or(default)
}

/// The float attribute `name`, or `default` where it is missing.
pub(crate) fn float(node: &NodeProto, name: &str, default: f32) -> f32 {
    attribute(node, name).and_then(|a| a.f).unwrap_or(default)
}

/// The string attribute `name`, or `default` where it is missing or not text.
pub(crate) fn string<'a>(node: &'a NodeProto, name: &str, default: &'a str) -> &'a str {
    attribute(node, name).and_then(|a| a.s.as_deref()).map_or(default, |s| std::str::from_utf8(s).unwrap_or(""))
}

/// The integers of attribute `name`.
pub(crate) fn ints<'a>(node: &'a NodeProto, name: &str) -> Option<&'a [i64]> {
    attribute(node, name).map(|a| a.ints.as_slice())
}

/// Removes the attribute `name`.
pub(crate) fn remove_attribute(node: &mut NodeProto, name: &str) {
    node.attribute.retain(|a| a.name() != name);
}

/// Input `index` of `node`; `None` where it is left out.
pub(crate) fn input(node: &NodeProto, index: usize) -> Option<&str> {
    node.input.get(index).map(String::as_str).filter(|name| !name.is_empty())
}

/// The one output of `node`; `None` where it has several, or none.
pub(crate) fn sole_output(node: &NodeProto) -> Option<&str> {
    let mut named = node.output.iter().filter(|name| !name.is_empty());
    match (node.output.first(), named.next(), named.next()) {
        (Some(first), Some(only), None) if first == only => Some(only),
        _ => None,
    }
}

/// A node of the standard domain.
pub(crate) fn standard(operator: &str, inputs: &[&str], output: &str) -> NodeProto {
    NodeProto {
        op_type: Some(operator.into()),
        input: inputs.iter().map(|&name| name.into()).collect(),
        output: vec![output.into()],
        ..NodeProto::default()
    }
}

/// The graphs inside `node`: the branches of an If, the body of a Loop or a Scan.
pub(crate) fn subgraphs(node: &NodeProto) -> impl Iterator<Item = &GraphProto> {
    node.attribute.iter().flat_map(|a| a.g.iter().chain(&a.graphs))
}

/// The graphs inside `node`, to be changed.
pub(crate) fn subgraphs_mut(node: &mut NodeProto) -> impl Iterator<Item = &mut GraphProto> {
    node.attribute.iter_mut().flat_map(|a| a.g.iter_mut().chain(&mut a.graphs))
}

/// Whether `node` has a graph inside.
pub(crate) fn has_subgraphs(node: &NodeProto) -> bool {
    subgraphs(node).next().is_some()
}

/// Whether running `node` twice on the same inputs gives the same outputs, and has no other effect.
///
/// Operators of domains that are not ONNX's own are not trusted with that.
pub(crate) fn is_pure(node: &NodeProto) -> bool {
    let known = matches!(domain(node), "" | "ai.onnx.ml") && !has_subgraphs(node);
    known
        && !matches!(
            node.op_type(),
            "RandomNormal"
                | "RandomNormalLike"
                | "RandomUniform"
                | "RandomUniformLike"
                | "Multinomial"
                | "Bernoulli"
                | "Dropout"
        )
}
