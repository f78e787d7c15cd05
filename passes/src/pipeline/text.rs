//! Pipelines as text: `fold, prune(sparsity=0.9), share(clusters=32), pack(coder=small)`.
//!
//! ```text
//! pipeline = [ step { "," step } [ "," ] ]
//! step     = name [ "(" [ option { "," option } [ "," ] ] ")" ]
//! option   = name "=" value
//! value    = word | '"' { any character, with \" and \\ escaped } '"'
//! word     = one or more characters other than space , ( ) = "
//! ```

use std::fmt;
use std::ops::Range;

use crate::nearest::hint;
use crate::options::OptionError;
use crate::registry;

/// A pipeline as it was written, its names and values checked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PipelineText {
    /// The steps, in order.
    pub steps: Vec<StepText>,
}

/// One step of a pipeline, as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepText {
    /// Name of the pass.
    pub name: String,
    /// Names and values of the options that were given, in their order.
    pub options: Vec<(String, String)>,
}

/// What is wrong with the text of a pipeline.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("pipeline, character {}: {problem}", span.start + 1)]
pub struct PipelineError {
    /// Bytes of the text that are to blame.
    pub span: Range<usize>,
    /// What is wrong with them.
    pub problem: Box<PipelineProblem>,
}

/// The kinds of mistakes in a pipeline.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PipelineProblem {
    /// The text is no pipeline.
    #[error("expected {expected}, found {found}")]
    Syntax {
        /// What may stand here.
        expected: &'static str,
        /// What stands here.
        found: String,
    },
    /// There is no pass of that name.
    #[error("unknown pass `{name}`{}", hint(nearest.as_deref(), allowed))]
    UnknownPass {
        /// The name.
        name: String,
        /// The pass that was probably meant.
        nearest: Option<String>,
        /// All passes.
        allowed: Vec<String>,
    },
    /// An option that the pass does not have, or a value that does not suit it.
    #[error("pass `{pass}`: {}{error}", option_prefix(option, error))]
    Option {
        /// Name of the pass.
        pass: String,
        /// Name of the option.
        option: String,
        /// What is wrong with it.
        error: OptionError,
    },
    /// One option was given twice.
    #[error("pass `{pass}`: option `{option}` is given twice")]
    Repeated {
        /// Name of the pass.
        pass: String,
        /// Name of the option.
        option: String,
    },
}

/// Names the option, where the error does not.
pub(crate) fn option_prefix(option: &str, error: &OptionError) -> String {
    match error {
        OptionError::Unknown { .. } => String::new(),
        OptionError::Value(_) => format!("option `{option}`: "),
    }
}

impl PipelineText {
    /// Reads a pipeline and checks its passes, options and values.
    ///
    /// # Errors
    /// The first mistake, with its place in the text.
    pub fn parse(text: &str) -> Result<Self, PipelineError> {
        Parser { text, at: 0 }.pipeline()
    }

    /// Gives the option `name` to every step whose pass has it and that does not say otherwise.
    #[must_use]
    pub fn with_default(mut self, name: &str, value: &str) -> Self {
        for step in &mut self.steps {
            let has_option = registry::find(&step.name).is_some_and(|entry| entry.check(name, value).is_ok());
            if has_option && step.options.iter().all(|(given, _)| given != name) {
                step.options.push((name.to_owned(), value.to_owned()));
            }
        }
        self
    }
}

impl fmt::Display for PipelineText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, step) in self.steps.iter().enumerate() {
            write!(f, "{}{step}", if number == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

impl fmt::Display for StepText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        for (number, (name, value)) in self.options.iter().enumerate() {
            write!(f, "{}{name}=", if number == 0 { "(" } else { ", " })?;
            if !value.is_empty() && value.chars().all(is_word) {
                f.write_str(value)?;
            } else {
                write!(f, "\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))?;
            }
        }
        f.write_str(if self.options.is_empty() { "" } else { ")" })
    }
}

/// Whether `character` may stand in a word.
fn is_word(character: char) -> bool {
    !character.is_whitespace() && !matches!(character, ',' | '(' | ')' | '=' | '"')
}

struct Parser<'a> {
    text: &'a str,
    /// Byte that is read next.
    at: usize,
}

impl<'a> Parser<'a> {
    fn pipeline(mut self) -> Result<PipelineText, PipelineError> {
        let mut steps = Vec::new();
        loop {
            self.space();
            if self.rest().is_empty() {
                return Ok(PipelineText { steps });
            }
            steps.push(self.step()?);
            self.space();
            if !self.eat(',') && !self.rest().is_empty() {
                let has_options = steps.last().is_some_and(|step: &StepText| !step.options.is_empty());
                return Err(self.syntax(if has_options { "`,` or the end" } else { "`,`, `(` or the end" }));
            }
        }
    }

    fn step(&mut self) -> Result<StepText, PipelineError> {
        let (name, span) = self.word("the name of a pass")?;
        let Some(entry) = registry::find(name) else {
            let nearest = registry::find_nearest(name).map(str::to_owned);
            let problem = PipelineProblem::UnknownPass { name: name.to_owned(), nearest, allowed: registry::names() };
            return Err(PipelineError { span, problem: Box::new(problem) });
        };
        let mut step = StepText { name: name.to_owned(), options: Vec::new() };
        self.space();
        if self.eat('(') {
            loop {
                self.space();
                if self.eat(')') {
                    break;
                }
                let option = self.option(entry, &step)?;
                step.options.push(option);
                self.space();
                if !self.eat(',') && !self.rest().starts_with(')') {
                    return Err(self.syntax("`,` or `)`"));
                }
            }
        }
        Ok(step)
    }

    fn option(&mut self, entry: &registry::Entry, step: &StepText) -> Result<(String, String), PipelineError> {
        let (name, name_span) = self.word("the name of an option, or `)`")?;
        self.space();
        if !self.eat('=') {
            return Err(self.syntax("`=`"));
        }
        self.space();
        let (value, value_span) = self.value()?;
        let (pass, option) = (step.name.clone(), name.to_owned());
        if step.options.iter().any(|(given, _)| given == name) {
            let problem = PipelineProblem::Repeated { pass, option };
            return Err(PipelineError { span: name_span, problem: Box::new(problem) });
        }
        entry.check(name, &value).map_err(|error| {
            let span = if matches!(error, OptionError::Unknown { .. }) { name_span } else { value_span };
            PipelineError { span, problem: Box::new(PipelineProblem::Option { pass, option, error }) }
        })?;
        Ok((name.to_owned(), value))
    }

    fn value(&mut self) -> Result<(String, Range<usize>), PipelineError> {
        let start = self.at;
        if !self.eat('"') {
            return self.word("a value").map(|(word, span)| (word.to_owned(), span));
        }
        let mut value = String::new();
        let mut characters = self.rest().char_indices();
        while let Some((offset, character)) = characters.next() {
            match character {
                '"' => {
                    self.at += offset + 1;
                    return Ok((value, start..self.at));
                }
                '\\' => match characters.next() {
                    Some((_, escaped @ ('"' | '\\'))) => value.push(escaped),
                    Some((_, other)) => value.extend(['\\', other]),
                    None => break,
                },
                _ => value.push(character),
            }
        }
        self.at = self.text.len();
        Err(self.syntax("a closing `\"`"))
    }

    fn word(&mut self, expected: &'static str) -> Result<(&'a str, Range<usize>), PipelineError> {
        let rest = self.rest();
        let len = rest.find(|character| !is_word(character)).unwrap_or(rest.len());
        if len == 0 {
            return Err(self.syntax(expected));
        }
        let span = self.at..self.at + len;
        self.at = span.end;
        Ok((&rest[..len], span))
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn space(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start().len();
    }

    fn eat(&mut self, wanted: char) -> bool {
        let is_next = self.rest().starts_with(wanted);
        self.at += if is_next { wanted.len_utf8() } else { 0 };
        is_next
    }

    fn syntax(&self, expected: &'static str) -> PipelineError {
        let next = self.rest().chars().next();
        let found = next.map_or_else(|| "the end".to_owned(), |character| format!("`{character}`"));
        let span = self.at..self.at + next.map_or(0, char::len_utf8);
        PipelineError { span, problem: Box::new(PipelineProblem::Syntax { expected, found }) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn error(text: &str) -> (String, &str) {
        let error = PipelineText::parse(text).unwrap_err();
        (error.to_string(), &text[error.span.clone()])
    }

    #[test]
    fn spaces_line_ends_and_trailing_commas_do_not_matter() {
        let loose = PipelineText::parse(" prune ( sparsity = 0.9 ,\n scope=global, ) ,\n share,").unwrap();
        assert_eq!(loose.to_string(), "prune(sparsity=0.9, scope=global), share");
        assert_eq!(PipelineText::parse("  ").unwrap().to_string(), "");
        assert_eq!(PipelineText::parse("share()").unwrap(), PipelineText::parse("share").unwrap());
    }

    #[test]
    fn mistakes_are_shown_where_they_are() {
        let names = registry::names().join(", ");
        let expect = |text: &str, message: &str, blamed: &str| {
            assert_eq!(error(text), (format!("pipeline, character {message}"), blamed), "{text}");
        };
        expect("share, prun", &format!("8: unknown pass `prun`; did you mean `prune`? (known: {names})"), "prun");
        expect("share, ☃", &format!("8: unknown pass `☃` (known: {names})"), "☃");
        expect(
            "prune(sparcity=0.9)",
            "7: pass `prune`: unknown option `sparcity`; did you mean `sparsity`? \
             (known: sparsity, criterion, scope, damping, select)",
            "sparcity",
        );
        expect(
            "prune(sparsity=1)",
            "16: pass `prune`: option `sparsity`: expected a number in 0.0..1.0, found `1`",
            "1",
        );
        expect(
            "share(init=linaer)",
            "12: pass `share`: option `init`: expected one of linear, density, companded, random, found `linaer`; did you mean `linear`?",
            "linaer",
        );
        expect("share(seed=1, seed=2)", "15: pass `share`: option `seed` is given twice", "seed");
        expect("share(seed 1)", "12: expected `=`, found `1`", "1");
        expect("share(seed=1 select=a)", "14: expected `,` or `)`, found `s`", "s");
        expect("share(seed=1", "13: expected `,` or `)`, found the end", "");
        expect("share share", "7: expected `,`, `(` or the end, found `s`", "s");
        expect("share(seed=)", "12: expected a value, found `)`", ")");
        expect("share(select=\"a", "16: expected a closing `\"`, found the end", "");
        expect(", share", "1: expected the name of a pass, found `,`", ",");
    }

    #[test]
    fn a_default_reaches_the_steps_that_know_it_and_do_not_say_otherwise() {
        let text = PipelineText::parse("prune, share(seed=3), share").unwrap();
        assert_eq!(text.with_default("seed", "7").to_string(), "prune, share(seed=3), share(seed=7)");
    }

    proptest! {
        #[test]
        fn printed_pipelines_read_back_as_themselves(
            steps in prop::collection::vec(
                prop_oneof![
                    (0.0f64..0.99, any::<String>()).prop_map(|(sparsity, select)| ("prune", vec![
                        ("sparsity", sparsity.to_string()),
                        ("select", globset_escape(&select)),
                    ])),
                    any::<u64>().prop_map(|seed| ("share", vec![("seed", seed.to_string())])),
                    Just(("share", vec![])),
                ],
                0..5,
            )
        ) {
            let steps = steps.into_iter().map(|(name, options)| StepText {
                name: name.to_owned(),
                options: options.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
            });
            let text = PipelineText { steps: steps.collect() };
            prop_assert_eq!(PipelineText::parse(&text.to_string()), Ok(text));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "[a-z(),=\"\\\\ ☃0-9.]{0,40}") {
            if let Err(error) = PipelineText::parse(&text) {
                prop_assert!(text.get(error.span).is_some());
            }
        }
    }

    /// A pattern that is valid, whatever the text.
    fn globset_escape(text: &str) -> String {
        format!("\"=, ()\\\\{}", globset::escape(&text.replace('\\', "")))
    }
}
