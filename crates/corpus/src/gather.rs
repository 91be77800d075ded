//! From sources to documents on the disk.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use arable_core::{Document, Probability};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::config::SourceConfig;
use crate::curate::CurateError;
use crate::read::{check_rejects, read_source};
use crate::reject::{Reject, count_by_reason};
use crate::store::{Writer, line_of, write_rejects};
use crate::words::num_words;

/// What was read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadCounts {
    /// One entry for each source, in the order of the configuration.
    pub sources: Vec<SourceCounts>,
    /// Records that could not be read, by reason.
    pub rejects: BTreeMap<String, usize>,
}

/// Counts of one source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceCounts {
    /// The source's name.
    pub name: String,
    /// Records read as documents.
    pub num_documents: usize,
    /// Words (separated by white space) in them.
    pub num_words: usize,
    /// Records that could not be read.
    pub num_rejected: usize,
    /// Documents kept, for training or aside.
    pub num_kept: usize,
    /// Files that were not UTF-8, by the encoding that they were decoded from.
    pub decoded: BTreeMap<String, usize>,
}

/// What else is known of a source once it is read.
struct Read {
    rejects: Vec<Reject>,
    decoded: BTreeMap<String, usize>,
}

/// Documents of one source that follow each other.
struct Part {
    source: usize,
    documents: Vec<Document>,
}

/// Text that is handed over at a time, in bytes.
const PART_BYTES: usize = 4 << 20;
/// Handovers that wait, at most.
const NUM_AHEAD: usize = 2;

/// Reads the sources, whose paths are relative to `root`, and writes their documents, by source, file and line, and what
/// could not be read. A thread reads ahead of what is written.
///
/// # Errors
/// When a source has no usable name, cannot be read or has too many rejects, or when a file cannot be written.
pub fn read_corpus(
    sources: &[SourceConfig],
    max_reject_rate: Probability,
    root: &Path,
    [documents, rejects]: [&Path; 2],
) -> Result<ReadCounts, CurateError> {
    check_sources(sources)?;
    let mut counts = ReadCounts::default();
    counts
        .sources
        .extend(sources.iter().map(|source| SourceCounts { name: source.name.clone(), ..Default::default() }));
    let (give, given) = sync_channel(NUM_AHEAD);
    let read = thread::scope(|scope| {
        let reader = scope.spawn(|| read_all(sources, max_reject_rate, root, give));
        let written = write_all(documents, given, &mut counts.sources);
        let read = reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        written.and(read)
    })?;
    let mut all = Vec::new();
    for (counts, read) in counts.sources.iter_mut().zip(read) {
        (counts.num_rejected, counts.decoded) = (read.rejects.len(), read.decoded);
        all.extend(read.rejects);
    }
    write_rejects(rejects, &all)?;
    Ok(ReadCounts { rejects: count_by_reason(&all), ..counts })
}

fn check_sources(sources: &[SourceConfig]) -> Result<(), CurateError> {
    let mut names = BTreeSet::new();
    for SourceConfig { name, .. } in sources {
        let problem = match name {
            name if name.is_empty() => "is empty",
            name if name.contains('/') => "contains `/`",
            name if !names.insert(name) => "occurs twice",
            _ => continue,
        };
        return Err(CurateError::SourceName { name: name.clone(), problem });
    }
    if sources.is_empty() { Err(CurateError::NoSource) } else { Ok(()) }
}

/// Gives the documents of all sources away, and returns what is rejected of each. Ends early when nobody takes them.
fn read_all(
    sources: &[SourceConfig],
    max_reject_rate: Probability,
    root: &Path,
    give: SyncSender<Part>,
) -> Result<Vec<Read>, CurateError> {
    let mut all = Vec::new();
    for (number, source) in sources.iter().enumerate() {
        let failed = |error| CurateError::Read { name: source.name.clone(), source: Box::new(error) };
        let (mut documents, mut num_bytes, mut num_records, mut rejects) = (Vec::new(), 0, 0, Vec::new());
        let mut records = read_source(source, root).map_err(failed)?;
        for record in records.by_ref() {
            num_records += 1;
            match record.map_err(failed)? {
                Ok(document) => {
                    num_bytes += document.text.len();
                    documents.push(document);
                }
                Err(reject) => rejects.push(reject),
            }
            if num_bytes >= PART_BYTES {
                num_bytes = 0;
                if give.send(Part { source: number, documents: std::mem::take(&mut documents) }).is_err() {
                    return Ok(all);
                }
            }
        }
        check_rejects(&source.name, &rejects, num_records, max_reject_rate).map_err(failed)?;
        let decoded = records.decoded().iter().map(|(name, num)| ((*name).to_owned(), *num)).collect();
        all.push(Read { rejects, decoded });
        if give.send(Part { source: number, documents }).is_err() {
            return Ok(all);
        }
    }
    Ok(all)
}

fn write_all(path: &Path, given: Receiver<Part>, counts: &mut [SourceCounts]) -> Result<(), CurateError> {
    let mut writer = Writer::create(path)?;
    for Part { source, documents } in given {
        let lines: Vec<(Vec<u8>, usize)> =
            documents.par_iter().map(|document| (line_of(document), num_words(&document.text))).collect();
        for (line, num_words) in lines {
            counts[source].num_documents += 1;
            counts[source].num_words += num_words;
            writer.line(&line)?;
        }
    }
    Ok(writer.finish()?)
}
