//! What is measured of every document that the sources hold.

use std::collections::BTreeMap;

use anyhow::Result;
use arable_corpus::{AttributeTable, Documents, measure_all};
use arable_ledger::Artifact;
use serde_json::json;

use crate::advice::Advise;
use crate::run::Run;
use crate::stages::documents::{self, Read};
use crate::stages::file;

pub(crate) const KIND: &str = "attributes";
const FILE: &str = "attributes.parquet";

/// Measures every document.
pub(crate) fn run(run: &mut Run<'_>, read: &Read) -> Result<Artifact> {
    run.stage(KIND, &(), &[read.own.digest()], |run, draft| {
        let documents = documents::load(&read.own)?;
        let languages = run.device.install(|| measure_all(&documents, &draft.path().join(FILE))).advise()?;
        let text = format!("{} documents measured; {}", documents.len(), most(&languages));
        Ok(json!({ "text": text }))
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
