//! Two halves of a data set, drawn by lot, and parts of them.

use std::sync::Arc;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_pcg::Pcg64;

use super::{Dataset, Sample};
use crate::error::EngineError;

/// Some of the samples of a data set.
pub struct Half {
    all: Arc<dyn Dataset>,
    places: Vec<usize>,
}

/// Splits `all` into two parts of equal size (the first has one more where the number is odd), as `seed` draws them.
/// Within a part samples keep their order.
pub fn halves(all: Box<dyn Dataset>, seed: u64) -> [Half; 2] {
    let all: Arc<dyn Dataset> = Arc::from(all);
    lots(all.len(), seed).map(|places| Half { all: Arc::clone(&all), places })
}

/// The places that [`halves`] draws for each half of `len` samples, rising.
pub fn lots(len: usize, seed: u64) -> [Vec<usize>; 2] {
    let mut places: Vec<usize> = (0..len).collect();
    places.shuffle(&mut Pcg64::seed_from_u64(seed));
    let mut second = places.split_off(len.div_ceil(2));
    places.sort_unstable();
    second.sort_unstable();
    [places, second]
}

impl Half {
    /// At most `count` of the samples, spread evenly over all.
    #[must_use]
    pub fn spread(&self, count: usize) -> Self {
        let (len, count) = (self.places.len(), count.clamp(1, self.places.len().max(1)));
        let places = (0..count.min(len)).map(|index| self.places[index * len / count]).collect();
        Self { all: Arc::clone(&self.all), places }
    }
}

impl Dataset for Half {
    fn len(&self) -> usize {
        self.places.len()
    }

    fn images(&self) -> bool {
        self.all.images()
    }

    fn sample(&self, index: usize) -> Result<Sample, EngineError> {
        self.all.sample(self.places[index])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::Label;

    struct Numbers(usize);

    impl Dataset for Numbers {
        fn len(&self) -> usize {
            self.0
        }

        fn sample(&self, index: usize) -> Result<Sample, EngineError> {
            Ok(Sample { name: String::new(), inputs: Vec::new(), label: Label::Class(index), batches: true })
        }
    }

    fn classes(half: &Half) -> Vec<usize> {
        let class = |index| match half.sample(index).map(|sample| sample.label) {
            Ok(Label::Class(class)) => class,
            _ => usize::MAX,
        };
        (0..half.len()).map(class).collect()
    }

    #[test]
    fn halves_cover_everything_once_in_order_and_follow_the_seed() {
        let [first, second] = halves(Box::new(Numbers(101)), 7);
        let (first, second) = (classes(&first), classes(&second));
        assert_eq!((first.len(), second.len()), (51, 50));
        assert!(first.is_sorted() && second.is_sorted());
        let mut all: Vec<usize> = first.iter().chain(&second).copied().collect();
        all.sort_unstable();
        assert_eq!(all, (0..101).collect::<Vec<_>>());
        assert_eq!(classes(&halves(Box::new(Numbers(101)), 7)[0]), first);
        assert_ne!(classes(&halves(Box::new(Numbers(101)), 8)[0]), first);
    }

    #[test]
    fn a_part_is_spread_over_the_whole_and_all_is_all() {
        let [half, _] = halves(Box::new(Numbers(100)), 3);
        let (all, part) = (classes(&half), classes(&half.spread(10)));
        assert_eq!(part, all.iter().copied().step_by(5).collect::<Vec<_>>());
        assert_eq!(classes(&half.spread(1000)), all);
    }
}
