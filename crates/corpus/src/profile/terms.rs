//! Words, runs of words and lines that stand out.

use std::collections::{BTreeMap, HashSet};

use rayon::prelude::*;

use super::count::{Counted, Counts, Place, Tally};
use super::{MIN_COUNT, Pair, Term};
use crate::store::{Documents, StoreError};
use crate::words::{hash_word, normalize};

const NUM_TERMS: usize = 40;
const NUM_PAIRS: usize = 20;
const NUM_LINES: usize = 20;
/// What is telling occurs at least four times as often as in general text.
const MIN_LOG_RATIO: f64 = 2.0;

/// The words that `own` holds far more often than `general`.
pub(super) fn telling_words(own: &Counts, general: &Counts) -> Vec<Term> {
    let mut terms = compared(own, total(general), |word| general.get(word).copied().unwrap_or_default());
    terms.retain(|term| term.log_ratio > MIN_LOG_RATIO);
    surest(&mut terms);
    terms.truncate(NUM_TERMS);
    terms
}

/// The frequent words of `own`, compared with general text of `num_general` words, in which `count` says how often a
/// word occurs.
pub(crate) fn compared(own: &Counts, num_general: f64, count: impl Fn(&str) -> usize) -> Vec<Term> {
    let num_own = total(own);
    let term = |(word, &own): (&String, &usize)| {
        Term::new(word.clone(), (own as f64, num_own), (count(word) as f64, num_general))
    };
    frequent(own).map(term).collect()
}

/// Words that occur often enough to say something, with their counts.
pub(crate) fn frequent(counts: &Counts) -> impl Iterator<Item = (&String, &usize)> {
    let is_word = |word: &str| word.chars().any(char::is_alphabetic) && word.chars().count() > 1;
    counts.iter().filter(move |(word, count)| **count >= MIN_COUNT && is_word(word))
}

/// The runs of words that `own` holds far more often than `general`.
pub(super) fn telling_runs(own: &Counted, general: &Counted, documents: &Documents) -> Result<Vec<Term>, StoreError> {
    let (num_own, num_general) = (own.num_words as f64, general.num_words.max(1) as f64);
    let frequent = own.runs.counts.iter().filter(|(_, (count, _))| *count as usize >= MIN_COUNT);
    let mut terms: Vec<(Term, Place)> = frequent
        .map(|(key, &(count, first))| {
            let other = general.runs.counts.get(key).map_or(0, |(count, _)| *count);
            (Term::new(String::new(), (f64::from(count), num_own), (f64::from(other), num_general)), first)
        })
        .filter(|(term, _)| term.log_ratio > MIN_LOG_RATIO)
        .collect();
    // The order of a map means nothing, that of documents does.
    terms.sort_by(|(a, at_a), (b, at_b)| b.log_likelihood.total_cmp(&a.log_likelihood).then_with(|| at_a.cmp(at_b)));
    terms.truncate(NUM_TERMS);
    let said = |(term, first): (Term, Place)| {
        let text = normalize(&documents.get(first.document as usize)?.text);
        let words: Vec<&str> =
            text.split_ascii_whitespace().skip(first.word as usize).take(first.num_words as usize).collect();
        Ok(Term { term: words.join(" "), ..term })
    };
    terms.into_par_iter().map(said).collect()
}

impl Term {
    /// Counts out of so many words here and in general text.
    fn new(term: String, (a, num_own): (f64, f64), (b, num_general): (f64, f64)) -> Self {
        Self {
            term,
            count: a as usize,
            per_million: 1e6 * a / num_own,
            log_ratio: ((a / num_own) / ((b + 0.5) / num_general)).log2(),
            log_likelihood: log_likelihood((a, num_own), (b, num_general)),
        }
    }
}

/// Puts first what sets texts apart most surely.
pub(crate) fn surest(terms: &mut [Term]) {
    terms.sort_by(|a, b| b.log_likelihood.total_cmp(&a.log_likelihood).then_with(|| a.term.cmp(&b.term)));
}

fn total(counts: &Counts) -> f64 {
    counts.values().sum::<usize>().max(1) as f64
}

/// Twice the logarithm of how much likelier two frequencies are than one for both (Dunning 1993, Rayson and Garside 2000).
fn log_likelihood((a, c): (f64, f64), (b, d): (f64, f64)) -> f64 {
    let part = |found: f64, expected: f64| if found > 0.0 { found * (found / expected).ln() } else { 0.0 };
    2.0 * (part(a, c * (a + b) / (c + d)) + part(b, d * (a + b) / (c + d)))
}

/// The Jensen-Shannon divergence of two distributions of words, to base 2 (Lin 1991).
pub(super) fn divergence(a: &Counts, b: &Counts) -> f64 {
    let (num_a, num_b) = (total(a), total(b));
    let mut words: Vec<&String> = a.keys().chain(b.keys().filter(|word| !a.contains_key(*word))).collect();
    // Sums of floats in one order.
    words.sort_unstable();
    let share = |counts: &Counts, word: &str, num: f64| counts.get(word).copied().unwrap_or_default() as f64 / num;
    let part = |p: f64, middle: f64| if p > 0.0 { p * (p / middle).log2() } else { 0.0 };
    let parts = words.into_iter().map(|word| {
        let (p, q) = (share(a, word, num_a), share(b, word, num_b));
        0.5 * (part(p, 0.5 * (p + q)) + part(q, 0.5 * (p + q)))
    });
    parts.sum::<f64>().clamp(0.0, 1.0)
}

/// Which telling words share documents.
pub(super) struct Together {
    single: Vec<usize>,
    both: BTreeMap<(usize, usize), usize>,
}

impl Together {
    pub fn new(words: &[Term]) -> Self {
        Self { single: vec![0; words.len()], both: BTreeMap::new() }
    }

    /// The places of the words that a normalised text holds.
    pub fn held(text: &str, words: &[Term]) -> Vec<usize> {
        if words.is_empty() {
            return Vec::new();
        }
        let own: HashSet<&str> = text.split_ascii_whitespace().collect();
        (0..words.len()).filter(|&at| own.contains(words[at].term.as_str())).collect()
    }

    /// Counts a document that holds these words.
    pub fn add(&mut self, held: &[usize]) {
        for (i, &a) in held.iter().enumerate() {
            self.single[a] += 1;
            held[i + 1..].iter().for_each(|&b| *self.both.entry((a, b)).or_default() += 1);
        }
    }

    /// Pairs by how much more often than chance they share one of `num_documents`.
    pub fn pairs(self, num_documents: usize, words: &[Term]) -> Vec<Pair> {
        let num = num_documents.max(1) as f64;
        let pair = |((a, b), num_documents): ((usize, usize), usize)| {
            let share = |count: usize| count as f64 / num;
            let (p_a, p_b, p) = (share(self.single[a]), share(self.single[b]), share(num_documents));
            let npmi = if p < 1.0 { (p / (p_a * p_b)).ln() / -p.ln() } else { 1.0 };
            Pair { words: [words[a].term.clone(), words[b].term.clone()], num_documents, npmi }
        };
        let mut pairs: Vec<Pair> = self.both.into_iter().filter(|&(_, count)| count >= MIN_COUNT).map(pair).collect();
        pairs.sort_by(|a, b| b.npmi.total_cmp(&a.npmi).then_with(|| a.words.cmp(&b.words)));
        pairs.truncate(NUM_PAIRS);
        pairs
    }
}

/// Lines that occur in many documents.
pub(super) fn boilerplate(documents: &Documents, lines: &Tally) -> Result<Vec<(String, usize)>, StoreError> {
    let enough = (documents.len() / 1000).max(MIN_COUNT);
    let frequent = lines.counts.iter().filter(|(_, (count, _))| *count as usize >= enough);
    let mut frequent: Vec<(u32, Place, u64)> = frequent.map(|(&hash, &(count, first))| (count, first, hash)).collect();
    frequent.sort_by_key(|&(count, first, hash)| (std::cmp::Reverse(count), first, hash));
    frequent.truncate(NUM_LINES);
    let text = |(count, first, hash): (u32, Place, u64)| {
        let document = documents.get(first.document as usize)?;
        let line = document.text.lines().map(str::trim).find(|line| hash_word(line) == hash);
        Ok((line.unwrap_or_default().to_owned(), count as usize))
    };
    frequent.into_par_iter().map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_are_those_of_their_sources() {
        // 10 in 1,000 against 5 in 2,000, where 5 and 10 are expected: 2 (10 ln 2 + 5 ln 1/2).
        assert!((log_likelihood((10.0, 1000.0), (5.0, 2000.0)) - 10.0 * 2.0_f64.ln()).abs() < 1e-12);
        let counts = |pairs: &[(&str, usize)]| -> Counts { pairs.iter().map(|&(w, n)| (w.to_owned(), n)).collect() };
        let (a, b) = (counts(&[("x", 2), ("y", 2)]), counts(&[("z", 3)]));
        assert!((divergence(&a, &b) - 1.0).abs() < 1e-12 && divergence(&a, &a) < 1e-12);
    }
}
