//! What attributes say of the documents as a whole: distributions, signs of trouble, documents far out.

use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use rayon::prelude::*;

use super::associations::{Sample, associations};
use super::basis::{self, Basis, Facet, Facets};
use super::edges::{Bounds, edges};
use super::{Association, Edge, Outliers, Sign, Spread};
use crate::attributes::Attributes;
use crate::columns::{AttributeTable, ColumnsError};
use crate::histogram::Histogram;
use crate::times::month;
use crate::words::hash_word;

/// Documents that are named as examples.
pub(super) const NUM_EXAMPLES: usize = 5;
/// Documents of which relations between attributes are computed.
const NUM_SAMPLED: usize = 10_000;

/// Signs of trouble: name, what it is, attribute, and the value above which a document shows it; none where it is as
/// far out as [`far_above`] says.
const SIGNS: [(&str, &str, &str, Option<f64>); 9] = [
    ("truncated", "the text ends within a sentence", "ends_open", Some(0.5)),
    ("wrong decoding", "characters that come from a wrong encoding", "encoding_fault_ratio", Some(0.0)),
    ("control characters", "characters that no text has", "control_ratio", Some(0.0)),
    ("tables", "more than a fifth of the lines are rows of a table", "table_line_ratio", Some(0.2)),
    ("code", "more than a fifth of the lines end as code does", "code_line_ratio", Some(0.2)),
    ("gibberish", "its letters follow each other as in no other text", "char_surprise", None),
    ("repetition", "more than a tenth of the text occurred in it before", "duplicate_10gram_char_ratio", Some(0.1)),
    ("page remains", "words of cookie banners and terms of use", "num_policy_lines", Some(0.0)),
    ("filler", "lorem ipsum", "lorem_ipsum", Some(0.5)),
];

/// What attributes say.
#[derive(Default)]
pub(super) struct Measured {
    pub spreads: BTreeMap<String, Spread>,
    pub outliers: Vec<Outliers>,
    pub signs: Vec<Sign>,
    pub edges: Vec<Edge>,
    pub associations: Vec<Association>,
    pub facets: Facets,
    pub buckets: BTreeMap<String, BTreeMap<i32, basis::Shared>>,
}

/// One attribute.
struct Column {
    histogram: Histogram,
    /// Its values in the sample.
    sampled: Vec<f64>,
    outliers: Option<Far>,
    signs: Vec<(usize, Far)>,
}

/// Documents above a bound.
struct Far {
    bound: f64,
    num: usize,
    /// The farthest, with their values.
    examples: Vec<(usize, f64)>,
}

/// Looks at every attribute, several side by side.
pub(super) fn measured(table: &AttributeTable, num_documents: usize) -> Result<Measured, ColumnsError> {
    let (sample, facets) = origins(table)?;
    let column = |number: usize| column(table, number, num_documents, &sample.numbers);
    let columns: Vec<Column> =
        (0..Attributes::NUMBERS.len()).into_par_iter().map(column).collect::<Result<_, ColumnsError>>()?;
    let bounds: Vec<Option<Bounds>> = columns.iter().map(|own| Bounds::of(&own.histogram)).collect();
    let edges = edges(table, &bounds, num_documents)?;
    let ids = Ids::read(table, &columns, &edges)?;
    let mut found = Measured { facets, ..Measured::default() };
    for ((name, _), own) in Attributes::NUMBERS.iter().zip(&columns).filter(|(_, own)| own.histogram.num > 0) {
        found.spreads.insert((*name).to_owned(), Spread::of(&own.histogram));
        found.buckets.insert((*name).to_owned(), basis::buckets(&own.histogram, |number| ids.of(number)));
        found.outliers.extend(own.outliers.as_ref().map(|far| Outliers {
            attribute: (*name).to_owned(),
            bound: far.bound,
            num_documents: far.num,
            examples: ids.named(&far.examples),
        }));
        for (at, far) in own.signs.iter().filter(|(_, far)| far.num > 0) {
            let (name, about, attribute, _) = SIGNS[*at];
            let [name, about, attribute] = [name, about, attribute].map(str::to_owned);
            let (num_documents, examples) = (far.num, ids.named(&far.examples));
            found.signs.push(Sign { name, about, attribute, num_documents, examples });
        }
    }
    found.signs.sort_by(|a, b| b.num_documents.cmp(&a.num_documents).then_with(|| a.name.cmp(&b.name)));
    found.edges = edges.into_iter().map(|edge| edge.named(|number| ids.of(number))).collect();
    let sampled: Vec<(&str, &[f64])> =
        Attributes::NUMBERS.iter().zip(&columns).map(|((name, _), own)| (*name, own.sampled.as_slice())).collect();
    found.associations = associations(&sample, &sampled);
    Ok(found)
}

/// A sample of the documents, those with the smallest hashes of their ids; and documents by language.
fn origins(table: &AttributeTable) -> Result<(Sample, Facets), ColumnsError> {
    let (mut least, mut facets) = (BinaryHeap::new(), Facets::default());
    table.each_origin(|number, [id, _, _, language]| {
        facets.add(Facet::Language, language, id);
        least.push((hash_word(id), number));
        if least.len() > NUM_SAMPLED {
            least.pop();
        }
    })?;
    let numbers: BTreeSet<usize> = least.into_iter().map(|(_, number)| number).collect();
    let mut sample = Sample { numbers, ..Sample::default() };
    let chosen = sample.numbers.clone();
    table.each_origin(|number, [_, source, time, language]| {
        if chosen.contains(&number) {
            sample.sources.push(source.to_owned());
            sample.languages.push(language.to_owned());
            sample.times.push(month(time).map(str::to_owned));
        }
    })?;
    Ok((sample, facets))
}

fn column(
    table: &AttributeTable,
    number: usize,
    num_documents: usize,
    chosen: &BTreeSet<usize>,
) -> Result<Column, ColumnsError> {
    let (mut histogram, mut sampled) = (Histogram::default(), Vec::with_capacity(chosen.len()));
    let mut next = chosen.iter().peekable();
    table.each_value(number, |document, value| {
        histogram.add(value, document);
        if next.next_if(|chosen| **chosen == document).is_some() {
            sampled.push(value);
        }
    })?;
    let bound = far_above(&histogram);
    let mut bounds = vec![(None, bound)];
    for (at, (_, _, attribute, from)) in SIGNS.iter().enumerate() {
        if *attribute == Attributes::NUMBERS[number].0 {
            bounds.push((Some(at), from.unwrap_or(bound)));
        }
    }
    let mut found: Vec<(Option<usize>, Far)> =
        bounds.into_iter().map(|(sign, bound)| (sign, Far { bound, num: 0, examples: Vec::new() })).collect();
    let most = histogram.quantile(1.0);
    if found.iter().any(|(_, far)| far.bound < most) {
        table.each_value(number, |document, value| {
            found.iter_mut().for_each(|(_, far)| far.add(document, value));
        })?;
    }
    let (own, signs): (Vec<_>, Vec<_>) = found.into_iter().partition(|(sign, _)| sign.is_none());
    let is_rare = |far: &Far| far.num > 0 && far.num <= num_documents / 100;
    Ok(Column {
        histogram,
        sampled,
        outliers: own.into_iter().map(|(_, far)| far).find(is_rare),
        signs: signs.into_iter().filter_map(|(sign, far)| Some((sign?, far))).collect(),
    })
}

/// Above this, a value is far out (Tukey 1977: three quarter spans above the third quarter).
pub(super) fn far_above(histogram: &Histogram) -> f64 {
    let [low, high] = [0.25, 0.75].map(|at| histogram.quantile(at));
    high + 3.0 * (high - low)
}

impl Far {
    fn add(&mut self, document: usize, value: f64) {
        if value <= self.bound {
            return;
        }
        self.num += 1;
        let place = self.examples.partition_point(|(_, other)| *other >= value);
        if place < NUM_EXAMPLES {
            self.examples.insert(place, (document, value));
            self.examples.truncate(NUM_EXAMPLES);
        }
    }
}

/// The ids of documents that are examples of something.
struct Ids(BTreeMap<usize, String>);

impl Ids {
    fn read(table: &AttributeTable, columns: &[Column], edges: &[super::edges::Found]) -> Result<Self, ColumnsError> {
        let mut wanted: BTreeMap<usize, String> = BTreeMap::new();
        let mut want = |number: usize| {
            wanted.entry(number).or_default();
        };
        for own in columns {
            own.histogram.buckets.values().for_each(|bucket| want(bucket.first));
            let far = own.outliers.iter().chain(own.signs.iter().map(|(_, far)| far));
            far.flat_map(|far| &far.examples).for_each(|(number, _)| want(*number));
        }
        edges.iter().flat_map(|edge| &edge.examples).for_each(|number| want(*number));
        table.each_origin(|number, [id, ..]| {
            if let Some(own) = wanted.get_mut(&number) {
                id.clone_into(own);
            }
        })?;
        Ok(Self(wanted))
    }

    fn of(&self, number: usize) -> String {
        self.0.get(&number).cloned().unwrap_or_default()
    }

    fn named(&self, examples: &[(usize, f64)]) -> Vec<(String, f64)> {
        examples.iter().map(|(number, value)| (self.of(*number), *value)).collect()
    }
}

impl Spread {
    /// The distribution of what was counted.
    pub(super) fn of(histogram: &Histogram) -> Self {
        const AT: [f64; 7] = [0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0];
        Self { mean: histogram.mean(), quantiles: AT.map(|at| histogram.quantile(at)) }
    }
}

impl Basis {
    /// Adds what is counted of attributes and by facets.
    pub(super) fn with(mut self, counted: Facets, measured: &mut Measured) -> Self {
        self.facets = counted;
        self.facets.merge(std::mem::take(&mut measured.facets));
        self.attributes = std::mem::take(&mut measured.buckets);
        self
    }
}
