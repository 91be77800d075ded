//! The stages of a run: each a function from configuration and artifacts to an artifact.

pub mod adapt;
pub mod attributes;
mod card;
pub mod corpus;
pub mod documents;
pub mod encode;
pub mod pretrain;
pub mod profile;
pub mod shards;
pub mod tasks;
pub mod tokenizer;

use std::path::Path;

use anyhow::{Context, Result};
use arable_core::Digest;
use arable_corpus::Profile;
use arable_ledger::Artifact;
use fs_err as fs;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::advice::Advise;
use crate::results::{CorpusFacts, Results, TaskResults, TokenizerFacts};
use crate::run::Run;
use crate::stages::documents::{Part, Read};
use crate::stages::shards::ShardsFacts;

/// The artifacts of a run.
pub(crate) struct Parts {
    pub profile: Artifact,
    pub corpus: Artifact,
    pub tokenizer: Artifact,
    pub shards: Artifact,
    pub pretrained: Artifact,
    pub adapted: Vec<Artifact>,
}

/// Puts together what the stages found.
pub(crate) fn results(run: &Run<'_>, parts: &Parts) -> Result<Results> {
    let corpus: CorpusFacts = read_json(&file(&parts.corpus, "facts.json")?)?;
    let mut tokenizer: TokenizerFacts = read_json(&file(&parts.tokenizer, "facts.json")?)?;
    let shards: ShardsFacts = read_json(&file(&parts.shards, "facts.json")?)?;
    tokenizer.num_train_tokens = shards.train.num_tokens as usize;
    let pretraining = pretrain::facts(run, &parts.pretrained)?;
    let tasks = parts.adapted.iter().map(|artifact| read_json(&file(artifact, "results.json")?));
    let tasks: Vec<TaskResults> = tasks.collect::<Result<_>>()?;
    // What profiles are compared by stays in the artifact: the report does not need it.
    let profile = Some(Profile { basis: None, ..profile::load(&parts.profile)? });
    Ok(Results { run: run.facts(), profile, corpus, tokenizer, pretraining, tasks })
}

/// Each stage and whether it is done, up to the first that is not.
pub(crate) fn plan(run: &mut Run<'_>) -> Result<Vec<(String, bool)>> {
    let config = run.domain.config().clone();
    let mut plan = Vec::new();
    let mut known: Vec<Option<Artifact>> = Vec::new();
    for (name, task) in &config.task {
        let artifact = run.is_done(&tasks::kind(name), task, &[tasks::inputs(run, task)?])?;
        plan.push((tasks::kind(name), artifact.is_some()));
        known.push(artifact);
    }
    let tasks: Option<Vec<Artifact>> = known.into_iter().collect();
    let read = planned_read(run, &mut plan)?;
    let attributes = read.as_ref().map(|read| {
        let inputs = attributes::inputs(run, read, tasks.as_deref().unwrap_or_default())?;
        run.is_done(attributes::KIND, &attributes::config(run), &inputs)
    });
    let attributes = attributes.transpose()?.flatten();
    plan.push((attributes::KIND.to_owned(), attributes.is_some()));
    let known = read.as_ref().zip(attributes.as_ref());
    let profile = known.map(|(read, known)| run.is_done(profile::KIND, &(), &profile::inputs(read, known)));
    plan.push((profile::KIND.to_owned(), profile.transpose()?.flatten().is_some()));
    let known = tasks.as_ref().zip(known);
    let corpus = known
        .map(|(tasks, (read, known))| run.is_done("corpus", &config.corpus, &corpus::inputs(tasks, read, known)))
        .transpose()?
        .flatten();
    let known = corpus.as_ref().zip(read.as_ref());
    let vocabulary = known.map(|(corpus, read)| {
        run.is_done("tokenizer", &tokenizer::config(run), &tokenizer::inputs(corpus, read.reference.as_ref()))
    });
    let vocabulary = vocabulary.transpose()?.flatten();
    let both = corpus.as_ref().zip(vocabulary.as_ref());
    let shards = both.map(|(corpus, vocabulary)| run.is_done("shards", &(), &[corpus.digest(), vocabulary.digest()]));
    let shards = shards.transpose()?.flatten();
    let both = vocabulary.as_ref().zip(shards.as_ref());
    let pretrained =
        both.map(|(v, s)| run.is_done("pretrain", &pretrain::config(run), &[v.digest(), s.digest()])).transpose()?;
    let pretrained = pretrained.flatten();
    plan.extend([
        ("corpus".to_owned(), corpus.is_some()),
        ("tokenizer".to_owned(), vocabulary.is_some()),
        ("shards".to_owned(), shards.is_some()),
        ("pretrain".to_owned(), pretrained.is_some()),
    ]);
    for (idx, name) in config.task.keys().enumerate() {
        let inputs = tasks.as_ref().zip(vocabulary.as_ref()).zip(pretrained.as_ref());
        let done = inputs.map(|((tasks, vocabulary), pretrained)| {
            let inputs = adapt::inputs(&tasks[idx], vocabulary, pretrained)?;
            run.is_done(&adapt::kind(name), &adapt::config(run, name), &inputs)
        });
        plan.push((adapt::kind(name), done.transpose()?.flatten().is_some()));
    }
    Ok(plan)
}

/// What was read, if all of it was.
fn planned_read(run: &mut Run<'_>, plan: &mut Vec<(String, bool)>) -> Result<Option<Read>> {
    let mut read = Vec::new();
    for part in Part::ALL.into_iter().filter(|part| part.is_wanted(run)) {
        let artifact = run.is_done(part.kind(), &part.config(run), &part.inputs(run)?)?;
        plan.push((part.kind().to_owned(), artifact.is_some()));
        read.push(artifact);
    }
    let read: Option<Vec<Artifact>> = read.into_iter().collect();
    Ok(read.map(|mut read| Read { reference: (read.len() > 1).then(|| read.remove(1)), own: read.remove(0) }))
}

pub(crate) fn file(artifact: &Artifact, name: &str) -> Result<std::path::PathBuf> {
    artifact.file(name).advise()
}

pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    Ok(arable_ledger::write_atomic(path, (serde_json::to_string_pretty(value)? + "\n").as_bytes())?)
}

pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    serde_json::from_slice(&fs::read(path)?).with_context(|| format!("read {}", path.display()))
}

/// One digest for several.
pub(crate) fn joined(digests: impl IntoIterator<Item = Digest>) -> Digest {
    Digest::of_json(&digests.into_iter().collect::<Vec<_>>())
}
