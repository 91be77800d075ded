//! Near-duplicates: MinHash signatures find pairs worth a look, and each pair is verified before a document goes.
//!
//! Signatures and bands follow Broder 1997 and Leskovec, Rajaraman, Ullman, "Mining of massive datasets", chapter 3;
//! 14 bands of 8 over runs of 5 words are those of FineWeb. Documents are looked at in the order of their rank, and one
//! goes only for a document that stays: no chain of pairs takes away a document unlike all that are left, and the order
//! in which documents arrive means nothing.

use std::collections::{BTreeSet, HashMap};

use arable_core::{Document, Seed};
use rayon::prelude::*;
use serde::Serialize;

use crate::config::NearConfig;
use crate::dedup::{Deduped, ranks};
use crate::reject::{DropReason, Dropped};
use crate::words::{mix, ngram_hashes, normalize, word_hashes};

/// What stays and what goes, and what was looked at and stays.
#[derive(Clone, Debug)]
pub struct NearDeduped {
    /// Documents unlike each other, in the order in which they came, and the others.
    pub deduped: Deduped,
    /// Pairs with a band in common that are too different, by their ids.
    pub refused: Vec<RefusedPair>,
}

/// Two documents that looked alike and are not.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct RefusedPair {
    /// The document that might have gone.
    pub document: String,
    /// The document that it was compared with.
    pub with: String,
    /// What they share.
    pub similarity: Similarity,
}

/// The similarity of two texts as sets of runs of words (Jaccard): exact, as a fraction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Similarity {
    /// Runs that occur in both.
    pub num_shared: usize,
    /// Runs that occur in either.
    pub num_all: usize,
}

impl Similarity {
    /// Between 0 and 1.
    pub fn value(self) -> f64 {
        self.num_shared as f64 / self.num_all.max(1) as f64
    }

    /// Of two sorted sets.
    fn of(a: &[u64], b: &[u64]) -> Self {
        let (mut i, mut j, mut num_shared) = (0, 0, 0);
        while let (Some(x), Some(y)) = (a.get(i), b.get(j)) {
            num_shared += usize::from(x == y);
            (i, j) = (i + usize::from(x <= y), j + usize::from(y <= x));
        }
        Self { num_shared, num_all: a.len() + b.len() - num_shared }
    }
}

/// Drops documents that are nearly equal to one that stays. Of two, the one from the earlier source in `sources` stays,
/// and within a source the one with the smaller id. Texts shorter than a run of words are left alone.
pub fn near_dedup(config: &NearConfig, sources: &[&str], documents: Vec<Document>) -> NearDeduped {
    let hashes = Hashes::new(config);
    let bands: Vec<Vec<u64>> = documents.par_iter().map(|document| hashes.bands(&document.text)).collect();
    let mut order: Vec<usize> = (0..documents.len()).collect();
    let ranks = ranks(sources);
    order.sort_by_key(|&i| (ranks.get(documents[i].source.as_str()).copied(), &documents[i].id));

    let mut staying: HashMap<u64, Vec<usize>> = HashMap::new();
    let mut keepers: Vec<Option<(usize, Similarity)>> = vec![None; documents.len()];
    let mut refused = Vec::new();
    for (place, &i) in order.iter().enumerate() {
        let places: BTreeSet<usize> = bands[i].iter().filter_map(|band| staying.get(band)).flatten().copied().collect();
        let own = if places.is_empty() { Vec::new() } else { hashes.runs(&documents[i].text) };
        for other in places.into_iter().map(|place| order[place]) {
            let similarity = Similarity::of(&own, &hashes.runs(&documents[other].text));
            if similarity.value() >= config.min_similarity.get() {
                keepers[i] = Some((other, similarity));
                break;
            }
            let (document, with) = (documents[i].id.clone(), documents[other].id.clone());
            refused.push(RefusedPair { document, with, similarity });
        }
        if keepers[i].is_none() {
            bands[i].iter().for_each(|&band| staying.entry(band).or_default().push(place));
        }
    }
    refused.sort();
    let ids: Vec<_> =
        keepers.into_iter().map(|keeper| keeper.map(|(of, found)| (documents[of].id.clone(), found))).collect();
    let mut deduped = Deduped { kept: Vec::new(), dropped: Vec::new() };
    for (document, keeper) in documents.into_iter().zip(ids) {
        match keeper {
            None => deduped.kept.push(document),
            Some((of, similarity)) => {
                deduped.dropped.push(Dropped { document, reason: DropReason::NearDuplicate { of, similarity } });
            }
        }
    }
    NearDeduped { deduped, refused }
}

/// One random order of all runs of words for each number of a signature.
struct Hashes<'a> {
    config: &'a NearConfig,
    factors: Vec<u32>,
    terms: Vec<u32>,
}

impl<'a> Hashes<'a> {
    /// The orders are the same in every run: they decide which pairs are looked at, and a seed that changed the corpus
    /// would be one more thing to explain.
    fn new(config: &'a NearConfig) -> Self {
        let mut draws = Seed(0).stream("near duplicates").at(0, 0);
        let mut numbers =
            || (0..config.num_bands * config.rows_per_band).map(|_| draws.bits() as u32).collect::<Vec<_>>();
        let factors = numbers().into_iter().map(|factor| factor | 1).collect();
        Self { config, factors, terms: numbers() }
    }

    /// A key for each band of the text's signature; none for a text shorter than a run.
    fn bands(&self, text: &str) -> Vec<u64> {
        let mut signature = vec![u32::MAX; self.factors.len()];
        let mut num_runs = 0;
        for run in ngram_hashes(&word_hashes(&normalize(text)), self.config.ngram) {
            num_runs += 1;
            let run = (run >> 32) as u32;
            for ((least, factor), term) in signature.iter_mut().zip(&self.factors).zip(&self.terms) {
                *least = (*least).min(scramble(run, *factor, *term));
            }
        }
        if num_runs == 0 {
            return Vec::new();
        }
        let bands = signature.chunks(self.config.rows_per_band).enumerate();
        bands
            .map(|(band, rows)| rows.iter().fold(mix(band as u64 + 1), |key, &row| mix(key ^ u64::from(row))))
            .collect()
    }

    /// The distinct runs of words of a text, sorted.
    fn runs(&self, text: &str) -> Vec<u64> {
        let mut runs: Vec<u64> = ngram_hashes(&word_hashes(&normalize(text)), self.config.ngram).collect();
        runs.sort_unstable();
        runs.dedup();
        runs
    }
}

/// A run's place in one of the orders.
#[inline(always)]
fn scramble(run: u32, factor: u32, term: u32) -> u32 {
    let mixed = run.wrapping_mul(factor).wrapping_add(term);
    // The high bits of a product depend on all lower ones; folding them down spreads the order over all bits.
    (mixed ^ (mixed >> 15)).wrapping_mul(0x2c1b_3c6d)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn document(id: usize, text: String) -> Document {
        Document { id: format!("s/{id:03}"), source: "s".into(), group: None, time: None, text }
    }

    /// Documents of 120 words; every third is an edited copy of the one before it, with one word in `every` replaced.
    fn planted(num_documents: usize, every: usize) -> Vec<Document> {
        let mut draws = Seed(3).stream("planted").at(0, 0);
        let mut last = Vec::new();
        let mut text = |i: usize| {
            let words: Vec<String> = if i % 3 == 2 {
                let edit = |(at, word): (usize, &String)| if at % every == 7 { "edited".into() } else { word.clone() };
                last.iter().enumerate().map(edit).collect()
            } else {
                (0..120).map(|_| format!("w{}", draws.below(5000))).collect()
            };
            last.clone_from(&words);
            words.join(" ")
        };
        (0..num_documents).map(|i| document(i, text(i))).collect()
    }

    fn dropped_ids(found: &NearDeduped) -> Vec<&str> {
        found.deduped.dropped.iter().map(|dropped| dropped.document.id.as_str()).collect()
    }

    #[test]
    fn planted_copies_go_and_nothing_else() {
        // One word of 60 replaced: 2 edits touch 10 of 116 runs, similarity 0.84.
        let documents = planted(300, 60);
        let found = near_dedup(&NearConfig::default(), &["s"], documents.clone());
        let copies: Vec<&str> = documents.iter().skip(2).step_by(3).map(|document| document.id.as_str()).collect();
        let gone = dropped_ids(&found);
        assert!(gone.iter().all(|id| copies.contains(id)), "{gone:?}");
        assert!(gone.len() >= 97, "{} of 100 copies found", gone.len());
        for Dropped { document, reason } in &found.deduped.dropped {
            let DropReason::NearDuplicate { of, similarity } = reason else { panic!("{reason:?}") };
            assert_eq!(of[2..].parse::<usize>().unwrap() + 1, document.id[2..].parse::<usize>().unwrap());
            assert!(similarity.value() >= 0.8 && similarity.num_all < 130, "{similarity:?}");
        }
    }

    #[test]
    fn too_many_edits_are_refused_with_evidence() {
        // One word of 20 replaced: 6 edits touch 30 of 116 runs, similarity 0.59.
        let documents = planted(300, 20);
        let found = near_dedup(&NearConfig::default(), &["s"], documents);
        assert!(found.deduped.dropped.is_empty());
        assert!(!found.refused.is_empty(), "some of a hundred such pairs share a band");
        assert!(found.refused.iter().all(|pair| (0.5..0.8).contains(&pair.similarity.value())));
    }

    #[test]
    fn short_texts_stay() {
        let documents = vec![document(0, "one two three".into()), document(1, "one two three".into())];
        assert!(near_dedup(&NearConfig::default(), &["s"], documents).deduped.dropped.is_empty());
    }

    proptest! {
        #[test]
        fn order_means_nothing(seed in 0_u64..1000) {
            let documents = planted(30, 60);
            let mut shuffled = documents.clone();
            Seed(seed).stream("test").at(0, 0).shuffle(&mut shuffled);
            let (a, b) = (near_dedup(&NearConfig::default(), &["s"], documents), near_dedup(&NearConfig::default(), &["s"], shuffled));
            let sorted = |found: &NearDeduped| {
                let mut ids: Vec<String> = dropped_ids(found).into_iter().map(str::to_owned).collect();
                ids.sort();
                ids
            };
            prop_assert_eq!(sorted(&a), sorted(&b));
            prop_assert_eq!(a.refused, b.refused);
        }
    }
}
