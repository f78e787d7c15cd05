//! What can be wrong with a model, and whose fault it is.

use std::io;
use std::path::PathBuf;

use onnx_dcomp_forms::{DType, FormError};

/// Why a model cannot be read, changed or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IrError {
    /// The system does not give us the file.
    #[error("Cannot read {}: {source}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file is something else.
    #[error("{file} is not an ONNX model: {reason}")]
    NotOnnx {
        /// The file.
        file: String,
        /// What was expected and what was found.
        reason: String,
    },
    /// The file ends before the model does.
    #[error("{file} is truncated: {reason}; get the file again")]
    Truncated {
        /// The file.
        file: String,
        /// Where it ends.
        reason: String,
    },
    /// A tensor of the file makes no sense.
    #[error("Cannot read `{tensor}` ({file}): {problem}")]
    Tensor {
        /// The tensor.
        tensor: String,
        /// The file.
        file: String,
        /// What is wrong.
        #[source]
        problem: TensorProblem,
    },
    /// The model breaks a rule of ONNX or of the weight table.
    #[error("The model is not sound at {place}: {problem}")]
    Unsound {
        /// The node, tensor or graph.
        place: String,
        /// The rule and what was found.
        problem: String,
    },
    /// A model that cannot be put into one node.
    #[error("the model cannot be put into one node: {reason}; use another target")]
    NotEnclosable {
        /// What stood in the way.
        reason: String,
    },
    /// A form that does not fit its weight: a bug of the pass that made it.
    #[error("`{weight}` holds {expected} elements of {expected_dtype}; its new form holds {found} of {found_dtype}")]
    FormMismatch {
        /// The weight.
        weight: String,
        /// Elements of the weight.
        expected: usize,
        /// Elements of the form.
        found: usize,
        /// Type of the weight.
        expected_dtype: DType,
        /// Type of the form.
        found_dtype: DType,
    },
    /// The system does not take the file.
    #[error("Cannot write {}: {source}; nothing was changed", file.display())]
    Write {
        /// The file.
        file: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// What must stay in the main file is beyond what readers of protobuf accept.
    #[error(
        "Cannot write {}: {} bytes remain beside the external data, and ONNX files end at {} bytes",
        file.display(), grouped(*bytes), grouped(*limit)
    )]
    TooLarge {
        /// The file.
        file: PathBuf,
        /// Size that the main file would have.
        bytes: u64,
        /// The most that readers accept.
        limit: u64,
    },
}

/// What is wrong with one tensor of a file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TensorProblem {
    /// An axis of negative length.
    #[error("axis {axis} of its shape is {length}; lengths are not negative")]
    NegativeAxis {
        /// The axis.
        axis: usize,
        /// Its length.
        length: i64,
    },
    /// More elements than memory has addresses.
    #[error("shape {shape} has more elements than any memory holds")]
    TooManyElements {
        /// The shape.
        shape: String,
    },
    /// The stored data does not fit the shape.
    #[error(
        "shape {shape} needs {} {unit}, found {}; the file is {}",
        grouped(*needed), grouped(*found), if found < needed { "truncated" } else { "damaged" }
    )]
    Size {
        /// The shape.
        shape: String,
        /// What the shape needs.
        needed: u64,
        /// What there is.
        found: u64,
        /// What is counted: `bytes of raw data`, `elements of float_data`.
        unit: &'static str,
    },
    /// An entry of `int32_data` that is outside of the element type.
    #[error("entry {index} of int32_data is {value}, which is no {dtype}")]
    OutOfRange {
        /// Position of the entry.
        index: usize,
        /// The entry.
        value: i32,
        /// The element type.
        dtype: DType,
    },
    /// A sparse tensor whose parts do not fit together.
    #[error("its sparse form is damaged: {0}")]
    Sparse(String),
    /// External data without a folder to look for it.
    #[error("its data is in `{location}`, but the model was not read from a folder")]
    NoFolder {
        /// The file as the model names it.
        location: String,
    },
    /// External data outside of the model's folder.
    #[error("its external data `{location}` {reason}; data must lie in the model's folder or below")]
    OutsideFolder {
        /// The file as the model names it.
        location: String,
        /// How it leaves the folder.
        reason: &'static str,
    },
    /// External data that cannot be read.
    #[error("its external data {} cannot be read: {source}", file.display())]
    ExternalRead {
        /// The file.
        file: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// External data that ends too early.
    #[error(
        "its external data {} ends at byte {}, but the tensor lies at bytes {} to {}; the file is truncated",
        file.display(), grouped(*found), grouped(*start), grouped(*end)
    )]
    ExternalShort {
        /// The file.
        file: PathBuf,
        /// Where the tensor starts.
        start: u64,
        /// Where the tensor ends.
        end: u64,
        /// Where the file ends.
        found: u64,
    },
    /// An `external_data` entry that is missing or unreadable.
    #[error("the entry `{key}` of its external data is {found}; expected {expected}")]
    ExternalEntry {
        /// Key of the entry.
        key: &'static str,
        /// What the entry holds.
        found: String,
        /// What it should hold.
        expected: &'static str,
    },
    /// A tensor that carries the key of our own markers.
    #[error("it carries the key `{}`, which is reserved; remove the entry from its external_data", crate::marker::KEY)]
    ReservedKey,
    /// Data that does not make up elements.
    #[error(transparent)]
    Form(#[from] FormError),
}

/// A shape for people: `500×800`.
pub(crate) fn shape_text<T: ToString>(shape: &[T]) -> String {
    if shape.is_empty() {
        return "()".to_owned();
    }
    shape.iter().map(T::to_string).collect::<Vec<_>>().join("×")
}

/// A number for people: `1,600,000`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        let cases = [(0, "0"), (999, "999"), (1_000, "1,000"), (1_600_000, "1,600,000")];
        for (number, text) in cases {
            assert_eq!(grouped(number), text);
        }
    }

    #[test]
    fn shapes_read_as_people_write_them() {
        assert_eq!(shape_text(&[500, 800]), "500×800");
        assert_eq!(shape_text::<usize>(&[]), "()");
    }
}
