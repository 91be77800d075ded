//! What is measured of every document that the sources hold.

use std::collections::BTreeMap;

use anyhow::Result;
use arable_core::{Digest, Seed};
use arable_corpus::{
    AttributeTable, Bm25Config, CorpusConfig, Documents, HazardConfig, HeldOutQuality, QualityConfig, RelevanceConfig,
    Scorers, content_digest, measure_all,
};
use arable_eval::{BinaryMetrics, binary};
use arable_ledger::Artifact;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::advice::Advise;
use crate::notice::Notice;
use crate::run::Run;
use crate::stages::documents::{self, Read};
use crate::stages::{file, tasks, write_json};

pub(crate) const KIND: &str = "attributes";
const FILE: &str = "attributes.parquet";

/// What was found out about the things that documents are measured against.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct AttributesFacts {
    /// The model of quality, if there is one.
    quality: Option<QualityFacts>,
    /// For each task, the words that documents are compared by.
    queries: BTreeMap<String, Vec<String>>,
}

/// What the model of quality is worth on examples that it never saw.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct QualityFacts {
    num_good: usize,
    num_bad: usize,
    num_contradictory: usize,
    num_held_out: usize,
    held_out: BinaryMetrics,
}

/// What documents are measured against.
pub(crate) type Against = (Option<QualityConfig>, Option<RelevanceConfig>, Option<Bm25Config>, Option<HazardConfig>);

pub(crate) fn config(run: &Run<'_>) -> Against {
    let CorpusConfig { quality, relevance, bm25, hazard, .. } = run.domain.config().corpus.clone();
    (quality, relevance, bm25, hazard)
}

/// The documents, the files that they are measured against, and the tasks where documents are compared with them.
pub(crate) fn inputs(run: &Run<'_>, read: &Read, tasks: &[Artifact]) -> Result<Vec<Digest>> {
    let config = &run.domain.config().corpus;
    let mut paths: Vec<&str> = Vec::new();
    paths.extend(config.quality.iter().flat_map(|quality| [quality.good.as_str(), quality.bad.as_str()]));
    paths.extend(config.relevance.iter().map(|relevance| relevance.target.as_str()));
    paths.extend(config.hazard.iter().filter_map(|hazard| hazard.file.as_deref()));
    let files = paths.into_iter().map(|path| content_digest(path, &run.domain.root).advise());
    let mut digests = vec![read.own.digest()];
    digests.extend(files.collect::<Result<Vec<_>>>()?);
    digests.extend(tasks.iter().filter(|_| config.bm25.is_some()).map(Artifact::digest));
    Ok(digests)
}

/// Measures every document, reading the tasks only where documents are compared with them.
pub(crate) fn alone(run: &mut Run<'_>, read: &Read) -> Result<Artifact> {
    let tasks = if run.domain.config().corpus.bm25.is_some() { tasks::run(run)? } else { Vec::new() };
    self::run(run, read, &tasks)
}

/// Measures every document.
pub(crate) fn run(run: &mut Run<'_>, read: &Read, tasks: &[Artifact]) -> Result<Artifact> {
    let (config, inputs) = (config(run), inputs(run, read, tasks)?);
    run.stage(KIND, &config, &inputs, |run, draft| {
        let (config, seed) = (&run.domain.config().corpus, run.domain.config().seed);
        let documents = documents::load(&read.own)?;
        let tasks = if config.bm25.is_some() { tasks } else { &[] };
        let tasks = tasks.iter().map(tasks::load).collect::<Result<Vec<_>>>()?;
        let scorers =
            run.device.install(|| Scorers::new(config, &run.domain.root, &documents, &tasks, seed)).advise()?;
        let path = draft.path().join(FILE);
        let languages = run.device.install(|| measure_all(&documents, &scorers, &path)).advise()?;
        let quality = scorers.held_out_quality.as_ref().and_then(|held_out| quality_facts(held_out, seed));
        let said = quality.as_ref().map_or_else(String::new, said);
        if let Some(text) = quality.as_ref().and_then(doubt) {
            run.reporter.notice(&Notice::Warning(text));
        }
        write_json(&draft.path().join("facts.json"), &AttributesFacts { quality, queries: scorers.queries })?;
        let text = format!("{} documents measured; {}{said}", documents.len(), most(&languages));
        Ok(json!({ "text": text }))
    })
}

fn quality_facts(
    HeldOutQuality { num_good, num_bad, num_contradictory, predictions }: &HeldOutQuality,
    seed: Seed,
) -> Option<QualityFacts> {
    const NUM_RESAMPLES: usize = 500;
    Some(QualityFacts {
        num_good: *num_good,
        num_bad: *num_bad,
        num_contradictory: *num_contradictory,
        num_held_out: predictions.len(),
        held_out: binary(predictions, NUM_RESAMPLES, seed.child("quality"))?,
    })
}

fn said(QualityFacts { held_out, num_held_out, .. }: &QualityFacts) -> String {
    format!("; quality: ROC AUC {:.3} on {num_held_out} examples held out", held_out.roc_auc.mean)
}

/// What is said of a model that cannot tell good from bad.
fn doubt(QualityFacts { held_out, .. }: &QualityFacts) -> Option<String> {
    const MIN_AUC: f64 = 0.7;
    let auc = held_out.roc_auc;
    (auc.low < MIN_AUC).then(|| {
        format!(
            "the model of `quality` hardly tells good examples from bad ones: ROC AUC {:.2} ({:.2} to {:.2}) on those \
             held out, where 0.5 is chance",
            auc.mean, auc.low, auc.high
        )
    })
}

/// The most frequent languages.
fn most(languages: &BTreeMap<String, usize>) -> String {
    const MOST: usize = 3;
    let num_documents: usize = languages.values().sum();
    let mut counts: Vec<_> = languages.iter().collect();
    counts.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
    let share = |(name, count): &(&String, &usize)| {
        let name = if name.is_empty() { "no language told" } else { name };
        format!("{name} {:.1} %", 100.0 * **count as f64 / num_documents as f64)
    };
    counts.iter().take(MOST).map(share).collect::<Vec<_>>().join(", ")
}

/// The attributes of `documents`.
pub(crate) fn load(artifact: &Artifact, documents: &Documents) -> Result<AttributeTable> {
    AttributeTable::open(&file(artifact, FILE)?, documents).advise()
}
