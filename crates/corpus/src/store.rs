//! Documents and quarantine on disk: zstd-packed JSON lines, the same bytes for the same documents.

use std::io::{self, BufRead, Write};
use std::path::{Path, PathBuf};

use arable_core::{Document, Hint};
use fs_err as fs;
use serde::Serialize;

use crate::files::{FileError, open, reading_failed};
use crate::near::RefusedPair;
use crate::reject::{Dropped, Reject};

/// A file of documents that cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file cannot be written.
    #[error("write `{}`", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file cannot be read.
    #[error(transparent)]
    Read(#[from] FileError),
    /// A line that is no document.
    #[error("read line {line} of `{}` as a document", path.display())]
    Document {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What the JSON reader says.
        source: serde_json::Error,
    },
}

impl Hint for StoreError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Write { .. } => Some("check that the folder exists, may be written to and has room".to_owned()),
            Self::Read(error) => error.hint(),
            Self::Document { .. } => Some("the file was changed after it was written; make it anew".to_owned()),
        }
    }
}

/// Writes documents as one JSON object per line, packed with zstd; `path` should end in `.jsonl.zst`.
///
/// # Errors
/// When the file cannot be written.
pub fn write_documents(path: &Path, documents: &[Document]) -> Result<(), StoreError> {
    write_lines(path, documents.iter())
}

/// Reads what [`write_documents`] wrote.
///
/// # Errors
/// When the file cannot be read, or a line of it is no document.
pub fn read_documents(path: &Path) -> Result<Vec<Document>, StoreError> {
    let parse = |(i, line): (usize, io::Result<String>)| {
        let line = line.map_err(|error| reading_failed(path, error))?;
        serde_json::from_str(&line).map_err(|source| StoreError::Document {
            path: path.to_owned(),
            line: i + 1,
            source,
        })
    };
    open(path)?.lines().enumerate().map(parse).collect()
}

/// A line of the quarantine.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Quarantined<'a> {
    Reject(&'a Reject),
    Drop(&'a Dropped),
    Refused(&'a RefusedPair),
}

/// Writes what did not become part of a corpus: `{"reject": {source, file, line, reason}}` for records that could not
/// be read, `{"drop": {document, reason}}` for documents left out, `{"refused": {document, with, similarity}}` for pairs
/// that looked alike and both stay; one JSON object per line, packed with zstd.
///
/// # Errors
/// When the file cannot be written.
pub fn write_quarantine(
    path: &Path,
    rejects: &[Reject],
    dropped: &[Dropped],
    refused: &[RefusedPair],
) -> Result<(), StoreError> {
    let left_out = rejects.iter().map(Quarantined::Reject).chain(dropped.iter().map(Quarantined::Drop));
    write_lines(path, left_out.chain(refused.iter().map(Quarantined::Refused)))
}

fn write_lines<T: Serialize>(path: &Path, items: impl Iterator<Item = T>) -> Result<(), StoreError> {
    pack_lines(path, items).map_err(|source| StoreError::Write { path: path.to_owned(), source })
}

fn pack_lines<T: Serialize>(path: &Path, items: impl Iterator<Item = T>) -> io::Result<()> {
    const LEVEL: i32 = 6;
    let mut encoder = zstd::Encoder::new(fs::File::create(path)?, LEVEL)?;
    encoder.include_checksum(true)?;
    for item in items {
        serde_json::to_writer(&mut encoder, &item)?;
        encoder.write_all(b"\n")?;
    }
    encoder.finish()?.flush()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reject::{DropReason, RejectReason};

    fn document(id: &str) -> Document {
        Document { id: id.into(), source: "s".into(), group: Some("g".into()), time: None, text: "a\n\"b\" ü".into() }
    }

    #[test]
    fn documents_round_trip() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("documents.jsonl.zst");
        let documents = vec![document("1"), document("2")];
        write_documents(&path, &documents).unwrap();
        assert_eq!(read_documents(&path).unwrap(), documents);
        let bytes = fs::read(&path).unwrap();
        write_documents(&path, &documents).unwrap();
        assert_eq!(fs::read(&path).unwrap(), bytes);
        fs::write(&path, &bytes[..bytes.len() - 5]).unwrap();
        assert!(matches!(read_documents(&path), Err(StoreError::Read(FileError::Damaged { .. }))));
        fs::write(&path, "{}\n").unwrap();
        assert!(matches!(read_documents(&path), Err(StoreError::Document { line: 1, .. })));
    }

    #[test]
    fn quarantine_gives_reason_and_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("quarantine.jsonl.zst");
        let reason = RejectReason::WrongColumnCount { expected: 2, got: 3 };
        let reject = Reject { source: "s".into(), file: "a.csv".into(), line: 7, reason };
        let dropped = Dropped { document: document("1"), reason: DropReason::ExactDuplicate { of: "s/0".into() } };
        write_quarantine(&path, &[reject], &[dropped], &[]).unwrap();
        let text = zstd::decode_all(&fs::read(&path).unwrap()[..]).unwrap();
        let text = String::from_utf8(text).unwrap();
        let mut lines = text.lines();
        assert_eq!(
            lines.next().unwrap(),
            r#"{"reject":{"source":"s","file":"a.csv","line":7,"reason":{"wrong_column_count":{"expected":2,"got":3}}}}"#
        );
        assert!(lines.next().unwrap().ends_with(r#""reason":{"exact_duplicate":{"of":"s/0"}}}}"#));
    }
}
