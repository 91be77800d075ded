//! Duplicates: of documents with equal keys, one stays.

use arable_core::Digest;

use crate::split::Key;
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
pub(crate) fn copies(order: &[usize], key: impl Fn(usize) -> Key) -> Vec<(usize, usize)> {
    // Sorted pairs take a fourth of the memory of a map.
    let mut places: Vec<(Key, u32)> = order.iter().zip(0..).map(|(&idx, place)| (key(idx), place)).collect();
    places.sort_unstable();
    let idx = |(_, place): &(Key, u32)| order[*place as usize];
    let equal = places.chunk_by(|a, b| a.0 == b.0);
    equal.flat_map(|equal| equal[1..].iter().map(|copy| (idx(copy), idx(&equal[0])))).collect()
}
