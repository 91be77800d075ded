//! What the sources hold, as documents on the disk; and the general text beside them.

use std::path::Path;

use anyhow::Result;
use arable_core::{Digest, Probability};
use arable_corpus::{Documents, ReadCounts, SourceConfig, content_digest, fetched_path, read_corpus};
use arable_ledger::Artifact;
use fs_err as fs;
use serde_json::json;

use crate::advice::Advise;
use crate::buckets::{Objects, StoreOptions, is_address};
use crate::run::Run;
use crate::stages::{file, joined, read_json, write_json};

const DOCUMENTS: &str = "documents.jsonl.zst";
const REJECTS: &str = "rejects.jsonl.zst";
/// Objects of buckets, while they are read.
const FETCHED: &str = "fetched";
const COUNTS: &str = "counts.json";

/// What is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The sources of the corpus.
    Own,
    /// General text that the domain is compared with.
    Reference,
}

impl Part {
    pub(crate) const ALL: [Self; 2] = [Self::Own, Self::Reference];

    pub(crate) fn kind(self) -> &'static str {
        match self {
            Self::Own => "documents",
            Self::Reference => "reference",
        }
    }

    pub(crate) fn config(self, run: &Run<'_>) -> (Vec<SourceConfig>, Probability) {
        let config = run.domain.config();
        let sources = if self == Self::Own { &config.corpus.source } else { &config.reference.source };
        (sources.clone(), config.corpus.max_reject_rate)
    }

    /// Whether there is anything to read; a corpus without a source is an error of its own.
    pub(crate) fn is_wanted(self, run: &Run<'_>) -> bool {
        self == Self::Own || !self.config(run).0.is_empty()
    }

    pub(crate) fn inputs(self, run: &Run<'_>) -> Result<Vec<Digest>> {
        let (sources, _) = self.config(run);
        let digest = |source: &SourceConfig| match is_address(&source.path) {
            true => Ok(Objects::find(&source.path, &run.domain.store_options).advise()?.digest()),
            false => content_digest(&source.path, &run.domain.root).advise(),
        };
        let digests = sources.iter().map(digest);
        Ok(vec![joined(digests.collect::<Result<Vec<_>>>()?)])
    }

    fn read(self, run: &mut Run<'_>) -> Result<Artifact> {
        let (config, inputs) = (self.config(run), self.inputs(run)?);
        run.stage(self.kind(), &config, &inputs, |run, draft| {
            let (sources, max_reject_rate) = &config;
            let fetched = draft.path().join(FETCHED);
            let sources = &here(sources, &run.domain.store_options, &fetched)?;
            let [documents, rejects] = [DOCUMENTS, REJECTS].map(|name| draft.path().join(name));
            let read = || read_corpus(sources, *max_reject_rate, &run.domain.root, [&documents, &rejects]);
            let counts = run.device.install(read).advise()?;
            if fetched.exists() {
                fs::remove_dir_all(&fetched)?;
            }
            write_json(&draft.path().join(COUNTS), &counts)?;
            let sum =
                |count: fn(&arable_corpus::SourceCounts) -> usize| counts.sources.iter().map(count).sum::<usize>();
            let (num_documents, num_rejected) = (sum(|source| source.num_documents), sum(|source| source.num_rejected));
            let words = sum(|source| source.num_words) as f64 / 1e6;
            let num_decoded = sum(|source| source.decoded.values().sum());
            let some = |num: usize, what: &str| if num == 0 { String::new() } else { format!("; {num} {what}") };
            let odd = some(num_rejected, "records rejected") + &some(num_decoded, "files decoded");
            Ok(json!({ "text": format!("{num_documents} documents, {words:.2} M words{odd}") }))
        })
    }
}

/// Sources of which every file lies on this machine: objects in buckets are fetched below `folder`.
fn here(sources: &[SourceConfig], options: &StoreOptions, folder: &Path) -> Result<Vec<SourceConfig>> {
    let one = |source: &SourceConfig| {
        if !is_address(&source.path) {
            return Ok(source.clone());
        }
        Objects::find(&source.path, options).and_then(|objects| objects.fetch(folder)).advise()?;
        let path = std::path::absolute(fetched_path(folder, &source.path))?;
        Ok(SourceConfig { path: path.to_string_lossy().into_owned(), ..source.clone() })
    };
    sources.iter().map(one).collect()
}

/// Documents of the domain, and of general text if there is any.
pub(crate) struct Read {
    pub own: Artifact,
    pub reference: Option<Artifact>,
}

impl Read {
    /// The digests of both.
    pub(crate) fn digests(&self) -> Vec<Digest> {
        [&self.own].into_iter().chain(&self.reference).map(Artifact::digest).collect()
    }
}

/// Reads the sources.
pub(crate) fn run(run: &mut Run<'_>) -> Result<Read> {
    let own = Part::Own.read(run)?;
    let reference = Part::Reference.is_wanted(run).then(|| Part::Reference.read(run)).transpose()?;
    Ok(Read { own, reference })
}

pub(crate) fn load(artifact: &Artifact) -> Result<Documents> {
    open(artifact, DOCUMENTS)
}

/// The documents of an artifact in the file `name`.
pub(crate) fn open(artifact: &Artifact, name: &str) -> Result<Documents> {
    Documents::open(&file(artifact, name)?).advise()
}

/// The file of what could not be read, and how many there are of what.
pub(crate) fn rejects(artifact: &Artifact) -> Result<(std::path::PathBuf, ReadCounts)> {
    Ok((file(artifact, REJECTS)?, read_json(&file(artifact, COUNTS)?)?))
}

/// Gives texts to `work` one by one, as they are read.
pub(crate) fn with_texts<T>(
    documents: &Documents,
    source: Option<&str>,
    work: impl FnOnce(&mut (dyn Iterator<Item = String> + Send)) -> Result<T>,
) -> Result<T> {
    let mut failed = None;
    let mut texts = documents
        .iter()
        .map_while(|document| document.map_err(|error| failed = Some(error)).ok())
        .filter(|document| source.is_none_or(|source| document.source == source))
        .map(|document| document.text);
    let done = work(&mut texts);
    drop(texts);
    match failed {
        Some(error) => Err(error).advise(),
        None => done,
    }
}
