//! Decisions about data, tried out before they are taken.

use anyhow::Result;
use arable_core::{Document, Hint};
use arable_corpus::{Attributes, Decision, FAMILIES, Profile, RuleCounts, count_rules, read_corpus};
use serde::Serialize;
use serde_json::Value;

use crate::advice::Advise;
use crate::run::Run;
use crate::stages::{attributes, profile};

/// Nothing to try.
#[derive(Debug, thiserror::Error)]
#[error("try the conditions of `corpus.keep`: it is not set")]
pub struct NothingToTry;

impl Hint for NothingToTry {
    fn hint(&self) -> Option<String> {
        Some("say --keep \"gopher_quality AND language = 'eng'\"; `arable data attributes` lists the names".to_owned())
    }
}

/// What `corpus.keep` may name.
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

/// Profiles the sources, or takes the profile that was made of them before.
///
/// # Errors
/// When the sources cannot be read.
pub fn profile(run: &mut Run<'_>) -> Result<Profile> {
    let measured = attributes::run(run)?;
    let artifact = profile::run(run, &measured)?;
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
    let decision = Decision::new(keep, &config.rule).advise()?;
    let measured = attributes::run(run)?;
    let documents = read_corpus(&config, &run.domain.root).advise()?.documents;
    let attributes = attributes::load(&measured, &documents)?;
    let failed = run.device.install(|| decision.failed(&documents, &attributes)).advise()?;
    let rules = count_rules(&decision, &failed).into_iter().enumerate().map(|(idx, counts)| {
        let RuleCounts { name, num_failed, num_failed_alone } = counts;
        let sample = |at: usize| sample(&decision, idx, &documents[at], &attributes[at]);
        let samples = chosen(&failed, idx, num_samples).into_iter().map(sample).collect();
        TriedRule { name, num_failed, num_failed_alone, samples }
    });
    let num_dropped = failed.iter().filter(|failed| !failed.is_empty()).count();
    Ok(Tried { num_documents: documents.len(), num_dropped, rules: rules.collect() })
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

fn sample(decision: &Decision, idx: usize, document: &Document, attributes: &Attributes) -> Sample {
    const LENGTH: usize = 200;
    let text = document.text.split_whitespace().collect::<Vec<_>>().join(" ");
    Sample {
        id: document.id.clone(),
        values: decision.values(idx, attributes),
        text: text.chars().take(LENGTH).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_spread_and_fail_nothing_else() {
        let failed: Vec<Vec<usize>> = (0..100).map(|i| if i % 2 == 0 { vec![0] } else { vec![0, 1] }).collect();
        assert_eq!(chosen(&failed, 0, 3), [0, 34, 68]);
        assert_eq!(chosen(&failed, 1, 2), [1, 51]);
        assert_eq!(chosen(&failed, 2, 2), [0; 0]);
        assert_eq!(chosen(&failed, 0, 0), [0; 0]);
    }
}
