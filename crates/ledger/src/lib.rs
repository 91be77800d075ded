//! Artifact store, manifests and run records.
//!
//! An artifact is a folder with a `manifest.json`. A name without `.partial` or `.tmp` at its end is a whole artifact or
//! a broken one, never one that is being written: folders are built beside their name and renamed when every byte is on
//! the disk. Only this room writes manifests. There is no clock here and no database; what a folder holds is the truth.

mod artifact;
mod decision;
mod error;
mod files;
mod manifest;
mod record;
mod store;

pub use artifact::{Artifact, newest_valid, seal, workspace};
pub use decision::{DECISIONS, Decision, decide, decisions};
pub use error::{Broken, Flaw, LedgerError, free_space_hint};
pub use files::{is_unfinished, write_atomic};
pub use manifest::{FileEntry, Fingerprint, MANIFEST, Manifest, SCHEMA_VERSION};
pub use record::{Outcome, RECORD, RunRecord, RunStatus, StageRecord, list_records, read_record, write_record};
pub use store::{Draft, Store};
