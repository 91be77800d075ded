//! What is measured of every document that the sources hold.

use std::collections::BTreeMap;

use anyhow::Result;
use arable_core::{Digest, Document, Seed};
use arable_corpus::{
    Attributes, CorpusConfig, HeldOutQuality, Scorers, content_digest, measure_all, read_attributes, read_corpus,
    write_attributes,
};
use arable_eval::{BinaryMetrics, binary};
use arable_ledger::Artifact;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::advice::Advise;
use crate::notice::Notice;
use crate::run::Run;
use crate::stages::corpus::sources_digest;
use crate::stages::{file, read_json, tasks, write_json};

pub(crate) const KIND: &str = "attributes";
const FILE: &str = "attributes.parquet";
const FACTS: &str = "facts.json";

/// What was found out about the things that documents are measured against.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct AttributesFacts {
    /// The model of quality, if there is one.
    pub quality: Option<QualityFacts>,
    /// For each task, the words that documents are compared by.
    pub queries: BTreeMap<String, Vec<String>>,
}

/// What the model of quality is worth on examples that it never saw.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct QualityFacts {
    /// Good examples, each text once.
    pub num_good: usize,
    /// Bad examples, each text once.
    pub num_bad: usize,
    /// Texts that are among the good and the bad; they are not learned from.
    pub num_contradictory: usize,
    /// Examples held out.
    pub num_held_out: usize,
    /// How good it is on those.
    pub held_out: BinaryMetrics,
}

/// What the attributes depend on beside the files: how documents are read, and what they are measured against.
pub(crate) fn config(run: &Run<'_>) -> CorpusConfig {
    let CorpusConfig { source, max_reject_rate, quality, relevance, bm25, hazard, .. } =
        run.domain.config().corpus.clone();
    CorpusConfig { source, max_reject_rate, quality, relevance, bm25, hazard, ..CorpusConfig::default() }
}

/// Digests of the files that are read; those of `tasks` where documents are compared with them.
pub(crate) fn inputs(run: &Run<'_>, tasks: &[Artifact]) -> Result<Vec<Digest>> {
    let config = &run.domain.config().corpus;
    let mut paths: Vec<&str> = Vec::new();
    paths.extend(config.quality.iter().flat_map(|quality| [quality.good.as_str(), quality.bad.as_str()]));
    paths.extend(config.relevance.iter().map(|relevance| relevance.target.as_str()));
    paths.extend(config.hazard.iter().filter_map(|hazard| hazard.file.as_deref()));
    let files = paths.into_iter().map(|path| content_digest(path, &run.domain.root).advise());
    let mut digests = vec![sources_digest(run, &config.source)?];
    digests.extend(files.collect::<Result<Vec<_>>>()?);
    digests.extend(tasks.iter().filter(|_| config.bm25.is_some()).map(Artifact::digest));
    Ok(digests)
}

/// Measures every document, without the other stages of a run.
pub(crate) fn alone(run: &mut Run<'_>) -> Result<Artifact> {
    let tasks = if run.domain.config().corpus.bm25.is_some() { tasks::run(run)? } else { Vec::new() };
    self::run(run, &tasks)
}

/// Measures every document.
pub(crate) fn run(run: &mut Run<'_>, tasks: &[Artifact]) -> Result<Artifact> {
    let (config, inputs) = (config(run), inputs(run, tasks)?);
    run.stage(KIND, &config, &inputs, |run, draft| {
        let seed = run.domain.config().seed;
        let documents = read_corpus(&config, &run.domain.root).advise()?.documents;
        let tasks = if config.bm25.is_some() { tasks } else { &[] };
        let tasks = tasks.iter().map(tasks::load).collect::<Result<Vec<_>>>()?;
        let (scorers, attributes, facts) = run.device.install(|| {
            let scorers = Scorers::new(&config, &run.domain.root, &documents, &tasks, seed).advise()?;
            let attributes = measure_all(&documents, &scorers);
            let quality = scorers.held_out_quality.as_ref().and_then(|held_out| facts(held_out, seed));
            anyhow::Ok((scorers.queries, attributes, quality))
        })
        .map(|(queries, attributes, quality)| (queries.clone(), attributes, AttributesFacts { quality, queries }))?;
        write_attributes(&draft.path().join(FILE), &documents, &attributes).advise()?;
        write_json(&draft.path().join(FACTS), &facts)?;
        let text = format!("{} documents measured; {}", attributes.len(), languages(&attributes));
        Ok(json!({ "text": text }))
    })
}

/// The most frequent languages.
fn languages(attributes: &[Attributes]) -> String {
    const MOST: usize = 3;
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for Attributes { language, .. } in attributes {
        *counts.entry(if language.is_empty() { "no language told" } else { language }).or_default() += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
    let share =
        |(name, count): &(&str, usize)| format!("{name} {:.1} %", 100.0 * *count as f64 / attributes.len() as f64);
    counts.iter().take(MOST).map(share).collect::<Vec<_>>().join(", ")
}

/// The attributes of `documents`, as they were read from the sources.
pub(crate) fn load(artifact: &Artifact, documents: &[Document]) -> Result<Vec<Attributes>> {
    read_attributes(&file(artifact, FILE)?, documents).advise()
}
