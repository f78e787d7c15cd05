//! Bytes where every element type may start.

use bytes::Bytes;

const WIDTH: usize = size_of::<u64>();

/// Bytes that start at a multiple of eight: shared where they do already, copied otherwise.
#[derive(Debug, Clone)]
pub struct AlignedBytes(Data);

#[derive(Debug, Clone)]
enum Data {
    Shared(Bytes),
    /// A copy, of which so many bytes count.
    Copied(Vec<u64>, usize),
}

impl From<&Bytes> for AlignedBytes {
    fn from(bytes: &Bytes) -> Self {
        if bytes.as_ptr().addr().is_multiple_of(WIDTH) {
            return Self(Data::Shared(bytes.clone()));
        }
        let word = |chunk: &[u8]| {
            let mut word = [0; WIDTH];
            word[..chunk.len()].copy_from_slice(chunk);
            u64::from_ne_bytes(word)
        };
        Self(Data::Copied(bytes.chunks(WIDTH).map(word).collect(), bytes.len()))
    }
}

impl AlignedBytes {
    /// The first byte.
    pub fn as_ptr(&self) -> *const u8 {
        match &self.0 {
            Data::Shared(bytes) => bytes.as_ptr(),
            Data::Copied(words, _) => words.as_ptr().cast(),
        }
    }

    /// Number of bytes.
    pub fn len(&self) -> usize {
        match &self.0 {
            Data::Shared(bytes) => bytes.len(),
            Data::Copied(_, bytes) => *bytes,
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
