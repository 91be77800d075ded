//! What a run looks like on a terminal, and in a log.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use arable_ledger::Outcome;
use arable_pipeline::notice::{Notice, Reporter};
use indicatif::{ProgressBar, ProgressStyle};

/// Between two lines of progress where there is no terminal to draw on.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Prints progress to stderr: bars on a terminal, plain lines elsewhere.
pub struct Printer {
    bar: Option<ProgressBar>,
    is_terminal: bool,
    verbose: bool,
    last_line: Option<Instant>,
}

impl Printer {
    /// A printer that has printed nothing.
    pub fn new(verbose: bool) -> Self {
        Self { bar: None, is_terminal: std::io::stderr().is_terminal(), verbose, last_line: None }
    }

    fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("{text}")),
            None => eprintln!("{text}"),
        }
    }

    /// Shows progress on a bar, or now and then as a line.
    fn progress(&mut self, position: u64, length: u64, text: &str, line: impl Fn() -> String) {
        if self.is_terminal {
            let bar = self.bar.get_or_insert_with(|| new_bar(length));
            bar.set_length(length);
            bar.set_position(position);
            bar.set_message(text.to_owned());
        } else if self.verbose || self.last_line.is_none_or(|last| last.elapsed() >= LINE_EVERY) {
            self.last_line = Some(Instant::now());
            self.line(&line());
        }
    }

    fn finish_bar(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        self.last_line = None;
    }
}

fn new_bar(length: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("  {bar:24} {percent:>3}%  {msg}");
    ProgressBar::new(length).with_style(style.expect("a valid template").progress_chars("━╸─"))
}

/// Seconds as people say them.
pub fn short_time(seconds: f64) -> String {
    match seconds {
        s if !s.is_finite() => "-".into(),
        s if s < 10.0 => format!("{s:.1} s"),
        s if s < 100.0 => format!("{s:.0} s"),
        s if s < 6000.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}

impl Reporter for Printer {
    fn notice(&mut self, notice: &Notice<'_>) {
        match notice {
            Notice::StageStarted { kind } if self.is_terminal => eprintln!("  {kind} ..."),
            Notice::StageStarted { .. } => {}
            Notice::StageDone { kind, outcome, wall_s, summary } => {
                self.finish_bar();
                let time = if *outcome == Outcome::Reused { "unchanged".into() } else { short_time(*wall_s) };
                eprintln!("{kind:<20} {time:>10}  {summary}");
            }
            Notice::Resumed { step, num_tokens, total, num_lost } => {
                let share = 100.0 * *num_tokens as f64 / *total as f64;
                self.line(&format!(
                    "  resumed from step {step} ({share:.0} % of the tokens), {num_lost} steps to make again"
                ));
            }
            Notice::Step { report, total, tokens_per_s } => {
                let left = short_time(total.saturating_sub(report.num_tokens) as f64 / tokens_per_s);
                let text = format!(
                    "loss {:.3}  |g| {:.2}  lr {:.1e}  {:.0} tok/s  {left} left",
                    report.loss, report.grad_norm, report.learning_rate, tokens_per_s
                );
                let share = (100.0 * report.num_tokens as f64 / *total as f64).min(100.0);
                self.progress(report.num_tokens, *total, &text, || {
                    format!("  step {} ({share:.0} %)  {text}", report.step)
                });
            }
            Notice::HeldOut { report, waiting } => {
                let (accuracy, waiting) = (100.0 * report.accuracy, 100.0 * waiting);
                self.line(&format!(
                    "  step {}: held-out loss {:.3}, {accuracy:.1} % right; {waiting:.2} % of time for data",
                    report.step, report.loss
                ));
            }
            Notice::Cell { task, what, num_done, num_total } => {
                let text = format!("{task}: {what}");
                self.progress(*num_done as u64, (*num_total).max(1) as u64, &text, || {
                    format!("  {num_done}/{num_total} {text}")
                });
            }
            Notice::Warning(text) => self.line(&format!("warning: {text}")),
        }
    }
}
