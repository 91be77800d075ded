//! Going back to a checkpoint: its weights and its place in the data.
//!
//! Nothing is deleted. The checkpoint is copied beside the run, and from then on the stage goes on from the copy: its identity
//! holds the checkpoint's, so that what was trained before stays another artifact, and undoing the rollback brings it back.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use arable_core::{Digest, Hint};
use arable_ledger::Artifact;
use arable_model::ModelConfig;
use arable_train::checkpoint;
use arable_train::loader::Cursor;
use arable_train::pretrain::{PretrainConfig, Pretraining};
use fs_err as fs;
use serde::{Deserialize, Serialize};

use crate::advice::Advise;
use crate::notice::Notice;
use crate::plan::Stage;
use crate::results::ProbeReport;
use crate::run::Run;
use crate::stages::pretrain::{CHECKPOINTS, ORIGIN, PROBES, checkpoint_name};
use crate::stages::{self, PlannedStage, read_json, write_json};

const FILE: &str = "rollback.json";
const FOLDER: &str = "rolled-back";

/// A rollback in force.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rollback {
    /// The stage.
    pub stage: String,
    /// Optimizer steps that are kept.
    pub step: u64,
    /// The digest of the checkpoint.
    pub checkpoint: Digest,
    /// Whether the data is read from its beginning again.
    pub restart_data: bool,
    /// The checkpoint's copy, relative to the run's folder.
    pub copy: PathBuf,
}

/// A rollback that cannot be.
#[derive(Debug, thiserror::Error)]
pub enum RollbackError {
    /// The target is not of the form `stage/step-N`.
    #[error("roll back to `{target}`")]
    Target {
        /// What was typed.
        target: String,
    },
    /// There is no whole checkpoint of that step.
    #[error("find a whole checkpoint of step {step} of stage `{stage}`")]
    NoCheckpoint {
        /// The stage.
        stage: String,
        /// The step.
        step: u64,
        /// Steps with one.
        found: Vec<u64>,
    },
    /// No rollback is in force.
    #[error("undo a rollback: none is in force")]
    None,
    /// The checkpoint does not fit what it is to go on with.
    #[error("go on from the checkpoint of step {step} of stage `{stage}`: {what} no longer as they were")]
    Changed {
        /// The stage.
        stage: String,
        /// The step.
        step: u64,
        /// What changed.
        what: &'static str,
        /// What to do.
        advice: &'static str,
    },
}

impl Hint for RollbackError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Target { .. } => "say STAGE/step-N, or step-N for the only or the last stage".to_owned(),
            Self::NoCheckpoint { found, .. } if found.is_empty() => "the stage has not begun".to_owned(),
            Self::NoCheckpoint { found, .. } => {
                let steps: Vec<String> = found.iter().map(u64::to_string).collect();
                format!("there are checkpoints of steps {}", steps.join(", "))
            }
            Self::None => "`arable rollback --to STAGE/step-N` goes back to a checkpoint".to_owned(),
            Self::Changed { advice, .. } => (*advice).to_owned(),
        })
    }
}

/// Takes the run back to `target`, `stage/step-N` or `step-N`, and records why.
///
/// # Errors
/// When there is no such checkpoint, or it is not whole.
pub fn to(run: &mut Run<'_>, target: &str, why: &str, restart_data: bool) -> Result<Rollback> {
    let planned = stages::planned(run)?.stages;
    let (name, step) = parse(target, &planned)?;
    let stage = planned.iter().find(|stage| stage.stage.name == name).context("the stage was found by its name")?;
    let in_force = of_stage(run.folder(), &stage.stage)?.filter(|rollback| rollback.step == step);
    let from = match in_force {
        Some(rollback) => run.folder().join(rollback.copy),
        None => stage.folder.join(CHECKPOINTS).join(checkpoint_name(step)),
    };
    let whole = Artifact::open(&from).ok();
    let none = || RollbackError::NoCheckpoint { stage: name.clone(), step, found: stage.checkpoints() };
    let whole = whole.ok_or_else(none).advise()?;
    let copy = Path::new(FOLDER).join(format!("{name}-{}-{}", checkpoint_name(step), whole.digest().short()));
    let beside = run.folder().join(&copy);
    if Artifact::open(&beside).is_err() {
        copy_folder(&from, &beside)?;
        Artifact::open(&beside).map_err(|broken| anyhow::anyhow!("{broken}"))?;
    }
    let rollback = Rollback { stage: name, step, checkpoint: whole.digest(), restart_data, copy };
    write_json(&run.folder().join(FILE), &rollback)?;
    let anew = if restart_data { ", reading the data anew" } else { "" };
    run.decide(&format!("roll back to step {step} of stage `{}`{anew}", rollback.stage), why)?;
    Ok(rollback)
}

/// Takes a rollback back.
///
/// # Errors
/// When none is in force.
pub fn undo(run: &Run<'_>, why: &str) -> Result<()> {
    let path = run.folder().join(FILE);
    if !path.exists() {
        return Err(RollbackError::None).advise();
    }
    fs::remove_file(path)?;
    run.decide("undo the rollback", why)
}

/// The rollback of a stage of the run in `folder`, if one is in force.
pub(crate) fn of_stage(folder: &Path, stage: &Stage) -> Result<Option<Rollback>> {
    Ok(in_force(folder)?.filter(|rollback| rollback.stage == stage.name))
}

fn in_force(folder: &Path) -> Result<Option<Rollback>> {
    let path = folder.join(FILE);
    if path.exists() { read_json(&path).map(Some) } else { Ok(None) }
}

/// The step that the run in `folder` was taken back to, if it was.
pub(crate) fn step(folder: &Path) -> Result<Option<u64>> {
    Ok(in_force(folder)?.map(|rollback| rollback.step))
}

fn parse(target: &str, planned: &[PlannedStage]) -> Result<(String, u64)> {
    let wrong = || RollbackError::Target { target: target.to_owned() };
    let (stage, step) = match target.rsplit_once('/') {
        Some((stage, step)) => (Some(stage), step),
        None => (None, target),
    };
    let step = step.strip_prefix("step-").and_then(|digits| digits.parse().ok()).ok_or_else(wrong).advise()?;
    let found = match stage {
        Some(name) => planned.iter().find(|planned| planned.stage.name == name),
        None => planned.iter().rev().find(|planned| !planned.checkpoints().is_empty()),
    };
    Ok((found.ok_or_else(wrong).advise()?.stage.name.clone(), step))
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let file = fs::File::create(to.join(entry.file_name()))?;
        std::io::copy(&mut fs::File::open(entry.path())?, &mut &file)?;
        file.sync_all()?;
    }
    Ok(())
}

/// What a checkpoint's origin says that a rollback depends on.
#[derive(Deserialize)]
struct Origin {
    origin: Made,
}

#[derive(Deserialize)]
struct Made {
    stage: MadeStage,
    model: ModelConfig,
    tokens: Digest,
}

#[derive(Deserialize)]
struct MadeStage {
    pretrain: PretrainConfig,
}

impl Rollback {
    /// What the identity of the stage has of it.
    pub(crate) fn identity(&self) -> Digest {
        Digest::of_json(&(self.checkpoint, self.restart_data))
    }

    /// What probes had found up to the checkpoint.
    pub(crate) fn probes(&self, run: &Run<'_>) -> Result<Vec<ProbeReport>> {
        let path = run.folder().join(&self.copy).join(PROBES);
        if path.exists() { read_json(&path) } else { Ok(Vec::new()) }
    }

    /// The state to go on from. Learning rates, schedules, objectives and budgets may have changed; the model may not, and
    /// neither may what the place in the data depends on, unless the data is to be read anew.
    pub(crate) fn state(&self, run: &mut Run<'_>, config: &PretrainConfig, tokens: Digest) -> Result<Pretraining> {
        let folder = run.folder().join(&self.copy);
        Artifact::open(&folder).map_err(|broken| anyhow::anyhow!("{broken}"))?;
        let Origin { origin } = read_json(&folder.join(ORIGIN))?;
        let changed =
            |what, advice| RollbackError::Changed { stage: self.stage.clone(), step: self.step, what, advice };
        if Digest::of_json(&origin.model) != Digest::of_json(&run.domain.model_identity()) {
            return Err(changed("the settings of the model are", "`arable rollback --undo`, or set `model` as it was"))
                .advise();
        }
        let was = &origin.stage.pretrain;
        if was.adapter != config.adapter {
            return Err(changed("the adapter of the stage is", "`arable rollback --undo`, or set `adapter` as it was"))
                .advise();
        }
        let same_place = origin.tokens == tokens
            && was.max_length == config.max_length
            && was.mixture.keys().eq(config.mixture.keys())
            && was.curriculum == config.curriculum
            // How much of each source is read in order.
            && (was.curriculum.is_none() || (was.num_tokens, &was.mixture) == (config.num_tokens, &config.mixture));
        if !(same_place || self.restart_data) {
            let advice = "roll back with --restart-data, which reads the data anew and records it";
            return Err(changed(
                "corpus, mixture, lengths or curriculum, on which the place in the data depends, are",
                advice,
            ))
            .advise();
        }
        let mut state = checkpoint::read(config, &folder).advise()?;
        if self.restart_data {
            state.progress.cursor = Cursor::default();
        }
        let (step, num_tokens) = (state.progress.step, state.progress.num_tokens);
        run.reporter.notice(&Notice::Resumed { step, num_tokens, total: config.num_tokens.0, num_lost: 0 });
        Ok(state)
    }
}
