//! Versions of the corpus: what was curated before, how two of them differ, and one of them written out again.
//!
//! A version is an artifact of the stage `corpus`, named by the digest of its content; neither time nor place is part of it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::Result;
use arable_core::{Digest, Document, Hint};
use arable_corpus::{Block, Documents, StoreError, each_dropped, unpack};
pub use arable_ledger::Broken;
use arable_ledger::{Artifact, FileEntry, Store};
use fs_err as fs;
use serde::Serialize;

use crate::advice::Advise;
use crate::results::CorpusFacts;
use crate::stages::corpus::{FACTS, HELD_OUT, KIND, QUARANTINE, TRAIN};
use crate::stages::{file, read_json};

mod croissant;

/// A version that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum VersionError {
    /// Nothing was curated yet.
    #[error("find a version of the corpus in `{}`", out.display())]
    None {
        /// Where runs are.
        out: PathBuf,
    },
    /// No version, or several, have a name.
    #[error("find the version `{name}`: {} versions have a digest that begins so", found.len())]
    Name {
        /// What was asked for.
        name: String,
        /// The versions that fit, or all where none does.
        found: Vec<String>,
        /// All versions.
        all: Vec<String>,
    },
    /// A place to write to that is taken.
    #[error("write to `{}`: there is something already", path.display())]
    Taken {
        /// The folder.
        path: PathBuf,
    },
}

impl Hint for VersionError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::None { .. } => "`arable run` and `arable check` curate one; `--out` says where".to_owned(),
            Self::Name { found, all, .. } => {
                let names = if found.is_empty() { all } else { found };
                format!("say `latest`, `previous`, or enough of one of {}", names.join(", "))
            }
            Self::Taken { .. } => "name a folder that does not exist yet".to_owned(),
        })
    }
}

/// A version in the list.
#[derive(Clone, Debug, Serialize)]
pub struct Version {
    /// The digest of its content.
    pub digest: Digest,
    /// When it was made.
    pub made: String,
    /// Documents, held out ones among them.
    pub num_documents: usize,
    /// Words to train on.
    pub num_words: usize,
    /// What curation left out.
    pub num_dropped: usize,
}

/// Everything about a version but its documents.
#[derive(Clone, Debug, Serialize)]
pub struct Contents {
    /// What the list says.
    pub version: Version,
    /// Digests of what it was made from: documents, attributes and tasks.
    pub inputs: Vec<Digest>,
    /// Its files.
    pub files: Vec<FileEntry>,
    /// What was kept and what was left out.
    pub facts: CorpusFacts,
}

/// How two versions differ.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Difference {
    /// Counts of each source.
    pub sources: BTreeMap<String, Changes>,
    /// Documents that only the second has.
    pub added: Vec<String>,
    /// Documents that only the first has, with why the second left them out; `not read` where it never saw them.
    pub removed: Vec<(String, String)>,
    /// Documents of one id with another text.
    pub changed: Vec<String>,
}

/// Documents of a source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Changes {
    /// In the second alone.
    pub num_added: usize,
    /// In the first alone.
    pub num_removed: usize,
    /// In both, with another text.
    pub num_changed: usize,
    /// The same in both.
    pub num_equal: usize,
}

/// The versions below `out`, the newest first, and artifacts that are broken.
///
/// # Errors
/// When there is none, or one cannot be read.
pub fn log(out: &Path) -> Result<(Vec<Version>, Vec<Broken>)> {
    let (artifacts, broken) = artifacts(out)?;
    let versions = artifacts.iter().map(|(made, artifact)| version(*made, artifact)).collect::<Result<_>>()?;
    Ok((versions, broken))
}

/// A curated corpus and when it was made.
type Dated = (SystemTime, Artifact);

/// Curated corpora, the newest first.
fn artifacts(out: &Path) -> Result<(Vec<Dated>, Vec<Broken>)> {
    let none = || VersionError::None { out: out.to_owned() };
    let folder = out.join("artifacts");
    if !folder.is_dir() {
        return Err(none()).advise();
    }
    let (whole, mut broken) = Store::open(&folder).advise()?.list().advise()?;
    let is_corpus = |path: &Path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("corpus-"));
    broken.retain(|broken| is_corpus(&broken.path));
    let mut found = Vec::new();
    for artifact in whole.into_iter().filter(|artifact| artifact.manifest().kind == KIND) {
        let made = fs::metadata(artifact.path().join(arable_ledger::MANIFEST))?.modified()?;
        found.push((made, artifact));
    }
    found.sort_by_key(|(made, artifact)| (std::cmp::Reverse(*made), artifact.digest()));
    if found.is_empty() && broken.is_empty() { Err(none()).advise() } else { Ok((found, broken)) }
}

fn version(made: SystemTime, artifact: &Artifact) -> Result<Version> {
    let facts: CorpusFacts = read_json(&file(artifact, FACTS)?)?;
    let num_read: usize = facts.sources.iter().map(|source| source.num_documents).sum();
    let num_documents = facts.num_train + facts.num_held_out;
    Ok(Version {
        digest: artifact.digest(),
        made: humantime::format_rfc3339_seconds(made).to_string(),
        num_documents,
        num_words: facts.num_train_words,
        num_dropped: num_read.saturating_sub(num_documents),
    })
}

/// The version called `name`: `latest`, `previous`, or the beginning of a digest.
fn find(out: &Path, name: &str) -> Result<Dated> {
    let (mut all, broken) = artifacts(out)?;
    let place = match name {
        "latest" => Some(0),
        "previous" => Some(1),
        _ => None,
    };
    let digests: Vec<String> = all.iter().map(|(_, artifact)| artifact.digest().to_string()).collect();
    let fits = |at: &usize| place.map_or_else(|| digests[*at].starts_with(name), |place| place == *at);
    let found: Vec<usize> = (0..all.len()).filter(fits).collect();
    if let [only] = found[..] {
        return Ok(all.swap_remove(only));
    }
    if let Some(broken) = broken.into_iter().next().filter(|_| found.is_empty()) {
        // It may well be the one.
        return Err(broken).advise();
    }
    let short = |at: &usize| digests[*at][..12].to_owned();
    let (found, all) = (found.iter().map(short).collect(), (0..all.len()).map(|at| short(&at)).collect());
    Err(VersionError::Name { name: name.to_owned(), found, all }).advise()
}

/// What is known of a version, after a look at every byte of it.
///
/// # Errors
/// When there is no such version or it is not what it was.
pub fn show(out: &Path, name: &str) -> Result<Contents> {
    let (made, artifact) = find(out, name)?;
    artifact.verify().advise()?;
    Ok(Contents {
        version: version(made, &artifact)?,
        inputs: artifact.manifest().inputs.clone(),
        files: artifact.manifest().files.clone(),
        facts: read_json(&file(&artifact, FACTS)?)?,
    })
}

/// Source and text of a document.
type Known = (String, Digest);

/// How the version `after` differs from `before`. Texts stay on the disk.
///
/// # Errors
/// When there is no such version or one cannot be read.
pub fn diff(out: &Path, before: &str, after: &str) -> Result<Difference> {
    let ((_, before), (_, after)) = (find(out, before)?, find(out, after)?);
    let (mut old, new) = (known(&before)?, known(&after)?);
    let mut found = Difference::default();
    for (id, (source, text)) in new {
        let changes = found.sources.entry(source).or_default();
        match old.remove(&id) {
            None => {
                changes.num_added += 1;
                found.added.push(id);
            }
            Some((_, was)) if was == text => changes.num_equal += 1,
            Some(_) => {
                changes.num_changed += 1;
                found.changed.push(id);
            }
        }
    }
    old.values().for_each(|(source, _)| found.sources.entry(source.clone()).or_default().num_removed += 1);
    let mut reasons: BTreeMap<String, String> = BTreeMap::new();
    each_dropped(&file(&after, QUARANTINE)?, |dropped| {
        if old.contains_key(&dropped.document.id) {
            reasons.insert(dropped.document.id, dropped.reason.to_string());
        }
    })
    .advise()?;
    let reason = |id: String| (reasons.remove(&id).unwrap_or_else(|| "not read".to_owned()), id);
    found.removed = old.into_keys().map(reason).map(|(reason, id)| (id, reason)).collect();
    Ok(found)
}

/// The documents of a version by id.
fn known(artifact: &Artifact) -> Result<BTreeMap<String, Known>> {
    let mut known = BTreeMap::new();
    for part in [TRAIN, HELD_OUT] {
        let documents = Documents::open(&file(artifact, part)?).advise()?;
        let digest = |Document { id, source, text, .. }| (id, (source, Digest::of(text.as_bytes())));
        let work = |block: Block| Ok(block.documents.into_iter().map(digest).collect::<Vec<_>>());
        let all = documents.each(work, |some| {
            known.extend(some);
            Ok::<_, StoreError>(())
        });
        all.advise()?;
    }
    Ok(known)
}

/// Writes a version to the folder `to`, which must not exist: its documents and its quarantine as JSON lines, its facts
/// and its manifest, and what it is in Croissant. Every byte is verified before, and the folder gets its name at the end.
///
/// # Errors
/// When there is no such version, it is not what it was, or it cannot be written.
pub fn restore(out: &Path, name: &str, to: &Path) -> Result<Version> {
    if to.exists() {
        return Err(VersionError::Taken { path: to.to_owned() }).advise();
    }
    let (made, artifact) = find(out, name)?;
    artifact.verify().advise()?;
    let beside = arable_ledger::workspace(to).advise()?;
    let mut written = Vec::new();
    for (part, plain) in [(TRAIN, "train.jsonl"), (HELD_OUT, "held_out.jsonl"), (QUARANTINE, "quarantine.jsonl")] {
        let mut content = BufWriter::new(croissant::Summed::create(&beside.join(plain))?);
        unpack(&file(&artifact, part)?, &mut content).advise()?;
        let content = content.into_inner().map_err(io::IntoInnerError::into_error)?;
        let sum = content.finish()?;
        if part != QUARANTINE {
            let (fields, licences) = fields(&artifact, part)?;
            written.push(croissant::Part { path: plain, sum, fields, licences });
        }
    }
    for name in [FACTS, arable_ledger::MANIFEST] {
        fs::copy(artifact.path().join(name), beside.join(name))?;
    }
    let version = version(made, &artifact)?;
    let dataset = to.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let described = croissant::describe(&dataset, &version, &written);
    fs::write(beside.join("croissant.json"), serde_json::to_string_pretty(&described)? + "\n")?;
    fs::rename(&beside, to)?;
    Ok(version)
}

/// Whether a document has a field.
type Has = fn(&Document) -> bool;

/// Which fields any document of a part has, and the licences that they name.
fn fields(artifact: &Artifact, part: &str) -> Result<(Vec<&'static str>, BTreeSet<String>)> {
    const SOME: [(&str, Has); 5] = [
        ("group", |document| document.group.is_some()),
        ("time", |document| document.time.is_some()),
        ("origin", |document| document.origin.is_some()),
        ("licence", |document| document.licence.is_some()),
        ("labels", |document| !document.labels.is_empty()),
    ];
    let mut fields: BTreeSet<&str> = BTreeSet::new();
    let mut licences = BTreeSet::new();
    let documents = Documents::open(&file(artifact, part)?).advise()?;
    let work = |block: Block| {
        let has = |(_, has): &&(&str, Has)| block.documents.iter().any(has);
        let some: Vec<&str> = SOME.iter().filter(has).map(|(name, _)| *name).collect();
        let licences: BTreeSet<String> = block.documents.into_iter().filter_map(|document| document.licence).collect();
        Ok((some, licences))
    };
    let all = documents.each(work, |(some, named)| {
        fields.extend(some);
        licences.extend(named);
        Ok::<_, StoreError>(())
    });
    all.advise()?;
    Ok((fields.into_iter().chain(["id", "source", "text"]).collect(), licences))
}
