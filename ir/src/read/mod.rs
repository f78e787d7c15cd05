//! From file to model.
//!
//! First the message is decoded; tensor payloads stay slices of the file. Then external data joins them, mapped. Where
//! that encloses another model, its message takes the place of the first. Then the [`collect`]or takes every weight's data out into the table, and the operators that read a weight give it its
//! role.

mod collect;
mod decode;
mod external;
mod sparse;
pub(crate) mod storage;

use std::path::{Path, PathBuf};

use bytes::Bytes;
use onnx_dcomp_proto::ModelProto;
use onnx_dcomp_proto::tensor_proto::DataLocation;

use crate::enclosed::SESSION_OPERATOR;
use crate::error::TensorProblem;
use crate::{IrError, Model, Source, enclosed, marker, role, tensors};

/// Reads a model from `bytes`, which messages call `name`, and opens what is enclosed in it; external data is looked for
/// in `folder`.
pub(crate) fn read(bytes: Bytes, name: String, path: Option<&Path>, folder: Option<&Path>) -> Result<Model, IrError> {
    let (mut proto, files) = message(bytes.clone(), &name, folder)?;
    if let Some(inner) = enclosed::message(&proto) {
        // Once, whatever is in there.
        let (inner, _) = message(inner, &name, None)?;
        let not_ours =
            |reason| IrError::Unsound { place: format!("{name}, node `{}`", SESSION_OPERATOR), problem: reason };
        proto = enclosed::opened(proto, inner).map_err(not_ours)?;
    }
    model(proto, Source::new(path, name, bytes, files))
}

/// Reads a model from `bytes`, which messages call `name`, and leaves what is enclosed in it alone.
pub(crate) fn read_one(bytes: Bytes, name: String) -> Result<Model, IrError> {
    let (proto, files) = message(bytes.clone(), &name, None)?;
    model(proto, Source::new(None, name, bytes, files))
}

/// The message in `bytes`, joined by its external data; with the files of these.
fn message(bytes: Bytes, name: &str, folder: Option<&Path>) -> Result<(ModelProto, Vec<(PathBuf, Bytes)>), IrError> {
    let mut proto = decode::decode(bytes, name)?;
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
        joined.map_err(|problem| IrError::Tensor { tensor: label.to_owned(), file: name.to_owned(), problem })
    })?;
    Ok((proto, files.into_files()))
}

fn model(mut proto: ModelProto, source: Source) -> Result<Model, IrError> {
    let mut table = collect::collect(&mut proto, &source)?;
    role::assign(&proto, &mut table);
    Ok(Model::new(proto, table.into_iter().map(Some).collect(), source))
}
