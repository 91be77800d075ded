//! Edge cases: few documents that are far out in the same ways, as those of one broken export or one odd form are.

use std::collections::BTreeMap;

use super::measured::NUM_EXAMPLES;
use super::{Edge, MIN_COUNT};
use crate::attributes::Attributes;
use crate::columns::{AttributeTable, ColumnsError};
use crate::histogram::Histogram;

/// Kinds of edge cases that are told apart; more are not counted.
const MAX_PATTERNS: usize = 10_000;
const NUM_EDGES: usize = 12;
/// An attribute belongs to a pattern when so many of its documents are far out in it.
const MIN_PART: f64 = 0.8;

/// Attributes that go together by what they are, by how their names begin.
const FAMILIES: [(&str, &[&str]); 8] = [
    ("size", &["num_chars", "num_words", "num_lines", "num_sentences", "num_stop", "unique_word"]),
    ("repetition", &["duplicate_", "top_"]),
    ("lines", &["bullet_", "ellipsis_", "terminal_", "short_", "newlines_", "hash_", "ends_open"]),
    ("words", &["mean_word", "reading_", "alpha_", "char_surprise", "language_"]),
    ("characters", &["digit_", "upper_", "non_ascii", "encoding_", "control_"]),
    ("markup", &["table_", "code_", "num_curly", "num_javascript", "num_policy", "lorem_"]),
    (
        "people",
        &["num_pii", "num_hazard", "num_abuse", "num_sexual", "num_self", "num_violence", "num_weapon", "num_own"],
    ),
    ("target", &["quality", "domain_", "task_"]),
];

/// The place of an attribute's family.
pub(super) fn family(attribute: &str) -> Option<usize> {
    FAMILIES.iter().position(|(_, starts)| starts.iter().any(|start| attribute.starts_with(start)))
}

/// Between these, a value is not far out.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    low: f64,
    high: f64,
}

impl Bounds {
    /// Three quarter spans beyond the quarters (Tukey 1977); none where all values are equal.
    pub fn of(histogram: &Histogram) -> Option<Self> {
        let [least, low, high, most] = [0.0, 0.25, 0.75, 1.0].map(|at| histogram.quantile(at));
        let far = 3.0 * (high - low);
        (histogram.num > 0 && least < most).then_some(Self { low: low - far, high: high + far })
    }

    /// 1 above, -1 below.
    fn side(self, value: f64) -> i8 {
        i8::from(value > self.high) - i8::from(value < self.low)
    }
}

/// Documents that are far out in the same ways.
#[derive(Clone, Default)]
pub(super) struct Found {
    num: usize,
    sources: BTreeMap<String, usize>,
    /// For each attribute and side, how many of them are far out there.
    far: BTreeMap<(usize, i8), usize>,
    pub examples: Vec<usize>,
}

/// Patterns of at least five documents and at most one in a hundred, by the families that are far out, the most
/// frequent first.
pub(super) fn edges(
    table: &AttributeTable,
    bounds: &[Option<Bounds>],
    num_documents: usize,
) -> Result<Vec<Found>, ColumnsError> {
    let mut patterns: BTreeMap<u32, Found> = BTreeMap::new();
    table.each_row(|number, source, values| {
        let side = |(at, bounds): (usize, &Option<Bounds>)| Some((at, (*bounds)?.side(values[at]?)));
        let far: Vec<(usize, i8)> = bounds.iter().enumerate().filter_map(side).filter(|(_, side)| *side != 0).collect();
        let families =
            far.iter().filter_map(|(at, side)| Some(2 * family(Attributes::NUMBERS[*at].0)? + usize::from(*side > 0)));
        let pattern = families.fold(0_u32, |pattern, bit| pattern | 1 << bit);
        if pattern.count_ones() < 2 || patterns.len() >= MAX_PATTERNS && !patterns.contains_key(&pattern) {
            return;
        }
        let found = patterns.entry(pattern).or_default();
        found.num += 1;
        *found.sources.entry(source.to_owned()).or_default() += 1;
        far.into_iter().for_each(|own| *found.far.entry(own).or_default() += 1);
        if found.examples.len() < NUM_EXAMPLES {
            found.examples.push(number);
        }
    })?;
    let mut found: Vec<Found> =
        patterns.into_values().filter(|own| own.num >= MIN_COUNT && own.num <= num_documents / 100).collect();
    found.sort_by_key(|own| std::cmp::Reverse(own.num));
    found.truncate(NUM_EDGES);
    Ok(found)
}

impl Found {
    /// With the names of what is far out and of the documents.
    pub fn named(self, id: impl Fn(usize) -> String) -> Edge {
        let is_common = |num: usize| num as f64 >= MIN_PART * self.num as f64;
        // One attribute of a family says enough: the one in which most documents are far out.
        let mut by_family: BTreeMap<(Option<usize>, i8), (usize, usize)> = BTreeMap::new();
        for (&(at, side), &num) in self.far.iter().filter(|(_, num)| is_common(**num)) {
            let best = by_family.entry((family(Attributes::NUMBERS[at].0), side)).or_insert((at, num));
            if num > best.1 {
                *best = (at, num);
            }
        }
        let side = |side: i8| if side > 0 { "high" } else { "low" };
        let attributes = by_family
            .into_iter()
            .map(|((_, own), (at, _))| (Attributes::NUMBERS[at].0.to_owned(), side(own).to_owned()));
        let (source, num_in_source) = self
            .sources
            .iter()
            .max_by_key(|(name, num)| (**num, std::cmp::Reverse(*name)))
            .map_or_else(|| (String::new(), 0), |(name, num)| (name.clone(), *num));
        Edge {
            attributes: attributes.collect(),
            num_documents: self.num,
            source,
            num_in_source,
            examples: self.examples.iter().map(|number| id(*number)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_attribute_has_a_family() {
        for (name, _) in Attributes::NUMBERS {
            let families = FAMILIES.iter().filter(|(_, starts)| starts.iter().any(|start| name.starts_with(start)));
            assert_eq!(families.count(), 1, "{name}");
        }
    }
}
