//! What goes with what: attributes with each other, and with source, language and time, on a sample of the documents.

use std::collections::{BTreeMap, BTreeSet};

use super::edges::family;
use super::{Association, Measure};

/// The documents that relations are computed of, with where they come from.
#[derive(Default)]
pub(super) struct Sample {
    pub numbers: BTreeSet<usize>,
    pub sources: Vec<String>,
    pub languages: Vec<String>,
    pub times: Vec<Option<String>>,
}

const NUM_ASSOCIATIONS: usize = 20;
/// Relations of fewer documents are chance.
const MIN_DOCUMENTS: usize = 30;
/// What is worth knowing: large effects (Cohen 1988), and for rank correlations middling ones.
const MIN_CORRELATION: f64 = 0.3;
const MIN_RATIO: f64 = 0.14;

/// Relations worth knowing, the strongest first. Attributes of one family go together by what they are, and are left
/// out.
pub(super) fn associations(sample: &Sample, attributes: &[(&str, &[f64])]) -> Vec<Association> {
    let num = sample.numbers.len();
    if num < MIN_DOCUMENTS {
        return Vec::new();
    }
    let of_all = attributes.iter().filter(|(_, values)| values.len() == num);
    let ranked: Vec<(&str, Vec<f64>)> =
        of_all.filter_map(|(name, values)| Some((*name, standardized(&ranks(values))?))).collect();
    let mut found = Vec::new();
    for (at, (a, own)) in ranked.iter().enumerate() {
        for (b, other) in ranked[at + 1..].iter().filter(|(b, _)| family(a) != family(b)) {
            found.push(correlation(a, b, own, other));
        }
    }
    let times: Vec<String> = sample.times.iter().map(|time| time.clone().unwrap_or_default()).collect();
    let groups = [("source", &sample.sources), ("language", &sample.languages), ("time", &times)];
    let groups: Vec<(&str, Vec<usize>)> =
        groups.into_iter().filter_map(|(name, of)| Some((name, numbered(of)?))).collect();
    for (name, own) in &groups {
        found.extend(ranked.iter().map(|(attribute, ranks)| ratio(name, attribute, own, ranks)));
    }
    for (at, (a, own)) in groups.iter().enumerate() {
        found.extend(groups[at + 1..].iter().map(|(b, other)| contingency(a, b, own, other)));
    }
    found.retain(|own| match own.measure {
        Measure::CorrelationRatio => own.value >= MIN_RATIO,
        Measure::RankCorrelation | Measure::CramersV => own.value.abs() >= MIN_CORRELATION,
    });
    found.sort_by(|a, b| b.value.abs().total_cmp(&a.value.abs()).then_with(|| a.between.cmp(&b.between)));
    found.truncate(NUM_ASSOCIATIONS);
    found
}

/// Ranks from 0; equal values share the mean of theirs.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let (mut ranks, mut below) = (vec![0.0; values.len()], 0);
    for same in order.chunk_by(|&a, &b| values[a].total_cmp(&values[b]).is_eq()) {
        let mean = below as f64 + (same.len() - 1) as f64 / 2.0;
        same.iter().for_each(|&at| ranks[at] = mean);
        below += same.len();
    }
    ranks
}

/// With mean 0 and a sum of squares of 1; none where all are equal.
fn standardized(values: &[f64]) -> Option<Vec<f64>> {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let scale = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>().sqrt();
    (scale > 0.0).then(|| values.iter().map(|value| (value - mean) / scale).collect())
}

/// The groups by number; none where all are in one.
fn numbered(groups: &[String]) -> Option<Vec<usize>> {
    let names: BTreeMap<&String, usize> = groups.iter().collect::<BTreeSet<_>>().into_iter().zip(0..).collect();
    (names.len() > 1).then(|| groups.iter().map(|group| names[group]).collect())
}

fn named(a: &str, b: &str, measure: Measure, value: f64, interval: Option<[f64; 2]>) -> Association {
    Association { between: [a.to_owned(), b.to_owned()], measure, value, interval }
}

/// Spearman's correlation, with the interval of Fisher's transformation (Fieller et al. 1957).
fn correlation(a: &str, b: &str, own: &[f64], other: &[f64]) -> Association {
    let value = own.iter().zip(other).map(|(x, y)| x * y).sum::<f64>().clamp(-1.0, 1.0);
    let far = 1.96 * (1.06 / (own.len() as f64 - 3.0)).sqrt();
    let z = value.clamp(-0.999_999, 0.999_999).atanh();
    named(a, b, Measure::RankCorrelation, value, Some([(z - far).tanh(), (z + far).tanh()]))
}

/// The share of the variance of ranks that lies between groups, less what chance has it (epsilon squared, Kelley 1935).
fn ratio(name: &str, attribute: &str, groups: &[usize], ranks: &[f64]) -> Association {
    let mut sums: BTreeMap<usize, (f64, f64)> = BTreeMap::new();
    for (group, rank) in groups.iter().zip(ranks) {
        let (sum, num) = sums.entry(*group).or_default();
        (*sum, *num) = (*sum + rank, *num + 1.0);
    }
    let between: f64 = sums.values().map(|(sum, num)| sum * sum / num).sum();
    let (num, num_groups) = (ranks.len() as f64, sums.len() as f64);
    let value = if num > num_groups { 1.0 - (1.0 - between) * (num - 1.0) / (num - num_groups) } else { 0.0 };
    named(name, attribute, Measure::CorrelationRatio, value.max(0.0), None)
}

/// Cramér's V, less what chance has it (Bergsma 2013).
fn contingency(a: &str, b: &str, own: &[usize], other: &[usize]) -> Association {
    let (mut cells, mut rows, mut columns) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    for (&row, &column) in own.iter().zip(other) {
        *cells.entry((row, column)).or_insert(0.0) += 1.0;
        *rows.entry(row).or_insert(0.0) += 1.0;
        *columns.entry(column).or_insert(0.0) += 1.0;
    }
    let num = own.len() as f64;
    let phi =
        cells.iter().map(|((row, column), cell): (&(usize, usize), &f64)| cell * cell / (rows[row] * columns[column]));
    let (r, c) = (rows.len() as f64, columns.len() as f64);
    let phi = (phi.sum::<f64>() - 1.0 - (r - 1.0) * (c - 1.0) / (num - 1.0)).max(0.0);
    let less = |k: f64| k - (k - 1.0).powi(2) / (num - 1.0);
    let most = less(r).min(less(c)) - 1.0;
    named(a, b, Measure::CramersV, if most > 0.0 { (phi / most).sqrt().min(1.0) } else { 0.0 }, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn effects_are_those_of_the_definitions() {
        assert_eq!(ranks(&[3.0, 1.0, 3.0, 2.0]), [2.5, 0.0, 2.5, 1.0]);
        let standard = |values: &[f64]| standardized(&ranks(values)).unwrap();
        let (a, b) = (standard(&[1.0, 2.0, 3.0, 4.0, 5.0]), standard(&[5.0, 6.0, 7.0, 8.0, 7.0]));
        // The example of every textbook: 0.8207826816681233 in scipy.stats.spearmanr.
        assert!((correlation("a", "b", &a, &b).value - 0.820_782_681_668_123_3).abs() < 1e-12);
        let groups = [0, 0, 0, 1, 1, 1];
        let apart = ratio("source", "x", &groups, &standard(&[1.0, 2.0, 3.0, 7.0, 8.0, 9.0])).value;
        // 13.5 of 17.5 lie between the groups.
        assert!((apart - (1.0 - (4.0 / 17.5) * 5.0 / 4.0)).abs() < 1e-12, "{apart}");
        let equal: Vec<usize> = (0..60).map(|i| i % 3).collect();
        let chance: Vec<usize> = (0..60).map(|i| i / 3 % 2).collect();
        assert!((contingency("a", "b", &equal, &equal).value - 1.0).abs() < 1e-9);
        assert!(contingency("a", "b", &equal, &chance).value < 1e-9);
    }
}
