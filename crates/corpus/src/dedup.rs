//! Duplicates: of documents with equal keys, one stays.

use std::collections::HashMap;

use arable_core::Digest;

use crate::words::normalize;

/// The digest of a normalised text, of the text itself where no word is left of it.
pub(crate) fn words_digest(text: &str, normalized: &str) -> Digest {
    Digest::of(if normalized.is_empty() { text.as_bytes() } else { normalized.as_bytes() })
}

/// The same of a text that is not normalised yet.
pub(crate) fn digest_of_words(text: &str) -> Digest {
    words_digest(text, &normalize(text))
}

/// Of documents with equal keys, the first in `order` stays. Returns each other one with the one that stays.
pub(crate) fn copies(order: &[usize], key: impl Fn(usize) -> Digest) -> Vec<(usize, usize)> {
    let mut keepers: HashMap<Digest, usize> = HashMap::with_capacity(order.len());
    let copy = |&idx: &usize| Some((idx, *keepers.entry(key(idx)).or_insert(idx))).filter(|(idx, of)| idx != of);
    order.iter().filter_map(copy).collect()
}
