//! A compilation whose quality a budget search finds.

use onnx_dcomp_engine::PreprocessOptions;
use onnx_dcomp_engine::backend::Recorded;
use onnx_dcomp_engine::validate::DropMetric;
use onnx_dcomp_ir::Model;
use onnx_dcomp_passes::{PipelineText, Rules};

use super::{Check, Compiler};
use crate::budget::judge::Judge;
use crate::budget::search::search;
use crate::budget::{Evaluator, Goal, Measured, Search, Side, Source};
use crate::evidence::{Gathering, Knowledge};
use crate::fidelity::{self, Fidelity};
use crate::plan::Resolved;
use crate::{Error, PassRecord, Watch};

/// What the passes and the search did.
pub(super) struct Ran {
    pub(super) passes: Vec<PassRecord>,
    pub(super) evidence: Option<String>,
    /// The passes of the output, as text.
    pub(super) pipeline: String,
    pub(super) search: Option<Search>,
    /// The original and the output, with what they gave for samples; where a search ran them.
    pub(super) sessions: Option<[Recorded; 2]>,
    /// Why the output must not be written.
    pub(super) failure: Option<Error>,
}

impl Ran {
    /// What passes did where nothing was searched.
    pub(super) fn of(passes: Vec<PassRecord>, evidence: Option<String>, pipeline: String) -> Self {
        Self { passes, evidence, pipeline, search: None, sessions: None, failure: None }
    }
}

/// A compressed model that is tried.
pub(super) struct Made {
    model: Model,
    /// What the passes did.
    passes: Vec<PassRecord>,
    /// The model, ready to run; where it was measured on samples.
    session: Option<Recorded>,
}

/// Makes candidates: runs what is left of a plan.
pub(super) struct Maker<'a> {
    pub(super) compiler: &'a Compiler,
    pub(super) plan: &'a Resolved,
    pub(super) rules: &'a Rules,
    /// The model that the passes from `start` on run on, and what is known of it.
    pub(super) model: &'a Model,
    pub(super) known: &'a Knowledge,
    pub(super) start: usize,
    pub(super) watch: &'a dyn Watch,
}

impl Maker<'_> {
    fn make(&self, quality: Option<f64>) -> Result<(Made, u64), Error> {
        let mut model = self.model.clone();
        let text = self.plan.tail(self.start, quality);
        let passes = self.compiler.run_steps(&text, self.rules, &mut model, self.known, self.start, self.watch)?;
        self.compiler.verify_model(&model)?;
        self.compiler.finish(&mut model, self.plan)?;
        let bytes = model.plain_bytes()?;
        Ok((Made { model, passes, session: None }, bytes))
    }
}

/// Candidates on samples.
struct OnSamples<'a> {
    maker: &'a Maker<'a>,
    judge: &'a mut Judge,
    goal: &'a Goal,
    made: usize,
}

impl Evaluator for OnSamples<'_> {
    type Candidate = Made;

    fn metric(&self) -> DropMetric {
        self.judge.metric()
    }

    fn source(&self) -> Source {
        Source::Samples
    }

    fn samples(&self, side: Side) -> usize {
        self.judge.samples(side)
    }

    fn make(&mut self, quality: Option<f64>) -> Result<(Made, u64), Error> {
        self.made += 1;
        self.maker.make(quality)
    }

    fn measure(&mut self, made: &mut Made, side: Side, samples: usize) -> Result<Measured, Error> {
        let stage = match side {
            Side::Search => format!("searching: candidate {}", self.made),
            Side::Confirmation => "confirming".to_owned(),
        };
        let session = match &mut made.session {
            Some(session) => session,
            none => none.insert(self.judge.session(&made.model)?),
        };
        self.maker.watch.begin(&stage, Some(samples as u64));
        let validation = self.judge.measure(session, side, samples, self.maker.watch);
        self.maker.watch.end();
        Ok(Measured::of(&validation?, self.judge.metric(), &self.goal.floors))
    }
}

/// Candidates on inputs drawn at random: others than the evidence comes from, and others than fidelity is measured on.
struct OnSyntheticInputs<'a> {
    maker: &'a Maker<'a>,
    original: &'a Model,
    preprocess: &'a PreprocessOptions,
    /// How many inputs were drawn last.
    inputs: usize,
}

/// What the seed of the inputs is off by.
const SEED_OFFSET: u64 = 0xF17;

impl Evaluator for OnSyntheticInputs<'_> {
    type Candidate = Made;

    fn metric(&self) -> DropMetric {
        DropMetric::RelativeError
    }

    fn source(&self) -> Source {
        Source::Synthetic
    }

    fn samples(&self, side: Side) -> usize {
        if side == Side::Search { self.inputs } else { 0 }
    }

    fn make(&mut self, quality: Option<f64>) -> Result<(Made, u64), Error> {
        self.maker.make(quality)
    }

    fn measure(&mut self, made: &mut Made, _: Side, _: usize) -> Result<Measured, Error> {
        let seed = self.maker.compiler.seed_or_default().wrapping_add(SEED_OFFSET);
        let reached = fidelity::measure(self.original, &made.model, self.preprocess, seed, self.maker.watch);
        let sqnr_db = match reached {
            Fidelity::Exact => f64::INFINITY,
            Fidelity::Measured { sqnr_db, inputs, .. } => {
                self.inputs = inputs;
                sqnr_db
            }
            Fidelity::Unknown { .. } => f64::NAN,
        };
        Ok(Measured {
            drop_points: 100.0 * 10f64.powf(-sqnr_db / 20.0),
            standard_error: f64::NAN,
            agreement_percent: None,
            sqnr_db,
            broken: None,
        })
    }
}

impl Compiler {
    /// What the search is to find, where the plan leaves something to find.
    pub(super) fn searched(&self, plan: &Resolved) -> Option<(&Check, &Goal)> {
        let check = self.check.as_ref()?;
        check.goal.as_ref().filter(|_| plan.can_search()).map(|goal| (check, goal))
    }

    /// Runs the passes for one candidate after the other; `model` becomes the one that is chosen.
    pub(super) fn search(
        &self,
        plan: &Resolved,
        model: &mut Model,
        (check, goal): (&Check, &Goal),
        preprocess: &PreprocessOptions,
        gathering: &mut Gathering,
        watch: &dyn Watch,
    ) -> Result<Ran, Error> {
        let seed = self.seed_or_default();
        // What is wrong with samples or goal must come out before the long work.
        let mut judge = Judge::open(&self.input, &check.samples, preprocess, &check.runtimes, goal, seed)?;
        let rules = plan.rules(model)?;
        let mut start = plan.search_start();
        let (mut records, _) = self.run_range(plan, 0..start, &rules, model, gathering, watch)?;
        let known = gathering.gather(model, watch)?;
        let sparsity = match plan.sparsity_step() {
            Some(step) => {
                records.extend(self.run_range(plan, start..step, &rules, model, gathering, watch)?.0);
                start = step + 1;
                Some(self.find_sparsity(plan, model, &mut judge, goal, (&rules, &known, step), watch)?)
            }
            None => None,
        };
        let maker = Maker { compiler: self, plan, rules: &rules, model, known: &known, start, watch };
        let found = search(goal, &mut OnSamples { maker: &maker, judge: &mut judge, goal, made: 0 })?;
        let pipeline = pipeline(plan, start, found.quality);
        *model = found.candidate.model;
        records.extend(found.candidate.passes);
        Ok(Ran {
            passes: records,
            evidence: Some(known.evidence.source.clone()),
            pipeline,
            search: Some(Search { sparsity, ..found.search }),
            sessions: found.candidate.session.map(|session| [judge.into_original(), session]),
            failure: found.failure.map(|reason| Error::Unmet { reason }),
        })
    }

    /// Finds the best file of at most `bytes` without samples; `model` becomes it.
    pub(super) fn fit(
        &self,
        plan: &Resolved,
        model: &mut Model,
        bytes: u64,
        preprocess: &PreprocessOptions,
        gathering: &mut Gathering,
        watch: &dyn Watch,
    ) -> Result<Ran, Error> {
        let original = model.clone();
        let rules = plan.rules(model)?;
        let start = plan.search_start();
        let (mut records, _) = self.run_range(plan, 0..start, &rules, model, gathering, watch)?;
        let known = gathering.gather(model, watch)?;
        let maker = Maker { compiler: self, plan, rules: &rules, model, known: &known, start, watch };
        let mut evaluator = OnSyntheticInputs { maker: &maker, original: &original, preprocess, inputs: 0 };
        let mut found = search(&Goal::max_bytes(bytes), &mut evaluator)?;
        found.search.samples = evaluator.inputs;
        let pipeline = pipeline(plan, start, found.quality);
        *model = found.candidate.model;
        records.extend(found.candidate.passes);
        Ok(Ran {
            passes: records,
            evidence: Some(known.evidence.source.clone()),
            pipeline,
            search: Some(found.search),
            sessions: None,
            failure: found.failure.map(|reason| Error::Unmet { reason }),
        })
    }
}

/// The passes of a candidate that was made from step `start` on, with those before.
fn pipeline(plan: &Resolved, start: usize, quality: Option<f64>) -> String {
    let steps = [plan.range(0..start).steps, plan.tail(start, quality).steps].concat();
    PipelineText { steps }.to_string()
}
