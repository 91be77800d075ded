//! What a run tells whoever watches it.

use arable_ledger::Outcome;
use arable_train::pretrain::{HeldOutReport, StepReport};

/// Something that happened in a run.
#[derive(Clone, Debug)]
pub enum Notice<'a> {
    /// A stage begins.
    StageStarted {
        /// The kind of its artifact.
        kind: &'a str,
    },
    /// A stage's artifact is there.
    StageDone {
        /// The kind of its artifact.
        kind: &'a str,
        /// Whether it was made or found.
        outcome: Outcome,
        /// Seconds it took.
        wall_s: f64,
        /// What it holds, in a few words.
        summary: String,
    },
    /// Pretraining goes on from a checkpoint.
    Resumed {
        /// Steps done.
        step: u64,
        /// Tokens seen.
        num_tokens: u64,
        /// Tokens to see.
        total: u64,
        /// Steps taken after the checkpoint, which have to be taken again.
        num_lost: usize,
    },
    /// A pretraining step was taken.
    Step {
        /// What it found.
        report: &'a StepReport,
        /// Tokens to see in all.
        total: u64,
        /// Tokens a second, of late.
        tokens_per_s: f64,
    },
    /// The held-out loss was measured.
    HeldOut {
        /// What was found.
        report: &'a HeldOutReport,
        /// The share of the time so far that steps waited for their batches.
        waiting: f64,
    },
    /// A model was fine-tuned and measured.
    Cell {
        /// The task.
        task: &'a str,
        /// What was measured, in a few words.
        what: String,
        /// Cells done.
        num_done: usize,
        /// Cells in all.
        num_total: usize,
    },
    /// Something that a person should know of.
    Warning(String),
}

/// Someone who watches a run.
pub trait Reporter {
    /// Hears what happened.
    fn notice(&mut self, notice: &Notice<'_>);
}

/// A run that was stopped on purpose.
#[derive(Debug, thiserror::Error)]
#[error("finish: the run was cancelled; `arable resume` continues it")]
pub struct Cancelled;
