//! Sparse tensors become dense ones: the weight table knows better ways to say that a weight is mostly zero.

use onnx_dcomp_forms::{DType, Values};
use onnx_dcomp_proto::SparseTensorProto;

use super::storage;
use crate::error::{TensorProblem, shape_text};
use crate::tensors;

/// The elements of `sparse`, of type `dtype`, with zeros between them.
///
/// The caller has checked that the dense tensor may be allocated.
pub(super) fn dense(sparse: &SparseTensorProto, dtype: DType) -> Result<Values, TensorProblem> {
    let (Some(values), Some(indices)) = (&sparse.values, &sparse.indices) else {
        return Err(TensorProblem::Sparse("it has no values, or no indices".to_owned()));
    };
    let count = tensors::element_count(&sparse.dims)?;
    let stored = storage::values(values, dtype)?;
    let places = linear_indices(sparse, stored.len(), storage::integers(indices)?, &indices.dims)?;
    let size = dtype.element_bytes();
    let mut bytes = vec![0u8; count * size];
    let mut least = 0;
    for (&place, element) in places.iter().zip(stored.bytes().chunks_exact(size)) {
        if place < least {
            return Err(TensorProblem::Sparse(format!("index {place} does not stand behind the one before it")));
        }
        let slot = bytes.get_mut(place * size..(place + 1) * size).ok_or_else(|| {
            TensorProblem::Sparse(format!("index {place} is outside of shape {}", shape_text(&sparse.dims)))
        })?;
        slot.copy_from_slice(element);
        least = place + 1;
    }
    Ok(Values::new(dtype, bytes)?)
}

/// The places of the stored elements in the flat tensor; coordinates are turned into such places.
fn linear_indices(
    sparse: &SparseTensorProto,
    stored: usize,
    indices: Option<Vec<i64>>,
    index_dims: &[i64],
) -> Result<Vec<usize>, TensorProblem> {
    let indices = indices.ok_or_else(|| TensorProblem::Sparse("its indices are not integers".to_owned()))?;
    let lengths = tensors::shape(&sparse.dims)?;
    let coordinates_each = match tensors::shape(index_dims)?[..] {
        [elements] if elements == stored => 1,
        [elements, axes] if elements == stored && axes == lengths.len() => axes,
        _ => {
            let found = shape_text(index_dims);
            return Err(TensorProblem::Sparse(format!("{stored} values have indices of shape {found}")));
        }
    };
    let count = tensors::element_count(&sparse.dims)?;
    let bounds: &[usize] = if index_dims.len() == 1 { &[count] } else { &lengths };
    // A scalar has no axes, so that its elements have no coordinates to group by.
    if coordinates_each == 0 {
        return Ok(vec![0; stored]);
    }
    let place = |coordinates: &[i64]| {
        coordinates.iter().zip(bounds).try_fold(0usize, |place, (&coordinate, &bound)| {
            let inside = usize::try_from(coordinate).ok().filter(|coordinate| *coordinate < bound);
            inside.map(|coordinate| place * bound + coordinate).ok_or_else(|| {
                TensorProblem::Sparse(format!("index {coordinate} is outside of shape {}", shape_text(&sparse.dims)))
            })
        })
    };
    indices.chunks_exact(coordinates_each).map(place).collect()
}
