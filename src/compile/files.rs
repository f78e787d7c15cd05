//! The files that a compilation reads, depends on, and must not touch.

use std::path::{Path, PathBuf};

use onnx_dcomp_engine::PreprocessOptions;
use onnx_dcomp_ir::Model;

use super::Compiler;
use crate::output::is_same_file;
use crate::plan::Resolved;
use crate::{Error, Tuning};

impl Compiler {
    /// Whether `model`, written as it is to the output's place, finds its external data there.
    pub(super) fn finds_external_data(&self, model: &Model) -> bool {
        let folder = |path: &Path| path.parent().map(|folder| folder.join("any"));
        let is_beside = || match (folder(&self.input), self.output.as_deref().and_then(folder)) {
            (Some(input), Some(output)) => is_same_file(&input, &output),
            _ => false,
        };
        model.source().external_files().next().is_none() || is_beside()
    }

    /// External data is part of the input, which is never touched.
    pub(super) fn check_external_data(&self, model: &Model) -> Result<(), Error> {
        let Some(output) = &self.output else { return Ok(()) };
        match model.source().external_files().find(|file| is_same_file(file, output)) {
            Some(_) => Err(Error::Usage(format!(
                "{} holds external data of {}; give the output another name",
                output.display(),
                self.file()
            ))),
            None => Ok(()),
        }
    }

    /// The rule may replace neither model.
    pub(super) fn check_depfile(&self) -> Result<(), Error> {
        let Some(depfile) = &self.depfile else { return Ok(()) };
        let models = [Some(&self.input), self.output.as_ref()];
        match models.into_iter().flatten().find(|model| is_same_file(depfile, model)) {
            Some(model) => {
                let (depfile, model) = (depfile.display(), model.display());
                Err(Error::Usage(format!("the rule {depfile} would replace the model {model}; give it another name")))
            }
            None => Ok(()),
        }
    }

    /// Every file that the output depends on.
    pub(super) fn dependencies(&self, original: &Model, plan: &Resolved) -> Vec<PathBuf> {
        let mut files = vec![self.input.clone()];
        files.extend(original.source().external_files().map(Path::to_owned));
        files.extend(plan.recipe_file().map(Path::to_owned));
        files.extend(self.preprocess_file());
        if let Some(Tuning::File(file)) = &self.tuning {
            files.push(file.clone());
        }
        files
    }

    /// How samples become inputs, as far as a file or the caller says it.
    pub(super) fn preprocess(&self) -> Result<PreprocessOptions, Error> {
        let given = self.preprocess_file().map(|file| PreprocessOptions::read(&file)).transpose()?.unwrap_or_default();
        Ok(match &self.check {
            Some(check) => given.overridden_by(check.samples.overrides.clone()),
            None => given,
        })
    }

    /// The file that says it: the one that was named, or the one beside the input.
    pub(super) fn preprocess_file(&self) -> Option<PathBuf> {
        let named = self.check.as_ref().and_then(|check| check.samples.preprocess.clone());
        named.or_else(|| Some(PreprocessOptions::path_beside(&self.input)).filter(|path| path.is_file()))
    }
}

/// A rule as make and ninja read it.
pub(super) fn dependency_rule(output: &Path, dependencies: &[PathBuf]) -> String {
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
