//! The one look at every document, and what is kept of it in memory: a few hundred bytes that decide about it.

use arable_core::{Digest, Document};

use crate::columns::AttributeTable;
use crate::config::CorpusConfig;
use crate::curate::CurateError;
use crate::decide::{Decision, Distinction};
use crate::dedup::words_digest;
use crate::held_out::HeldOut;
use crate::near::{Bands, Hashes};
use crate::overlap::Index;
use crate::pii::{find_pii, mask_pii};
use crate::sample::Values;
use crate::split::{Key, Keys};
use crate::store::{Block, Documents};
use crate::times::day;
use crate::words::{normalize, num_words, word_hashes};

/// Looks at documents, and says what decides about them.
pub(crate) struct Look<'a> {
    pub(crate) config: &'a CorpusConfig,
    pub(crate) decision: Option<&'a Decision>,
    /// What tells documents of a sample apart.
    pub(crate) distinction: Option<&'a Distinction>,
    pub(crate) attributes: Option<&'a AttributeTable>,
    pub(crate) index: &'a Index<'a>,
}

/// What is known once all documents were looked at.
pub(crate) struct Found {
    /// Of each document, in order.
    pub(crate) seen: Vec<Seen>,
    /// What a sample tells apart.
    pub(crate) values: Values,
    /// What near-duplicates are found by.
    pub(crate) bands: Bands,
}

/// What decides about a document.
pub(crate) struct Seen {
    pub(crate) id: Box<str>,
    /// The place of its source in the configuration.
    pub(crate) rank: u32,
    /// As the model of quality has it; the same for all where there is none.
    pub(crate) quality: f64,
    /// The number of its value where a sample is drawn.
    pub(crate) value: u32,
    pub(crate) first: First,
}

/// What shows in a document alone.
pub(crate) enum First {
    TooShort(usize),
    /// The conditions of `keep` that do not hold, by number.
    Filtered(Box<[usize]>),
    Fine(Box<Traits>),
}

/// What a document is compared with others by.
pub(crate) struct Traits {
    pub(crate) text: Key,
    /// As it will be, with personal data masked.
    pub(crate) keys: Keys,
    /// As it is, where that is different.
    words: Option<Box<Key>>,
    /// When it was written, where documents are cut apart by time.
    pub(crate) day: Option<Box<str>>,
    /// The held-out examples in it.
    pub(crate) hits: Box<[usize]>,
}

impl Traits {
    pub(crate) fn words(&self) -> Key {
        self.words.as_ref().map_or(self.keys.words, |words| **words)
    }
}

impl Look<'_> {
    /// Looks at every document.
    pub(crate) fn at_all(&self, documents: &Documents) -> Result<Found, CurateError> {
        let near = self.config.dedup.near.as_ref();
        let hashes = near.map(Hashes::new);
        let bands = near.map_or_else(Bands::default, |near| Bands::with_capacity(near, documents.len()));
        let mut found = Found { seen: Vec::with_capacity(documents.len()), values: Values::default(), bands };
        let by = self.config.sample.as_ref().map_or("", |sample| sample.by.as_str());
        documents.each(
            |block: Block| self.at_block(block, hashes.as_ref()),
            |block| {
                for (mut seen, bands, value) in block {
                    if self.distinction.is_some() {
                        seen.value = found.values.number(value, by)?;
                    }
                    found.bands.push(&bands);
                    found.seen.push(seen);
                }
                Ok::<_, CurateError>(())
            },
        )?;
        Ok(found)
    }

    /// What is seen of each document, its bands and its value.
    fn at_block(&self, block: Block, hashes: Option<&Hashes>) -> Result<Vec<Looked>, CurateError> {
        let attributes = self.attributes.map(|table| table.block(&block)).transpose()?;
        let known = attributes.as_deref();
        let failed = match (self.decision, known) {
            (Some(decision), Some(known)) => decision.failed(&block.documents, known)?,
            _ => vec![Vec::new(); block.documents.len()],
        };
        let values = match (self.distinction, known) {
            (Some(distinction), Some(known)) => distinction.of(&block.documents, known)?,
            _ => vec![None; block.documents.len()],
        };
        let quality = |at: usize| known.and_then(|known| known[at].quality).unwrap_or_default();
        let seen = |(at, ((document, failed), value))| {
            let (seen, bands) = self.at(document, failed, quality(at), hashes);
            (seen, bands, value)
        };
        Ok(block.documents.into_iter().zip(failed).zip(values).enumerate().map(seen).collect())
    }

    fn at(&self, document: Document, failed: Vec<usize>, quality: f64, hashes: Option<&Hashes>) -> (Seen, Vec<u32>) {
        let num_words = num_words(&document.text);
        let (first, bands) = if !failed.is_empty() {
            (First::Filtered(failed.into()), Vec::new())
        } else if num_words < self.config.min_words {
            (First::TooShort(num_words), Vec::new())
        } else {
            let (traits, bands) = self.traits(&document, hashes);
            (First::Fine(Box::new(traits)), bands)
        };
        let mut sources = self.config.source.iter();
        let rank = sources.position(|source| source.name == document.source).map_or(u32::MAX, |rank| rank as u32);
        (Seen { id: document.id.into(), rank, quality, value: 0, first }, bands)
    }

    fn traits(
        &self,
        Document { source, group, time, text, .. }: &Document,
        hashes: Option<&Hashes>,
    ) -> (Traits, Vec<u32>) {
        let normalized = normalize(text);
        let (words, hashed) = (words_digest(text, &normalized), word_hashes(&normalized));
        let mask = &self.config.pii.mask;
        let masked = (!mask.is_empty()).then(|| mask_pii(text, &find_pii(text), mask)).flatten();
        let group = group.as_ref().map(|group| format!("{source}/{group}"));
        let by_time = matches!(self.config.held_out, HeldOut::Newer(_));
        let left = masked.map(|text| words_digest(&text, &normalize(&text)));
        let traits = Traits {
            text: Digest::of(text.as_bytes()).into(),
            keys: Keys::new(group.as_deref(), left.unwrap_or(words)),
            words: left.map(|_| Box::new(words.into())),
            day: time.as_deref().filter(|_| by_time).and_then(day).map(Box::from),
            hits: self.index.examples_in(&hashed, self.config.overlap.min_share.get()).into(),
        };
        (traits, hashes.map_or_else(Vec::new, |hashes| hashes.bands(&hashed)))
    }
}

/// What is seen of a document, its bands, and its value where a sample is drawn.
type Looked = (Seen, Vec<u32>, Option<String>);
