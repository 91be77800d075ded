//! What the domain looks like, before anything is left out.

use arable_corpus::{Association, Edge, Outliers, Pair, Profile, Sign, SourcePair, SourceProfile, Term};
use maud::{Markup, html};

use super::background::plain_table;
use super::format;
use super::html::{Section, nothing};
use crate::results::Results;

/// Attributes whose distribution is shown; all are in the profile.
const SHOWN: [&str; 7] = [
    "num_words",
    "num_sentences",
    "mean_word_length",
    "reading_ease",
    "digit_ratio",
    "char_surprise",
    "duplicate_5gram_char_ratio",
];
const MOST: usize = 15;
/// Months or years in a table.
const MAX_PERIODS: usize = 12;

/// Terms, sources, sizes and what stands out.
pub(super) fn profile(results: &Results) -> Section {
    Section {
        id: "profile",
        title: "The domain",
        lead: html! {
            "What the sources hold, before anything is left out. "
            @if let Some(Profile { divergence_from_general: Some(far), .. }) = &results.profile {
                "Its words are " (format::score(*far)) " away from general text (0 is the same, 1 has no word in common)."
            }
        },
        body: html! {
            @match &results.profile {
                None => (nothing("No profile was made.")),
                Some(profile) => div.tables { (tables(profile)) }
            }
        },
    }
}

fn tables(profile: &Profile) -> Markup {
    html! {
        (wide("Sources", &["Source", "Documents", "Words", "Away from the rest", "Time"], sources(profile)))
        @if profile.source_pairs.len() > 1 {
            (titled("Sources apart from each other", &["Sources", "Jensen-Shannon"], source_pairs(&profile.source_pairs)))
        }
        (times(profile))
        (wide("Sizes", &["Attribute", "5 %", "25 %", "median", "75 %", "95 %", "largest"], sizes(profile)))
        (titled("Telling words", &["Word", "Occurs", "Times as often"], terms(&profile.words)))
        (titled("Telling phrases", &["Phrase", "Occurs", "Times as often"], terms(&profile.phrases)))
        (titled("Found together", &["Words", "Documents", "NPMI"], pairs(&profile.pairs)))
        (titled("Languages", &["Language", "Documents"], languages(profile)))
        (titled("Lines in many documents", &["Line", "Documents"], lines(profile)))
        (titled("Personal data", &["Kind", "Found", "Documents"], pii(profile)))
        (wide("Goes together", &["What", "By", "Strength", "95 %"], associations(&profile.associations)))
        (wide("Signs of trouble", &["Sign", "Documents", "Share", "Such as"], signs(profile)))
        (wide("Few and far out", &["Attribute", "Beyond", "Documents", "Such as"], outliers(&profile.outliers)))
        (wide("Few and odd in the same ways", &["Ways", "Documents", "Most from", "Such as"], edges(&profile.edges)))
    }
}

/// A table under its title, if it has rows.
fn titled(title: &str, heads: &[&str], rows: Vec<Vec<String>>) -> Markup {
    html! { @if !rows.is_empty() { div { h3 { (title) } (plain_table(heads, &rows)) } } }
}

/// The same over the whole width.
fn wide(title: &str, heads: &[&str], rows: Vec<Vec<String>>) -> Markup {
    html! { @if !rows.is_empty() { div.wide { h3 { (title) } (plain_table(heads, &rows)) } } }
}

/// Documents of each source by month or year, the last of them.
fn times(profile: &Profile) -> Markup {
    let periods = profile.periods();
    let shown = periods[periods.len().saturating_sub(MAX_PERIODS)..].to_vec();
    let heads: Vec<&str> = std::iter::once("Source").chain(shown.iter().map(String::as_str)).collect();
    let row = |own: &SourceProfile| {
        let counts = own.by_period(&shown).into_iter().map(format::count);
        std::iter::once(own.name.clone()).chain(counts).collect()
    };
    let rows = if shown.is_empty() { Vec::new() } else { profile.sources.iter().map(row).collect() };
    wide("Documents by time", &heads, rows)
}

fn source_pairs(pairs: &[SourcePair]) -> Vec<Vec<String>> {
    pairs.iter().map(|own| vec![own.sources.join(" + "), format::score(own.divergence)]).collect()
}

fn sources(profile: &Profile) -> Vec<Vec<String>> {
    let row = |own: &SourceProfile| {
        let times: Vec<&str> = own.times.keys().map(String::as_str).collect();
        let years = match times[..] {
            [] => format::NONE.to_owned(),
            [time] => time.to_owned(),
            [first, .., last] => format!("{first} to {last}"),
        };
        let numbers = [format::count(own.num_documents), format::count(own.num_words)];
        let [documents, words] = numbers;
        vec![own.name.clone(), documents, words, format::score(own.divergence_from_rest), years]
    };
    profile.sources.iter().map(row).collect()
}

fn sizes(profile: &Profile) -> Vec<Vec<String>> {
    let row = |name: &&str| {
        let spread = profile.attributes.get(*name)?;
        let numbers = spread.quantiles[1..].iter().map(|value| number(*value));
        Some(std::iter::once((*name).to_owned()).chain(numbers).collect())
    };
    SHOWN.iter().filter_map(row).collect()
}

/// Whole numbers as they are, others with as many places as they need.
fn number(value: f64) -> String {
    if value.fract() == 0.0 && value >= 0.0 { format::count(value as usize) } else { format!("{value:.2}") }
}

fn terms(terms: &[Term]) -> Vec<Vec<String>> {
    let row = |own: &Term| vec![own.term.clone(), format::count(own.count), number(own.log_ratio.exp2().round())];
    terms.iter().take(MOST).map(row).collect()
}

fn pairs(pairs: &[Pair]) -> Vec<Vec<String>> {
    let row = |own: &Pair| vec![own.words.join(" + "), format::count(own.num_documents), format!("{:.2}", own.npmi)];
    pairs.iter().take(MOST).map(row).collect()
}

fn languages(profile: &Profile) -> Vec<Vec<String>> {
    let name = |name: &str| if name.is_empty() { "cannot be told".to_owned() } else { name.to_owned() };
    profile.languages.iter().take(MOST).map(|(own, count)| vec![name(own), format::count(*count)]).collect()
}

fn lines(profile: &Profile) -> Vec<Vec<String>> {
    const LENGTH: usize = 70;
    let cut = |line: &str| match line.char_indices().nth(LENGTH) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    };
    profile.boilerplate.iter().take(MOST).map(|(line, count)| vec![cut(line), format::count(*count)]).collect()
}

fn outliers(outliers: &[Outliers]) -> Vec<Vec<String>> {
    let row = |own: &Outliers| {
        let example = own.examples.first().map_or_else(String::new, |(id, value)| format!("{id} ({})", number(*value)));
        vec![own.attribute.clone(), number(own.bound), format::count(own.num_documents), example]
    };
    outliers.iter().map(row).collect()
}

fn pii(profile: &Profile) -> Vec<Vec<String>> {
    let row = |(kind, (num, num_documents)): (&arable_corpus::PiiKind, &(usize, usize))| {
        vec![kind.name().replace('_', " "), format::count(*num), format::count(*num_documents)]
    };
    profile.pii.iter().map(row).collect()
}

fn associations(associations: &[Association]) -> Vec<Vec<String>> {
    let row = |own: &Association| {
        let sure = own.interval.map_or_else(
            || format::NONE.to_owned(),
            |[low, high]| format!("{} to {}", format::difference(low), format::difference(high)),
        );
        vec![own.between.join(" + "), own.measure.name().to_owned(), format::difference(own.value), sure]
    };
    associations.iter().take(MOST).map(row).collect()
}

fn signs(profile: &Profile) -> Vec<Vec<String>> {
    let row = |own: &Sign| {
        let example = own.examples.first().map_or_else(String::new, |(id, _)| id.clone());
        let share = own.num_documents as f64 / profile.num_documents.max(1) as f64;
        let what = format!("{}: {}", own.name, own.about);
        vec![what, format::count(own.num_documents), format::percent(share), example]
    };
    profile.signs.iter().map(row).collect()
}

fn edges(edges: &[Edge]) -> Vec<Vec<String>> {
    let row = |own: &Edge| {
        let ways: Vec<String> = own.attributes.iter().map(|(name, side)| format!("{side} {name}")).collect();
        let source = format!("{} ({})", own.source, format::count(own.num_in_source));
        vec![
            ways.join(", "),
            format::count(own.num_documents),
            source,
            own.examples.first().cloned().unwrap_or_default(),
        ]
    };
    edges.iter().map(row).collect()
}
