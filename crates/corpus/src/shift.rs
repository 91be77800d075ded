//! What shifted between two profiles, and by how much more than two samples of one corpus differ.
//!
//! Distributions over documents are compared by the population stability index, the sum of (p - q) ln (p / q) over bins
//! (Kullback's J). Without a shift it is a chi-squared variable times 1/n + 1/m; its spread with one follows from the delta
//! method. Words come in documents, not one by one, and two versions share most of them; so what their Jensen-Shannon
//! divergence would be without a shift, and its spread, are taken from how the shares of words differ between parts of both
//! corpora, which a document falls into by its id: what both have does not differ.

use std::collections::{BTreeMap, BTreeSet};

use arable_core::Hint;
use serde::Serialize;

use crate::profile::Profile;
use crate::profile::basis::{Basis, Facet, Listed, NUM_PARTS, Shared};

/// Profiles that cannot be compared.
#[derive(Debug, thiserror::Error)]
pub enum ShiftError {
    /// A profile without the counts that it could be compared by.
    #[error("compare profiles: the {which} one has no `basis`")]
    NoBasis {
        /// Which.
        which: &'static str,
    },
}

impl Hint for ShiftError {
    fn hint(&self) -> Option<String> {
        Some("make it anew with `arable profile`".to_owned())
    }
}

/// What shifted from one profile to another.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Shift {
    /// Documents of both.
    pub num_documents: [usize; 2],
    /// Words.
    pub words: WordShift,
    /// Attributes, and documents by source, language, time and personal data; what shifted first, the farthest first.
    pub distributions: Vec<DistributionShift>,
}

/// How far a distribution over documents shifted.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct DistributionShift {
    /// `attribute`, `source`, `language`, `time` or `personal data`.
    pub kind: &'static str,
    /// The attribute or the kind of personal data.
    pub name: String,
    /// Whether it is more than chance, and enough to matter.
    pub is_shift: bool,
    /// The population stability index, less what chance has it: below 0.1 little, above 0.25 much.
    pub psi: f64,
    /// Where it lies with 95 % confidence.
    pub interval: [f64; 2],
    /// What the index exceeds by chance once in 30,000 times where nothing shifted.
    pub noise: f64,
    /// Medians of both, for attributes.
    pub medians: Option<[f64; 2]>,
    /// The bins that shifted most.
    pub changes: Vec<Change>,
}

/// How the share of a bin changed.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Change {
    /// The source, language or month; for attributes, a part of the range by its quantiles in the first profile.
    pub name: String,
    /// Its share of the documents in both.
    pub shares: [f64; 2],
    /// Where the difference of the shares lies with 95 % confidence.
    pub interval: [f64; 2],
    /// Documents that show it, of the one that has more.
    pub examples: Vec<String>,
}

/// How far words shifted.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct WordShift {
    /// Whether it is more than chance.
    pub is_shift: bool,
    /// The Jensen-Shannon divergence to base 2, less what chance has it.
    pub js: f64,
    /// Where it lies with 95 % confidence.
    pub interval: [f64; 2],
    /// What the divergence is expected to be without a shift.
    pub noise: f64,
    /// The words that tell the two apart most.
    pub terms: Vec<TermShift>,
}

/// A word that became more or less frequent.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct TermShift {
    /// The word.
    pub word: String,
    /// How often it occurs in a million words of both.
    pub per_million: [f64; 2],
    /// The logarithm to base 2 of how many times as often it became.
    pub log_ratio: f64,
    /// Where that lies with 95 % confidence.
    pub interval: [f64; 2],
    /// Its part of the divergence.
    pub js: f64,
    /// A document that shows it.
    pub example: String,
}

/// A shift of less hardly matters.
const MIN_PSI: f64 = 0.01;
/// The same of personal data, which is rare.
const MIN_RARE_PSI: f64 = 0.001;
/// The normal quantile of one in 30,000: a hundred distributions are looked at.
const Z_NOISE: f64 = 4.0;
const Z: f64 = 1.96;
const NUM_BINS: usize = 10;
/// Attributes that are measured against the corpus itself: where that changes, so does the measure of what has not.
const RELATIVE_TO_CORPUS: [&str; 3] = ["char_surprise", "domain_weight", "task_bm25"];
/// Bins with fewer documents in both are one.
const MIN_BIN: usize = 10;
const NUM_CHANGES: usize = 4;
const NUM_EXAMPLES: usize = 3;
const NUM_TERMS: usize = 30;
/// Words that occur less often in both together are one.
const MIN_WORD: u64 = 20;
/// Standard errors that the divergence of words must be above chance.
const Z_WORDS: f64 = 3.0;

/// What shifted from `before` to `after`.
///
/// # Errors
/// When one has nothing to be compared by.
pub fn shift(before: &Profile, after: &Profile) -> Result<Shift, ShiftError> {
    let bases = [
        before.basis.as_ref().ok_or(ShiftError::NoBasis { which: "first" })?,
        after.basis.as_ref().ok_or(ShiftError::NoBasis { which: "second" })?,
    ];
    let num_documents = [before.num_documents, after.num_documents];
    let mut distributions = attributes(before, after, &bases);
    distributions.extend(facets(&bases, num_documents));
    distributions.sort_by(|a, b| {
        (b.is_shift.cmp(&a.is_shift)).then_with(|| b.psi.total_cmp(&a.psi)).then_with(|| a.name.cmp(&b.name))
    });
    Ok(Shift { num_documents, words: words(&bases), distributions })
}

impl Shift {
    /// Whether anything shifted.
    pub fn is_any(&self) -> bool {
        self.words.is_shift || self.distributions.iter().any(|own| own.is_shift)
    }

    /// Some of the documents that show most of what shifted, most of it first.
    pub fn examples(&self) -> Vec<String> {
        const MOST: usize = 10;
        let shown = self.distributions.iter().filter(|own| own.is_shift).flat_map(|own| &own.changes);
        let ids = shown.flat_map(|change| &change.examples);
        let terms = self.words.terms.iter().filter(|_| self.words.is_shift).map(|term| &term.example);
        let mut counts: BTreeMap<&String, usize> = Default::default();
        ids.chain(terms).for_each(|id| *counts.entry(id).or_default() += 1);
        let mut counts: Vec<(&String, usize)> = counts.into_iter().collect();
        counts.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(b.0)));
        counts.into_iter().take(MOST).map(|(id, _)| id.clone()).collect()
    }
}

/// A bin: its name, its documents in both profiles, and examples of both, each with how much it tells.
#[derive(Clone, Debug, Default)]
struct Bin {
    name: String,
    counts: [usize; 2],
    examples: [Vec<(f64, String)>; 2],
}

/// The variance of the index that comes of estimating the shares `p` from `num` documents, by the delta method.
fn variance(pairs: impl Iterator<Item = (f64, f64)>, num: f64) -> f64 {
    let slopes = pairs.map(|(p, q)| (p, (p / q).ln() - q / p));
    let (mean, square) = slopes.fold((0.0, 0.0), |(mean, square), (p, g)| (mean + p * g, square + p * g * g));
    (square - mean * mean).max(0.0) / num
}

impl Bin {
    /// Adds documents, of which the example tells so much.
    fn add(&mut self, which: usize, shared: &Shared, tells: f64) {
        self.counts[which] += shared.num_documents;
        self.examples[which].push((tells, shared.example.clone()));
    }
}

fn attributes(before: &Profile, after: &Profile, [own, other]: &[&Basis; 2]) -> Vec<DistributionShift> {
    let is_comparable = |name: &str| !RELATIVE_TO_CORPUS.contains(&name);
    let both = own.attributes.iter().filter(|(name, _)| is_comparable(name));
    let both = both.filter_map(|(name, own)| Some((name, [own, other.attributes.get(name)?])));
    let compare = |(name, buckets): (&String, [&BTreeMap<i32, Shared>; 2])| {
        let median = |profile: &Profile| profile.attributes.get(name).map_or(0.0, |spread| spread.quantiles[3]);
        let medians = Some([median(before), median(after)]);
        DistributionShift { medians, ..compared("attribute", name, bins(buckets), MIN_PSI) }
    };
    both.map(compare).collect()
}

/// Bins that hold a tenth of the first profile's documents each, or a bucket of more; what lies beyond all of them is in
/// bins of its own.
fn bins(buckets: [&BTreeMap<i32, Shared>; 2]) -> Vec<Bin> {
    let nums = buckets.map(|buckets| buckets.values().map(|bucket| bucket.num_documents).sum::<usize>().max(1));
    let keys: BTreeSet<i32> = buckets.iter().flat_map(|buckets| buckets.keys().copied()).collect();
    let (mut bins, mut bin, mut below, mut from) = (Vec::new(), Bin::default(), 0, 0.0);
    for key in keys {
        let found = buckets.map(|buckets| buckets.get(&key));
        let counts = found.map(|shared| shared.map_or(0, |shared| shared.num_documents));
        if below == 0 && counts[0] > 0 && bin.counts[1] > 0 {
            bins.push(Bin { name: "below all before".into(), ..std::mem::take(&mut bin) });
        }
        let grown = counts[1] as f64 / nums[1] as f64 - counts[0] as f64 / nums[0] as f64;
        for (which, tells) in [-grown, grown].into_iter().enumerate() {
            found[which].into_iter().for_each(|shared| bin.add(which, shared, tells));
        }
        below += counts[0];
        if bin.counts[0] * NUM_BINS >= nums[0] {
            let to = below as f64 / nums[0] as f64;
            bins.push(Bin { name: part(from, to), ..std::mem::take(&mut bin) });
            from = to;
        }
    }
    if bin.counts != [0, 0] {
        let name = if from < 1.0 { part(from, 1.0) } else { "above all before".to_owned() };
        bins.push(Bin { name, ..bin });
    }
    bins
}

/// A part of a range by its quantiles.
fn part(from: f64, to: f64) -> String {
    match (from > 0.0, to < 1.0) {
        (false, true) => format!("lowest {:.0} %", 100.0 * to),
        (true, false) => format!("highest {:.0} %", 100.0 * (1.0 - from)),
        (true, true) => format!("{:.0} to {:.0} %", 100.0 * from, 100.0 * to),
        (false, false) => "all".to_owned(),
    }
}

fn facets(bases: &[&Basis; 2], num_documents: [usize; 2]) -> Vec<DistributionShift> {
    let bins = |facet: Facet| -> Vec<Bin> {
        let mut bins: BTreeMap<&str, Bin> = Default::default();
        for (which, basis) in bases.iter().enumerate() {
            for (name, shared) in basis.facets.0.get(&facet).into_iter().flatten() {
                let bin = bins.entry(name).or_insert_with(|| Bin { name: name.clone(), ..Bin::default() });
                bin.add(which, shared, 0.0);
            }
        }
        bins.into_values().collect()
    };
    let whole = [(Facet::Source, "source"), (Facet::Language, "language"), (Facet::Time, "time")];
    let mut found: Vec<DistributionShift> =
        whole.into_iter().map(|(facet, kind)| compared(kind, kind, gathered(bins(facet)), MIN_PSI)).collect();
    for with in bins(Facet::PersonalData) {
        let without = [0, 1].map(|which| num_documents[which].saturating_sub(with.counts[which]));
        let (name, rest) =
            (with.name.replace('_', " "), Bin { name: "none".into(), counts: without, ..Bin::default() });
        found.push(compared("personal data", &name, vec![with, rest], MIN_RARE_PSI));
    }
    found
}

/// Small bins as one.
fn gathered(bins: Vec<Bin>) -> Vec<Bin> {
    let (mut large, small): (Vec<Bin>, Vec<Bin>) =
        bins.into_iter().partition(|bin| bin.counts.iter().sum::<usize>() >= MIN_BIN);
    let mut rest = Bin { name: "others".to_owned(), ..Bin::default() };
    for bin in small {
        for which in 0..2 {
            rest.counts[which] += bin.counts[which];
            rest.examples[which].extend(bin.examples[which].iter().take(1).cloned());
        }
    }
    large.extend((rest.counts != [0, 0]).then_some(rest));
    large
}

fn compared(kind: &'static str, name: &str, bins: Vec<Bin>, least: f64) -> DistributionShift {
    let num = [0, 1].map(|which| bins.iter().map(|bin| bin.counts[which]).sum::<usize>() as f64);
    let unknown = DistributionShift { kind, name: name.to_owned(), ..DistributionShift::default() };
    if bins.len() < 2 || num[0] < 1.0 || num[1] < 1.0 {
        return unknown;
    }
    // Half a document more in each bin, so that none is impossible.
    let num_bins = bins.len() as f64;
    let share = |bin: &Bin, which: usize| (bin.counts[which] as f64 + 0.5) / (num[which] + 0.5 * num_bins);
    let pairs: Vec<(f64, f64)> = bins.iter().map(|bin| (share(bin, 0), share(bin, 1))).collect();
    let index: f64 = pairs.iter().map(|(p, q)| (p - q) * (p / q).ln()).sum();
    let scale = 1.0 / num[0] + 1.0 / num[1];
    // Wilson and Hilferty's quantile of chi-squared.
    let freedom = num_bins - 1.0;
    let ninth = 2.0 / (9.0 * freedom);
    let noise = scale * freedom * (1.0 - ninth + Z_NOISE * ninth.sqrt()).powi(3);
    let psi = (index - scale * freedom).max(0.0);
    let reversed = pairs.iter().map(|&(p, q)| (q, p));
    let far = Z * (variance(pairs.iter().copied(), num[0]) + variance(reversed, num[1])).sqrt();
    let mut changes: Vec<(f64, Change)> =
        bins.into_iter().zip(&pairs).map(|(bin, (p, q))| ((p - q) * (p / q).ln(), bin.change(num))).collect();
    changes.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.name.cmp(&b.1.name)));
    DistributionShift {
        is_shift: index > noise && psi >= least,
        psi,
        interval: [(psi - far).max(0.0), psi + far],
        noise,
        changes: changes.into_iter().take(NUM_CHANGES).map(|(_, change)| change).collect(),
        ..unknown
    }
}

impl Bin {
    fn change(self, num: [f64; 2]) -> Change {
        let [p, q] = [0, 1].map(|which| self.counts[which] as f64 / num[which]);
        let [before, after] = self.examples;
        let mut examples = if q >= p { after } else { before };
        // The sort is stable: of equals, those of lower values come first.
        examples.sort_by(|a, b| b.0.total_cmp(&a.0));
        Change {
            name: self.name,
            shares: [p, q],
            interval: difference(self.counts, num),
            examples: examples.into_iter().take(NUM_EXAMPLES).map(|(_, id)| id).collect(),
        }
    }
}

/// The interval of a difference of shares (Newcombe 1998, method 10): from the intervals of Wilson.
fn difference(counts: [usize; 2], num: [f64; 2]) -> [f64; 2] {
    let wilson = |which: usize| {
        let (n, p) = (num[which], counts[which] as f64 / num[which]);
        let middle = (p + Z * Z / (2.0 * n)) / (1.0 + Z * Z / n);
        let far = Z / (1.0 + Z * Z / n) * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
        (p, middle - far, middle + far)
    };
    let ((p, p_low, p_high), (q, q_low, q_high)) = (wilson(0), wilson(1));
    let below = ((q - q_low).powi(2) + (p_high - p).powi(2)).sqrt();
    let above = ((q_high - q).powi(2) + (p - p_low).powi(2)).sqrt();
    [q - p - below, q - p + above]
}

/// A word's counts in the parts of both, none of them where it is not listed.
struct Word<'a> {
    word: &'a str,
    listed: [Option<&'a Listed>; 2],
}

impl Word<'_> {
    /// Whether it occurs often enough to be looked at alone.
    fn is_frequent(&self) -> bool {
        self.listed.iter().flatten().flat_map(|listed| listed.counts).sum::<u64>() >= MIN_WORD
    }
}

/// Counts of words in chosen parts, and how many words there are.
struct Counts {
    counts: Vec<f64>,
    num: f64,
}

fn words(bases: &[&Basis; 2]) -> WordShift {
    let names: BTreeSet<&String> = bases.iter().flat_map(|basis| basis.words.keys()).collect();
    let word = |word| Word { word, listed: [0, 1].map(|which| bases[which].words.get(word)) };
    let words: Vec<Word<'_>> = names.into_iter().map(|name| word(name.as_str())).filter(Word::is_frequent).collect();
    let of = |which: usize, parts: &dyn Fn(usize) -> bool| counts(bases, &words, which, parts);
    let all = |_: usize| true;
    let [own, other] = [of(0, &all), of(1, &all)];
    if own.num < 1.0 || other.num < 1.0 {
        return WordShift::default();
    }
    let total = divergence(&own, &other);
    // Each with all parts but one.
    let less: Vec<[Counts; 2]> =
        (0..NUM_PARTS).map(|left_out| [0, 1].map(|which| of(which, &|part| part != left_out))).collect();
    let noise = noise(&own, &other, &less);
    let far = jackknife(less.iter().map(|[own, other]| divergence(own, other))).sqrt();
    let js = (total - noise).max(0.0);
    let terms = terms(&words, &own, &other, &less);
    let is_shift = js > noise && js > Z_WORDS * far && !terms.is_empty();
    WordShift { is_shift, js, interval: [(js - Z * far).max(0.0), js + Z * far], noise, terms }
}

/// The variance of a statistic from its values without each part (Quenouille 1949, Tukey 1958).
fn jackknife(without: impl Iterator<Item = f64>) -> f64 {
    let without: Vec<f64> = without.collect();
    let num = without.len() as f64;
    let mean = without.iter().sum::<f64>() / num;
    without.iter().map(|value| (value - mean).powi(2)).sum::<f64>() * (num - 1.0) / num
}

/// The divergence that is expected where no share differs: to second order, the sum over words of the variance of their
/// difference over eight times their mean.
fn noise(own: &Counts, other: &Counts, less: &[[Counts; 2]]) -> f64 {
    let share = |counts: &Counts, at: usize| counts.counts[at] / counts.num.max(1.0);
    let of_word = |at: usize| {
        let mean = 0.5 * (share(own, at) + share(other, at));
        let variance = jackknife(less.iter().map(|[own, other]| share(other, at) - share(own, at)));
        if mean > 0.0 { variance / (8.0 * std::f64::consts::LN_2 * mean) } else { 0.0 }
    };
    (0..own.counts.len()).map(of_word).sum()
}

/// How often each word occurs in the parts of a profile. A word that it does not list occurs at most as often as the
/// list leaves open: as often as the other profile has it expected, if that is no more.
fn counts(bases: &[&Basis; 2], words: &[Word<'_>], which: usize, parts: &dyn Fn(usize) -> bool) -> Counts {
    let sum =
        |counts: &[u64; NUM_PARTS]| (0..NUM_PARTS).filter(|part| parts(*part)).map(|part| counts[part]).sum::<u64>();
    let (own, other) = (&bases[which], &bases[1 - which]);
    let num = sum(&own.num_words) as f64;
    let share = num / own.num_words.iter().sum::<u64>().max(1) as f64;
    let most = own.most_unlisted as f64 * share;
    let num_other = other.num_words.iter().sum::<u64>().max(1) as f64;
    let count = |word: &Word<'_>| match (word.listed[which], word.listed[1 - which]) {
        (Some(listed), _) => sum(&listed.counts) as f64,
        (None, Some(listed)) => most.min(listed.counts.iter().sum::<u64>() as f64 / num_other * num),
        (None, None) => 0.0,
    };
    Counts { counts: words.iter().map(count).collect(), num }
}

/// A word's part of the Jensen-Shannon divergence, by its shares.
fn divergence_of(p: f64, q: f64) -> f64 {
    let half = |p: f64, middle: f64| if p > 0.0 { 0.5 * p * (p / middle).log2() } else { 0.0 };
    half(p, 0.5 * (p + q)) + half(q, 0.5 * (p + q))
}

/// The Jensen-Shannon divergence to base 2, where all words that are not listed are one.
fn divergence(own: &Counts, other: &Counts) -> f64 {
    let rest = |counts: &Counts| (1.0 - counts.counts.iter().sum::<f64>() / counts.num.max(1.0)).max(0.0);
    let shares = own.counts.iter().zip(&other.counts).map(|(a, b)| (a / own.num.max(1.0), b / other.num.max(1.0)));
    shares.map(|(p, q)| divergence_of(p, q)).sum::<f64>() + divergence_of(rest(own), rest(other))
}

/// The words that contribute most, of those that changed beyond chance.
fn terms(words: &[Word<'_>], own: &Counts, other: &Counts, less: &[[Counts; 2]]) -> Vec<TermShift> {
    // Half an occurrence more, so that no share is 0.
    let share = |counts: &Counts, at: usize| (counts.counts[at] + 0.5) / counts.num.max(1.0);
    let term = |(at, word): (usize, &Word<'_>)| {
        let log_ratio = (share(other, at) / share(own, at)).log2();
        // No less than the variance of counts.
        let least = 1.0 / (own.counts[at] + 0.5) + 1.0 / (other.counts[at] + 0.5);
        let least = least / std::f64::consts::LN_2.powi(2);
        let between = jackknife(less.iter().map(|[own, other]| (share(other, at) / share(own, at)).log2()));
        let far = between.max(least).sqrt();
        let which = usize::from(log_ratio > 0.0);
        let is_sure = log_ratio.abs() > Z_NOISE * far;
        TermShift {
            word: word.word.to_owned(),
            per_million: [own, other].map(|counts| 1e6 * counts.counts[at] / counts.num),
            log_ratio,
            interval: [log_ratio - Z * far, log_ratio + Z * far],
            js: if is_sure { divergence_of(share(own, at), share(other, at)) } else { 0.0 },
            example: word.listed[which].or(word.listed[1 - which]).map_or_else(String::new, |own| own.example.clone()),
        }
    };
    let mut terms: Vec<TermShift> = words.iter().enumerate().map(term).filter(|term| term.js > 0.0).collect();
    terms.sort_by(|a, b| b.js.total_cmp(&a.js).then_with(|| a.word.cmp(&b.word)));
    terms.truncate(NUM_TERMS);
    terms
}

#[cfg(test)]
mod tests {
    use arable_core::{Document, Seed};

    use super::*;
    use crate::columns::{AttributeTable, measure_all};
    use crate::profile::profile;
    use crate::scorers::Scorers;
    use crate::store::{Documents, write_documents};

    fn profiled(documents: &[Document]) -> Profile {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("documents");
        write_documents(&path, documents).unwrap();
        let documents = Documents::open(&path).unwrap();
        let attributes = folder.path().join("attributes");
        measure_all(&documents, &Scorers::default(), &attributes).unwrap();
        profile(&documents, &AttributeTable::open(&attributes, &documents).unwrap(), None).unwrap()
    }

    /// A document about one of twenty things, in words that follow Zipf's law; those of `odd` are longer and about pumps.
    fn document(number: usize, month: usize, odd: bool) -> Document {
        let mut draws = Seed(3).stream("documents").at(number as u64, 0);
        let topic = draws.below(20);
        let num_words = 60 + draws.below(120) + if odd { 90 } else { 0 };
        let mut word = || match draws.uniform() {
            u if odd && u < 0.05 => "pump".to_owned(),
            u if u < 0.2 => format!("topic{topic}"),
            u => format!("w{}.", (2000.0_f64.powf(u) as usize)),
        };
        Document {
            id: format!("notes/{number}"),
            source: ["notes", "letters"][number % 2].into(),
            time: Some(format!("2024-{:02}-11", month + 1)),
            text: (0..num_words).map(|_| word()).collect::<Vec<_>>().join(" "),
            ..Document::default()
        }
    }

    #[test]
    fn a_shifted_month_is_found_with_its_documents() {
        let all: Vec<Document> = (0..1200).map(|i| document(i, i / 200, i >= 1000)).collect();
        let found = shift(&profiled(&all[..1000]), &profiled(&all)).unwrap();
        assert!(found.is_any() && found.words.is_shift, "{:?}", found.words);
        assert_eq!(found.words.terms[0].word, "pump");
        assert!(found.words.terms[0].interval[0] > 3.0 && found.words.interval[0] > 0.0);
        let shifted: Vec<&DistributionShift> = found.distributions.iter().filter(|own| own.is_shift).collect();
        let named = |name: &str| shifted.iter().find(|own| own.name == name);
        let time = named("time").expect("the time shifted");
        assert_eq!((time.changes[0].name.as_str(), time.changes[0].shares[0]), ("2024-06", 0.0));
        assert!(time.changes[0].interval[0] > 0.1 && time.interval[0] > time.noise);
        let size = named("num_words").expect("lengths shifted");
        assert!(size.medians.unwrap()[1] > size.medians.unwrap()[0] && size.changes[0].shares[1] > 0.1);
        assert!(named("source").is_none() && named("language").is_none(), "{shifted:?}");
        let is_of_the_month = |id: &String| id.strip_prefix("notes/").unwrap().parse::<usize>().unwrap() >= 1000;
        assert!(size.changes[0].examples.iter().all(is_of_the_month), "{size:?}");
        assert!(is_of_the_month(&found.words.terms[0].example) && is_of_the_month(&found.examples()[0]), "{found:?}");
    }

    #[test]
    fn halves_of_one_corpus_are_alike() {
        for seed in 0..6 {
            let mut all: Vec<Document> = (0..1600).map(|i| document(10_000 * seed + i, i % 5, false)).collect();
            Seed(seed as u64).stream("halves").at(0, 0).shuffle(&mut all);
            let (one, other) = all.split_at(800);
            let found = shift(&profiled(one), &profiled(other)).unwrap();
            let shifted: Vec<&DistributionShift> = found.distributions.iter().filter(|own| own.is_shift).collect();
            assert!(!found.is_any(), "{seed}: {:?} {shifted:?}", found.words);
            assert!(found.words.js < 0.002 && found.words.noise > 0.0, "{:?}", found.words);
        }
        let same = profiled(&(0..100).map(|i| document(i, 0, false)).collect::<Vec<_>>());
        let found = shift(&same, &same).unwrap();
        assert!(!found.is_any() && found.words.js <= 0.0 && found.distributions.iter().all(|own| own.psi <= 0.0));
        let constant =
            [(1, 500), (9, 3)].map(|(key, num_documents)| (key, Shared { num_documents, example: "a".into() }));
        let (before, after): (BTreeMap<_, _>, BTreeMap<_, _>) =
            (constant[..1].iter().cloned().collect(), constant.iter().cloned().collect());
        let counts = |bins: Vec<Bin>| bins.into_iter().map(|bin| (bin.name, bin.counts)).collect::<Vec<_>>();
        let found = counts(bins([&before, &after]));
        assert_eq!(found, [("all".to_owned(), [500, 500]), ("above all before".to_owned(), [0, 3])]);
        assert_eq!(
            counts(bins([&after, &before])),
            [("lowest 99 %".into(), [500, 500]), ("highest 1 %".into(), [3, 0])]
        );
        let bare = Profile { basis: None, ..same.clone() };
        assert!(matches!(shift(&same, &bare), Err(ShiftError::NoBasis { which: "second" })));
        assert!(!shift(&profiled(&[]), &same).unwrap().is_any());
    }

    #[test]
    fn intervals_are_those_of_their_sources() {
        // Newcombe 1998, table II, column (a): 56/70 - 48/80 is 0.0524 to 0.3339.
        let [low, high] = difference([48, 56], [80.0, 70.0]);
        assert!((low - 0.0524).abs() < 1e-4 && (high - 0.3339).abs() < 1e-4, "{low} {high}");
        let bin = |name: &str, counts| Bin { name: name.into(), counts, ..Bin::default() };
        let found = compared("attribute", "x", vec![bin("a", [500, 700]), bin("b", [500, 300])], MIN_PSI);
        let exact: f64 = -0.2 * (0.5_f64 / 0.7).ln() + 0.2 * (0.5_f64 / 0.3).ln();
        assert!((found.psi - (exact - 0.002)).abs() < 1e-3 && found.is_shift, "{found:?} {exact}");
        // The 1 - 3.2e-5 quantile of chi-squared with one degree of freedom is 17.3; that of Wilson and Hilferty is higher.
        assert!((0.95..1.1).contains(&(found.noise / 0.002 / 17.3)), "{}", found.noise);
    }
}
