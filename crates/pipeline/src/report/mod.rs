//! The report: one self-contained page, the final table of the terminal, and a result page in Markdown.
//!
//! All are pure functions of `Results`: no clock, no files, no network. Headline metrics are scores of which more is
//! better, and a number that is not finite is shown as a dash.

mod background;
mod chart;
mod figures;
mod findings;
#[cfg(test)]
mod fixture;
mod format;
mod html;
mod markdown;
mod measured;
mod profile;
mod sampled;
mod scale;
mod stages;
mod terminal;

pub use html::html;
pub use markdown::markdown;
pub use sampled::{sample_table, split_sentence};
pub use terminal::{TableOptions, one_line, table};

/// The commands that repeat a run from its resolved configuration, each with what it does.
const COMMANDS: [(&str, &str); 2] =
    [("arable run --config resolved.toml", "repeats the run"), ("arable report", "shows the table again")];
