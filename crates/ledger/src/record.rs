//! Run records: which stages a run went through and how it ended. Times are text that the caller hands in.

use std::io;
use std::path::Path;

use arable_core::{Digest, Seed};
use fs_err as fs;
use serde::{Deserialize, Serialize};

use crate::error::{Broken, Flaw, LedgerError};
use crate::files::{entries, make_folder, write_atomic};

/// The name of the record in a run's folder.
pub const RECORD: &str = "run.json";

/// How a run stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// It has begun; if no process works on it, it was killed.
    Running,
    /// It reached its end.
    Done,
    /// It stopped with an error.
    Failed {
        /// What the error said.
        error: String,
    },
    /// A person stopped it.
    Cancelled,
}

/// Whether a stage did its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The artifact was made.
    Built,
    /// It existed already.
    Reused,
}

/// What a stage came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageRecord {
    /// The kind of its artifact.
    pub kind: String,
    /// The identity of its artifact.
    pub digest: Digest,
    /// The name of its artifact's folder in the store.
    pub folder: String,
    /// Whether it was made or found.
    pub outcome: Outcome,
    /// How long that took, in seconds.
    pub wall_s: f64,
}

/// The content of `run.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    /// The run's name, which is its folder's.
    pub name: String,
    /// Digest of the resolved configuration: the run's identity.
    pub config_digest: Digest,
    /// The version of the program.
    pub code_version: String,
    /// The seed that all its randomness grows from.
    pub seed: Seed,
    /// How it stands.
    pub status: RunStatus,
    /// When it began, as RFC 3339 text.
    pub started: String,
    /// When it ended, as RFC 3339 text.
    pub finished: Option<String>,
    /// Its stages so far, in order.
    pub stages: Vec<StageRecord>,
    /// What came out, in one line for a list of runs.
    pub result_line: Option<String>,
}

/// Writes the record of the run in `folder`, which is made when it does not exist. The file is replaced as a whole.
///
/// # Errors
/// When writing fails.
pub fn write_record(folder: &Path, record: &RunRecord) -> Result<(), LedgerError> {
    make_folder(folder)?;
    let text = serde_json::to_string_pretty(record).expect("a record has a JSON form");
    Ok(write_atomic(&folder.join(RECORD), text.as_bytes())?)
}

/// Reads the record of the run in `folder`.
///
/// # Errors
/// When there is none, or when it is not a record.
pub fn read_record(folder: &Path) -> Result<RunRecord, Broken> {
    let broken = |what| Broken { path: folder.to_owned(), what };
    let unreadable = |reason: String| broken(Flaw::Unreadable { file: RECORD.to_owned(), reason });
    let text = fs::read(folder.join(RECORD)).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => broken(Flaw::NoDescription(RECORD)),
        _ => unreadable(error.to_string()),
    })?;
    serde_json::from_slice(&text).map_err(|error| unreadable(error.to_string()))
}

/// The records of all runs in `runs`, sorted by folder name, and the runs whose record cannot be read. Folders without a
/// record, such as the artifact store, are no runs; a folder that does not exist holds none.
///
/// # Errors
/// When the folder cannot be listed.
pub fn list_records(runs: &Path) -> Result<(Vec<RunRecord>, Vec<Broken>), LedgerError> {
    let (mut records, mut broken) = (vec![], vec![]);
    if !runs.exists() {
        return Ok((records, broken));
    }
    for entry in entries(runs)? {
        if !entry.path().join(RECORD).exists() {
            continue;
        }
        match read_record(&entry.path()) {
            Ok(record) => records.push(record),
            Err(flawed) => broken.push(flawed),
        }
    }
    Ok((records, broken))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(name: &str, status: RunStatus) -> RunRecord {
        RunRecord {
            name: name.into(),
            config_digest: Digest::of(b"config"),
            code_version: "0.1.0".into(),
            seed: Seed(7),
            status,
            started: "2026-01-02T03:04:05Z".into(),
            finished: None,
            stages: vec![StageRecord {
                kind: "corpus".into(),
                digest: Digest::of(b"corpus"),
                folder: "corpus-0123456789ab".into(),
                outcome: Outcome::Reused,
                wall_s: 0.1,
            }],
            result_line: Some("82.1 against 74.0".into()),
        }
    }

    #[test]
    fn records_are_listed_by_name_and_broken_ones_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let runs = dir.path().join("runs");
        assert_eq!(list_records(&runs).unwrap(), (vec![], vec![]));
        let first = record("a", RunStatus::Failed { error: "no data".into() });
        let second = record("b", RunStatus::Done);
        write_record(&runs.join("b"), &second).unwrap();
        write_record(&runs.join("a"), &record("a", RunStatus::Running)).unwrap();
        write_record(&runs.join("a"), &first).unwrap();
        fs::create_dir(runs.join("artifacts")).unwrap();
        fs::create_dir(runs.join("c")).unwrap();
        fs::write(runs.join("c").join(RECORD), "{\"name\":").unwrap();
        let (records, broken) = list_records(&runs).unwrap();
        assert_eq!(records, [first, second]);
        assert_eq!(broken.len(), 1);
        assert_eq!(broken[0].path, runs.join("c"));
        assert_eq!(read_record(&runs.join("artifacts")).unwrap_err().what, Flaw::NoDescription(RECORD));
    }
}
