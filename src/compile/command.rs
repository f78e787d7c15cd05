//! How to make the same file again: a command line, and a recipe.

use std::fmt::Display;
use std::path::Path;

use onnx_dcomp_engine::PreprocessOptions;

use super::{Check, Compiler};
use crate::Plan;
use crate::budget::{Budget, FoundSparsity, LayerSparsity};
use crate::plan::{Resolved, Target};

/// The command line that does what `compiler` does.
pub(super) fn command(compiler: &Compiler) -> String {
    let mut line = CommandLine::new(&compiler.input, compiler.output.as_deref());
    match &compiler.plan {
        Plan::Auto(quality) => line.option("--quality", quality),
        Plan::Search => {}
        Plan::Lossless => line.word("--lossless"),
        Plan::Preset(name) => line.option("--preset", name),
        Plan::Passes(text) => line.option("--passes", text),
        Plan::Recipe(file) => line.option("--recipe", file.display()),
    }
    if compiler.choices.target != Target::default() {
        line.option("--target", compiler.choices.target);
    }
    line.given("--coder", compiler.choices.coder.map(|coder| coder.name()));
    line.given("--seed", compiler.choices.seed);
    line.given("--max-bytes", compiler.bytes_to_fit());
    if let Some(check) = &compiler.check {
        samples(&mut line, check, &compiler.plan);
    }
    line.text
}

/// A recipe that runs the passes of `plan`, as TOML; sparsities that were found become rules.
pub(super) fn recipe(
    compiler: &Compiler,
    plan: &Resolved,
    sparsity: Option<&FoundSparsity>,
    input_sha256: &str,
) -> String {
    let mut line = CommandLine::new(&compiler.input, compiler.output.as_deref());
    line.option("--recipe", "recipe.toml");
    line.given("--seed", compiler.choices.seed);
    let version = env!("CARGO_PKG_VERSION");
    let from = compiler.input.file_name().unwrap_or_default().to_string_lossy().replace(['\n', '\r'], " ");
    let head = format!(
        "# onnx-dcomp {version}, from {from}\n# SHA-256 {input_sha256}\n# {}\n",
        line.text.replace(['\n', '\r'], " ")
    );
    let own = plan.recipe_text().filter(|_| compiler.choices.target == Target::default());
    let mut text = match own {
        Some(text) => format!("{head}\n{text}"),
        None => format!("{head}\npipeline = {}\n", quoted(plan.text.to_string())),
    };
    for LayerSparsity { name, sparsity, .. } in sparsity.iter().flat_map(|found| &found.layers) {
        let pattern = quoted(globset::escape(name));
        text.push_str(&format!("\n[[rule]]\nmatch = {pattern}\nprune = {{ sparsity = {sparsity} }}\n"));
    }
    text
}

fn quoted(text: String) -> toml::Value {
    toml::Value::String(text)
}

/// The options that say which samples are used and how they become inputs.
fn samples(line: &mut CommandLine, check: &Check, plan: &Plan) {
    let samples = &check.samples;
    line.option("--data", samples.path.display());
    if let Some(goal) = &check.goal {
        match goal.budget {
            Budget::MaxDrop(points) => line.option("--max-drop", points),
            Budget::MaxBytes(bytes) => line.option("--max-bytes", bytes),
        }
        line.given("--metric", goal.metric.map(|metric| metric.key()));
        goal.floors.iter().for_each(|floor| line.option("--floor", floor));
    }
    if check.calibrates && !check.goal.as_ref().is_some_and(|_| matches!(plan, Plan::Search)) {
        line.word("--calibrate");
    }
    if !check.runtimes.is_empty() {
        line.option("--runtime", list(&check.runtimes));
    }
    line.given("--split", samples.split.as_ref());
    line.given("--limit", samples.limit);
    line.given("--preprocess", samples.preprocess.as_deref().map(Path::display));
    let PreprocessOptions { input, output, .. } = &samples.overrides;
    line.given("--input-name", input.name.as_ref());
    line.given("--layout", input.layout.map(|layout| format!("{layout:?}").to_uppercase()));
    line.given("--color", input.color.map(|color| format!("{color:?}").to_lowercase()));
    line.given("--size", input.size.map(|[height, width]| format!("{height}x{width}")));
    line.given("--scale", input.scale);
    line.given("--mean", input.mean.as_deref().map(list));
    line.given("--std", input.std.as_deref().map(list));
    line.given("--output-name", output.name.as_ref());
    line.given("--task", output.task);
    line.given("--classes", output.classes);
    line.given("--ignore", output.ignore);
}

fn list<T: Display>(values: &[T]) -> String {
    values.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// A command line for a shell.
struct CommandLine {
    text: String,
}

impl CommandLine {
    fn new(input: &Path, output: Option<&Path>) -> Self {
        let mut line = Self { text: "onnx-dcomp".to_owned() };
        line.word(input.display());
        match output {
            Some(output) => line.option("-o", output.display()),
            None => line.word("--dry-run"),
        }
        line
    }

    fn word(&mut self, word: impl Display) {
        let word = word.to_string();
        let is_plain = |character: char| character.is_ascii_alphanumeric() || "-_./=,:+@%".contains(character);
        self.text.push(' ');
        if !word.is_empty() && word.chars().all(is_plain) {
            self.text.push_str(&word);
        } else {
            self.text.push_str(&format!("'{}'", word.replace('\'', r"'\''")));
        }
    }

    fn option(&mut self, name: &str, value: impl Display) {
        self.word(name);
        self.word(value);
    }

    fn given(&mut self, name: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.option(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use onnx_dcomp_engine::RuntimeKind;

    use super::*;
    use crate::{Quality, Samples};

    #[test]
    fn everything_that_was_asked_for_is_in_the_command() {
        let samples = Samples { path: "my data".into(), limit: Some(200), ..Samples::default() };
        let compiler = Compiler::new("a.onnx")
            .output("it's.onnx")
            .quality(Quality::High)
            .seed(7)
            .target(Target::Dense)
            .validate(samples, vec![RuntimeKind::Tract], Some(0.5));
        assert_eq!(
            command(&compiler),
            r"onnx-dcomp a.onnx -o 'it'\''s.onnx' --quality high --target dense --seed 7 --data 'my data' --max-drop 0.5 --runtime tract --limit 200"
        );
    }

    #[test]
    fn the_recipe_can_be_read_and_holds_the_passes() {
        let compiler = Compiler::new("a.onnx").output("b.onnx").plan(Plan::Preset("deep-compression".to_owned()));
        let plan = compiler.plan.resolve(compiler.choices).unwrap();
        let layer = LayerSparsity { name: "a[1]".to_owned(), elements: 64, sparsity: 0.75 };
        let text = recipe(&compiler, &plan, Some(&FoundSparsity { evaluations: 3, layers: vec![layer] }), "00");
        let read = onnx_dcomp_passes::Recipe::parse(&text).unwrap();
        assert_eq!(read.pipeline_text().unwrap().unwrap().to_string(), plan.text.to_string());
        assert_eq!(read.options_of("prune").collect::<Vec<_>>(), [("sparsity", "0.75")]);
    }
}
