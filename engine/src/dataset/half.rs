//! Two halves of a data set, drawn by lot.

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
    let mut places: Vec<usize> = (0..all.len()).collect();
    places.shuffle(&mut Pcg64::seed_from_u64(seed));
    let mut second = places.split_off(all.len().div_ceil(2));
    places.sort_unstable();
    second.sort_unstable();
    [places, second].map(|places| Half { all: Arc::clone(&all), places })
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
}
