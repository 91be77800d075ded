//! The vocabulary of the domain, beside one of general text.

use anyhow::Result;
use arable_core::Digest;
use arable_corpus::Documents;
use arable_ledger::Artifact;
use arable_tokenize::{TokenizerConfig, Vocabulary, fertility, train};
use serde_json::json;

use crate::advice::Advise;
use crate::plan;
use crate::results::TokenizerFacts;
use crate::run::Run;
use crate::stages::documents::{self, with_texts};
use crate::stages::{corpus, write_json};

/// The vocabulary's part of the configuration, with the markers of the tasks.
pub(crate) fn config(run: &Run<'_>) -> (TokenizerConfig, Vec<String>, usize) {
    let config = run.domain.config();
    let mut markers: Vec<String> = config.task.values().flat_map(|task| task.markers.clone()).collect();
    markers.sort();
    markers.dedup();
    let lengths = plan::stages(config).into_iter().map(|stage| stage.pretrain.max_length.most());
    (config.tokenizer.clone(), markers, lengths.max().unwrap_or_default())
}

pub(crate) fn inputs(corpus: &Artifact, reference: Option<&Artifact>) -> Vec<Digest> {
    [corpus].into_iter().chain(reference).map(Artifact::digest).collect()
}

/// Trains the vocabulary on the corpus and measures how it fits held-out text.
pub(crate) fn run(run: &mut Run<'_>, corpus: &Artifact, reference: Option<&Artifact>) -> Result<Artifact> {
    let config = config(run);
    run.stage("tokenizer", &config, &inputs(corpus, reference), |_, draft| {
        let (tokenizer, markers, max_length) = &config;
        let trained =
            |documents: &Documents| with_texts(documents, None, |texts| train(tokenizer, texts, markers).advise());
        let vocabulary = trained(&corpus::train(corpus)?)?;
        vocabulary.save(draft.path(), *max_length).advise()?;
        let held_out: Vec<String> = with_texts(&corpus::held_out(corpus)?, None, |texts| Ok(texts.collect()))?;
        let general = reference.map(|general| trained(&documents::load(general)?)).transpose()?;
        let fertility_general = general.map(|general| fertility(&general, &held_out));
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

pub(crate) fn load(tokenizer: &Artifact) -> Result<Vocabulary> {
    Vocabulary::load(tokenizer.path()).advise()
}
