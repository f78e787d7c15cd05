//! From file to model.
//!
//! First the message is decoded; tensor payloads stay slices of the file. Then external data joins them, mapped. Then
//! the [`collect`]or takes every weight's data out into the table, and the operators that read a weight give it its
//! role.

mod collect;
mod decode;
mod external;
mod sparse;
pub(crate) mod storage;

use std::path::Path;

use bytes::Bytes;
use onnx_dcomp_proto::tensor_proto::DataLocation;

use crate::error::TensorProblem;
use crate::{IrError, Model, Source, marker, role, tensors};

/// Reads a model from `bytes`, which messages call `name`; external data is looked for in `folder`.
pub(crate) fn read(bytes: Bytes, name: String, path: Option<&Path>, folder: Option<&Path>) -> Result<Model, IrError> {
    let mut proto = decode::decode(bytes.clone(), &name)?;
    let mut files = external::ExternalFiles::new(folder);
    tensors::try_for_each_mut(&mut proto, &mut |fallback, tensor| {
        let joined = if marker::is_marked(tensor) {
            Err(TensorProblem::ReservedKey)
        } else if tensor.data_location() == DataLocation::External {
            files.join(tensor)
        } else {
            Ok(())
        };
        let label = tensors::label(tensor, fallback);
        joined.map_err(|problem| IrError::Tensor { tensor: label.to_owned(), file: name.clone(), problem })
    })?;
    let source = Source::new(path, name, bytes, files.into_files());
    let mut table = collect::collect(&mut proto, &source)?;
    role::assign(&proto, &mut table);
    Ok(Model::new(proto, table.into_iter().map(Some).collect(), source))
}
