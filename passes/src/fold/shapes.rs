//! Shapes of a node's outputs from those of its inputs, as far as folding needs them.
//!
//! An operator that is not listed gives no shape, which only means that less is folded.

use onnx_dcomp_proto::NodeProto;
use onnx_dcomp_proto::tensor_proto::DataType;

use super::dim::{Dim, known_product};
use super::evaluate::{self, SliceRanges};
use super::knowledge::{Fact, Knowledge};
use crate::node;

/// One fact for each output whose shape or type follows from what is known.
pub(crate) fn infer(knowledge: &mut Knowledge, node: &NodeProto) -> Vec<Fact> {
    let element = element(knowledge, node);
    let outputs = match node.op_type() {
        "Split" => node.output.len(),
        _ => 1,
    };
    let dims = dims(knowledge, node);
    vec![Fact { dims, element }; outputs]
}

fn element(knowledge: &Knowledge, node: &NodeProto) -> Option<DataType> {
    match node.op_type() {
        "Shape" | "Size" | "ArgMax" | "ArgMin" | "NonZero" => Some(DataType::Int64),
        "Equal" | "Less" | "Greater" | "LessOrEqual" | "GreaterOrEqual" | "Not" | "And" | "Or" | "Xor" | "IsNaN"
        | "IsInf" => Some(DataType::Bool),
        "Cast" => DataType::try_from(i32::try_from(node::int(node, "to", 0)).ok()?).ok(),
        "Where" => knowledge.fact(node::input(node, 1)?).element,
        "QuantizeLinear" | "DequantizeLinear" | "ConstantOfShape" | "OneHot" | "Constant" => None,
        _ => knowledge.fact(node::input(node, 0)?).element,
    }
}

fn dims(knowledge: &mut Knowledge, node: &NodeProto) -> Option<Vec<Dim>> {
    let shape = |knowledge: &Knowledge, index: usize| knowledge.dims(node::input(node, index)?).map(<[Dim]>::to_vec);
    let x = shape(knowledge, 0);
    match node.op_type() {
        "Relu"
        | "LeakyRelu"
        | "PRelu"
        | "Sigmoid"
        | "Tanh"
        | "Clip"
        | "Elu"
        | "Selu"
        | "Celu"
        | "Gelu"
        | "HardSigmoid"
        | "HardSwish"
        | "Mish"
        | "Softplus"
        | "Softsign"
        | "ThresholdedRelu"
        | "Softmax"
        | "LogSoftmax"
        | "Hardmax"
        | "BatchNormalization"
        | "InstanceNormalization"
        | "LayerNormalization"
        | "GroupNormalization"
        | "LpNormalization"
        | "LRN"
        | "Identity"
        | "Dropout"
        | "Cast"
        | "Neg"
        | "Abs"
        | "Exp"
        | "Log"
        | "Sqrt"
        | "Erf"
        | "Reciprocal"
        | "Floor"
        | "Ceil"
        | "Round"
        | "Sign"
        | "Not"
        | "Sin"
        | "Cos"
        | "QuantizeLinear"
        | "DequantizeLinear"
        | "CumSum" => x,
        "Add" | "Sub" | "Mul" | "Div" | "Pow" | "Equal" | "Less" | "Greater" | "And" | "Or" | "Mod"
            if knowledge.opset >= 7 =>
        {
            let y = shape(knowledge, 1)?;
            Some(broadcast(knowledge, &x?, &y))
        }
        "Sum" | "Max" | "Min" | "Mean" | "Where" if knowledge.opset >= 8 => {
            let mut dims = x?;
            for index in 1..node.input.len() {
                let y = shape(knowledge, index)?;
                dims = broadcast(knowledge, &dims, &y);
            }
            Some(dims)
        }
        "Conv" | "ConvTranspose" | "MaxPool" | "AveragePool" | "LpPool" => windowed(knowledge, node, &x?),
        "GlobalAveragePool" | "GlobalMaxPool" | "GlobalLpPool" => {
            Some(x?.into_iter().enumerate().map(|(i, d)| if i < 2 { d } else { Dim::Known(1) }).collect())
        }
        "Concat" => concat(knowledge, node),
        "Slice" => slice(knowledge, node, x?),
        "Pad" => pad(knowledge, node, x?),
        "Reshape" => reshape(knowledge, node, x),
        "Flatten" => {
            let x = x?;
            let at = evaluate::flatten_axis(node, x.len())?;
            let (outer, inner) = x.split_at(at);
            Some(vec![product(knowledge, outer), product(knowledge, inner)])
        }
        "Transpose" => {
            let x = x?;
            match node::ints(node, "perm") {
                Some(order) => order.iter().map(|&a| Some(x[evaluate::axis(a, x.len())?])).collect(),
                None => Some(x.into_iter().rev().collect()),
            }
        }
        "Squeeze" | "Unsqueeze" => {
            let axes = match node::ints(node, "axes") {
                Some(axes) => axes.to_vec(),
                None => knowledge.ints(node::input(node, 1)?)?,
            };
            if node.op_type() == "Squeeze" {
                evaluate::squeezed(&x?, Some(&axes))
            } else {
                evaluate::unsqueezed(&x?, &axes)
            }
        }
        "Gemm" => {
            let pick = |dims: Vec<Dim>, transposed: bool, index: usize| {
                if dims.len() == 2 { Some(dims[if transposed { 1 - index } else { index }]) } else { None }
            };
            let rows = match x {
                Some(x) => pick(x, node::int(node, "transA", 0) != 0, 0)?,
                None => knowledge.fresh(),
            };
            let columns = match shape(knowledge, 1) {
                Some(b) => pick(b, node::int(node, "transB", 0) != 0, 1)?,
                None => knowledge.fresh(),
            };
            Some(vec![rows, columns])
        }
        "MatMul" => {
            let (a, b) = (x?, shape(knowledge, 1)?);
            let (rank_a, rank_b) = (a.len(), b.len());
            if rank_a < 2 || rank_b < 2 {
                return None;
            }
            let mut dims = broadcast(knowledge, &a[..rank_a - 2], &b[..rank_b - 2]);
            dims.extend([a[rank_a - 2], b[rank_b - 1]]);
            Some(dims)
        }
        "Gather" => {
            let (x, indices) = (x?, shape(knowledge, 1)?);
            let along = evaluate::axis(node::int(node, "axis", 0), x.len())?;
            Some([&x[..along], &indices, &x[along + 1..]].concat())
        }
        "Split" => {
            let mut x = x?;
            let along = evaluate::axis(node::int(node, "axis", 0), x.len())?;
            x[along] = knowledge.fresh();
            Some(x)
        }
        "ReduceMean" | "ReduceSum" | "ReduceMax" | "ReduceMin" | "ReduceProd" | "ReduceL2" | "ReduceL1" => {
            let mut x = x?;
            let axes = match (node::ints(node, "axes"), node::input(node, 1)) {
                (Some(axes), _) => axes.to_vec(),
                (None, Some(axes)) => knowledge.ints(axes)?,
                (None, None) => (0..x.len() as i64).collect(),
            };
            if axes.is_empty() {
                return None;
            }
            for &a in &axes {
                let reduced = evaluate::axis(a, x.len())?;
                x[reduced] = Dim::Known(1);
            }
            if node::int(node, "keepdims", 1) != 0 { Some(x) } else { evaluate::squeezed(&x, Some(&axes)) }
        }
        "Resize" | "Upsample" => {
            let x = x?;
            Some(x.iter().map(|_| knowledge.fresh()).collect())
        }
        "Shape" => Some(vec![Dim::Known(evaluate::slice_of_shape(node, &x?).len())]),
        "Size" => Some(vec![]),
        "ConstantOfShape" => knowledge.contents(node::input(node, 0)?).map(<[Dim]>::to_vec),
        _ => None,
    }
}

fn product(knowledge: &mut Knowledge, dims: &[Dim]) -> Dim {
    match (known_product(dims), dims) {
        (Some(product), _) => Dim::Known(product),
        (None, &[only]) => only,
        (None, dims) => {
            let mut others = dims.iter().filter(|&d| *d != 1usize);
            match (others.next(), others.next()) {
                (Some(&only), None) => only,
                _ => knowledge.fresh(),
            }
        }
    }
}

fn broadcast(knowledge: &mut Knowledge, a: &[Dim], b: &[Dim]) -> Vec<Dim> {
    let rank = a.len().max(b.len());
    let at = |dims: &[Dim], i: usize| (i + dims.len()).checked_sub(rank).map_or(Dim::Known(1), |i| dims[i]);
    (0..rank)
        .map(|i| match (at(a, i), at(b, i)) {
            (x, y) if x == y => x,
            (x, Dim::Known(1)) => x,
            (Dim::Known(1), y) => y,
            (known @ Dim::Known(_), _) | (_, known @ Dim::Known(_)) => known,
            _ => knowledge.fresh(),
        })
        .collect()
}

/// Convolutions and pools: the channels follow from the weight, the rest from window, stride and padding.
fn windowed(knowledge: &mut Knowledge, node: &NodeProto, x: &[Dim]) -> Option<Vec<Dim>> {
    let weight = match node.op_type() {
        "Conv" | "ConvTranspose" => knowledge.dims(node::input(node, 1)?).map(<[Dim]>::to_vec),
        _ => None,
    };
    let transposed = node.op_type() == "ConvTranspose";
    let spatial = x.len().checked_sub(2)?;
    let channels = match (&weight, node.op_type()) {
        (Some(w), "Conv") => *w.first()?,
        (Some(w), "ConvTranspose") => {
            let group = usize::try_from(node::int(node, "group", 1)).ok()?;
            w.get(1)?.known().and_then(|m| m.checked_mul(group)).map_or_else(|| knowledge.fresh(), Dim::Known)
        }
        (None, "Conv" | "ConvTranspose") => knowledge.fresh(),
        _ => x[1],
    };
    let simple = matches!(node::string(node, "auto_pad", "NOTSET"), "NOTSET" | "VALID")
        && !transposed
        && node::int(node, "ceil_mode", 0) == 0;
    let list = |name: &str, default: i64, count: usize| {
        node::ints(node, name).map_or_else(|| vec![default; count], <[i64]>::to_vec)
    };
    let (strides, dilations) = (list("strides", 1, spatial), list("dilations", 1, spatial));
    let pads = list("pads", 0, 2 * spatial);
    let mut dims = vec![x[0], channels];
    for i in 0..spatial {
        let kernel = match (node::ints(node, "kernel_shape"), &weight) {
            (Some(kernel), _) => kernel.get(i).copied(),
            (None, Some(w)) => w.get(i + 2).and_then(|d| i64::try_from(d.known()?).ok()),
            _ => None,
        };
        let length = || -> Option<Dim> {
            let length = i64::try_from(x[i + 2].known().filter(|_| simple)?).ok()?;
            let window = kernel?.checked_sub(1)?.checked_mul(*dilations.get(i)?)?.checked_add(1)?;
            let padded = length.checked_add(*pads.get(i)?)?.checked_add(*pads.get(i + spatial)?)?;
            let steps = padded.checked_sub(window)?.checked_div(*strides.get(i)?)?;
            usize::try_from(steps.checked_add(1)?).ok().map(Dim::Known)
        };
        let length = length().unwrap_or_else(|| knowledge.fresh());
        dims.push(length);
    }
    Some(dims)
}

fn concat(knowledge: &mut Knowledge, node: &NodeProto) -> Option<Vec<Dim>> {
    let parts: Vec<Vec<Dim>> =
        node.input.iter().map(|name| knowledge.dims(name).map(<[Dim]>::to_vec)).collect::<Option<_>>()?;
    let rank = parts.first()?.len();
    let along = evaluate::axis(node::int(node, "axis", i64::from(knowledge.opset < 4)), rank)?;
    if parts.iter().any(|part| part.len() != rank) {
        return None;
    }
    let total = parts.iter().try_fold(0usize, |sum, part| sum.checked_add(part[along].known()?));
    let mut dims = parts[0].clone();
    for (axis, dim) in dims.iter_mut().enumerate() {
        // All parts agree along the other axes, so any part that knows will do.
        *dim = parts.iter().map(|part| part[axis]).find(|d| d.known().is_some()).unwrap_or(*dim);
    }
    dims[along] = total.map_or_else(|| knowledge.fresh(), Dim::Known);
    Some(dims)
}

fn slice(knowledge: &mut Knowledge, node: &NodeProto, mut x: Vec<Dim>) -> Option<Vec<Dim>> {
    let Some(ranges) = SliceRanges::read(node, |index| knowledge.optional_ints(node, index)) else {
        return Some(x.iter().map(|_| knowledge.fresh()).collect());
    };
    for (index, &along) in ranges.axes.iter().enumerate() {
        let along = evaluate::axis(along, x.len())?;
        x[along] = match x[along] {
            Dim::Known(length) => {
                let range =
                    evaluate::slice_range(length, ranges.starts[index], ranges.ends[index], ranges.steps[index]);
                Dim::Known(range?.1)
            }
            Dim::Symbol(_) => knowledge.fresh(),
        };
    }
    Some(x)
}

fn pad(knowledge: &mut Knowledge, node: &NodeProto, x: Vec<Dim>) -> Option<Vec<Dim>> {
    let pads = match node::ints(node, "pads") {
        Some(pads) => Some(pads.to_vec()),
        None => knowledge.ints(node::input(node, 1)?).filter(|_| node::input(node, 3).is_none()),
    };
    let rank = x.len();
    let padded = |(axis, dim): (usize, &Dim)| {
        let pads = pads.as_ref().filter(|pads| pads.len() == 2 * rank)?;
        if pads[axis] == 0 && pads[axis + rank] == 0 {
            return Some(*dim);
        }
        let length = i64::try_from(dim.known()?).ok()?.checked_add(pads[axis])?.checked_add(pads[axis + rank])?;
        usize::try_from(length).ok().map(Dim::Known)
    };
    let dims: Vec<Option<Dim>> = x.iter().enumerate().map(padded).collect();
    Some(dims.into_iter().map(|dim| dim.unwrap_or_else(|| knowledge.fresh())).collect())
}

fn reshape(knowledge: &mut Knowledge, node: &NodeProto, x: Option<Vec<Dim>>) -> Option<Vec<Dim>> {
    let target = node::input(node, 1)?;
    let zero_is_zero = node::int(node, "allowzero", 0) != 0;
    let Some(values) = knowledge.ints(target) else {
        if let Some(contents) = knowledge.contents(target).map(<[Dim]>::to_vec) {
            // A computed target may hold 0 and -1 where a symbol stands: only its known lengths are trusted.
            let length = |dim: Dim, knowledge: &mut Knowledge| match dim {
                Dim::Known(length) if length > 0 => dim,
                _ => knowledge.fresh(),
            };
            return Some(contents.into_iter().map(|dim| length(dim, knowledge)).collect());
        }
        let count = knowledge.dims(target).filter(|d| d.len() == 1).and_then(|d| d[0].known()).filter(|&c| c <= 64)?;
        return Some((0..count).map(|_| knowledge.fresh()).collect());
    };
    let mut dims = Vec::with_capacity(values.len());
    let mut inferred = None;
    for (index, &value) in values.iter().enumerate() {
        dims.push(match (value, &x) {
            (-1, _) => {
                inferred = Some(index);
                Dim::Known(1)
            }
            (0, Some(x)) if !zero_is_zero => *x.get(index)?,
            (0, None) if !zero_is_zero => knowledge.fresh(),
            (length, _) => Dim::Known(usize::try_from(length).ok()?),
        });
    }
    if let Some(index) = inferred {
        dims[index] = match x {
            Some(x) => quotient(&x, &dims).unwrap_or_else(|| knowledge.fresh()),
            None => knowledge.fresh(),
        };
    }
    Some(dims)
}

/// What is left of the product of `all` when that of `part` is divided out; equal symbols cancel.
fn quotient(all: &[Dim], part: &[Dim]) -> Option<Dim> {
    let mut symbols: Vec<Dim> = all.iter().copied().filter(|d| d.known().is_none()).collect();
    for dim in part.iter().filter(|d| d.known().is_none()) {
        let at = symbols.iter().position(|other| other == dim)?;
        symbols.swap_remove(at);
    }
    let known = |dims: &[Dim]| dims.iter().filter_map(|d| d.known()).try_fold(1usize, usize::checked_mul);
    let (total, rest) = (known(all)?, known(part)?);
    match symbols[..] {
        [] if rest > 0 && total % rest == 0 => Some(Dim::Known(total / rest)),
        [only] if total == rest => Some(only),
        _ => None,
    }
}
