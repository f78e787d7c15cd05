//! A form of a weight to bytes and back: entropy coders, container, checksum.

pub mod error;
pub mod layout;
pub mod small;

pub use error::{DecodeError, EncodeError};
pub use layout::Layout;
