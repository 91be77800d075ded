//! What the `data` commands do and print.

use std::sync::atomic::AtomicBool;

use anyhow::Result;
use arable_pipeline::data::{self, ChecksFailed, Expectation, Name, Sample, Tried, TriedRule};
use arable_pipeline::report::{sample_table, split_sentence};
use arable_pipeline::run::Run;
use arable_pipeline::versions::{self, Broken, Changes, Contents, Difference, Version};

use serde_json::Value;

use crate::args::{DataCommand, Global};
use crate::commands::{device, load, out, precision};
use crate::labels::{cut, print};
use crate::progress::Printer;

pub const WIDTH: usize = 80;
pub const NUM_LINES: usize = 10;

/// Lists what decisions are made on, or tries one.
pub fn run(global: &Global, command: &DataCommand) -> Result<()> {
    match command {
        DataCommand::Attributes => print(global, &data::names(), &names_text(&data::names())),
        DataCommand::Facts => print(global, &data::facts(), &names_text(&data::facts())),
        DataCommand::Rules { keep, samples } => {
            let tried = within(global, |run| data::try_rules(run, keep.as_deref(), *samples))?;
            print(global, &tried, &tried_text(&tried))
        }
        DataCommand::Log => {
            let (versions, broken) = versions::log(&out(global))?;
            print(global, &versions, &log_text(&versions, &broken))
        }
        DataCommand::Show { version } => {
            let contents = versions::show(&out(global), version)?;
            print(global, &contents, &show_text(&contents))
        }
        DataCommand::Diff { before, after } => {
            let found = versions::diff(&out(global), before, after)?;
            print(global, &found, &diff_text(&found))
        }
        DataCommand::Restore { version, to } => {
            let version = versions::restore(&out(global), version, to)?;
            let text =
                format!("{} documents of {} in {}\n", version.num_documents, version.digest.short(), to.display());
            print(global, &version, &text)
        }
    }
}

fn log_text(versions: &[Version], broken: &[Broken]) -> String {
    let mut text = "version       made                   documents        words   left out\n".to_owned();
    for Version { digest, made, num_documents, num_words, num_dropped } in versions {
        text += &format!("{}  {made}  {num_documents:9}  {num_words:11}  {num_dropped:9}\n", digest.short());
    }
    text + &broken.iter().map(|flaw| format!("warning: {flaw}\n")).collect::<String>()
}

fn show_text(Contents { version, files, facts, .. }: &Contents) -> String {
    let mut text = log_text(std::slice::from_ref(version), &[]);
    text += "\nfile                              bytes  digest (BLAKE3)\n";
    for file in files {
        text += &format!("{:<26} {:12}  {}\n", cut(&file.path, 26), file.bytes, file.blake3.short());
    }
    text += "\nsource                      documents    rejected        kept\n";
    for own in &facts.sources {
        let (name, num_documents) = (cut(&own.name, 26), own.num_documents);
        text += &format!("{name:<26} {num_documents:10}  {:10}  {:10}\n", own.num_rejected, own.num_kept);
    }
    text += "\nleft out\n";
    let left_out = [
        ("by `keep`", facts.num_filtered),
        ("too short", facts.num_too_short),
        ("duplicates", facts.num_exact_duplicates + facts.num_normalized_duplicates),
        ("near-duplicates", facts.num_near_duplicates),
        ("with held-out examples", facts.num_overlap),
        ("beyond the sample", facts.num_sampled_out),
    ];
    left_out.iter().for_each(|(what, num)| text += &format!("  {what:<24} {num:10}\n"));
    if let Some(sample) = &facts.sample {
        text += &format!("\nsample by {}\n{}", cut(&sample.by, WIDTH - 10), sample_table(sample, WIDTH));
    }
    if let Some(split) = &facts.split {
        text += &format!("\nsplit\n{}", wrapped(&split_sentence(split), "  "));
    }
    text
}

fn diff_text(Difference { sources, added, removed, changed }: &Difference) -> String {
    let mut text = "source                         added    removed    changed      equal\n".to_owned();
    for (source, changes) in sources {
        let Changes { num_added, num_removed, num_changed, num_equal } = changes;
        let name = cut(source, 25);
        text += &format!("{name:<25} {num_added:10} {num_removed:10} {num_changed:10} {num_equal:10}\n");
    }
    let some = |title: &str, ids: Vec<String>| {
        let more = ids.len().saturating_sub(NUM_LINES);
        let more = if more > 0 { format!("  and {more} more (--json has all)\n") } else { String::new() };
        let lines = ids.iter().take(NUM_LINES).map(|id| cut(&format!("  {id}"), WIDTH) + "\n").collect::<String>();
        if ids.is_empty() { String::new() } else { format!("\n{title}\n{lines}{more}") }
    };
    let removed = removed.iter().map(|(id, reason)| format!("{id}: {reason}")).collect();
    text + &some("added", added.clone()) + &some("removed", removed) + &some("changed", changed.clone())
}

/// Says of each expectation whether it holds.
pub fn check(global: &Global) -> Result<()> {
    let checks = within(global, data::check)?;
    print(global, &checks, &checks.iter().map(check_text).collect::<String>())?;
    let failed: Vec<String> = checks.iter().filter(|check| !check.holds).map(|check| check.name.clone()).collect();
    if failed.is_empty() { Ok(()) } else { Err(ChecksFailed { num_checks: checks.len(), failed }.into()) }
}

fn check_text(check: &Expectation) -> String {
    let facts: Vec<String> = check.facts.iter().map(|(name, value)| format!("{name} {}", short(*value))).collect();
    let verdict = if check.holds { "holds" } else { "FAILS" };
    let line = cut(&format!("{verdict}  {}: {}", check.name, check.expression), WIDTH);
    format!("{line}\n{}", wrapped(&facts.join(", "), "       "))
}

pub fn within<T>(global: &Global, work: impl FnOnce(&mut Run<'_>) -> Result<T>) -> Result<T> {
    let (domain, device) = (load(global)?, device(global, precision(global))?);
    let (mut printer, flag) = (Printer::new(global.verbose), AtomicBool::new(false));
    work(&mut Run::new(&domain, &out(global), &device, &mut printer, &flag)?)
}

fn names_text(names: &[Name]) -> String {
    let mut text = String::new();
    for name in names {
        text += &format!("{}\n", name.name);
        for line in [Some(name.about), name.expression].into_iter().flatten() {
            text += &wrapped(line, "    ");
        }
    }
    text
}

fn tried_text(tried: &Tried) -> String {
    let Tried { num_documents, num_dropped, rules } = tried;
    let share = |part: usize| 100.0 * part as f64 / (*num_documents).max(1) as f64;
    let mut text = format!("{num_dropped} of {num_documents} documents ({:.1} %) would go\n\n", share(*num_dropped));
    text += "     fail  it alone  condition\n";
    for TriedRule { name, num_failed, num_failed_alone, .. } in rules {
        text += &format!("{num_failed:9} {num_failed_alone:9}  {}\n", cut(name, WIDTH - 21));
    }
    for TriedRule { name, samples, .. } in rules.iter().filter(|rule| !rule.samples.is_empty()) {
        text += &format!("\n{}\n", cut(name, WIDTH));
        for Sample { id, values, text: start } in samples {
            let values: Vec<String> = values.iter().map(|(name, value)| format!("{name} {}", shown(value))).collect();
            text += &format!("  {}\n", cut(&format!("{id}: {}", values.join(", ")), WIDTH - 2));
            text += &format!("    {}\n", cut(start, WIDTH - 4));
        }
    }
    text
}

/// A number with three places, a text as it is.
fn shown(value: &Value) -> String {
    value.as_f64().map_or_else(|| value.as_str().unwrap_or_default().to_owned(), short)
}

/// A whole number as it is, others with three places.
pub fn short(value: f64) -> String {
    if value.fract() == 0.0 { format!("{value}") } else { format!("{value:.3}") }
}

/// Lines of at most 80 columns.
pub fn wrapped(text: &str, indent: &str) -> String {
    let (mut lines, mut line) = (String::new(), indent.to_owned());
    for word in text.split_whitespace() {
        if line.len() + word.len() + 1 > WIDTH && line.len() > indent.len() {
            lines += &format!("{}\n", line.trim_end());
            line = indent.to_owned();
        }
        line += word;
        line += " ";
    }
    lines + line.trim_end() + "\n"
}
