//! Sampling: so many documents of each value of an expression, drawn by their ids, none of them twice.

use std::borrow::Cow;
use std::collections::BTreeMap;

use arable_core::{Count, Digest, Fraction, Hint, Seed};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::files::nearest;
use crate::split::draw;

/// How many documents of which kind stay.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SampleConfig {
    /// What tells kinds apart: a name that `arable data attributes` lists, such as `source`, `group` or `language`, or an
    /// SQL expression over such names, such as `left(time, 3)` for decades. Documents without a value have the value
    /// `none`.
    pub by: String,
    /// Documents of a value, as a number of them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub count: BTreeMap<String, Count>,
    /// Documents of a value, as a share of all but those that `count` names.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub share: BTreeMap<String, Fraction>,
    /// Values that neither names share the rest in proportion to the number of their documents to the power of 1 /
    /// `temperature`: 1 keeps proportions, more is flatter, `inf` asks for as many of each, and 0 for the most frequent
    /// value alone. What a value has too few documents for goes to the others.
    pub temperature: Temperature,
    /// Documents in all; by default as many as there can be with no value short of what is asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<Count>,
}

impl Default for SampleConfig {
    fn default() -> Self {
        let (count, share) = (BTreeMap::new(), BTreeMap::new());
        Self { by: "source".to_owned(), count, share, temperature: Temperature(1.0), total: None }
    }
}

impl SampleConfig {
    /// The first setting that cannot take effect, what cannot be done, and what to do instead.
    pub fn flaw(&self) -> Option<(&'static str, String, &'static str)> {
        if let Some(value) = self.count.keys().find(|value| self.share.contains_key(*value)) {
            let hint = "take it out of one of them";
            return Some(("share", format!("sample `{value}` by a share and by a count"), hint));
        }
        let shares: f64 = self.share.values().map(|share| share.get()).sum();
        if shares > 1.0 + EPSILON {
            let hint = "shares make 1 together, or less, where the rest goes to other values";
            return Some(("share", format!("sample by shares that make {shares:.3} together"), hint));
        }
        if self.temperature != Temperature(1.0) && shares > 1.0 - EPSILON {
            let hint = "lower the shares: a temperature is for values that `share` and `count` do not name";
            return Some(("temperature", "use a temperature where `share` leaves nothing".to_owned(), hint));
        }
        let (counts, total) = (self.num_counted(), self.total.map(|total| total.0));
        if let Some(total) = total.filter(|&total| total < counts || total == 0) {
            let hint = "raise `total`; what `count` names is part of it";
            return Some(("total", format!("sample {total} documents, {counts} of which `count` names"), hint));
        }
        let is_all = *self == Self { by: self.by.clone(), ..Self::default() };
        let hint = "write `total`, `share`, `count` or `temperature`, or take the table out";
        is_all.then(|| ("by", "sample without saying how many".to_owned(), hint))
    }

    /// Documents that `count` asks for.
    fn num_counted(&self) -> u64 {
        self.count.values().map(|count| count.0).sum()
    }
}

/// How flat a sample is: 0 or more, infinity among them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "WrittenTemperature", into = "WrittenTemperature")]
pub struct Temperature(f64);

/// As it is written: JSON has no infinity, so that it has a name.
#[derive(Serialize, Deserialize)]
#[serde(untagged, expecting = "a temperature is a number from 0, or inf")]
enum WrittenTemperature {
    Number(f64),
    Name(Infinity),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Infinity {
    Inf,
}

/// A number that is no temperature.
#[derive(Debug, thiserror::Error)]
#[error("{0} is not 0 or more")]
pub struct NoTemperature(f64);

impl TryFrom<WrittenTemperature> for Temperature {
    type Error = NoTemperature;
    fn try_from(written: WrittenTemperature) -> Result<Self, NoTemperature> {
        match written {
            WrittenTemperature::Number(value) if value >= 0.0 => Ok(Self(value)),
            WrittenTemperature::Number(value) => Err(NoTemperature(value)),
            WrittenTemperature::Name(Infinity::Inf) => Ok(Self(f64::INFINITY)),
        }
    }
}

impl From<Temperature> for WrittenTemperature {
    fn from(Temperature(value): Temperature) -> Self {
        if value.is_finite() { Self::Number(value) } else { Self::Name(Infinity::Inf) }
    }
}

impl JsonSchema for Temperature {
    fn schema_name() -> Cow<'static, str> {
        "Temperature".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "type": "number", "minimum": 0 }, { "const": "inf" }] })
    }
}

/// A sample that cannot be drawn.
#[derive(Debug, thiserror::Error)]
pub enum SampleError {
    /// No document has a value that was named.
    #[error("sample `{value}`: no document has this value of `{by}`")]
    NoSuchValue {
        /// What documents are told apart by.
        by: String,
        /// What was named.
        value: String,
        /// The nearest value there is, or else some of them.
        known: String,
    },
    /// An expression that tells nearly every document from every other.
    #[error("sample by `{by}`: it has more than {most} values", most = MAX_VALUES)]
    TooManyValues {
        /// What documents are told apart by.
        by: String,
    },
}

impl Hint for SampleError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoSuchValue { known, .. } => format!("name {known}"),
            Self::TooManyValues { .. } => {
                "write an expression with fewer values, such as `source` or `left(time, 3)`".to_owned()
            }
        })
    }
}

/// Values that a sample may tell apart: each gets a line in what is said of it.
const MAX_VALUES: usize = 10_000;
/// Shares are sums of numbers that are rounded.
const EPSILON: f64 = 1e-6;
/// The value of documents that have none.
pub(crate) const NONE: &str = "none";

/// What a sample asked for and reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sampled {
    /// What documents are told apart by.
    pub by: String,
    /// Documents asked for in all.
    pub num_asked: usize,
    /// One entry for each value, in their order.
    pub values: Vec<SampledValue>,
}

/// What a sample asked for and reached of one value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SampledValue {
    /// The value.
    pub value: String,
    /// Documents that have it, of those that the sample was drawn from.
    pub num_documents: usize,
    /// Documents asked for.
    pub num_asked: usize,
    /// Documents taken; more than asked for where other values have too few.
    pub num_taken: usize,
}

impl SampledValue {
    /// Documents that there should be more.
    pub fn num_short(&self) -> usize {
        self.num_asked.saturating_sub(self.num_taken)
    }
}

impl Sampled {
    /// Documents taken.
    pub fn num_taken(&self) -> usize {
        self.values.iter().map(|own| own.num_taken).sum()
    }

    /// The largest part that a value lacks of what was asked of it.
    pub fn largest_shortfall(&self) -> f64 {
        let part = |own: &SampledValue| own.num_short() as f64 / own.num_asked.max(1) as f64;
        self.values.iter().map(part).fold(0.0, f64::max)
    }
}

/// The values of documents, each with a number.
#[derive(Default)]
pub(crate) struct Values {
    names: Vec<String>,
    numbers: BTreeMap<String, u32>,
}

impl Values {
    /// The number of a value, which it gets where it is new.
    pub(crate) fn number(&mut self, value: Option<String>, by: &str) -> Result<u32, SampleError> {
        let value = value.unwrap_or_else(|| NONE.to_owned());
        if let Some(number) = self.numbers.get(&value) {
            return Ok(*number);
        }
        if self.names.len() == MAX_VALUES {
            return Err(SampleError::TooManyValues { by: by.to_owned() });
        }
        let number = u32::try_from(self.names.len()).expect("values have a limit");
        self.names.push(value.clone());
        self.numbers.insert(value, number);
        Ok(number)
    }

    /// The value of a number.
    pub(crate) fn name(&self, number: u32) -> &str {
        &self.names[number as usize]
    }
}

/// Draws a sample of documents, of each its id and the number of its value. Returns what was asked and reached, and the
/// places of those that were drawn. A document's chance depends on its id and on the seed, never on where it stands; a
/// larger sample of a value holds a smaller one.
///
/// # Errors
/// When no document has a value that was named.
pub(crate) fn sample(
    config: &SampleConfig,
    values: &Values,
    documents: &[(&str, u32)],
    seed: Seed,
) -> Result<(Sampled, Vec<usize>), SampleError> {
    check_names(config, values)?;
    let mut places: BTreeMap<&str, Vec<usize>> = values.names.iter().map(|name| (name.as_str(), Vec::new())).collect();
    for (place, (_, value)) in documents.iter().enumerate() {
        places.entry(values.name(*value)).or_default().push(place);
    }
    let counted: Vec<(&str, usize)> = places.iter().map(|(name, own)| (*name, own.len())).collect();
    let sampled = quotas(config, &counted);
    let stream = seed.stream("sample");
    let mut drawn = Vec::with_capacity(sampled.num_taken());
    for (own, mut places) in sampled.values.iter().zip(places.into_values()) {
        let id = |place: usize| documents[place].0;
        places.sort_by_cached_key(|&place| (draw(stream, Digest::of(id(place).as_bytes()).into()), id(place)));
        drawn.extend(&places[..own.num_taken]);
    }
    Ok((sampled, drawn))
}

fn check_names(config: &SampleConfig, values: &Values) -> Result<(), SampleError> {
    const SOME: usize = 10;
    let mut named = config.count.keys().chain(config.share.keys());
    let Some(value) = named.find(|value| !values.numbers.contains_key(*value)) else { return Ok(()) };
    let names: Vec<String> = values.numbers.keys().cloned().collect();
    let known = nearest(value, &names).map_or_else(
        || format!("one of {}", names.iter().take(SOME).cloned().collect::<Vec<_>>().join(", ")),
        |name| format!("`{name}`"),
    );
    Err(SampleError::NoSuchValue { by: config.by.clone(), value: value.clone(), known })
}

/// What is asked of each value, and what there is of that. `values` are given with the number of their documents.
fn quotas(config: &SampleConfig, values: &[(&str, usize)]) -> Sampled {
    let is_named = |name: &str| config.count.contains_key(name) || config.share.contains_key(name);
    let shares = shares(config, values);
    let whole = whole(config, values, &shares);
    let mut asked = apportioned(whole, &shares);
    for ((name, _), asked) in values.iter().zip(&mut asked) {
        if let Some(count) = config.count.get(*name) {
            *asked = usize::try_from(count.0).unwrap_or(usize::MAX);
        }
    }
    let others = || values.iter().enumerate().filter(|(_, (name, _))| !is_named(name));
    let rest = others().map(|(at, _)| asked[at]).sum();
    let weights: Vec<f64> = others().map(|(at, _)| shares[at]).collect();
    let available: Vec<usize> = others().map(|(_, (_, num))| *num).collect();
    let mut poured = poured(rest, &weights, &available).into_iter();
    let value = |((name, num_documents), num_asked): (&(&str, usize), usize)| {
        let num_taken = if is_named(name) { num_asked.min(*num_documents) } else { poured.next().unwrap_or_default() };
        SampledValue { value: (*name).to_owned(), num_documents: *num_documents, num_asked, num_taken }
    };
    let values: Vec<SampledValue> = values.iter().zip(asked).map(value).collect();
    let total = config.total.and_then(|total| usize::try_from(total.0).ok());
    let num_asked = total.unwrap_or_else(|| values.iter().map(|own| own.num_asked).sum());
    Sampled { by: config.by.clone(), num_asked, values }
}

/// The share that each value is to have of the documents beside those that are counted.
fn shares(config: &SampleConfig, values: &[(&str, usize)]) -> Vec<f64> {
    let is_other = |name: &str| !config.count.contains_key(name) && !config.share.contains_key(name);
    let most = values.iter().filter(|(name, _)| is_other(name)).map(|(_, num)| *num).max().unwrap_or_default().max(1);
    let weight = |&(name, num): &(&str, usize)| {
        if num > 0 && is_other(name) { (num as f64 / most as f64).powf(1.0 / config.temperature.0) } else { 0.0 }
    };
    let all: f64 = values.iter().map(weight).sum();
    let rest = (1.0 - config.share.values().map(|share| share.get()).sum::<f64>()).max(0.0);
    let share = |value: &(&str, usize)| {
        let other = if all > 0.0 { rest * weight(value) / all } else { 0.0 };
        config.share.get(value.0).map_or(other, |share| share.get())
    };
    values.iter().map(share).collect()
}

/// The documents that shares are parts of: what `total` says beside those that are counted, or as many as there can be
/// so that no value that there is falls short.
fn whole(config: &SampleConfig, values: &[(&str, usize)], shares: &[f64]) -> usize {
    if let Some(total) = config.total {
        return usize::try_from(total.0.saturating_sub(config.num_counted())).unwrap_or(usize::MAX);
    }
    let known = values.iter().zip(shares).filter(|((_, num), share)| *num > 0 && **share > 0.0);
    let most = known.map(|((_, num), share)| *num as f64 / share).min_by(f64::total_cmp);
    (most.unwrap_or_default() + EPSILON) as usize
}

/// Parts of `whole` by their shares, in whole numbers: those left over go to the largest remainders.
fn apportioned(whole: usize, shares: &[f64]) -> Vec<usize> {
    let exact: Vec<f64> = shares.iter().map(|share| share * whole as f64).collect();
    let mut parts: Vec<usize> = exact.iter().map(|exact| (exact + EPSILON) as usize).collect();
    let remainder = |at: usize| exact[at] - exact[at].floor();
    let mut order: Vec<usize> = (0..shares.len()).filter(|&at| remainder(at) > EPSILON).collect();
    order.sort_by(|&a, &b| remainder(b).total_cmp(&remainder(a)).then(a.cmp(&b)));
    let num_left = (exact.iter().sum::<f64>().round() as usize).saturating_sub(parts.iter().sum());
    order.into_iter().take(num_left).for_each(|at| parts[at] += 1);
    parts
}

/// Gives `whole` to values by their weights, to none more than is available: what one cannot take goes to the others
/// (UniMax, Chung et al. 2023, with a single pass over each).
fn poured(whole: usize, weights: &[f64], available: &[usize]) -> Vec<usize> {
    let mut is_full = vec![false; weights.len()];
    loop {
        let taken: usize = available.iter().zip(&is_full).filter(|(_, full)| **full).map(|(num, _)| num).sum();
        let open: Vec<f64> =
            weights.iter().zip(&is_full).map(|(weight, full)| if *full { 0.0 } else { *weight }).collect();
        let all: f64 = open.iter().sum();
        let shares: Vec<f64> = open.iter().map(|weight| if all > 0.0 { weight / all } else { 0.0 }).collect();
        let parts = apportioned(whole.saturating_sub(taken), &shares);
        let over: Vec<usize> = (0..parts.len()).filter(|&at| parts[at] > available[at]).collect();
        if over.is_empty() {
            return (0..parts.len()).map(|at| if is_full[at] { available[at] } else { parts[at] }).collect();
        }
        over.into_iter().for_each(|at| is_full[at] = true);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn config(text: &str) -> SampleConfig {
        toml::from_str(text).unwrap()
    }

    /// Asked and taken of each value.
    fn reached(text: &str, values: &[(&str, usize)]) -> Vec<(usize, usize)> {
        let sample = quotas(&config(text), values);
        sample.values.iter().map(|own| (own.num_asked, own.num_taken)).collect()
    }

    const THREE: [(&str, usize); 3] = [("a", 900), ("b", 90), ("c", 10)];

    #[test]
    fn temperature_flattens() {
        assert_eq!(reached("total = 100", &THREE), [(90, 90), (9, 9), (1, 1)]);
        assert_eq!(reached("total = 100\ntemperature = 2", &THREE), [(70, 70), (22, 22), (8, 8)]);
        assert_eq!(reached("total = 30\ntemperature = inf", &THREE), [(10, 10), (10, 10), (10, 10)]);
        assert_eq!(reached("total = 100\ntemperature = 0", &THREE), [(100, 100), (0, 0), (0, 0)]);
        // What one has too few of goes to the others, and is said.
        assert_eq!(reached("total = 300\ntemperature = inf", &THREE), [(100, 200), (100, 90), (100, 10)]);
        assert_eq!(reached("total = 2000\ntemperature = inf", &THREE), [(667, 900), (667, 90), (666, 10)]);
        assert_eq!(reached("total = 1000", &THREE), [(900, 900), (90, 90), (10, 10)]);
        assert_eq!(reached("temperature = inf", &THREE), [(10, 10), (10, 10), (10, 10)]);
        assert!(config("temperature = inf").flaw().is_none());
    }

    #[test]
    fn quotas_are_reached_where_there_is_enough() {
        assert_eq!(reached("share = { a = 0.5, b = 0.5 }", &THREE), [(90, 90), (90, 90), (0, 0)]);
        assert_eq!(reached("share = { b = 0.5 }\ntotal = 40", &THREE), [(20, 20), (20, 20), (0, 0)]);
        assert_eq!(reached("share = { a = 0.5, b = 0.4 }\ntotal = 500", &THREE), [(250, 250), (200, 90), (50, 10)]);
        assert_eq!(reached("count = { a = 100 }", &THREE), [(100, 100), (90, 90), (10, 10)]);
        assert_eq!(reached("count = { c = 50, a = 0 }\ntotal = 80", &THREE), [(0, 0), (30, 30), (50, 10)]);
        assert_eq!(
            reached("count = { a = 10 }\nshare = { b = 1.0 }\ntotal = 30", &THREE),
            [(10, 10), (20, 20), (0, 0)]
        );
        let short = quotas(&config("share = { a = 0.5, b = 0.5 }\ntotal = 1000"), &THREE);
        assert_eq!((short.num_asked, short.num_taken(), short.values[1].num_short()), (1000, 590, 410));
        assert!((short.largest_shortfall() - 0.82).abs() < 1e-9);
    }

    #[test]
    fn what_cannot_take_effect_is_a_flaw() {
        let check = |text: &str, key: &str, message: &str| {
            let (found, said, hint) = config(text).flaw().unwrap();
            assert!(found == key && said.contains(message) && !hint.is_empty(), "{found}: {said}");
        };
        check("", "by", "without saying how many");
        check("by = 'language'", "by", "without saying how many");
        check("share = { a = 0.5 }\ncount = { a = 3 }", "share", "`a` by a share and by a count");
        check("share = { a = 0.7, b = 0.4 }", "share", "make 1.100 together");
        check("share = { a = 0.7, b = 0.3 }\ntemperature = 2", "temperature", "leaves nothing");
        check("count = { a = 70 }\ntotal = 60", "total", "60 documents, 70 of which");
        check("total = 0", "total", "sample 0 documents");
        assert!(toml::from_str::<SampleConfig>("temperature = -1").is_err());
        assert!(toml::from_str::<SampleConfig>("temperature = nan").is_err());
        let hot = toml::from_str::<SampleConfig>("temperature = 'hot'").unwrap_err();
        assert!(hot.to_string().contains("a number from 0, or inf"), "{hot}");
        for (text, stored) in [("inf", "\"inf\""), ("'inf'", "\"inf\""), ("3", "3.0")] {
            let Temperature(value) = config(&format!("temperature = {text}")).temperature;
            assert_eq!(serde_json::to_string(&Temperature(value)).unwrap(), stored);
        }
        assert!(toml::from_str::<SampleConfig>("shares = { a = 1.0 }").is_err());
    }

    #[test]
    fn values_that_do_not_occur_are_named() {
        let mut values = Values::default();
        for name in ["novels", "reviews"] {
            values.number(Some(name.to_owned()), "source").unwrap();
        }
        let error = |text: &str| sample(&config(text), &values, &[], Seed(1)).unwrap_err();
        let wrong = error("share = { novel = 0.5 }");
        assert_eq!(wrong.to_string(), "sample `novel`: no document has this value of `source`");
        assert_eq!(wrong.hint().unwrap(), "name `novels`");
        assert_eq!(error("count = { x = 5 }").hint().unwrap(), "name one of novels, reviews");
        let many = (0..=MAX_VALUES).find_map(|i| values.number(Some(i.to_string()), "id").err()).unwrap();
        assert!(many.to_string().contains("`id`: it has more than 10000 values") && many.hint().is_some(), "{many}");
    }

    /// What is drawn of documents with these values, as ids.
    fn drawn(config: &SampleConfig, documents: &[(String, u8)]) -> (Sampled, Vec<String>) {
        let mut values = Values::default();
        let mut number = |value: u8| values.number(Some(value.to_string()), "source").unwrap();
        let numbered: Vec<(&str, u32)> = documents.iter().map(|(id, value)| (id.as_str(), number(*value))).collect();
        let (sampled, places) = sample(config, &values, &numbered, Seed(7)).unwrap();
        let mut ids: Vec<String> = places.into_iter().map(|place| documents[place].0.clone()).collect();
        ids.sort();
        (sampled, ids)
    }

    proptest! {
        #[test]
        fn order_means_nothing_and_nothing_is_drawn_twice(
            values in prop::collection::vec(0_u8..6, 1..200), total in 1_u64..250, temperature in 0.0_f64..9.0, seed in 0_u64..99
        ) {
            let mut config = config(&format!("total = {total}"));
            config.temperature = Temperature(temperature);
            let mut documents: Vec<(String, u8)> =
                values.iter().enumerate().map(|(i, value)| (format!("d{i}"), *value)).collect();
            let (sampled, ids) = drawn(&config, &documents);
            let mut distinct = ids.clone();
            distinct.dedup();
            prop_assert_eq!(distinct.len(), ids.len());
            prop_assert_eq!(ids.len(), sampled.num_taken());
            prop_assert!(sampled.values.iter().all(|own| own.num_taken <= own.num_documents));
            prop_assert_eq!(sampled.values.iter().map(|own| own.num_asked).sum::<usize>() as u64, total);
            if temperature > 0.5 {
                prop_assert_eq!(ids.len(), values.len().min(total as usize));
            }
            Seed(seed).stream("test").at(0, 0).shuffle(&mut documents);
            prop_assert_eq!(&drawn(&config, &documents), &(sampled, ids.clone()));
            config.total = Some(Count(total + 40));
            config.temperature = Temperature(1.0);
            let larger = drawn(&config, &documents).1;
            config.total = Some(Count(total));
            let smaller = drawn(&config, &documents).1;
            let is_nested = smaller.iter().filter(|id| larger.contains(id)).count() + 6 >= smaller.len();
            prop_assert!(is_nested, "rounding may move one of each value");
        }
    }
}
