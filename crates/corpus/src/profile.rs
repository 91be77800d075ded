//! A picture of a domain: how much there is of what, what sets it apart from general text, and what stands out.
//!
//! One pass over the documents (`count`), one more for words that go together and for what profiles are compared by
//! (`basis`), and passes over their attributes, a column at a time (`measured`). Memory is bounded by sketches; they are
//! filled side by side and merged in the order of the documents, so that the result depends neither on threads nor on
//! chance.

use std::collections::{BTreeMap, BTreeSet};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::columns::{AttributeTable, ColumnsError};
use crate::pii::PiiKind;
use crate::store::Documents;

mod associations;
pub(crate) mod basis;
mod count;
mod edges;
mod measured;
mod terms;

pub use basis::{Basis, Facet, Facets, Listed, Shared};
pub(crate) use count::{Counts, increase};
pub(crate) use terms::{compared, frequent, surest};

/// What a set of documents is like.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Profile {
    /// Documents.
    pub num_documents: usize,
    /// Words, separated by white space.
    pub num_words: usize,
    /// Distinct words, after normalisation: exactly up to 786,000, within 2 % beyond.
    pub num_distinct_words: usize,
    /// Occurrences that may be missing from the count of a word; 0 where all were counted.
    pub max_missed: usize,
    /// Each source.
    pub sources: Vec<SourceProfile>,
    /// How far the words of the largest sources are from each other.
    pub source_pairs: Vec<SourcePair>,
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
    /// Rare documents that are far out in an attribute, and some of them.
    pub outliers: Vec<Outliers>,
    /// Documents that show signs of trouble.
    pub signs: Vec<Sign>,
    /// Rare documents that are far out in the same ways.
    pub edges: Vec<Edge>,
    /// What goes with what.
    pub associations: Vec<Association>,
    /// What it is compared with other profiles by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub basis: Option<Basis>,
}

/// One source.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SourceProfile {
    /// Its name.
    pub name: String,
    /// Documents.
    pub num_documents: usize,
    /// Words.
    pub num_words: usize,
    /// Documents by month (`2024-05`), or by year where no month is given.
    pub times: BTreeMap<String, usize>,
    /// How far its words are from those of all other sources, between 0 and 1 (Jensen-Shannon, base 2).
    pub divergence_from_rest: f64,
}

/// Two sources.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SourcePair {
    /// Their names.
    pub sources: [String; 2],
    /// How far their words are apart, between 0 and 1 (Jensen-Shannon, base 2).
    pub divergence: f64,
}

/// The distribution of a number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// The mean.
    pub mean: f64,
    /// The values that 0, 5, 25, 50, 75, 95 and 100 % of the documents do not exceed, 2 % too low at most.
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

/// Documents that show a sign of trouble.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sign {
    /// Its name.
    pub name: String,
    /// What it is.
    pub about: String,
    /// The attribute that shows it.
    pub attribute: String,
    /// How many documents do.
    pub num_documents: usize,
    /// Some of them: id and value, the farthest first.
    pub examples: Vec<(String, f64)>,
}

/// A rare pattern: few documents that are far out in the same ways.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Edge {
    /// Attributes, with `high` or `low`.
    pub attributes: Vec<(String, String)>,
    /// How many documents there are.
    pub num_documents: usize,
    /// The source that most come from.
    pub source: String,
    /// How many do.
    pub num_in_source: usize,
    /// The ids of some.
    pub examples: Vec<String>,
}

/// Two things that go together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Association {
    /// Attributes, or `source`, `language` or `time`.
    pub between: [String; 2],
    /// What is measured.
    pub measure: Measure,
    /// How strong it is: 0 is not at all, 1 or -1 wholly.
    pub value: f64,
    /// Where it lies with 95 % confidence.
    pub interval: Option<[f64; 2]>,
}

/// How two things are found to go together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// Two numbers: Spearman's rank correlation.
    RankCorrelation,
    /// A number and groups: the share of the variance of its ranks that lies between the groups.
    CorrelationRatio,
    /// Groups and groups: Cramér's V.
    CramersV,
}

impl Measure {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::RankCorrelation => "rank correlation",
            Self::CorrelationRatio => "share of variance",
            Self::CramersV => "Cramér's V",
        }
    }
}

impl Profile {
    /// The months in which there are documents, or the years where there are more than twelve months, in order.
    pub fn periods(&self) -> Vec<String> {
        const MAX_MONTHS: usize = 12;
        let times = || self.sources.iter().flat_map(|source| source.times.keys());
        let months: BTreeSet<String> = times().cloned().collect();
        let years = || times().filter_map(|time| time.get(..4)).map(str::to_owned).collect::<BTreeSet<_>>();
        (if months.len() > MAX_MONTHS { years() } else { months }).into_iter().collect()
    }
}

impl SourceProfile {
    /// Its documents in each of these periods.
    pub fn by_period(&self, periods: &[String]) -> Vec<usize> {
        // Among months, a year is one where no month is given.
        let are_years = periods.iter().all(|period| period.len() == 4);
        let is_within = |time: &str, period: &str| time == period || are_years && time.starts_with(period);
        let within =
            |period: &String| self.times.iter().filter(|(time, _)| is_within(time, period)).map(|(_, num)| num).sum();
        periods.iter().map(within).collect()
    }
}

const NUM_GROWTH: usize = 100;
/// Sources that are compared with each other.
const MAX_PAIRED: usize = 10;
/// What occurs less often says little about a domain.
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
    let counts = count::count(documents)?;
    let own = counts.words.counts();
    let reference = general.map(count::count).transpose()?.map(|reference| (reference.words.counts(), reference));
    let (words, phrases) = match &reference {
        None => Default::default(),
        Some((general, reference)) => {
            (terms::telling_words(&own, general), terms::telling_runs(&counts, reference, documents)?)
        }
    };
    let (pairs, basis) = basis::again(documents, &words, &own)?;
    let mut measured = measured::measured(attributes, documents.len())?;
    let languages = measured.facets.0.get(&Facet::Language).cloned().unwrap_or_default();
    let mut languages: Vec<(String, usize)> =
        languages.into_iter().map(|(name, shared)| (name, shared.num_documents)).collect();
    languages.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
    let (sources, source_pairs) = sources(&counts, &own);
    Ok(Profile {
        num_documents: documents.len(),
        num_words: counts.sources.values().map(|source| source.num_words).sum(),
        num_distinct_words: counts.words.num_distinct(),
        max_missed: counts.words.error(),
        languages,
        growth: thinned(&counts.growth),
        pairs,
        words,
        phrases,
        boilerplate: terms::boilerplate(documents, &counts.lines)?,
        num_duplicates: counts.num_duplicates,
        divergence_from_general: reference.map(|(general, _)| terms::divergence(&own, &general)),
        sources,
        source_pairs,
        pii: counts.pii,
        basis: Some(basis.with(counts.facets, &mut measured)),
        attributes: measured.spreads,
        outliers: measured.outliers,
        signs: measured.signs,
        edges: measured.edges,
        associations: measured.associations,
    })
}

/// Some of the points, the last among them.
fn thinned(growth: &[(usize, usize)]) -> Vec<(usize, usize)> {
    let step = growth.len().div_ceil(NUM_GROWTH).max(1);
    let mut some: Vec<_> = growth.iter().rev().step_by(step).copied().collect();
    some.reverse();
    some
}

/// The sources, each compared with the rest, and the largest with each other.
fn sources(counts: &count::Counted, all: &Counts) -> (Vec<SourceProfile>, Vec<SourcePair>) {
    let words: Vec<(&String, Counts)> = counts.by_source.iter().map(|(name, own)| (name, own.counts())).collect();
    let finish = |(name, words): &(&String, Counts)| {
        let left = |(word, &count): (&String, &usize)| {
            let left = count.saturating_sub(words.get(word).copied().unwrap_or_default());
            (left > 0).then(|| (word.clone(), left))
        };
        let rest: Counts = all.iter().filter_map(left).collect();
        let divergence_from_rest = if counts.by_source.len() < 2 { 0.0 } else { terms::divergence(words, &rest) };
        SourceProfile { name: (*name).clone(), divergence_from_rest, ..counts.sources[*name].clone() }
    };
    let profiles: Vec<SourceProfile> = words.par_iter().map(finish).collect();
    let mut largest: Vec<usize> = (0..words.len()).collect();
    largest.sort_by_key(|&at| (std::cmp::Reverse(profiles[at].num_words), at));
    largest.truncate(MAX_PAIRED);
    let pairs: Vec<(usize, usize)> =
        (0..largest.len()).flat_map(|a| (a + 1..largest.len()).map(move |b| (a, b))).collect();
    let pair = |&(a, b): &(usize, usize)| {
        let [(a, own), (b, other)] = [a, b].map(|at| &words[largest[at]]);
        SourcePair { sources: [(*a).clone(), (*b).clone()], divergence: terms::divergence(own, other) }
    };
    (profiles, pairs.par_iter().map(pair).collect())
}

#[cfg(test)]
mod tests {
    use arable_core::{Document, Seed};

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
        assert!(found.sources.iter().all(|own| own.divergence_from_rest > 0.2 && own.times.len() == 3));
        assert!(found.divergence_from_general.unwrap() > 0.3);
        let far = found.outliers.iter().find(|far| far.attribute == "hash_ratio");
        assert!(far.is_none(), "where nearly all are 0, one document is more than one in a hundred of ninety");
        let pair = &found.pairs[0];
        assert!(pair.npmi > 0.5 && pair.num_documents >= 58, "{pair:?}");
        let read: Profile = serde_json::from_str(&serde_json::to_string(&found).unwrap()).unwrap();
        assert_eq!(read, found);
    }

    #[test]
    fn threads_do_not_show() {
        let text = |i: usize| {
            let mut draws = Seed(1).stream("text").at(0, i as u64);
            (0..400).map(|_| format!("w{} ", draws.below(9000))).collect::<String>()
        };
        let own = documents("a", (0..1400).map(text));
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| profiled(&own, &own[..500]))
        };
        let expected = run(1);
        assert_eq!(expected.num_words, 560_000);
        for threads in [2, 3, 7] {
            assert_eq!(run(threads), expected);
        }
    }

    #[test]
    fn nothing_has_a_profile() {
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
