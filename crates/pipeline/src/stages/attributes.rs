//! What is measured of every document that the sources hold.

use std::collections::BTreeMap;

use anyhow::Result;
use arable_core::{Digest, Document};
use arable_corpus::{Attributes, SourceConfig, measure_all, read_attributes, read_corpus, write_attributes};
use arable_ledger::Artifact;
use serde_json::json;

use crate::advice::Advise;
use crate::run::Run;
use crate::stages::corpus::sources_digest;
use crate::stages::file;

pub(crate) const KIND: &str = "attributes";
const FILE: &str = "attributes.parquet";

/// What the attributes depend on beside the files: how they are read.
pub(crate) fn config(run: &Run<'_>) -> Vec<SourceConfig> {
    run.domain.config().corpus.source.clone()
}

pub(crate) fn inputs(run: &Run<'_>) -> Result<Vec<Digest>> {
    Ok(vec![sources_digest(run, &run.domain.config().corpus.source)?])
}

/// Measures every document.
pub(crate) fn run(run: &mut Run<'_>) -> Result<Artifact> {
    let (config, inputs) = (config(run), inputs(run)?);
    run.stage(KIND, &config, &inputs, |run, draft| {
        let read = read_corpus(&run.domain.config().corpus, &run.domain.root).advise()?;
        let attributes = run.device.install(|| measure_all(&read.documents));
        write_attributes(&draft.path().join(FILE), &read.documents, &attributes).advise()?;
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
