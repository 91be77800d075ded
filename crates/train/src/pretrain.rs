//! The loop of masked pretraining.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use arable_core::{Count, Probability, Seed};
use arable_model::{Dropout, Model, Pass};
use arable_tensor::ops::loss::VocabularyLoss;
use arable_tensor::{AdamW, AdamWConfig, Device, Gradients, Tape};
use arable_tokenize::Shards;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::loader::{Cursor, Loader};
use crate::objective::mlm::{self, MaskedBatch, MlmConfig, Part, Specials};
use crate::schedule::ScheduleConfig;
use crate::{Control, TrainError};

/// The `[pretrain]` part of a configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PretrainConfig {
    /// Tokens to train on, repeats included (`100_000_000` or `"100M"`).
    pub num_tokens: Count,
    /// Tokens in a batch, at most.
    pub tokens_per_batch: usize,
    /// Tokens in a sequence, at most, special ones included.
    pub max_length: usize,
    /// The peak learning rate.
    pub learning_rate: f64,
    /// How the learning rate rises and falls.
    pub schedule: ScheduleConfig,
    /// Decoupled weight decay of AdamW.
    pub weight_decay: f64,
    /// The global gradient norm above which gradients are scaled down.
    pub max_grad_norm: f64,
    /// Probability of dropout.
    pub dropout: Probability,
    /// Which tokens are hidden.
    pub mlm: MlmConfig,
    /// Steps between measurements of the held-out loss.
    pub held_out_every: u64,
    /// Tokens of held-out text to measure on, at most.
    pub held_out_tokens: Count,
    /// Steps between checkpoints.
    pub checkpoint_every: u64,
    /// What is saved in memory. The weights are the same, bit for bit, whatever it says.
    pub memory: MemoryConfig,
}

/// Less memory for more time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MemoryConfig {
    /// Tokens that are trained on at a time, at most; a larger batch is the sum of such parts (gradient accumulation).
    /// Blocks of 2,048 tokens stay together.
    pub tokens_at_a_time: usize,
    /// The first layers whose activations are computed again in the backward pass (activation checkpointing).
    pub recomputed_layers: usize,
}

impl Default for MemoryConfig {
    fn default() -> Self {
        Self { tokens_at_a_time: 8192, recomputed_layers: 0 }
    }
}

impl Default for PretrainConfig {
    fn default() -> Self {
        Self {
            num_tokens: Count(50_000_000),
            tokens_per_batch: 8192,
            max_length: 128,
            learning_rate: 2e-3,
            schedule: ScheduleConfig::default(),
            weight_decay: 0.01,
            max_grad_norm: 1.0,
            dropout: Probability::new(0.0).expect("a literal in range"),
            mlm: MlmConfig::default(),
            held_out_every: 200,
            held_out_tokens: Count(100_000),
            checkpoint_every: 200,
            memory: MemoryConfig::default(),
        }
    }
}

impl PretrainConfig {
    /// The optimizer's constants.
    pub fn adamw(&self) -> AdamWConfig {
        AdamWConfig { weight_decay: self.weight_decay, max_grad_norm: self.max_grad_norm, ..AdamWConfig::default() }
    }
}

/// Where a pretraining stands: all that the next step depends on.
#[derive(Clone, Debug)]
pub struct Pretraining {
    /// The model.
    pub model: Model,
    /// The optimizer.
    pub optimizer: AdamW,
    /// Counts and the place in the data.
    pub progress: Progress,
}

/// Counts of a pretraining and its place in the data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Optimizer steps done.
    pub step: u64,
    /// Tokens seen.
    pub num_tokens: u64,
    /// Place in the data.
    pub cursor: Cursor,
}

/// What one step found.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepReport {
    /// Optimizer steps done, this one included.
    pub step: u64,
    /// Tokens seen.
    pub num_tokens: u64,
    /// Mean loss in nats per masked token.
    pub loss: f64,
    /// Global gradient norm before clipping.
    pub grad_norm: f64,
    /// Learning rate.
    pub learning_rate: f64,
    /// Passes over the corpus that are done.
    pub epoch: u64,
}

/// A measurement on held-out text.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct HeldOutReport {
    /// Optimizer steps done.
    pub step: u64,
    /// Tokens seen.
    pub num_tokens: u64,
    /// Mean loss in nats per masked token.
    pub loss: f64,
    /// Share of masked tokens whose most likely prediction is right.
    pub accuracy: f64,
}

/// What happens in a pretraining, as observers see it.
pub enum Event<'a> {
    /// A step was taken.
    Step {
        /// What it found.
        report: &'a StepReport,
        /// How long it waited for its batch.
        waited: Duration,
    },
    /// The held-out loss was measured.
    HeldOut(&'a HeldOutReport),
    /// The state is to be kept: at the configured steps, before a stop, and at the end.
    Checkpoint(&'a Pretraining),
}

/// Someone who watches a pretraining.
pub trait Observer {
    /// Sees what happened and says whether to go on.
    ///
    /// # Errors
    /// What the observer could not do ends the training.
    fn observe(&mut self, event: &Event<'_>) -> Result<Control, Box<dyn std::error::Error + Send + Sync>>;
}

/// What a pretraining reads.
pub struct Text<'a> {
    /// Tokens to train on.
    pub train: &'a Shards,
    /// Tokens to measure on.
    pub held_out: &'a Shards,
    /// Special tokens.
    pub specials: Specials,
}

impl Pretraining {
    /// A pretraining that begins with `model`.
    pub fn new(config: &PretrainConfig, model: Model) -> Self {
        let optimizer = AdamW::new(config.adamw(), model.parameters());
        Self { model, optimizer, progress: Progress::default() }
    }
}

/// Trains until the token budget is spent or an observer says stop. Returns whether the budget is spent.
///
/// The weights after any step depend on configuration, text and seed alone: not on interruptions, threads or observers.
///
/// # Errors
/// When the loss diverges, shards cannot be read, or an observer fails.
pub fn pretrain(
    config: &PretrainConfig,
    text: &Text<'_>,
    device: &Device,
    seed: Seed,
    state: &mut Pretraining,
    observer: &mut dyn Observer,
) -> Result<bool, TrainError> {
    let order = Some(seed.stream("order"));
    let loader = Loader::new(text.train, config.max_length, config.tokens_per_batch, order, state.progress.cursor)?;
    std::thread::scope(|scope| {
        let (give, batches) = sync_channel(BATCHES_AHEAD);
        let first = state.progress.step;
        scope.spawn(move || prepare(config, text.specials, seed, loader, first, &give));
        steps(config, text, device, seed, state, observer, &batches)
    })
}

/// Batches that wait for their step, at most.
const BATCHES_AHEAD: usize = 2;

/// A batch and the place in the data after it.
struct Prepared {
    masked: MaskedBatch,
    cursor: Cursor,
}

/// Makes batches until nobody takes them any more.
fn prepare(
    config: &PretrainConfig,
    specials: Specials,
    seed: Seed,
    mut loader: Loader<'_>,
    first: u64,
    give: &SyncSender<Result<Prepared, TrainError>>,
) {
    for step in first.. {
        let batch = loader.next_batch().map(|sequences| {
            let masked = mlm::mask(&config.mlm, specials, &sequences, seed.stream("masks"), step);
            Prepared { masked, cursor: loader.cursor() }
        });
        let failed = batch.is_err();
        if give.send(batch).is_err() || failed {
            return;
        }
    }
}

fn steps(
    config: &PretrainConfig,
    text: &Text<'_>,
    device: &Device,
    seed: Seed,
    state: &mut Pretraining,
    observer: &mut dyn Observer,
    batches: &Receiver<Result<Prepared, TrainError>>,
) -> Result<bool, TrainError> {
    let mut gradients = Gradients::zeros(state.model.parameters());
    let mut saved = state.progress.step;
    let mut tell = |event: Event<'_>| observer.observe(&event).map_err(TrainError::Observer);
    while state.progress.num_tokens < config.num_tokens.0 {
        let start = Instant::now();
        let prepared = batches.recv().expect("batches come until an error or the end of the steps")?;
        let waited = start.elapsed();
        let report = step(config, device, seed, state, &prepared, &mut gradients)?;
        let mut control = tell(Event::Step { report: &report, waited })?;
        let last = report.num_tokens >= config.num_tokens.0;
        if last || report.step % config.held_out_every == 0 {
            let held_out = held_out_loss(config, text, device, seed, state)?;
            if tell(Event::HeldOut(&held_out))? == Control::Stop {
                control = Control::Stop;
            }
        }
        if last || control == Control::Stop || report.step % config.checkpoint_every == 0 {
            saved = report.step;
            if tell(Event::Checkpoint(state))? == Control::Stop {
                control = Control::Stop;
            }
        }
        if control == Control::Stop {
            break;
        }
    }
    debug_assert_eq!(saved, state.progress.step, "a pretraining ends with a checkpoint");
    Ok(state.progress.num_tokens >= config.num_tokens.0)
}

fn step(
    config: &PretrainConfig,
    device: &Device,
    seed: Seed,
    state: &mut Pretraining,
    prepared: &Prepared,
    gradients: &mut Gradients,
) -> Result<StepReport, TrainError> {
    let (at, masked) = (state.progress.step, &prepared.masked);
    let progress = state.progress.num_tokens as f64 / config.num_tokens.0 as f64;
    // The first step would have rate 0: the rate is that of the middle of the batch.
    let half = 0.5 * masked.batch.ids.len() as f64 / config.num_tokens.0 as f64;
    let learning_rate = config.learning_rate * config.schedule.factor((progress + half).min(1.0));
    let num_masked = masked.targets.len().max(1);
    let (loss, grad_norm) = device.install(|| {
        let mut found = VocabularyLoss::default();
        for Part { masked, first_row } in masked.parts(config.memory.tokens_at_a_time) {
            let dropout = Some(Dropout { p: config.dropout, stream: seed.stream("dropout"), step: at, first_row });
            let pass = Pass { dropout, recomputed_layers: config.memory.recomputed_layers };
            let mut tape = Tape::recording(device, state.model.parameters(), gradients);
            let hidden = state.model.encode(&mut tape, &masked.batch, pass);
            let MaskedBatch { positions, targets, .. } = &masked;
            let scale = 1.0 / num_masked as f32;
            let loss = state.model.masked_loss(&mut tape, hidden, positions, targets, scale, &mut found);
            tape.backward(loss);
        }
        let grad_norm = state.optimizer.step(device, state.model.parameters_mut(), gradients, learning_rate);
        (found.sum / num_masked as f64, grad_norm)
    });
    if !(loss.is_finite() && grad_norm.is_finite()) {
        return Err(TrainError::Diverged { step: at, loss, grad_norm });
    }
    state.progress.step += 1;
    state.progress.num_tokens += masked.batch.ids.len() as u64;
    state.progress.cursor = prepared.cursor;
    let Progress { step, num_tokens, cursor } = state.progress;
    Ok(StepReport { step, num_tokens, loss, grad_norm, learning_rate, epoch: cursor.epoch })
}

/// The loss on held-out text under masks that are the same every time.
///
/// # Errors
/// When the shards cannot be read.
pub fn held_out_loss(
    config: &PretrainConfig,
    text: &Text<'_>,
    device: &Device,
    seed: Seed,
    state: &Pretraining,
) -> Result<HeldOutReport, TrainError> {
    let mut loader = Loader::new(text.held_out, config.max_length, config.tokens_per_batch, None, Cursor::default())?;
    let (mut found, mut num_masked, mut num_tokens) = (VocabularyLoss::default(), 0, 0);
    for batch in 0.. {
        let sequences = loader.next_batch()?;
        if loader.cursor().epoch > 0 || num_tokens >= config.held_out_tokens.0 {
            break;
        }
        let masked = mlm::mask(&config.mlm, text.specials, &sequences, seed.stream("held-out masks"), batch);
        device.install(|| {
            let mut tape = Tape::inference(device, state.model.parameters());
            let hidden = state.model.encode(&mut tape, &masked.batch, Pass::default());
            state.model.masked_loss(&mut tape, hidden, &masked.positions, &masked.targets, 1.0, &mut found);
        });
        num_masked += masked.targets.len();
        num_tokens += masked.batch.ids.len() as u64;
    }
    let count = num_masked.max(1) as f64;
    Ok(HeldOutReport {
        step: state.progress.step,
        num_tokens: state.progress.num_tokens,
        loss: found.sum / count,
        accuracy: found.num_right as f64 / count,
    })
}
