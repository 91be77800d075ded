//! The vocabulary of the domain, beside one of general text.

use anyhow::Result;
use arable_core::{Digest, Document};
use arable_corpus::read_source;
use arable_ledger::Artifact;
use arable_tokenize::{TokenizerConfig, Vocabulary, fertility, train};
use serde_json::json;

use crate::advice::Advise;
use crate::domain::ReferenceConfig;
use crate::results::TokenizerFacts;
use crate::run::Run;
use crate::stages::{corpus, write_json};

/// The vocabulary's part of the configuration, with the markers of the tasks.
pub(crate) fn config(run: &Run<'_>) -> (TokenizerConfig, ReferenceConfig, Vec<String>, usize) {
    let config = run.domain.config();
    let mut markers: Vec<String> = config.task.values().flat_map(|task| task.markers.clone()).collect();
    markers.sort();
    markers.dedup();
    (config.tokenizer.clone(), config.reference.clone(), markers, config.pretrain.max_length)
}

pub(crate) fn inputs(run: &Run<'_>, corpus: &Artifact) -> Result<Vec<Digest>> {
    Ok(vec![corpus.digest(), corpus::sources_digest(run, &run.domain.config().reference.source)?])
}

/// Trains the vocabulary on the corpus and measures how it fits held-out text.
pub(crate) fn run(run: &mut Run<'_>, corpus: &Artifact) -> Result<Artifact> {
    let config = config(run);
    let inputs = inputs(run, corpus)?;
    run.stage("tokenizer", &config, &inputs, |run, draft| {
        let (tokenizer, _, markers, max_length) = &config;
        let documents = corpus::train(corpus)?;
        let vocabulary = train(tokenizer, documents.iter().map(|document| document.text.as_str()), markers).advise()?;
        vocabulary.save(draft.path(), *max_length).advise()?;
        let held_out: Vec<String> = corpus::held_out(corpus)?.into_iter().map(|document| document.text).collect();
        let general = reference(run)?;
        let fertility_general = if general.is_empty() {
            None
        } else {
            let general = train(tokenizer, general.iter().map(|document| document.text.as_str()), markers).advise()?;
            Some(fertility(&general, &held_out))
        };
        let facts = TokenizerFacts {
            vocab_size: vocabulary.size(),
            fertility_domain: fertility(&vocabulary, &held_out),
            fertility_general,
            num_train_tokens: 0,
        };
        write_json(&draft.path().join("facts.json"), &facts)?;
        let general =
            facts.fertility_general.map_or(String::new(), |value| format!(" ({value:.2} with general words)"));
        let text = format!("{} pieces, {:.2} tokens a word{general}", facts.vocab_size, facts.fertility_domain);
        Ok(json!({ "text": text }))
    })
}

/// General text that the domain is compared with.
pub(crate) fn reference(run: &Run<'_>) -> Result<Vec<Document>> {
    let mut documents = Vec::new();
    for source in &run.domain.config().reference.source {
        for record in read_source(source, &run.domain.root).advise()? {
            documents.extend(record.advise()?.ok());
        }
    }
    Ok(documents)
}

pub(crate) fn load(tokenizer: &Artifact) -> Result<Vocabulary> {
    Vocabulary::load(tokenizer.path()).advise()
}
