//! Operators that only move the elements of constants about.

use onnx_dcomp_proto::NodeProto;

use super::evaluate::{MAX_ELEMENTS, SliceRanges, axis, slice_range};
use super::tensor::{Tensor, element_bytes, element_count};

/// Elements of the largest tensor that Concat may make.
const MAX_CONCATENATED: usize = 1 << 22;

/// The row-major step of each axis of `dims`, in elements.
fn strides(dims: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; dims.len()];
    for axis in (1..dims.len()).rev() {
        strides[axis - 1] = strides[axis] * dims[axis];
    }
    strides
}

/// Copies, for each index of a tensor of `dims` in row-major order, the element of `x` at `start` + index · `steps`.
///
/// The caller answers for every such element being inside `x`.
fn copy_strided(x: &Tensor, dims: &[usize], start: usize, steps: &[isize]) -> Option<Vec<u8>> {
    let size = element_bytes(x.element)?;
    let count = element_count(dims)?;
    let mut bytes = Vec::with_capacity(count.checked_mul(size)?);
    let mut index = vec![0usize; dims.len()];
    let mut position = isize::try_from(start).ok()?;
    for _ in 0..count {
        let at = usize::try_from(position).ok()? * size;
        bytes.extend_from_slice(x.bytes.get(at..at + size)?);
        for axis in (0..dims.len()).rev() {
            index[axis] += 1;
            position += steps[axis];
            if index[axis] < dims[axis] {
                break;
            }
            position -= steps[axis] * dims[axis] as isize;
            index[axis] = 0;
        }
    }
    Some(bytes)
}

/// Transpose; `None` where `order` is no permutation.
pub(crate) fn transpose(x: &Tensor, order: Option<&[i64]>) -> Option<Tensor> {
    let rank = x.dims.len();
    let order: Vec<usize> = match order {
        Some(order) => order.iter().map(|&a| axis(a, rank)).collect::<Option<_>>()?,
        None => (0..rank).rev().collect(),
    };
    let mut sorted = order.clone();
    sorted.sort_unstable();
    if !sorted.into_iter().eq(0..rank) {
        return None;
    }
    let from = strides(&x.dims);
    let dims: Vec<usize> = order.iter().map(|&a| x.dims[a]).collect();
    let steps: Vec<isize> = order.iter().map(|&a| from[a] as isize).collect();
    Tensor::new(x.element, dims.clone(), copy_strided(x, &dims, 0, &steps)?)
}

/// Concat.
pub(crate) fn concat(inputs: &[Option<&Tensor>], along: i64) -> Option<Tensor> {
    let parts = inputs.iter().copied().collect::<Option<Vec<_>>>()?;
    let first = *parts.first()?;
    let along = axis(along, first.dims.len())?;
    let size = element_bytes(first.element)?;
    let mut dims = first.dims.clone();
    dims[along] = 0;
    for part in &parts {
        let fits = |i: usize| i == along || part.dims[i] == first.dims[i];
        if part.element != first.element || part.dims.len() != dims.len() || !(0..dims.len()).all(fits) {
            return None;
        }
        dims[along] += part.dims[along];
    }
    // Concat of a tensor with itself, again and again, doubles it each time.
    element_count(&dims).filter(|&count| count <= MAX_CONCATENATED)?;
    let outer: usize = dims[..along].iter().product();
    let mut bytes = Vec::new();
    for row in 0..outer {
        for part in &parts {
            let length = part.dims[along..].iter().product::<usize>() * size;
            bytes.extend_from_slice(part.bytes.get(row * length..(row + 1) * length)?);
        }
    }
    Tensor::new(first.element, dims, bytes)
}

/// Slice with constant ranges.
pub(crate) fn slice(node: &NodeProto, inputs: &[Option<&Tensor>]) -> Option<Tensor> {
    let x = inputs.first().copied().flatten()?;
    let ranges = SliceRanges::read(node, |index| match inputs.get(index).copied().flatten() {
        Some(tensor) => tensor.ints().map(Some),
        None => Some(None),
    })?;
    let from = strides(&x.dims);
    let mut dims = x.dims.clone();
    let mut steps: Vec<isize> = from.iter().map(|&s| s as isize).collect();
    let mut start = 0;
    for (index, &along) in ranges.axes.iter().enumerate() {
        let along = axis(along, x.dims.len())?;
        let (first, count) = slice_range(x.dims[along], ranges.starts[index], ranges.ends[index], ranges.steps[index])?;
        start += first * from[along];
        dims[along] = count;
        steps[along] = if count > 1 { from[along] as isize * isize::try_from(ranges.steps[index]).ok()? } else { 0 };
    }
    Tensor::new(x.element, dims.clone(), copy_strided(x, &dims, start, &steps)?)
}

/// Gather, with a bound on how much larger the result may be.
pub(crate) fn gather(x: &Tensor, indices: &Tensor, along: i64) -> Option<Tensor> {
    let along = axis(along, x.dims.len())?;
    let length = x.dims[along];
    let chosen = indices.ints()?.into_iter().map(|i| axis(i, length)).collect::<Option<Vec<_>>>()?;
    let dims = [&x.dims[..along], &indices.dims, &x.dims[along + 1..]].concat();
    if element_count(&dims)? > MAX_ELEMENTS.max(x.len()) {
        return None;
    }
    let inner = x.dims[along + 1..].iter().product::<usize>() * element_bytes(x.element)?;
    let outer: usize = x.dims[..along].iter().product();
    let mut bytes = Vec::new();
    for row in 0..outer {
        for &index in &chosen {
            let at = (row * length + index) * inner;
            bytes.extend_from_slice(x.bytes.get(at..at + inner)?);
        }
    }
    Tensor::new(x.element, dims, bytes)
}

/// The elements of `x`, repeated to fill `dims`.
pub(crate) fn spread(x: &Tensor, dims: &[usize]) -> Option<Vec<u8>> {
    let missing = dims.len().checked_sub(x.dims.len())?;
    let from = strides(&x.dims);
    let steps: Vec<isize> = (0..dims.len())
        .map(|i| if i < missing || x.dims[i - missing] == 1 { 0 } else { from[i - missing] as isize })
        .collect();
    copy_strided(x, dims, 0, &steps)
}
