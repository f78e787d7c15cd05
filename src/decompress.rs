//! From packed to plain, as files.

use std::path::{Path, PathBuf};

use onnx_dcomp_ir::Model;
use onnx_dcomp_load::unpack;

use crate::output::Staged;
use crate::{Error, Watch};

/// What [`decompress`] did.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Decompressed {
    /// The packed file.
    pub input: PathBuf,
    /// The plain file.
    pub output: PathBuf,
    /// Payloads that were decoded; 0 where the input was plain already.
    pub payloads: usize,
    /// Weights that they held.
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
    let unpacked = unpack(&mut model);
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
