//! What is counted in a pass over documents, in bounded memory.
//!
//! Words are counted by frequent-items sketches (Anderson et al. 2017) and told apart by a HyperLogLog: exactly up to
//! several hundred thousand distinct words, and beyond that with a known error. Runs of words and lines are counted
//! lossily (Manku and Motwani 2002). Blocks are counted side by side and taken in order, each with its words sorted: the
//! result depends neither on threads nor on chance. Documents, sources and months are counted exactly: of texts, for
//! duplicates, 8 bytes each are kept, where curation keeps half a kilobyte.

use std::collections::{BTreeMap, HashMap};

use arable_core::Document;
use datasketches::frequencies::{ErrorType, FrequentItemsSketch};
use datasketches::hll::{HllSketch, HllType};

use super::SourceProfile;
use super::basis::{Facet, Facets};
use crate::pii::{PiiKind, find_pii};
use crate::store::{Block, Documents, StoreError};
use crate::times::month;
use crate::words::{HashedMap, HashedSet, hash_word, mix, normalize, num_words};

/// Runs of words, or lines, that are counted at most. With those of a block on top, a table of two million has room.
const MAX_TALLIED: usize = 1_500_000;
/// Places for words, of which three quarters are used: of all documents and of one source.
const MAX_WORDS: [usize; 2] = [1 << 20, 1 << 18];
/// A longer word is counted by its beginning, in bytes.
const MAX_WORD: usize = 64;
/// Shorter lines are headings and single words.
const MIN_LINE: usize = 12;

pub(crate) type Counts = HashMap<String, usize>;

/// Where a run of words or a line occurs first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub document: u32,
    pub word: u32,
    pub num_words: u32,
}

/// Counts of many things by their hashes, of which only the frequent ones matter.
#[derive(Default)]
pub(super) struct Tally {
    pub counts: HashedMap<(u32, Place)>,
    /// What occurred at most so often may have been forgotten.
    forgotten: u32,
}

impl Tally {
    pub fn add(&mut self, key: u64, count: u32, first: Place) {
        let all = &mut self.counts.entry(key).or_insert((0, first)).0;
        *all = all.saturating_add(count);
    }

    pub fn merge(&mut self, other: Self) {
        other.counts.into_iter().for_each(|(key, (count, first))| self.add(key, count, first));
        while self.counts.len() > MAX_TALLIED {
            self.forgotten += 1;
            let least = self.forgotten;
            self.counts.retain(|_, (count, _)| *count > least);
        }
    }
}

/// Counts of words of which the rarest may be missing where there are very many.
pub(super) struct Words {
    sketch: FrequentItemsSketch<String>,
    distinct: HllSketch,
}

impl Words {
    /// With as many places as `max`, a power of two.
    pub fn new(max: usize) -> Self {
        const LG_REGISTERS: u8 = 14;
        let sketch = FrequentItemsSketch::new(max).expect("a power of two");
        Self { sketch, distinct: HllSketch::new(LG_REGISTERS, HllType::Hll8).expect("between 4 and 21") }
    }

    pub fn add(&mut self, word: &str, count: usize) {
        self.sketch.update_with_count_ref(word, count as u64);
        self.distinct.update(word);
    }

    /// How many words there are: exactly while none was forgotten, within 2 % of it after.
    pub fn num_distinct(&self) -> usize {
        if self.error() == 0 { self.sketch.num_active_items() } else { self.distinct.estimate().round() as usize }
    }

    /// Occurrences of a word that may be missing from its count.
    pub fn error(&self) -> usize {
        self.sketch.maximum_error() as usize
    }

    pub fn counts(&self) -> Counts {
        let rows = self.sketch.frequent_items(ErrorType::NoFalseNegatives);
        rows.into_iter().map(|row| (row.item().clone(), row.lower_bound() as usize)).collect()
    }
}

/// What is counted in a pass over documents.
pub(super) struct Counted {
    pub words: Words,
    pub by_source: BTreeMap<String, Words>,
    pub sources: BTreeMap<String, SourceProfile>,
    pub growth: Vec<(usize, usize)>,
    pub num_words: usize,
    pub runs: Tally,
    /// Lines by the documents that hold them.
    pub lines: Tally,
    texts: HashedSet,
    pub num_duplicates: usize,
    pub pii: BTreeMap<PiiKind, (usize, usize)>,
    pub facets: Facets,
}

/// What is counted in a block; its texts in order, its words sorted.
#[derive(Default)]
struct Part {
    by_source: BTreeMap<String, Counts>,
    sorted: BTreeMap<String, Vec<(String, usize)>>,
    sources: BTreeMap<String, SourceProfile>,
    num_words: usize,
    runs: Tally,
    lines: Tally,
    texts: Vec<u64>,
    pii: BTreeMap<PiiKind, (usize, usize)>,
    facets: Facets,
}

pub(super) fn count(documents: &Documents) -> Result<Counted, StoreError> {
    let mut all = Counted {
        words: Words::new(MAX_WORDS[0]),
        by_source: BTreeMap::new(),
        sources: BTreeMap::new(),
        growth: Vec::new(),
        num_words: 0,
        runs: Tally::default(),
        lines: Tally::default(),
        texts: HashedSet::default(),
        num_duplicates: 0,
        pii: BTreeMap::new(),
        facets: Facets::default(),
    };
    let work = |Block { first, documents, .. }: Block| {
        let mut part = Part::default();
        (first..).zip(&documents).for_each(|(number, document)| part.count(document, number as u32));
        for (source, words) in std::mem::take(&mut part.by_source) {
            let mut words: Vec<(String, usize)> = words.into_iter().collect();
            words.sort_unstable();
            part.sorted.insert(source, words);
        }
        Ok(part)
    };
    documents.each(work, |part| {
        all.add(part);
        Ok::<_, StoreError>(())
    })?;
    Ok(all)
}

impl Part {
    fn count(&mut self, document: &Document, number: u32) {
        let text = normalize(&document.text);
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        self.num_words += words.len();
        let counts = self.by_source.entry(document.source.clone()).or_default();
        words.iter().for_each(|word| increase(counts, &word[..word.floor_char_boundary(MAX_WORD)], 1));
        count_runs(&mut self.runs, &words, number);
        self.texts.push(hash_word(&text));
        let own = self.sources.entry(document.source.clone()).or_default();
        own.num_documents += 1;
        own.num_words += num_words(&document.text);
        self.facets.add(Facet::Source, &document.source, &document.id);
        if let Some(month) = document.time.as_deref().and_then(month) {
            self.facets.add(Facet::Time, month, &document.id);
            *own.times.entry(month.to_owned()).or_default() += 1;
        }
        let lines: HashedSet =
            document.text.lines().map(str::trim).filter(|line| line.len() >= MIN_LINE).map(hash_word).collect();
        lines.into_iter().for_each(|line| self.lines.add(line, 1, Place { document: number, word: 0, num_words: 0 }));
        let mut kinds: BTreeMap<PiiKind, usize> = BTreeMap::new();
        find_pii(&document.text).into_iter().for_each(|found| *kinds.entry(found.kind).or_default() += 1);
        for (kind, num) in kinds {
            self.facets.add(Facet::PersonalData, kind.name(), &document.id);
            let counts = self.pii.entry(kind).or_default();
            *counts = (counts.0 + num, counts.1 + 1);
        }
    }
}

impl Counted {
    fn add(&mut self, part: Part) {
        self.runs.merge(part.runs);
        self.lines.merge(part.lines);
        self.facets.merge(part.facets);
        for (source, words) in part.sorted {
            let own = self.by_source.entry(source).or_insert_with(|| Words::new(MAX_WORDS[1]));
            for (word, count) in words {
                self.words.add(&word, count);
                own.add(&word, count);
            }
        }
        for (source, part) in part.sources {
            let own = self.sources.entry(source).or_default();
            own.num_documents += part.num_documents;
            own.num_words += part.num_words;
            part.times.into_iter().for_each(|(time, count)| *own.times.entry(time).or_default() += count);
        }
        for (kind, (num, num_documents)) in part.pii {
            let counts = self.pii.entry(kind).or_default();
            *counts = (counts.0 + num, counts.1 + num_documents);
        }
        self.num_duplicates += part.texts.into_iter().filter(|text| !self.texts.insert(*text)).count();
        self.num_words += part.num_words;
        self.growth.push((self.num_words, self.words.num_distinct()));
    }
}

/// Counts the runs of two and three words that begin and end with a word that says something, without numbers.
fn count_runs(runs: &mut Tally, words: &[&str], document: u32) {
    let hashes: Vec<u64> = words.iter().map(|word| hash_word(word)).collect();
    let ends: Vec<bool> = words.iter().map(|word| word.len() > 1 && !AROUND.contains(word)).collect();
    let is_number: Vec<bool> = words.iter().map(|word| word.starts_with(|c: char| c.is_numeric())).collect();
    for num_words in 2..=3 {
        for (word, run) in hashes.windows(num_words).enumerate() {
            let last = word + num_words - 1;
            if !ends[word] || !ends[last] || is_number[word..=last].contains(&true) {
                continue;
            }
            let key = run.iter().fold(num_words as u64, |key, &hash| mix(key ^ hash));
            runs.add(key, 1, Place { document, word: word as u32, num_words: num_words as u32 });
        }
    }
}

/// Words that stand around every word.
const AROUND: [&str; 44] = [
    "a", "about", "all", "also", "an", "and", "are", "as", "at", "be", "been", "but", "by", "can", "for", "from",
    "had", "has", "have", "he", "her", "his", "if", "in", "into", "is", "it", "may", "not", "of", "on", "or", "such",
    "than", "that", "the", "their", "these", "this", "to", "was", "were", "with", "your",
];

pub(crate) fn increase(counts: &mut Counts, key: &str, by: usize) {
    match counts.get_mut(key) {
        Some(count) => *count += by,
        None => {
            counts.insert(key.to_owned(), by);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_tallied_stays_bounded() {
        let first = |document| Place { document, word: 0, num_words: 1 };
        let mut tally = Tally::default();
        for block in 0..3 {
            let mut part = Tally::default();
            (0..MAX_TALLIED as u64).for_each(|key| part.add(mix(key + 1 + (block << 40)), 1, first(block as u32)));
            part.add(7, 10, first(block as u32));
            tally.merge(part);
        }
        assert!(tally.counts.len() <= MAX_TALLIED && tally.counts[&7] == (30, first(0)), "{}", tally.counts.len());
    }

    #[test]
    fn words_are_exact_while_they_fit_and_bounded_after() {
        let mut words = Words::new(1 << 12);
        (0..3000).for_each(|i| words.add(&format!("w{i}"), i % 3 + 1));
        assert_eq!((words.num_distinct(), words.error(), words.counts()["w5"]), (3000, 0, 3));
        (0..40_000).for_each(|i| words.add(&format!("w{i}"), 1));
        words.add("often", 5000);
        let (counts, num) = (words.counts(), words.num_distinct() as f64);
        assert!(counts.len() <= 3072 && (num / 40_001.0 - 1.0).abs() < 0.03, "{} {num}", counts.len());
        assert!(words.error() > 0 && counts["often"] + words.error() >= 5000 && counts["often"] <= 5000);
    }
}
