//! What `profile` and `diff` print.

use anyhow::Result;
use arable_pipeline::data;
use arable_pipeline::results::{Edge, Measure, Profile};
use arable_pipeline::shifts::{self, Change, DistributionShift, Shift, TermShift};

use crate::args::Global;
use crate::commands::out;
use crate::data::{NUM_LINES, WIDTH, short, within, wrapped};
use crate::labels::{cut, print};

/// Sources and months side by side, so that a table has room on a terminal.
const NUM_COLUMNS: usize = 6;

/// Shows what the sources hold.
pub fn profile(global: &Global) -> Result<()> {
    let profile = within(global, data::profile)?;
    print(global, &profile, &profile_text(&profile))
}

/// Shows what shifted between two profiles.
pub fn diff(global: &Global, before: &str, after: &str) -> Result<()> {
    let found = shifts::diff(&out(global), before, after)?;
    print(global, &found, &shift_text(&found))
}

fn profile_text(profile: &Profile) -> String {
    let mut text = sizes(profile);
    text += &times(profile);
    text += &spreads(profile);
    text += &listed("telling words", profile.words.iter().map(|own| own.term.clone()));
    text += &listed("telling phrases", profile.phrases.iter().map(|own| own.term.clone()));
    text += &listed("found together", profile.pairs.iter().map(|own| own.words.join(" + ")));
    let languages = profile.languages.iter().map(|(name, count)| match name.as_str() {
        "" => format!("cannot be told {count}"),
        name => format!("{name} {count}"),
    });
    text += &listed("languages", languages);
    let pii = profile.pii.iter().map(|(kind, (num, num_documents))| {
        format!("{} {num} in {num_documents} documents", kind.name().replace('_', " "))
    });
    text += &listed("personal data", pii);
    text + &oddities(profile) + &associations(profile)
}

fn sizes(profile: &Profile) -> String {
    let Profile { num_documents, num_words, num_distinct_words, num_duplicates, .. } = profile;
    let about = if profile.max_missed > 0 { "about " } else { "" };
    let mut text = format!(
        "{num_documents} documents, {num_words} words, {about}{num_distinct_words} distinct; {num_duplicates} with a \
         text\nthat occurred before\n"
    );
    if let Some(far) = profile.divergence_from_general {
        text += &format!("words {far:.3} away from general text (0 the same, 1 none in common)\n");
    }
    text += "\nsource                 documents       words  away from the rest\n";
    for own in &profile.sources {
        let (name, far) = (cut(&own.name, 20), own.divergence_from_rest);
        text += &format!("{name:<20} {:11} {:11} {far:19.3}\n", own.num_documents, own.num_words);
    }
    let apart = profile.source_pairs.iter().map(|own| format!("{} {:.3}", own.sources.join(" and "), own.divergence));
    if profile.source_pairs.len() > 1 { text + &listed("sources apart from each other", apart) } else { text }
}

/// Documents of each source by time: the last months, or years.
fn times(profile: &Profile) -> String {
    let periods = profile.periods();
    let Some(first) = periods.first() else { return String::new() };
    let shown = &periods[periods.len().saturating_sub(NUM_COLUMNS)..];
    let mut text = format!("\n{:<20}", "documents by time");
    let earlier = periods.len() > shown.len();
    if earlier {
        text += &format!("{:>8}", format!("{}-", first.get(..4).unwrap_or(first)));
    }
    shown.iter().for_each(|period| text += &format!("{period:>8}"));
    text += "\n";
    for own in &profile.sources {
        let counts = own.by_period(&periods);
        let (before, last) = counts.split_at(counts.len() - shown.len());
        text += &format!("{:<20}", cut(&own.name, 20));
        if earlier {
            text += &format!("{:8}", before.iter().sum::<usize>());
        }
        last.iter().for_each(|count| text += &format!("{count:8}"));
        text += "\n";
    }
    text
}

fn spreads(profile: &Profile) -> String {
    const SHOWN: [&str; 6] =
        ["num_words", "num_sentences", "mean_word_length", "reading_ease", "digit_ratio", "char_surprise"];
    let mut text = "\n                         5 %     25 %   median     75 %     95 %  largest\n".to_owned();
    for name in SHOWN {
        if let Some(spread) = profile.attributes.get(name) {
            let numbers: String = spread.quantiles[1..].iter().map(|value| format!(" {:>8}", short(*value))).collect();
            text += &format!("{name:<20}{numbers}\n");
        }
    }
    text
}

/// Signs of trouble, lines in many documents, rare documents.
fn oddities(profile: &Profile) -> String {
    let mut text = String::new();
    let mut section = |title: &str, lines: Vec<(usize, String)>| {
        if !lines.is_empty() {
            text += &format!("\n{title}\n");
        }
        for (count, line) in lines {
            text += &format!("{count:9}  {}\n", cut(&line, WIDTH - 11));
        }
    };
    let signs = profile.signs.iter().map(|own| {
        let share = 100.0 * own.num_documents as f64 / profile.num_documents.max(1) as f64;
        (own.num_documents, format!("{} ({share:.1} %){}", own.name, such_as(&own.examples)))
    });
    section("documents with signs of trouble", signs.collect());
    let lines = profile.boilerplate.iter().take(NUM_LINES).map(|(line, count)| (*count, line.clone()));
    section("lines in many documents", lines.collect());
    let far = profile.outliers.iter().map(|own| {
        (own.num_documents, format!("{} beyond {}{}", own.attribute, short(own.bound), such_as(&own.examples)))
    });
    section("few and far out", far.collect());
    section("few and odd in the same ways", profile.edges.iter().map(|own| (own.num_documents, edge(own))).collect());
    text
}

fn such_as(examples: &[(String, f64)]) -> String {
    examples.first().map_or_else(String::new, |(id, value)| format!(", such as {id} ({})", short(*value)))
}

fn edge(edge: &Edge) -> String {
    let ways: Vec<String> = edge.attributes.iter().map(|(name, side)| format!("{side} {name}")).collect();
    let example = edge.examples.first().map_or("", String::as_str);
    format!("{}; {} from {}, such as {example}", ways.join(", "), edge.num_in_source, edge.source)
}

fn associations(profile: &Profile) -> String {
    let line = |own: &arable_pipeline::results::Association| {
        let sure = own.interval.map_or_else(String::new, |[low, high]| format!(" ({low:.2} to {high:.2})"));
        let measure = if own.measure == Measure::RankCorrelation { "" } else { own.measure.name() };
        cut(&format!("{:9.2}  {} and {}{sure} {measure}", own.value, own.between[0], own.between[1]), WIDTH) + "\n"
    };
    let lines: String = profile.associations.iter().take(NUM_LINES).map(line).collect();
    if lines.is_empty() { lines } else { format!("\ngoes together (rank correlation, or as named)\n{lines}") }
}

/// Words under a title, if there are any.
fn listed(title: &str, items: impl Iterator<Item = String>) -> String {
    let items: Vec<String> = items.collect();
    if items.is_empty() { String::new() } else { format!("\n{title}\n{}", wrapped(&items.join(", "), "  ")) }
}

/// What shifted, in words.
pub fn shift_text(shift: &Shift) -> String {
    let [before, after] = shift.num_documents;
    let mut text = format!("{before} documents before, {after} after\n");
    if !shift.is_any() {
        return text + "nothing shifted beyond what chance explains\n";
    }
    let words = &shift.words;
    if words.is_shift {
        let [low, high] = words.interval;
        text += &format!(
            "\nwords shifted: JS {:.4} ({low:.4} to {high:.4}) beyond the {:.4} of chance\n",
            words.js, words.noise
        );
        text += "word                      before    after in a million   times as often\n";
        words.terms.iter().take(NUM_LINES).for_each(|term| text += &term_line(term));
    }
    let mut shifted = shift.distributions.iter().filter(|own| own.is_shift).peekable();
    if shifted.peek().is_some() {
        text += "\nshifted (PSI beyond chance: above 0.1 some, above 0.25 much)\n";
    }
    shifted.for_each(|own| text += &distribution_lines(own));
    text + &listed("documents that show it", shift.examples().into_iter())
}

fn term_line(
    TermShift { word, per_million: [before, after], log_ratio, interval: [low, high], .. }: &TermShift,
) -> String {
    let times = |log: f64| match log.exp2() {
        times if times >= 9.95 => format!("{times:.0}"),
        times => format!("{times:.2}"),
    };
    let sure = format!("{} ({} to {})", times(*log_ratio), times(*low), times(*high));
    cut(format!("{:<22} {before:9.1} {after:8.1} {:>16}", cut(word, 22), sure).trim_end(), WIDTH) + "\n"
}

fn distribution_lines(own: &DistributionShift) -> String {
    let [low, high] = own.interval;
    let name = if own.kind == own.name { own.kind.to_owned() } else { format!("{} {}", own.kind, own.name) };
    let medians = own.medians.map_or_else(String::new, |[a, b]| format!("; median {} to {}", short(a), short(b)));
    let mut text = cut(&format!("  {:.3} ({low:.3} to {high:.3})  {name}{medians}", own.psi), WIDTH) + "\n";
    for Change { name, shares: [p, q], examples, .. } in own.changes.iter().take(2) {
        let example = examples.first().map_or_else(String::new, |id| format!(", such as {id}"));
        text += &(cut(&format!("      {name}: {:.1} % to {:.1} %{example}", 100.0 * p, 100.0 * q), WIDTH) + "\n");
    }
    text
}
