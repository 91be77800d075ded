//! Labelled examples beside text (joint training; Gururangan et al. 2020 and Phang et al. 2018 for what comes of it): a head for
//! each task over one encoder. Adaptation may begin with these heads.

use std::collections::BTreeMap;

use arable_core::Seed;
use arable_model::Head;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::adapt::{EncodedExample, batch_indices, pack, target_loss};
use crate::objective::Worker;
use crate::objective::vectors::{on_extra, through};
use crate::ramp::Ramp;

/// How tasks are trained beside text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TasksConfig {
    /// What the losses count together.
    pub weight: Ramp<f64>,
    /// Which tasks, and what each counts beside the others; by default all alike.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub shares: BTreeMap<String, f64>,
    /// How losses of several tasks are balanced.
    pub balance: Balance,
    /// Examples of each task in a step.
    pub batch_size: usize,
}

impl Default for TasksConfig {
    fn default() -> Self {
        Self { weight: Ramp::constant(1.0), shares: BTreeMap::new(), balance: Balance::Scale, batch_size: 16 }
    }
}

/// How losses of several tasks are balanced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Balance {
    /// Not at all.
    Equal,
    /// Each over what guessing costs: the logarithm of the number of classes.
    #[default]
    Scale,
    /// As `scale`, with weights drawn anew in each step, which keeps one task from leading (Lin et al. 2022, "Reasonable
    /// effectiveness of random weighting").
    Random,
}

/// The training examples of a task.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskExamples {
    /// The task.
    pub name: String,
    /// The head that it needs.
    pub head: Head,
    /// The examples.
    pub examples: Vec<EncodedExample>,
}

/// The tasks of a step by number, with the examples of each and its share of the weight.
pub(crate) fn batches(
    config: &TasksConfig,
    tasks: &[TaskExamples],
    seed: Seed,
    step: u64,
) -> Vec<(usize, Vec<usize>, f64)> {
    let share = |task: &TaskExamples| match config.shares.is_empty() {
        true => 1.0,
        false => config.shares.get(&task.name).copied().unwrap_or(0.0),
    };
    let drawn = |idx: usize| match config.balance {
        // A softmax of normal draws.
        Balance::Random => seed.stream("weights of tasks").at(step, idx as u64).normal().exp(),
        Balance::Equal | Balance::Scale => 1.0,
    };
    let shares: Vec<f64> = tasks.iter().enumerate().map(|(idx, task)| share(task) * drawn(idx)).collect();
    let total: f64 = shares.iter().sum();
    let wanted = tasks.iter().enumerate().filter(|(idx, task)| shares[*idx] > 0.0 && !task.examples.is_empty());
    let batch = |(idx, task): (usize, &TaskExamples)| {
        let scale = if config.balance == Balance::Equal { 1.0 } else { 1.0 / chance(task.head) };
        let chosen = batch_indices(task.examples.len(), config.batch_size, step, seed.child(&task.name));
        (idx, chosen, scale * shares[idx] / total)
    };
    wanted.map(batch).collect()
}

/// What guessing costs, in nats.
fn chance(head: Head) -> f64 {
    (head.num_labels().unwrap_or(2).max(2) as f64).ln()
}

/// Adds the gradient of `weight` times the mean loss of some examples, which is returned.
pub(crate) fn work(worker: &mut Worker<'_>, task: &TaskExamples, chosen: &[usize], weight: f64) -> f64 {
    let batch: Vec<&EncodedExample> = chosen.iter().map(|&idx| &task.examples[idx]).collect();
    let (packed, positions) = pack(&batch);
    let reading = task.head.reading(&packed, &positions);
    let name = format!("task {}", task.name);
    through(worker, &name, (&packed, &reading), |worker, vectors| {
        let dropout = worker.dropout(&name, 0);
        on_extra(worker, &name, vectors, weight as f32, |head, tape, x| {
            let logits = head.classify(tape, x, Some(dropout));
            target_loss(tape, logits, &batch)
        })
    })
}
