//! What two profiles are compared by: counts that lie in the same bins in every profile, with a document that shows each.

use std::collections::{BTreeMap, HashMap};

use arable_core::Document;
use serde::{Deserialize, Serialize};

use super::count::Counts;
use super::terms::Together;
use super::{Pair, Term};
use crate::histogram::Histogram;
use crate::store::{Block, Documents, StoreError};
use crate::words::{hash_word, normalize};

/// Documents fall into so many parts by their ids, to see by how much counts differ that should not.
pub(crate) const NUM_PARTS: usize = 8;
/// Frequent words that are listed.
const NUM_LISTED: usize = 4000;

/// What documents are counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Facet {
    /// The source.
    Source,
    /// The language.
    Language,
    /// The month or year.
    Time,
    /// Kinds of personal data that they hold.
    PersonalData,
}

/// Documents that share something.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Shared {
    /// How many there are.
    pub num_documents: usize,
    /// The id of one.
    pub example: String,
}

/// Documents by what they share.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Facets(pub BTreeMap<Facet, BTreeMap<String, Shared>>);

/// A frequent word.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Listed {
    /// How often it occurs in the documents of each part.
    pub counts: [u64; NUM_PARTS],
    /// A document in which it occurs most.
    pub example: String,
}

/// What two profiles are compared by.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Basis {
    /// Of each attribute, documents by the bucket of its value; buckets rise.
    pub attributes: BTreeMap<String, BTreeMap<i32, Shared>>,
    /// Documents by what they share.
    pub facets: Facets,
    /// Words in the documents of each part.
    pub num_words: [u64; NUM_PARTS],
    /// Frequent words.
    pub words: BTreeMap<String, Listed>,
    /// How often a word occurs at most that is not listed.
    pub most_unlisted: u64,
}

impl Facets {
    pub(super) fn add(&mut self, facet: Facet, name: &str, id: &str) {
        let names = self.0.entry(facet).or_default();
        match names.get_mut(name) {
            Some(shared) => shared.num_documents += 1,
            None => {
                names.insert(name.to_owned(), Shared { num_documents: 1, example: id.to_owned() });
            }
        }
    }

    /// Adds what was counted of later documents.
    pub(super) fn merge(&mut self, other: Self) {
        for (facet, names) in other.0 {
            let own = self.0.entry(facet).or_default();
            for (name, shared) in names {
                let all = own.entry(name).or_insert(Shared { num_documents: 0, ..shared.clone() });
                all.num_documents += shared.num_documents;
            }
        }
    }
}

/// Buckets four times as wide as those of the histogram, with the id of a document of each.
pub(super) fn buckets(histogram: &Histogram, id: impl Fn(usize) -> String) -> BTreeMap<i32, Shared> {
    let mut found: BTreeMap<i32, Shared> = BTreeMap::new();
    for (key, bucket) in &histogram.buckets {
        let shared = found.entry(wide(*key)).or_insert_with(|| Shared { num_documents: 0, example: id(bucket.first) });
        shared.num_documents += bucket.num;
    }
    found
}

/// The wide bucket of a bucket.
pub(super) fn wide(key: i32) -> i32 {
    const WIDTH: i32 = 4;
    key.div_euclid(WIDTH)
}

/// What a second pass over the documents finds: pairs of telling words, and the frequent words with their counts in
/// each part.
pub(super) fn again(
    documents: &Documents,
    telling: &[Term],
    counts: &Counts,
) -> Result<(Vec<Pair>, Basis), StoreError> {
    let mut listed: Vec<(&String, usize)> = counts.iter().map(|(word, &count)| (word, count)).collect();
    listed.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(b.0)));
    let most_unlisted = listed.get(NUM_LISTED).map_or(0, |(_, count)| *count as u64);
    listed.truncate(NUM_LISTED);
    let places: HashMap<&str, usize> = listed.iter().enumerate().map(|(at, (word, _))| (word.as_str(), at)).collect();
    let (mut together, mut all) = (Together::new(telling), Found::default());
    let work = |block: Block| {
        let mut found = Found::default();
        let held = |document: &Document| {
            let text = normalize(&document.text);
            found.count(&document.id, &text, &places);
            Together::held(&text, telling)
        };
        let held: Vec<Vec<usize>> = block.documents.iter().map(held).collect();
        Ok((held, found))
    };
    documents.each(work, |(held, found)| {
        held.iter().for_each(|held| together.add(held));
        all.merge(found);
        Ok::<_, StoreError>(())
    })?;
    let word = |(at, (word, _)): (usize, &(&String, usize))| {
        let (counts, _, example) = all.words.remove(&at)?;
        Some(((*word).clone(), Listed { counts, example }))
    };
    let words = listed.iter().enumerate().filter_map(word).collect();
    let basis = Basis { words, num_words: all.num_words, most_unlisted, ..Basis::default() };
    Ok((together.pairs(documents.len(), telling), basis))
}

/// Counts of listed words, by their places.
#[derive(Default)]
struct Found {
    num_words: [u64; NUM_PARTS],
    /// For each, its counts in the parts, how often it occurs in one document at most, and the id of that.
    words: BTreeMap<usize, ([u64; NUM_PARTS], usize, String)>,
}

impl Found {
    fn count(&mut self, id: &str, text: &str, places: &HashMap<&str, usize>) {
        let part = (hash_word(id) % NUM_PARTS as u64) as usize;
        let mut held: Vec<usize> = Vec::new();
        for word in text.split_ascii_whitespace() {
            self.num_words[part] += 1;
            held.extend(places.get(word));
        }
        held.sort_unstable();
        for same in held.chunk_by(|a, b| a == b) {
            let (counts, most, example) = self.words.entry(same[0]).or_default();
            counts[part] += same.len() as u64;
            if same.len() > *most {
                (*most, *example) = (same.len(), id.to_owned());
            }
        }
    }

    fn merge(&mut self, other: Self) {
        self.num_words.iter_mut().zip(other.num_words).for_each(|(own, num)| *own += num);
        for (at, (counts, most, example)) in other.words {
            let own = self.words.entry(at).or_default();
            own.0.iter_mut().zip(counts).for_each(|(own, count)| *own += count);
            if most > own.1 {
                (own.1, own.2) = (most, example);
            }
        }
    }
}
