//! A picture of the domain.

use anyhow::Result;
use arable_core::Digest;
use arable_corpus::{Profile, profile};
use arable_ledger::Artifact;
use serde_json::json;

use crate::advice::Advise;
use crate::run::Run;
use crate::stages::documents::{self, Read};
use crate::stages::{attributes, file, read_json, write_json};

pub(crate) const KIND: &str = "profile";
const FILE: &str = "profile.json";

pub(crate) fn inputs(read: &Read, attributes: &Artifact) -> Vec<Digest> {
    [read.digests(), vec![attributes.digest()]].concat()
}

/// Profiles what the sources hold.
pub(crate) fn run(run: &mut Run<'_>, read: &Read, attributes: &Artifact) -> Result<Artifact> {
    const NUM_WORDS: usize = 5;
    run.stage(KIND, &(), &inputs(read, attributes), |run, draft| {
        let documents = documents::load(&read.own)?;
        let measured = attributes::load(attributes, &documents)?;
        let general = read.reference.as_ref().map(documents::load).transpose()?;
        let found = run.device.install(|| profile(&documents, &measured, general.as_ref())).advise()?;
        write_json(&draft.path().join(FILE), &found)?;
        let words: Vec<&str> = found.words.iter().take(NUM_WORDS).map(|term| term.term.as_str()).collect();
        let telling = if words.is_empty() { String::new() } else { format!("; telling: {}", words.join(", ")) };
        Ok(json!({ "text": format!("{} distinct words{telling}", found.num_distinct_words) }))
    })
}

pub(crate) fn load(artifact: &Artifact) -> Result<Profile> {
    read_json(&file(artifact, FILE)?)
}
