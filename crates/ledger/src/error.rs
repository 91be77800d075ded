//! What can go wrong with artifacts and records, and what its reader can do about it.

use std::io;
use std::path::PathBuf;

use arable_core::{Digest, Hint};

/// A folder that claims to be an artifact (or a run) and cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("use `{}`: {what}", path.display())]
pub struct Broken {
    /// The folder.
    pub path: PathBuf,
    /// What is wrong with it.
    pub what: Flaw,
}

/// What is wrong with a broken folder. Files are named relative to it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// The file that describes the folder is missing: the folder was never finished, or not written by Arable.
    #[error("it has no `{0}`")]
    NoDescription(&'static str),
    /// The file that describes the folder cannot be read.
    #[error("its `{file}` is unreadable ({reason})")]
    Unreadable {
        /// The file.
        file: String,
        /// What reading or parsing said.
        reason: String,
    },
    /// The manifest is of another layout than this program knows.
    #[error("its manifest has schema version {got}, this program knows {known}")]
    SchemaVersion {
        /// The version in the manifest.
        got: u32,
        /// The version of this program.
        known: u32,
    },
    /// The manifest does not agree with the digests it carries of itself.
    #[error("its manifest was changed after it was written")]
    ManifestChanged,
    /// The folder was made from something else than its name says.
    #[error("it was made by fingerprint {got}, not {expected}")]
    Fingerprint {
        /// The fingerprint that was looked for.
        expected: Digest,
        /// The fingerprint in the manifest.
        got: Digest,
    },
    /// The manifest names a file outside the folder.
    #[error("its manifest names `{0}`, which lies outside the folder")]
    Outside(String),
    /// A file is missing.
    #[error("its file `{0}` is missing")]
    Missing(String),
    /// A file has another size than the manifest says: it was cut, or written to.
    #[error("its file `{file}` has {got} bytes instead of {expected}")]
    Size {
        /// The file.
        file: String,
        /// Bytes by the manifest.
        expected: u64,
        /// Bytes on the disk.
        got: u64,
    },
    /// A file has other content than the manifest says.
    #[error("its file `{0}` was changed after it was written")]
    Content(String),
}

/// Why the ledger could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// An artifact or a record that cannot be used.
    #[error(transparent)]
    Broken(#[from] Broken),
    /// Another process works on the same artifact.
    #[error("lock `{}`: another process works on it", path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// The artifact that was to be begun exists already.
    #[error("begin `{}`: it exists already", path.display())]
    Exists {
        /// The artifact's folder.
        path: PathBuf,
    },
    /// A file name that a manifest cannot hold.
    #[error("list `{}`: its name is not UTF-8", path.display())]
    NotUtf8 {
        /// The file.
        path: PathBuf,
    },
    /// The disk is full, or a quota is used up.
    #[error("write to a full disk")]
    Full(#[source] io::Error),
    /// Any other failure to read or write; the message names the path.
    #[error(transparent)]
    Io(io::Error),
}

impl From<io::Error> for LedgerError {
    fn from(error: io::Error) -> Self {
        if is_full(&error) { Self::Full(error) } else { Self::Io(error) }
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Advice when `error` says that the disk is full, for whoever writes into a draft and meets the error first.
pub fn free_space_hint(error: &io::Error) -> Option<String> {
    is_full(error).then(|| {
        "free some space (folders of old artifacts and old runs may be deleted, they are rebuilt when needed), \
         then run the same command again. What was finished is kept"
            .to_owned()
    })
}

impl Hint for Broken {
    fn hint(&self) -> Option<String> {
        Some(match &self.what {
            Flaw::SchemaVersion { got, known } if got > known => {
                "use the version of Arable that wrote it, or a later one".to_owned()
            }
            _ => format!("delete the folder to have it rebuilt: {}", self.path.display()),
        })
    }
}

impl Hint for LedgerError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Broken(broken) => broken.hint(),
            Self::Locked { .. } => {
                Some("wait for the other process to finish (its result is then reused), or stop it".to_owned())
            }
            Self::Exists { .. } => Some("run the same command again to reuse it".to_owned()),
            Self::NotUtf8 { .. } => Some("rename the file".to_owned()),
            Self::Full(error) | Self::Io(error) => free_space_hint(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_apart_and_owns_its_advice() {
        let full = LedgerError::from(io::Error::from(io::ErrorKind::StorageFull));
        assert!(matches!(full, LedgerError::Full(_)));
        assert!(full.hint().unwrap().contains("free some space"));
        let denied = LedgerError::from(io::Error::from(io::ErrorKind::PermissionDenied));
        assert!(matches!(denied, LedgerError::Io(_)) && denied.hint().is_none());
    }
}
