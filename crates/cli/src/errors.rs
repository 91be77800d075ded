//! Errors as people read them.

use std::fmt::Write;
use std::io;

use arable_pipeline::audit::NotAsItWas;
use arable_pipeline::data::ChecksFailed;
use arable_pipeline::notice::Cancelled;
use arable_pipeline::{GateFailed, advice};

/// A command that cannot be carried out as it was given.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

/// 2 when the input, the configuration or the command is wrong, 3 when it is not as expected, 4 when the run was cancelled, 1 for the rest.
pub fn exit_code(error: &anyhow::Error) -> u8 {
    if advice::find::<Cancelled>(error).is_some() {
        4
    } else if advice::find::<ChecksFailed>(error).is_some()
        || advice::find::<GateFailed>(error).is_some()
        || advice::find::<NotAsItWas>(error).is_some()
    {
        3
    } else if advice::find::<Usage>(error).is_some() || arable_pipeline::is_input_error(error) {
        2
    } else {
        1
    }
}

/// The text for an error that ends a command: what failed, why, and what to do.
///
/// ```text
/// error: failed to pretrain
///   read the shard shards/000003.bin
///   unexpected end of file
///
/// hint: run `arable run` to write the shards again
/// ```
///
/// Messages are fragments that read after "failed to", so the outermost one gets these words in front.
pub fn render(error: &anyhow::Error) -> String {
    let mut messages = error.chain().map(ToString::to_string);
    let mut text = format!("error: {}\n", headline(&messages.next().unwrap_or_default()));
    let mut last = String::new();
    for message in messages {
        // Some libraries repeat their cause in their own message.
        if message != last {
            text.push_str(&indented(&message));
        }
        last = message;
    }
    if let Some(hint) = advice::hint(error).map(str::to_owned).or_else(|| full_disk(error)) {
        writeln!(text, "\nhint: {hint}").expect("a String takes every write");
    }
    text
}

/// What to do about a disk that is full, whatever was written.
fn full_disk(error: &anyhow::Error) -> Option<String> {
    error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>()).find_map(arable_ledger::free_space_hint)
}

fn headline(message: &str) -> String {
    let mut lines = message.trim_end().lines();
    let first = lines.next().unwrap_or("finish").trim_start_matches("failed to ");
    let rest: String = lines.map(|line| format!("\n  {line}")).collect();
    format!("failed to {first}{rest}")
}

fn indented(message: &str) -> String {
    message.trim_end().lines().map(|line| format!("  {line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;
    use arable_pipeline::advice::with_hint;

    use super::*;

    #[test]
    fn causes_are_indented_and_the_hint_comes_last() {
        let error = with_hint(anyhow!("unexpected end of file\nat byte 7"), "run `arable run` again");
        let error = error.context("read the shard shards/000003.bin").context("pretrain");
        let expected = "\
error: failed to pretrain
  read the shard shards/000003.bin
  unexpected end of file
  at byte 7

hint: run `arable run` again
";
        assert_eq!(render(&error), expected);
    }

    #[test]
    fn no_causes_no_hint() {
        assert_eq!(render(&anyhow!("failed to open file `a`")), "error: failed to open file `a`\n");
    }
}
