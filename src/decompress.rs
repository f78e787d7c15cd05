//! From packed to plain, as files.

use std::path::{Path, PathBuf};

use onnx_dcomp_ir::Model;
use onnx_dcomp_load::{is_packed, most_decoded_bytes, unpack};
use onnx_dcomp_passes::portable::{Computed, fold_back};

use crate::compile::METADATA_KEY;
use crate::output::Staged;
use crate::{Error, Target, Watch};

/// What [`decompress`] did.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Decompressed {
    /// The packed file.
    pub input: PathBuf,
    /// The plain file.
    pub output: PathBuf,
    /// Payloads that were decoded; 0 where there was none.
    pub payloads: usize,
    /// Weights that they held, or that standard operators computed; 0 where the input was plain already.
    pub weights: usize,
    /// Bytes of the input, external data included.
    pub bytes_before: u64,
    /// Bytes of the output, external data included.
    pub bytes_after: u64,
}

/// Writes the model at `input` as plain ONNX to `output`, which may be the same file.
///
/// # Errors
/// Whatever reading, decoding or writing meets; `output` is then as it was.
pub fn decompress(input: &Path, output: &Path, watch: &dyn Watch) -> Result<Decompressed, Error> {
    let staged = Staged::beside(output)?;
    let mut model = Model::open(input)?;
    watch.begin("decoding", None);
    let unpacked = unpack(&mut model).map_err(Error::from).and_then(|mut unpacked| {
        unpacked.weights += compute(&mut model)?.len();
        Ok(unpacked)
    });
    watch.end();
    let unpacked = unpacked?;
    watch.begin("writing", None);
    let saved = staged.save(&model);
    watch.end();
    let bytes_after = saved?.total_bytes();
    staged.commit()?;
    Ok(Decompressed {
        input: input.to_owned(),
        output: output.to_owned(),
        payloads: unpacked.payloads,
        weights: unpacked.weights,
        bytes_before: model.source().total_bytes(),
        bytes_after,
    })
}

/// Whether `model` says that its weights are computed by standard operators.
pub fn is_portable(model: &Model) -> bool {
    let made_by = model.proto.metadata_props.iter().find(|entry| entry.key() == METADATA_KEY);
    let target = made_by.and_then(|entry| entry.value().rsplit(' ').next()?.parse::<Target>().ok());
    target.is_some_and(Target::is_portable)
}

/// Whether `model` is a file of ours that is no plain one.
pub fn is_compressed(model: &Model) -> bool {
    is_packed(model) || is_portable(model)
}

/// Turns a portable model into a plain one: nodes that compute weights give way to what they compute.
///
/// # Errors
/// [`Error::Portable`] where they would compute more than a file of this size may hold. Drop the model then.
pub fn compute(model: &mut Model) -> Result<Vec<Computed>, Error> {
    if !is_portable(model) {
        return Ok(Vec::new());
    }
    let computed = fold_back(model, most_decoded_bytes(model));
    let computed = computed.map_err(|reason| Error::Portable { file: model.source().name().to_owned(), reason })?;
    for entry in &mut model.proto.metadata_props {
        if entry.key() == METADATA_KEY
            && let Some((head, _)) = entry.value().rsplit_once(' ')
        {
            entry.value = Some(head.to_owned());
        }
    }
    Ok(computed)
}
