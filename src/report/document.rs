//! A report: a compilation with what only a report shows, and the file that it goes to.

use std::path::Path;

use serde::Serialize;

use super::{Compilation, Histogram, page};
use crate::Error;

/// How a report is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReportFormat {
    /// One page for people, which needs no other file.
    Html,
    /// For machines.
    Json,
}

impl ReportFormat {
    /// The format that the ending of `path` names.
    ///
    /// # Errors
    /// [`Error::Usage`] where it names none.
    pub fn of(path: &Path) -> Result<Self, Error> {
        let ending = path.extension().map(|ending| ending.to_string_lossy().to_ascii_lowercase());
        match ending.as_deref() {
            Some("html" | "htm") => Ok(Self::Html),
            Some("json") => Ok(Self::Json),
            _ => Err(Error::Usage(format!(
                "cannot tell what kind of report {} is to be: give it the ending .html (for people) or .json (for machines)",
                path.display()
            ))),
        }
    }
}

/// Everything that a report says.
#[derive(Debug, Clone, Serialize)]
pub struct Report<'a> {
    /// Version of the compiler.
    pub version: &'static str,
    /// Digest of the input file, in hexadecimal.
    pub input_sha256: &'a str,
    /// Why nothing was written; `None` where all went well.
    pub failure: Option<String>,
    /// The compilation.
    #[serde(flatten)]
    pub compilation: &'a Compilation,
    /// How the values of the largest weights are spread.
    pub histograms: &'a [Histogram],
    /// How to make the same file again.
    pub reproduction: &'a Reproduction,
}

/// How to make the same file again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Reproduction {
    /// The command, for a shell.
    pub command: String,
    /// A recipe that runs the same passes, without a search, in TOML.
    pub recipe: String,
}

impl Report<'_> {
    /// The report in `format`.
    pub fn to_text(&self, format: ReportFormat) -> String {
        match format {
            ReportFormat::Html => page::page(self),
            // Every key is text and every number is one that JSON has, or becomes `null`.
            ReportFormat::Json => serde_json::to_string_pretty(self).unwrap_or_default() + "\n",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ending_names_the_format() {
        for (path, format) in
            [("a.html", ReportFormat::Html), ("b/c.HTM", ReportFormat::Html), ("d.json", ReportFormat::Json)]
        {
            assert_eq!(ReportFormat::of(path.as_ref()).unwrap(), format);
        }
        for path in ["a", "a.txt", "a.html.gz", ".html"] {
            assert!(matches!(ReportFormat::of(path.as_ref()), Err(Error::Usage(_))), "{path}");
        }
    }
}
