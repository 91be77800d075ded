//! Decisions about data, tried out before they are taken.

use anyhow::Result;
use arable_core::Hint;
pub use arable_corpus::Expectation;
use arable_corpus::{
    AttributeTable, Block, CurateError, Decision, Documents, FAMILIES, Profile, RuleCounts, Sampled, SplitCheck,
    count_rules, expectations,
};
use serde::Serialize;
use serde_json::Value;

use crate::advice::Advise;
use crate::results::CorpusFacts;
use crate::run::Run;
use crate::shifts::{self, Accepted, Shift};
use crate::stages::{attributes, corpus, documents, file, profile, read_json, tasks};

/// Nothing to try.
#[derive(Debug, thiserror::Error)]
#[error("try the conditions of `corpus.keep`: it is not set")]
pub struct NothingToTry;

impl Hint for NothingToTry {
    fn hint(&self) -> Option<String> {
        Some("say --keep \"gopher_quality AND language = 'eng'\"; `arable data attributes` lists the names".to_owned())
    }
}

/// What an expression of the configuration may name.
#[derive(Debug, Serialize)]
pub struct Name {
    /// How it is written.
    pub name: &'static str,
    /// What it is.
    pub about: &'static str,
    /// What it stands for, if it is a rule.
    pub expression: Option<&'static str>,
}

/// Everything that `corpus.keep` may name beside the rules of a configuration.
pub fn names() -> Vec<Name> {
    let columns = arable_corpus::column_names().map(|(name, about)| Name { name, about, expression: None });
    let rules = FAMILIES.map(|(name, about, expression)| Name { name, about, expression: Some(expression) });
    columns.chain(rules).collect()
}

/// Everything that the table `check` may name.
pub fn facts() -> Vec<Name> {
    FACTS.iter().map(|&(name, about)| Name { name, about, expression: None }).collect()
}

/// What an expression would do to the documents that the sources hold.
#[derive(Debug, Serialize)]
pub struct Tried {
    /// Documents read.
    pub num_documents: usize,
    /// Documents that would go.
    pub num_dropped: usize,
    /// Its conditions, in order.
    pub rules: Vec<TriedRule>,
}

/// What one condition would do.
#[derive(Debug, Serialize)]
pub struct TriedRule {
    /// The rules that it stands in, and what it says.
    pub name: String,
    /// Documents for which it does not hold.
    pub num_failed: usize,
    /// Documents for which it alone does not hold.
    pub num_failed_alone: usize,
    /// Some of these documents, those first that go for it alone.
    pub samples: Vec<Sample>,
}

/// A document that would go.
#[derive(Debug, Serialize)]
pub struct Sample {
    /// Its id.
    pub id: String,
    /// The attributes that the condition reads.
    pub values: Vec<(&'static str, Value)>,
    /// How its text begins.
    pub text: String,
}

/// What is expected of the corpus is not so.
#[derive(Debug, thiserror::Error)]
#[error("find the corpus as expected: {} of {num_checks} checks do not hold ({})", failed.len(), failed.join(", "))]
pub struct ChecksFailed {
    /// Checks in all.
    pub num_checks: usize,
    /// Those that do not hold.
    pub failed: Vec<String>,
}

/// No expectations.
#[derive(Debug, thiserror::Error)]
#[error("check the corpus: nothing is expected of it")]
pub struct NothingExpected;

impl Hint for NothingExpected {
    fn hint(&self) -> Option<String> {
        Some(
            "write a table [check] with lines such as enough = \"num_train >= 1000 AND reject_rate < 0.01\"".to_owned(),
        )
    }
}

/// Curates the corpus, or takes what was curated before, and says what is expected of it and whether it is so. Where all is
/// as expected, the version is accepted: the next is compared with it.
///
/// # Errors
/// When nothing is expected, an expression cannot be understood, or the sources cannot be read.
pub fn check(run: &mut Run<'_>) -> Result<Vec<Expectation>> {
    let expected = run.domain.config().check.clone();
    if expected.is_empty() {
        return Err(NothingExpected).advise();
    }
    let tasks = tasks::run(run)?;
    let read = documents::run(run)?;
    let measured = attributes::run(run, &read, &tasks)?;
    let profiled = profile::run(run, &read, &measured)?;
    let curated = corpus::run(run, &tasks, &read, &measured)?;
    let facts: CorpusFacts = read_json(&file(&curated, "facts.json")?)?;
    let splits = tasks.iter().map(|task| Ok(tasks::load(task)?.split)).collect::<Result<Vec<_>>>()?;
    let profile = profile::load(&profiled)?;
    let shift = shifts::since_accepted(run.folder(), &profile)?.unwrap_or_default();
    let found = expectations(&expected, &facts_by_name(&facts, &splits, &profile, &shift)).advise()?;
    if found.iter().all(|expectation| expectation.holds) {
        shifts::accept(run.folder(), Accepted { profile: profiled.digest(), corpus: curated.digest() })?;
    }
    Ok(found)
}

/// The facts that expectations may name, with what they are.
pub const FACTS: [(&str, &str); 27] = [
    ("num_read", "Documents read."),
    ("num_rejected", "Records that could not be read."),
    ("reject_rate", "The same as a share of all records."),
    ("num_kept", "Documents kept, for training or aside."),
    ("keep_rate", "The same as a share of those read."),
    ("num_train", "Documents to train on."),
    ("num_held_out", "Documents kept aside for the held-out loss."),
    ("num_train_words", "Words in the documents to train on."),
    ("num_filtered", "Documents left out by `keep` or for too few words."),
    ("num_duplicates", "Documents left out as duplicates."),
    ("duplicate_rate", "The same as a share of those read."),
    ("num_overlap", "Documents left out for examples held out of training."),
    ("num_sampled_out", "Documents left out because `corpus.sample` asks for no more of their kind."),
    (
        "sample_shortfall",
        "The largest part that a value of `corpus.sample` lacks of what was asked of it: between 0 and 1.",
    ),
    ("num_crossings", "Texts and groups that stand in two parts of a split, of the corpus or of a task."),
    ("num_pii", "Places with personal data that is not masked."),
    ("num_sources", "Sources."),
    ("smallest_source", "Documents kept from the source of which the fewest are."),
    ("num_distinct_words", "Distinct words in what was read."),
    ("main_language_rate", "Documents in the most frequent language, as a share of those read."),
    ("median_num_words", "Words in half of the documents read, at most."),
    ("median_encoding_fault_ratio", "Wrongly decoded characters in half of the documents read, at most, as a share."),
    ("truncated_rate", "Documents that end within a sentence, as a share of those read."),
    ("shift_words_js", "How far the words shifted since the version accepted last, beyond chance: between 0 and 1."),
    ("shift_psi", "The largest shift of an attribute, the sources, languages, time or personal data since then: PSI."),
    ("shift_num", "How many of these shifted beyond chance."),
    ("divergence_from_general", "How far the words are from general text, between 0 and 1; 0 without any."),
];

/// The facts, in the order of [`FACTS`].
fn facts_by_name(
    corpus: &CorpusFacts,
    tasks: &[SplitCheck],
    profile: &Profile,
    shift: &Shift,
) -> Vec<(&'static str, f64)> {
    let num = |count: usize| count as f64;
    let num_read: usize = corpus.sources.iter().map(|source| source.num_documents).sum();
    let num_rejected: usize = corpus.rejects.values().sum();
    let num_kept = corpus.num_train + corpus.num_held_out;
    let num_duplicates = corpus.num_exact_duplicates + corpus.num_normalized_duplicates + corpus.num_near_duplicates;
    let share = |part: usize, whole: usize| part as f64 / whole.max(1) as f64;
    let median = |name: &str| profile.attributes.get(name).map_or(0.0, |spread| spread.quantiles[3]);
    let num_truncated = profile.signs.iter().find(|sign| sign.name == "truncated").map_or(0, |sign| sign.num_documents);
    let shifted = || shift.distributions.iter().filter(|own| own.is_shift);
    let values = [
        num(num_read),
        num(num_rejected),
        share(num_rejected, num_read + num_rejected),
        num(num_kept),
        share(num_kept, num_read),
        num(corpus.num_train),
        num(corpus.num_held_out),
        num(corpus.num_train_words),
        num(corpus.num_too_short + corpus.num_filtered),
        num(num_duplicates),
        share(num_duplicates, num_read),
        num(corpus.num_overlap),
        num(corpus.num_sampled_out),
        corpus.sample.as_ref().map_or(0.0, Sampled::largest_shortfall),
        num(corpus.split.iter().chain(tasks).map(|check| check.num_crossings).sum()),
        num(corpus.pii.iter().filter(|pii| !pii.is_masked).map(|pii| pii.num_found).sum()),
        num(corpus.sources.len()),
        num(corpus.sources.iter().map(|source| source.num_kept).min().unwrap_or_default()),
        num(profile.num_distinct_words),
        share(profile.languages.first().map_or(0, |(_, count)| *count), profile.num_documents),
        median("num_words"),
        median("encoding_fault_ratio"),
        share(num_truncated, profile.num_documents),
        shift.words.js,
        shifted().map(|own| own.psi).fold(0.0, f64::max),
        num(shifted().count()),
        profile.divergence_from_general.unwrap_or_default(),
    ];
    FACTS.iter().map(|(name, _)| *name).zip(values).collect()
}

/// Profiles the sources, or takes the profile that was made of them before.
///
/// # Errors
/// When the sources cannot be read.
pub fn profile(run: &mut Run<'_>) -> Result<Profile> {
    let read = documents::run(run)?;
    let measured = attributes::alone(run, &read)?;
    let artifact = profile::run(run, &read, &measured)?;
    profile::load(&artifact)
}

/// Tries `keep`, or what the configuration says, on the sources, with some samples of what each condition would leave out.
/// Attributes that were measured before are not measured again.
///
/// # Errors
/// When there is no expression, it cannot decide, or the sources cannot be read.
pub fn try_rules(run: &mut Run<'_>, keep: Option<&str>, num_samples: usize) -> Result<Tried> {
    let config = run.domain.config().corpus.clone();
    let keep = keep.or(config.keep.as_deref()).ok_or(NothingToTry).advise()?;
    let decision = Decision::new(keep, &config).advise()?;
    let read = documents::run(run)?;
    let measured = attributes::alone(run, &read)?;
    let documents = documents::load(&read.own)?;
    let attributes = attributes::load(&measured, &documents)?;
    let failed = run.device.install(|| failed(&decision, &documents, &attributes)).advise()?;
    let rules = count_rules(&decision, failed.iter().map(Vec::as_slice)).into_iter().enumerate();
    let tried = rules.map(|(idx, RuleCounts { name, num_failed, num_failed_alone })| {
        let sample = |at: usize| sample(&decision, idx, at, &documents, &attributes);
        let samples = chosen(&failed, idx, num_samples).into_iter().map(sample).collect::<Result<_>>()?;
        Ok(TriedRule { name, num_failed, num_failed_alone, samples })
    });
    let num_dropped = failed.iter().filter(|failed| !failed.is_empty()).count();
    Ok(Tried { num_documents: documents.len(), num_dropped, rules: tried.collect::<Result<_>>()? })
}

/// For each document, the conditions that do not hold.
fn failed(
    decision: &Decision,
    documents: &Documents,
    attributes: &AttributeTable,
) -> Result<Vec<Vec<usize>>, CurateError> {
    let mut all = Vec::with_capacity(documents.len());
    let work = |block: Block| Ok(decision.failed(&block.documents, &attributes.block(&block)?)?);
    documents.each(work, |failed| {
        all.extend(failed);
        Ok::<_, CurateError>(())
    })?;
    Ok(all)
}

/// Some of the documents for which condition `idx` does not hold, evenly from first to last: of those that fail nothing
/// else, if there are any.
fn chosen(failed: &[Vec<usize>], idx: usize, num: usize) -> Vec<usize> {
    let those = |wanted: &dyn Fn(&Vec<usize>) -> bool| -> Vec<usize> {
        failed.iter().enumerate().filter(|(_, failed)| wanted(failed)).map(|(at, _)| at).collect()
    };
    let alone = those(&|failed| failed[..] == [idx]);
    let from = if alone.is_empty() { those(&|failed| failed.contains(&idx)) } else { alone };
    let step = from.len().div_ceil(num.max(1)).max(1);
    from.into_iter().step_by(step).take(num).collect()
}

fn sample(
    decision: &Decision,
    idx: usize,
    at: usize,
    documents: &Documents,
    attributes: &AttributeTable,
) -> Result<Sample> {
    const LENGTH: usize = 200;
    let (document, attributes) = attributes.with_document(at, documents).advise()?;
    let text = document.text.split_whitespace().collect::<Vec<_>>().join(" ");
    Ok(Sample { values: decision.values(idx, &attributes), id: document.id, text: text.chars().take(LENGTH).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fact_has_its_value() {
        let corpus = CorpusFacts { num_train: 7, num_held_out: 1, num_overlap: 3, ..CorpusFacts::default() };
        let split = SplitCheck { num_crossings: 2, ..SplitCheck::default() };
        let profile = Profile { num_distinct_words: 9, divergence_from_general: Some(0.5), ..Profile::default() };
        let facts: std::collections::BTreeMap<_, _> =
            facts_by_name(&corpus, &[split.clone(), split], &profile, &Shift::default()).into_iter().collect();
        assert_eq!(facts.len(), FACTS.len());
        let expected = [
            ("num_train", 7.0),
            ("num_kept", 8.0),
            ("num_overlap", 3.0),
            ("num_crossings", 4.0),
            ("num_distinct_words", 9.0),
        ];
        assert!(expected.iter().all(|(name, value)| facts[name].total_cmp(value).is_eq()), "{facts:?}");
        assert!(facts["divergence_from_general"] > 0.4 && facts["reject_rate"].abs() < 1e-12);
    }

    #[test]
    fn samples_are_spread_and_fail_nothing_else() {
        let failed: Vec<Vec<usize>> = (0..100).map(|i| if i % 2 == 0 { vec![0] } else { vec![0, 1] }).collect();
        assert_eq!(chosen(&failed, 0, 3), [0, 34, 68]);
        assert_eq!(chosen(&failed, 1, 2), [1, 51]);
        assert_eq!(chosen(&failed, 2, 2), [0; 0]);
        assert_eq!(chosen(&failed, 0, 0), [0; 0]);
    }
}
