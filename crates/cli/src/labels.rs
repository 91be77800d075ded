//! What the `labels` commands do and print.

use std::path::PathBuf;

use anyhow::Result;
use arable_pipeline::labels::{self, Agreed, Reviewed, Suspects};

use crate::args::{Global, LabelsCommand};
use crate::commands::{device, load, precision};

/// Suspects that are printed; all of them are in the tables and in the JSON.
const NUM_PRINTED: usize = 10;
const WIDTH: usize = 80;

/// Finds doubtful labels, or puts together what people said about them.
pub fn run(global: &Global, command: &LabelsCommand) -> Result<()> {
    let domain = load(global)?;
    match command {
        LabelsCommand::Suspects { task, most, reviewers, to } => {
            let folder = to.clone().unwrap_or_else(|| PathBuf::from("review").join(task));
            let device = device(global, precision(global))?;
            let found = device.install(|| labels::suspects(&domain, task, *most, reviewers, &folder))?;
            print(global, &found, &suspects_text(task, &found))
        }
        LabelsCommand::Review { task, files, adjudicated, to, date } => {
            let (adjudicated, to, date) = (adjudicated.as_deref(), to.as_deref(), date.as_deref());
            let reviewed = labels::review(&domain, task, files, adjudicated, to, date)?;
            print(global, &reviewed, &reviewed_text(&reviewed))
        }
    }
}

/// Prints what a command found: facts as JSON where they are asked for, and the text for people.
pub fn print(global: &Global, facts: &impl serde::Serialize, text: &str) -> Result<()> {
    if global.json {
        println!("{}", serde_json::to_string_pretty(facts)?);
    }
    eprint!("{text}");
    Ok(())
}

fn suspects_text(task: &str, found: &Suspects) -> String {
    let Suspects { num_labels, noise_rate, accuracy, num_suspects, suspects, files } = found;
    let mut text = format!(
        "{task}: {num_labels} training labels, {num_suspects} doubtful, an estimated {:.1} % wrong\n\
         (by a linear model that predicts {:.0} % of them; a weak model doubts too many)\n",
        100.0 * noise_rate,
        100.0 * accuracy,
    );
    for suspect in suspects.iter().take(NUM_PRINTED) {
        let what = format!("{}: {}, rather {}?", suspect.id, suspect.given, suspect.suggested);
        text += &format!("\n{}\n", cut(&what, WIDTH));
        text += &format!("  {}\n", cut(&suspect.reason.to_string(), WIDTH - 2));
        text += &format!(
            "  {}\n",
            cut(from_word(&suspect.text.split_whitespace().collect::<Vec<_>>().join(" ")), WIDTH - 2)
        );
    }
    if files.is_empty() {
        text += "\ntables to fill in: --reviewers NAMES; the whole list: --json\n";
    }
    text + &wrote(files)
}

fn reviewed_text(reviewed: &Reviewed) -> String {
    let mut text = String::new();
    for Agreed { measure, reviewers, value } in &reviewed.agreement {
        let value = match value {
            Some(value) => format!("{:.2} ({:.2} to {:.2})", value.mean, value.low, value.high),
            None => "not defined: too few answers, or all the same".to_owned(),
        };
        text += &format!("{measure:<22} {value:<22} {}\n", reviewers.join(", "));
    }
    let Reviewed { num_corrected, num_confirmed, num_open, num_disputed, files, .. } = reviewed;
    text += &format!(
        "{num_corrected} labels to correct, {num_confirmed} confirmed, {num_disputed} disputed, {num_open} judged by one alone\n"
    );
    text + &wrote(files)
}

fn wrote(files: &[PathBuf]) -> String {
    files.iter().map(|file| format!("wrote {}\n", file.display())).collect()
}

/// The text from a few words before the one in question, where it is about one word.
fn from_word(text: &str) -> &str {
    const NUM_BEFORE: usize = 30;
    let Some(word) = text.find(">>> ") else { return text };
    let before = text[..word].char_indices().rev().nth(NUM_BEFORE).map_or(0, |(at, _)| at);
    text[before..].split_once(' ').map_or(text, |(_, rest)| if before == 0 { text } else { rest })
}

pub fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width { text.to_owned() } else { text.chars().take(width - 1).chain(['…']).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_in_question_is_in_view() {
        let long = "Both obstructive and central apnoea were seen in those whose P was less than 0 >>> . <<< 05 again";
        assert_eq!(from_word(long), "those whose P was less than 0 >>> . <<< 05 again");
        assert_eq!(from_word(">>> Oil <<< leaks"), ">>> Oil <<< leaks");
        assert_eq!(from_word("no word"), "no word");
        assert_eq!(cut("abcdef", 4), "abc…");
    }
}
