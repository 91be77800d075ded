//! A picture of a domain: how much there is of what, what sets it apart from general text, and what stands out.
//!
//! One pass over the documents, and one more for what goes together. Words are counted exactly; runs of words and lines
//! lossily (Manku and Motwani 2002), so that memory grows with the vocabulary, not with the text. Blocks of documents are
//! counted side by side and taken in order: the result depends neither on threads nor on chance.

use std::collections::{BTreeMap, HashMap, HashSet};

use arable_core::Document;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::attributes::Attributes;
use crate::columns::{AttributeTable, ColumnsError};
use crate::pii::{PiiKind, find_pii};
use crate::store::{Block, Documents, StoreError};
use crate::words::{HashedMap, HashedSet, hash_word, mix, normalize, num_words};

/// What a set of documents is like.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    /// Documents.
    pub num_documents: usize,
    /// Words, separated by white space.
    pub num_words: usize,
    /// Distinct words, after normalisation.
    pub num_distinct_words: usize,
    /// Each source.
    pub sources: Vec<SourceProfile>,
    /// Documents by language, the most frequent first; an empty name where it cannot be told.
    pub languages: Vec<(String, usize)>,
    /// The distribution of each attribute.
    pub attributes: BTreeMap<String, Spread>,
    /// Distinct words after so many words: how fast the vocabulary grows (Heaps 1978).
    pub growth: Vec<(usize, usize)>,
    /// Words that set the documents apart from general text, the most telling first.
    pub words: Vec<Term>,
    /// Runs of two and three words that do.
    pub phrases: Vec<Term>,
    /// Pairs of telling words that occur in the same documents more often than chance has it.
    pub pairs: Vec<Pair>,
    /// Lines that occur in many documents.
    pub boilerplate: Vec<(String, usize)>,
    /// Documents whose text occurred before, after normalisation.
    pub num_duplicates: usize,
    /// Personal data by kind: places, and documents.
    pub pii: BTreeMap<PiiKind, (usize, usize)>,
    /// How far the words are from those of general text, between 0 and 1 (Jensen-Shannon, base 2).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub divergence_from_general: Option<f64>,
    /// Rare documents that are alike in being far out: an attribute, and some of them.
    pub outliers: Vec<Outliers>,
}

/// One source.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SourceProfile {
    /// Its name.
    pub name: String,
    /// Documents.
    pub num_documents: usize,
    /// Words.
    pub num_words: usize,
    /// Documents by year, where a time is given.
    pub years: BTreeMap<String, usize>,
    /// How far its words are from those of all other sources, between 0 and 1 (Jensen-Shannon, base 2).
    pub divergence_from_rest: f64,
}

/// The distribution of a number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// The mean.
    pub mean: f64,
    /// The values that 0, 5, 25, 50, 75, 95 and 100 % of the documents do not exceed.
    pub quantiles: [f64; 7],
}

/// A word or a run of words.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Term {
    /// The words, normalised.
    pub term: String,
    /// How often it occurs.
    pub count: usize,
    /// The same for each million words.
    pub per_million: f64,
    /// How much more often than in general text: a logarithm to base 2 (Hardie 2014).
    pub log_ratio: f64,
    /// How sure that is: the log-likelihood statistic (Dunning 1993); 15 is beyond chance at 1 in 10,000.
    pub log_likelihood: f64,
}

/// Two words in the same documents.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Pair {
    /// The words.
    pub words: [String; 2],
    /// Documents that hold both.
    pub num_documents: usize,
    /// From -1 (never together) over 0 (as chance has it) to 1 (never apart): normalised pointwise mutual information
    /// (Bouma 2009).
    pub npmi: f64,
}

/// Documents far out in one attribute.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Outliers {
    /// The attribute.
    pub attribute: String,
    /// From here on a document is far out.
    pub bound: f64,
    /// How many there are.
    pub num_documents: usize,
    /// Some of them: id and value, the farthest first.
    pub examples: Vec<(String, f64)>,
}

/// Runs of words, or lines, that are counted at most. With those of a block on top, a table of two million has room.
const MAX_TALLIED: usize = 1_500_000;
/// Shorter lines are headings and single words.
const MIN_LINE: usize = 12;
const NUM_GROWTH: usize = 100;
const NUM_TERMS: usize = 40;
const NUM_PAIRS: usize = 20;
const NUM_LINES: usize = 20;
/// What is telling occurs at least four times as often as in general text.
const MIN_LOG_RATIO: f64 = 2.0;
/// A term that occurs less often says little about a domain.
const MIN_COUNT: usize = 5;

/// Profiles documents, with `general` as the text that they are compared with; without any, no terms are telling.
///
/// # Errors
/// When documents or attributes cannot be read.
pub fn profile(
    documents: &Documents,
    attributes: &AttributeTable,
    general: Option<&Documents>,
) -> Result<Profile, ColumnsError> {
    let counts = count(documents)?;
    let reference = general.map(count).transpose()?;
    let (words, phrases) = match &reference {
        None => Default::default(),
        Some(reference) => {
            (telling_words(&counts.words, &reference.words), telling_runs(&counts, reference, documents)?)
        }
    };
    let mut languages: Vec<(String, usize)> = attributes.languages()?.into_iter().collect();
    languages.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
    let (attributes, outliers) = spreads(attributes)?;
    Ok(Profile {
        num_documents: documents.len(),
        num_words: counts.sources.values().map(|source| source.num_words).sum(),
        num_distinct_words: counts.words.len(),
        languages,
        attributes,
        growth: thinned(&counts.growth),
        pairs: pairs(documents, &words)?,
        words,
        phrases,
        boilerplate: boilerplate(documents, &counts.lines)?,
        num_duplicates: counts.num_duplicates,
        divergence_from_general: reference.map(|reference| divergence(&counts.words, &reference.words)),
        outliers,
        sources: sources(&counts),
        pii: counts.pii,
    })
}

pub(crate) type Counts = HashMap<String, usize>;

/// Where a run of words or a line occurs first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    document: u32,
    word: u32,
    num_words: u32,
}

/// Counts of many things by their hashes, of which only the frequent ones matter.
#[derive(Default)]
struct Tally {
    counts: HashedMap<(u32, Place)>,
    /// What occurred at most so often may have been forgotten.
    forgotten: u32,
}

impl Tally {
    fn add(&mut self, key: u64, count: u32, first: Place) {
        let all = &mut self.counts.entry(key).or_insert((0, first)).0;
        *all = all.saturating_add(count);
    }

    fn merge(&mut self, other: Self) {
        other.counts.into_iter().for_each(|(key, (count, first))| self.add(key, count, first));
        while self.counts.len() > MAX_TALLIED {
            self.forgotten += 1;
            let least = self.forgotten;
            self.counts.retain(|_, (count, _)| *count > least);
        }
    }
}

/// What is counted in a pass over documents.
#[derive(Default)]
struct Counted {
    words: Counts,
    by_source: BTreeMap<String, Counts>,
    sources: BTreeMap<String, SourceProfile>,
    growth: Vec<(usize, usize)>,
    num_words: usize,
    runs: Tally,
    /// Lines by the documents that hold them.
    lines: Tally,
    texts: HashedSet,
    num_duplicates: usize,
    pii: BTreeMap<PiiKind, (usize, usize)>,
}

/// What is counted in a block; its texts in order.
#[derive(Default)]
struct Part {
    by_source: BTreeMap<String, Counts>,
    sources: BTreeMap<String, SourceProfile>,
    num_words: usize,
    runs: Tally,
    lines: Tally,
    texts: Vec<u64>,
    pii: BTreeMap<PiiKind, (usize, usize)>,
}

fn count(documents: &Documents) -> Result<Counted, StoreError> {
    let mut all = Counted::default();
    let work = |Block { first, documents, .. }: Block| {
        let mut part = Part::default();
        (first..).zip(&documents).for_each(|(number, document)| part.count(document, number as u32));
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
        words.iter().for_each(|word| increase(counts, word, 1));
        count_runs(&mut self.runs, &words, number);
        self.texts.push(hash_word(&text));
        let own = self.sources.entry(document.source.clone()).or_default();
        own.num_documents += 1;
        own.num_words += num_words(&document.text);
        if let Some(year) = document.time.as_deref().and_then(|time| time.get(..4)) {
            *own.years.entry(year.to_owned()).or_default() += 1;
        }
        let lines: HashedSet =
            document.text.lines().map(str::trim).filter(|line| line.len() >= MIN_LINE).map(hash_word).collect();
        lines.into_iter().for_each(|line| self.lines.add(line, 1, Place { document: number, word: 0, num_words: 0 }));
        let mut kinds: BTreeMap<PiiKind, usize> = BTreeMap::new();
        find_pii(&document.text).into_iter().for_each(|found| *kinds.entry(found.kind).or_default() += 1);
        for (kind, num) in kinds {
            let counts = self.pii.entry(kind).or_default();
            *counts = (counts.0 + num, counts.1 + 1);
        }
    }
}

impl Counted {
    fn add(&mut self, part: Part) {
        self.runs.merge(part.runs);
        self.lines.merge(part.lines);
        for (source, words) in part.by_source {
            let own = self.by_source.entry(source).or_default();
            for (word, count) in words {
                increase(&mut self.words, &word, count);
                increase(own, &word, count);
            }
        }
        for (source, part) in part.sources {
            let own = self.sources.entry(source).or_default();
            own.num_documents += part.num_documents;
            own.num_words += part.num_words;
            part.years.into_iter().for_each(|(year, count)| *own.years.entry(year).or_default() += count);
        }
        for (kind, (num, num_documents)) in part.pii {
            let counts = self.pii.entry(kind).or_default();
            *counts = (counts.0 + num, counts.1 + num_documents);
        }
        self.num_duplicates += part.texts.into_iter().filter(|text| !self.texts.insert(*text)).count();
        self.num_words += part.num_words;
        self.growth.push((self.num_words, self.words.len()));
    }
}

/// Some of the points, the last among them.
fn thinned(growth: &[(usize, usize)]) -> Vec<(usize, usize)> {
    let step = growth.len().div_ceil(NUM_GROWTH).max(1);
    let mut some: Vec<_> = growth.iter().rev().step_by(step).copied().collect();
    some.reverse();
    some
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

/// The words that `own` holds far more often than `general`.
fn telling_words(own: &Counts, general: &Counts) -> Vec<Term> {
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
fn telling_runs(own: &Counted, general: &Counted, documents: &Documents) -> Result<Vec<Term>, StoreError> {
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
fn divergence(a: &Counts, b: &Counts) -> f64 {
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

fn sources(counts: &Counted) -> Vec<SourceProfile> {
    let finish = |(name, own): (&String, &SourceProfile)| {
        let words = &counts.by_source[name];
        let left = |(word, &count): (&String, &usize)| {
            let left = count - words.get(word).copied().unwrap_or_default();
            (left > 0).then(|| (word.clone(), left))
        };
        let rest: Counts = counts.words.iter().filter_map(left).collect();
        let divergence_from_rest = if rest.is_empty() { 0.0 } else { divergence(words, &rest) };
        SourceProfile { name: name.clone(), divergence_from_rest, ..own.clone() }
    };
    counts.sources.iter().map(finish).collect()
}

/// The distribution of each attribute, and documents far above the rest of them.
fn spreads(table: &AttributeTable) -> Result<(BTreeMap<String, Spread>, Vec<Outliers>), ColumnsError> {
    let ids = table.ids()?;
    let of = |(number, (name, _)): (usize, &(&str, &str))| {
        let values = table.column(number)?;
        if values.is_empty() {
            return Ok(None);
        }
        let spread = Spread::of(values.clone());
        let far = outliers(name, &values, &spread, &ids);
        Ok(Some((((*name).to_owned(), spread), far)))
    };
    let found: Result<Vec<_>, ColumnsError> = Attributes::NUMBERS.par_iter().enumerate().map(of).collect();
    let (spreads, far): (BTreeMap<_, _>, Vec<_>) = found?.into_iter().flatten().unzip();
    Ok((spreads, far.into_iter().flatten().collect()))
}

impl Spread {
    /// The distribution of `values`.
    pub(crate) fn of(mut values: Vec<f64>) -> Self {
        const AT: [f64; 7] = [0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0];
        if values.is_empty() {
            return Self::default();
        }
        values.sort_by(f64::total_cmp);
        let last = values.len() - 1;
        Self {
            mean: values.iter().sum::<f64>() / values.len() as f64,
            quantiles: AT.map(|at| values[(at * last as f64).round() as usize]),
        }
    }
}

/// Documents far above the rest (Tukey 1977: three quarter spans above the third quarter), if they are few: one in a
/// hundred at most.
fn outliers(name: &str, values: &[f64], spread: &Spread, ids: &[String]) -> Option<Outliers> {
    const NUM_EXAMPLES: usize = 5;
    let [_, _, low, _, high, ..] = spread.quantiles;
    let bound = high + 3.0 * (high - low);
    let mut far: Vec<(usize, f64)> = values.iter().copied().enumerate().filter(|(_, value)| *value > bound).collect();
    far.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| ids[a.0].cmp(&ids[b.0])));
    let examples = far.iter().take(NUM_EXAMPLES).map(|&(at, value)| (ids[at].clone(), value)).collect();
    let rare = !far.is_empty() && far.len() <= values.len() / 100;
    rare.then(|| Outliers { attribute: name.to_owned(), bound, num_documents: far.len(), examples })
}

/// Pairs of telling words by how much more often than chance they share a document.
fn pairs(documents: &Documents, words: &[Term]) -> Result<Vec<Pair>, StoreError> {
    if words.is_empty() {
        return Ok(Vec::new());
    }
    let (mut single, mut both) = (vec![0_usize; words.len()], BTreeMap::<(usize, usize), usize>::new());
    let held = |document: &Document| -> Vec<usize> {
        let text = normalize(&document.text);
        let own: HashSet<&str> = text.split_ascii_whitespace().collect();
        (0..words.len()).filter(|&at| own.contains(words[at].term.as_str())).collect()
    };
    documents.each(
        |block| Ok(block.documents.iter().map(held).collect::<Vec<_>>()),
        |block| {
            for held in block {
                for (i, &a) in held.iter().enumerate() {
                    single[a] += 1;
                    held[i + 1..].iter().for_each(|&b| *both.entry((a, b)).or_default() += 1);
                }
            }
            Ok::<_, StoreError>(())
        },
    )?;
    let num = documents.len().max(1) as f64;
    let pair = |((a, b), num_documents): ((usize, usize), usize)| {
        let (p_a, p_b, p) = (single[a] as f64 / num, single[b] as f64 / num, num_documents as f64 / num);
        let npmi = if p < 1.0 { (p / (p_a * p_b)).ln() / -p.ln() } else { 1.0 };
        Pair { words: [words[a].term.clone(), words[b].term.clone()], num_documents, npmi }
    };
    let mut pairs: Vec<Pair> = both.into_iter().filter(|&(_, count)| count >= MIN_COUNT).map(pair).collect();
    pairs.sort_by(|a, b| b.npmi.total_cmp(&a.npmi).then_with(|| a.words.cmp(&b.words)));
    pairs.truncate(NUM_PAIRS);
    Ok(pairs)
}

/// Lines that occur in many documents.
fn boilerplate(documents: &Documents, lines: &Tally) -> Result<Vec<(String, usize)>, StoreError> {
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
    use crate::columns::measure_all;
    use crate::scorers::Scorers;
    use crate::store::write_documents;

    fn profiled(own: &[Document], general: &[Document]) -> Profile {
        let folder = tempfile::tempdir().unwrap();
        let store = |name: &str, documents: &[Document]| {
            let path = folder.path().join(name);
            write_documents(&path, documents).unwrap();
            Documents::open(&path).unwrap()
        };
        let (own, general) = (store("own", own), store("general", general));
        let attributes = folder.path().join("attributes");
        measure_all(&own, &Scorers::default(), &attributes).unwrap();
        let attributes = AttributeTable::open(&attributes, &own).unwrap();
        profile(&own, &attributes, (!general.is_empty()).then_some(&general)).unwrap()
    }

    fn documents(source: &str, texts: impl IntoIterator<Item = String>) -> Vec<Document> {
        let document = |(i, text)| Document {
            id: format!("{source}/{i}"),
            source: source.into(),
            time: Some(format!("20{:02}-05", i % 3)),
            text,
            ..Document::default()
        };
        texts.into_iter().enumerate().map(document).collect()
    }

    #[test]
    fn what_sets_a_domain_apart_is_found() {
        let notes = (0..60)
            .map(|i| format!("Patient {i} with renal failure was given furosemide.\nSeen and signed by the ward."));
        let letters = (0..30).map(|i| format!("The letter {i} about renal failure came with the morning post."));
        let mut own = documents("notes", notes);
        own.extend(documents("letters", letters));
        own[7].text.push_str(&" ####".repeat(300));
        own[20].text = own[19].text.clone();
        own[21].text.push_str(" Write to ann@x.org.");
        let general = documents(
            "novel",
            (0..90).map(|i| format!("The morning {i} came with the post and a letter was given to her.")),
        );
        let found = profiled(&own, &general);
        assert_eq!((found.num_documents, found.num_duplicates), (90, 1));
        let words: Vec<&str> = found.words.iter().map(|term| term.term.as_str()).collect();
        assert!(words[..2].contains(&"renal") && words[..2].contains(&"failure"), "{words:?}");
        assert!(!words.contains(&"morning") && !words.contains(&"letter"), "{words:?}");
        assert_eq!(found.phrases[0].term, "renal failure");
        assert_eq!(found.phrases[0].count, 90);
        assert_eq!(found.boilerplate, [("Seen and signed by the ward.".to_owned(), 58)]);
        assert_eq!(found.pii, [(PiiKind::Email, (1, 1))].into());
        assert_eq!(found.sources.len(), 2);
        assert!(found.sources.iter().all(|own| own.divergence_from_rest > 0.2 && own.years.len() == 3));
        assert!(found.divergence_from_general.unwrap() > 0.3);
        let far = found.outliers.iter().find(|far| far.attribute == "hash_ratio");
        assert!(far.is_none(), "where nearly all are 0, one document is more than one in a hundred of ninety");
        let pair = &found.pairs[0];
        assert!(pair.npmi > 0.5 && pair.num_documents >= 58, "{pair:?}");
        let read: Profile = serde_json::from_str(&serde_json::to_string(&found).unwrap()).unwrap();
        assert_eq!(read, found);
    }

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
    fn statistics_are_those_of_their_sources() {
        // 10 in 1,000 against 5 in 2,000, where 5 and 10 are expected: 2 (10 ln 2 + 5 ln 1/2).
        assert!((log_likelihood((10.0, 1000.0), (5.0, 2000.0)) - 10.0 * 2.0_f64.ln()).abs() < 1e-12);
        let counts = |pairs: &[(&str, usize)]| -> Counts { pairs.iter().map(|&(w, n)| (w.to_owned(), n)).collect() };
        let (a, b) = (counts(&[("x", 2), ("y", 2)]), counts(&[("z", 3)]));
        assert!((divergence(&a, &b) - 1.0).abs() < 1e-12 && divergence(&a, &a) < 1e-12);
        let spread = Spread::of((0..=100).map(f64::from).rev().collect());
        assert_eq!(spread.quantiles, [0.0, 5.0, 25.0, 50.0, 75.0, 95.0, 100.0]);
        assert!(profiled(&[], &[]).sources.is_empty());
    }

    #[test]
    fn far_out_documents_are_named() {
        let mut own = documents("a", (0..400).map(|i| format!("{} short", "word ".repeat(10 + i % 7))));
        own[3].text = "word ".repeat(5000);
        let found = profiled(&own, &[]).outliers;
        let long = found.iter().find(|far| far.attribute == "num_words").unwrap();
        assert_eq!((long.num_documents, &long.examples[0]), (1, &("a/3".to_owned(), 5000.0)));
    }
}
