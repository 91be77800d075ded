//! Held-out examples that occur in the corpus.
//!
//! An example is found in a document that contains a set share of its distinct n-grams of words. Words are those of
//! [`normalize`], so that differently tokenised copies are found too. The n-gram length of 13 words follows Brown et
//! al., "Language models are few-shot learners", 2020, appendix C; asking for a share instead of one n-gram spares
//! documents that merely use the same boilerplate.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

use arable_core::{Document, Example};

use crate::config::OverlapConfig;
use crate::reject::{DropReason, Dropped};
use crate::task::Task;
use crate::words::{ngram_hashes, normalize, word_hashes};

/// The held-out examples of one task.
#[derive(Clone, Debug)]
pub struct HeldOutSet {
    /// The task's name.
    pub task: String,
    /// (id, text) of each example.
    pub texts: Vec<(String, String)>,
}

impl HeldOutSet {
    /// The test examples of a task, and its development examples where the configuration says so.
    pub fn of_task(config: &OverlapConfig, task: &Task) -> Self {
        let dev = if config.dev { &task.dev[..] } else { &[] };
        let text = |example: &Example| (example.id.clone(), example.input.text());
        Self { task: task.name.clone(), texts: task.test.iter().chain(dev).map(text).collect() }
    }
}

/// What the overlap check leaves.
#[derive(Clone, Debug)]
pub struct Overlap {
    /// Documents without a held-out example, in the order in which they came.
    pub kept: Vec<Document>,
    /// Documents with one.
    pub dropped: Vec<Dropped>,
    /// One entry for each set, in the order given.
    pub counts: Vec<OverlapCounts>,
}

/// Overlap between the corpus and the held-out examples of one task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OverlapCounts {
    /// The task's name.
    pub task: String,
    /// Held-out examples looked for.
    pub num_examples: usize,
    /// Held-out examples with too few words to be looked for.
    pub num_examples_too_short: usize,
    /// Held-out examples found in the corpus.
    pub num_examples_found: usize,
    /// Documents that hold at least one of them; a document may count for several tasks.
    pub num_documents_removed: usize,
}

/// Takes out the documents that hold a held-out example. A document is removed as a whole.
pub fn remove_overlap(config: &OverlapConfig, documents: Vec<Document>, sets: &[HeldOutSet]) -> Overlap {
    let index = Index::new(config, sets);
    let mut counts = index.counts(sets);
    let mut found = vec![false; index.examples.len()];
    let mut overlap = Overlap { kept: Vec::new(), dropped: Vec::new(), counts: Vec::new() };
    for document in documents {
        let hits = index.examples_in(&document.text, config.min_share.get());
        let Some(first) = hits.first() else {
            overlap.kept.push(document);
            continue;
        };
        hits.iter().for_each(|hit| found[*hit] = true);
        let tasks: BTreeSet<usize> = hits.iter().map(|hit| index.examples[*hit].set).collect();
        tasks.into_iter().for_each(|task| counts[task].num_documents_removed += 1);
        let Entry { set, text, .. } = index.examples[*first];
        let reason = DropReason::Overlap {
            task: sets[set].task.clone(),
            example: sets[set].texts[text].0.clone(),
            num_examples: hits.len(),
        };
        overlap.dropped.push(Dropped { document, reason });
    }
    for (example, _) in index.examples.iter().zip(found).filter(|(_, found)| *found) {
        counts[example.set].num_examples_found += 1;
    }
    Overlap { counts, ..overlap }
}

/// An example that is looked for.
struct Entry {
    set: usize,
    text: usize,
    num_ngrams: usize,
}

/// Where each n-gram of the examples occurs.
struct Index {
    examples: Vec<Entry>,
    /// (n-gram, example), sorted and without repetition.
    postings: Vec<(u64, u32)>,
    /// The first posting of each n-gram.
    starts: HashMap<u64, u32, BuildHasherDefault<Hashed>>,
    /// The n-gram lengths in use.
    lengths: BTreeSet<usize>,
}

impl Index {
    fn new(config: &OverlapConfig, sets: &[HeldOutSet]) -> Self {
        let mut index =
            Self { examples: Vec::new(), postings: Vec::new(), starts: HashMap::default(), lengths: BTreeSet::new() };
        for (set, texts) in sets.iter().enumerate().map(|(i, set)| (i, &set.texts)) {
            for (text, (_, words)) in texts.iter().enumerate() {
                index.add(config, set, text, &word_hashes(&normalize(words)));
            }
        }
        index.postings.sort_unstable();
        for (i, (ngram, _)) in index.postings.iter().enumerate().rev() {
            index.starts.insert(*ngram, i as u32);
        }
        index
    }

    fn add(&mut self, config: &OverlapConfig, set: usize, text: usize, words: &[u64]) {
        if words.is_empty() || words.len() < config.min_words {
            return;
        }
        let length = words.len().min(config.ngram.max(1));
        let mut ngrams: Vec<u64> = ngram_hashes(words, length).collect();
        ngrams.sort_unstable();
        ngrams.dedup();
        let example = u32::try_from(self.examples.len()).expect("fewer than four billion examples");
        self.lengths.insert(length);
        self.examples.push(Entry { set, text, num_ngrams: ngrams.len() });
        self.postings.extend(ngrams.into_iter().map(|ngram| (ngram, example)));
    }

    fn counts(&self, sets: &[HeldOutSet]) -> Vec<OverlapCounts> {
        let mut counts: Vec<OverlapCounts> =
            sets.iter().map(|set| OverlapCounts { task: set.task.clone(), ..OverlapCounts::default() }).collect();
        self.examples.iter().for_each(|example| counts[example.set].num_examples += 1);
        for (count, set) in counts.iter_mut().zip(sets) {
            count.num_examples_too_short = set.texts.len() - count.num_examples;
        }
        counts
    }

    /// The examples of which `text` contains at least `min_share`, in order.
    fn examples_in(&self, text: &str, min_share: f64) -> Vec<usize> {
        let words = word_hashes(&normalize(text));
        let known: HashSet<u64, BuildHasherDefault<Hashed>> = self
            .lengths
            .iter()
            .flat_map(|length| ngram_hashes(&words, *length))
            .filter(|ngram| self.starts.contains_key(ngram))
            .collect();
        let mut shared: HashMap<u32, usize> = HashMap::new();
        for ngram in known {
            let start = self.starts[&ngram] as usize;
            let postings = self.postings[start..].iter().take_while(|(posted, _)| *posted == ngram);
            postings.for_each(|(_, example)| *shared.entry(*example).or_default() += 1);
        }
        let enough = |(example, count): (u32, usize)| {
            let example = example as usize;
            (count as f64 >= min_share * self.examples[example].num_ngrams as f64).then_some(example)
        };
        let mut found: Vec<usize> = shared.into_iter().filter_map(enough).collect();
        found.sort_unstable();
        found
    }
}

/// A hasher for keys that are hashes already.
#[derive(Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = self.0.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

#[cfg(test)]
mod tests {
    use arable_core::{Fraction, Seed};
    use proptest::prelude::*;

    use super::*;

    fn document(id: &str, text: &str) -> Document {
        Document { id: id.into(), source: "s".into(), group: None, time: None, text: text.into() }
    }

    /// `num_words` words that no other `seed` has.
    fn words(seed: u64, num_words: usize) -> Vec<String> {
        let mut draws = Seed(seed).stream("words").at(0, 0);
        (0..num_words).map(|_| format!("w{seed}x{}", draws.below(1 << 20))).collect()
    }

    fn removed(config: &OverlapConfig, text: &str, example: &str) -> bool {
        let set = HeldOutSet { task: "t".into(), texts: vec![("e".into(), example.into())] };
        let overlap = remove_overlap(config, vec![document("d", text)], &[set]);
        assert_eq!(overlap.counts[0].num_documents_removed, overlap.dropped.len());
        !overlap.dropped.is_empty()
    }

    proptest! {
        #[test]
        fn planted_is_found_and_unrelated_is_not(num_words in 8_usize..60, before in 0_usize..80, after in 0_usize..80) {
            let config = OverlapConfig::default();
            let example = words(1, num_words);
            let planted = [words(2, before), example.clone(), words(3, after)].concat();
            prop_assert!(removed(&config, &planted.join(" - "), &example.join(" ").to_uppercase()));
            let unrelated = [words(2, before), words(3, after), example[..7].to_vec()].concat();
            prop_assert!(!removed(&config, &unrelated.join(" "), &example.join(" ")));
        }

        /// Against a check that compares words, not hashes.
        #[test]
        fn the_share_counts_distinct_ngrams(
            example in prop::collection::vec(0_u8..3, 4..30),
            text in prop::collection::vec(0_u8..3, 0..60),
            ngram in 1_usize..6,
            percent in 1_u32..=100,
        ) {
            let share = f64::from(percent) / 100.0;
            let config = OverlapConfig { ngram, min_share: Fraction::new(share).unwrap(), min_words: 4, dev: true };
            let length = ngram.min(example.len());
            let wanted: BTreeSet<&[u8]> = example.windows(length).collect();
            let there: BTreeSet<&[u8]> = text.windows(length).collect();
            let shared = wanted.intersection(&there).count();
            let expected = shared > 0 && shared as f64 >= share * wanted.len() as f64;
            let join = |words: &[u8]| words.iter().map(|word| format!("w{word}")).collect::<Vec<_>>().join(" ");
            prop_assert_eq!(removed(&config, &join(&text), &join(&example)), expected);
        }
    }

    #[test]
    fn counts_by_task() {
        let (a, b) = (words(1, 20).join(" "), words(2, 9).join(" "));
        let texts =
            |texts: &[&str]| texts.iter().enumerate().map(|(i, text)| (i.to_string(), (*text).to_owned())).collect();
        let sets = [
            HeldOutSet { task: "one".into(), texts: texts(&["too short", &a, &words(9, 20).join(" ")]) },
            HeldOutSet { task: "two".into(), texts: texts(&[&b, &a]) },
        ];
        let documents = vec![
            document("0", &format!("{b} and {a}")),
            document("1", &words(5, 99).join(" ")),
            document("2", &format!("x{b} {b}")),
        ];
        let overlap = remove_overlap(&OverlapConfig::default(), documents, &sets);
        let count = |task: &str, num_examples, num_examples_too_short, num_examples_found, num_documents_removed| {
            OverlapCounts {
                task: task.into(),
                num_examples,
                num_examples_too_short,
                num_examples_found,
                num_documents_removed,
            }
        };
        assert_eq!(overlap.counts, [count("one", 2, 1, 1, 1), count("two", 2, 0, 2, 2)]);
        assert_eq!(overlap.kept.len(), 1);
        let expected = DropReason::Overlap { task: "one".into(), example: "1".into(), num_examples: 3 };
        assert_eq!(overlap.dropped[0].reason, expected);
    }
}
