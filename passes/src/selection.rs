//! Which weights a pass may change, and with which options.

use std::fmt;

use globset::{GlobBuilder, GlobMatcher};
use onnx_dcomp_ir::{Model, Role, Weight};

use crate::nearest::nearest;
use crate::options::{Assignment, OptionValue, Options, unexpected, unknown_choice};

/// Why a pass that approximates must leave `weight` as it is; `None` where it may change it.
///
/// Whether every value is finite is not asked here, since that means reading them all.
pub fn reason_to_leave(weight: &Weight) -> Option<String> {
    if let Some(reason) = &weight.left_alone {
        return Some(reason.clone());
    }
    let held = match weight.role {
        Role::Bias => Some("a bias: few values, all of which matter".to_owned()),
        Role::Normalization => Some("a normalisation's parameter: few values, all of which matter".to_owned()),
        Role::Activation => Some("slopes of an activation: few values, all of which matter".to_owned()),
        Role::Quantized => Some("quantised before it came here".to_owned()),
        Role::Other => {
            let reader = weight.operator.as_deref().unwrap_or("nothing");
            Some(format!("not the kernel of a layer: read by {reader}, to which single values may matter"))
        }
        _ => None,
    };
    if held.is_some() {
        return held;
    }
    if !weight.dtype().is_float() {
        return Some(format!("not a floating-point type: {}", weight.dtype()));
    }
    let len = weight.len();
    (len < Model::MIN_WEIGHT_LEN)
        .then(|| format!("tiny: {len} elements, and it takes {} to be worth it", Model::MIN_WEIGHT_LEN))
}

/// What is said of a weight that holds NaN or an infinity.
pub(crate) const NOT_FINITE: &str = "holds NaN or infinite values, which are kept bit for bit";

/// A pattern for names of weights: `*` stands for any text, `?` for one character, `[ab]` for one of a few, `{a,b}`
/// for one of a few texts.
#[derive(Debug, Clone)]
pub struct NamePattern(GlobMatcher);

impl NamePattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn new(text: &str) -> Result<Self, String> {
        let glob = GlobBuilder::new(text).backslash_escape(true).build();
        glob.map(|glob| Self(glob.compile_matcher())).map_err(|error| error.kind().to_string())
    }

    /// The pattern that every name matches.
    pub fn all() -> Self {
        Self::new("*").expect("a star is a pattern")
    }

    /// Whether `name` matches.
    pub fn matches(&self, name: &str) -> bool {
        self.0.is_match(name)
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        self.0.glob().glob()
    }
}

impl PartialEq for NamePattern {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl OptionValue for Role {
    /// Reads the name of a role; letter case and hyphens are ignored, so that ONNX's own spelling is understood.
    fn parse(text: &str) -> Result<Self, String> {
        let plain = |name: &str| name.replace('-', "").to_lowercase();
        let names = Self::ALL.map(Self::name);
        let role = Self::ALL.into_iter().find(|role| plain(role.name()) == plain(text));
        role.ok_or_else(|| unknown_choice(&names, text))
    }
    fn print(&self) -> String {
        self.name().to_owned()
    }
    fn kind() -> String {
        format!("one of {}", Self::ALL.map(Self::name).join(", "))
    }
}

impl OptionValue for NamePattern {
    fn parse(text: &str) -> Result<Self, String> {
        Self::new(text).map_err(|reason| unexpected(&format!("a pattern ({reason})"), text))
    }
    fn print(&self) -> String {
        self.as_str().to_owned()
    }
    fn kind() -> String {
        "a pattern of names, such as conv*".to_owned()
    }
}

/// Says which weights a rule is for: all conditions that are given must hold.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Selector {
    /// The weight's name.
    pub name: Option<NamePattern>,
    /// What operators do with it.
    pub role: Option<Role>,
    /// The operator that reads it, such as `Conv`; letter case is ignored.
    pub operator: Option<String>,
}

impl Selector {
    /// Whether the rule is for `weight`.
    pub fn matches(&self, weight: &Weight) -> bool {
        let operator =
            |wanted: &String| weight.operator.as_ref().is_some_and(|operator| operator.eq_ignore_ascii_case(wanted));
        self.name.as_ref().is_none_or(|name| name.matches(&weight.name))
            && self.role.is_none_or(|role| role == weight.role)
            && self.operator.as_ref().is_none_or(operator)
    }

    /// The name, role or operator in `model` that was probably meant, where the rule is for no weight.
    pub fn nearest_in<'a>(&self, model: &'a Model) -> Option<&'a str> {
        let weights = || model.weights().map(|(_, weight)| weight);
        match (&self.name, &self.operator) {
            (Some(name), _) => nearest(name.as_str(), weights().map(|weight| weight.name.as_str())),
            (None, Some(wanted)) => nearest(wanted, weights().filter_map(|weight| weight.operator.as_deref())),
            (None, None) => None,
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name.as_ref().map(|name| format!("match = \"{}\"", name.as_str()));
        let role = self.role.map(|role| format!("role = \"{role}\""));
        let operator = self.operator.as_ref().map(|operator| format!("operator = \"{operator}\""));
        f.write_str(&[name, role, operator].into_iter().flatten().collect::<Vec<_>>().join(", "))
    }
}

/// What a rule says of one pass.
pub struct Override<O> {
    /// The weights that it is for.
    pub selector: Selector,
    /// Whether the pass leaves them out; `None` where the rule does not say.
    pub skip: Option<bool>,
    /// Options that are other than elsewhere.
    pub assignments: Vec<Assignment<O>>,
}

/// The options of a pass: those of the pipeline, and what the rules of a recipe make of them for single weights.
pub struct Settings<O> {
    base: O,
    overrides: Vec<Override<O>>,
}

impl<O: Options> Settings<O> {
    /// Options with exceptions. Of rules that say different things of one option, the last wins.
    pub fn new(base: O, overrides: Vec<Override<O>>) -> Self {
        Self { base, overrides }
    }

    /// The options where no rule says otherwise.
    pub fn base(&self) -> &O {
        &self.base
    }

    /// The options for `weight`; `None` where a rule says to leave it out.
    pub fn for_weight(&self, weight: &Weight) -> Option<O> {
        let mut options = self.base.clone();
        let mut skip = false;
        for rule in self.overrides.iter().filter(|rule| rule.selector.matches(weight)) {
            skip = rule.skip.unwrap_or(skip);
            rule.assignments.iter().for_each(|assign| assign(&mut options));
        }
        (!skip).then_some(options)
    }
}

impl<O: Options> From<O> for Settings<O> {
    fn from(base: O) -> Self {
        Self::new(base, Vec::new())
    }
}

/// Checks that the option `select` of a pass is for some weight.
///
/// # Errors
/// [`PassError::Option`](crate::PassError::Option), which names the nearest weight.
pub fn check_select(pass: &'static str, select: &NamePattern, model: &Model) -> Result<(), crate::PassError> {
    if model.weights().next().is_none() || model.weights().any(|(_, weight)| select.matches(&weight.name)) {
        return Ok(());
    }
    let selector = Selector { name: Some(select.clone()), ..Selector::default() };
    let meant = selector.nearest_in(model).map(|name| format!("; did you mean `{name}`?")).unwrap_or_default();
    let reason = format!("no weight is called `{}`{meant}", select.as_str());
    Err(crate::PassError::Option { pass, option: "select", reason })
}
