//! The search itself.

use onnx_dcomp_engine::Validation;
use onnx_dcomp_ir::Model;

use super::bisection::Bisection;
use super::judge::{Judge, Side};
use super::{Budget, Candidate, Confirmation, Goal, Search};
use crate::{Error, PassRecord, Watch};

/// A compressed model that is tried.
pub(crate) struct Made {
    /// The model.
    pub(crate) model: Model,
    /// Bytes of its file.
    pub(crate) bytes: u64,
    /// What the passes did.
    pub(crate) passes: Vec<PassRecord>,
    /// The aim that it was made with; `None` where no value was changed.
    pub(crate) quality: Option<f64>,
}

/// What a search ends with.
pub(crate) struct Found {
    /// What was tried.
    pub(crate) search: Search,
    /// What was chosen, or, where nothing keeps the budget, what comes nearest.
    pub(crate) made: Made,
    /// Why nothing keeps the budget.
    pub(crate) failure: Option<String>,
}

/// How much finer the next candidate is where the confirmation fails, in decibels, and how often that is tried before
/// only the unchanged values are left.
const FINER: f64 = 1.0;
const MOST_CONFIRMATIONS: usize = 8;

/// 97.5 % of a normal distribution lie below so many standard deviations.
const NORMAL_975: f64 = 1.96;

/// Makes a model for an aim in decibels, or one whose values are unchanged.
pub(crate) type Maker<'a> = dyn FnMut(Option<f64>) -> Result<Made, Error> + 'a;

/// Finds what `goal` asks.
///
/// # Errors
/// Whatever making or running a candidate meets. That nothing keeps the budget is no error here.
pub(crate) fn search(goal: &Goal, judge: &mut Judge, make: &mut Maker<'_>, watch: &dyn Watch) -> Result<Found, Error> {
    let search = Search {
        budget: goal.budget,
        metric: judge.metric(),
        samples: judge.samples(Side::Search),
        candidates: Vec::new(),
        chosen: None,
        confirmation: None,
    };
    let seeker = Seeker { goal, judge, make, watch, search };
    match goal.budget {
        Budget::MaxDrop(bound) => seeker.smallest(bound),
        Budget::MaxBytes(bytes) => seeker.best(bytes),
    }
}

struct Seeker<'a, 'b> {
    goal: &'a Goal,
    judge: &'a mut Judge,
    make: &'a mut Maker<'b>,
    watch: &'a dyn Watch,
    search: Search,
}

impl Seeker<'_, '_> {
    /// The smallest file that loses at most `bound` points.
    fn smallest(mut self, bound: f64) -> Result<Found, Error> {
        let mut bisection = Bisection::default();
        let mut best: Option<(Made, usize)> = None;
        while let Some(quality) = bisection.next() {
            let (made, place) = self.candidate(Some(quality))?;
            let will_do = self.search.candidates[place].keeps_budget;
            bisection.tell(quality, will_do);
            if will_do && best.as_ref().is_none_or(|(known, _)| made.bytes < known.bytes) {
                best = Some((made, place));
            }
        }
        let (mut made, mut place) = match best {
            Some(best) => best,
            None => self.candidate(None)?,
        };
        let mut failure = self.unless_kept(place);
        for tries in 1.. {
            let validation = self.measure(&made.model, Side::Confirmation)?;
            self.confirm(&validation, tries);
            let is_kept = failure.is_none() && self.keeps(&validation, bound);
            if is_kept || made.quality.is_none() {
                if !is_kept && failure.is_none() {
                    failure = Some(self.shortfall(&validation));
                }
                break;
            }
            let finer = made.quality.map(|quality| quality + FINER).filter(|_| tries < MOST_CONFIRMATIONS);
            (made, place) = self.candidate(finer)?;
            failure = self.unless_kept(place);
        }
        self.search.chosen = failure.is_none().then_some(place);
        Ok(Found { search: self.search, made, failure })
    }

    /// The best file of at most `bytes`.
    fn best(mut self, bytes: u64) -> Result<Found, Error> {
        // Where values need not change, nothing is better.
        let mut best = self.candidate(None)?;
        if best.0.bytes > bytes {
            let mut bisection = Bisection::default();
            // What is too coarse for a loss is what fits here: the search runs the other way round.
            while let Some(mirrored) = bisection.next() {
                let tried = self.candidate(Some(MIRROR - mirrored))?;
                let fits = tried.0.bytes <= bytes;
                bisection.tell(mirrored, fits);
                // As long as none fits the smallest is kept, then the finest of those that fit.
                let is_better = match best.0.bytes <= bytes {
                    true => fits && tried.0.quality > best.0.quality,
                    false => tried.0.bytes < best.0.bytes,
                };
                if is_better {
                    best = tried;
                }
            }
        }
        let (made, place) = best;
        if made.bytes > bytes {
            let failure = format!("no file of at most {bytes} bytes was found; the smallest has {}", made.bytes);
            return Ok(Found { search: self.search, made, failure: Some(failure) });
        }
        let validation = self.measure(&made.model, Side::Confirmation)?;
        self.confirm(&validation, 1);
        let broken = self.goal.floors.iter().find(|floor| !floor.holds(&validation));
        let failure = broken.map(|_| self.shortfall(&validation));
        self.search.chosen = failure.is_none().then_some(place);
        Ok(Found { search: self.search, made, failure })
    }

    /// Makes and measures a candidate, and notes it; with its place among the candidates.
    fn candidate(&mut self, quality: Option<f64>) -> Result<(Made, usize), Error> {
        let made = (self.make)(quality)?;
        let validation = self.measure(&made.model, Side::Search)?;
        let metric = self.search.metric;
        let keeps_budget = match self.goal.budget {
            Budget::MaxDrop(bound) => self.keeps(&validation, bound),
            Budget::MaxBytes(bytes) => {
                made.bytes <= bytes && self.goal.floors.iter().all(|floor| floor.holds(&validation))
            }
        };
        let classes = validation.classification.as_ref().map(|report| report.agreement_percent);
        let pixels = validation.segmentation.as_ref().map(|report| report.pixel_agreement_percent);
        let worst = validation.outputs.iter().map(|output| output.fidelity.sqnr_db);
        self.search.candidates.push(Candidate {
            quality: quality.unwrap_or(f64::INFINITY),
            bytes: made.bytes,
            drop_points: validation.loss(metric).unwrap_or(f64::NAN),
            standard_error: validation.standard_error(metric),
            agreement_percent: classes.or(pixels),
            sqnr_db: worst.fold(f64::INFINITY, f64::min),
            keeps_budget,
        });
        Ok((made, self.search.candidates.len() - 1))
    }

    fn measure(&mut self, model: &Model, side: Side) -> Result<Validation, Error> {
        let stage = match side {
            Side::Search => format!("searching: candidate {}", self.search.candidates.len() + 1),
            Side::Confirmation => "confirming".to_owned(),
        };
        self.watch.begin(&stage, Some(self.judge.samples(side) as u64));
        let measured = self.judge.measure(model, side, self.watch);
        self.watch.end();
        measured
    }

    fn keeps(&self, validation: &Validation, bound: f64) -> bool {
        let loss = validation.loss(self.search.metric).unwrap_or(f64::NAN);
        loss <= bound && self.goal.floors.iter().all(|floor| floor.holds(validation))
    }

    fn unless_kept(&self, place: usize) -> Option<String> {
        let candidate = &self.search.candidates[place];
        (!candidate.keeps_budget).then(|| {
            let points = candidate.drop_points;
            format!("{} falls by {points:.3} points in the file that comes nearest", self.search.metric.name())
        })
    }

    /// Why the confirmation failed.
    fn shortfall(&self, validation: &Validation) -> String {
        let broken = self.goal.floors.iter().find(|floor| !floor.holds(validation));
        match broken.and_then(|floor| Some((floor, floor.reached(validation)?))) {
            Some((floor, reached)) => format!("the floor {floor} is broken: {reached:.4} is reached"),
            None => {
                let loss = validation.loss(self.search.metric).unwrap_or(f64::NAN);
                format!(
                    "{} falls by {loss:.3} points on samples that the search had not seen",
                    self.search.metric.name()
                )
            }
        }
    }

    fn confirm(&mut self, validation: &Validation, tries: usize) {
        let drop_points = validation.loss(self.search.metric).unwrap_or(f64::NAN);
        let reach = NORMAL_975 * validation.standard_error(self.search.metric);
        self.search.confirmation = Some(Confirmation {
            samples: self.judge.samples(Side::Confirmation),
            drop_points,
            interval_95: [drop_points - reach, drop_points + reach],
            tries,
        });
    }
}

/// The finest quality becomes the coarsest.
const MIRROR: f64 = 60.0;
