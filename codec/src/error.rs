//! What can go wrong, and whose fault it is.

/// Why a payload cannot be decoded: always the data's fault, or that of the caller's [`Limits`](crate::Limits).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes do not begin like a payload.
    #[error("this is no weight payload: it does not begin with the bytes DC 0D; check what the bytes were taken from")]
    NotAPayload,
    /// The payload ends too early.
    #[error("the payload ends inside {what}; it was cut off, fetch or write it again")]
    Truncated {
        /// What was being read.
        what: &'static str,
    },
    /// Bytes have changed since the payload was written.
    #[error(
        "the payload is damaged: its checksum is {found:08x}, it was written with {expected:08x}; fetch or write it again"
    )]
    Checksum {
        /// The checksum that the payload carries.
        expected: u32,
        /// The checksum of the bytes that are there.
        found: u32,
    },
    /// A later version of the format.
    #[error("the payload has format version {found}, this decoder knows versions up to {supported}; update it")]
    NewerVersion {
        /// The payload's version.
        found: u8,
        /// The newest version that this decoder knows.
        supported: u8,
    },
    /// The payload contradicts itself or the format's rules.
    #[error("the payload is malformed: {what}; it was not written by a correct encoder")]
    Corrupt {
        /// Which rule is broken.
        what: &'static str,
    },
    /// More elements are declared than so few bytes may hold.
    #[error(
        "the payload declares {elements} elements in a stream of {stream_bytes} bytes, more than the {limit} that the \
         format allows; it was not written by a correct encoder"
    )]
    Expansion {
        /// The declared number of elements.
        elements: u64,
        /// The size of the stream that should hold them.
        stream_bytes: u64,
        /// The most elements that such a stream may hold.
        limit: u64,
    },
    /// The decoded weights would exceed the caller's limit.
    #[error("the payload declares {declared} bytes of weights, the limit is {limit}; raise the limit if you trust it")]
    TooLarge {
        /// Bytes of all declared weights together.
        declared: u64,
        /// The limit, in bytes.
        limit: u64,
    },
    /// The decoded weights would exceed the memory that there is.
    #[error("the payload declares {declared} bytes of weights, and the system does not give that much memory")]
    OutOfMemory {
        /// Bytes of all declared weights together.
        declared: u64,
    },
    /// An error inside one of the weights.
    #[error("weight {index} of the payload: {source}")]
    Weight {
        /// Position of the weight in the payload, from 0.
        index: usize,
        /// What is wrong with it.
        source: Box<DecodeError>,
    },
}

impl DecodeError {
    pub(crate) const BAD_STEP: Self =
        Self::Corrupt { what: "a grid's step is not a positive finite number, or it has no channel" };
    pub(crate) const BAD_CODE: Self = Self::Corrupt { what: "a code has no centroid" };
    pub(crate) const BAD_MASK: Self = Self::Corrupt { what: "a mask does not fit the number of stored values" };
    pub(crate) const RAGGED: Self = Self::Corrupt { what: "values do not fill whole elements" };
    pub(crate) const TOO_LONG: Self = Self::Corrupt { what: "values exceed this machine's sizes" };
}

/// Why weights cannot be encoded: always the caller's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// A shape and a form that do not belong together.
    #[error("weight {index}: the shape {shape:?} does not have the {elements} elements that its form holds")]
    ShapeMismatch {
        /// Position of the weight among those to encode, from 0.
        index: usize,
        /// The shape that was given.
        shape: Vec<usize>,
        /// Number of elements of the form.
        elements: usize,
    },
    /// A layout that was made for another shape.
    #[error("weight {index}: the layout was made for another shape than {shape:?}; make it with Layout::new")]
    LayoutMismatch {
        /// Position of the weight among those to encode, from 0.
        index: usize,
        /// The shape that was given.
        shape: Vec<usize>,
    },
}
