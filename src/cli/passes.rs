//! `onnx-dcomp passes [NAME]`.

use std::fmt::Write as _;

use clap::Args;
use onnx_dcomp_passes::{PRESETS, PassDescription, registry};
use serde::Serialize;

use super::terminal::Terminal;
use super::{Shown, print, print_json};
use crate::report::style::Style;
use crate::{Error, Plan};

/// List the passes, their options, and the presets.
#[derive(Debug, Args)]
pub(super) struct Passes {
    /// Only this pass.
    #[arg(value_name = "NAME")]
    name: Option<String>,
    #[command(flatten)]
    shown: Shown,
}

pub(super) fn run(arguments: Passes) -> Result<(), Error> {
    let terminal = Terminal::new(&arguments.shown);
    let passes = match &arguments.name {
        Some(name) => vec![registry::find(name).ok_or_else(|| unknown(name))?.describe()],
        None => registry::describe(),
    };
    let presets = if arguments.name.is_none() { presets()? } else { Vec::new() };
    if arguments.shown.json {
        return print_json(&Listed { passes, presets });
    }
    let mut text = String::new();
    for pass in &passes {
        print_pass(pass, terminal.style(), &mut text);
    }
    if arguments.name.is_none() {
        text.push_str("presets\n");
        for PresetDescription { name, pipeline, summary } in presets {
            let _ = writeln!(text, "  {name}: {pipeline}");
            if !summary.is_empty() {
                let _ = writeln!(text, "      {summary}");
            }
        }
    }
    print(&text)
}

/// What is listed for machines.
#[derive(Debug, Serialize)]
struct Listed {
    passes: Vec<PassDescription>,
    presets: Vec<PresetDescription>,
}

/// A pipeline with a name.
#[derive(Debug, Serialize)]
struct PresetDescription {
    name: &'static str,
    pipeline: String,
    summary: &'static str,
}

fn presets() -> Result<Vec<PresetDescription>, Error> {
    let describe = |name: &'static str| {
        let pipeline = Plan::Preset(name.to_owned()).pipeline_text()?;
        let summary = PRESETS.iter().find(|preset| preset.name == name).map_or("", |preset| preset.summary);
        Ok(PresetDescription { name, pipeline, summary })
    };
    crate::plan::preset_names().into_iter().map(describe).collect()
}

/// The error of a pass that does not exist.
pub(super) fn unknown(name: &str) -> Error {
    let meant = registry::find_nearest(name).map(|name| format!("; did you mean `{name}`?")).unwrap_or_default();
    Error::Usage(format!("unknown pass `{name}`{meant} (known: {})", registry::names().join(", ")))
}

fn print_pass(pass: &PassDescription, style: Style, text: &mut String) {
    let _ = writeln!(text, "{}: {}", pass.name, pass.summary);
    if !pass.source.is_empty() {
        let _ = writeln!(text, "  after {}", pass.source);
    }
    if !pass.options.is_empty() {
        let mut table = style.table(&["option", "default", "values", "what"]);
        for option in &pass.options {
            let values = match &option.range {
                Some(range) => format!("{} in {range}", option.kind),
                None => option.kind.clone(),
            };
            table.add_row([option.name.clone(), option.default.clone(), values, option.summary.clone()]);
        }
        let _ = writeln!(text, "{table}");
    }
    text.push('\n');
}
