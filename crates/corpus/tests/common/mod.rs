//! Where the public data sets are, and curation with all that it writes read back.

#![allow(clippy::unwrap_used, clippy::print_stdout, dead_code, reason = "tests, of which each uses a part")]

use std::path::{Path, PathBuf};

use arable_core::{Document, Seed};
use arable_corpus::{
    AttributeTable, CorpusConfig, CorpusCounts, CurateError, Documents, Dropped, HeldOutSet, Material, Outputs,
    ReadCounts, RefusedPair, Scorers, SourceCounts, curate, measure_all, read_corpus, write_documents, write_rejects,
};
use serde_json::Value;

/// A curated corpus in memory.
#[derive(Debug, PartialEq)]
pub struct Curated {
    pub train: Vec<Document>,
    pub held_out: Vec<Document>,
    pub dropped: Vec<Dropped>,
    pub refused: Vec<RefusedPair>,
    pub rejects: Vec<Value>,
    pub counts: CorpusCounts,
}

/// Reads and curates the sources of `config`.
pub fn curated(config: &CorpusConfig, root: &Path, sets: &[HeldOutSet], seed: Seed) -> Result<Curated, CurateError> {
    let folder = tempfile::tempdir().unwrap();
    let [documents, rejects] = ["documents", "rejects"].map(|name| folder.path().join(name));
    let counts = read_corpus(&config.source, config.max_reject_rate, root, [&documents, &rejects])?;
    curated_in(folder.path(), config, root, counts, sets, seed)
}

/// Curates documents as if they had been read.
pub fn curated_documents(
    config: &CorpusConfig,
    documents: &[Document],
    sets: &[HeldOutSet],
) -> Result<Curated, CurateError> {
    let folder = tempfile::tempdir().unwrap();
    write_documents(&folder.path().join("documents"), documents).unwrap();
    write_rejects(&folder.path().join("rejects"), &[]).unwrap();
    let count = |source: &arable_corpus::SourceConfig| {
        let own = documents.iter().filter(|document| document.source == source.name);
        SourceCounts { name: source.name.clone(), num_documents: own.count(), ..SourceCounts::default() }
    };
    let counts = ReadCounts { sources: config.source.iter().map(count).collect(), ..ReadCounts::default() };
    curated_in(folder.path(), config, folder.path(), counts, sets, Seed(1))
}

fn curated_in(
    folder: &Path,
    config: &CorpusConfig,
    root: &Path,
    counts: ReadCounts,
    sets: &[HeldOutSet],
    seed: Seed,
) -> Result<Curated, CurateError> {
    let path = |name: &str| folder.join(name);
    let documents = Documents::open(&path("documents")).unwrap();
    let attributes = config.reads_attributes().then(|| {
        let scorers = Scorers::new(config, root, &documents, &[], seed).unwrap();
        measure_all(&documents, &scorers, &path("attributes")).unwrap();
        AttributeTable::open(&path("attributes"), &documents).unwrap()
    });
    let (rejects, [train, held_out, quarantine]) = (path("rejects"), ["train", "held_out", "quarantine"].map(path));
    let material = Material { documents: &documents, rejects: &rejects, counts, attributes: attributes.as_ref() };
    let outputs = Outputs { train: &train, held_out: &held_out, quarantine: &quarantine };
    let counts = curate(config, material, sets, seed, &outputs)?;
    let all = |path: &Path| Documents::open(path).unwrap().iter().collect::<Result<Vec<_>, _>>().unwrap();
    let lines = String::from_utf8(zstd::decode_all(std::fs::File::open(&quarantine).unwrap()).unwrap()).unwrap();
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |kind: &'static str| lines.iter().filter_map(move |line| line.get(kind)).cloned();
    Ok(Curated {
        train: all(&train),
        held_out: all(&held_out),
        dropped: of("drop").map(|line| serde_json::from_value(line).unwrap()).collect(),
        refused: of("refused").map(|line| serde_json::from_value(line).unwrap()).collect(),
        rejects: of("reject").collect(),
        counts,
    })
}

/// The folder of the data sets, or `None`, said aloud, where they are not at hand.
pub fn data() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    let data = std::env::var_os("ARABLE_DATA").map_or(beside, PathBuf::from);
    if !data.join("biomed/tasks").is_dir() {
        println!("SKIPPED: no data sets in `{}`; set ARABLE_DATA to their folder", data.display());
        return None;
    }
    Some(data)
}
