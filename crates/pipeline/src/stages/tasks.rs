//! Labelled tasks, read and checked.

use anyhow::Result;
use arable_core::Digest;
use arable_corpus::{Task, TaskConfig, content_digest, read_task, write_rejects};
use arable_ledger::Artifact;
use serde_json::json;

use crate::advice::Advise;
use crate::notice::Notice;
use crate::run::Run;
use crate::stages::{file, joined, read_json, write_json};

pub(crate) fn kind(name: &str) -> String {
    let fits = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    format!("task-{}", name.chars().map(fits).collect::<String>())
}

/// The digest of the files that the task is read from.
pub(crate) fn inputs(run: &Run<'_>, task: &TaskConfig) -> Result<Digest> {
    let files = [Some(&task.train), task.dev.as_ref(), task.test.as_ref()];
    let digests = files
        .into_iter()
        .flatten()
        .chain(&task.corrections)
        .map(|path| content_digest(path, &run.domain.root).advise());
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
        let task = read_task(name, config, &run.domain.root, seed).advise()?;
        if task.num_repaired_tags > 0 {
            let text = format!("{name}: {} tags repaired (I- without B-)", task.num_repaired_tags);
            run.reporter.notice(&Notice::Warning(text));
        }
        if task.num_test_in_train > 0 {
            let text = format!("{name}: {} test texts also occur among the training examples", task.num_test_in_train);
            run.reporter.notice(&Notice::Warning(text));
        }
        let sizes = format!("{} / {} / {} examples", task.train.len(), task.dev.len(), task.test.len());
        let corrected = match task.num_corrected {
            0 => String::new(),
            number => format!(", {number} corrected"),
        };
        let borders: String =
            task.split.borders.iter().map(|own| format!(", {} from {} on", own.part, own.from)).collect();
        let text = format!("{name}: {sizes}, {} labels{corrected}{borders}", task.labels.len());
        write_rejects(&draft.path().join("quarantine.jsonl.zst"), &task.rejects).advise()?;
        write_json(&draft.path().join("task.json"), &task)?;
        Ok(json!({ "text": text, "num_rejects": task.rejects.len() }))
    })
}

pub(crate) fn load(artifact: &Artifact) -> Result<Task> {
    read_json(&file(artifact, "task.json")?)
}
