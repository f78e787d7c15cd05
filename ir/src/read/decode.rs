//! The message itself, and what to say where there is none.

use bytes::{Buf, Bytes};
use onnx_dcomp_proto::{Message, ModelProto};

use crate::IrError;
use crate::error::grouped;

/// Fields of the model that are messages or strings, with the names that people know.
const TOP_LEVEL: [(u64, &str); 7] = [
    (2, "producer name"),
    (6, "doc string"),
    (7, "graph"),
    (8, "operator set"),
    (14, "metadata"),
    (20, "training information"),
    (25, "function"),
];

/// Decodes `bytes`; tensor payloads of the result are slices of it.
pub(super) fn decode(bytes: Bytes, file: &str) -> Result<ModelProto, IrError> {
    let not_onnx = |reason: String| IrError::NotOnnx { file: file.to_owned(), reason };
    if bytes.is_empty() {
        return Err(not_onnx("the file is empty".to_owned()));
    }
    if bytes.starts_with(b"version https://git-lfs") {
        return Err(not_onnx("it is a Git LFS pointer; fetch the model itself with `git lfs pull`".to_owned()));
    }
    let model = ModelProto::decode(bytes.clone()).map_err(|error| match cut_off(bytes) {
        Some(reason) => IrError::Truncated { file: file.to_owned(), reason },
        None => not_onnx(format!("expected a protobuf message of type onnx.ModelProto ({error})")),
    })?;
    if model.graph.is_none() {
        return Err(not_onnx(
            "expected a protobuf message of type onnx.ModelProto with a graph, found none".to_owned(),
        ));
    }
    Ok(model)
}

/// Where the file ends too early: all top-level fields make sense for a model, and the last claims more than there is.
fn cut_off(mut bytes: Bytes) -> Option<String> {
    while bytes.has_remaining() {
        let key = varint(&mut bytes)?;
        match key & 7 {
            0 => {
                varint(&mut bytes)?;
            }
            2 => {
                let (_, name) = TOP_LEVEL.iter().find(|(field, _)| *field == key >> 3).copied().unwrap_or((0, ""));
                let length = varint(&mut bytes)?;
                let left = bytes.remaining() as u64;
                if length > left {
                    let known = !name.is_empty();
                    return known
                        .then(|| format!("its {name} takes {} bytes, found {}", grouped(length), grouped(left)));
                }
                bytes.advance(length as usize);
            }
            _ => return None,
        }
    }
    None
}

fn varint(bytes: &mut Bytes) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        if !bytes.has_remaining() {
            return None;
        }
        let byte = bytes.get_u8();
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}
