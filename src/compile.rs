//! The compiler as a library: [`Compiler`], for build scripts and for the command line alike.

use std::path::{Path, PathBuf};
use std::time::Instant;

use onnx_dcomp_codec::Coder;
use onnx_dcomp_engine::{PreprocessOptions, RuntimeKind};
use onnx_dcomp_ir::{Evidence, Model, Weight};
use onnx_dcomp_proto::StringStringEntryProto;

use crate::fidelity::Fidelity;
use crate::observe::{Observing, PrintAfter, Verify};
use crate::output::Staged;
use crate::plan::{Choices, Resolved};
use crate::report::{Compilation, Outcome, WeightsBefore};
use crate::validation::{Comparison, Samples, Validator};
use crate::{Error, Plan, Quality, Target, Watch, decompress, evidence, fidelity};

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
    threads: usize,
    check: Option<Check>,
    observing: Observing,
    depfile: Option<PathBuf>,
}

/// What is validated before the output is written.
#[derive(Debug, Clone)]
struct Check {
    samples: Samples,
    runtimes: Vec<RuntimeKind>,
    max_drop: Option<f64>,
}

impl Compiler {
    /// Compresses the model at `input`, to a balanced quality.
    pub fn new(input: impl Into<PathBuf>) -> Self {
        Self {
            input: input.into(),
            output: None,
            plan: Plan::default(),
            choices: Choices::default(),
            threads: 0,
            check: None,
            observing: Observing::default(),
            depfile: None,
        }
    }

    /// Where the compressed model goes; it may be the input itself. Default: nothing is written.
    #[must_use]
    pub fn output(mut self, path: impl Into<PathBuf>) -> Self {
        self.output = Some(path.into());
        self
    }

    /// What to aim for. Default: balanced.
    #[must_use]
    pub fn quality(self, quality: Quality) -> Self {
        self.plan(Plan::Auto(quality))
    }

    /// What to do. Default: the default pipeline, at balanced quality.
    #[must_use]
    pub fn plan(mut self, plan: Plan) -> Self {
        self.plan = plan;
        self
    }

    /// What the output is made of. Default: packed.
    #[must_use]
    pub fn target(mut self, target: Target) -> Self {
        self.choices.target = target;
        self
    }

    /// The entropy coder, where the plan does not name one. Default: that of the pass, the smallest.
    #[must_use]
    pub fn coder(mut self, coder: Coder) -> Self {
        self.choices.coder = Some(coder);
        self
    }

    /// Seed of everything random, where the plan does not name one. Default: 0.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.choices.seed = Some(seed);
        self
    }

    /// Threads to use; 0 takes those of the surrounding thread pool. The output does not depend on it. Default: 0.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }

    /// Validates on these samples, in the first of `runtimes` that runs the model (all runtimes where there is none),
    /// before anything is written. Where more than `max_drop` percentage points are lost, nothing is written and
    /// [`Self::run`] ends with [`Error::Budget`]. Default: no validation.
    #[must_use]
    pub fn validate(mut self, samples: Samples, runtimes: Vec<RuntimeKind>, max_drop: Option<f64>) -> Self {
        self.check = Some(Check { samples, runtimes, max_drop });
        self
    }

    /// Verifies the model after every pass. Default: after the last one.
    #[must_use]
    pub fn verify(mut self, verify: Verify) -> Self {
        self.observing.verify = verify;
        self
    }

    /// Makes a text of the model after passes, for [`Watch::pass`]. Default: none.
    #[must_use]
    pub fn print_after(mut self, passes: PrintAfter) -> Self {
        self.observing.print_after = passes;
        self
    }

    /// Writes a Makefile rule that says which files the output depends on. Default: none.
    #[must_use]
    pub fn depfile(mut self, path: impl Into<PathBuf>) -> Self {
        self.depfile = Some(path.into());
        self
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
        let plan = self.plan.resolve(self.choices)?;
        let staged = self.output.as_deref().map(Staged::beside).transpose()?;
        let depfile = self.depfile.as_deref().map(Staged::beside).transpose()?;
        watch.begin("reading", None);
        let model = Model::open(&self.input);
        watch.end();
        let mut model = model?;
        self.verify_model(&model)?;
        let original = model.clone();
        let mut warnings = self.warnings(&model);
        let before = WeightsBefore::of(&model);

        let preprocess = self.preprocess()?;
        let (passes, evidence) = if decompress::is_packed(&model) {
            self.check_packed()?;
            (Vec::new(), None)
        } else {
            self.run_passes(&plan, &mut model, &preprocess, watch)?
        };
        self.verify_model(&model)?;
        describe(&mut model, &plan.label);

        let is_exact = keeps_every_bit(&original, &model);
        let is_larger = model.plain_bytes()? >= model.source().total_bytes();
        // Unchanged is always a candidate, unless it would hold other values than those that plain floats were asked for.
        let outcome = match self.choices.target {
            _ if decompress::is_packed(&original) => Outcome::Unchanged,
            Target::Packed if is_larger => Outcome::Unchanged,
            Target::Dense if is_larger && is_exact => Outcome::Unchanged,
            _ => Outcome::Compressed,
        };
        let written = if outcome == Outcome::Unchanged { &original } else { &model };
        let fidelity = match is_exact || outcome == Outcome::Unchanged {
            true => Fidelity::Exact,
            false => fidelity::measure(&original, &model, &preprocess, self.seed_or_default(), watch),
        };
        let mut made = Compilation::new(&self.input, outcome, before, written);
        (made.pipeline, made.passes, made.evidence) = (plan.text.to_string(), passes, evidence);
        made.fidelity = Some(fidelity);
        made.dependencies = self.dependencies(&original, &plan);
        if let Some(staged) = staged {
            self.write(&staged, written, &mut made, watch)?;
            self.commit(staged, depfile, &mut made)?;
        } else if self.check.is_some() {
            warnings.push("nothing was validated: nothing is written".to_owned());
        }
        warnings.iter().for_each(|warning| watch.warn(warning));
        made.warnings = warnings;
        Ok(made)
    }

    /// Writes `model` beside its place, and validates what was written.
    fn write(&self, staged: &Staged, model: &Model, made: &mut Compilation, watch: &dyn Watch) -> Result<(), Error> {
        watch.begin("writing", None);
        let source = model.source();
        let is_verbatim = made.outcome == Outcome::Unchanged && source.external_files().next().is_none();
        let saved = if is_verbatim {
            staged.save_bytes(source.bytes())
        } else {
            staged.save(model).map(|files| files.total_bytes())
        };
        watch.end();
        made.bytes_after = saved?;
        if let Some(check) = &self.check {
            let mut samples = check.samples.clone();
            samples.preprocess = self.preprocess_file();
            let report = Validator::new(&self.input, staged.path(), samples)
                .runtimes(check.runtimes.clone())
                .first_runtime_only(check.runtimes.is_empty())
                .compare_runtimes(Comparison::Never)
                .max_drop(check.max_drop)
                .run(watch)?;
            report.check("; nothing was written")?;
            made.validation = Some(report);
        }
        Ok(())
    }

    /// Puts what was written into its place.
    fn commit(&self, staged: Staged, depfile: Option<Staged>, made: &mut Compilation) -> Result<(), Error> {
        let Some(output) = &self.output else { return Ok(()) };
        if let Some(depfile) = &depfile {
            depfile.save_bytes(dependency_rule(output, &made.dependencies).as_bytes())?;
        }
        staged.commit()?;
        depfile.map(Staged::commit).transpose()?;
        made.output = Some(output.clone());
        if let Some(report) = &mut made.validation {
            report.compressed.clone_from(output);
        }
        Ok(())
    }

    /// Runs the passes; evidence is gathered before the first that asks for it, and again where layers have changed.
    fn run_passes(
        &self,
        plan: &Resolved,
        model: &mut Model,
        preprocess: &PreprocessOptions,
        watch: &dyn Watch,
    ) -> Result<(Vec<crate::PassRecord>, Option<String>), Error> {
        let rules = plan.rules(model)?;
        let total = plan.text.steps.len();
        let gatherings = plan.gatherings();
        let (mut records, mut known) = (Vec::new(), Evidence::default());
        let starts = std::iter::once(0).chain(gatherings.iter().copied());
        let ends = gatherings.iter().copied().chain([total]);
        for range in starts.zip(ends).map(|(start, end)| start..end).filter(|range| !range.is_empty()) {
            if gatherings.contains(&range.start) {
                let started = Instant::now();
                known = evidence::gather(model, preprocess, self.seed_or_default(), watch)?;
                tracing::debug!(seconds = started.elapsed().as_secs_f64(), source = known.source, "gathered evidence");
            }
            let pipeline = plan.pipeline(range.clone(), &rules)?;
            let mut observer = self.observing.observer(range.start, total, watch);
            let done = pipeline.run(model, &known, &mut observer);
            records.extend(observer.finish());
            done.map_err(|source| Error::Pass { file: self.file(), source: Box::new(source) })?;
        }
        Ok((records, (!gatherings.is_empty()).then_some(known.source)))
    }

    /// A packed model stays as it is; whoever wants it plain must say so with the right command.
    fn check_packed(&self) -> Result<(), Error> {
        match self.choices.target {
            Target::Packed => Ok(()),
            Target::Dense => {
                Err(Error::Usage(format!("{} is packed already: use `onnx-dcomp decompress`", self.file())))
            }
        }
    }

    fn warnings(&self, model: &Model) -> Vec<String> {
        let unknown = model.unknown_fields().into_iter();
        let mut warnings: Vec<String> = unknown
            .map(|field| format!("{}: {field} is unknown to this version and is not kept", self.input.display()))
            .collect();
        if decompress::is_packed(model) {
            warnings.push(format!(
                "{} is packed already, and stays as it is; to compress it anew, decompress it first",
                self.input.display()
            ));
        }
        warnings
    }

    /// Every file that the output depends on.
    fn dependencies(&self, original: &Model, plan: &Resolved) -> Vec<PathBuf> {
        let mut files = vec![self.input.clone()];
        files.extend(original.source().external_files().map(Path::to_owned));
        files.extend(plan.recipe_file().map(Path::to_owned));
        files.extend(self.preprocess_file());
        files
    }

    /// How samples become inputs, as far as a file or the caller says it.
    fn preprocess(&self) -> Result<PreprocessOptions, Error> {
        let given = self.preprocess_file().map(|file| PreprocessOptions::read(&file)).transpose()?.unwrap_or_default();
        Ok(match &self.check {
            Some(check) => given.overridden_by(check.samples.overrides.clone()),
            None => given,
        })
    }

    /// The file that says it: the one that was named, or the one beside the input.
    fn preprocess_file(&self) -> Option<PathBuf> {
        let named = self.check.as_ref().and_then(|check| check.samples.preprocess.clone());
        named.or_else(|| Some(PreprocessOptions::path_beside(&self.input)).filter(|path| path.is_file()))
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

/// Says in the model how it was made: version, plan, and the start of the source's digest. Every byte counts here.
fn describe(model: &mut Model, label: &str) {
    let digest = model.source().sha256_hex();
    let value = format!("{} {label} {}", env!("CARGO_PKG_VERSION"), &digest[..16.min(digest.len())]);
    let entries = &mut model.proto.metadata_props;
    entries.retain(|entry| entry.key() != METADATA_KEY);
    entries.push(StringStringEntryProto { key: Some(METADATA_KEY.to_owned()), value: Some(value) });
}

/// A rule as make and ninja read it.
fn dependency_rule(output: &Path, dependencies: &[PathBuf]) -> String {
    let escaped = |path: &Path| path.display().to_string().replace('$', "$$").replace(' ', "\\ ").replace('#', "\\#");
    let files: Vec<String> = dependencies.iter().map(|path| escaped(path)).collect();
    format!("{}: {}\n", escaped(output), files.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_for_make_escape_what_make_would_read() {
        let files = [PathBuf::from("my net.onnx"), PathBuf::from("a$b#c")];
        assert_eq!(dependency_rule(Path::new("out.onnx"), &files), "out.onnx: my\\ net.onnx a$$b\\#c\n");
    }
}
