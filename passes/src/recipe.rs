//! Recipes: a pipeline, and rules for single weights, in a TOML file.
//!
//! ```toml
//! pipeline = "fold, prune(sparsity=0.8), share(clusters=32)"   # or: preset = "deep-compression"
//! seed = 7
//!
//! [[rule]]                          # conditions: match, role, operator; all that are given must hold
//! match = "fc*"
//! prune = { sparsity = 0.95 }       # other options for one pass
//!
//! [[rule]]
//! role = "conv"
//! share = false                     # this pass leaves them out
//!
//! [[rule]]
//! match = "head.weight"
//! skip = true                       # every pass does
//! ```
//!
//! Of rules that say different things of one option, the last wins. A rule that is for no weight is an error.

use std::ops::Range;

use onnx_dcomp_ir::{Model, Role, Weight, WeightId};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::nearest::{hint, nearest};
use crate::options::{OptionError, OptionValue, unexpected, unknown_choice};
use crate::pipeline::{PRESETS, PipelineProblem, PipelineText, Rules, option_prefix};
use crate::registry::{self, Entry, Rule};
use crate::selection::{NamePattern, Selector};

crate::choices! {
    /// What to aim for where no pipeline says so.
    pub enum Quality {
        /// As good as the original, for all that anybody can tell.
        High = "high",
        /// A small loss for a much smaller file.
        Balanced = "balanced",
        /// The smallest file that still does its work.
        Small = "small",
    }
}

/// A recipe.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Recipe {
    /// The passes; `None` where a preset, or the program, chooses them.
    pub pipeline: Option<PipelineText>,
    /// Name of a preset: `auto`, or one of [`PRESETS`].
    pub preset: Option<String>,
    /// What to aim for.
    pub quality: Option<Quality>,
    /// Seed of everything random.
    pub seed: Option<u64>,
    rules: Vec<RecipeRule>,
}

#[derive(Debug, Clone, PartialEq)]
struct RecipeRule {
    selector: Selector,
    skip: Option<bool>,
    /// What the rule says of single passes: name, whether to leave out, options.
    passes: Vec<(String, PassRule)>,
    span: Range<usize>,
    line: usize,
}

#[derive(Debug, Clone, Default, PartialEq)]
struct PassRule {
    skip: Option<bool>,
    options: Vec<(String, String)>,
}

/// What is wrong with a recipe.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("recipe, line {line}: {problem}")]
pub struct RecipeError {
    /// Line of the text, from 1.
    pub line: usize,
    /// Bytes of the text that are to blame.
    pub span: Range<usize>,
    /// What is wrong with them.
    pub problem: Box<RecipeProblem>,
}

/// The kinds of mistakes in a recipe.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecipeProblem {
    /// The text is no TOML.
    #[error("{0}")]
    Toml(String),
    /// A key that means nothing.
    #[error("unknown key `{name}`{}", hint(nearest.as_deref(), allowed))]
    UnknownKey {
        /// The key.
        name: String,
        /// The key that was probably meant.
        nearest: Option<String>,
        /// All keys that may stand there.
        allowed: Vec<String>,
    },
    /// A value that does not suit its key.
    #[error("`{key}`: {reason}")]
    Value {
        /// The key.
        key: String,
        /// What was expected, and what was found.
        reason: String,
    },
    /// The pipeline is wrong.
    #[error("`pipeline`: {0}")]
    Pipeline(#[source] PipelineProblem),
    /// An option of a pass is wrong.
    #[error("pass `{pass}`: {}{error}", option_prefix(option, error))]
    Option {
        /// Name of the pass.
        pass: String,
        /// Name of the option.
        option: String,
        /// What is wrong with it.
        error: OptionError,
    },
    /// A pipeline and a preset were given.
    #[error("`pipeline` and `preset` exclude each other: keep one")]
    TwoPipelines,
    /// A rule speaks of a pass that the pipeline does not run.
    #[error("the rule is about `{pass}`, which is not in the pipeline: add it there, or drop it here")]
    NotInPipeline {
        /// Name of the pass.
        pass: String,
    },
    /// A rule without conditions.
    #[error("the rule does not say which weights it is for: give `match`, `role` or `operator`")]
    NoCondition,
    /// A rule that is for no weight of the model.
    #[error(
        "no weight fits the rule with {selector}{}",
        nearest.as_ref().map(|name| format!("; did you mean `{name}`?")).unwrap_or_default()
    )]
    NoMatch {
        /// The conditions of the rule.
        selector: String,
        /// What was probably meant.
        nearest: Option<String>,
    },
}

impl Recipe {
    /// Reads a recipe and checks its keys, passes, options and values.
    ///
    /// # Errors
    /// The first mistake, with its place in the text.
    pub fn parse(text: &str) -> Result<Self, RecipeError> {
        Reader { text }.recipe()
    }

    /// What the rules say, for [`Pipeline::build`](crate::Pipeline::build).
    ///
    /// # Errors
    /// The first rule that is for no weight of `model`.
    pub fn rules(&self, model: &Model) -> Result<Rules, RecipeError> {
        for rule in &self.rules {
            if !model.weights().any(|(_, weight)| rule.selector.matches(weight)) {
                let nearest = rule.selector.nearest_in(model).map(str::to_owned);
                let problem = RecipeProblem::NoMatch { selector: rule.selector.to_string(), nearest };
                let problem = Box::new(problem);
                return Err(RecipeError { line: rule.line, span: rule.span.clone(), problem });
            }
        }
        let of_pass = |pass: String| {
            let rules = self.rules_of(&pass);
            (pass, rules)
        };
        Ok(registry::names().into_iter().map(of_pass).collect())
    }

    /// Tells people why a weight stays as it is where the rules keep every pass from it.
    pub fn mark_skipped(&self, model: &mut Model) {
        let passes = registry::names();
        let is_skipped = |weight: &Weight| {
            let skips = |pass: &str| {
                let rules = self.rules_of(pass).into_iter().filter(|rule| rule.selector.matches(weight));
                rules.filter_map(|rule| rule.skip).next_back().unwrap_or(false)
            };
            passes.iter().all(|pass| skips(pass))
        };
        let skipped: Vec<WeightId> =
            model.weights().filter(|(_, weight)| is_skipped(weight)).map(|(id, _)| id).collect();
        for id in skipped {
            model.weight_mut(id).left_alone.get_or_insert_with(|| "skipped by a rule of the recipe".to_owned());
        }
    }

    /// Names and values of the options that the rules give for the pass `pass`.
    pub fn options_of<'a>(&'a self, pass: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        let of_pass = self.rules.iter().flat_map(|rule| &rule.passes).filter(move |(name, _)| name == pass);
        of_pass.flat_map(|(_, own)| &own.options).map(|(name, value)| (name.as_str(), value.as_str()))
    }

    fn rules_of(&self, pass: &str) -> Vec<Rule> {
        let of_rule = |rule: &RecipeRule| {
            let own = rule.passes.iter().find(|(name, _)| name == pass).map(|(_, own)| own.clone()).unwrap_or_default();
            Rule { selector: rule.selector.clone(), skip: own.skip.or(rule.skip), options: own.options }
        };
        self.rules.iter().map(of_rule).filter(|rule| rule.skip.is_some() || !rule.options.is_empty()).collect()
    }

    /// The pipeline: the one that is given, or that of the preset, with the seed. `None` where the program is to choose.
    ///
    /// # Errors
    /// As [`PipelineText::parse`], where a preset needs a pass that does not exist.
    pub fn pipeline_text(&self) -> Result<Option<PipelineText>, crate::PipelineError> {
        let preset = self.preset.as_deref().and_then(crate::Preset::find);
        let text = match (&self.pipeline, preset) {
            (Some(text), _) => Some(text.clone()),
            (None, Some(preset)) => Some(PipelineText::parse(preset.pipeline)?),
            (None, None) => None,
        };
        Ok(text.map(|text| match self.seed {
            Some(seed) => text.with_default("seed", &seed.to_string()),
            None => text,
        }))
    }
}

type Value<'a> = Spanned<DeValue<'a>>;

struct Reader<'a> {
    text: &'a str,
}

impl Reader<'_> {
    fn recipe(&self) -> Result<Recipe, RecipeError> {
        let root = DeTable::parse(self.text).map_err(|error| {
            self.error(error.span().unwrap_or(0..0), RecipeProblem::Toml(error.message().to_owned()))
        })?;
        let mut recipe = Recipe::default();
        for (key, value) in root.get_ref() {
            match key.get_ref().as_ref() {
                "pipeline" => recipe.pipeline = Some(self.pipeline(value)?),
                "preset" => recipe.preset = Some(self.preset(value)?),
                "quality" => recipe.quality = Some(self.value("quality", value)?),
                "seed" => recipe.seed = Some(self.value("seed", value)?),
                "rule" => {
                    let rules = value.get_ref().as_array();
                    let rules = rules.ok_or_else(|| self.unsuitable("rule", "rules as [[rule]]", value))?;
                    recipe.rules = rules.iter().map(|rule| self.rule(rule)).collect::<Result<_, _>>()?;
                }
                _ => return Err(self.unknown_key(key, &["pipeline", "preset", "quality", "seed", "rule"])),
            }
        }
        if recipe.pipeline.is_some()
            && let Some((key, _)) = root.get_ref().iter().find(|(key, _)| key.get_ref() == "preset")
        {
            return Err(self.error(key.span(), RecipeProblem::TwoPipelines));
        }
        self.check_passes(&recipe)?;
        Ok(recipe)
    }

    /// Rules may only speak of passes that the pipeline runs.
    fn check_passes(&self, recipe: &Recipe) -> Result<(), RecipeError> {
        let Ok(Some(pipeline)) = recipe.pipeline_text() else { return Ok(()) };
        for rule in &recipe.rules {
            for (pass, _) in &rule.passes {
                if pipeline.steps.iter().all(|step| &step.name != pass) {
                    return Err(self.error(rule.span.clone(), RecipeProblem::NotInPipeline { pass: pass.clone() }));
                }
            }
        }
        Ok(())
    }

    fn pipeline(&self, value: &Value<'_>) -> Result<PipelineText, RecipeError> {
        let text = value.get_ref().as_str().ok_or_else(|| self.unsuitable("pipeline", "text", value))?;
        PipelineText::parse(text).map_err(|error| {
            // Where the text stands in the file as it is, without escapes, the blame can be put on the very word.
            let whole = value.span();
            let start = self.text.get(whole.clone()).and_then(|raw| raw.find(text)).map(|at| whole.start + at);
            let span = start.map_or(whole, |start| start + error.span.start..start + error.span.end);
            self.error(span, RecipeProblem::Pipeline(*error.problem))
        })
    }

    fn preset(&self, value: &Value<'_>) -> Result<String, RecipeError> {
        let names: Vec<&str> = std::iter::once("auto").chain(PRESETS.iter().map(|preset| preset.name)).collect();
        let name = value.get_ref().as_str().unwrap_or_default();
        if names.contains(&name) {
            return Ok(name.to_owned());
        }
        let reason = unknown_choice(&names, &plain_text(value));
        Err(self.error(value.span(), RecipeProblem::Value { key: "preset".to_owned(), reason }))
    }

    fn rule(&self, rule: &Value<'_>) -> Result<RecipeRule, RecipeError> {
        let table = rule.get_ref().as_table().ok_or_else(|| self.unsuitable("rule", "rules as [[rule]]", rule))?;
        let span = rule.span();
        let mut read = RecipeRule {
            selector: Selector::default(),
            skip: None,
            passes: Vec::new(),
            line: self.line(&span),
            span: span.clone(),
        };
        for (key, value) in table {
            match key.get_ref().as_ref() {
                "match" => read.selector.name = Some(self.value::<NamePattern>("match", value)?),
                "role" => read.selector.role = Some(self.value::<Role>("role", value)?),
                "operator" => read.selector.operator = Some(self.value::<String>("operator", value)?),
                "skip" => read.skip = Some(self.value("skip", value)?),
                name => match registry::find(name) {
                    Some(entry) => read.passes.push((name.to_owned(), self.pass_rule(entry, value)?)),
                    None => {
                        let passes = registry::names();
                        let keys = ["match", "role", "operator", "skip"].into_iter();
                        let keys: Vec<&str> = keys.chain(passes.iter().map(String::as_str)).collect();
                        return Err(self.unknown_key(key, &keys));
                    }
                },
            }
        }
        if read.selector == Selector::default() {
            return Err(self.error(span, RecipeProblem::NoCondition));
        }
        Ok(read)
    }

    fn pass_rule(&self, entry: &Entry, value: &Value<'_>) -> Result<PassRule, RecipeError> {
        if let Some(runs) = value.get_ref().as_bool() {
            return Ok(PassRule { skip: Some(!runs), options: Vec::new() });
        }
        let options = value.get_ref().as_table();
        let options = options.ok_or_else(|| self.unsuitable(entry.name(), "options in braces, or false", value))?;
        let mut read = PassRule::default();
        for (key, value) in options {
            let (option, text) = (key.get_ref().as_ref(), plain_text(value));
            if option == "skip" {
                read.skip = Some(self.value("skip", value)?);
                continue;
            }
            entry.check(option, &text).map_err(|error| {
                let span = if matches!(error, OptionError::Unknown { .. }) { key.span() } else { value.span() };
                let (pass, option) = (entry.name().to_owned(), option.to_owned());
                self.error(span, RecipeProblem::Option { pass, option, error })
            })?;
            read.options.push((option.to_owned(), text));
        }
        Ok(read)
    }

    fn value<T: OptionValue>(&self, key: &str, value: &Value<'_>) -> Result<T, RecipeError> {
        T::parse(&plain_text(value))
            .map_err(|reason| self.error(value.span(), RecipeProblem::Value { key: key.to_owned(), reason }))
    }

    fn unsuitable(&self, key: &str, expected: &str, value: &Value<'_>) -> RecipeError {
        let reason = unexpected(expected, &plain_text(value));
        self.error(value.span(), RecipeProblem::Value { key: key.to_owned(), reason })
    }

    fn unknown_key(&self, key: &Spanned<std::borrow::Cow<'_, str>>, allowed: &[&str]) -> RecipeError {
        let name = key.get_ref().to_string();
        let nearest = nearest(&name, allowed.iter().copied()).map(str::to_owned);
        let allowed = allowed.iter().map(|&key| key.to_owned()).collect();
        self.error(key.span(), RecipeProblem::UnknownKey { name, nearest, allowed })
    }

    fn error(&self, span: Range<usize>, problem: RecipeProblem) -> RecipeError {
        RecipeError { line: self.line(&span), span, problem: Box::new(problem) }
    }

    fn line(&self, span: &Range<usize>) -> usize {
        self.text.bytes().take(span.start).filter(|&byte| byte == b'\n').count() + 1
    }
}

/// A value as the parsers of options read it; of tables and arrays, what they are.
fn plain_text(value: &Value<'_>) -> String {
    match value.get_ref() {
        DeValue::String(text) => text.to_string(),
        DeValue::Integer(integer) => match i128::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(number) => number.to_string(),
            Err(_) => integer.as_str().to_owned(),
        },
        DeValue::Float(float) => float.as_str().to_owned(),
        DeValue::Boolean(boolean) => boolean.to_string(),
        other => other.type_str().to_owned(),
    }
}
