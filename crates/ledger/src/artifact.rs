//! Sealing a folder into an artifact, and opening one again.

use std::io;
use std::path::{Component, Path, PathBuf};

use fs_err as fs;
use serde_json::Value;

use crate::error::{Broken, Flaw, LedgerError};
use crate::files::{
    digest, entries, is_unfinished, make_folder, move_folder, remove_folder, sync_folder, unfinished, with_suffix,
    write_atomic,
};
use crate::manifest::{FileEntry, Fingerprint, MANIFEST, Manifest, SCHEMA_VERSION};

/// Files below this size are hashed even by the quick check: they cost next to nothing.
const SMALL: u64 = 4 << 20;

/// A folder whose manifest was read and checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Artifact {
    path: PathBuf,
    manifest: Manifest,
}

/// How closely files are looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Check {
    /// Every size, and the content of small files.
    Quick,
    /// Every byte.
    Full,
}

impl Artifact {
    /// Opens the artifact in `folder` and verifies every byte of it.
    ///
    /// # Errors
    /// When anything about it is broken.
    pub fn open(folder: &Path) -> Result<Self, Broken> {
        Self::load(folder, Check::Full)
    }

    pub(crate) fn load(folder: &Path, check: Check) -> Result<Self, Broken> {
        let broken = |what| Broken { path: folder.to_owned(), what };
        let manifest = read_manifest(folder).map_err(broken)?;
        check_files(folder, &manifest, check).map_err(broken)?;
        Ok(Self { path: folder.to_owned(), manifest })
    }

    /// Reads every byte again and compares with the manifest.
    ///
    /// # Errors
    /// When a file is missing or changed.
    pub fn verify(&self) -> Result<(), Broken> {
        check_files(&self.path, &self.manifest, Check::Full).map_err(|what| self.broken(what))
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The identity of the content.
    pub fn digest(&self) -> arable_core::Digest {
        self.manifest.digest
    }

    /// The path of one of its files, named relative to the folder.
    ///
    /// # Errors
    /// When the manifest does not list the file.
    pub fn file(&self, name: &str) -> Result<PathBuf, Broken> {
        match self.manifest.files.binary_search_by(|file| file.path.as_str().cmp(name)) {
            Ok(_) => Ok(self.path.join(name)),
            Err(_) => Err(self.broken(Flaw::Missing(name.to_owned()))),
        }
    }

    fn broken(&self, what: Flaw) -> Broken {
        Broken { path: self.path.clone(), what }
    }
}

fn unreadable(file: &str, error: impl ToString) -> Flaw {
    Flaw::Unreadable { file: file.to_owned(), reason: error.to_string() }
}

fn read_manifest(folder: &Path) -> Result<Manifest, Flaw> {
    let text = fs::read(folder.join(MANIFEST)).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Flaw::NoDescription(MANIFEST),
        _ => unreadable(MANIFEST, error),
    })?;
    // The version comes first: a later layout may not parse as this one.
    let value: Value = serde_json::from_slice(&text).map_err(|error| unreadable(MANIFEST, error))?;
    match value["schema_version"].as_u64().and_then(|got| u32::try_from(got).ok()) {
        Some(got) if got != SCHEMA_VERSION => return Err(Flaw::SchemaVersion { got, known: SCHEMA_VERSION }),
        _ => {}
    }
    let manifest: Manifest = serde_json::from_value(value).map_err(|error| unreadable(MANIFEST, error))?;
    if manifest.is_consistent() { Ok(manifest) } else { Err(Flaw::ManifestChanged) }
}

fn check_files(folder: &Path, manifest: &Manifest, check: Check) -> Result<(), Flaw> {
    manifest.files.iter().try_for_each(|entry| check_file(folder, entry, check))
}

fn check_file(folder: &Path, entry: &FileEntry, check: Check) -> Result<(), Flaw> {
    let name = || entry.path.clone();
    if !Path::new(&entry.path).components().all(|part| matches!(part, Component::Normal(_))) {
        return Err(Flaw::Outside(name()));
    }
    let mut file = fs::File::open(folder.join(&entry.path)).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Flaw::Missing(name()),
        _ => unreadable(&entry.path, error),
    })?;
    let got = file.metadata().map_err(|error| unreadable(&entry.path, error))?.len();
    if got != entry.bytes {
        return Err(Flaw::Size { file: name(), expected: entry.bytes, got });
    }
    if check == Check::Quick && entry.bytes >= SMALL {
        return Ok(());
    }
    let (_, content) = digest(&mut file).map_err(|error| unreadable(&entry.path, error))?;
    if content == entry.blake3 { Ok(()) } else { Err(Flaw::Content(name())) }
}

/// Makes an empty folder beside `folder` in which an artifact can be built for [`seal`]; what an earlier attempt left
/// there is removed.
///
/// # Errors
/// When the folder cannot be made.
pub fn workspace(folder: &Path) -> Result<PathBuf, LedgerError> {
    let beside = unfinished(folder);
    remove_folder(&beside)?;
    make_folder(&beside)?;
    Ok(beside)
}

/// Turns the [`workspace`] of `folder` into the artifact `folder`: for artifacts with a name of their own, such as
/// `checkpoints/step-000500`. Another artifact of that name is replaced; a kill in between leaves the old one, the new one
/// or none, but never a part.
///
/// # Errors
/// When hashing or writing fails; nothing then stands under the name that did not before.
pub fn seal(folder: &Path, fingerprint: &Fingerprint, summary: Value) -> Result<Artifact, LedgerError> {
    let built = unfinished(folder);
    let manifest = finish(&built, fingerprint, summary)?;
    let replaced = unfinished(&with_suffix(folder, ".replaced"));
    if folder.exists() {
        remove_folder(&replaced)?;
        move_folder(folder, &replaced)?;
    }
    move_folder(&built, folder)?;
    remove_folder(&replaced)?;
    Ok(Artifact { path: folder.to_owned(), manifest })
}

/// Syncs and hashes every file in `built`, then writes the manifest, last of all.
pub(crate) fn finish(built: &Path, fingerprint: &Fingerprint, summary: Value) -> Result<Manifest, LedgerError> {
    let mut files = vec![];
    collect(built, "", &mut files)?;
    let manifest = Manifest::new(fingerprint, files, summary);
    let text = serde_json::to_string_pretty(&manifest).expect("a manifest has a JSON form");
    write_atomic(&built.join(MANIFEST), text.as_bytes())?;
    Ok(manifest)
}

/// Adds the files of `folder` to `files` under names that start with `prefix`, in sorted order. Links are passed over (an
/// artifact holds its bytes), and the rests of interrupted writes are removed, lest the digest depend on a kill.
fn collect(folder: &Path, prefix: &str, files: &mut Vec<FileEntry>) -> Result<(), LedgerError> {
    for entry in entries(folder)? {
        let path = entry.path();
        let name = entry.file_name().into_string().map_err(|_| LedgerError::NotUtf8 { path: path.clone() })?;
        let kind = entry.file_type()?;
        let relative = format!("{prefix}{name}");
        if kind.is_symlink() || relative == MANIFEST {
            continue;
        }
        match (kind.is_dir(), is_unfinished(&path)) {
            (true, true) => remove_folder(&path)?,
            (true, false) => collect(&path, &format!("{relative}/"), files)?,
            (false, true) => fs::remove_file(&path)?,
            (false, false) => files.push(sync_and_hash(&path, relative)?),
        }
    }
    Ok(sync_folder(folder)?)
}

fn sync_and_hash(path: &Path, relative: String) -> Result<FileEntry, LedgerError> {
    // Opened for writing, because some systems refuse to sync a file that is open for reading only.
    let mut file = fs::OpenOptions::new().read(true).write(true).open(path)?;
    file.sync_all()?;
    let (bytes, blake3) = digest(&mut file)?;
    Ok(FileEntry { path: relative, bytes, blake3 })
}

/// The whole artifact with the highest number among the folders `<prefix><number>` in `folder`, and the broken ones that
/// were passed over on the way, newest first. A folder that does not exist holds none.
///
/// # Errors
/// When the folder cannot be listed.
pub fn newest_valid(folder: &Path, prefix: &str) -> Result<(Option<Artifact>, Vec<Broken>), LedgerError> {
    let mut broken = vec![];
    for (_, path) in numbered(folder, prefix)?.into_iter().rev() {
        match Artifact::open(&path) {
            Ok(artifact) => return Ok((Some(artifact), broken)),
            Err(flawed) => broken.push(flawed),
        }
    }
    Ok((None, broken))
}

fn numbered(folder: &Path, prefix: &str) -> io::Result<Vec<(u64, PathBuf)>> {
    if !folder.exists() {
        return Ok(vec![]);
    }
    let number = |name: &str| name.strip_prefix(prefix)?.parse::<u64>().ok();
    let mut found = vec![];
    for entry in entries(folder)? {
        match number(&entry.file_name().to_string_lossy()) {
            Some(number) if entry.file_type()?.is_dir() => found.push((number, entry.path())),
            _ => {}
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use arable_core::{Digest, Seed};

    use super::*;

    fn fingerprint() -> Fingerprint {
        Fingerprint {
            kind: "checkpoint".into(),
            config_digest: Digest::of(b"config"),
            inputs: vec![],
            seed: Seed(1),
            code_version: "0.1.0".into(),
        }
    }

    fn checkpoint(folder: &Path, step: u64) -> Artifact {
        let path = folder.join(format!("step-{step:06}"));
        let built = workspace(&path).unwrap();
        fs::create_dir(built.join("more")).unwrap();
        fs::write(built.join("weights"), vec![step as u8; 100_000]).unwrap();
        fs::write(built.join("more/state.json"), "{}").unwrap();
        seal(&path, &fingerprint(), serde_json::json!({ "step": step })).unwrap()
    }

    fn cut(path: &Path) {
        let file = fs::OpenOptions::new().write(true).open(path).unwrap();
        file.set_len(file.metadata().unwrap().len() / 2).unwrap();
    }

    #[test]
    fn what_was_sealed_opens_and_gives_its_files() {
        let dir = tempfile::tempdir().unwrap();
        let sealed = checkpoint(dir.path(), 5);
        assert_eq!(Artifact::open(sealed.path()).unwrap(), sealed);
        let names: Vec<_> = sealed.manifest().files.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(names, ["more/state.json", "weights"]);
        assert!(sealed.file("weights").unwrap().exists());
        assert_eq!(sealed.file("nothing").unwrap_err().what, Flaw::Missing("nothing".into()));
    }

    #[test]
    fn the_digest_is_of_the_content_and_not_of_the_way_to_it() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let straight = checkpoint(one.path(), 5);
        let path = two.path().join("step-000005");
        let built = workspace(&path).unwrap();
        fs::create_dir_all(built.join("more/half.tmp")).unwrap();
        fs::write(built.join("more/half.tmp/x"), "rest of an interrupted write").unwrap();
        fs::write(built.join("more/state.json"), "{}").unwrap();
        fs::write(built.join("weights"), vec![5; 100_000]).unwrap();
        fs::write(built.join(MANIFEST), "rest of an interrupted seal").unwrap();
        let crooked = seal(&path, &fingerprint(), Value::Null).unwrap();
        assert_eq!(straight.digest(), crooked.digest());
        assert!(!path.join("more/half.tmp").exists());
    }

    #[test]
    fn every_flaw_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let flaw = |step: u64, harm: &dyn Fn(&Path)| {
            let artifact = checkpoint(dir.path(), step);
            harm(artifact.path());
            Artifact::open(artifact.path()).unwrap_err().what
        };
        let flip = |path: &Path| {
            let mut bytes = fs::read(path).unwrap();
            bytes[70_000] ^= 1;
            fs::write(path, bytes).unwrap();
        };
        let edit = |path: &Path, from: &str, to: &str| {
            let text = fs::read_to_string(path.join(MANIFEST)).unwrap();
            assert!(text.contains(from));
            fs::write(path.join(MANIFEST), text.replace(from, to)).unwrap();
        };
        assert_eq!(flaw(1, &|path| flip(&path.join("weights"))), Flaw::Content("weights".into()));
        assert_eq!(flaw(2, &|path| fs::remove_file(path.join("weights")).unwrap()), Flaw::Missing("weights".into()));
        let short = Flaw::Size { file: "weights".into(), expected: 100_000, got: 50_000 };
        assert_eq!(flaw(3, &|path| cut(&path.join("weights"))), short);
        assert!(matches!(flaw(4, &|path| cut(&path.join(MANIFEST))), Flaw::Unreadable { .. }));
        let absent = Flaw::NoDescription(MANIFEST);
        assert_eq!(flaw(5, &|path| fs::remove_file(path.join(MANIFEST)).unwrap()), absent);
        assert_eq!(flaw(6, &|path| edit(path, "\"step\": 6", "\"step\": 7")), Flaw::ManifestChanged);
        let later = Flaw::SchemaVersion { got: 2, known: 1 };
        assert_eq!(flaw(7, &|path| edit(path, "\"schema_version\": 1", "\"schema_version\": 2")), later);
    }

    #[test]
    fn a_manifest_cannot_reach_outside_its_folder() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("secret"), "s").unwrap();
        let file = FileEntry { path: "../secret".into(), bytes: 1, blake3: Digest::of(b"s") };
        let manifest = Manifest::new(&fingerprint(), vec![file], Value::Null);
        let inner = dir.path().join("inner");
        fs::create_dir(&inner).unwrap();
        fs::write(inner.join(MANIFEST), serde_json::to_string(&manifest).unwrap()).unwrap();
        assert_eq!(Artifact::open(&inner).unwrap_err().what, Flaw::Outside("../secret".into()));
    }

    #[test]
    fn the_newest_whole_checkpoint_is_found_behind_broken_ones() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(newest_valid(&dir.path().join("none"), "step-").unwrap(), (None, vec![]));
        for step in [100, 200, 300, 1_000_000] {
            checkpoint(dir.path(), step);
        }
        fs::create_dir(dir.path().join("step-2000000.tmp")).unwrap();
        cut(&dir.path().join("step-1000000/weights"));
        fs::remove_file(dir.path().join("step-000300").join(MANIFEST)).unwrap();
        let (newest, broken) = newest_valid(dir.path(), "step-").unwrap();
        assert_eq!(newest.unwrap().manifest().summary["step"], 200);
        let names: Vec<_> = broken.iter().map(|broken| broken.path.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["step-1000000", "step-000300"]);
    }

    #[test]
    fn sealing_replaces_a_broken_artifact_of_the_same_name() {
        let dir = tempfile::tempdir().unwrap();
        cut(&checkpoint(dir.path(), 5).path().join("weights"));
        let again = checkpoint(dir.path(), 5);
        assert!(again.verify().is_ok());
        assert_eq!(entries(dir.path()).unwrap().len(), 1);
    }
}
