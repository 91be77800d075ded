//! The corpus as tokens.

use anyhow::Result;
use arable_corpus::Documents;
use arable_ledger::Artifact;
use arable_tokenize::{ShardFacts, Shards, pack};
use fs_err as fs;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::advice::Advise;
use crate::run::Run;
use crate::stages::documents::with_texts;
use crate::stages::{corpus, tokenizer, write_json};

/// Counts of both parts.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct ShardsFacts {
    pub train: ShardFacts,
    pub held_out: ShardFacts,
}

/// Encodes and packs the corpus.
pub(crate) fn run(run: &mut Run<'_>, corpus: &Artifact, vocabulary: &Artifact) -> Result<Artifact> {
    run.stage("shards", &(), &[corpus.digest(), vocabulary.digest()], |_, draft| {
        let vocabulary = tokenizer::load(vocabulary)?;
        let part = |name: &str, documents: &Documents| {
            let folder = draft.path().join(name);
            fs::create_dir_all(&folder)?;
            with_texts(documents, |texts| pack(&vocabulary, texts, &folder).advise())
        };
        let facts = ShardsFacts {
            train: part("train", &corpus::train(corpus)?)?,
            held_out: part("held_out", &corpus::held_out(corpus)?)?,
        };
        write_json(&draft.path().join("facts.json"), &facts)?;
        let text = format!("{:.2} M tokens, {:.2} M held out", millions(&facts.train), millions(&facts.held_out));
        Ok(json!({ "text": text }))
    })
}

fn millions(facts: &ShardFacts) -> f64 {
    facts.num_tokens as f64 / 1e6
}

/// The training and the held-out tokens.
pub(crate) fn load(shards: &Artifact) -> Result<(Shards, Shards)> {
    let part = |name: &str| Shards::open(&shards.path().join(name)).advise();
    Ok((part("train")?, part("held_out")?))
}
