//! Hearing how far long work is.

use std::time::Duration;

use serde::Serialize;

/// Hears how far the compiler is. Every method may be left as it is.
pub trait Watch: Send + Sync {
    /// A stage begins: `name` says what is being done, `total` how many steps it has, where that is known.
    fn begin(&self, _name: &str, _total: Option<u64>) {}

    /// So many steps of the stage are done.
    fn advance(&self, _done: u64) {}

    /// The stage has ended, well or not.
    fn end(&self) {}

    /// A pass has run.
    fn pass(&self, _pass: &PassRecord) {}

    /// Something that people should know, though the work goes on.
    fn warn(&self, _text: &str) {}
}

/// Watches nothing.
impl Watch for () {}

/// What a pass did.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PassRecord {
    /// The step as text, with the options that were given.
    pub text: String,
    /// How long it took.
    #[serde(rename = "seconds", serialize_with = "as_seconds")]
    pub took: Duration,
    /// What it said, a line for each thing of note.
    pub changes: Vec<String>,
    /// The model after it, as text, where that was asked for.
    #[serde(skip)]
    pub listing: Option<String>,
}

fn as_seconds<S: serde::Serializer>(took: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(took.as_secs_f64())
}
