//! The corpus as tokens, each source for itself.

use anyhow::Result;
use arable_corpus::Documents;
use arable_ledger::Artifact;
use arable_tokenize::{ShardFacts, Shards, pack};
use fs_err as fs;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::advice::Advise;
use crate::results::CorpusFacts;
use crate::run::Run;
use crate::stages::documents::with_texts;
use crate::stages::{corpus, file, read_json, tokenizer, write_json};

const FACTS: &str = "facts.json";

/// Counts of a source.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SourceShards {
    pub name: String,
    pub train: ShardFacts,
    pub held_out: ShardFacts,
}

/// Tokens by source.
pub(crate) type Named = Vec<(String, Shards)>;

/// Encodes and packs the corpus. The folder of a source is its number: names may hold what file names must not.
pub(crate) fn run(run: &mut Run<'_>, corpus: &Artifact, vocabulary: &Artifact) -> Result<Artifact> {
    run.stage("shards", &(), &[corpus.digest(), vocabulary.digest()], |_, draft| {
        let vocabulary = tokenizer::load(vocabulary)?;
        let curated: CorpusFacts = read_json(&file(corpus, corpus::FACTS)?)?;
        let (train, held_out) = (corpus::train(corpus)?, corpus::held_out(corpus)?);
        let part = |name: &str, idx: usize, source: &str, documents: &Documents| {
            let folder = draft.path().join(name).join(idx.to_string());
            fs::create_dir_all(&folder)?;
            with_texts(documents, Some(source), |texts| pack(&vocabulary, texts, &folder).advise())
        };
        let sources = curated.sources.iter().enumerate().map(|(idx, source)| {
            Ok(SourceShards {
                name: source.name.clone(),
                train: part("train", idx, &source.name, &train)?,
                held_out: part("held_out", idx, &source.name, &held_out)?,
            })
        });
        let sources: Vec<SourceShards> = sources.collect::<Result<_>>()?;
        write_json(&draft.path().join(FACTS), &sources)?;
        let millions = |count: fn(&SourceShards) -> &ShardFacts| {
            sources.iter().map(|source| count(source).num_tokens).sum::<u64>() as f64 / 1e6
        };
        let (train, held_out) = (millions(|source| &source.train), millions(|source| &source.held_out));
        Ok(json!({ "text": format!("{train:.2} M tokens, {held_out:.2} M held out") }))
    })
}

/// The counts of each source.
pub(crate) fn facts(shards: &Artifact) -> Result<Vec<SourceShards>> {
    read_json(&file(shards, FACTS)?)
}

/// The training and the held-out tokens of each source.
pub(crate) fn load(shards: &Artifact) -> Result<(Named, Named)> {
    let part = |name: &str| {
        let open = |(idx, source): (usize, &SourceShards)| {
            Ok((source.name.clone(), Shards::open(&shards.path().join(name).join(idx.to_string())).advise()?))
        };
        facts(shards)?.iter().enumerate().map(open).collect::<Result<Named>>()
    };
    Ok((part("train")?, part("held_out")?))
}
