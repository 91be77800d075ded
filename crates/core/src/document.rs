//! Raw text with where it comes from.

use serde::{Deserialize, Serialize};

/// What names a document inside its corpus.
pub type DocumentId = String;

/// A piece of raw text with id, source, time and group. Text is immutable; curation adds decisions beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    /// The text.
    pub text: String,
}
