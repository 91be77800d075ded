//! The vocabulary of the domain, beside one of general text.

use anyhow::Result;
use arable_core::Digest;
use arable_corpus::Documents;
use arable_ledger::Artifact;
use arable_tokenize::{ExtendConfig, Extended, TokenizerConfig, Vocabulary, extend, fertility, train};
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

pub(crate) fn inputs(run: &Run<'_>, corpus: &Artifact, reference: Option<&Artifact>) -> Vec<Digest> {
    let made = [corpus].into_iter().chain(reference).map(Artifact::digest);
    made.chain(run.domain.base.as_ref().map(|base| base.digest)).collect()
}

/// Trains the vocabulary on the corpus, or takes that of the model to go on from with the tasks' markers added, and measures
/// how it fits held-out text.
pub(crate) fn run(run: &mut Run<'_>, corpus: &Artifact, reference: Option<&Artifact>) -> Result<Artifact> {
    let config = config(run);
    let inputs = inputs(run, corpus, reference);
    run.stage("tokenizer", &config, &inputs, |run, draft| {
        let (tokenizer, markers, max_length) = &config;
        let trained =
            |documents: &Documents| with_texts(documents, None, |texts| train(tokenizer, texts, markers).advise());
        let base = run.domain.base.as_ref();
        let (mut extended, mut num_added) = (None, 0);
        let vocabulary = match base {
            Some(base) => {
                let known = base.vocabulary()?;
                extended = tokenizer.extend.as_ref().map(|config| extend_for(config, &known, corpus)).transpose()?;
                let words = extended.as_ref().map_or(&known, |extended| &extended.vocabulary);
                num_added = words.size() - known.size();
                words.with_special_tokens(&[&tokenizer.special_tokens[..], markers].concat()).advise()?
            }
            None => trained(&corpus::train(corpus)?)?,
        };
        vocabulary.save(draft.path(), *max_length).advise()?;
        let held_out: Vec<String> = with_texts(&corpus::held_out(corpus)?, None, |texts| Ok(texts.collect()))?;
        // Beside a vocabulary that was not trained here, one of another size tells nothing.
        let reference = reference.filter(|_| base.is_none());
        let general = reference.map(|general| trained(&documents::load(general)?)).transpose()?;
        let fertility_general = general.map(|general| fertility(&general, &held_out));
        let facts = TokenizerFacts {
            vocab_size: vocabulary.size(),
            fertility_domain: fertility(&vocabulary, &held_out),
            fertility_general,
            extension: extended.map_or_else(Vec::new, |extended| extended.curve),
            num_added,
            num_train_tokens: 0,
        };
        write_json(&draft.path().join("facts.json"), &facts)?;
        let general =
            facts.fertility_general.map_or(String::new(), |value| format!(" ({value:.2} with general words)"));
        let general = if num_added > 0 { format!(" ({num_added} of them new)") } else { general };
        let text = format!("{} pieces, {:.2} tokens a word{general}", facts.vocab_size, facts.fertility_domain);
        Ok(json!({ "text": text }))
    })
}

/// The vocabulary of a model to go on from, with pieces of the domain's words.
fn extend_for(config: &ExtendConfig, known: &Vocabulary, corpus: &Artifact) -> Result<Extended> {
    let (train, held_out) = (corpus::train(corpus)?, corpus::held_out(corpus)?);
    with_texts(&train, None, |texts| {
        with_texts(&held_out, None, |held_out| extend(config, known, texts, held_out).advise())
    })
}

pub(crate) fn load(tokenizer: &Artifact) -> Result<Vocabulary> {
    Vocabulary::load(tokenizer.path()).advise()
}
