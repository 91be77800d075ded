//! A picture of the domain.

use anyhow::Result;
use arable_core::Digest;
use arable_corpus::{Profile, SourceConfig, profile, read_corpus};
use arable_ledger::Artifact;
use serde_json::json;

use crate::advice::Advise;
use crate::run::Run;
use crate::stages::{attributes, file, read_json, tokenizer, write_json};

pub(crate) const KIND: &str = "profile";
const FILE: &str = "profile.json";

/// How the documents are read, and those that they are compared with.
pub(crate) fn config(run: &Run<'_>) -> [Vec<SourceConfig>; 2] {
    let config = run.domain.config();
    [config.corpus.source.clone(), config.reference.source.clone()]
}

pub(crate) fn inputs(run: &Run<'_>, attributes: &Artifact) -> Result<Vec<Digest>> {
    let [own, general] = config(run);
    let digest = |sources: &[SourceConfig]| crate::stages::corpus::sources_digest(run, sources);
    Ok(vec![digest(&own)?, digest(&general)?, attributes.digest()])
}

/// Profiles what the sources hold.
pub(crate) fn run(run: &mut Run<'_>, attributes: &Artifact) -> Result<Artifact> {
    const NUM_WORDS: usize = 5;
    let (config, inputs) = (config(run), inputs(run, attributes)?);
    run.stage(KIND, &config, &inputs, |run, draft| {
        let documents = read_corpus(&run.domain.config().corpus, &run.domain.root).advise()?.documents;
        let measured = attributes::load(attributes, &documents)?;
        let general = tokenizer::reference(run)?;
        let found = run.device.install(|| profile(&documents, &measured, &general));
        write_json(&draft.path().join(FILE), &found)?;
        let words: Vec<&str> = found.words.iter().take(NUM_WORDS).map(|term| term.term.as_str()).collect();
        let telling = if words.is_empty() { String::new() } else { format!("; telling: {}", words.join(", ")) };
        Ok(json!({ "text": format!("{} distinct words{telling}", found.num_distinct_words) }))
    })
}

pub(crate) fn load(artifact: &Artifact) -> Result<Profile> {
    read_json(&file(artifact, FILE)?)
}
