//! What is shown, and where: results on the standard output, everything else on the standard error.

use std::io::{IsTerminal as _, stderr, stdout};
use std::sync::Mutex;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tracing_subscriber::filter::LevelFilter;

use super::Shown;
use crate::report::style::Style;
use crate::{Error, PassRecord, Watch};

/// The terminal, as far as the command line lets us use it.
pub(super) struct Terminal {
    shown: Shown,
    bar: Mutex<Option<ProgressBar>>,
    time_passes: bool,
}

impl Terminal {
    pub(super) fn new(shown: &Shown) -> Self {
        let level = match shown.verbose {
            0 => LevelFilter::WARN,
            1 => LevelFilter::INFO,
            2 => LevelFilter::DEBUG,
            _ => LevelFilter::TRACE,
        };
        let subscriber = tracing_subscriber::fmt().with_max_level(level).with_writer(stderr).with_target(false);
        // A second terminal in one process, as in tests, keeps the first one's log.
        let _ = subscriber.with_ansi(coloured(stderr().is_terminal())).without_time().try_init();
        Self { shown: shown.clone(), bar: Mutex::new(None), time_passes: false }
    }

    /// Also says how long each pass took.
    pub(super) fn timing_passes(mut self, time_passes: bool) -> Self {
        self.time_passes = time_passes;
        self
    }

    /// How results are shown.
    pub(super) fn style(&self) -> Style {
        if coloured(stdout().is_terminal()) { Style::Coloured } else { Style::Plain }
    }

    /// Tells of an error, with the place in the text where there is one.
    pub(super) fn report(error: &Error) {
        if miette::Diagnostic::labels(error).is_none() {
            eprintln!("error: {error}");
            return;
        }
        let theme = if coloured(stderr().is_terminal()) {
            miette::GraphicalTheme::unicode()
        } else {
            miette::GraphicalTheme::unicode_nocolor()
        };
        let mut text = String::new();
        let handler = miette::GraphicalReportHandler::new_themed(theme).with_wrap_lines(false);
        match handler.render_report(&mut text, error) {
            Ok(()) => eprint!("error:{text}"),
            Err(_) => eprintln!("error: {error}"),
        }
    }

    fn is_quiet(&self) -> bool {
        self.shown.quiet
    }

    fn with_bar(&self, act: impl FnOnce(&mut Option<ProgressBar>)) {
        if let Ok(mut bar) = self.bar.lock() {
            act(&mut bar);
        }
    }

    /// Prints a line without tearing the progress bar.
    fn line(&self, text: &str) {
        self.with_bar(|bar| match bar {
            Some(bar) => bar.suspend(|| eprintln!("{text}")),
            None => eprintln!("{text}"),
        });
    }
}

/// Whether colours are used where `is_terminal`: see <https://no-color.org>.
fn coloured(is_terminal: bool) -> bool {
    is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

impl Watch for Terminal {
    fn begin(&self, name: &str, total: Option<u64>) {
        if self.is_quiet() || self.shown.json || self.shown.verbose > 0 || !stderr().is_terminal() {
            return;
        }
        let bar = match total {
            Some(total) => ProgressBar::new(total),
            None => ProgressBar::new_spinner(),
        };
        bar.set_draw_target(ProgressDrawTarget::stderr());
        let template = match total {
            Some(_) => "{msg:28} {bar:40} {pos}/{len}, {eta} left",
            None => "{msg:28} {spinner} {elapsed}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message(name.to_owned());
        bar.enable_steady_tick(Duration::from_millis(100));
        self.with_bar(|place| {
            if let Some(before) = place.replace(bar) {
                before.finish_and_clear();
            }
        });
    }

    fn advance(&self, done: u64) {
        self.with_bar(|bar| {
            if let Some(bar) = bar {
                bar.set_position(done);
            }
        });
    }

    fn end(&self) {
        self.with_bar(|bar| {
            if let Some(bar) = bar.take() {
                bar.finish_and_clear();
            }
        });
    }

    fn pass(&self, pass: &PassRecord) {
        if self.time_passes {
            self.line(&format!("{:>9.3} s  {}", pass.took.as_secs_f64(), pass.text));
        }
        if let Some(listing) = &pass.listing {
            self.line(&format!("; after {}\n{listing}", pass.text));
        }
    }

    fn warn(&self, text: &str) {
        if !self.is_quiet() {
            self.line(&format!("warning: {text}"));
        }
    }
}
