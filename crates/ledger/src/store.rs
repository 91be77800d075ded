//! Artifacts by fingerprint: what exists is not made again, what was interrupted is taken up.

use std::fs::TryLockError;
use std::io;
use std::path::{Path, PathBuf};

use fs_err as fs;
use serde_json::Value;

use crate::artifact::{Artifact, Check, finish};
use crate::error::{Broken, Flaw, LedgerError};
use crate::files::{entries, make_folder, move_folder, remove_folder, with_suffix};
use crate::manifest::Fingerprint;

const PARTIAL: &str = ".partial";
const LOCKS: &str = ".locks";

/// A folder of artifacts, each named by the fingerprint of what it was made from.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
}

impl Store {
    /// Opens the store in `root`, which is made when it does not exist.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn open(root: &Path) -> Result<Self, LedgerError> {
        make_folder(&root.join(LOCKS))?;
        Ok(Self { root: root.to_owned() })
    }

    /// The folder where an artifact of this fingerprint is or will be.
    pub fn folder(&self, fingerprint: &Fingerprint) -> PathBuf {
        self.root.join(fingerprint.folder())
    }

    /// The folder in which an artifact of this fingerprint is built.
    pub fn draft_folder(&self, fingerprint: &Fingerprint) -> PathBuf {
        with_suffix(&self.folder(fingerprint), PARTIAL)
    }

    /// The artifact of this fingerprint, if it was made before. Sizes are checked, and the content of files under 4 MiB;
    /// [`Artifact::verify`] checks every byte.
    ///
    /// # Errors
    /// When the artifact is there but broken.
    pub fn find(&self, fingerprint: &Fingerprint) -> Result<Option<Artifact>, LedgerError> {
        let folder = self.folder(fingerprint);
        if !folder.try_exists()? {
            return Ok(None);
        }
        let artifact = Artifact::load(&folder, Check::Quick)?;
        let (expected, got) = (fingerprint.digest(), artifact.manifest().fingerprint().digest());
        if got != expected {
            return Err(Broken { path: folder, what: Flaw::Fingerprint { expected, got } }.into());
        }
        Ok(Some(artifact))
    }

    /// Begins an artifact, or takes up the draft that an earlier process left.
    ///
    /// # Errors
    /// When another process has the draft, when the artifact exists already, or when the folder cannot be made.
    pub fn begin(&self, fingerprint: &Fingerprint) -> Result<Draft, LedgerError> {
        let folder = self.folder(fingerprint);
        let lock = self.lock(fingerprint)?;
        if folder.try_exists()? {
            return Err(LedgerError::Exists { path: folder });
        }
        let partial = self.draft_folder(fingerprint);
        make_folder(&partial)?;
        Ok(Draft { partial, folder, fingerprint: fingerprint.clone(), _lock: lock })
    }

    /// Every artifact in the store, sorted by folder name, with the same checks as [`Store::find`], and the broken ones.
    ///
    /// # Errors
    /// When the store cannot be listed.
    pub fn list(&self) -> Result<(Vec<Artifact>, Vec<Broken>), LedgerError> {
        let (mut whole, mut broken) = (vec![], vec![]);
        for entry in entries(&self.root)? {
            let name = entry.file_name().to_string_lossy().into_owned();
            if !entry.file_type()?.is_dir() || name.starts_with('.') || name.ends_with(PARTIAL) {
                continue;
            }
            match Artifact::load(&entry.path(), Check::Quick) {
                Ok(artifact) => whole.push(artifact),
                Err(flawed) => broken.push(flawed),
            }
        }
        Ok((whole, broken))
    }

    /// Takes the lock of a draft. The system lets go of it when the process ends, however it ends. Lock files stay: to
    /// delete one would let two processes hold the lock of two files of one name.
    fn lock(&self, fingerprint: &Fingerprint) -> Result<fs::File, LedgerError> {
        let path = self.root.join(LOCKS).join(fingerprint.folder());
        let file = fs::OpenOptions::new().create(true).truncate(false).write(true).open(&path)?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(TryLockError::WouldBlock) => Err(LedgerError::Locked { path }),
            // Some network file systems have no locks; there the rename still keeps artifacts whole.
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => Ok(file),
            Err(TryLockError::Error(error)) => Err(error.into()),
        }
    }
}

/// An artifact in the making. Its folder outlives the process, so that long stages can go on where they were killed.
#[derive(Debug)]
pub struct Draft {
    partial: PathBuf,
    folder: PathBuf,
    fingerprint: Fingerprint,
    _lock: fs::File,
}

impl Draft {
    /// The folder to write into. It holds what an earlier, interrupted process wrote.
    pub fn path(&self) -> &Path {
        &self.partial
    }

    /// What the artifact is made from.
    pub fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    /// Removes all that was written.
    ///
    /// # Errors
    /// When the folder cannot be removed.
    pub fn discard(self) -> Result<(), LedgerError> {
        Ok(remove_folder(&self.partial)?)
    }

    /// Makes the draft an artifact: every file is hashed and on the disk before the manifest is written, the manifest
    /// before the folder gets its name. Links are left out, and so is what [`crate::is_unfinished`].
    ///
    /// # Errors
    /// When hashing or writing fails; the draft then stays as it is, and nothing stands under the artifact's name.
    pub fn commit(self, summary: Value) -> Result<Artifact, LedgerError> {
        finish(&self.partial, &self.fingerprint, summary)?;
        move_folder(&self.partial, &self.folder)?;
        Ok(Artifact::load(&self.folder, Check::Quick)?)
    }
}

#[cfg(test)]
mod tests {
    use arable_core::{Digest, Hint, Seed};

    use super::*;

    fn fingerprint(seed: u64) -> Fingerprint {
        Fingerprint {
            kind: "shards".into(),
            config_digest: Digest::of(b"config"),
            inputs: vec![Digest::of(b"corpus")],
            seed: Seed(seed),
            code_version: "0.1.0".into(),
        }
    }

    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("artifacts")).unwrap();
        (dir, store)
    }

    fn build(store: &Store, seed: u64) -> Artifact {
        let draft = store.begin(&fingerprint(seed)).unwrap();
        fs::write(draft.path().join("tokens.bin"), vec![seed as u8; 5 << 20]).unwrap();
        fs::write(draft.path().join("offsets.bin"), [0; 16]).unwrap();
        draft.commit(serde_json::json!({ "num_tokens": 3 })).unwrap()
    }

    #[test]
    fn what_was_built_is_found_and_not_begun_again() {
        let (_dir, store) = store();
        assert!(store.find(&fingerprint(1)).unwrap().is_none());
        let built = build(&store, 1);
        assert_eq!(store.find(&fingerprint(1)).unwrap().unwrap(), built);
        assert!(store.find(&fingerprint(2)).unwrap().is_none());
        assert!(matches!(store.begin(&fingerprint(1)), Err(LedgerError::Exists { .. })));
        assert_eq!(store.list().unwrap(), (vec![built], vec![]));
    }

    #[test]
    fn a_broken_artifact_is_named_with_advice() {
        let (_dir, store) = store();
        let built = build(&store, 1);
        fs::write(built.path().join("offsets.bin"), [1; 16]).unwrap();
        let error = store.find(&fingerprint(1)).unwrap_err();
        let LedgerError::Broken(broken) = &error else { panic!("{error}") };
        assert_eq!((&broken.path, &broken.what), (&built.path().to_owned(), &Flaw::Content("offsets.bin".into())));
        assert!(error.hint().unwrap().contains("delete the folder"));
        assert_eq!(store.list().unwrap().1.len(), 1);
    }

    #[test]
    fn a_flipped_bit_in_a_large_file_is_found_by_verify() {
        let (_dir, store) = store();
        let built = build(&store, 1);
        let mut bytes = fs::read(built.path().join("tokens.bin")).unwrap();
        bytes[3_000_000] ^= 0x10;
        fs::write(built.path().join("tokens.bin"), bytes).unwrap();
        let found = store.find(&fingerprint(1)).unwrap().unwrap();
        assert_eq!(found.verify().unwrap_err().what, Flaw::Content("tokens.bin".into()));
    }

    #[test]
    fn an_artifact_under_a_foreign_name_is_broken() {
        let (_dir, store) = store();
        let built = build(&store, 1);
        fs::rename(built.path(), store.folder(&fingerprint(2))).unwrap();
        let error = store.find(&fingerprint(2)).unwrap_err();
        assert!(matches!(error, LedgerError::Broken(Broken { what: Flaw::Fingerprint { .. }, .. })));
    }

    #[test]
    fn a_draft_survives_its_process_and_can_be_thrown_away() {
        let (_dir, store) = store();
        let draft = store.begin(&fingerprint(1)).unwrap();
        fs::write(draft.path().join("half"), "x").unwrap();
        drop(draft);
        assert!(store.find(&fingerprint(1)).unwrap().is_none());
        let again = store.begin(&fingerprint(1)).unwrap();
        assert!(again.path().join("half").exists());
        again.discard().unwrap();
        assert!(!store.begin(&fingerprint(1)).unwrap().path().join("half").exists());
    }

    #[test]
    fn a_kill_before_or_after_the_manifest_leaves_no_artifact() {
        let (_dir, store) = store();
        let draft = store.begin(&fingerprint(1)).unwrap();
        fs::write(draft.path().join("offsets.bin"), [0; 16]).unwrap();
        finish(draft.path(), draft.fingerprint(), Value::Null).unwrap();
        drop(draft);
        assert!(store.find(&fingerprint(1)).unwrap().is_none());
        assert_eq!(store.list().unwrap(), (vec![], vec![]));
        let resumed = store.begin(&fingerprint(1)).unwrap();
        assert_eq!(resumed.commit(Value::Null).unwrap().manifest().files.len(), 1);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_keeps_the_draft_and_the_name_free() {
        let (_dir, store) = store();
        let draft = store.begin(&fingerprint(1)).unwrap();
        fs::write(draft.path().join("a"), "a").unwrap();
        fs::os::unix::fs::symlink("/dev/full", draft.path().join("manifest.json.tmp")).unwrap();
        let error = draft.commit(Value::Null).unwrap_err();
        assert!(matches!(error, LedgerError::Full(_)), "{error}");
        assert!(store.find(&fingerprint(1)).unwrap().is_none());
        let again = store.begin(&fingerprint(1)).unwrap();
        assert_eq!(again.commit(Value::Null).unwrap().manifest().files.len(), 1);
    }

    #[test]
    fn a_draft_has_one_owner() {
        let (_dir, store) = store();
        let draft = store.begin(&fingerprint(1)).unwrap();
        let error = store.begin(&fingerprint(1)).unwrap_err();
        assert!(matches!(error, LedgerError::Locked { .. }) && error.hint().is_some());
        assert!(store.begin(&fingerprint(2)).is_ok());
        drop(draft);
        assert!(store.begin(&fingerprint(1)).is_ok());
    }
}
