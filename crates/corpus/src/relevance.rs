//! How alike texts are those of a target: importance weights (DSIR: Xie et al. 2023, arXiv 2302.03169).
//!
//! Words and pairs of words are hashed into 10,000 buckets, and counted in the target and in the sources. A text's weight
//! is the mean, over its words and pairs, of log p(target) - log p(sources). The paper sums where this takes the mean,
//! and draws documents by the weights; a mean makes texts of unequal length comparable, and a threshold or
//! an order over it is the caller's. Buckets collide, so single words mean little and whole texts much.

use arable_core::Document;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::text_field;
use crate::store::{Documents, StoreError};
use crate::words::{grams, normalize, word_hashes};

/// Texts such as those wanted.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RelevanceConfig {
    /// Documents such as those wanted: a file, folder or glob, relative to the data root.
    pub target: String,
    /// The field that holds the text.
    #[serde(default = "text_field")]
    pub text: String,
}

const NUM_BUCKETS: usize = 10_000;

/// For each bucket, log p(target) - log p(sources).
#[derive(Clone, Debug)]
pub(crate) struct Relevance(Vec<f64>);

impl Relevance {
    pub(crate) fn new(target: &[Document], sources: &Documents) -> Result<Self, StoreError> {
        let (target, sources) = (count(target), count_all(sources)?);
        let logs = |counts: &[u64]| {
            // One more of each bucket, so that none is impossible.
            let total = (counts.iter().sum::<u64>() + NUM_BUCKETS as u64) as f64;
            counts.iter().map(|&count| ((count + 1) as f64 / total).ln()).collect::<Vec<_>>()
        };
        Ok(Self(logs(&target).into_iter().zip(logs(&sources)).map(|(target, source)| target - source).collect()))
    }

    /// The weight of a text, given as the hashes of its words; of nothing, 0.
    pub(crate) fn score(&self, words: &[u64]) -> f64 {
        let (mut sum, mut num) = (0.0, 0_usize);
        for gram in grams(words) {
            sum += self.0[bucket(gram)];
            num += 1;
        }
        sum / num.max(1) as f64
    }
}

fn bucket(gram: u64) -> usize {
    ((u128::from(gram) * NUM_BUCKETS as u128) >> 64) as usize
}

/// Words and pairs of words by bucket.
fn count(documents: &[Document]) -> Vec<u64> {
    let mut counts = vec![0; NUM_BUCKETS];
    for document in documents {
        grams(&word_hashes(&normalize(&document.text))).for_each(|gram| counts[bucket(gram)] += 1);
    }
    counts
}

/// The same of documents on the disk.
fn count_all(documents: &Documents) -> Result<Vec<u64>, StoreError> {
    let mut counts = vec![0; NUM_BUCKETS];
    documents.each(
        |block| Ok(count(&block.documents)),
        |part| {
            counts.iter_mut().zip(part).for_each(|(own, other)| *own += other);
            Ok::<_, StoreError>(())
        },
    )?;
    Ok(counts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::write_documents;

    fn documents(texts: &[&str]) -> Vec<Document> {
        let document = |text: &&str| Document {
            id: "s/x".into(),
            source: "s".into(),
            text: (*text).to_owned(),
            ..Document::default()
        };
        texts.iter().map(document).collect()
    }

    #[test]
    fn weights_are_those_of_the_definition() {
        let (target, sources) = (documents(&["renal failure", "renal"]), documents(&["the sea", "the renal sea"]));
        let folder = tempfile::tempdir().unwrap();
        write_documents(&folder.path().join("sources"), &sources).unwrap();
        let sources = Documents::open(&folder.path().join("sources")).unwrap();
        let relevance = Relevance::new(&target, &sources).unwrap();
        // Of the target's 4 words and pairs 2 are `renal`, of the sources' 8 one is; `failure` is 1 of 4 and 0 of 8.
        let ratio = |own: f64, other: f64| ((own + 1.0) / 10_004.0).ln() - ((other + 1.0) / 10_008.0).ln();
        let expected = (ratio(2.0, 1.0) + ratio(1.0, 0.0) + ratio(1.0, 0.0)) / 3.0;
        let score = |text: &str| relevance.score(&word_hashes(&normalize(text)));
        assert!((score("Renal failure.") - expected).abs() < 1e-12, "{}", score("Renal failure."));
        assert!(score("the sea") < 0.0 && score("").abs() < 1e-12);
    }
}
