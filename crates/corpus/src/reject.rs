//! What did not become a document, and why.

use std::collections::BTreeMap;

use arable_core::Document;
use serde::{Deserialize, Serialize};

use crate::near::Similarity;

/// A record that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reject {
    /// The source or task it belongs to.
    pub source: String,
    /// The file, relative to the data root where it lies below it.
    pub file: String,
    /// The line, counted from 1.
    pub line: u64,
    /// What is wrong with it.
    pub reason: RejectReason,
}

/// What is wrong with a record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum RejectReason {
    /// Bytes that are not UTF-8.
    #[error("not UTF-8")]
    InvalidUtf8,
    /// A line that is not a JSON object.
    #[error("not a JSON object: {problem}")]
    InvalidJson {
        /// What the JSON reader says.
        problem: String,
    },
    /// A file that is not XML, from here on.
    #[error("not XML: {problem}")]
    InvalidXml {
        /// What the XML reader says.
        problem: String,
    },
    /// A file that its reader cannot read.
    #[error("not readable: {problem}")]
    Unreadable {
        /// What the reader says, or how it failed.
        problem: String,
    },
    /// No field of that name, or an empty one where a value is needed.
    #[error("no field `{field}`")]
    MissingField {
        /// The field looked for.
        field: String,
    },
    /// A field with a value of another type.
    #[error("field `{field}` is not {expected}")]
    WrongType {
        /// The field.
        field: String,
        /// What it should be.
        expected: &'static str,
    },
    /// Nothing but white space.
    #[error("empty text")]
    EmptyText,
    /// A line with more or fewer columns than there should be.
    #[error("{got} columns instead of {expected}")]
    WrongColumnCount {
        /// Columns by the header (2 at least for CoNLL).
        expected: usize,
        /// Columns in the line.
        got: usize,
    },
    /// A quoted cell that is never closed.
    #[error("a quoted cell is never closed")]
    UnclosedQuote,
    /// A line or file longer than the limit.
    #[error("longer than {max_bytes} bytes")]
    TooLong {
        /// The limit.
        max_bytes: usize,
    },
    /// Packed bytes that expand to much more than text does.
    #[error("expands more than {max_times} times, to over {} GiB", bytes >> 30)]
    Expands {
        /// The limit.
        max_times: u64,
        /// What may come out of anything.
        bytes: u64,
    },
    /// An archive with more members than the limit.
    #[error("more than {max_members} members")]
    TooManyMembers {
        /// The limit.
        max_members: usize,
    },
    /// A zip archive whose members share bytes, so that a little is unpacked over and over.
    #[error("its members overlap")]
    OverlappingMembers,
    /// An archive inside an archive.
    #[error("an archive inside an archive")]
    NestedArchive,
    /// A member whose name leads out of its archive.
    #[error("its name leads out of the archive")]
    UnsafeName,
    /// A member that stands for another file.
    #[error("a link")]
    Link,
    /// A text with NUL characters: no text has any, but broken files and other kinds of files do.
    #[error("NUL characters in the text")]
    NulCharacters,
    /// An example without one of the task's markers.
    #[error("no marker `{marker}` in the text")]
    MissingMarker {
        /// The marker looked for.
        marker: String,
    },
    /// A tag that is neither `O` nor `B-...` nor `I-...`.
    #[error("`{tag}` is not an IOB2 tag")]
    InvalidTag {
        /// The tag.
        tag: String,
    },
    /// An example with more words than tags, or fewer.
    #[error("{num_tags} tags for {num_words} words")]
    UnequalLengths {
        /// Words.
        num_words: usize,
        /// Tags.
        num_tags: usize,
    },
    /// A label that training never saw.
    #[error("label `{label}` does not occur in training")]
    UnseenLabel {
        /// The label.
        label: String,
    },
}

impl RejectReason {
    /// A fixed name to count by.
    pub fn name(&self) -> &'static str {
        match self {
            Self::InvalidUtf8 => "invalid_utf8",
            Self::InvalidJson { .. } => "invalid_json",
            Self::InvalidXml { .. } => "invalid_xml",
            Self::Unreadable { .. } => "unreadable",
            Self::MissingField { .. } => "missing_field",
            Self::WrongType { .. } => "wrong_type",
            Self::EmptyText => "empty_text",
            Self::WrongColumnCount { .. } => "wrong_column_count",
            Self::UnclosedQuote => "unclosed_quote",
            Self::TooLong { .. } => "too_long",
            Self::Expands { .. } => "expands",
            Self::TooManyMembers { .. } => "too_many_members",
            Self::OverlappingMembers => "overlapping_members",
            Self::NestedArchive => "nested_archive",
            Self::UnsafeName => "unsafe_name",
            Self::Link => "link",
            Self::NulCharacters => "nul_characters",
            Self::MissingMarker { .. } => "missing_marker",
            Self::InvalidTag { .. } => "invalid_tag",
            Self::UnequalLengths { .. } => "unequal_lengths",
            Self::UnseenLabel { .. } => "unseen_label",
        }
    }

    /// What to do about many of them.
    pub(crate) fn advice(&self) -> String {
        match self {
            Self::InvalidUtf8 => {
                "set `encoding` to what the file is in, or convert it to UTF-8, such as with `iconv`".to_owned()
            }
            Self::InvalidJson { .. } => {
                "write one JSON object per line, or set `format` to what the file is".to_owned()
            }
            Self::InvalidXml { .. } => "check the file with an XML validator".to_owned(),
            Self::Unreadable { .. } => "open the files with another program and save them anew".to_owned(),
            Self::MissingField { field } => format!("give every record the field `{field}`"),
            Self::WrongType { field, expected } => format!("make `{field}` {expected} in every record"),
            Self::EmptyText => "leave records without text out of the file".to_owned(),
            Self::WrongColumnCount { .. } | Self::UnclosedQuote => {
                "check the separator and that cells with separators, quotes or line breaks are quoted".to_owned()
            }
            Self::TooLong { .. } => "cut the text into smaller documents, one per line".to_owned(),
            Self::Expands { .. } | Self::OverlappingMembers => {
                "no text is packed like that; look at the file before you unpack it".to_owned()
            }
            Self::TooManyMembers { .. } => "cut the archive into smaller ones".to_owned(),
            Self::NestedArchive => "unpack the outer archive, or name the members you want with `members`".to_owned(),
            Self::UnsafeName | Self::Link => {
                "pack the archive again with plain files, or name the members you want with `members`".to_owned()
            }
            Self::NulCharacters => {
                "the file was cut off, is in another encoding (set `encoding`), or is no text".to_owned()
            }
            Self::MissingMarker { marker } => format!("mark every text with `{marker}`, or take it out of `markers`"),
            Self::InvalidTag { .. } => "convert the tags to IOB2 (`O`, `B-Type`, `I-Type`)".to_owned(),
            Self::UnequalLengths { .. } => "give every word one tag".to_owned(),
            Self::UnseenLabel { .. } => "add training examples of the label".to_owned(),
        }
    }
}

/// How often each reason occurs, by name.
pub(crate) fn count_by_reason<'a>(rejects: impl IntoIterator<Item = &'a Reject>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for reject in rejects {
        *counts.entry(reject.reason.name().to_owned()).or_default() += 1;
    }
    counts
}

/// A document that was left out on purpose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dropped {
    /// The document.
    pub document: Document,
    /// Why it was left out.
    pub reason: DropReason,
}

/// Why a document was left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum DropReason {
    /// Fewer words than the limit.
    #[error("{num_words} words are too few")]
    TooShort {
        /// Words separated by white space.
        num_words: usize,
    },
    /// Conditions of the expression that decides do not hold.
    #[error("fails {}", failed.join(", "))]
    Filtered {
        /// What does not hold.
        failed: Vec<String>,
    },
    /// The text is equal, byte for byte, to that of another document.
    #[error("equal to {of}")]
    ExactDuplicate {
        /// The document that stays.
        of: String,
    },
    /// The text is equal to that of another document after normalisation.
    #[error("equal to {of} but for spacing and case")]
    NormalizedDuplicate {
        /// The document that stays.
        of: String,
    },
    /// Most of the text's runs of words occur in another document.
    #[error("nearly equal to {of}")]
    NearDuplicate {
        /// The document that stays.
        of: String,
        /// What they share.
        similarity: Similarity,
    },
    /// The text holds a held-out example of a task.
    #[error("holds {example} of the task {task}")]
    Overlap {
        /// The task of the first example found.
        task: String,
        /// The first example found.
        example: String,
        /// Held-out examples found in the document, over all tasks.
        num_examples: usize,
    },
    /// The sample asks for no more documents of this kind.
    #[error("sampled out: there are enough of {value}")]
    SampledOut {
        /// Its value of what the sample tells documents apart by.
        value: String,
    },
}
