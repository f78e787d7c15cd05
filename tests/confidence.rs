//! What a search promises of samples that nobody has seen, in a world where the truth is known.

use onnx_dcomp::budget::search::search;
use onnx_dcomp::budget::{Confidence, Evaluator, Goal, Measured, Side, Source};
use onnx_dcomp_engine::metrics::classification::Changed;
use onnx_dcomp_engine::validate::DropMetric;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;

/// A network, of which the share of samples that are lost falls with the aim, as does the share of those that are gained
/// by chance.
struct World {
    /// For each side and sample, the aims below which it is lost and gained.
    sides: [Vec<[f64; 2]>; 2],
}

/// The share of all samples that are lost below an aim of 0 dB, and of those that are gained.
const SHARES: [f64; 2] = [0.20, 0.12];

/// How many decibels make a tenth of a share.
const TENFOLD: f64 = 20.0;

impl World {
    fn new(seed: u64, samples: usize) -> Self {
        let mut random = Pcg64::seed_from_u64(seed);
        let mut draw = |share: f64| TENFOLD * (share / random.random_range(f64::EPSILON..1.0)).log10();
        let mut side = || (0..samples).map(|_| SHARES.map(&mut draw)).collect();
        Self { sides: [side(), side()] }
    }

    /// What is lost on all samples that there are, in points.
    fn truth(quality: f64) -> f64 {
        100.0 * (SHARES[0] - SHARES[1]) * 10f64.powf(-quality / TENFOLD)
    }
}

impl Evaluator for World {
    type Candidate = f64;

    fn metric(&self) -> DropMetric {
        DropMetric::Top1
    }

    fn source(&self) -> Source {
        Source::Samples
    }

    fn samples(&self, side: Side) -> usize {
        self.sides[side as usize].len()
    }

    fn make(&mut self, quality: Option<f64>) -> Result<(f64, u64), onnx_dcomp::Error> {
        let quality = quality.unwrap_or(f64::INFINITY);
        Ok((quality, (1e4 * quality.min(100.0)) as u64))
    }

    fn measure(&mut self, quality: &mut f64, side: Side, samples: usize) -> Result<Measured, onnx_dcomp::Error> {
        let mut changed = Changed::default();
        for [lost, gained] in &self.sides[side as usize][..samples] {
            changed.lost += u64::from(lost > quality);
            changed.gained += u64::from(gained > quality);
        }
        Ok(Measured {
            drop_points: 100.0 * (changed.lost as f64 - changed.gained as f64) / samples as f64,
            standard_error: changed.standard_error(samples as u64),
            agreement_percent: None,
            sqnr_db: f64::NAN,
            broken: None,
        })
    }
}

const BOUND: f64 = 0.5;
const WORLDS: u64 = 200;

/// In how many of the worlds the truth keeps the budget, and the mean bytes.
fn kept(confidence: &str) -> (usize, f64) {
    let confidence: Confidence = confidence.parse().expect("a confidence");
    let goal = Goal { confidence, ..Goal::max_drop(BOUND) };
    let (mut kept, mut bytes) = (0, 0);
    for seed in 0..WORLDS {
        let found = search(&goal, &mut World::new(seed, 2_500)).expect("nothing fails here");
        assert_eq!(found.failure, None);
        let chosen = found.search.chosen.expect("one is chosen");
        let confirmed = found.search.confirmation.expect("it is confirmed");
        assert!(confirmed.drop_points <= BOUND && confirmed.certainty >= confidence.share(), "{confirmed:?}");
        kept += usize::from(World::truth(found.quality.unwrap_or(f64::INFINITY)) <= BOUND);
        bytes += found.search.candidates[chosen].bytes;
    }
    (kept, bytes as f64 / WORLDS as f64)
}

#[test]
fn the_more_confidence_is_asked_for_the_more_often_the_truth_keeps_the_budget_and_that_costs_bytes() {
    let [even, likely, almost] = ["50", "84.1", "97.7"].map(kept);
    let share = |(kept, _): (usize, f64)| kept as f64 / WORLDS as f64;
    assert!(share(likely) >= 0.841 && share(almost) >= 0.977, "{likely:?}, {almost:?}");
    assert!(share(even) < share(likely), "{even:?}, {likely:?}");
    assert!(even.1 < likely.1 && likely.1 < almost.1, "{even:?}, {likely:?}, {almost:?}");
}

#[test]
fn where_no_margin_is_wide_enough_it_says_how_certain_the_nearest_is() {
    let goal = Goal { confidence: "99.99 %".parse().expect("a confidence"), ..Goal::max_drop(BOUND) };
    /// Loses the same at every aim, with the unchanged values too.
    struct Flat;
    impl Evaluator for Flat {
        type Candidate = ();
        fn metric(&self) -> DropMetric {
            DropMetric::Top1
        }
        fn source(&self) -> Source {
            Source::Samples
        }
        fn samples(&self, _: Side) -> usize {
            50
        }
        fn make(&mut self, _: Option<f64>) -> Result<((), u64), onnx_dcomp::Error> {
            Ok(((), 1))
        }
        fn measure(&mut self, (): &mut (), _: Side, _: usize) -> Result<Measured, onnx_dcomp::Error> {
            Ok(Measured { drop_points: 0.2, standard_error: 0.3, agreement_percent: None, sqnr_db: 20.0, broken: None })
        }
    }
    let failure = search(&goal, &mut Flat).expect("nothing fails here").failure.expect("nothing is certain enough");
    assert!(failure.contains("certain to 84.1 %, not to 99.99 %"), "{failure}");
}
