//! What shifted between two profiles, and since the version of the corpus that was accepted last.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::Result;
use arable_core::{Digest, Hint};
use arable_corpus::Profile;
pub use arable_corpus::{Change, DistributionShift, Shift, ShiftError, TermShift, WordShift};
use arable_ledger::{Artifact, Store, read_record};
use fs_err as fs;
use serde::{Deserialize, Serialize};

use crate::advice::Advise;
use crate::stages::{corpus, profile, read_json, write_json};

/// A profile that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// No profile, or several, have a name.
    #[error("find the profile `{name}`: {num} fit")]
    Name {
        /// What was asked for.
        name: String,
        /// How many fit.
        num: usize,
        /// The profiles there are, the newest first.
        all: Vec<String>,
    },
    /// A file that is no profile.
    #[error("read `{}` as a profile", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the JSON reader says.
        source: serde_json::Error,
    },
    /// The profile of the version that was accepted last is gone.
    #[error("find the profile {} of the version that `{}` says was accepted", digest.short(), path.display())]
    Gone {
        /// Its digest.
        digest: Digest,
        /// What says so.
        path: PathBuf,
    },
}

impl Hint for ProfileError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Name { all, .. } if all.is_empty() => {
                "`arable profile` and `arable run` make one; `--out` says where".to_owned()
            }
            Self::Name { all, .. } => format!(
                "say `latest`, `previous`, the name of a run, the beginning of the digest of a profile or of a version of \
                 the corpus, or a file that `arable profile --json` wrote; the profiles are {}",
                all.join(", ")
            ),
            Self::File { .. } => "`arable profile --json` writes one".to_owned(),
            Self::Gone { path, .. } => format!("remove {} to accept the next version that passes", path.display()),
        })
    }
}

/// What shifted from the profile `before` to `after`, as [`ProfileError::hint`] says they are named.
///
/// # Errors
/// When there is no such profile, or it has nothing to be compared by.
pub fn diff(out: &Path, before: &str, after: &str) -> Result<Shift> {
    let (before, after) = (find(out, before)?, find(out, after)?);
    arable_corpus::shift(&before, &after).advise()
}

/// Artifacts below `out` with the time that they were made, the newest first.
fn artifacts(out: &Path) -> Result<Vec<(SystemTime, Artifact)>> {
    let folder = out.join("artifacts");
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let (whole, _) = Store::open(&folder).advise()?.list().advise()?;
    let dated =
        |artifact: Artifact| Ok((fs::metadata(artifact.path().join(arable_ledger::MANIFEST))?.modified()?, artifact));
    let mut found = whole.into_iter().map(dated).collect::<Result<Vec<_>>>()?;
    found.sort_by_key(|(made, artifact)| (std::cmp::Reverse(*made), artifact.digest()));
    Ok(found)
}

fn find(out: &Path, name: &str) -> Result<Profile> {
    let path = Path::new(name);
    if path.is_file() {
        let read = serde_json::from_slice(&fs::read(path)?);
        return read.map_err(|source| ProfileError::File { path: path.to_owned(), source }).advise();
    }
    let all: Vec<Artifact> = artifacts(out)?.into_iter().map(|(_, artifact)| artifact).collect();
    let (profiles, others): (Vec<&Artifact>, Vec<&Artifact>) =
        all.iter().partition(|artifact| artifact.manifest().kind == profile::KIND);
    let begins = |artifact: &Artifact| artifact.digest().to_string().starts_with(name);
    let versions: Vec<&Artifact> =
        others.into_iter().filter(|own| own.manifest().kind == corpus::KIND && begins(own)).collect();
    let record = read_record(&out.join(name)).ok();
    let of_run = record.iter().flat_map(|record| &record.stages).find(|stage| stage.kind == profile::KIND);
    let fits = |(at, own): &(usize, &Artifact)| match (name, of_run) {
        ("latest", _) => *at == 0,
        ("previous", _) => *at == 1,
        (_, Some(stage)) => stage.digest == own.digest(),
        _ => begins(own) || versions.iter().any(|version| is_of(own, version)),
    };
    let found: Vec<&Artifact> = profiles.iter().copied().enumerate().filter(fits).map(|(_, own)| own).collect();
    match found[..] {
        [only] => profile::load(only),
        _ => {
            let all = profiles.iter().map(|own| own.digest().short()).collect();
            Err(ProfileError::Name { name: name.to_owned(), num: found.len(), all }).advise()
        }
    }
}

/// Whether a profile is of the documents that a version of the corpus was made from: both come from the same attributes.
fn is_of(profile: &Artifact, version: &Artifact) -> bool {
    profile.manifest().inputs.last().is_some_and(|attributes| version.manifest().inputs.contains(attributes))
}

/// The version of the corpus that `arable check` accepted last: all that was expected of it was so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// The digest of its profile.
    pub profile: Digest,
    /// The digest of the version.
    pub corpus: Digest,
}

const ACCEPTED: &str = "accepted.json";

/// What shifted since the version that was accepted last in the run's `folder`, if there is one.
pub(crate) fn since_accepted(folder: &Path, now: &Profile) -> Result<Option<Shift>> {
    let path = folder.join(ACCEPTED);
    if !path.exists() {
        return Ok(None);
    }
    let Accepted { profile: digest, .. } = read_json(&path)?;
    let all = artifacts(folder.parent().unwrap_or(folder))?;
    let found = all.into_iter().find(|(_, own)| own.manifest().kind == profile::KIND && own.digest() == digest);
    let Some((_, artifact)) = found else { return Err(ProfileError::Gone { digest, path }).advise() };
    arable_corpus::shift(&profile::load(&artifact)?, now).advise().map(Some)
}

/// Accepts a version.
pub(crate) fn accept(folder: &Path, accepted: Accepted) -> Result<()> {
    fs::create_dir_all(folder)?;
    write_json(&folder.join(ACCEPTED), &accepted)
}
