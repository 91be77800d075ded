//! How well documents answer tasks: BM25 (Robertson and Zaragoza 2009) with the words that tell a task from the sources.
//!
//! A task's query are the words of its training examples that set them apart from the sources most surely, each once. What
//! is held out of training is never looked at: otherwise documents would be chosen by the examples that measure.

use std::collections::BTreeMap;

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::profile::{Counts, compared, frequent, increase, surest};
use crate::store::{Block, Documents, StoreError};
use crate::task::Task;
use crate::words::{HashedMap, hash_word, normalize, word_hashes};

/// How documents are compared with tasks.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Bm25Config {
    /// How soon a word that occurs again counts no more: 0 at once, 2 late.
    #[schemars(range(min = 0.0))]
    pub k1: f64,
    /// How much the length of a document counts, between 0 and 1.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub b: f64,
    /// Words in the query of a task, at most.
    #[schemars(range(min = 1))]
    pub num_terms: usize,
}

impl Default for Bm25Config {
    fn default() -> Self {
        Self { k1: 1.2, b: 0.75, num_terms: 40 }
    }
}

/// Words are telling that occur twice as often as in the sources at least, beyond chance at 1 in 10,000.
const MIN_LOG_RATIO: f64 = 1.0;
const MIN_LOG_LIKELIHOOD: f64 = 15.0;

type Slots = HashedMap<usize>;

/// The queries of tasks, ready to score.
#[derive(Clone, Debug)]
pub(crate) struct Bm25 {
    k1: f64,
    b: f64,
    mean_length: f64,
    /// The words of all queries, by hash, numbered.
    slots: Slots,
    queries: Vec<Query>,
}

/// The words of a task with their weights, and the highest score that there can be.
#[derive(Clone, Debug)]
struct Query {
    weights: Vec<(usize, f64)>,
    highest: f64,
}

impl Bm25 {
    /// The queries of `tasks` against `sources`.
    pub(crate) fn new(config: &Bm25Config, queries: &BTreeMap<String, Vec<String>>, sources: &Sources) -> Self {
        let slots = numbered(queries.values().flatten());
        let weighted = |term: &String| {
            let (_, num) = sources.of(term);
            (slots[&hash_word(term)], (1.0 + (sources.num_documents - num + 0.5) / (num + 0.5)).ln())
        };
        let query = |terms: &Vec<String>| {
            let weights: Vec<(usize, f64)> = terms.iter().map(weighted).collect();
            let highest = weights.iter().map(|(_, weight)| weight * (config.k1 + 1.0)).sum();
            Query { weights, highest }
        };
        let queries = queries.values().map(query).collect();
        let mean_length = sources.num_words / sources.num_documents.max(1.0);
        Self { k1: config.k1, b: config.b, mean_length, slots, queries }
    }

    /// The score of a text, given as the hashes of its words, for the task that it answers best, as a part of the highest
    /// that there can be.
    pub(crate) fn score(&self, words: &[u64]) -> f64 {
        let mut times = vec![0_u32; self.slots.len()];
        words.iter().filter_map(|word| self.slots.get(word)).for_each(|&slot| times[slot] += 1);
        let damped = self.k1 * (1.0 - self.b + self.b * words.len() as f64 / self.mean_length);
        let part = |&(slot, weight): &(usize, f64)| {
            let times = f64::from(times[slot]);
            if times > 0.0 { weight * times * (self.k1 + 1.0) / (times + damped) } else { 0.0 }
        };
        let score = |Query { weights, highest }: &Query| weights.iter().map(part).sum::<f64>() / highest;
        self.queries.iter().filter(|query| !query.weights.is_empty()).map(score).fold(0.0, f64::max)
    }
}

/// For each task, by name, the words of its training examples that tell it from the sources, the surest first, and what
/// was counted in the sources.
pub(crate) fn queries(
    num_terms: usize,
    tasks: &[Task],
    sources: &Documents,
) -> Result<(BTreeMap<String, Vec<String>>, Sources), StoreError> {
    let words: Vec<Counts> = tasks.par_iter().map(words_of).collect();
    let sources = Sources::count(sources, numbered(words.iter().flat_map(frequent).map(|(word, _)| word)))?;
    let telling = |words: &Counts| {
        let mut terms = compared(words, sources.num_words, |word| sources.of(word).0 as usize);
        // What no document holds adds nothing to any score.
        terms.retain(|term| {
            let is_sure = term.log_ratio >= MIN_LOG_RATIO && term.log_likelihood >= MIN_LOG_LIKELIHOOD;
            is_sure && sources.of(&term.term).1 > 0.0
        });
        surest(&mut terms);
        terms.into_iter().take(num_terms).map(|term| term.term).collect()
    };
    Ok((tasks.iter().map(|task| task.name.clone()).zip(words.iter().map(telling)).collect(), sources))
}

/// The words of the training examples of a task.
fn words_of(task: &Task) -> Counts {
    let mut counts = Counts::new();
    for example in &task.train {
        normalize(&example.input.text()).split_ascii_whitespace().for_each(|word| increase(&mut counts, word, 1));
    }
    counts
}

/// A number for the hash of each word.
fn numbered<'a>(words: impl Iterator<Item = &'a String>) -> Slots {
    let mut slots = Slots::default();
    for word in words {
        let next = slots.len();
        slots.entry(hash_word(word)).or_insert(next);
    }
    slots
}

/// How often words occur in the sources, and in how many documents.
pub(crate) struct Sources {
    slots: Slots,
    counts: Vec<(u64, u64)>,
    num_words: f64,
    num_documents: f64,
}

impl Sources {
    /// Counts the words that have a slot.
    fn count(documents: &Documents, slots: Slots) -> Result<Self, StoreError> {
        let (mut counts, mut num_words) = (vec![(0, 0); slots.len()], 0);
        let work = |Block { documents, .. }: Block| {
            let (mut counts, mut num_words) = (vec![(0, 0); slots.len()], 0);
            for document in documents {
                let words = word_hashes(&normalize(&document.text));
                num_words += words.len();
                let mut known: Vec<usize> = words.iter().filter_map(|word| slots.get(word).copied()).collect();
                known.sort_unstable();
                for same in known.chunk_by(|a, b| a == b) {
                    let (times, documents) = counts[same[0]];
                    counts[same[0]] = (times + same.len() as u64, documents + 1);
                }
            }
            Ok((counts, num_words))
        };
        documents.each(work, |(part, num)| {
            counts.iter_mut().zip(part).for_each(|(own, other): (&mut (u64, u64), (u64, u64))| {
                *own = (own.0 + other.0, own.1 + other.1);
            });
            num_words += num;
            Ok::<_, StoreError>(())
        })?;
        let (num_words, num_documents) = (num_words.max(1) as f64, documents.len() as f64);
        Ok(Self { slots, counts, num_words, num_documents })
    }

    /// How often a word occurs, and in how many documents.
    fn of(&self, word: &str) -> (f64, f64) {
        let (times, documents) = self.slots.get(&hash_word(word)).map_or((0, 0), |&slot| self.counts[slot]);
        (times as f64, documents as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arable_core::Document;

    use crate::config::{TaskConfig, TaskKind};
    use crate::store::write_documents;
    use crate::task::read_task;
    use crate::testing::root_with;

    fn documents(texts: &[String]) -> Vec<Document> {
        let document = |(i, text): (usize, &String)| Document {
            id: format!("s/{i}"),
            source: "s".into(),
            text: text.clone(),
            ..Document::default()
        };
        texts.iter().enumerate().map(document).collect()
    }

    fn task(name: &str, topic: &str) -> Task {
        let row = |i: usize, label: &str, topic: &str| {
            format!("{{\"text\": \"{topic} number {i}\", \"label\": \"{label}\"}}\n")
        };
        let rows = |topic: &str| (0..40).map(|i| row(i, ["a", "b"][i % 2], topic)).collect::<String>();
        let root =
            root_with(&[("train.jsonl", &rows(topic)), ("dev.jsonl", &rows("marmot")), ("test.jsonl", &rows("otter"))]);
        let mut config = TaskConfig::new(TaskKind::Classification, "train.jsonl");
        (config.dev, config.test) = (Some("dev.jsonl".into()), Some("test.jsonl".into()));
        read_task(name, &config, root.path(), arable_core::Seed(1)).unwrap()
    }

    #[test]
    fn the_best_task_counts_and_held_out_words_never_do() {
        let texts: Vec<String> = (0..60)
            .map(|i| match i % 20 {
                0 => format!("renal failure of the kidney {i}"),
                1 => format!("otter and marmot {i}"),
                _ => format!("the sea and the ship {i}"),
            })
            .collect();
        let sources = documents(&texts);
        let tasks = [task("kidney", "renal kidney"), task("valve", "valve")];
        let folder = tempfile::tempdir().unwrap();
        write_documents(&folder.path().join("documents"), &sources).unwrap();
        let sources = Documents::open(&folder.path().join("documents")).unwrap();
        let (queries, counted) = queries(40, &tasks, &sources).unwrap();
        assert_eq!(queries["kidney"], ["kidney", "renal"], "`number` and the numbers are in no document");
        assert!(queries["valve"].is_empty(), "no document holds a valve");
        let bm25 = Bm25::new(&Bm25Config::default(), &queries, &counted);
        let score = |text: &str| bm25.score(&word_hashes(&normalize(text)));
        // Three documents of 60 hold each word; documents have 5.95 words on average, this one 6.
        let (weight, length) = ((1.0_f64 + 57.5 / 3.5).ln(), 6.0 / ((3 * 6 + 3 * 4 + 54 * 6) as f64 / 60.0));
        let expected = weight * 2.2 / (1.0 + 1.2 * (0.25 + 0.75 * length)) / (weight * 2.2);
        assert!(
            (score("renal kidney of the sea 7") - expected).abs() < 1e-12,
            "{}",
            score("renal kidney of the sea 7")
        );
        assert!(score("otter and marmot 3").abs() < 1e-12 && score("").abs() < 1e-12);
        assert!(score("renal kidney renal kidney") > score("renal kidney and ship"));
    }
}
