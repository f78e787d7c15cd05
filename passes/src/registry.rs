//! All passes, by name.
//!
//! A new pass adds its module and one line in [`PASSES`].

use crate::nearest::nearest;
use crate::options::{OptionDescription, Options};
use crate::selection::{Override, Selector, Settings};
use crate::{OptionError, Pass};

/// A pass that pipelines and recipes can build.
pub trait Configured: Pass + Sized + 'static {
    /// Its options.
    type Options: Options;
    /// Its name in pipelines, in kebab case; [`Pass::name`] returns it too.
    const NAME: &'static str;
    /// What it does, in one line.
    const SUMMARY: &'static str;
    /// The publications that it follows.
    const SOURCE: &'static str;

    /// The pass with these options.
    fn configured(settings: Settings<Self::Options>) -> Self;
}

/// The passes, in the order in which pipelines usually run them.
pub static PASSES: &[Entry] = &[
    Entry::of::<crate::Fold>(),
    Entry::of::<crate::Strip>(),
    Entry::of::<crate::Recognise>(),
    Entry::of::<crate::LowRank>(),
    Entry::of::<crate::Int4>(),
    Entry::of::<crate::Prune>(),
    Entry::of::<crate::Share>(),
    Entry::of::<crate::Quantize>(),
    Entry::of::<crate::Fuse>(),
    Entry::of::<crate::Pack>(),
    Entry::of::<crate::Portable>(),
    Entry::of::<crate::Lower>(),
];

/// Makes a pass of the names and values of its options, and the rules for single weights.
type Build = fn(&[(String, String)], &[Rule]) -> Result<Box<dyn Pass>, OptionError>;

/// What the registry knows of a pass.
pub struct Entry {
    name: &'static str,
    summary: &'static str,
    source: &'static str,
    options: fn() -> Vec<OptionDescription>,
    check: fn(&str, &str) -> Result<(), OptionError>,
    build: Build,
}

/// What a rule of a recipe says of one pass, as text.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rule {
    /// The weights that it is for.
    pub selector: Selector,
    /// Whether the pass leaves them out; `None` where the rule does not say.
    pub skip: Option<bool>,
    /// Names and values of options.
    pub options: Vec<(String, String)>,
}

/// What people read about a pass.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct PassDescription {
    /// Its name in pipelines.
    pub name: &'static str,
    /// What it does, in one line.
    pub summary: &'static str,
    /// The publications that it follows.
    pub source: &'static str,
    /// Its options.
    pub options: Vec<OptionDescription>,
}

impl Entry {
    /// The entry of the pass `P`.
    pub const fn of<P: Configured>() -> Self {
        Self {
            name: P::NAME,
            summary: P::SUMMARY,
            source: P::SOURCE,
            options: P::Options::describe,
            check: |name, value| P::Options::assignment(name, value).map(drop),
            build: build::<P>,
        }
    }

    /// The pass's name in pipelines.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// What people read about the pass.
    pub fn describe(&self) -> PassDescription {
        let Self { name, summary, source, options, .. } = *self;
        PassDescription { name, summary, source, options: options() }
    }

    /// Checks that the pass has an option `name`, and that `value` suits it.
    ///
    /// # Errors
    /// What is wrong with either.
    pub fn check(&self, name: &str, value: &str) -> Result<(), OptionError> {
        (self.check)(name, value)
    }

    /// Builds the pass from its options and the rules for single weights.
    ///
    /// # Errors
    /// The first option that is unknown or has a bad value.
    pub fn build(&self, options: &[(String, String)], rules: &[Rule]) -> Result<Box<dyn Pass>, OptionError> {
        (self.build)(options, rules)
    }
}

fn build<P: Configured>(options: &[(String, String)], rules: &[Rule]) -> Result<Box<dyn Pass>, OptionError> {
    let mut base = P::Options::default();
    for (name, value) in options {
        base.set(name, value)?;
    }
    let mut overrides = Vec::with_capacity(rules.len());
    for rule in rules {
        let assignments = rule.options.iter().map(|(name, value)| P::Options::assignment(name, value));
        let assignments = assignments.collect::<Result<_, _>>()?;
        overrides.push(Override { selector: rule.selector.clone(), skip: rule.skip, assignments });
    }
    Ok(Box::new(P::configured(Settings::new(base, overrides))))
}

/// The pass `name`; `None` where there is no such pass.
pub fn find(name: &str) -> Option<&'static Entry> {
    PASSES.iter().find(|entry| entry.name == name)
}

/// The pass that was probably meant by `name`.
pub fn find_nearest(name: &str) -> Option<&'static str> {
    nearest(name, PASSES.iter().map(|entry| entry.name))
}

/// What people read about all passes.
pub fn describe() -> Vec<PassDescription> {
    PASSES.iter().map(Entry::describe).collect()
}

/// The names of all passes.
pub fn names() -> Vec<String> {
    PASSES.iter().map(|entry| entry.name.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pass_is_documented_and_named_in_kebab_case() {
        let is_kebab = |name: &str| name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        for pass in describe() {
            assert!(is_kebab(pass.name) && !pass.summary.is_empty() && !pass.source.is_empty(), "{}", pass.name);
            for option in pass.options {
                assert!(is_kebab(&option.name), "{} {}", pass.name, option.name);
                assert!(option.summary.ends_with('.'), "{} {}: {}", pass.name, option.name, option.summary);
            }
        }
    }

    #[test]
    fn names_are_unique_and_agree_with_the_pass_itself() {
        for (at, entry) in PASSES.iter().enumerate() {
            assert!(PASSES[..at].iter().all(|other| other.name != entry.name), "{}", entry.name);
            assert_eq!(entry.build(&[], &[]).unwrap().name(), entry.name);
        }
    }

    #[test]
    fn every_default_can_be_written_out() {
        for entry in PASSES {
            let options: Vec<_> = entry.describe().options.into_iter().map(|o| (o.name, o.default)).collect();
            assert!(entry.build(&options, &[]).is_ok(), "{}", entry.name);
        }
    }
}
