//! The value of a node whose inputs are all constant.
//!
//! Covers what exporters leave in front of Reshape, Pad, Slice, Expand and of weights: arithmetic on shapes, and moving
//! elements about. Everything here is exact: a runtime would get the same bits.

use onnx_dcomp_proto::NodeProto;
use onnx_dcomp_proto::tensor_proto::DataType;

use super::rearrange::{concat, gather, slice, spread, transpose};
use super::tensor::{Tensor, element_bytes, element_count};
use crate::node;

/// Elements that an operator which makes more out of less (Range, Expand, ConstantOfShape) may return. Shapes have a
/// handful; the bound keeps a hostile file from filling the memory.
pub(crate) const MAX_ELEMENTS: usize = 4096;

/// The only output of `node`, an operator of the standard domain in version `opset`, from its inputs; `None` where an
/// input of the node is left out as `None` but needed, or the operator is not one of those that are evaluated.
pub(crate) fn evaluate(node: &NodeProto, inputs: &[Option<&Tensor>], opset: i64, read: &Reader) -> Option<Tensor> {
    let input = |index: usize| inputs.get(index).copied().flatten();
    let x = input(0);
    match node::standard_operator(node) {
        "Constant" => constant(node, read),
        "Identity" => x.cloned(),
        "Cast" => cast(x?, DataType::try_from(i32::try_from(node::int(node, "to", 0)).ok()?).ok()?),
        "Shape" => {
            let dims: Vec<i64> = x?.dims.iter().map(|&dim| dim as i64).collect();
            Some(Tensor::vector(slice_of_shape(node, &dims)))
        }
        "Size" => Tensor::from_ints(DataType::Int64, vec![], &[x?.len() as i64]),
        "Reshape" => {
            let dims = reshaped(&x?.dims, &input(1)?.ints()?, node::int(node, "allowzero", 0) != 0)?;
            with_dims(x?, dims)
        }
        "Flatten" => {
            let at = flatten_axis(node, x?.dims.len())?;
            with_dims(x?, vec![x?.dims[..at].iter().product(), x?.dims[at..].iter().product()])
        }
        "Squeeze" | "Unsqueeze" => {
            let axes = match (node::ints(node, "axes"), input(1)) {
                (Some(axes), _) => Some(axes.to_vec()),
                (None, Some(axes)) => Some(axes.ints()?),
                (None, None) => None,
            };
            let dims = match (node.op_type(), axes) {
                ("Squeeze", axes) => squeezed(&x?.dims, axes.as_deref())?,
                (_, axes) => unsqueezed(&x?.dims, &axes?)?,
            };
            with_dims(x?, dims)
        }
        "Transpose" => transpose(x?, node::ints(node, "perm")),
        "Concat" => concat(inputs, node::int(node, "axis", i64::from(opset < 4))),
        "Slice" => slice(node, inputs),
        "Gather" => gather(x?, input(1)?, node::int(node, "axis", 0)),
        "ConstantOfShape" => constant_of_shape(node, x?, read),
        "Expand" => {
            let shape = input(1)?.ints()?.iter().map(|&d| usize::try_from(d).ok()).collect::<Option<Vec<_>>>()?;
            let dims = broadcast(&x?.dims, &shape)?;
            small(&dims)?;
            Some(Tensor { element: x?.element, bytes: spread(x?, &dims)?.into(), dims })
        }
        "Range" => range(x?, input(1)?, input(2)?),
        "Neg" => match x?.ints() {
            Some(values) => {
                let negated = values.iter().map(|v| v.checked_neg()).collect::<Option<Vec<_>>>()?;
                Tensor::from_ints(x?.element, x?.dims.clone(), &negated)
            }
            None => {
                let negated: Vec<f64> = x?.floats()?.iter().map(|v| -v).collect();
                Tensor::from_floats(x?.element, x?.dims.clone(), &negated)
            }
        },
        operator @ ("Add" | "Sub" | "Mul" | "Div" | "Equal") if opset >= 7 => binary(operator, x?, input(1)?),
        "Where" => {
            let (a, b) = (input(1)?, input(2)?);
            if x?.element != DataType::Bool || a.element != b.element {
                return None;
            }
            let dims = broadcast(&broadcast(&x?.dims, &a.dims)?, &b.dims)?;
            small(&dims)?;
            let size = element_bytes(a.element)?;
            let (condition, a_bytes, b_bytes) = (spread(x?, &dims)?, spread(a, &dims)?, spread(b, &dims)?);
            let pick = |(index, &yes): (usize, &u8)| {
                let source = if yes != 0 { &a_bytes } else { &b_bytes };
                source[index * size..(index + 1) * size].to_vec()
            };
            let bytes: Vec<u8> = condition.iter().enumerate().flat_map(pick).collect();
            Tensor::new(a.element, dims, bytes)
        }
        _ => None,
    }
}

/// Reads a `TensorProto` that stands in an attribute.
pub(crate) type Reader<'a> = dyn Fn(&onnx_dcomp_proto::TensorProto) -> Option<Tensor> + 'a;

/// The value of a Constant node.
pub(crate) fn constant(node: &NodeProto, read: &Reader) -> Option<Tensor> {
    let attribute = node.attribute.first().filter(|a| a.ref_attr_name().is_empty())?;
    match attribute.name() {
        "value" => read(attribute.t.as_ref()?),
        "value_int" => Tensor::from_ints(DataType::Int64, vec![], &[attribute.i?]),
        "value_ints" => Some(Tensor::vector(&attribute.ints)),
        "value_float" => Tensor::from_floats(DataType::Float, vec![], &[f64::from(attribute.f?)]),
        "value_floats" => {
            let bytes: Vec<u8> = attribute.floats.iter().flat_map(|v| v.to_le_bytes()).collect();
            Tensor::new(DataType::Float, vec![attribute.floats.len()], bytes)
        }
        _ => None,
    }
}

/// `axis` of a tensor of `rank` axes, counted from the front.
pub(crate) fn axis(axis: i64, rank: usize) -> Option<usize> {
    let rank_signed = i64::try_from(rank).ok()?;
    let from_front = if axis < 0 { axis.checked_add(rank_signed)? } else { axis };
    (0..rank_signed).contains(&from_front).then_some(from_front as usize)
}

/// The axis at which Flatten splits a tensor of `rank` axes: 0 to `rank`, both included.
pub(crate) fn flatten_axis(node: &NodeProto, rank: usize) -> Option<usize> {
    match usize::try_from(node::int(node, "axis", 1)) {
        Ok(at) => (at <= rank).then_some(at),
        Err(_) => axis(node::int(node, "axis", 1), rank),
    }
}

/// What Shape with `start` and `end` returns of `dims`.
pub(crate) fn slice_of_shape<'a, T>(node: &NodeProto, dims: &'a [T]) -> &'a [T] {
    let rank = dims.len() as i64;
    let clamp = |v: i64| (if v < 0 { v.saturating_add(rank) } else { v }).clamp(0, rank) as usize;
    let (start, end) = (clamp(node::int(node, "start", 0)), clamp(node::int(node, "end", rank)));
    dims.get(start..end).unwrap_or(&[])
}

fn small(dims: &[usize]) -> Option<usize> {
    element_count(dims).filter(|&count| count <= MAX_ELEMENTS)
}

fn with_dims(x: &Tensor, dims: Vec<usize>) -> Option<Tensor> {
    Tensor::new(x.element, dims, x.bytes.clone())
}

/// The dimensions that Reshape gives to a tensor of `dims`.
fn reshaped(dims: &[usize], target: &[i64], zero_is_zero: bool) -> Option<Vec<usize>> {
    let mut result = Vec::with_capacity(target.len());
    let mut inferred = None;
    for (index, &wanted) in target.iter().enumerate() {
        result.push(match wanted {
            -1 if inferred.is_none() => {
                inferred = Some(index);
                1
            }
            0 if !zero_is_zero => *dims.get(index)?,
            _ => usize::try_from(wanted).ok()?,
        });
    }
    if let Some(index) = inferred {
        let (total, rest) = (element_count(dims)?, element_count(&result)?);
        result[index] = total.checked_div(rest)?;
    }
    Some(result)
}

/// `dims` without the axes `axes`, or without all axes of length 1.
pub(crate) fn squeezed<T: Clone + PartialEq<usize>>(dims: &[T], axes: Option<&[i64]>) -> Option<Vec<T>> {
    let Some(axes) = axes else { return Some(dims.iter().filter(|&d| *d != 1usize).cloned().collect()) };
    let axes = axes.iter().map(|&a| axis(a, dims.len())).collect::<Option<Vec<_>>>()?;
    Some(dims.iter().enumerate().filter(|(index, _)| !axes.contains(index)).map(|(_, d)| d.clone()).collect())
}

/// `dims` with new axes of length 1 at `axes` of the result.
pub(crate) fn unsqueezed<T: Clone + From<u8>>(dims: &[T], axes: &[i64]) -> Option<Vec<T>> {
    let rank = dims.len() + axes.len();
    let axes = axes.iter().map(|&a| axis(a, rank)).collect::<Option<Vec<_>>>()?;
    let mut rest = dims.iter().cloned();
    let result: Vec<T> =
        (0..rank).map_while(|i| if axes.contains(&i) { Some(T::from(1)) } else { rest.next() }).collect();
    (result.len() == rank).then_some(result)
}

fn cast(x: &Tensor, to: DataType) -> Option<Tensor> {
    if x.element == to {
        return Some(x.clone());
    }
    let dims = x.dims.clone();
    let to_is_float = matches!(to, DataType::Float | DataType::Double);
    match (x.ints(), to_is_float) {
        (Some(values), false) => Tensor::from_ints(to, dims, &values),
        (Some(values), true) if values.iter().all(|v| v.unsigned_abs() < 1 << 24) => {
            Tensor::from_floats(to, dims, &values.iter().map(|&v| v as f64).collect::<Vec<_>>())
        }
        (None, true) => Tensor::from_floats(to, dims, &x.floats()?),
        (None, false) if matches!(to, DataType::Int32 | DataType::Int64) => {
            let values = x.floats()?;
            let fits = |v: &f64| v.is_finite() && v.abs() < f64::from(1 << 30);
            let cut: Vec<i64> = values.iter().map(|&v| v as i64).collect();
            if values.iter().all(fits) { Tensor::from_ints(to, dims, &cut) } else { None }
        }
        _ => None,
    }
}

/// Starts, ends, axes and steps of a Slice, one entry for each axis that is sliced.
pub(crate) struct SliceRanges {
    /// Where each range starts.
    pub(crate) starts: Vec<i64>,
    /// Where each range ends.
    pub(crate) ends: Vec<i64>,
    /// The axes, counted from the front where `rank` was known.
    pub(crate) axes: Vec<i64>,
    /// Steps, never zero.
    pub(crate) steps: Vec<i64>,
}

impl SliceRanges {
    /// The ranges of `node`, with inputs 1 to 4 as `inputs` gives them.
    pub(crate) fn read(node: &NodeProto, inputs: impl Fn(usize) -> Option<Option<Vec<i64>>>) -> Option<Self> {
        let by_attribute = node::ints(node, "starts").map(|starts| (starts, node::ints(node, "ends")));
        let (starts, ends, axes, steps) = match by_attribute {
            Some((starts, ends)) => {
                (starts.to_vec(), ends?.to_vec(), node::ints(node, "axes").map(<[i64]>::to_vec), None)
            }
            None => (inputs(1)??, inputs(2)??, inputs(3)?, inputs(4)?),
        };
        let count = starts.len();
        let axes = axes.unwrap_or_else(|| (0..count as i64).collect());
        let steps = steps.unwrap_or_else(|| vec![1; count]);
        let consistent = ends.len() == count && axes.len() == count && steps.len() == count;
        (consistent && steps.iter().all(|&s| s != 0)).then_some(Self { starts, ends, axes, steps })
    }
}

/// First index, number of elements of a slice of an axis of `length` elements.
pub(crate) fn slice_range(length: usize, start: i64, end: i64, step: i64) -> Option<(usize, usize)> {
    let length = i64::try_from(length).ok()?;
    let absolute = |v: i64| if v < 0 { v.saturating_add(length) } else { v };
    let (start, end) = if step > 0 {
        (absolute(start).clamp(0, length), absolute(end).clamp(0, length))
    } else {
        (absolute(start).clamp(-1, length - 1), absolute(end).clamp(-1, length - 1))
    };
    let span = if step > 0 { end - start } else { start - end };
    let count = if span <= 0 { 0 } else { (span - 1) / step.checked_abs()? + 1 };
    Some((usize::try_from(start.max(0)).ok()?, usize::try_from(count).ok()?))
}

fn constant_of_shape(node: &NodeProto, shape: &Tensor, read: &Reader) -> Option<Tensor> {
    let dims = shape.ints()?.iter().map(|&d| usize::try_from(d).ok()).collect::<Option<Vec<_>>>()?;
    let count = small(&dims)?;
    let value = match node::attribute(node, "value") {
        Some(attribute) => read(attribute.t.as_ref()?)?,
        None => Tensor::from_floats(DataType::Float, vec![1], &[0.0])?,
    };
    (value.len() == 1).then(|| Tensor::new(value.element, dims, value.bytes.repeat(count)))?
}

fn range(start: &Tensor, limit: &Tensor, delta: &Tensor) -> Option<Tensor> {
    let scalar = |t: &Tensor| t.ints().filter(|v| v.len() == 1).map(|v| v[0]);
    let (start_value, limit, delta) = (scalar(start)?, scalar(limit)?, scalar(delta)?);
    let span = limit.checked_sub(start_value)?;
    if delta == 0 {
        return None;
    }
    let count = span.checked_div(delta)? + i64::from(span.checked_rem(delta)? != 0);
    let count = usize::try_from(count.max(0)).ok().filter(|&c| c <= MAX_ELEMENTS)?;
    let values =
        (0..count as i64).map(|i| start_value.checked_add(i.checked_mul(delta)?)).collect::<Option<Vec<_>>>()?;
    Tensor::from_ints(start.element, vec![count], &values)
}

/// The dimensions of two operands of `a` and `b` together, as numpy broadcasts them.
pub(crate) fn broadcast(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let rank = a.len().max(b.len());
    let at = |dims: &[usize], i: usize| (i + dims.len()).checked_sub(rank).map_or(1, |i| dims[i]);
    (0..rank)
        .map(|i| match (at(a, i), at(b, i)) {
            (x, y) if x == y => Some(x),
            (1, y) => Some(y),
            (x, 1) => Some(x),
            _ => None,
        })
        .collect()
}

fn binary(operator: &str, a: &Tensor, b: &Tensor) -> Option<Tensor> {
    let dims = broadcast(&a.dims, &b.dims)?;
    if a.element != b.element || element_count(&dims)? > MAX_ELEMENTS.max(a.len()).max(b.len()) {
        return None;
    }
    let wide = |x: &Tensor| Tensor::new(x.element, dims.clone(), spread(x, &dims)?);
    let (a, b) = (wide(a)?, wide(b)?);
    if let (Some(x), Some(y)) = (a.ints(), b.ints()) {
        let apply = |(&x, &y): (&i64, &i64)| match operator {
            "Add" => x.checked_add(y),
            "Sub" => x.checked_sub(y),
            "Mul" => x.checked_mul(y),
            "Div" => x.checked_div(y),
            _ => Some(i64::from(x == y)),
        };
        let values = x.iter().zip(&y).map(apply).collect::<Option<Vec<_>>>()?;
        return Tensor::from_ints(if operator == "Equal" { DataType::Bool } else { a.element }, dims, &values);
    }
    let apply = |(x, y): (&f64, &f64)| match operator {
        "Add" => Some(x + y),
        "Sub" => Some(x - y),
        "Mul" => Some(x * y),
        "Div" => Some(x / y),
        _ => None,
    };
    let values = a.floats()?.iter().zip(&b.floats()?).map(apply).collect::<Option<Vec<_>>>()?;
    Tensor::from_floats(a.element, dims, &values)
}
