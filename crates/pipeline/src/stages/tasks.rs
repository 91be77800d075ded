//! Labelled tasks, read and checked.

use anyhow::Result;
use arable_core::{Digest, Example, LabelSet};
use arable_corpus::{Task, TaskConfig, TaskKind, content_digest, read_task, write_quarantine};
use arable_ledger::Artifact;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::advice::Advise;
use crate::notice::Notice;
use crate::run::Run;
use crate::stages::{file, joined, read_json, write_json};

/// A task as it is kept: what `corpus` read, without rejects.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct StoredTask {
    pub name: String,
    pub kind: TaskKind,
    pub labels: LabelSet,
    pub train: Vec<Example>,
    pub dev: Vec<Example>,
    pub test: Vec<Example>,
}

pub(crate) fn kind(name: &str) -> String {
    let fits = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    format!("task-{}", name.chars().map(fits).collect::<String>())
}

/// The digest of the files that the task is read from.
pub(crate) fn inputs(run: &Run<'_>, task: &TaskConfig) -> Result<Digest> {
    let files = [Some(&task.train), task.dev.as_ref(), task.test.as_ref()];
    let digests = files.into_iter().flatten().map(|path| content_digest(path, &run.domain.root).advise());
    Ok(joined(digests.collect::<Result<Vec<_>>>()?))
}

/// Reads every task of the configuration.
pub(crate) fn run(run: &mut Run<'_>) -> Result<Vec<Artifact>> {
    let tasks = run.domain.config().task.clone();
    tasks.iter().map(|(name, task)| one(run, name, task)).collect()
}

fn one(run: &mut Run<'_>, name: &str, config: &TaskConfig) -> Result<Artifact> {
    let inputs = inputs(run, config)?;
    run.stage(&kind(name), config, &[inputs], |run, draft| {
        let seed = run.domain.config().seed.child(name);
        let Task { name, kind, labels, train, dev, test, rejects, num_repaired_tags, num_test_in_train } =
            read_task(name, config, &run.domain.root, seed).advise()?;
        if num_repaired_tags > 0 {
            run.reporter.notice(&Notice::Warning(format!("{name}: {num_repaired_tags} tags repaired (I- without B-)")));
        }
        if num_test_in_train > 0 {
            let text = format!("{name}: {num_test_in_train} test texts also occur among the training examples");
            run.reporter.notice(&Notice::Warning(text));
        }
        let text =
            format!("{name}: {} / {} / {} examples, {} labels", train.len(), dev.len(), test.len(), labels.len());
        write_quarantine(&draft.path().join("quarantine.jsonl.zst"), &rejects, &[]).advise()?;
        let task = StoredTask { name, kind, labels, train, dev, test };
        write_json(&draft.path().join("task.json"), &task)?;
        Ok(json!({ "text": text, "num_rejects": rejects.len() }))
    })
}

pub(crate) fn load(artifact: &Artifact) -> Result<StoredTask> {
    read_json(&file(artifact, "task.json")?)
}
