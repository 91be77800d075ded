//! Raw text with where it comes from.

use serde::{Deserialize, Serialize};

/// What names a document inside its corpus.
pub type DocumentId = String;

/// A piece of raw text with id, source, time, group, origin, licence and labels. Text is immutable; curation adds decisions
/// beside it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// Unique in the corpus.
    pub id: DocumentId,
    /// The named source it was read from.
    pub source: String,
    /// What must stay on one side of a split (a patient, a page, a book).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// When it was written, as ISO 8601 text of any precision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    /// Where inside its source it comes from: a site, a journal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// The licence that it may be used under.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub licence: Option<String>,
    /// Labels that it came with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    /// The text.
    pub text: String,
}
