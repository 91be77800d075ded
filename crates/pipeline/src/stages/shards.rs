//! The corpus as tokens, each source for itself.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use arable_core::Digest;
use arable_corpus::{Documents, order_keys};
use arable_ledger::Artifact;
use arable_tokenize::{Role, ShardFacts, Shards, Vocabulary, pack};
use fs_err as fs;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::advice::Advise;
use crate::plan;
use crate::results::CorpusFacts;
use crate::run::Run;
use crate::stages::documents::{self, Read, with_texts};
use crate::stages::{attributes, corpus, file, read_json, tokenizer, write_json};

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

/// What the corpus is packed from.
#[derive(Clone, Copy)]
pub(crate) struct From<'a> {
    pub corpus: &'a Artifact,
    pub vocabulary: &'a Artifact,
    /// Where documents are ordered by what is measured of them.
    pub read: &'a Read,
    pub attributes: &'a Artifact,
}

/// What documents end with, and what stages order them by.
pub(crate) fn config(run: &Run<'_>, vocabulary: &Artifact) -> Result<(Option<u32>, Vec<String>)> {
    Ok((end_of_text(run, &tokenizer::load(vocabulary)?), orders(run)))
}

pub(crate) fn inputs(run: &Run<'_>, from: From<'_>) -> Vec<Digest> {
    let ordered = [from.read.own.digest(), from.attributes.digest()];
    let made = [from.corpus.digest(), from.vocabulary.digest()];
    made.into_iter().chain(ordered.into_iter().filter(|_| !orders(run).is_empty())).collect()
}

/// What the stages of the plan order documents by.
fn orders(run: &Run<'_>) -> Vec<String> {
    let stages = plan::stages(run.domain.config()).into_iter();
    let orders: BTreeSet<String> = stages.filter_map(|stage| Some(stage.pretrain.curriculum?.by)).collect();
    orders.into_iter().collect()
}

/// Encodes and packs the corpus. The folder of a source is its number: names may hold what file names must not.
pub(crate) fn run(run: &mut Run<'_>, from: From<'_>) -> Result<Artifact> {
    let From { corpus, vocabulary, .. } = from;
    let (config, inputs) = (config(run, vocabulary)?, inputs(run, from));
    run.stage("shards", &config, &inputs, |run, draft| {
        let (end, orders) = config.clone();
        let vocabulary = tokenizer::load(vocabulary)?;
        let curated: CorpusFacts = read_json(&file(corpus, corpus::FACTS)?)?;
        let (train, held_out) = (corpus::train(corpus)?, corpus::held_out(corpus)?);
        let part = |name: &str, idx: usize, source: &str, documents: &Documents| {
            let folder = draft.path().join(name).join(idx.to_string());
            fs::create_dir_all(&folder)?;
            with_texts(documents, Some(source), |texts| pack(&vocabulary, texts, end, &folder).advise())
        };
        let sources = curated.sources.iter().enumerate().map(|(idx, source)| {
            Ok(SourceShards {
                name: source.name.clone(),
                train: part("train", idx, &source.name, &train)?,
                held_out: part("held_out", idx, &source.name, &held_out)?,
            })
        });
        let sources: Vec<SourceShards> = sources.collect::<Result<_>>()?;
        for by in &orders {
            let keys = keys(run, from, by, &sources)?;
            write_json(&draft.path().join(order_file(by)), &keys)?;
        }
        write_json(&draft.path().join(FACTS), &sources)?;
        let millions = |count: fn(&SourceShards) -> &ShardFacts| {
            sources.iter().map(|source| count(source).num_tokens).sum::<u64>() as f64 / 1e6
        };
        let (train, held_out) = (millions(|source| &source.train), millions(|source| &source.held_out));
        Ok(json!({ "text": format!("{train:.2} M tokens, {held_out:.2} M held out") }))
    })
}

/// What each training document is ordered by, in the order of the shards of each source.
fn keys(run: &Run<'_>, from: From<'_>, by: &str, sources: &[SourceShards]) -> Result<Vec<Vec<Option<f64>>>> {
    let documents = documents::load(&from.read.own)?;
    let measured = attributes::load(from.attributes, &documents)?;
    let config = &run.domain.config().corpus;
    let keys = run.device.install(|| order_keys(by, config, &documents, &measured)).advise()?;
    let mut found = vec![Vec::new(); sources.len()];
    for document in corpus::train(from.corpus)?.iter() {
        let document = document.advise()?;
        let source = sources.iter().position(|source| source.name == document.source);
        let source = source.with_context(|| format!("find the source `{}` of a document", document.source))?;
        found[source].push(keys.get(&document.id).copied());
    }
    Ok(found)
}

/// The file of what documents are ordered by; an expression may hold anything.
fn order_file(by: &str) -> String {
    format!("order-{}.json", &Digest::of(by.as_bytes()).to_string()[..16])
}

/// What the training documents of each source are ordered by; NaN for those without it.
pub(crate) fn order(shards: &Artifact, by: &str) -> Result<Vec<Vec<f64>>> {
    let keys: Vec<Vec<Option<f64>>> = read_json(&file(shards, &order_file(by))?)?;
    Ok(keys.into_iter().map(|keys| keys.into_iter().map(|key| key.unwrap_or(f64::NAN)).collect()).collect())
}

/// What each document ends with: a model with causal attention has to learn where texts end, unless every sequence ends so.
fn end_of_text(run: &Run<'_>, vocabulary: &Vocabulary) -> Option<u32> {
    let base = run.domain.base.as_ref().filter(|base| base.architecture.style().is_causal);
    base.filter(|_| vocabulary.frame().end.is_empty()).and_then(|_| vocabulary.role_id(Role::Sep))
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
