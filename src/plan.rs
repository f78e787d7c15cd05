//! Which passes run: the default pipeline, a preset, a text, or a recipe.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use onnx_dcomp_codec::Coder;
use onnx_dcomp_ir::Model;
use onnx_dcomp_passes::nearest::nearest;
use onnx_dcomp_passes::options::unknown_choice;
use onnx_dcomp_passes::pipeline::StepText;
use onnx_dcomp_passes::{PRESETS, Pipeline, PipelineText, Preset, Recipe, Rules};

use crate::{Costs, Error, Quality};

/// What to do with a model.
#[derive(Debug, Clone, PartialEq)]
pub enum Plan {
    /// The default: bits go where the output is sensitive.
    Auto(Quality),
    /// The same, with the quality left to a budget search.
    Search,
    /// No value changes, and no layer is folded into another.
    Lossless,
    /// A pipeline with a name: `auto`, `lossless`, or one of [`PRESETS`].
    Preset(String),
    /// A pipeline as text.
    Passes(String),
    /// A recipe, in this file.
    Recipe(PathBuf),
}

impl Default for Plan {
    fn default() -> Self {
        Self::Auto(Quality::default())
    }
}

/// What the output is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Target {
    /// Payloads and the nodes that decode them: the smallest file.
    #[default]
    Packed,
    /// The same, but that products with matrices compute on what is compressed, where that is faster.
    Fused,
    /// The packed model as a whole in one node, which our operator library opens a session for: as fast as dense in an
    /// onnxruntime that has no other code of ours.
    Session,
    /// Standard operators that compute the weights while a model is loaded: runs everywhere, with nothing of ours.
    Portable,
    /// The same, with MatMulNBits of onnxruntime's and tract's own for 4-bit matrices.
    PortableInt4,
    /// Plain floats that hold the compressed values: runs everywhere, and is no smaller.
    Dense,
}

impl Target {
    /// Every target.
    pub const ALL: [Self; 6] =
        [Self::Packed, Self::Fused, Self::Session, Self::Portable, Self::PortableInt4, Self::Dense];

    /// Name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Packed => "packed",
            Self::Fused => "fused",
            Self::Session => "session",
            Self::Portable => "portable",
            Self::PortableInt4 => "portable-int4",
            Self::Dense => "dense",
        }
    }

    /// Whether the file needs nothing of ours, and is smaller all the same.
    pub const fn is_portable(self) -> bool {
        matches!(self, Self::Portable | Self::PortableInt4)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|target| target.name() == text);
        found.ok_or_else(|| unknown_choice(&Self::ALL.map(Self::name), text))
    }
}

/// Choices that reach into every pipeline; those that are `None` stay with the passes' defaults.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Choices {
    pub(crate) target: Target,
    pub(crate) coder: Option<Coder>,
    pub(crate) seed: Option<u64>,
    pub(crate) costs: Option<Costs>,
}

/// A plan, read and checked.
pub(crate) struct Resolved {
    /// What the output says of how it was made: `balanced`, `lossless`, the name of a preset.
    pub(crate) label: String,
    /// The passes.
    pub(crate) text: PipelineText,
    /// The file of the recipe, its text and what it says.
    recipe: Option<(PathBuf, String, Recipe)>,
}

/// Passes that ask what is known of the data: evidence is gathered before the first of them.
const READS_EVIDENCE: [&str; 3] = ["low-rank", "quantize", "share"];

/// Passes that put new layers in the place of others: what was known before them says nothing of those.
const CHANGES_LAYERS: [&str; 1] = ["low-rank"];

/// The pass whose option `quality` a budget search varies.
const SEARCHED: &str = "quantize";
/// The preset that leaves the sparsities of [`PRUNES`] to a search too.
const ITERATIVE: &str = "iterative";
const PRUNES: &str = "prune";

/// The pass that weighs costs.
const FUSES: &str = "fuse";

/// Passes that say what the file is made of; a target has its own in their place.
const LOWERING: [&str; 3] = ["pack", "lower", "portable"];

/// Passes that ask for it only with some value of an option.
const READS_EVIDENCE_WITH: [(&str, &str, &str); 2] = [("prune", "criterion", "obs"), ("prune", "scope", "sensitivity")];

impl Plan {
    /// The quality that the default passes aim for, where they are the plan.
    pub(crate) fn default_quality(&self) -> Option<Quality> {
        match self {
            Self::Auto(quality) => Some(*quality),
            Self::Preset(name) if name == "auto" => Some(Quality::default()),
            _ => None,
        }
    }

    /// Reads the plan; `quality` of a recipe gives way to none on the command line.
    pub(crate) fn resolve(&self, choices: Choices) -> Result<Resolved, Error> {
        let resolved = |label: &str, text: PipelineText| Resolved { label: label.to_owned(), text, recipe: None };
        let mut found = match self {
            Self::Auto(quality) => resolved(&quality.to_string(), parse(&auto(*quality))?),
            Self::Search => resolved("search", parse(SEARCH)?),
            Self::Lossless => resolved("lossless", parse(LOSSLESS)?),
            Self::Preset(name) => resolved(name, preset(name, Quality::default())?),
            Self::Passes(text) => resolved("passes", parse(text)?),
            Self::Recipe(file) => read_recipe(file)?,
        };
        found.text = with_choices(found.text, choices);
        Ok(found)
    }
}

impl Plan {
    /// The passes that the plan runs, as text.
    ///
    /// # Errors
    /// Where the plan cannot be read.
    pub fn pipeline_text(&self) -> Result<String, Error> {
        self.resolve(Choices::default()).map(|resolved| resolved.text.to_string())
    }
}

impl Resolved {
    /// What the file is made of, where `asked` was asked for: a pipeline may name the pass `portable` itself.
    pub(crate) fn target(&self, asked: Target) -> Target {
        let is_portable = self.text.steps.iter().any(|step| step.name == "portable");
        if asked == Target::Packed && is_portable { Target::Portable } else { asked }
    }

    /// Whether how good the output is to be is left to a search: a pass quantises, and nothing says how finely.
    pub(crate) fn can_search(&self) -> bool {
        let is_open = |step: &StepText| !step.options.iter().any(|(name, _)| name == "quality" || name == "step");
        self.text.steps.iter().any(|step| step.name == SEARCHED && is_open(step))
    }

    /// Whether layers are to compute on compressed weights.
    pub(crate) fn fuses(&self) -> bool {
        self.text.steps.iter().any(|step| step.name == FUSES)
    }

    /// The step whose sparsities are left to a search, weight by weight.
    pub(crate) fn sparsity_step(&self) -> Option<usize> {
        let step = self.text.steps.iter().position(|step| step.name == PRUNES);
        step.filter(|_| self.label == ITERATIVE)
    }

    /// Where a search begins to vary what is done: at the last gathering of evidence before the first pass that it
    /// varies.
    pub(crate) fn search_start(&self) -> usize {
        let varied = self.text.steps.iter().position(|step| step.name == SEARCHED).unwrap_or_default();
        self.gatherings().into_iter().rfind(|&place| place <= varied).unwrap_or_default()
    }

    /// Places of the passes before which evidence is gathered: the first that reads it, and the first that does so
    /// after the layers have changed.
    pub(crate) fn gatherings(&self) -> Vec<usize> {
        let (mut places, mut is_known) = (Vec::new(), false);
        for (place, step) in self.text.steps.iter().enumerate() {
            if !is_known && self.reads_evidence(step) {
                places.push(place);
                is_known = true;
            }
            is_known &= !CHANGES_LAYERS.contains(&step.name.as_str());
        }
        places
    }

    /// The steps from `start` on, with an aim for what is left open, or without what changes values.
    pub(crate) fn tail(&self, start: usize, quality: Option<f64>) -> PipelineText {
        let mut text = PipelineText { steps: self.text.steps.get(start..).unwrap_or_default().to_vec() };
        match quality {
            Some(quality) => text.with_default("quality", &quality.to_string()),
            None => {
                text.steps.retain(|step| step.name != SEARCHED);
                text
            }
        }
    }

    /// The same plan with another aim for every pass that quantises.
    pub(crate) fn aiming_at(&self, quality: f64) -> PipelineText {
        let mut text = self.text.clone();
        for step in text.steps.iter_mut().filter(|step| step.name == SEARCHED) {
            step.options.retain(|(name, _)| name != "quality");
        }
        text.with_default("quality", &quality.to_string())
    }

    /// Builds `text` with what the recipe says.
    pub(crate) fn build(text: &PipelineText, rules: &Rules) -> Result<Pipeline, Error> {
        Pipeline::build(text, rules).map_err(|error| Error::pipeline(&text.to_string(), error))
    }

    fn reads_evidence(&self, step: &StepText) -> bool {
        let of_rules = self.recipe.iter().flat_map(|(.., recipe)| recipe.options_of(&step.name));
        let of_step = step.options.iter().map(|(option, value)| (option.as_str(), value.as_str()));
        let given: Vec<(&str, &str)> = of_step.chain(of_rules).collect();
        let asks = |&(pass, option, value): &(&str, _, _)| pass == step.name && given.contains(&(option, value));
        READS_EVIDENCE.contains(&step.name.as_str()) || READS_EVIDENCE_WITH.iter().any(asks)
    }

    /// What the recipe says of the weights of `model`; those that it keeps from every pass are marked.
    pub(crate) fn rules(&self, model: &mut Model) -> Result<Rules, Error> {
        let Some((file, text, recipe)) = &self.recipe else { return Ok(Rules::new()) };
        let rules = recipe.rules(model).map_err(|error| Error::recipe(file.clone(), text, error))?;
        recipe.mark_skipped(model);
        Ok(rules)
    }

    /// Some of the steps.
    pub(crate) fn range(&self, steps: std::ops::Range<usize>) -> PipelineText {
        PipelineText { steps: self.text.steps.get(steps).unwrap_or_default().to_vec() }
    }

    /// The text of the recipe, where there is one.
    pub(crate) fn recipe_text(&self) -> Option<&str> {
        self.recipe.as_ref().map(|(_, text, _)| text.as_str())
    }

    /// The file of the recipe, where there is one.
    pub(crate) fn recipe_file(&self) -> Option<&Path> {
        self.recipe.as_ref().map(|(file, ..)| file.as_path())
    }
}

/// The default pipeline.
fn auto(quality: Quality) -> String {
    format!("fold, recognise, quantize(quality={}), strip, pack", quality.decibels())
}

/// The same for a search.
const SEARCH: &str = "fold, recognise, quantize, strip, pack";

const LOSSLESS: &str = "recognise, strip, pack";

fn parse(text: &str) -> Result<PipelineText, Error> {
    PipelineText::parse(text).map_err(|error| Error::pipeline(text, error))
}

fn preset(name: &str, quality: Quality) -> Result<PipelineText, Error> {
    match (name, Preset::find(name)) {
        ("auto", _) => parse(&auto(quality)),
        ("lossless", _) => parse(LOSSLESS),
        (_, Some(preset)) => parse(preset.pipeline),
        (_, None) => {
            let names = preset_names();
            let meant = nearest(name, names.iter().copied()).map(|name| format!("; did you mean `{name}`?"));
            let meant = meant.unwrap_or_default();
            Err(Error::Usage(format!("unknown preset `{name}`{meant} (known: {})", names.join(", "))))
        }
    }
}

/// The names of all presets, the default first.
pub fn preset_names() -> Vec<&'static str> {
    let mut names = vec!["auto", "lossless"];
    names.extend(PRESETS.iter().map(|preset| preset.name).filter(|name| *name != "lossless"));
    names
}

fn read_recipe(file: &Path) -> Result<Resolved, Error> {
    let text = std::fs::read_to_string(file).map_err(|source| Error::Read { file: file.to_owned(), source })?;
    let recipe = Recipe::parse(&text).map_err(|error| Error::recipe(file.to_owned(), &text, error))?;
    let quality = recipe.quality.map(Quality::from).unwrap_or_default();
    let given = recipe.pipeline_text().map_err(|error| Error::pipeline("preset", error))?;
    let pipeline = match given {
        Some(given) => given,
        None => preset(recipe.preset.as_deref().unwrap_or("auto"), quality)?,
    };
    let pipeline = match recipe.seed {
        Some(seed) => pipeline.with_default("seed", &seed.to_string()),
        None => pipeline,
    };
    let label = recipe.preset.clone().unwrap_or_else(|| "recipe".to_owned());
    Ok(Resolved { label, text: pipeline, recipe: Some((file.to_owned(), text, recipe)) })
}

fn with_choices(mut text: PipelineText, choices: Choices) -> PipelineText {
    let step = |name: &str, options: Vec<(String, String)>| StepText { name: name.to_owned(), options };
    if !matches!(choices.target, Target::Packed | Target::Fused | Target::Session) {
        text.steps.retain(|step| !LOWERING.contains(&step.name.as_str()));
    }
    match choices.target {
        Target::Packed | Target::Session => {}
        Target::Fused => {
            let place = text.steps.iter().position(|step| step.name == "pack").unwrap_or(text.steps.len());
            text.steps.insert(place, step(FUSES, Vec::new()));
        }
        Target::Dense => text.steps.push(step("lower", vec![("target".to_owned(), "dense".to_owned())])),
        Target::Portable | Target::PortableInt4 => {
            if choices.target == Target::PortableInt4 && text.steps.iter().all(|step| step.name != "int4") {
                let quantizes = |step: &StepText| READS_EVIDENCE.contains(&step.name.as_str()) || step.name == "prune";
                let place = text.steps.iter().position(quantizes).unwrap_or(text.steps.len());
                text.steps.insert(place, step("int4", Vec::new()));
            }
            text = text.with_default("scheme", "fixed");
            text.steps.push(step("portable", Vec::new()));
        }
    }
    for step in text.steps.iter_mut().filter(|step| step.name == FUSES) {
        for (name, value) in choices.costs.iter().flat_map(Costs::options) {
            if step.options.iter().all(|(given, _)| *given != name) {
                step.options.push((name, value));
            }
        }
    }
    if let Some(coder) = choices.coder {
        text = text.with_default("coder", coder.name());
    }
    match choices.seed {
        Some(seed) => text.with_default("seed", &seed.to_string()),
        None => text,
    }
}

#[cfg(test)]
mod tests;
