//! What the `data` commands do and print.

use std::sync::atomic::AtomicBool;

use anyhow::Result;
use arable_pipeline::data::{self, ChecksFailed, Expectation, Name, Sample, Tried, TriedRule};
use arable_pipeline::results::Profile;
use arable_pipeline::run::Run;
use arable_pipeline::versions::{self, Broken, Changes, Contents, Difference, Version};

use serde_json::Value;

use crate::args::{DataCommand, Global};
use crate::commands::{device, load, out, precision};
use crate::labels::{cut, print};
use crate::progress::Printer;

const WIDTH: usize = 80;
const NUM_LINES: usize = 10;

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
    ];
    left_out.iter().for_each(|(what, num)| text += &format!("  {what:<24} {num:10}\n"));
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

/// Shows what the sources hold.
pub fn profile(global: &Global) -> Result<()> {
    let profile = within(global, data::profile)?;
    print(global, &profile, &profile_text(&profile))
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

fn within<T>(global: &Global, work: impl FnOnce(&mut Run<'_>) -> Result<T>) -> Result<T> {
    let (domain, device) = (load(global)?, device(global, precision(global))?);
    let (mut printer, flag) = (Printer::new(global.verbose), AtomicBool::new(false));
    work(&mut Run::new(&domain, &out(global), &device, &mut printer, &flag)?)
}

fn profile_text(profile: &Profile) -> String {
    let Profile { num_documents, num_words, num_distinct_words, num_duplicates, .. } = profile;
    let mut text = format!(
        "{num_documents} documents, {num_words} words, {num_distinct_words} distinct; {num_duplicates} with a text that \
         occurred before\n"
    );
    if let Some(far) = profile.divergence_from_general {
        text += &format!("words {far:.3} away from general text (0 the same, 1 none in common)\n");
    }
    text += "\nsource                 documents       words  away from the rest\n";
    for own in &profile.sources {
        let (name, far) = (cut(&own.name, 20), own.divergence_from_rest);
        text += &format!("{name:<20} {:11} {:11} {far:19.3}\n", own.num_documents, own.num_words);
    }
    text += "\n                         5 %     25 %   median     75 %     95 %  largest\n";
    for name in ["num_words", "num_sentences", "mean_word_length", "reading_ease", "digit_ratio"] {
        if let Some(spread) = profile.attributes.get(name) {
            let numbers: String = spread.quantiles[1..].iter().map(|value| format!(" {:>8}", short(*value))).collect();
            text += &format!("{name:<20}{numbers}\n");
        }
    }
    text += &listed("telling words", profile.words.iter().map(|own| own.term.clone()));
    text += &listed("telling phrases", profile.phrases.iter().map(|own| own.term.clone()));
    text += &listed("found together", profile.pairs.iter().map(|own| own.words.join(" + ")));
    let languages = profile.languages.iter().filter(|(name, _)| !name.is_empty());
    text += &listed("languages", languages.map(|(name, count)| format!("{name} {count}")));
    let pii = profile.pii.iter().map(|(kind, (num, _))| format!("{} {num}", kind.name().replace('_', " ")));
    text += &listed("personal data", pii);
    if !profile.boilerplate.is_empty() {
        text += "\nlines in many documents\n";
    }
    for (line, count) in profile.boilerplate.iter().take(NUM_LINES) {
        text += &format!("{count:9}  {}\n", cut(line, WIDTH - 11));
    }
    if !profile.outliers.is_empty() {
        text += "\nfew and far out\n";
    }
    for own in &profile.outliers {
        let (id, value) = own.examples.first().map_or(("", 0.0), |(id, value)| (id.as_str(), *value));
        let example = format!("{} beyond {}, such as {id} ({})", own.attribute, short(own.bound), short(value));
        text += &format!("{:9}  {}\n", own.num_documents, cut(&example, WIDTH - 11));
    }
    text
}

/// Words under a title, if there are any.
fn listed(title: &str, items: impl Iterator<Item = String>) -> String {
    let items: Vec<String> = items.collect();
    if items.is_empty() { String::new() } else { format!("\n{title}\n{}", wrapped(&items.join(", "), "  ")) }
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
fn short(value: f64) -> String {
    if value.fract() == 0.0 { format!("{value}") } else { format!("{value:.3}") }
}

/// Lines of at most 80 columns.
fn wrapped(text: &str, indent: &str) -> String {
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
