//! Looking back at a run: one step computed again, every byte verified, two runs compared.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::path::Path;

use anyhow::{Context, Result};
use arable_core::{Digest, Hint};
use arable_ledger::{Artifact, RunRecord, StageRecord, read_record};
use arable_train::pretrain::{Event, Observer, Pretraining, StepReport};
use arable_train::{Control, checkpoint};
use serde::Serialize;

use crate::advice::Advise;
use crate::rollback;
use crate::run::Run;
use crate::shifts::{self, Shift};
use crate::stages::pretrain::{self, CHECKPOINTS, Made, Metric, Read, checkpoint_name, metrics};
use crate::stages::{self, profile, tokenizer};

/// A past step, computed again.
#[derive(Clone, Debug, Serialize)]
pub struct Replayed {
    /// The stage.
    pub stage: String,
    /// Where the computation began: steps done.
    pub from_step: u64,
    /// The step.
    pub step: u64,
    /// What it found, then and now.
    pub then: StepReport,
    /// What it found now.
    pub now: StepReport,
    /// The first step that differs, of those computed again.
    pub first_difference: Option<u64>,
    /// The weights after the step, then (where there is a checkpoint) and now.
    pub weights: (Option<Digest>, Digest),
}

impl Replayed {
    /// Whether all is as it was, bit for bit.
    pub fn is_equal(&self) -> bool {
        self.first_difference.is_none() && self.weights.0.is_none_or(|then| then == self.weights.1)
    }
}

/// Something about a run is not as it was left.
#[derive(Debug, thiserror::Error)]
#[error("find {what} as it was: {found}")]
pub struct NotAsItWas {
    /// What was looked at.
    pub what: String,
    /// What is wrong.
    pub found: String,
}

/// A step that cannot be computed again.
#[derive(Debug, thiserror::Error)]
#[error("replay step {step} of stage `{stage}`: {why}")]
pub struct NoReplay {
    /// The stage.
    pub stage: String,
    /// The step.
    pub step: u64,
    /// Why not.
    pub why: String,
}

impl Hint for NoReplay {
    fn hint(&self) -> Option<String> {
        Some("`arable replay --stage STAGE --step N` takes a step that the run has done".to_owned())
    }
}

/// Stops after a step, and keeps what the steps found.
struct Until {
    step: u64,
    found: Vec<StepReport>,
}

impl Observer for Until {
    fn observe(&mut self, event: &Event<'_>) -> Result<Control, Box<dyn Error + Send + Sync>> {
        if let Event::Step { report, .. } = event {
            self.found.push((*report).clone());
            if report.step >= self.step {
                return Ok(Control::Stop);
            }
        }
        Ok(Control::Continue)
    }
}

/// Computes a step of a stage (by default the last that began) again, from the checkpoint before it, and compares.
///
/// # Errors
/// When the run has not done the step, or what it was made from is gone.
pub fn replay(run: &mut Run<'_>, stage: Option<&str>, step: u64) -> Result<Replayed> {
    let planned = stages::planned(run)?;
    let is_wanted = |name: &str| stage.is_none_or(|wanted| wanted == name);
    let found =
        planned.stages.iter().enumerate().rev().find(|(_, planned)| {
            is_wanted(&planned.stage.name) && (stage.is_some() || !planned.checkpoints().is_empty())
        });
    let name = || found.map_or_else(|| stage.unwrap_or("pretrain").to_owned(), |(_, found)| found.stage.name.clone());
    let no = |why: &str| NoReplay { stage: name(), step, why: why.to_owned() };
    let (idx, planned_stage) = found.ok_or_else(|| no("there is no such stage")).advise()?;
    let material = planned.material.as_ref().ok_or_else(|| no("the corpus it read is gone")).advise()?;
    let then: BTreeMap<u64, StepReport> = steps(&planned_stage.folder)?;
    let recorded = then.get(&step).cloned().ok_or_else(|| no("the run has not done it")).advise()?;
    let before = if idx == 0 { None } else { planned.stages[idx - 1].artifact.as_ref() };
    let (stage, made) = (&planned_stage.stage, material.made(before));
    let words = tokenizer::load(made.vocabulary)?;
    let seed = pretrain::stage_seed(run, stage);
    let text = Read::open(run, stage, &words, made)?;
    let mut state = before_step(run, planned_stage, step, &text, made)?;
    let from_step = state.progress.step;
    let mut until = Until { step, found: Vec::new() };
    let config = &stage.pretrain;
    arable_train::pretrain::pretrain(config, &text.view(), run.device, seed, &mut state, &mut until).advise()?;
    let now = until.found.last().context("a step was computed")?.clone();
    let first_difference = until.found.iter().find(|now| then.get(&now.step) != Some(now)).map(|now| now.step);
    let kept = planned_stage.folder.join(CHECKPOINTS).join(checkpoint_name(step));
    let kept = Artifact::open(&kept).ok().map(|kept| kept.manifest().summary["weights"].clone());
    let weights = (kept.and_then(|digest| serde_json::from_value(digest).ok()), state.model.parameters().digest());
    Ok(Replayed { stage: stage.name.clone(), from_step, step, then: recorded, now, first_difference, weights })
}

/// The steps that a stage recorded.
fn steps(folder: &Path) -> Result<BTreeMap<u64, StepReport>> {
    let step = |metric| if let Metric::Step(report) = metric { Some((report.step, report)) } else { None };
    Ok(metrics(folder)?.into_iter().filter_map(step).collect())
}

/// The newest state before a step.
fn before_step(
    run: &mut Run<'_>,
    planned: &stages::PlannedStage,
    step: u64,
    text: &Read,
    made: Made<'_>,
) -> Result<Pretraining> {
    let config = &planned.stage.pretrain;
    for earlier in planned.checkpoints().into_iter().rev().filter(|&earlier| earlier < step) {
        let path = planned.folder.join(CHECKPOINTS).join(checkpoint_name(earlier));
        if Artifact::open(&path).is_ok() {
            return checkpoint::read(config, &path).advise();
        }
    }
    match rollback::of_stage(run.folder(), &planned.stage)? {
        Some(rollback) => rollback.state(run, config, made.tokens.digest()),
        None => pretrain::begin(run, config, text, made),
    }
}

/// What was verified about a run.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Verified {
    /// Artifacts read whole.
    pub num_artifacts: usize,
    /// Checkpoints read whole.
    pub num_checkpoints: usize,
    /// Bytes read.
    pub num_bytes: u64,
    /// Steps on record.
    pub num_steps: u64,
    /// What is not as it was left.
    pub flaws: Vec<String>,
}

/// Reads every byte of the artifacts of the run in `folder`, and checks that records are complete and lineage closed.
///
/// # Errors
/// When the run has no record.
pub fn verify(folder: &Path) -> Result<Verified> {
    let record = read_record(folder).map_err(|broken| anyhow::anyhow!("{broken}"))?;
    let store = folder.join("../artifacts");
    let mut verified = Verified::default();
    let mut known = BTreeSet::new();
    let back_at = rollback::step(folder)?;
    for stage in &record.stages {
        match Artifact::open(&store.join(&stage.folder)) {
            Err(broken) => verified.flaws.push(broken.to_string()),
            Ok(artifact) => verified.artifact(stage, &artifact, &mut known, back_at)?,
        }
    }
    Ok(verified)
}

impl Verified {
    fn artifact(
        &mut self,
        stage: &StageRecord,
        artifact: &Artifact,
        known: &mut BTreeSet<Digest>,
        back_at: Option<u64>,
    ) -> Result<()> {
        self.num_artifacts += 1;
        self.num_bytes += artifact.manifest().files.iter().map(|file| file.bytes).sum::<u64>();
        if artifact.digest() != stage.digest {
            self.flaws.push(format!("{}: the run's record names another content", stage.folder));
        }
        let summary = &artifact.manifest().summary;
        known.extend(
            [Some(artifact.digest()), serde_json::from_value(summary["weights"].clone()).ok()].into_iter().flatten(),
        );
        let checkpoints = artifact.path().join(CHECKPOINTS);
        if checkpoints.is_dir() {
            if let Some(lost) = artifact.manifest().inputs.iter().find(|input| !known.contains(input)) {
                self.flaws.push(format!("{}: made from {lost}, which is not among the run's artifacts", stage.folder));
            }
            self.checkpoints(&stage.folder, &checkpoints)?;
            self.steps(&stage.folder, artifact.path(), back_at)?;
        }
        Ok(())
    }

    fn checkpoints(&mut self, stage: &str, folder: &Path) -> Result<()> {
        for step in stages::checkpoint_steps(folder) {
            match Artifact::open(&folder.join(checkpoint_name(step))) {
                Ok(_) => self.num_checkpoints += 1,
                Err(broken) => self.flaws.push(format!("{stage}: {broken}")),
            }
        }
        Ok(())
    }

    /// What was taken back to a step has the records before it elsewhere.
    fn steps(&mut self, stage: &str, folder: &Path, back_at: Option<u64>) -> Result<()> {
        let steps = steps(folder)?;
        self.num_steps += steps.len() as u64;
        let first = back_at.map(|step| step + 1).filter(|first| steps.keys().next() == Some(first)).unwrap_or(1);
        if let Some((gap, _)) = (first..).zip(steps.keys()).find(|(expected, step)| expected != *step) {
            self.flaws.push(format!("{stage}: no record of step {gap}"));
        }
        Ok(())
    }
}

/// How two runs differ.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Difference {
    /// Settings with their values in both, by key; `-` where there is none.
    pub settings: Vec<(String, String, String)>,
    /// Versions of the program and facts about machines that differ, by name.
    pub environment: Vec<(String, String, String)>,
    /// Kinds of artifacts, and whether both runs have the same one.
    pub artifacts: Vec<(String, bool)>,
    /// For each stage that both have trained, the first step that found something else, or none.
    pub steps: Vec<(String, Option<u64>)>,
    /// What shifted from the documents of one to those of the other, where they differ.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shift: Option<Shift>,
}

/// Compares the runs in two folders.
///
/// # Errors
/// When one of them has no record or no configuration, or its profile cannot be read.
pub fn diff(a: &Path, b: &Path) -> Result<Difference> {
    let [first, second] = [a, b].map(read_record);
    let (first, second) = (first.map_err(anyhow::Error::msg)?, second.map_err(anyhow::Error::msg)?);
    let settings = changes(&settings(a)?, &settings(b)?);
    let environment = changes(&environment(a, &first)?, &environment(b, &second)?);
    let artifact = |stage: &StageRecord| {
        let other = second.stages.iter().find(|other| other.kind == stage.kind);
        (stage.kind.clone(), other.is_some_and(|other| other.digest == stage.digest))
    };
    let artifacts: Vec<(String, bool)> = first.stages.iter().map(artifact).collect();
    let mut steps = Vec::new();
    for (kind, one, two) in both(&first, &second) {
        let path = |run: &Path, stage: &StageRecord| run.join("../artifacts").join(&stage.folder);
        let (one, two) = (path(a, one), path(b, two));
        if one.join(CHECKPOINTS).is_dir() && two.join(CHECKPOINTS).is_dir() {
            steps.push((kind, first_difference(&one, &two)?));
        }
    }
    let other_profile = artifacts.iter().any(|(kind, same)| kind == profile::KIND && !same);
    let shift = other_profile.then(|| shifts::diff(a.parent().unwrap_or(a), &first.name, &second.name)).transpose()?;
    Ok(Difference { settings, environment, artifacts, steps, shift })
}

fn both<'a>(
    a: &'a RunRecord,
    b: &'a RunRecord,
) -> impl Iterator<Item = (String, &'a StageRecord, &'a StageRecord)> + use<'a> {
    a.stages.iter().filter_map(|one| Some((one.kind.clone(), one, b.stages.iter().find(|two| two.kind == one.kind)?)))
}

fn first_difference(a: &Path, b: &Path) -> Result<Option<u64>> {
    let (a, b) = (steps(a)?, steps(b)?);
    let all: BTreeSet<&u64> = a.keys().chain(b.keys()).collect();
    Ok(all.into_iter().find(|step| a.get(step) != b.get(step)).copied())
}

type Facts = BTreeMap<String, String>;

fn settings(run: &Path) -> Result<Facts> {
    let text = fs_err::read_to_string(run.join("resolved.toml"))?;
    let table: toml::Table = toml::from_str(&text).with_context(|| format!("read {}/resolved.toml", run.display()))?;
    let mut facts = Facts::new();
    flatten("", &toml::Value::Table(table), &mut facts);
    Ok(facts)
}

fn flatten(key: &str, value: &toml::Value, facts: &mut Facts) {
    let below = |part: &str| if key.is_empty() { part.to_owned() } else { format!("{key}.{part}") };
    match value {
        toml::Value::Table(table) => table.iter().for_each(|(part, value)| flatten(&below(part), value, facts)),
        toml::Value::Array(list) if list.iter().all(toml::Value::is_table) => {
            for (idx, value) in list.iter().enumerate() {
                let name = value.get("name").and_then(toml::Value::as_str).map_or(idx.to_string(), str::to_owned);
                flatten(&below(&name), value, facts);
            }
        }
        value => {
            facts.insert(key.to_owned(), value.to_string());
        }
    }
}

fn environment(run: &Path, record: &RunRecord) -> Result<Facts> {
    let mut facts: Facts = stages::read_json(&run.join("environment.json"))?;
    facts.insert("program".into(), record.code_version.clone());
    Ok(facts)
}

fn changes(a: &Facts, b: &Facts) -> Vec<(String, String, String)> {
    let keys: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    let value = |facts: &Facts, key: &String| facts.get(key).cloned().unwrap_or_else(|| "-".to_owned());
    let both = keys.into_iter().map(|key| (key.clone(), value(a, key), value(b, key)));
    both.filter(|(_, a, b)| a != b).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bit_of_weights_or_loss_is_a_difference() {
        let report = StepReport {
            step: 3,
            num_tokens: 10,
            loss: 1.5,
            objectives: BTreeMap::new(),
            grad_norm: 0.5,
            learning_rate: 1e-3,
            epoch: 0,
        };
        let weights = Digest::of(b"weights");
        let equal = Replayed {
            stage: "a".into(),
            from_step: 0,
            step: 3,
            then: report.clone(),
            now: report,
            first_difference: None,
            weights: (None, weights),
        };
        assert!(equal.is_equal());
        assert!(Replayed { weights: (Some(weights), weights), ..equal.clone() }.is_equal());
        assert!(!Replayed { weights: (Some(Digest::of(b"other")), weights), ..equal.clone() }.is_equal());
        assert!(!Replayed { first_difference: Some(2), ..equal }.is_equal());
    }

    #[test]
    fn settings_are_compared_by_key_and_lists_by_name() {
        let facts = |text: &str| {
            let mut facts = Facts::new();
            flatten("", &toml::Value::Table(toml::from_str(text).unwrap()), &mut facts);
            facts
        };
        let a = facts("x = 1\n[[stage]]\nname = 'one'\nrate = 2\n[[stage]]\nname = 'two'");
        let b = facts("x = 1\n[[stage]]\nname = 'two'\n[[stage]]\nname = 'one'\nrate = 3");
        assert_eq!(changes(&a, &b), [("stage.one.rate".to_owned(), "2".to_owned(), "3".to_owned())]);
    }
}
