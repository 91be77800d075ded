//! The stages of a run: each a function from configuration and artifacts to an artifact.

pub mod adapt;
pub mod aids;
pub mod attributes;
mod card;
pub mod corpus;
pub mod documents;
pub mod encode;
pub mod gate;
pub mod pretrain;
pub mod probe;
pub mod profile;
pub mod shards;
pub mod tasks;
pub mod tokenizer;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use arable_core::Digest;
use arable_corpus::Profile;
use arable_ledger::Artifact;
use fs_err as fs;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::advice::Advise;
use crate::plan::{self, Stage};
use crate::results::{CorpusFacts, Results, TaskResults, TokenizerFacts};
use crate::run::Run;
use crate::stages::documents::{Part, Read};

/// The artifacts of a run.
pub(crate) struct Parts {
    pub profile: Artifact,
    pub corpus: Artifact,
    pub tokenizer: Artifact,
    pub shards: Artifact,
    pub plan: gate::Plan,
    pub adapted: Vec<Artifact>,
}

/// Puts together what the stages found.
pub(crate) fn results(run: &Run<'_>, parts: &Parts) -> Result<Results> {
    let corpus: CorpusFacts = read_json(&file(&parts.corpus, "facts.json")?)?;
    let mut tokenizer: TokenizerFacts = read_json(&file(&parts.tokenizer, "facts.json")?)?;
    tokenizer.num_train_tokens =
        shards::facts(&parts.shards)?.iter().map(|source| source.train.num_tokens as usize).sum();
    let pretraining = pretrain::facts(run, &parts.plan, &parts.shards)?;
    let tasks = parts.adapted.iter().map(|artifact| read_json(&file(artifact, "results.json")?));
    let tasks: Vec<TaskResults> = tasks.collect::<Result<_>>()?;
    // What profiles are compared by stays in the artifact: the report does not need it.
    let profile = Some(Profile { basis: None, ..profile::load(&parts.profile)? });
    Ok(Results { run: run.facts(), profile, corpus, tokenizer, pretraining, tasks })
}

/// What a run would do.
pub(crate) struct Planned {
    /// The kinds of artifacts, each with whether it is done.
    pub steps: Vec<(String, bool)>,
    /// What the pretraining reads, where it is made.
    pub material: Option<Material>,
    /// The stages of the pretraining, as far as it is known what they begin with.
    pub stages: Vec<PlannedStage>,
}

/// What a pretraining reads.
pub(crate) struct Material {
    pub tasks: Vec<Artifact>,
    pub vocabulary: Artifact,
    pub tokens: Artifact,
}

impl Material {
    /// What a stage is made from, after the stage `before`.
    pub(crate) fn made<'a>(&'a self, before: Option<&'a Artifact>) -> pretrain::Made<'a> {
        pretrain::Made { tasks: &self.tasks, vocabulary: &self.vocabulary, tokens: &self.tokens, before }
    }
}

/// A stage of the pretraining, done, begun, or neither.
pub(crate) struct PlannedStage {
    pub stage: Stage,
    /// Where it is, or is being made.
    pub folder: PathBuf,
    pub artifact: Option<Artifact>,
}

impl PlannedStage {
    /// The steps of its checkpoints, whole or broken, rising.
    pub(crate) fn checkpoints(&self) -> Vec<u64> {
        checkpoint_steps(&self.folder.join(pretrain::CHECKPOINTS))
    }
}

/// The steps of the checkpoints in a folder, whole or broken, rising.
pub(crate) fn checkpoint_steps(folder: &Path) -> Vec<u64> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let step = |name: std::ffi::OsString| {
        let digits = name.to_str()?.strip_prefix("step-")?.to_owned();
        digits.bytes().all(|digit| digit.is_ascii_digit()).then(|| digits.parse().ok())?
    };
    let mut steps: Vec<u64> = entries.filter_map(|entry| step(entry.file_name())).collect();
    steps.sort_unstable();
    steps
}

/// Each stage and whether it is done, up to the first that is not.
pub(crate) fn planned(run: &mut Run<'_>) -> Result<Planned> {
    let config = run.domain.config().clone();
    let mut steps = Vec::new();
    let mut known: Vec<Option<Artifact>> = Vec::new();
    for (name, task) in &config.task {
        let artifact = run.is_done(&tasks::kind(name), task, &[tasks::inputs(run, task)?])?;
        steps.push((tasks::kind(name), artifact.is_some()));
        known.push(artifact);
    }
    let tasks: Option<Vec<Artifact>> = known.into_iter().collect();
    let read = planned_read(run, &mut steps)?;
    let attributes = read.as_ref().map(|read| {
        let inputs = attributes::inputs(run, read, tasks.as_deref().unwrap_or_default())?;
        run.is_done(attributes::KIND, &attributes::config(run), &inputs)
    });
    let attributes = attributes.transpose()?.flatten();
    steps.push((attributes::KIND.to_owned(), attributes.is_some()));
    let known = read.as_ref().zip(attributes.as_ref());
    let profile = known.map(|(read, known)| run.is_done(profile::KIND, &(), &profile::inputs(read, known)));
    steps.push((profile::KIND.to_owned(), profile.transpose()?.flatten().is_some()));
    let known = tasks.as_ref().zip(known);
    let corpus = known
        .map(|(tasks, (read, known))| run.is_done("corpus", &config.corpus, &corpus::inputs(tasks, read, known)))
        .transpose()?
        .flatten();
    let known = corpus.as_ref().zip(read.as_ref());
    let vocabulary = known.map(|(corpus, read)| {
        run.is_done("tokenizer", &tokenizer::config(run), &tokenizer::inputs(run, corpus, read.reference.as_ref()))
    });
    let vocabulary = vocabulary.transpose()?.flatten();
    let known = corpus.as_ref().zip(vocabulary.as_ref()).zip(read.as_ref().zip(attributes.as_ref()));
    let shards = known.map(|((corpus, vocabulary), (read, attributes))| {
        let from = shards::From { corpus, vocabulary, read, attributes };
        run.is_done("shards", &shards::config(run, vocabulary)?, &shards::inputs(run, from))
    });
    let shards = shards.transpose()?.flatten();
    for (kind, artifact) in [("corpus", &corpus), ("tokenizer", &vocabulary), ("shards", &shards)] {
        steps.push((kind.to_owned(), artifact.is_some()));
    }
    let material = tasks.zip(vocabulary.zip(shards));
    let material = material.map(|(tasks, (vocabulary, tokens))| Material { tasks, vocabulary, tokens });
    let stages = planned_stages(run, material.as_ref(), &mut steps)?;
    let pretrained = stages.last().and_then(|stage| stage.artifact.as_ref());
    for (idx, name) in config.task.keys().enumerate() {
        let done = material.as_ref().zip(pretrained).map(|(material, pretrained)| {
            let inputs = adapt::inputs(&material.tasks[idx], &material.vocabulary, pretrained)?;
            run.is_done(&adapt::kind(name), &adapt::config(run, name), &inputs)
        });
        steps.push((adapt::kind(name), done.transpose()?.flatten().is_some()));
    }
    Ok(Planned { steps, material, stages })
}

/// The stages of the pretraining, up to the first that is not done.
fn planned_stages(
    run: &Run<'_>,
    material: Option<&Material>,
    steps: &mut Vec<(String, bool)>,
) -> Result<Vec<PlannedStage>> {
    let mut found: Vec<PlannedStage> = Vec::new();
    let mut is_known = true;
    for stage in plan::stages(run.domain.config()) {
        let artifact = match material.filter(|_| is_known) {
            None => None,
            Some(material) => {
                let before = found.last().and_then(|before| before.artifact.as_ref());
                let inputs = pretrain::inputs(run, &stage, material.made(before))?;
                let config = pretrain::config(run, &stage)?;
                let artifact = run.is_done(&stage.kind(), &config, &inputs)?;
                let folder = run.folder_of(&stage.kind(), &config, &inputs);
                found.push(PlannedStage { stage: stage.clone(), folder, artifact: artifact.clone() });
                artifact
            }
        };
        is_known = artifact.is_some();
        steps.push((stage.kind(), is_known));
    }
    Ok(found)
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

pub(crate) fn file(artifact: &Artifact, name: &str) -> Result<PathBuf> {
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
