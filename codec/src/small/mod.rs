//! The coder for small files: adaptive binary arithmetic coding with mixed contexts.
//!
//! | module | what |
//! |---|---|
//! | `arithmetic` | one bit and its probability ⇄ bytes |
//! | `model`, `mixing` | probabilities that learn, and the mixer that joins them |
//! | `context` | what the neighbours of an element tell: scales, signs, a forecast |
//! | `course` | what the trellis or the lattice tells of an element |
//! | `levels`, `codes`, `floats` | how levels, masks, codes and numbers become bits |

mod arithmetic;
mod codes;
mod context;
mod course;
mod floats;
mod levels;
mod mixing;
mod model;

use onnx_dcomp_forms::{DType, GridKind, Mask, Values};

use crate::error::DecodeError;
use crate::layout::Layout;
use arithmetic::{BitCounter, BitDecoder, BitEncoder};
use codes::CodeModel;
use course::Course;
use floats::FloatModel;
use levels::LevelModel;

/// What has been learnt so far; goes on over the weights of a stream. Each part is made when first asked for.
#[derive(Default)]
struct Models {
    levels: Option<LevelModel>,
    masks: Option<LevelModel>,
    codes: Option<CodeModel>,
    /// By element type; the 8-bit types share one.
    floats: [Option<FloatModel>; DType::ALL.len()],
}

impl Models {
    fn levels(&mut self) -> &mut LevelModel {
        self.levels.get_or_insert_with(LevelModel::new)
    }

    fn masks(&mut self) -> &mut LevelModel {
        self.masks.get_or_insert_with(LevelModel::new)
    }

    fn codes(&mut self) -> &mut CodeModel {
        self.codes.get_or_insert_with(CodeModel::new)
    }

    fn floats(&mut self, dtype: DType) -> &mut FloatModel {
        let dtype = if dtype == DType::U8 { DType::I8 } else { dtype };
        self.floats[dtype as usize].get_or_insert_with(|| FloatModel::new(dtype))
    }
}

/// Writes one stream; what it learns goes on from call to call.
///
/// A [`Decoder`] must make the same calls in the same order.
pub struct Encoder {
    models: Models,
    coder: BitEncoder,
}

impl Encoder {
    /// An empty stream.
    pub fn new() -> Self {
        Self { models: Models::default(), coder: BitEncoder::new() }
    }

    /// Appends levels of a grid of this kind, from element `first` of their weight on.
    pub fn levels(&mut self, levels: &[i16], layout: &Layout, kind: GridKind, first: usize) {
        let mut levels = levels.to_vec();
        // An encoder's check cannot fail; the same holds for every call below.
        let _ = self.models.levels().code(&mut self.coder, &mut levels, layout, Course::new(kind, first));
    }

    /// Appends the codes of a codebook, whose centroids the decoder must know by then.
    pub fn codes(&mut self, codes: &[u16], centroids: &Values, layout: &Layout) {
        let mut codes = codes.to_vec();
        let _ = self.models.codes().code(&mut self.coder, &mut codes, centroids, layout);
    }

    /// Appends numbers, bit-exact.
    pub fn floats(&mut self, values: &Values) {
        let model = self.models.floats(values.dtype());
        let _ = model.code(&mut self.coder, values.dtype(), values.len(), |index| values.bits(index));
    }

    /// Appends numbers, bit-exact, that mostly ascend, such as centroids: the first may be zero whatever follows.
    pub fn sorted_floats(&mut self, values: &Values) {
        let model = self.models.floats(values.dtype());
        let _ = model.code_sorted(&mut self.coder, values.dtype(), values.len(), |index| values.bits(index));
    }

    /// Appends a mask.
    pub fn mask(&mut self, mask: &Mask, layout: &Layout) {
        let _ = self.models.masks().code_mask(&mut self.coder, mask.len(), layout, |index| mask.get(index));
    }

    /// Ends the stream.
    pub fn finish(self) -> Vec<u8> {
        self.coder.finish()
    }
}

impl Default for Encoder {
    fn default() -> Self {
        Self::new()
    }
}

/// Reads one stream that an [`Encoder`] wrote.
///
/// Any bytes are accepted: those of no encoder give arbitrary elements, or [`DecodeError::Truncated`] where the stream
/// ends before its elements do. The caller bounds the counts; work and memory are proportional to them.
pub struct Decoder<'a> {
    models: Models,
    coder: BitDecoder<'a>,
}

impl<'a> Decoder<'a> {
    /// The stream that `bytes` hold.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { models: Models::default(), coder: BitDecoder::new(bytes) }
    }

    /// Reads `count` levels of a grid of this kind, from element `first` of their weight on.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] where the stream ends before.
    pub fn levels(
        &mut self,
        count: usize,
        layout: &Layout,
        kind: GridKind,
        first: usize,
    ) -> Result<Vec<i16>, DecodeError> {
        let mut levels = vec![0; count];
        self.models.levels().code(&mut self.coder, &mut levels, layout, Course::new(kind, first))?;
        Ok(levels)
    }

    /// Reads `count` codes of a codebook with these centroids. Each code has a centroid, provided there is one.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] where the stream ends before.
    pub fn codes(&mut self, count: usize, centroids: &Values, layout: &Layout) -> Result<Vec<u16>, DecodeError> {
        let mut codes = vec![0; count];
        self.models.codes().code(&mut self.coder, &mut codes, centroids, layout)?;
        Ok(codes)
    }

    /// Reads `count` numbers.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] where the stream ends before.
    pub fn floats(&mut self, count: usize, dtype: DType) -> Result<Values, DecodeError> {
        self.models.floats(dtype).code(&mut self.coder, dtype, count, |_| 0)
    }

    /// Reads `count` numbers that mostly ascend.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] where the stream ends before.
    pub fn sorted_floats(&mut self, count: usize, dtype: DType) -> Result<Values, DecodeError> {
        self.models.floats(dtype).code_sorted(&mut self.coder, dtype, count, |_| 0)
    }

    /// Reads a mask of `count` elements.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] where the stream ends before.
    pub fn mask(&mut self, count: usize, layout: &Layout) -> Result<Mask, DecodeError> {
        self.models.masks().code_mask(&mut self.coder, count, layout, |_| false)
    }
}

/// Bits that `levels` would take as the first weight of a stream. Writes nothing.
pub fn estimate_bits_levels(levels: &[i16], layout: &Layout, kind: GridKind) -> f64 {
    let mut counter = BitCounter::default();
    let _ = LevelModel::new().code(&mut counter, &mut levels.to_vec(), layout, Course::new(kind, 0));
    counter.bits
}
