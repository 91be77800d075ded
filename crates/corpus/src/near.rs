//! Near-duplicates: MinHash signatures find pairs worth a look, and each pair is verified before a document goes.
//!
//! Signatures and bands follow Broder 1997 and Leskovec, Rajaraman, Ullman, "Mining of massive datasets", chapter 3;
//! 14 bands of 8 over runs of 5 words are those of FineWeb. Documents are looked at in the order of their rank, and one
//! goes only for a document that stays: no chain of pairs takes away a document unlike all that are left, and the order
//! in which documents arrive means nothing.

use std::collections::BTreeSet;

use arable_core::Seed;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::config::NearConfig;
use crate::words::{mix, ngram_hashes};

/// Two documents that looked alike and are not.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RefusedPair {
    /// The document that might have gone.
    pub document: String,
    /// The document that it was compared with.
    pub with: String,
    /// What they share.
    pub similarity: Similarity,
}

/// The similarity of two texts as sets of runs of words (Jaccard): exact, as a fraction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Similarity {
    /// Runs that occur in both.
    pub num_shared: u32,
    /// Runs that occur in either.
    pub num_all: u32,
}

impl Similarity {
    /// Between 0 and 1.
    pub fn value(self) -> f64 {
        f64::from(self.num_shared) / f64::from(self.num_all.max(1))
    }

    /// Of two sorted sets.
    fn of(a: &[u64], b: &[u64]) -> Self {
        let (mut i, mut j, mut num_shared) = (0, 0, 0);
        while let (Some(x), Some(y)) = (a.get(i), b.get(j)) {
            num_shared += u32::from(x == y);
            (i, j) = (i + usize::from(x <= y), j + usize::from(y <= x));
        }
        Self { num_shared, num_all: (a.len() + b.len()) as u32 - num_shared }
    }
}

/// Pairs of documents that looked alike.
#[derive(Debug, Default)]
pub(crate) struct Looked {
    /// Documents that are nearly equal to one that stays, with that one.
    pub(crate) copies: Vec<(usize, usize, Similarity)>,
    /// Pairs that are too different; both stay for all that.
    pub(crate) refused: Vec<(usize, usize, Similarity)>,
}

/// The bands of all documents, one after the other.
#[derive(Default)]
pub(crate) struct Bands {
    keys: Vec<u32>,
    /// Where those of each document end.
    ends: Vec<u32>,
}

impl Bands {
    /// Room for the bands of so many documents, and for no more: there may be many.
    pub(crate) fn with_capacity(config: &NearConfig, num_documents: usize) -> Self {
        Self { keys: Vec::with_capacity(config.num_bands * num_documents), ends: Vec::with_capacity(num_documents) }
    }

    /// Adds those of the next document.
    pub(crate) fn push(&mut self, bands: &[u32]) {
        self.keys.extend(bands);
        self.ends.push(u32::try_from(self.keys.len()).expect("fewer than four billion bands"));
    }

    pub(crate) fn of(&self, idx: usize) -> &[u32] {
        let start = idx.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.keys[start as usize..self.ends[idx] as usize]
    }
}

/// The bands that more than one document has: only such pairs are worth a look. Nine bytes each, where a map takes ten times
/// as many.
pub(crate) struct Shared {
    /// The number of a band above its key, rising.
    keys: Vec<u64>,
    /// A bit for every key: most bands of most documents are shared with none.
    filter: Vec<u64>,
}

impl Shared {
    const FILTER_BITS: usize = 1 << 24;

    /// Of the documents in `order`.
    pub(crate) fn new(config: &NearConfig, order: &[usize], bands: &Bands) -> Self {
        let mut shared = Self { keys: Vec::new(), filter: vec![0; Self::FILTER_BITS / 64] };
        for band in 0..config.num_bands {
            let mut all: Vec<u32> = order.iter().filter_map(|&idx| bands.of(idx).get(band).copied()).collect();
            all.par_sort_unstable();
            let several = all.chunk_by(|a, b| a == b).filter(|equal| equal.len() > 1);
            shared.keys.extend(several.map(|equal| key_of(band, equal[0])));
        }
        for &key in &shared.keys {
            let bit = mix(key) as usize % Self::FILTER_BITS;
            shared.filter[bit / 64] |= 1 << (bit % 64);
        }
        shared
    }

    /// The places of a document's bands among those that are shared.
    fn of<'a>(&'a self, bands: &'a [u32]) -> impl Iterator<Item = usize> + 'a {
        bands.iter().enumerate().filter_map(|(band, &own)| {
            let key = key_of(band, own);
            let bit = mix(key) as usize % Self::FILTER_BITS;
            let may_be = self.filter[bit / 64] >> (bit % 64) & 1 == 1;
            if may_be { self.keys.binary_search(&key).ok() } else { None }
        })
    }

    /// Whether another document has a band of this one.
    pub(crate) fn has_any(&self, bands: &[u32]) -> bool {
        self.of(bands).next().is_some()
    }
}

fn key_of(band: usize, key: u32) -> u64 {
    (band as u64) << 32 | u64::from(key)
}

/// Documents that stay, by the bands that they share: chains, so that a band that few have costs little.
struct Staying {
    /// For each shared band the last link.
    heads: Vec<u32>,
    /// The place of a document, and the link before.
    links: Vec<(u32, u32)>,
}

impl Staying {
    const END: u32 = u32::MAX;

    fn add(&mut self, band: usize, place: usize) {
        self.links.push((place as u32, self.heads[band]));
        self.heads[band] = self.links.len() as u32 - 1;
    }

    fn places(&self, band: usize) -> impl Iterator<Item = usize> + '_ {
        let link = |at: u32| (at != Self::END).then(|| self.links[at as usize]);
        let links = std::iter::successors(link(self.heads[band]), move |(_, before)| link(*before));
        links.map(|(place, _)| place as usize)
    }
}

/// Finds documents that are nearly equal to one before them in `order`. `runs` gives a document's distinct runs of words,
/// sorted.
pub(crate) fn near_copies<E>(
    config: &NearConfig,
    order: &[usize],
    shared: &Shared,
    bands: &Bands,
    runs: impl Fn(usize) -> Result<Vec<u64>, E>,
) -> Result<Looked, E> {
    let mut staying = Staying { heads: vec![Staying::END; shared.keys.len()], links: Vec::new() };
    let mut looked = Looked::default();
    for (place, &idx) in order.iter().enumerate() {
        let bands: Vec<usize> = shared.of(bands.of(idx)).collect();
        let places: BTreeSet<usize> = bands.iter().flat_map(|&band| staying.places(band)).collect();
        let own = if places.is_empty() { Vec::new() } else { runs(idx)? };
        let mut stays = true;
        for other in places.into_iter().map(|place| order[place]) {
            let similarity = Similarity::of(&own, &runs(other)?);
            if similarity.value() >= config.min_similarity.get() {
                looked.copies.push((idx, other, similarity));
                stays = false;
                break;
            }
            looked.refused.push((idx, other, similarity));
        }
        if stays {
            bands.into_iter().for_each(|band| staying.add(band, place));
        }
    }
    Ok(looked)
}

/// One random order of all runs of words for each number of a signature.
pub(crate) struct Hashes {
    ngram: usize,
    rows_per_band: usize,
    factors: Vec<u32>,
    terms: Vec<u32>,
}

impl Hashes {
    /// The orders are the same in every run: they decide which pairs are looked at, and a seed that changed the corpus
    /// would be one more thing to explain.
    pub(crate) fn new(config: &NearConfig) -> Self {
        let mut draws = Seed(0).stream("near duplicates").at(0, 0);
        let mut numbers =
            || (0..config.num_bands * config.rows_per_band).map(|_| draws.bits() as u32).collect::<Vec<_>>();
        let factors = numbers().into_iter().map(|factor| factor | 1).collect();
        Self { ngram: config.ngram, rows_per_band: config.rows_per_band, factors, terms: numbers() }
    }

    /// A key for each band of a text's signature, from the hashes of its words; none for a text shorter than a run.
    /// Keys are short: what happens to have an equal one is looked at, and verified as all else is.
    pub(crate) fn bands(&self, words: &[u64]) -> Vec<u32> {
        let mut signature = vec![u32::MAX; self.factors.len()];
        let mut num_runs = 0;
        for run in ngram_hashes(words, self.ngram) {
            num_runs += 1;
            let run = (run >> 32) as u32;
            for ((least, factor), term) in signature.iter_mut().zip(&self.factors).zip(&self.terms) {
                *least = (*least).min(scramble(run, *factor, *term));
            }
        }
        if num_runs == 0 {
            return Vec::new();
        }
        let bands = signature.chunks(self.rows_per_band).enumerate();
        bands
            .map(|(band, rows)| rows.iter().fold(mix(band as u64 + 1), |key, &row| mix(key ^ u64::from(row))))
            .map(|key| (key >> 32) as u32)
            .collect()
    }

    /// The distinct runs of words of a text, sorted.
    pub(crate) fn runs(&self, words: &[u64]) -> Vec<u64> {
        let mut runs: Vec<u64> = ngram_hashes(words, self.ngram).collect();
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
    use crate::words::{normalize, word_hashes};

    /// Texts of 120 words; every third is an edited copy of the one before it, with one word in `every` replaced.
    fn planted(num_texts: usize, every: usize) -> Vec<String> {
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
        (0..num_texts).map(&mut text).collect()
    }

    /// Looks at texts in the order given.
    fn look(texts: &[String], order: &[usize]) -> Looked {
        let config = NearConfig::default();
        let hashes = Hashes::new(&config);
        let words: Vec<Vec<u64>> = texts.iter().map(|text| word_hashes(&normalize(text))).collect();
        let mut bands = Bands::default();
        words.iter().for_each(|words| bands.push(&hashes.bands(words)));
        let shared = Shared::new(&config, order, &bands);
        let runs = |idx: usize| Ok::<_, std::convert::Infallible>(hashes.runs(&words[idx]));
        near_copies(&config, order, &shared, &bands, runs).unwrap()
    }

    fn in_order(texts: &[String]) -> Looked {
        look(texts, &(0..texts.len()).collect::<Vec<_>>())
    }

    #[test]
    fn planted_copies_go_and_nothing_else() {
        // One word of 60 replaced: 2 edits touch 10 of 116 runs, similarity 0.84.
        let found = in_order(&planted(300, 60));
        assert!(found.copies.len() >= 97, "{} of 100 copies found", found.copies.len());
        for (idx, of, similarity) in found.copies {
            assert!(idx % 3 == 2 && of + 1 == idx);
            assert!(similarity.value() >= 0.8 && similarity.num_all < 130, "{similarity:?}");
        }
    }

    #[test]
    fn too_many_edits_are_refused_with_evidence() {
        // One word of 20 replaced: 6 edits touch 30 of 116 runs, similarity 0.59.
        let found = in_order(&planted(300, 20));
        assert!(found.copies.is_empty());
        assert!(!found.refused.is_empty(), "some of a hundred such pairs share a band");
        assert!(found.refused.iter().all(|(_, _, similarity)| (0.5..0.8).contains(&similarity.value())));
    }

    #[test]
    fn short_texts_stay() {
        assert!(in_order(&["one two three".to_owned(), "one two three".to_owned()]).copies.is_empty());
    }

    proptest! {
        /// Texts may lie anywhere, as long as they are taken in the same order.
        #[test]
        fn where_texts_lie_means_nothing(seed in 0_u64..1000) {
            let texts = planted(30, 60);
            let mut places: Vec<usize> = (0..texts.len()).collect();
            Seed(seed).stream("test").at(0, 0).shuffle(&mut places);
            let mut moved = vec![String::new(); texts.len()];
            places.iter().zip(&texts).for_each(|(&place, text)| moved[place].clone_from(text));
            let (a, b) = (in_order(&texts), look(&moved, &places));
            let there = |pairs: &[(usize, usize, Similarity)]| -> Vec<_> {
                pairs.iter().map(|&(a, b, similarity)| (places[a], places[b], similarity)).collect()
            };
            prop_assert_eq!(there(&a.copies), b.copies);
            prop_assert_eq!(there(&a.refused), b.refused);
        }
    }
}
