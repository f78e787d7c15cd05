//! The search itself.

use super::bisection::Bisection;
use super::evaluator::{Evaluator, Measured, Side};
use super::{Budget, Candidate, Confirmation, Goal, Search};
use crate::Error;

/// What a search ends with.
#[derive(Debug)]
pub struct Found<C> {
    /// What was tried.
    pub search: Search,
    /// What was chosen, or, where nothing keeps the budget, what comes nearest.
    pub candidate: C,
    /// The aim that it was made with; `None` where no value was changed.
    pub quality: Option<f64>,
    /// Why nothing keeps the budget.
    pub failure: Option<String>,
}

/// How much finer the next candidate is where the confirmation fails, in decibels, and how often that is tried before
/// only the unchanged values are left. Steps grow, by as much after every second of them: small ones first, where little
/// is missing, and in all far enough to where samples hardly change their class any more.
const FINER: f64 = 1.0;
const MOST_CONFIRMATIONS: usize = 8;

/// 97.5 % of a normal distribution lie below so many standard deviations.
const NORMAL_975: f64 = 1.96;

/// A candidate runs on this part of the samples first, where that is so many of them,
const PART: usize = 4;
const FEWEST_IN_PART: usize = 100;

/// and on no more where it loses more than the bound by so many standard errors: chance does that once in 700 times.
const BEYOND_DOUBT: f64 = 3.0;

/// Finds what `goal` asks.
///
/// # Errors
/// Whatever making or running a candidate meets. That nothing keeps the budget is no error here.
pub fn search<E: Evaluator>(goal: &Goal, evaluator: &mut E) -> Result<Found<E::Candidate>, Error> {
    let search = Search {
        budget: goal.budget,
        metric: evaluator.metric(),
        source: evaluator.source(),
        samples: evaluator.samples(Side::Search),
        sparsity: None,
        candidates: Vec::new(),
        chosen: None,
        confirmation: None,
    };
    let seeker = Seeker { goal, evaluator, search };
    match goal.budget {
        Budget::MaxDrop(bound) => seeker.smallest(bound),
        Budget::MaxBytes(bytes) => seeker.best(bytes),
    }
}

struct Seeker<'a, E: Evaluator> {
    goal: &'a Goal,
    evaluator: &'a mut E,
    search: Search,
}

/// A candidate, and where it stands among those that were tried.
struct Tried<C> {
    candidate: C,
    quality: Option<f64>,
    place: usize,
}

impl<E: Evaluator> Seeker<'_, E> {
    /// The smallest file that loses at most `bound` points.
    fn smallest(mut self, bound: f64) -> Result<Found<E::Candidate>, Error> {
        let mut bisection = Bisection::default();
        let mut best: Option<Tried<E::Candidate>> = None;
        while let Some(quality) = bisection.next() {
            let tried = self.try_aim(Some(quality))?;
            let will_do = self.at(&tried).keeps_budget;
            bisection.tell(quality, will_do);
            if will_do && best.as_ref().is_none_or(|known| self.at(&tried).bytes < self.at(known).bytes) {
                best = Some(tried);
            }
        }
        let mut best = match best {
            Some(best) => best,
            None => self.try_aim(None)?,
        };
        let mut failure = self.unless_kept(&best);
        for tries in 1.. {
            let measured = self.confirm(&mut best, tries)?;
            let is_kept = failure.is_none() && measured.keeps_with(bound, self.goal.confidence);
            if is_kept || best.quality.is_none() {
                if !is_kept && failure.is_none() {
                    failure = Some(self.shortfall(&measured));
                }
                break;
            }
            let step = FINER * tries.div_ceil(2) as f64;
            let finer = best.quality.map(|quality| quality + step).filter(|_| tries < MOST_CONFIRMATIONS);
            best = self.try_aim(finer)?;
            failure = self.unless_kept(&best);
        }
        Ok(self.found(best, failure))
    }

    /// The best file of at most `bytes`.
    fn best(mut self, bytes: u64) -> Result<Found<E::Candidate>, Error> {
        // Where values need not change, nothing is better.
        let mut best = self.try_aim(None)?;
        if self.at(&best).bytes > bytes {
            let mut bisection = Bisection::default();
            // What is too coarse for a loss is what fits here: the search runs the other way round.
            while let Some(mirrored) = bisection.next() {
                let tried = self.try_aim(Some(MIRROR - mirrored))?;
                let fits = self.at(&tried).bytes <= bytes;
                bisection.tell(mirrored, fits);
                // As long as none fits the smallest is kept, then the best of those that fit.
                let is_better = match self.at(&best).bytes <= bytes {
                    true => fits && self.is_better(&tried, &best),
                    false => self.at(&tried).bytes < self.at(&best).bytes,
                };
                if is_better {
                    best = tried;
                }
            }
        }
        let smallest = self.at(&best).bytes;
        if smallest > bytes {
            let failure = format!("no file of at most {bytes} bytes was found; the smallest has {smallest}");
            return Ok(self.found(best, Some(failure)));
        }
        let mut failure = None;
        if self.evaluator.samples(Side::Confirmation) > 0 {
            let measured = self.confirm(&mut best, 1)?;
            failure = measured.broken.map(|_| self.shortfall(&measured));
        }
        Ok(self.found(best, failure))
    }

    /// Whether the outputs of `one` are nearer to the original's; where nobody measured them, whether its aim is finer.
    fn is_better(&self, one: &Tried<E::Candidate>, other: &Tried<E::Candidate>) -> bool {
        let [one, other] = [self.at(one), self.at(other)];
        match one.sqnr_db.partial_cmp(&other.sqnr_db) {
            Some(order) => order.then_with(|| other.bytes.cmp(&one.bytes)).is_gt(),
            None => one.quality > other.quality,
        }
    }

    fn found(mut self, best: Tried<E::Candidate>, failure: Option<String>) -> Found<E::Candidate> {
        self.search.chosen = failure.is_none().then_some(best.place);
        Found { search: self.search, candidate: best.candidate, quality: best.quality, failure }
    }

    fn at(&self, tried: &Tried<E::Candidate>) -> &Candidate {
        &self.search.candidates[tried.place]
    }

    /// Makes and measures a candidate, and notes it.
    fn try_aim(&mut self, quality: Option<f64>) -> Result<Tried<E::Candidate>, Error> {
        let (mut candidate, bytes) = self.evaluator.make(quality)?;
        let all = self.search.samples;
        let (mut samples, mut measured) = (all, None);
        if let Budget::MaxDrop(bound) = self.goal.budget
            && quality.is_some()
            && all / PART >= FEWEST_IN_PART
        {
            let part = self.evaluator.measure(&mut candidate, Side::Search, all / PART)?;
            if part.drop_points - BEYOND_DOUBT * part.standard_error > bound {
                (samples, measured) = (all / PART, Some(part));
            }
        }
        let measured = match measured {
            Some(measured) => measured,
            None => self.evaluator.measure(&mut candidate, Side::Search, all)?,
        };
        let keeps_budget = match self.goal.budget {
            Budget::MaxDrop(bound) => measured.keeps(bound),
            Budget::MaxBytes(most) => bytes <= most && measured.broken.is_none(),
        };
        self.search.candidates.push(Candidate {
            quality: quality.unwrap_or(f64::INFINITY),
            bytes,
            samples,
            drop_points: measured.drop_points,
            standard_error: measured.standard_error,
            agreement_percent: measured.agreement_percent,
            sqnr_db: measured.sqnr_db,
            keeps_budget,
        });
        Ok(Tried { candidate, quality, place: self.search.candidates.len() - 1 })
    }

    fn unless_kept(&self, tried: &Tried<E::Candidate>) -> Option<String> {
        let candidate = self.at(tried);
        (!candidate.keeps_budget).then(|| {
            let points = candidate.drop_points;
            format!("{} falls by {points:.3} points in the file that comes nearest", self.search.metric.name())
        })
    }

    /// Why the confirmation failed.
    fn shortfall(&self, measured: &Measured) -> String {
        match &measured.broken {
            Some((floor, reached)) => format!("the floor {floor} is broken: {reached:.4} is reached"),
            None => {
                let (metric, points) = (self.search.metric.name(), measured.drop_points);
                let certainty = match self.goal.budget {
                    Budget::MaxDrop(bound) if measured.keeps(bound) => measured.doubt(bound, self.goal.confidence),
                    _ => String::new(),
                };
                format!("{metric} falls by {points:.3} points on samples that the search had not seen{certainty}")
            }
        }
    }

    /// Measures on the samples that were kept back, and notes it.
    fn confirm(&mut self, tried: &mut Tried<E::Candidate>, tries: usize) -> Result<Measured, Error> {
        let samples = self.evaluator.samples(Side::Confirmation);
        let measured = self.evaluator.measure(&mut tried.candidate, Side::Confirmation, samples)?;
        let drop_points = measured.drop_points;
        let reach = NORMAL_975 * measured.standard_error;
        let interval_95 = [drop_points - reach, drop_points + reach];
        let certainty = match self.goal.budget {
            Budget::MaxDrop(bound) => measured.certainty(bound),
            Budget::MaxBytes(_) => f64::NAN,
        };
        self.search.confirmation = Some(Confirmation { samples, drop_points, interval_95, certainty, tries });
        Ok(measured)
    }
}

/// The finest quality becomes the coarsest.
const MIRROR: f64 = 60.0;
