//! Held-out examples that occur in the corpus.
//!
//! An example is found in a document that contains a set share of its distinct n-grams of words. Words are those of
//! [`normalize`], so that differently tokenised copies are found too. The n-gram length of 13 words follows Brown et
//! al., "Language models are few-shot learners", 2020, appendix C; asking for a share instead of one n-gram spares
//! documents that merely use the same boilerplate.

use std::collections::{BTreeSet, HashMap};

use arable_core::Example;

use crate::config::OverlapConfig;
use crate::reject::DropReason;
use crate::task::Task;
use crate::words::{HashedMap, HashedSet, ngram_hashes, normalize, word_hashes};

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

/// An example that is looked for.
struct Entry {
    set: usize,
    text: usize,
    num_ngrams: usize,
}

/// Where each n-gram of the examples occurs.
pub(crate) struct Index<'a> {
    sets: &'a [HeldOutSet],
    examples: Vec<Entry>,
    /// (n-gram, example), sorted and without repetition.
    postings: Vec<(u64, u32)>,
    /// The first posting of each n-gram.
    starts: HashedMap<u32>,
    /// The n-gram lengths in use.
    lengths: BTreeSet<usize>,
}

impl<'a> Index<'a> {
    pub(crate) fn new(config: &OverlapConfig, sets: &'a [HeldOutSet]) -> Self {
        let (postings, starts) = (Vec::new(), HashedMap::default());
        let mut index = Self { sets, examples: Vec::new(), postings, starts, lengths: BTreeSet::new() };
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

    /// What was found, from the examples in each document, as [`Self::examples_in`] gives them.
    pub(crate) fn counts<'b>(&self, documents: impl Iterator<Item = &'b [usize]>) -> Vec<OverlapCounts> {
        let count = |set: &HeldOutSet| OverlapCounts { task: set.task.clone(), ..OverlapCounts::default() };
        let mut counts: Vec<OverlapCounts> = self.sets.iter().map(count).collect();
        self.examples.iter().for_each(|example| counts[example.set].num_examples += 1);
        for (count, set) in counts.iter_mut().zip(self.sets) {
            count.num_examples_too_short = set.texts.len() - count.num_examples;
        }
        let mut found = BTreeSet::new();
        for hits in documents {
            found.extend(hits);
            let sets: BTreeSet<usize> = hits.iter().map(|&hit| self.examples[hit].set).collect();
            sets.into_iter().for_each(|set| counts[set].num_documents_removed += 1);
        }
        found.into_iter().for_each(|&hit: &usize| counts[self.examples[hit].set].num_examples_found += 1);
        counts
    }

    /// Why a document with these examples goes.
    pub(crate) fn reason(&self, hits: &[usize]) -> DropReason {
        let Entry { set, text, .. } = self.examples[hits[0]];
        let HeldOutSet { task, texts } = &self.sets[set];
        DropReason::Overlap { task: task.clone(), example: texts[text].0.clone(), num_examples: hits.len() }
    }

    /// The examples of which a text contains at least `min_share`, in order, from the hashes of its words.
    pub(crate) fn examples_in(&self, words: &[u64], min_share: f64) -> Vec<usize> {
        let known: HashedSet = self
            .lengths
            .iter()
            .flat_map(|length| ngram_hashes(words, *length))
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

#[cfg(test)]
mod tests {
    use arable_core::{Fraction, Seed};
    use proptest::prelude::*;

    use super::*;

    /// `num_words` words that no other `seed` has.
    fn words(seed: u64, num_words: usize) -> Vec<String> {
        let mut draws = Seed(seed).stream("words").at(0, 0);
        (0..num_words).map(|_| format!("w{seed}x{}", draws.below(1 << 20))).collect()
    }

    fn hits(index: &Index<'_>, config: &OverlapConfig, text: &str) -> Vec<usize> {
        index.examples_in(&word_hashes(&normalize(text)), config.min_share.get())
    }

    fn removed(config: &OverlapConfig, text: &str, example: &str) -> bool {
        let set = HeldOutSet { task: "t".into(), texts: vec![("e".into(), example.into())] };
        !hits(&Index::new(config, &[set]), config, text).is_empty()
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
        let config = OverlapConfig::default();
        let index = Index::new(&config, &sets);
        let texts = [format!("{b} and {a}"), words(5, 99).join(" "), format!("x{b} {b}")];
        let found: Vec<Vec<usize>> = texts.iter().map(|text| hits(&index, &config, text)).collect();
        let count = |task: &str, num_examples, num_examples_too_short, num_examples_found, num_documents_removed| {
            OverlapCounts {
                task: task.into(),
                num_examples,
                num_examples_too_short,
                num_examples_found,
                num_documents_removed,
            }
        };
        let counts = index.counts(found.iter().filter(|hits| !hits.is_empty()).map(Vec::as_slice));
        assert_eq!(counts, [count("one", 2, 1, 1, 1), count("two", 2, 0, 2, 2)]);
        assert!(found[1].is_empty() && !found[2].is_empty());
        let expected = DropReason::Overlap { task: "one".into(), example: "1".into(), num_examples: 3 };
        assert_eq!(index.reason(&found[0]), expected);
    }
}
