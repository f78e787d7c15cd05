//! Nodes that do nothing, and nodes that a shorter one replaces.

use std::collections::{HashMap, HashSet};

use onnx_dcomp_ir::Role;
use onnx_dcomp_proto::{GraphProto, Message, NodeProto};

use super::dim::{Dim, known_product};
use super::evaluate::{self, SliceRanges};
use super::knowledge::Knowledge;
use super::store::Store;
use super::tensor::Tensor;
use super::uses::Uses;
use crate::node;

/// Turns what is constant and still computed into initializers, where that is shorter; returns how many.
///
/// The computations themselves are left to die as dead code.
pub(crate) fn store_constants(
    graph: &mut GraphProto,
    store: &mut Store,
    knowledge: &Knowledge,
    protected: &HashSet<String>,
) -> usize {
    let uses = Uses::of(graph, protected);
    let outputs: HashSet<&str> = graph.output.iter().map(|o| o.name()).collect();
    let is_computed = |node: &NodeProto| {
        let name = node::sole_output(node).filter(|name| !outputs.contains(name))?;
        knowledge.constants.get(name).filter(|constant| !constant.stored)
    };
    let mut wanted: HashSet<String> = HashSet::new();
    for reader in graph.node.iter().filter(|node| is_computed(node).is_none()) {
        wanted.extend(reader.input.iter().cloned());
    }
    let mut found = Vec::new();
    for (index, node) in graph.node.iter().enumerate() {
        let (Some(constant), Some(name)) = (is_computed(node), node::sole_output(node)) else { continue };
        let is_read = wanted.contains(name) || uses.is_pinned(name);
        let length = constant.tensor.write(name).encoded_len();
        if is_read && length <= constant.cost {
            found.push((index, name.to_owned(), constant.tensor.clone()));
        }
    }
    let count = found.len();
    let removed: HashSet<usize> = found.iter().map(|(index, ..)| *index).collect();
    let mut index = 0;
    graph.node.retain(|_| {
        index += 1;
        !removed.contains(&(index - 1))
    });
    for (_, name, tensor) in found {
        let (role, channel_axis) = role_of(graph, &name);
        let channel_axis = channel_axis.filter(|&axis| axis < tensor.dims.len());
        store.add(graph, &name, &tensor, role, channel_axis);
    }
    count
}

/// What the first node that reads `name` does with it, and the axis of its output channels.
fn role_of(graph: &GraphProto, name: &str) -> (Role, Option<usize>) {
    let reads = |node: &NodeProto| node.input.iter().position(|input| input == name);
    let Some((node, position)) = graph.node.iter().find_map(|node| Some((node, reads(node)?))) else {
        return (Role::Other, None);
    };
    match (node::standard_operator(node), position) {
        ("Conv", 1) => (Role::Conv, Some(0)),
        ("ConvTranspose", 1) => (Role::ConvTranspose, Some(1)),
        ("Gemm", 1) => (Role::Gemm, Some(usize::from(node::int(node, "transB", 0) == 0))),
        ("MatMul", 1) => (Role::MatMul, Some(1)),
        ("Gather", 0) => (Role::Embedding, Some(0)),
        ("Conv" | "ConvTranspose" | "Gemm", 2) => (Role::Bias, Some(0)),
        ("PRelu", 1) => (Role::Activation, Some(0)),
        _ => (Role::Other, None),
    }
}

/// Removes nodes that return their input as it is; returns how many.
pub(crate) fn remove_no_ops(graph: &mut GraphProto, knowledge: &Knowledge, protected: &HashSet<String>) -> usize {
    let uses = Uses::of(graph, protected);
    let outputs: HashSet<String> = graph.output.iter().map(|o| o.name().to_owned()).collect();
    let mut alias: HashMap<String, String> = HashMap::new();
    let mut removed = 0;
    let mut nodes = std::mem::take(&mut graph.node);
    nodes.retain(|node| {
        let Some(output) = node.output.first().filter(|_| is_no_op(node, knowledge, &uses)) else { return true };
        let source = resolve(&alias, &node.input[0]).to_owned();
        if !uses.is_pinned(output) {
            alias.insert(output.clone(), source);
        } else if outputs.contains(output)
            && !protected.contains(output)
            && uses.producer(&node.input[0]).is_some()
            && uses.producer(&source).is_some()
            && !uses.is_pinned(&source)
            && !uses.is_pinned(&node.input[0])
        {
            alias.insert(source, output.clone());
        } else {
            return true;
        }
        removed += 1;
        false
    });
    for node in &mut nodes {
        for name in node.input.iter_mut().chain(&mut node.output) {
            let target = resolve(&alias, name);
            if target != name {
                *name = target.to_owned();
            }
        }
    }
    graph.node = nodes;
    removed
}

fn resolve<'a>(alias: &'a HashMap<String, String>, mut name: &'a str) -> &'a str {
    while let Some(target) = alias.get(name) {
        name = target;
    }
    name
}

fn is_no_op(node: &NodeProto, knowledge: &Knowledge, uses: &Uses) -> bool {
    let Some(input) = node::input(node, 0) else { return false };
    if node::has_references(node) {
        return false;
    }
    let others_unused =
        node.output.iter().skip(1).all(|name| name.is_empty() || (uses.reads(name) == 0 && !uses.is_pinned(name)));
    let Some(output) = node.output.first().filter(|name| !name.is_empty() && others_unused) else { return false };
    let same_shape = || match (knowledge.dims(input), knowledge.dims(output)) {
        (Some(a), Some(b)) => a == b,
        _ => false,
    };
    match node::standard_operator(node) {
        "Identity" => true,
        "Dropout" => {
            let training = match node::input(node, 2) {
                Some(name) => knowledge.ints(name).is_none_or(|v| v != [0]),
                None => false,
            };
            !training && (knowledge.opset >= 7 || node::int(node, "is_test", 0) == 1)
        }
        "Cast" => {
            let element = knowledge.fact(input).element;
            element.is_some_and(|element| i64::from(element as i32) == node::int(node, "to", 0))
        }
        "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" | "Expand" => same_shape(),
        "Transpose" => node::ints(node, "perm").is_some_and(|order| order.iter().copied().eq(0..order.len() as i64)),
        "Concat" | "Sum" | "Max" | "Min" | "Mean" => node.input.len() == 1,
        "Pad" => match node::ints(node, "pads") {
            Some(pads) => pads.iter().all(|&pad| pad == 0),
            None => knowledge.optional_ints(node, 1).flatten().is_some_and(|pads| pads.iter().all(|&pad| pad == 0)),
        },
        "Slice" => match SliceRanges::read(node, |index| knowledge.optional_ints(node, index)) {
            Some(ranges) => {
                let whole = |i: usize| ranges.starts[i] == 0 && ranges.ends[i] == i64::MAX && ranges.steps[i] == 1;
                (0..ranges.axes.len()).all(whole) || (ranges.steps.iter().all(|&s| s == 1) && same_shape())
            }
            None => false,
        },
        _ => false,
    }
}

/// Gives Reshape nodes constant targets, or makes them Flatten; returns how many changed.
pub(crate) fn shorten_reshapes(graph: &mut GraphProto, store: &mut Store, knowledge: &Knowledge) -> usize {
    let mut changed = 0;
    for index in 0..graph.node.len() {
        let node = &graph.node[index];
        if node::standard_operator(node) != "Reshape" || node::has_references(node) {
            continue;
        }
        let (Some(x), Some(target)) = (node::input(node, 0), node::input(node, 1)) else { continue };
        let dims = knowledge.dims(x);
        if let Some(dims) = dims
            && let Some(values) = knowledge.ints(target)
            && flattens(dims, &values, node::int(node, "allowzero", 0) != 0)
            && knowledge.opset >= 9
        {
            let node = &mut graph.node[index];
            node.op_type = Some("Flatten".into());
            node.input.truncate(1);
            node.attribute.clear();
            changed += 1;
        } else if !knowledge.constants.contains_key(target)
            && let Some(contents) = knowledge.contents(target)
            && let Some(values) = constant_target(dims, contents, node::int(node, "allowzero", 0) != 0)
        {
            let name = store.fresh_name(target);
            store.add(graph, &name, &Tensor::vector(&values), Role::Other, None);
            graph.node[index].input[1] = name;
            changed += 1;
        }
    }
    changed
}

/// Whether reshaping `dims` to `target` is what Flatten with axis 1 does.
fn flattens(dims: &[Dim], target: &[i64], zero_is_zero: bool) -> bool {
    let Some((first, rest)) = dims.split_first() else { return false };
    let rest = known_product(rest).and_then(|product| i64::try_from(product).ok());
    let keeps_first = |v: i64| (v == 0 && !zero_is_zero) || first.known().is_some_and(|f| i64::try_from(f) == Ok(v));
    match *target {
        [a, -1] => keeps_first(a),
        [a, b] => (keeps_first(a) || a == -1) && b > 0 && rest == Some(b),
        _ => false,
    }
}

/// A constant target for reshaping `dims` to `contents`, which partly depends on the input.
fn constant_target(dims: Option<&[Dim]>, contents: &[Dim], zero_is_zero: bool) -> Option<Vec<i64>> {
    let mut open = 0;
    let values = contents.iter().enumerate().map(|(index, &dim)| match dim {
        Dim::Known(length) => i64::try_from(length).ok(),
        Dim::Symbol(_) if !zero_is_zero && dims.and_then(|d| d.get(index)) == Some(&dim) => Some(0),
        Dim::Symbol(_) => {
            open += 1;
            Some(-1)
        }
    });
    let values = values.collect::<Option<Vec<_>>>()?;
    (open <= 1).then_some(values)
}

/// Joins a Slice with the Slice that reads it, and leaves out inputs that say what is the default anyway; returns how
/// many nodes changed.
pub(crate) fn shorten_slices(
    graph: &mut GraphProto,
    store: &mut Store,
    knowledge: &Knowledge,
    protected: &HashSet<String>,
) -> usize {
    if knowledge.opset < 10 {
        return 0;
    }
    let uses = Uses::of(graph, protected);
    let mut changed = 0;
    let mut removed = vec![false; graph.node.len()];
    let mut rewritten = vec![false; graph.node.len()];
    for index in 0..graph.node.len() {
        let node = &graph.node[index];
        let Some((source, ranges)) = ranges_of(node, knowledge) else { continue };
        let mut source = source.to_owned();
        let mut all = normalized(&ranges, knowledge.dims(&source));
        if let Some(first) = uses.producer(&source).filter(|&p| !rewritten[p] && uses.is_read_once(&source))
            && let Some((first_source, before)) = ranges_of(&graph.node[first], knowledge)
            && let Some(before) = normalized(&before, knowledge.dims(first_source))
            && let Some(own) = &mut all
            && before.iter().all(|range| own.iter().all(|other| other.0 != range.0))
        {
            own.extend(before);
            own.sort_unstable();
            source = first_source.to_owned();
            removed[first] = true;
        }
        let Some(all) = all else { continue };
        let inputs = slice_inputs(&all);
        let is_same = source == node.input[0]
            && inputs.len() == node.input.len() - 1
            && inputs.iter().zip(&node.input[1..]).all(|(v, name)| knowledge.ints(name).as_ref() == Some(v));
        if is_same {
            continue;
        }
        let mut names = vec![source];
        for (input, values) in inputs.iter().enumerate() {
            let wanted = graph.node[index].input.get(input + 1).cloned().unwrap_or_default();
            let name = store.fresh_name(&wanted);
            store.add(graph, &name, &Tensor::vector(values), Role::Other, None);
            names.push(name);
        }
        graph.node[index].input = names;
        rewritten[index] = true;
        changed += 1;
    }
    let mut removed = removed.into_iter();
    graph.node.retain(|_| !removed.next().unwrap_or(false));
    changed
}

/// What a Slice node reads, and its constant ranges.
fn ranges_of<'n>(node: &'n NodeProto, knowledge: &Knowledge) -> Option<(&'n str, SliceRanges)> {
    if node::standard_operator(node) != "Slice" || node::has_references(node) {
        return None;
    }
    let ranges = SliceRanges::read(node, |index| knowledge.optional_ints(node, index))?;
    Some((node::input(node, 0)?, ranges))
}

/// Axis, start, end and step of each range, with small numbers where the lengths are known, sorted by axis.
fn normalized(ranges: &SliceRanges, dims: Option<&[Dim]>) -> Option<Vec<(i64, i64, i64, i64)>> {
    let mut result = Vec::with_capacity(ranges.axes.len());
    for index in 0..ranges.axes.len() {
        let (mut start, mut end, step) = (ranges.starts[index], ranges.ends[index], ranges.steps[index]);
        let along = match dims {
            Some(dims) => evaluate::axis(ranges.axes[index], dims.len())?,
            None => usize::try_from(ranges.axes[index]).ok()?,
        };
        if let Some(length) = dims.and_then(|d| d[along].known()).filter(|_| step > 0) {
            let (first, count) = evaluate::slice_range(length, start, end, step)?;
            start = i64::try_from(first).ok()?;
            let last = if count == 0 { first } else { (first as i64 + (count as i64 - 1) * step + 1) as usize };
            // Any end up to the next step takes the same elements; the length itself is likelier to be shared.
            let reaches_end = length as i64 - last as i64 >= 0 && (length as i64 - last as i64) < step;
            end = if count > 0 && reaches_end { length as i64 } else { i64::try_from(last).ok()? };
        }
        result.push((along as i64, start, end, step));
    }
    result.sort_unstable();
    let distinct = result.windows(2).all(|pair| pair[0].0 != pair[1].0);
    distinct.then_some(result)
}

/// The inputs 1 to 4 of a Slice, without those that are the default.
fn slice_inputs(ranges: &[(i64, i64, i64, i64)]) -> Vec<Vec<i64>> {
    let mut inputs: Vec<Vec<i64>> = vec![
        ranges.iter().map(|r| r.1).collect(),
        ranges.iter().map(|r| r.2).collect(),
        ranges.iter().map(|r| r.0).collect(),
        ranges.iter().map(|r| r.3).collect(),
    ];
    if inputs[3].iter().all(|&step| step == 1) {
        inputs.truncate(3);
        if inputs[2].iter().copied().eq(0..ranges.len() as i64) {
            inputs.truncate(2);
        }
    }
    inputs
}

/// Leaves out optional inputs that hold the default; returns how many.
pub(crate) fn drop_default_inputs(graph: &mut GraphProto, knowledge: &Knowledge) -> usize {
    let mut dropped = 0;
    for node in &mut graph.node {
        let is_zero = |name: &str| {
            let Some(constant) = knowledge.constants.get(name) else { return false };
            // Negative zero is another number, if only just.
            constant.tensor.len() == 1 && constant.tensor.bytes.iter().all(|&byte| byte == 0)
        };
        let index = match node::standard_operator(node) {
            "Pad" if knowledge.opset >= 11 => 2,
            _ => continue,
        };
        if node::input(node, index).is_some_and(is_zero) {
            node.input[index].clear();
            dropped += 1;
        }
        while node.input.last().is_some_and(String::is_empty) {
            node.input.pop();
        }
    }
    dropped
}
