//! The command line.
//!
//! | module | command |
//! |---|---|
//! | `compress` | `onnx-dcomp IN -o OUT` |
//! | `validate` | `onnx-dcomp validate A B --data DIR` |
//! | `decompress` | `onnx-dcomp decompress IN -o OUT` |
//! | `inspect` | `onnx-dcomp inspect FILE` |
//! | `passes` | `onnx-dcomp passes [NAME]` |
//! | `tune` | `onnx-dcomp tune [-o FILE]` |
//! | `samples` | options that say how samples become inputs |
//! | `terminal` | what is shown, and where |

mod compress;
mod decompress;
mod inspect;
mod passes;
mod samples;
mod terminal;
mod tune;
mod validate;

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use onnx_dcomp_passes::nearest::nearest;

use crate::error::exit_code;
use crate::{Error, output};
use terminal::Terminal;

const EXAMPLES: &str = "\
Examples:
  onnx-dcomp net.onnx -o small.onnx                 compress, no data needed
  onnx-dcomp net.onnx -o small.onnx --quality high  as good as the original
  onnx-dcomp net.onnx -o small.onnx --lossless      every weight bit for bit
  onnx-dcomp net.onnx -o small.onnx --data samples --max-drop 0.5
                                                    write only what holds the bound
  onnx-dcomp net.onnx -o small.onnx --report report.html
                                                    and a page to look at
  onnx-dcomp validate net.onnx small.onnx --data samples
  onnx-dcomp decompress small.onnx -o plain.onnx
  onnx-dcomp inspect small.onnx
  onnx-dcomp net.onnx -o small.onnx --passes 'fold, prune(sparsity=0.8), share, strip, pack'

Exit codes:
  0 done, 1 failed, 2 wrong usage, 3 a bound was broken or the runtimes disagree, 130 interrupted";

/// Makes trained networks small: ONNX in, packed ONNX out.
///
/// The output is a valid ONNX file, never larger than the input. Its weights lie in payloads that the operator
/// `ai.dcomp::DcompDecode` decodes while a runtime loads the model; `decompress` turns it back into plain ONNX.
#[derive(Debug, Parser)]
#[command(name = "onnx-dcomp", version, after_help = EXAMPLES, max_term_width = 100)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true, arg_required_else_help = true)]
#[command(subcommand_help_heading = "Other commands", disable_help_subcommand = true)]
struct CommandLine {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    compress: compress::Compress,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Compress a model: what happens without a command.
    #[command(hide = true)]
    Compress(Box<compress::Compress>),
    Validate(Box<validate::Validate>),
    Decompress(decompress::Decompress),
    Inspect(inspect::Inspect),
    Passes(passes::Passes),
    Tune(tune::Tune),
    /// Print a script that completes command lines in a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// What every command takes.
#[derive(Debug, Clone, clap::Args)]
struct Shown {
    /// Print JSON for machines instead of tables.
    #[arg(long, help_heading = "Output")]
    json: bool,
    /// Print errors only.
    #[arg(long, short, help_heading = "Output", conflicts_with = "verbose")]
    quiet: bool,
    /// Say more: a line for every weight and what each pass does; twice for details.
    #[arg(long, short, action = clap::ArgAction::Count, help_heading = "Output")]
    verbose: u8,
}

/// Runs the program: reads the command line, does what it says, tells how it went.
pub fn run() -> ExitCode {
    let line = match CommandLine::try_parse() {
        Ok(line) => line,
        Err(error) => match mistyped_command(std::env::args_os().nth(1)) {
            Some(message) if error.use_stderr() => {
                let error = Error::Usage(message);
                Terminal::report(&error);
                return ExitCode::from(error.exit_code());
            }
            _ => error.exit(),
        },
    };
    // Without it the temporary folder stays behind where the user stops the program: no reason not to work.
    if let Err(error) = output::clean_up_on_interrupt(exit_code::INTERRUPTED) {
        eprintln!("warning: interrupting may leave a temporary folder behind: {error}");
    }
    let done = match line.command {
        None => compress::run(line.compress),
        Some(Command::Compress(arguments)) => compress::run(*arguments),
        Some(Command::Validate(arguments)) => validate::run(*arguments),
        Some(Command::Decompress(arguments)) => decompress::run(arguments),
        Some(Command::Inspect(arguments)) => inspect::run(arguments),
        Some(Command::Passes(arguments)) => passes::run(arguments),
        Some(Command::Tune(arguments)) => tune::run(arguments),
        Some(Command::Completions { shell }) => {
            clap_complete::generate(shell, &mut CommandLine::command(), "onnx-dcomp", &mut io::stdout());
            Ok(())
        }
    };
    match done {
        Ok(()) => ExitCode::from(exit_code::DONE),
        Err(error) => {
            Terminal::report(&error);
            ExitCode::from(error.exit_code())
        }
    }
}

/// What to say where the first word of a command line that makes no sense was probably meant as a command.
fn mistyped_command(first: Option<OsString>) -> Option<String> {
    let word = first?.into_string().ok().filter(|word| !word.starts_with('-') && !Path::new(word).exists())?;
    let commands = CommandLine::command();
    let names: Vec<&str> = commands.get_subcommands().map(|command| command.get_name()).collect();
    // Names of models have a dot.
    let meant = nearest(&word, names.iter().copied()).filter(|meant| !word.contains('.') && *meant != word)?;
    Some(format!("there is no command or model `{word}`; did you mean `{meant}`?"))
}

/// Prints `text` to the standard output. A reader that has gone away, such as `head`, is no error.
fn print(text: &str) -> Result<(), Error> {
    use io::Write as _;
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::Write { file: "the standard output".into(), source: error })
        }
        _ => Ok(()),
    }
}

/// Prints `value` as JSON.
fn print_json(value: &impl serde::Serialize) -> Result<(), Error> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| Error::Write { file: "the standard output".into(), source: io::Error::other(error) })?;
    print(&(text + "\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        CommandLine::command().debug_assert();
    }
}
