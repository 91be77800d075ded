//! The one look at every document, and what is kept of it in memory: a few hundred bytes that decide about it.

use arable_core::{Digest, Document};

use crate::columns::AttributeTable;
use crate::config::CorpusConfig;
use crate::curate::CurateError;
use crate::decide::{Decision, Distinction};
use crate::dedup::words_digest;
use crate::held_out::HeldOut;
use crate::near::Hashes;
use crate::overlap::Index;
use crate::pii::{find_pii, mask_pii};
use crate::sample::Values;
use crate::split::Keys;
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

/// What decides about a document.
pub(crate) struct Seen {
    pub(crate) id: Box<str>,
    /// The place of its source in the configuration.
    pub(crate) rank: usize,
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
    Filtered(Vec<usize>),
    Fine(Box<Traits>),
}

/// What a document is compared with others by.
pub(crate) struct Traits {
    pub(crate) text: Digest,
    /// As it will be, with personal data masked.
    pub(crate) keys: Keys,
    /// As it is, where that is different.
    words: Option<Box<Digest>>,
    pub(crate) bands: Box<[u32]>,
    /// When it was written, where documents are cut apart by time.
    pub(crate) day: Option<Box<str>>,
    /// The held-out examples in it.
    pub(crate) hits: Box<[usize]>,
}

impl Traits {
    pub(crate) fn words(&self) -> Digest {
        self.words.as_ref().map_or(self.keys.words, |words| **words)
    }
}

impl Look<'_> {
    /// Looks at every document. Returns them in order, and the values that a sample tells apart.
    pub(crate) fn at_all(&self, documents: &Documents) -> Result<(Vec<Seen>, Values), CurateError> {
        let hashes = self.config.dedup.near.as_ref().map(Hashes::new);
        let (mut all, mut values) = (Vec::with_capacity(documents.len()), Values::default());
        let by = self.config.sample.as_ref().map_or("", |sample| sample.by.as_str());
        documents.each(
            |block: Block| self.at_block(block, hashes.as_ref()),
            |seen| {
                for (mut seen, value) in seen {
                    if self.distinction.is_some() {
                        seen.value = values.number(value, by)?;
                    }
                    all.push(seen);
                }
                Ok::<_, CurateError>(())
            },
        )?;
        Ok((all, values))
    }

    /// What is seen of each document, and its value.
    fn at_block(&self, block: Block, hashes: Option<&Hashes>) -> Result<Vec<(Seen, Option<String>)>, CurateError> {
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
        let seen = |(at, (document, failed))| self.at(document, failed, quality(at), hashes);
        let seen = block.documents.into_iter().zip(failed).enumerate().map(seen);
        Ok(seen.zip(values).collect())
    }

    fn at(&self, document: Document, failed: Vec<usize>, quality: f64, hashes: Option<&Hashes>) -> Seen {
        let num_words = num_words(&document.text);
        let first = if !failed.is_empty() {
            First::Filtered(failed)
        } else if num_words < self.config.min_words {
            First::TooShort(num_words)
        } else {
            First::Fine(Box::new(self.traits(&document, hashes)))
        };
        let mut sources = self.config.source.iter();
        let rank = sources.position(|source| source.name == document.source).unwrap_or(usize::MAX);
        Seen { id: document.id.into(), rank, quality, value: 0, first }
    }

    fn traits(&self, Document { source, group, time, text, .. }: &Document, hashes: Option<&Hashes>) -> Traits {
        let normalized = normalize(text);
        let (words, hashed) = (words_digest(text, &normalized), word_hashes(&normalized));
        let mask = &self.config.pii.mask;
        let masked = (!mask.is_empty()).then(|| mask_pii(text, &find_pii(text), mask)).flatten();
        let group = group.as_ref().map(|group| format!("{source}/{group}"));
        let by_time = matches!(self.config.held_out, HeldOut::Newer(_));
        let left = masked.map(|text| words_digest(&text, &normalize(&text)));
        Traits {
            text: Digest::of(text.as_bytes()),
            keys: Keys::new(group.as_deref(), left.unwrap_or(words)),
            words: left.map(|_| Box::new(words)),
            bands: hashes.map_or_else(Vec::new, |hashes| hashes.bands(&hashed)).into(),
            day: time.as_deref().filter(|_| by_time).and_then(day).map(Box::from),
            hits: self.index.examples_in(&hashed, self.config.overlap.min_share.get()).into(),
        }
    }
}
