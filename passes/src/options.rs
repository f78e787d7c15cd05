//! Options of a pass, declared once.
//!
//! [`options!`](crate::options!) declares a struct whose every field has a type, a default, a range where that makes
//! sense, and a line of documentation. The parser of pipelines, recipes, the listing of passes and the docs all read
//! that one declaration. [`choices!`](crate::choices!) does the same for an option that is one of a few words.
//!
//! ```
//! onnx_dcomp_passes::choices! {
//!     /// How loud.
//!     pub enum Volume {
//!         /// Nobody hears it.
//!         Quiet = "quiet",
//!         /// Everybody does.
//!         Loud = "loud",
//!     }
//! }
//! onnx_dcomp_passes::options! {
//!     /// Options of a pass that sings.
//!     pub struct SingOptions {
//!         /// Verses to sing.
//!         pub verses: usize = 3, within 1..=12;
//!         /// How loud to sing.
//!         pub volume: Volume = Volume::Quiet;
//!     }
//! }
//! use onnx_dcomp_passes::Options;
//! let mut options = SingOptions::default();
//! options.set("volume", "loud").unwrap();
//! assert_eq!(options.volume, Volume::Loud);
//! assert_eq!(options.set("verses", "13").unwrap_err().to_string(), "expected a whole number in 1..=12, found `13`");
//! assert_eq!(SingOptions::describe()[0].default, "3");
//! ```

use std::fmt::Debug;
use std::ops::RangeBounds;
use std::sync::Arc;

use crate::nearest::{hint, nearest};

/// The options of one pass.
pub trait Options: Default + Clone + Debug + Send + Sync + 'static {
    /// The options, in the order of their declaration.
    fn fields() -> Vec<Field<Self>>;

    /// What people read about the options.
    fn describe() -> Vec<OptionDescription> {
        Self::fields().into_iter().map(|field| field.description).collect()
    }

    /// Reads `text` as a value of the option `name`, to be assigned later, any number of times.
    ///
    /// # Errors
    /// [`OptionError`] where there is no such option, or the value does not suit it.
    fn assignment(name: &str, text: &str) -> Result<Assignment<Self>, OptionError> {
        let fields = Self::fields();
        match fields.iter().find(|field| field.description.name == name) {
            Some(field) => (field.parse)(text).map_err(OptionError::Value),
            None => {
                let allowed: Vec<String> = fields.into_iter().map(|field| field.description.name).collect();
                let nearest = nearest(name, allowed.iter().map(String::as_str)).map(str::to_owned);
                Err(OptionError::Unknown { name: name.to_owned(), nearest, allowed })
            }
        }
    }

    /// Sets the option `name` to what `text` says.
    ///
    /// # Errors
    /// As [`Options::assignment`].
    fn set(&mut self, name: &str, text: &str) -> Result<(), OptionError> {
        Self::assignment(name, text).map(|assign| assign(self))
    }

    /// Every option with its value as text, in the order of declaration; [`Options::set`] reads it back.
    fn print(&self) -> Vec<(String, String)> {
        Self::fields().into_iter().map(|field| (field.description.name, (field.print)(self))).collect()
    }
}

/// A value that was read, ready to be written into the options.
pub type Assignment<O> = Arc<dyn Fn(&mut O) + Send + Sync>;

/// One option of `O`.
pub struct Field<O> {
    /// What people read about it.
    pub description: OptionDescription,
    /// Reads a value; the error is a reason, in words.
    pub parse: fn(&str) -> Result<Assignment<O>, String>,
    /// The current value, as text.
    pub print: fn(&O) -> String,
}

/// What people read about an option.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct OptionDescription {
    /// Name in kebab case.
    pub name: String,
    /// What values look like: "a number", "one of layer, global".
    pub kind: String,
    /// The default, as text.
    pub default: String,
    /// The range of allowed values, where there is one.
    pub range: Option<String>,
    /// What it does, in one line.
    pub summary: String,
}

/// Why an option cannot be set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OptionError {
    /// The pass has no option of that name.
    #[error("unknown option `{name}`{}", hint(nearest.as_deref(), allowed))]
    Unknown {
        /// The name that was given.
        name: String,
        /// The option that was probably meant.
        nearest: Option<String>,
        /// All options of the pass.
        allowed: Vec<String>,
    },
    /// The value does not suit the option; the text says why.
    #[error("{0}")]
    Value(String),
}

/// A type that an option can have.
pub trait OptionValue: Clone + Send + Sync + 'static {
    /// Reads a value.
    ///
    /// # Errors
    /// What was expected, in words, and what was found.
    fn parse(text: &str) -> Result<Self, String>;

    /// Writes the value so that [`OptionValue::parse`] reads it back.
    fn print(&self) -> String;

    /// What values look like: "a number".
    fn kind() -> String;
}

/// What [`OptionValue::parse`] says of a text that is no such value.
pub fn unexpected(kind: &str, text: &str) -> String {
    format!("expected {kind}, found `{text}`")
}

macro_rules! plain_values {
    ($($type:ty: $kind:literal),* $(,)?) => {$(
        impl OptionValue for $type {
            fn parse(text: &str) -> Result<Self, String> {
                text.parse().map_err(|_| unexpected($kind, text))
            }
            fn print(&self) -> String {
                self.to_string()
            }
            fn kind() -> String {
                $kind.to_owned()
            }
        }
    )*};
}
plain_values!(u8: "a whole number", u32: "a whole number", u64: "a whole number", usize: "a whole number", bool: "true or false", String: "text");

macro_rules! finite_values {
    ($($type:ty),*) => {$(
        impl OptionValue for $type {
            fn parse(text: &str) -> Result<Self, String> {
                text.parse().ok().filter(|value: &$type| value.is_finite()).ok_or_else(|| unexpected("a number", text))
            }
            fn print(&self) -> String {
                self.to_string()
            }
            fn kind() -> String {
                "a number".to_owned()
            }
        }
    )*};
}
finite_values!(f32, f64);

/// An option that may be left to the pass: `auto`.
impl<T: OptionValue> OptionValue for Option<T> {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(None),
            _ => T::parse(text).map(Some).map_err(|_| unexpected(&Self::kind(), text)),
        }
    }
    fn print(&self) -> String {
        self.as_ref().map_or_else(|| "auto".to_owned(), OptionValue::print)
    }
    fn kind() -> String {
        format!("`auto` or {}", T::kind())
    }
}

/// Checks a value against the range of its option; serves [`options!`](crate::options!).
///
/// # Errors
/// What was expected, in words, and what was found.
pub fn check_range<T, R>(value: &T, range: &R) -> Result<(), String>
where
    T: OptionValue + PartialOrd,
    R: RangeBounds<T> + Debug,
{
    if range.contains(value) { Ok(()) } else { Err(unexpected(&format!("{} in {range:?}", T::kind()), &value.print())) }
}

/// Declares the options of a pass; see [the module](mod@crate::options).
#[macro_export]
macro_rules! options {
    (
        $(#[$meta:meta])*
        pub struct $name:ident {
            $(
                $(#[doc = $doc:literal])+
                pub $field:ident: $type:ty = $default:expr $(, within $range:expr)?;
            )*
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq)]
        pub struct $name {
            $($(#[doc = $doc])+ pub $field: $type,)*
        }

        impl ::std::default::Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }

        impl $crate::options::Options for $name {
            fn fields() -> ::std::vec::Vec<$crate::options::Field<Self>> {
                #[allow(unused_mut, unused_assignments)]
                let fields = ::std::vec![$({
                    let mut range: ::std::option::Option<::std::string::String> = None;
                    $(range = Some(::std::format!("{:?}", $range));)?
                    let default: $type = $default;
                    $crate::options::Field {
                        description: $crate::options::OptionDescription {
                            name: stringify!($field).replace('_', "-"),
                            kind: <$type as $crate::options::OptionValue>::kind(),
                            default: $crate::options::OptionValue::print(&default),
                            range,
                            summary: [$($doc),+].map(str::trim).join(" "),
                        },
                        parse: |text| {
                            let value = <$type as $crate::options::OptionValue>::parse(text)?;
                            $($crate::options::check_range(&value, &($range))?;)?
                            Ok(::std::sync::Arc::new(move |options: &mut Self| options.$field = value.clone()))
                        },
                        print: |options| $crate::options::OptionValue::print(&options.$field),
                    }
                }),*];
                fields
            }
        }
    };
}

/// Declares an option that is one of a few words; see [the module](mod@crate::options).
#[macro_export]
macro_rules! choices {
    (
        $(#[$meta:meta])*
        pub enum $name:ident {
            $($(#[doc = $doc:literal])+ $variant:ident = $word:literal),+ $(,)?
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl $name {
            /// Every choice, in the order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word for this choice.
            pub const fn word(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }
        }

        impl $crate::options::OptionValue for $name {
            fn parse(text: &str) -> ::std::result::Result<Self, ::std::string::String> {
                Self::ALL.iter().copied().find(|choice| choice.word() == text).ok_or_else(|| {
                    $crate::options::unknown_choice(&[$($word),+], text)
                })
            }
            fn print(&self) -> ::std::string::String {
                self.word().to_owned()
            }
            fn kind() -> ::std::string::String {
                ::std::format!("one of {}", [$($word),+].join(", "))
            }
        }
    };
}

/// What a parser says of a word that is none of `words`; serves [`choices!`](crate::choices!).
pub fn unknown_choice(words: &[&str], text: &str) -> String {
    let meant = nearest(text, words.iter().copied()).map(|word| format!("; did you mean `{word}`?"));
    unexpected(&format!("one of {}", words.join(", ")), text) + &meant.unwrap_or_default()
}

options! {
    /// A pass that has no options.
    pub struct NoOptions {}
}

#[cfg(test)]
#[allow(unreachable_pub, reason = "the macros declare public types")]
mod tests {
    use super::*;

    crate::choices! {
        /// A choice.
        pub enum Colour {
            /// Like blood.
            Red = "red",
            /// Like the sky.
            Blue = "blue",
        }
    }
    crate::options! {
        /// Options to test with.
        pub struct Painting {
            /// Layers of paint,
            /// from the ground up.
            pub paint_layers: u32 = 2, within 1..=9;
            /// The colour.
            pub colour: Colour = Colour::Red;
            /// How thick, in millimetres.
            pub thickness: f64 = 0.5, within 0.0..1.0;
            /// Bits of colour.
            pub bits: Option<u32> = None;
            /// Whether to frame it.
            pub framed: bool = false;
        }
    }

    #[test]
    fn names_are_kebab_case_and_docs_are_one_line() {
        let described = Painting::describe();
        assert_eq!(described[0].name, "paint-layers");
        assert_eq!(described[0].summary, "Layers of paint, from the ground up.");
        assert_eq!(described[0].range.as_deref(), Some("1..=9"));
        assert_eq!((described[1].kind.as_str(), described[1].default.as_str()), ("one of red, blue", "red"));
        assert_eq!(described[4].range, None);
    }

    #[test]
    fn printed_options_read_back_as_themselves() {
        let painting =
            Painting { paint_layers: 7, colour: Colour::Blue, thickness: 0.1 + 0.2, bits: Some(3), framed: true };
        let mut copy = Painting::default();
        for (name, value) in painting.print() {
            copy.set(&name, &value).unwrap();
        }
        assert_eq!(copy, painting);
    }

    #[test]
    fn the_default_satisfies_its_own_range() {
        let mut painting = Painting::default();
        for described in Painting::describe() {
            painting.set(&described.name, &described.default).unwrap();
        }
        assert_eq!(painting, Painting::default());
    }

    #[test]
    fn errors_say_what_was_expected() {
        let mut painting = Painting::default();
        let mut error = |name: &str, value: &str| painting.set(name, value).unwrap_err().to_string();
        assert_eq!(error("paint-layers", "0"), "expected a whole number in 1..=9, found `0`");
        assert_eq!(error("paint-layers", "-1"), "expected a whole number, found `-1`");
        assert_eq!(error("thickness", "NaN"), "expected a number, found `NaN`");
        assert_eq!(error("thickness", "1"), "expected a number in 0.0..1.0, found `1`");
        assert_eq!(error("colour", "bleu"), "expected one of red, blue, found `bleu`; did you mean `blue`?");
        assert_eq!(error("bits", "nine"), "expected `auto` or a whole number, found `nine`");
        assert_eq!(error("framed", "yes"), "expected true or false, found `yes`");
        assert_eq!(
            error("color", "red"),
            "unknown option `color`; did you mean `colour`? \
             (known: paint-layers, colour, thickness, bits, framed)"
        );
        assert_eq!(painting, Painting::default(), "a refused value changes nothing");
        assert!(NoOptions::default().set("x", "1").unwrap_err().to_string().contains("(there are none)"));
    }
}
