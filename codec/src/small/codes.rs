//! Codes of a codebook: zero flag, sign, and the rank of the centroid among those of its sign.

use onnx_dcomp_forms::Values;

use super::arithmetic::{BinaryCoder, On};
use super::context::half_octaves;
use super::course::Place;
use super::levels::{CHECK_INTERVAL, LevelModel, Outlook};
use super::mixing::Weights;
use super::model::{COUNT_LIMIT, Slot, direct, mixed_slots};
use crate::error::DecodeError;
use crate::layout::Layout;
use crate::processor::{self, Work};

/// Contexts of a bit of a rank.
const INPUTS: usize = 3;
/// Leading bits of a rank that are predicted by more than the higher ones.
const SHARED_BITS: u32 = 8;

/// The two sides of a codebook, as encoder and decoder know them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sides {
    has_zero: bool,
    below: u32,
    above: u32,
}

impl Sides {
    /// Counts the centroids on either side of zero, by their sign bits.
    fn of(centroids: &Values) -> Self {
        let has_zero = !centroids.is_empty() && centroids.bits(0) == 0;
        let sign = 8 * centroids.dtype().element_bytes() - 1;
        let first = usize::from(has_zero);
        let below = (first..centroids.len()).take_while(|&index| centroids.bits(index) >> sign & 1 == 1).count();
        Self { has_zero, below: below as u32, above: (centroids.len() - first - below) as u32 }
    }

    /// Sign and rank of `code`, rank 0 nearest to zero; `None` for the code of zero.
    fn split(self, code: u16) -> Option<(bool, u32)> {
        let code = u32::from(code) + u32::from(!self.has_zero);
        match code {
            0 => None,
            _ if code <= self.below => Some((true, self.below - code)),
            _ => Some((false, code - self.below - 1)),
        }
    }

    /// The inverse of [`Self::split`].
    fn join(self, negative: bool, rank: u32) -> u16 {
        let code = if negative { self.below - rank } else { self.below + 1 + rank };
        (code - u32::from(!self.has_zero)) as u16
    }
}

/// What is learnt of codes, over all weights of a stream.
pub(super) struct CodeModel {
    elements: LevelModel,
    shared: Vec<Slot>,
    weights: [Weights; SHARED_BITS as usize],
}

impl CodeModel {
    pub(super) fn new() -> Self {
        Self {
            elements: LevelModel::new(),
            shared: vec![Slot::NEW; (32 + 24) << SHARED_BITS],
            weights: [Weights::new::<INPUTS>(30_000); SHARED_BITS as usize],
        }
    }

    /// Codes `codes` in place: an encoder leaves them as they are, a decoder fills them in.
    pub(super) fn code<C: BinaryCoder>(
        &mut self,
        coder: &mut C,
        codes: &mut [u16],
        centroids: &Values,
        layout: &Layout,
    ) -> Result<(), DecodeError> {
        processor::run(Codes { model: self, coder, codes, centroids, layout })
    }

    #[inline(always)]
    fn code_here<C: BinaryCoder>(
        &mut self,
        coder: &mut C,
        codes: &mut [u16],
        centroids: &Values,
        layout: &Layout,
    ) -> Result<(), DecodeError> {
        let sides = Sides::of(centroids);
        let bits = u32::BITS - (sides.below.max(sides.above).max(1) - 1).leading_zeros();
        let mut own = vec![Slot::NEW; 2 << bits];
        let mut neighbours = self.elements.begin(layout, codes.len());
        for chunk in codes.chunks_mut(CHECK_INTERVAL) {
            for code in chunk {
                let wanted = sides.split(*code);
                let mut outlook = self.elements.look(&neighbours, &Place::PLAIN);
                let is_zero = match (sides.has_zero, sides.below + sides.above) {
                    (_, 0) => true,
                    (false, _) => false,
                    _ => !self.elements.flag(coder, &outlook, wanted.is_some()),
                };
                if is_zero {
                    *code = 0;
                    self.elements.learn(&mut neighbours, &outlook, 0);
                    continue;
                }
                let (negative, rank) = wanted.unwrap_or((false, 0));
                let negative = match (sides.below, sides.above) {
                    (_, 0) => true,
                    (0, _) => false,
                    _ => self.elements.sign(coder, &mut outlook, &neighbours, negative),
                };
                let limit = if negative { sides.below } else { sides.above };
                let own = &mut own[usize::from(negative) << bits..];
                let rank = self.rank(coder, &outlook, own, negative, (bits, limit), rank);
                *code = sides.join(negative, rank);
                let value = 2 * (rank as i32 + 1);
                self.elements.learn(&mut neighbours, &outlook, if negative { -value } else { value });
            }
            coder.check()?;
        }
        self.elements.end(&neighbours);
        Ok(())
    }

    /// Codes a rank of `bits` bits below `limit`, the highest bit first.
    #[inline(always)]
    fn rank<C: BinaryCoder>(
        &mut self,
        coder: &mut C,
        outlook: &Outlook,
        own: &mut [Slot],
        negative: bool,
        (bits, limit): (u32, u32),
        wanted: u32,
    ) -> u32 {
        let expected = half_octaves(outlook.expected).min(31) << SHARED_BITS;
        let agreement = (32 + outlook.agreement(negative)) << SHARED_BITS;
        let mut rank = 0;
        let mut node = 1;
        for place in (0..bits).rev() {
            let depth = (bits - 1 - place) as usize;
            let wanted = wanted >> place & 1 == 1;
            let bit = if rank + (1 << place) >= limit {
                false
            } else if depth < SHARED_BITS as usize {
                let [one, two] = [expected + node, agreement + node];
                let mut slots = [own[node], self.shared[one], self.shared[two]];
                let bit = mixed_slots(coder, &mut slots, &mut self.weights[depth], wanted);
                [own[node], self.shared[one], self.shared[two]] = slots;
                bit
            } else {
                direct(coder, &mut own[node], wanted, COUNT_LIMIT)
            };
            node = node << 1 | usize::from(bit);
            rank |= u32::from(bit) << place;
        }
        rank
    }
}

/// [`CodeModel::code`] as work that is compiled twice.
struct Codes<'a, C> {
    model: &'a mut CodeModel,
    coder: &'a mut C,
    codes: &'a mut [u16],
    centroids: &'a Values,
    layout: &'a Layout,
}

impl<C: BinaryCoder> Work for Codes<'_, C> {
    type Output = Result<(), DecodeError>;

    #[inline(always)]
    fn run<const HAS_AVX2: bool>(self) -> Self::Output {
        self.model.code_here(&mut On::<HAS_AVX2, C>(self.coder), self.codes, self.centroids, self.layout)
    }
}
