//! A form of a weight to bytes and back: entropy coders, container, checksum.
//!
//! [`encode`] puts any number of weights into one payload, [`decode`] gets them back as dense values and
//! [`decode_forms`] as the forms that they were; [`inspect`] tells what is inside without decoding. The format is
//! specified to the bit in `FORMAT.md` beside this crate. Payloads may be hostile: every size is checked against the
//! bytes that are there before memory is allocated, and nothing panics.
//!
//! ```
//! use onnx_dcomp_codec::{Coder, Layout, Limits, Tensor, decode, encode};
//! use onnx_dcomp_forms::{DType, Form, Grid, GridKind, Steps};
//!
//! let levels: Vec<i16> = (0..600).map(|index| [0, 0, 1, 0, -1, 0][index % 6]).collect();
//! let form = Form::Grid(Grid::new(levels, Steps::PerTensor(0.25), GridKind::Uniform, DType::F32)?);
//! let shape = [20, 30];
//! let tensor = Tensor { shape: &shape, form: &form, layout: Layout::new(&shape, Some(0)) };
//! let payload = encode(&[tensor], Coder::Small)?;
//! let decoded = decode(&payload, &Limits::default())?;
//! assert_eq!(decoded[0].values, form.dense());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! | module | what |
//! |---|---|
//! | [`container`] | the payload: header, records, streams, checksum, limits |
//! | [`record`] | what a payload says of one weight: type, shape, form, coder, parameters |
//! | `static_coder` | forms as planes of symbols, for the coders `huffman` and `fast` |
//! | `numbers`, `floats` | integers, and values without loss, as planes |
//! | `plane` | a plane: raw, direct or as runs; chunks |
//! | `huffman`, `rans` | the static entropy coders |
//! | `rans_wide` | several streams of the latter at once, in vector instructions |
//! | `solid` | forms in the streams of the coder `small`: shared by small weights, in chunks for large ones |
//! | [`small`] | the adaptive coder |
//! | [`layout`] | how the elements of a weight are arranged |
//! | [`processor`] | hot loops in the widest instructions that the processor has |
//! | `reader` | bytes, varints and bits, read with every step checked |
//! | [`error`] | what can go wrong, and whose fault it is |

pub mod container;
pub mod error;
mod floats;
mod huffman;
pub mod layout;
mod numbers;
mod parallel;
mod plane;
pub mod processor;
mod rans;
#[cfg(target_arch = "x86_64")]
mod rans_wide;
mod reader;
pub mod record;
pub mod small;
mod solid;
mod static_coder;

pub use container::{
    Decoded, FORMAT_VERSION, Limits, MAGIC, MAX_EXPANSION, Tensor, decode, decode_forms, encode, inspect,
};
pub use error::{DecodeError, EncodeError};
pub use layout::Layout;
pub use record::{Coder, Record, Stream, UnknownCoder};
