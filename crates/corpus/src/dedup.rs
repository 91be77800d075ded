//! Duplicates, by the bytes of the text and by its words.

use std::collections::HashMap;

use arable_core::{Digest, Document};

use crate::config::DedupConfig;
use crate::reject::{DropReason, Dropped};
use crate::words::normalize;

/// What stays and what goes.
#[derive(Clone, Debug)]
pub struct Deduped {
    /// One document of each text, in the order in which they came.
    pub kept: Vec<Document>,
    /// The others, each with the document that stays in its place.
    pub dropped: Vec<Dropped>,
}

/// Keeps one document of each text. The one that stays is of the earliest source in `sources`, and in it the one with
/// the smallest id: the choice depends on what documents there are, never on the order in which they arrive.
pub fn dedup(config: &DedupConfig, sources: &[&str], documents: Vec<Document>) -> Deduped {
    let ranks = ranks(sources);
    let mut dropped = Vec::new();
    let mut kept = documents;
    if config.exact {
        let key = |document: &Document| Digest::of(document.text.as_bytes());
        kept = keep_first(kept, &ranks, key, |of| DropReason::ExactDuplicate { of }, &mut dropped);
    }
    if config.normalized {
        let key = |document: &Document| words_digest(&document.text);
        kept = keep_first(kept, &ranks, key, |of| DropReason::NormalizedDuplicate { of }, &mut dropped);
    }
    Deduped { kept, dropped }
}

/// The place of each source in the configuration: of duplicates, the one from the earlier source stays.
pub(crate) fn ranks<'a>(sources: &[&'a str]) -> HashMap<&'a str, usize> {
    sources.iter().enumerate().map(|(rank, name)| (*name, rank)).collect()
}

/// The digest of a text's words, of the text itself where it has none.
pub(crate) fn words_digest(text: &str) -> Digest {
    let words = normalize(text);
    Digest::of(if words.is_empty() { text.as_bytes() } else { words.as_bytes() })
}

fn keep_first(
    documents: Vec<Document>,
    ranks: &HashMap<&str, usize>,
    key: impl Fn(&Document) -> Digest,
    reason: impl Fn(String) -> DropReason,
    dropped: &mut Vec<Dropped>,
) -> Vec<Document> {
    let place = |document: &Document| ranks.get(document.source.as_str()).copied().unwrap_or(usize::MAX);
    let keys: Vec<Digest> = documents.iter().map(key).collect();
    let mut keepers: HashMap<Digest, usize> = HashMap::with_capacity(documents.len());
    for (i, document) in documents.iter().enumerate() {
        let keeper = keepers.entry(keys[i]).or_insert(i);
        let other = &documents[*keeper];
        if (place(document), &document.id) < (place(other), &other.id) {
            *keeper = i;
        }
    }
    let keeper_ids: Vec<Option<String>> = (0..documents.len())
        .map(|i| Some(keepers[&keys[i]]).filter(|of| *of != i).map(|of| documents[of].id.clone()))
        .collect();
    let mut kept = Vec::with_capacity(documents.len());
    for (document, keeper_id) in documents.into_iter().zip(keeper_ids) {
        match keeper_id {
            None => kept.push(document),
            Some(of) => dropped.push(Dropped { document, reason: reason(of) }),
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use arable_core::Seed;
    use proptest::prelude::*;

    use super::*;

    const SOURCES: [&str; 3] = ["b", "a", "c"];

    fn documents() -> impl Strategy<Value = Vec<Document>> {
        let text = prop::sample::select(vec!["One two", "one  two!", "one two", "1", "?", "!", "ONE-TWO", "three"]);
        prop::collection::vec((prop::sample::select(SOURCES.to_vec()), text), 0..24).prop_map(|rows| {
            let document = |(i, (source, text)): (usize, (&str, &str))| Document {
                id: format!("{source}/{i}"),
                source: source.to_owned(),
                group: None,
                time: None,
                text: text.to_owned(),
            };
            rows.into_iter().enumerate().map(document).collect()
        })
    }

    fn sorted(mut deduped: Deduped) -> (Vec<Document>, Vec<Dropped>) {
        deduped.kept.sort_by(|a, b| a.id.cmp(&b.id));
        deduped.dropped.sort_by(|a, b| a.document.id.cmp(&b.document.id));
        (deduped.kept, deduped.dropped)
    }

    proptest! {
        #[test]
        fn order_free_and_idempotent(documents in documents(), seed in 0_u64..1000) {
            let config = DedupConfig::default();
            let expected = sorted(dedup(&config, &SOURCES, documents.clone()));
            let mut shuffled = documents.clone();
            Seed(seed).stream("test").at(0, 0).shuffle(&mut shuffled);
            prop_assert_eq!(&sorted(dedup(&config, &SOURCES, shuffled)), &expected);
            let again = sorted(dedup(&config, &SOURCES, expected.0.clone()));
            prop_assert_eq!(&again.0, &expected.0);
            prop_assert!(again.1.is_empty());
            prop_assert_eq!(expected.0.len() + expected.1.len(), documents.len());
            let mut texts: Vec<_> = expected.0.iter().map(|document| words_digest(&document.text)).collect();
            texts.sort_unstable();
            texts.dedup();
            prop_assert_eq!(texts.len(), expected.0.len());
        }
    }

    #[test]
    fn the_earlier_source_stays() {
        let document = |source: &str, id: &str, text: &str| Document {
            id: id.into(),
            source: source.into(),
            group: None,
            time: None,
            text: text.into(),
        };
        let documents = vec![
            document("a", "a/1", "One two."),
            document("b", "b/2", "one two"),
            document("a", "a/0", "One two."),
            document("a", "a/2", "?"),
            document("a", "a/3", "!"),
        ];
        let deduped = dedup(&DedupConfig::default(), &SOURCES, documents.clone());
        let ids: Vec<_> = deduped.kept.iter().map(|document| document.id.as_str()).collect();
        assert_eq!(ids, ["b/2", "a/2", "a/3"]);
        assert_eq!(deduped.dropped[0].reason, DropReason::ExactDuplicate { of: "a/0".into() });
        assert_eq!(deduped.dropped[1].reason, DropReason::NormalizedDuplicate { of: "b/2".into() });
        let off = DedupConfig { exact: false, normalized: false, near: None };
        assert!(dedup(&off, &SOURCES, documents).dropped.is_empty());
    }
}
