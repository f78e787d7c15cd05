//! The compiler as a library: [`Compiler`], for build scripts and for the command line alike.

mod command;
mod default;
mod files;
mod gathering;
mod goal;
mod iterative;
mod options;
mod passes;
mod reporting;
mod search;

use std::path::PathBuf;

use onnx_dcomp_engine::RuntimeKind;
use onnx_dcomp_engine::backend::Recorded;
use onnx_dcomp_ir::{Model, Weight};
use onnx_dcomp_load::is_packed;
use onnx_dcomp_load::unpack::check_payloads;
use onnx_dcomp_proto::StringStringEntryProto;

use self::files::dependency_rule;
use self::reporting::{Details, StagedReport};
use self::search::Ran;
use crate::budget::Goal;
use crate::decompress::is_compressed;
use crate::fidelity::Fidelity;
use crate::observe::Observing;
use crate::output::Staged;
use crate::plan::{Choices, Resolved};
use crate::report::{Compilation, Outcome, WeightsBefore};
use crate::validation::{Comparison, Samples, Validator};
use crate::{Error, Plan, Target, Tuning, Watch, fidelity};

/// Key of the entry in `metadata_props` that says how a file was made.
pub const METADATA_KEY: &str = "ai.dcomp";

/// Compresses a model.
///
/// ```no_run
/// // build.rs
/// let out = std::path::Path::new(&std::env::var("OUT_DIR")?).join("net.onnx");
/// let made = onnx_dcomp::Compiler::new("net.onnx").output(out).quality(onnx_dcomp::Quality::High).run()?;
/// for file in &made.dependencies {
///     println!("cargo::rerun-if-changed={}", file.display());
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Compiler {
    input: PathBuf,
    output: Option<PathBuf>,
    plan: Plan,
    choices: Choices,
    tuning: Option<Tuning>,
    threads: usize,
    check: Option<Check>,
    max_bytes: Option<u64>,
    observing: Observing,
    depfile: Option<PathBuf>,
    report: Option<PathBuf>,
    evidence: Option<PathBuf>,
}

/// What is validated before the output is written.
#[derive(Debug, Clone)]
struct Check {
    samples: Samples,
    runtimes: Vec<RuntimeKind>,
    /// What must hold, or what a search is to find.
    goal: Option<Goal>,
    /// Whether the passes learn from the training side of the samples.
    calibrates: bool,
}

/// Where what is made goes, before it goes there.
struct Places {
    staged: Option<Staged>,
    depfile: Option<Staged>,
    report: Option<(StagedReport, Details)>,
}

impl Compiler {
    /// Compresses the model at `input`, to a balanced quality.
    pub fn new(input: impl Into<PathBuf>) -> Self {
        Self {
            input: input.into(),
            output: None,
            plan: Plan::default(),
            choices: Choices::default(),
            tuning: None,
            threads: 0,
            check: None,
            max_bytes: None,
            observing: Observing::default(),
            depfile: None,
            report: None,
            evidence: None,
        }
    }

    /// Compresses the model.
    ///
    /// # Errors
    /// [`Error`] says whose fault it is; the output is then as it was.
    pub fn run(&self) -> Result<Compilation, Error> {
        self.run_watched(&())
    }

    /// Compresses the model, and tells `watch` how far it is.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn run_watched(&self, watch: &dyn Watch) -> Result<Compilation, Error> {
        if self.threads == 0 {
            return self.compile(watch);
        }
        let pool = rayon::ThreadPoolBuilder::new().num_threads(self.threads).build();
        let pool = pool.map_err(|error| Error::Usage(format!("cannot use {} threads: {error}", self.threads)))?;
        pool.install(|| self.compile(watch))
    }

    fn compile(&self, watch: &dyn Watch) -> Result<Compilation, Error> {
        let plan = self.resolve(watch)?;
        self.check_sparsity_goal(&plan)?;
        self.check_depfile()?;
        let staged = self.output.as_deref().map(Staged::beside).transpose()?;
        let depfile = self.depfile.as_deref().map(Staged::beside).transpose()?;
        let report = self.stage_report()?;
        watch.begin("reading", None);
        let model = Model::open(&self.input);
        watch.end();
        let mut model = model?;
        self.verify_model(&model)?;
        self.check_external_data(&model)?;
        let preprocess = self.preprocess()?;
        let mut gathering = self.gathering(&plan, &model, &preprocess)?;
        let original = model.clone();
        let mut warnings = self.warnings(&model);
        let before = WeightsBefore::of(&model);

        let ran = if is_compressed(&model) {
            self.check_packed(&model)?;
            Ran::of(Vec::new(), None, plan.text.to_string())
        } else if let Some(asked) = self.searched(&plan) {
            self.search(&plan, &mut model, asked, &preprocess, &mut gathering, watch)?
        } else if let Some(bytes) = self.bytes_to_fit().filter(|_| plan.can_search()) {
            self.fit(&plan, &mut model, bytes, &preprocess, &mut gathering, watch)?
        } else if let Some(quality) = self.plan.default_quality() {
            self.run_default(&plan, quality, &mut model, &preprocess, &mut gathering, watch)?
        } else {
            self.run_passes(&plan, &mut model, &mut gathering, watch)?
        };
        self.verify_model(&model)?;
        self.finish(&mut model, &plan)?;

        let is_exact = keeps_every_bit(&original, &model);
        let is_larger = model.plain_bytes()? >= model.source().total_bytes();
        // Unchanged is always a candidate, unless it would hold other values than those that plain floats were asked for.
        let outcome = match self.choices.target {
            _ if is_compressed(&original) => Outcome::Unchanged,
            Target::Dense if is_larger && is_exact => Outcome::Unchanged,
            Target::Dense => Outcome::Compressed,
            _ if is_larger => Outcome::Unchanged,
            _ => Outcome::Compressed,
        };
        let written = if outcome == Outcome::Unchanged { &original } else { &model };
        let fidelity = match is_exact || outcome == Outcome::Unchanged {
            true => Fidelity::Exact,
            false => fidelity::measure(&original, &model, &preprocess, self.seed_or_default(), watch),
        };
        let mut made = Compilation::new(&self.input, outcome, before, written);
        (made.pipeline, made.passes, made.evidence, made.search) = (ran.pipeline, ran.passes, ran.evidence, ran.search);
        made.fidelity = Some(fidelity);
        made.evidence_file = gathering.into_record();
        made.dependencies = self.dependencies(&original, &plan);
        if staged.is_some() && outcome == Outcome::Unchanged && !self.finds_external_data(&original) {
            warnings.push(format!("the output holds the external data of {} itself", self.input.display()));
        }
        if staged.is_none() && self.check.is_some() {
            warnings.push("nothing was validated: nothing is written".to_owned());
        }
        warnings.iter().for_each(|warning| watch.warn(warning));
        made.warnings = warnings;
        let report = report.map(|report| (report, self.details(&original, &plan, written, made.search.as_ref())));
        let sessions = ran.sessions.filter(|_| outcome == Outcome::Compressed);
        self.deliver(Places { staged, depfile, report }, (written, sessions), ran.failure, &mut made, watch)?;
        Ok(made)
    }

    /// The plan, with what layers take.
    fn resolve(&self, watch: &dyn Watch) -> Result<Resolved, Error> {
        let plan = self.plan.resolve(self.choices)?;
        match &self.tuning {
            None => Ok(plan),
            Some(tuning) if plan.fuses() => {
                self.plan.resolve(Choices { costs: Some(tuning.costs(watch)?), ..self.choices })
            }
            Some(_) => {
                let reason = "what layers take was given, but no layer is to be fused; add --target fused";
                Err(Error::Usage(reason.to_owned()))
            }
        }
    }

    /// Writes `model` and what goes with it, and puts all of it into its place.
    fn deliver(
        &self,
        Places { staged, depfile, report }: Places,
        (model, sessions): (&Model, Option<[Recorded; 2]>),
        failure: Option<Error>,
        made: &mut Compilation,
        watch: &dyn Watch,
    ) -> Result<(), Error> {
        let write = || staged.as_ref().map_or(Ok(()), |staged| self.write(staged, model, sessions, made, watch));
        let done = failure.map_or_else(write, Err);
        // Where a bound is broken, the report is what one wants to look at.
        let failure = match done {
            Ok(()) => None,
            Err(error @ (Error::Budget { .. } | Error::Unmet { .. })) => Some(error),
            Err(error) => return Err(error),
        };
        if failure.is_none() {
            made.output.clone_from(&self.output);
        }
        if let Some((report, details)) = &report {
            report.save(made, details, failure.as_ref())?;
        }
        if let (Some(staged), None) = (staged, &failure) {
            self.commit(staged, depfile, made)?;
        }
        if let Some((report, _)) = report {
            report.commit()?;
        }
        failure.map_or(Ok(()), Err)
    }

    /// Writes `model` beside its place, and validates what was written; `sessions` have run the original and `model`
    /// before, and know what came out.
    fn write(
        &self,
        staged: &Staged,
        model: &Model,
        sessions: Option<[Recorded; 2]>,
        made: &mut Compilation,
        watch: &dyn Watch,
    ) -> Result<(), Error> {
        watch.begin("writing", None);
        let source = model.source();
        let is_verbatim = made.outcome == Outcome::Unchanged && self.finds_external_data(model);
        let saved = if is_verbatim {
            staged.save_bytes(source.bytes()).map(|_| source.total_bytes())
        } else {
            staged.save(model).map(|files| files.total_bytes())
        };
        watch.end();
        made.bytes_after = saved?;
        if let Some(check) = &self.check {
            let mut samples = check.samples.clone();
            samples.preprocess = self.preprocess_file();
            // What is the same byte for byte finds its external data only in its own place.
            let written = if is_verbatim { &self.input } else { staged.path() };
            let validator = Validator::new(&self.input, written, samples)
                .runtimes(check.runtimes.clone())
                .first_runtime_only(check.runtimes.is_empty())
                .compare_runtimes(Comparison::Never)
                .max_drop(self.bound_to_check(check, made))
                .illustrated(self.report.is_some());
            // What was run before is what was written only where the bytes say so.
            let is_known =
                || model.to_bytes().is_ok_and(|bytes| std::fs::read(written).is_ok_and(|file| file == bytes));
            let mut report = match sessions.filter(|_| check.runtimes.len() < 2 && is_known()) {
                Some(sessions) => validator.run_in(sessions, watch)?,
                None => validator.run(watch)?,
            };
            if let Some(output) = &self.output {
                report.compressed.clone_from(output);
            }
            let verdict = report.check("; nothing was written").and_then(|()| self.check_goal(check, made, &report));
            made.validation = Some(report);
            verdict?;
        }
        self.check_bytes(made)
    }

    /// Puts what was written into its place.
    fn commit(&self, staged: Staged, depfile: Option<Staged>, made: &Compilation) -> Result<(), Error> {
        let Some(output) = &self.output else { return Ok(()) };
        if let Some(depfile) = &depfile {
            depfile.save_bytes(dependency_rule(output, &made.dependencies).as_bytes())?;
        }
        staged.commit()?;
        depfile.map(Staged::commit).transpose()?;
        Ok(())
    }

    /// A packed model stays as it is, if its payloads are sound; whoever wants it plain must say so with the right
    /// command.
    fn check_packed(&self, model: &Model) -> Result<(), Error> {
        let is_packed = is_packed(model);
        match self.choices.target {
            Target::Packed if is_packed => Ok(check_payloads(model)?),
            Target::Dense => {
                Err(Error::Usage(format!("{} is packed already: use `onnx-dcomp decompress`", self.file())))
            }
            _ if is_packed => Err(Error::Usage(format!(
                "{} is packed already: use `onnx-dcomp decompress`, and compress what that gives",
                self.file()
            ))),
            _ => Ok(()),
        }
    }

    /// Says in `model` how it was made, and puts it into one node where the target asks for that.
    fn finish(&self, model: &mut Model, plan: &Resolved) -> Result<(), Error> {
        describe(model, &plan.label, plan.target(self.choices.target));
        if self.choices.target == Target::Session && is_packed(model) {
            model.enclose().map_err(|source| Error::InModel { file: self.file(), source: Box::new(source) })?;
        }
        Ok(())
    }

    fn warnings(&self, model: &Model) -> Vec<String> {
        let unknown = model.unknown_fields().into_iter();
        let mut warnings: Vec<String> = unknown
            .map(|field| format!("{}: {field} is unknown to this version and is not kept", self.input.display()))
            .collect();
        if is_compressed(model) {
            warnings.push(format!(
                "{} is packed already, and stays as it is; to compress it anew, decompress it first",
                self.input.display()
            ));
        }
        warnings
    }

    fn seed_or_default(&self) -> u64 {
        self.choices.seed.unwrap_or_default()
    }

    fn verify_model(&self, model: &Model) -> Result<(), Error> {
        model.verify().map_err(|source| Error::InModel { file: self.file(), source: Box::new(source) })
    }

    fn file(&self) -> String {
        self.input.display().to_string()
    }
}

/// Whether every weight of `original` is in `model`, bit for bit.
fn keeps_every_bit(original: &Model, model: &Model) -> bool {
    let is_same = |weight: &Weight| {
        let now = model.weight_named(&weight.name).map(|id| model.weight(id));
        now.is_some_and(|now| now.form.dense() == weight.original)
    };
    original.weights().all(|(_, weight)| is_same(weight))
}

/// Says in the model how it was made: version, plan, the start of the source's digest, and the target where it is a
/// portable one. Every byte counts here.
fn describe(model: &mut Model, label: &str, target: Target) {
    let digest = model.source().sha256_hex();
    let mut value = format!("{} {label} {}", env!("CARGO_PKG_VERSION"), &digest[..16.min(digest.len())]);
    if target.is_portable() {
        // Nothing else tells such a file from any other.
        value = format!("{value} {target}");
    }
    let entries = &mut model.proto.metadata_props;
    entries.retain(|entry| entry.key() != METADATA_KEY);
    entries.push(StringStringEntryProto { key: Some(METADATA_KEY.to_owned()), value: Some(value) });
}
