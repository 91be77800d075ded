//! The loop of pretraining.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use arable_core::{Count, Probability, Seed};
use arable_model::{AdapterConfig, Model, Pass};
use arable_tensor::ops::loss::{Scale, VocabularyLoss};
use arable_tensor::{AdamW, AdamWConfig, Device, Gradients, Moments, Tape};
use arable_tokenize::Shards;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::curriculum::CurriculumConfig;
use crate::extras::Extras;
use crate::loader::{self, Cursor, Cut, Loader, Sequence, Source};
use crate::objective::clm::ClmConfig;
use crate::objective::consistency::{self, ConsistencyConfig};
use crate::objective::contrastive::{self, ContrastiveConfig, PairsOf};
use crate::objective::denoise::{self, DenoiseConfig};
use crate::objective::mlm::{MlmConfig, Terms};
use crate::objective::rtd::{self, RtdConfig};
use crate::objective::tasks::{self, TasksConfig};
use crate::objective::worst_source::{self, WorstSourceConfig};
use crate::objective::{Aids, Exercise, Objective, Part, Specials, Work, Worker};
use crate::ramp::Ramp;
use crate::schedule::ScheduleConfig;
use crate::{Control, TrainError};

/// How a model is trained on text: the `[pretrain]` part of a configuration, and each stage of a plan when it is
/// resolved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PretrainConfig {
    /// Shares of the sources by name, such as `{ notes = 1.0, novels = [0.5, 0.0] }`; a source that is not named has
    /// none. By default every source has the share of its tokens.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub mixture: BTreeMap<String, Ramp<f64>>,
    /// The order in which documents are read; by default they are shuffled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub curriculum: Option<CurriculumConfig>,
    /// Tokens to train on, repeats included (`100_000_000` or `"100M"`).
    pub num_tokens: Count,
    /// Tokens in a batch, at most.
    pub tokens_per_batch: Ramp<usize>,
    /// Tokens in a sequence, at most, special ones included.
    pub max_length: Ramp<usize>,
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
    /// Next tokens instead of hidden ones: what models with causal attention are trained on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clm: Option<ClmConfig>,
    /// Replaced tokens are to be told from original ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rtd: Option<RtdConfig>,
    /// Vectors of texts that belong together are to be near each other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contrastive: Option<ContrastiveConfig>,
    /// A text is to be made again from its vector.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub denoise: Option<DenoiseConfig>,
    /// Under a perturbation, the same is to be said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consistency: Option<ConsistencyConfig>,
    /// Labelled examples of the tasks are trained on beside the text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tasks: Option<TasksConfig>,
    /// The source that is learned worst counts more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worst_source: Option<WorstSourceConfig>,
    /// Which weights are trained.
    pub train: Trained,
    /// Train an adapter in the place of the weights, such as `{ lora = { rank = 8 } }`. At the end of the stage it is kept
    /// beside a model that it is merged into.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adapter: Option<AdapterConfig>,
    /// Steps between measurements of the held-out loss.
    pub held_out_every: u64,
    /// Tokens of held-out text to measure on, at most.
    pub held_out_tokens: Count,
    /// Steps between checkpoints.
    pub checkpoint_every: u64,
    /// What is saved in memory. The weights are the same, bit for bit, whatever it says.
    pub memory: MemoryConfig,
}

/// Which weights are trained; the others stay as they are, bit for bit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Trained {
    /// Of the layers, only so many, counted from the last; by default all. With `0`, what stands above them alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_layers: Option<usize>,
    /// The learning rate of the embeddings (and of the decoder tied to them), as a part of that of the rest; 0 freezes
    /// them.
    pub embeddings_rate: f64,
}

impl Default for Trained {
    fn default() -> Self {
        Self { last_layers: None, embeddings_rate: 1.0 }
    }
}

impl Trained {
    /// The factor of the learning rate for each weight, by the name and the number of layers.
    fn rate(&self, name: &str, num_layers: usize) -> f32 {
        let layer = name.strip_prefix("model.layers.").and_then(|rest| rest.split('.').next()?.parse::<usize>().ok());
        match layer {
            _ if name.starts_with("model.embeddings.") => self.embeddings_rate as f32,
            Some(layer) => f32::from(self.last_layers.is_none_or(|num| layer + num >= num_layers)),
            None => 1.0,
        }
    }

    /// The factors for all weights of a model that are not frozen, in order.
    pub fn rates(&self, model: &Model) -> Vec<f32> {
        let num_layers = model.architecture().num_hidden_layers;
        let free = model.parameters().iter().filter(|(id, ..)| !model.parameters().is_frozen(*id));
        free.map(|(_, spec, _)| self.rate(&spec.name, num_layers)).collect()
    }
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
            mixture: BTreeMap::new(),
            curriculum: None,
            num_tokens: Count(50_000_000),
            tokens_per_batch: Ramp::constant(8192),
            max_length: Ramp::constant(128),
            learning_rate: 2e-3,
            schedule: ScheduleConfig::default(),
            weight_decay: 0.01,
            max_grad_norm: 1.0,
            dropout: Probability::new(0.0).expect("a literal in range"),
            mlm: MlmConfig::default(),
            clm: None,
            rtd: None,
            contrastive: None,
            denoise: None,
            consistency: None,
            tasks: None,
            worst_source: None,
            train: Trained::default(),
            adapter: None,
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

    /// How batches are cut.
    fn cut(&self, specials: &Specials) -> Cut {
        Cut {
            max_length: self.max_length,
            tokens_per_batch: self.tokens_per_batch,
            num_tokens: self.num_tokens.0,
            num_specials: specials.num_tokens(),
        }
    }

    /// What is asked of the model, where tokens are hidden with probability `mask_prob`.
    fn objective(&self, mask_prob: Probability) -> Objective {
        match self.clm {
            Some(_) => Objective::Clm,
            None => Objective::Mlm(self.mlm.unit, mask_prob),
        }
    }

    /// What finding tokens counts.
    fn token_weight(&self) -> Ramp<f64> {
        self.clm.map_or(self.mlm.weight, |clm| clm.weight)
    }

    /// What the objectives are called that a stage has, with their weights.
    pub fn objectives(&self) -> Vec<(&'static str, Ramp<f64>)> {
        let tokens = if self.clm.is_some() { "clm" } else { "mlm" };
        let all = [
            (tokens, Some(self.token_weight())),
            ("rtd", self.rtd.map(|own| own.weight)),
            ("contrastive", self.contrastive.as_ref().map(|own| own.weight)),
            ("denoise", self.denoise.map(|own| own.weight)),
            ("consistency", self.consistency.map(|own| own.weight)),
            ("tasks", self.tasks.as_ref().map(|own| own.weight)),
        ];
        let some = all.into_iter().filter_map(|(name, weight)| Some((name, weight?)));
        some.filter(|(_, weight)| weight.ends().iter().any(|&end| end > 0.0)).collect()
    }

    /// How many times as long a step takes as one that finds tokens, about: what goes through vectors needs two forward passes,
    /// pairs and views twice the tokens.
    pub fn num_passes(&self) -> f64 {
        const VECTORS: f64 = 4.0 / 3.0;
        let cost = |name: &str| match name {
            "contrastive" => match self.contrastive.as_ref().map(|own| &own.pairs) {
                Some(PairsOf::Dropout) => 2.0 * VECTORS,
                _ => VECTORS,
            },
            "consistency" => 2.0 * VECTORS,
            "denoise" => VECTORS + 1.0 / 3.0,
            "rtd" => VECTORS + self.rtd.map_or(0.0, |rtd| VECTORS * rtd.generator_width),
            "tasks" => 1.0 / 3.0,
            _ => 1.0,
        };
        self.objectives().into_iter().map(|(name, _)| cost(name)).sum()
    }

    /// The work of a step on a batch, with what each piece counts.
    pub(crate) fn works(
        &self,
        text: &Text<'_>,
        sequences: &[Sequence],
        progress: f64,
        (seed, step): (Seed, u64),
    ) -> Vec<(f64, Work)> {
        let Text { specials, aids, .. } = text;
        let tokens = self.objective(self.mlm.mask_prob.at(progress));
        let exercise = |name| tokens.exercise(specials, &aids.terms, sequences, seed.stream(name), step);
        let mut works = Vec::new();
        for (name, weight) in self.objectives() {
            let weight = weight.at(progress);
            if weight == 0.0 {
                continue;
            }
            match name {
                "rtd" => works.push((weight, Work::Replaced(exercise("masks of the generator")))),
                "contrastive" => {
                    let config = self.contrastive.as_ref().expect("it has a weight");
                    let pairs = contrastive::pairs(config, specials, &aids.pairs, sequences, seed, step);
                    works.extend(pairs.map(|pairs| (weight, Work::Contrastive(pairs))));
                }
                "denoise" => {
                    let config = self.denoise.as_ref().expect("it has a weight");
                    works.push((weight, Work::Denoise(denoise::noised(config, specials, sequences, seed, step))));
                }
                "consistency" => {
                    let config = self.consistency.as_ref().expect("it has a weight");
                    let views = consistency::views(config, specials, sequences, seed, step);
                    works.extend(views.map(|views| (weight, Work::Consistency(views))));
                }
                "tasks" => {
                    let config = self.tasks.as_ref().expect("it has a weight");
                    let batches = tasks::batches(config, &aids.tasks, seed.child("tasks"), step);
                    works.extend(batches.into_iter().map(|(idx, all, share)| (weight * share, Work::Task(idx, all))));
                }
                _ => works.push((weight, Work::Tokens(exercise("masks")))),
            }
        }
        works
    }

    /// The share of tokens that a loss is computed at, on average.
    pub fn asked_share(&self) -> f64 {
        match self.objective(self.mlm.mask_prob.at(0.5)) {
            Objective::Mlm(_, p) => p.get(),
            Objective::Clm => 1.0,
        }
    }

    /// The optimizer for a model, with the state of an earlier one or none.
    pub(crate) fn optimizer(&self, model: &Model, moments: Option<Moments>) -> AdamW {
        let optimizer = match moments {
            None => AdamW::new(self.adamw(), model.parameters()),
            Some(moments) => AdamW::resumed(self.adamw(), model.parameters(), moments),
        };
        optimizer.with_rates(&self.train.rates(model))
    }

    /// The sources with their shares in the mixture; `shards` are names and tokens of all sources.
    ///
    /// # Errors
    /// When the mixture names a source that is not there.
    pub fn sources(&self, shards: Vec<(String, Shards)>) -> Result<Vec<Source>, TrainError> {
        let known: Vec<String> = shards.iter().map(|(name, _)| name.clone()).collect();
        if let Some(name) = self.mixture.keys().find(|name| !known.contains(name)) {
            return Err(TrainError::UnknownSource { name: name.clone(), known });
        }
        let weighed = shards.into_iter().map(|(name, shards)| {
            let named = self.mixture.get(&name).copied().unwrap_or(Ramp::constant(0.0));
            let own = Ramp::constant(shards.num_tokens() as f64);
            let weight = if self.mixture.is_empty() { own } else { named };
            Source { name, shards, weight, places: None }
        });
        Ok(weighed.collect())
    }
}

/// Where a pretraining stands: all that the next step depends on.
#[derive(Clone, Debug)]
pub struct Pretraining {
    /// The model.
    pub model: Model,
    /// The optimizer.
    pub optimizer: AdamW,
    /// What objectives train beside the model.
    pub extras: Extras,
    /// Counts and the place in the data.
    pub progress: Progress,
    /// Whether the model was drawn at random: before its first step there is nothing worth measuring.
    pub is_drawn: bool,
}

/// Counts of a pretraining and its place in the data.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Optimizer steps done.
    pub step: u64,
    /// Tokens seen.
    pub num_tokens: u64,
    /// Place in the data.
    pub cursor: Cursor,
    /// What each source counts, where the worst counts most.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub source_weights: Vec<f64>,
}

/// What one step found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepReport {
    /// Optimizer steps done, this one included.
    pub step: u64,
    /// Tokens seen.
    pub num_tokens: u64,
    /// Mean loss in nats per token asked for; of several objectives, the sum of what their losses count.
    pub loss: f64,
    /// The loss of each objective by itself, where there are several.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub objectives: BTreeMap<String, f64>,
    /// Global gradient norm before clipping.
    pub grad_norm: f64,
    /// Learning rate.
    pub learning_rate: f64,
    /// Passes that are done over every source of the mixture.
    pub epoch: u64,
}

/// A measurement on held-out text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HeldOutReport {
    /// Optimizer steps done.
    pub step: u64,
    /// Tokens seen.
    pub num_tokens: u64,
    /// Mean loss in nats per token asked for.
    pub loss: f64,
    /// Share of the tokens asked for whose most likely prediction is right.
    pub accuracy: f64,
    /// Mean loss in nats per token asked for of each source.
    pub by_source: BTreeMap<String, f64>,
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
    /// The held-out loss was measured: before the first step of a model that has learned something, at the configured
    /// steps, and at the end.
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
    /// Text to train on.
    pub train: &'a [Source],
    /// Text to measure on.
    pub held_out: &'a [Source],
    /// Special tokens.
    pub specials: Specials,
    /// What objectives read beside the text.
    pub aids: &'a Aids,
}

impl Pretraining {
    /// A pretraining that begins with `model`; what objectives train beside it is drawn from `seed`.
    pub fn new(config: &PretrainConfig, model: Model, aids: &Aids, seed: Seed) -> Self {
        let optimizer = config.optimizer(&model, None);
        let extras = Extras::new(config, &model, aids, seed.child("extras"));
        Self { model, optimizer, extras, progress: Progress::default(), is_drawn: false }
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
    let loader = Loader::new(text.train, config.cut(&text.specials), Some(seed), &state.progress.cursor)?;
    std::thread::scope(|scope| {
        let (give, batches) = sync_channel(BATCHES_AHEAD);
        let first = state.progress.step;
        scope.spawn(move || prepare(config, text, seed, loader, first, &give));
        steps(config, text, device, seed, state, observer, &batches)
    })
}

/// Batches that wait for their step, at most.
const BATCHES_AHEAD: usize = 2;

/// A batch and the place in the data after it.
struct Prepared {
    works: Vec<(f64, Work)>,
    num_tokens: u64,
    cursor: Cursor,
}

/// Makes batches until nobody takes them any more.
fn prepare(
    config: &PretrainConfig,
    text: &Text<'_>,
    seed: Seed,
    mut loader: Loader<'_>,
    first: u64,
    give: &SyncSender<Result<Prepared, TrainError>>,
) {
    for step in first.. {
        let progress = loader.progress();
        let batch = loader.next_batch().map(|sequences| {
            let works = config.works(text, &sequences, progress, (seed, step));
            let num_tokens = sequences.iter().map(|own| (own.len() + text.specials.num_tokens()) as u64).sum();
            Prepared { works, num_tokens, cursor: loader.cursor() }
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
    let (parameters, rates) = (state.model.parameters(), config.train.rates(&state.model));
    let mut gradients = Gradients::zeros(parameters).with_rates(parameters, &rates);
    let mut saved = state.progress.step;
    let mut tell = |event: Event<'_>| observer.observe(&event).map_err(TrainError::Observer);
    if state.progress.step == 0
        && !state.is_drawn
        && tell(Event::HeldOut(&held_out_loss(config, text, device, seed, state)?))? == Control::Stop
    {
        return Ok(false);
    }
    while state.progress.num_tokens < config.num_tokens.0 {
        let start = Instant::now();
        let prepared = batches.recv().expect("batches come until an error or the end of the steps")?;
        let waited = start.elapsed();
        let report = step(config, text, (device, seed), state, &prepared, &mut gradients)?;
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
    text: &Text<'_>,
    (device, seed): (&Device, Seed),
    state: &mut Pretraining,
    prepared: &Prepared,
    gradients: &mut Gradients,
) -> Result<StepReport, TrainError> {
    let at = state.progress.step;
    let progress = state.progress.num_tokens as f64 / config.num_tokens.0 as f64;
    // The first step would have rate 0: the rate is that of the middle of the batch.
    let half = 0.5 * prepared.num_tokens as f64 / config.num_tokens.0 as f64;
    let learning_rate = config.learning_rate * config.schedule.factor((progress + half).min(1.0));
    if config.worst_source.is_some() && state.progress.source_weights.is_empty() {
        state.progress.source_weights = vec![1.0 / text.train.len() as f64; text.train.len()];
    }
    let (losses, grad_norm) = device.install(|| {
        let mut losses: Vec<(String, f64, f64)> = Vec::new();
        for (weight, work) in &prepared.works {
            let mut worker = Worker {
                model: &state.model,
                device,
                gradients,
                extras: &mut state.extras,
                memory: config.memory,
                dropout: config.dropout,
                seed,
                step: at,
            };
            let found = do_work(config, text, &mut worker, &mut state.progress.source_weights, work, *weight);
            losses.extend(found.into_iter().map(|(name, loss, counts)| (name, loss, counts * weight)));
        }
        let grad_norm = state.optimizer.step(device, state.model.parameters_mut(), gradients, learning_rate);
        state.extras.step(device, learning_rate);
        (losses, grad_norm)
    });
    let loss = losses.iter().map(|(_, loss, weight)| loss * weight).sum::<f64>();
    if !(loss.is_finite() && grad_norm.is_finite()) {
        return Err(TrainError::Diverged { step: at, loss, grad_norm });
    }
    state.progress.step += 1;
    state.progress.num_tokens += prepared.num_tokens;
    state.progress.cursor = prepared.cursor.clone();
    let Progress { step, num_tokens, ref cursor, .. } = state.progress;
    let objectives = match losses.len() {
        0 | 1 => BTreeMap::new(),
        _ => losses.into_iter().map(|(name, loss, _)| (name, loss)).collect(),
    };
    Ok(StepReport { step, num_tokens, loss, objectives, grad_norm, learning_rate, epoch: cursor.epoch() })
}

/// Does a piece of work: names and losses of what was found, and what each counts of `weight`.
pub(crate) fn do_work(
    config: &PretrainConfig,
    text: &Text<'_>,
    worker: &mut Worker<'_>,
    source_weights: &mut [f64],
    work: &Work,
    weight: f64,
) -> Vec<(String, f64, f64)> {
    let one = |name: &str, loss: f64| vec![(name.to_owned(), loss, 1.0)];
    match work {
        Work::Tokens(exercise) => {
            let name = if config.clm.is_some() { "clm" } else { "mlm" };
            one(name, find_tokens(config, worker, source_weights, exercise, weight))
        }
        Work::Replaced(exercise) => {
            let frame = [text.specials.start.len(), text.specials.end.len()];
            let [loss, generator] = rtd::work(worker, exercise, frame, weight);
            vec![("rtd".to_owned(), loss, 1.0), ("generator".to_owned(), generator, 0.0)]
        }
        Work::Contrastive(pairs) => {
            let config = config.contrastive.as_ref().expect("it made the pairs");
            one("contrastive", contrastive::work(worker, config, pairs, weight))
        }
        Work::Denoise(noised) => {
            let config = config.denoise.as_ref().expect("it hid the tokens");
            one("denoise", denoise::work(worker, config, noised, weight))
        }
        Work::Consistency(views) => one("consistency", consistency::work(worker, views, weight)),
        Work::Task(idx, chosen) => {
            let task = &text.aids.tasks[*idx];
            one(&format!("task {}", task.name), tasks::work(worker, task, chosen, weight))
        }
    }
}

/// Adds the gradient of `weight` times the mean loss of finding tokens, which is returned. Where the worst source counts most,
/// weights of sources take the place of the mean, and move.
fn find_tokens(
    config: &PretrainConfig,
    worker: &mut Worker<'_>,
    source_weights: &mut [f64],
    exercise: &Exercise,
    weight: f64,
) -> f64 {
    let num_asked = exercise.targets.len().max(1);
    let scales: Option<Vec<f32>> = config.worst_source.map(|_| {
        let scales = worst_source::scales(source_weights, &exercise.sources);
        scales.into_iter().map(|scale| weight as f32 * scale).collect()
    });
    let mut found = VocabularyLoss::default();
    let parts = exercise.parts(config.memory.tokens_at_a_time);
    let is_cut = parts.len() > 1;
    for Part { exercise, first_row, asked } in parts {
        let pass =
            Pass { dropout: Some(worker.dropout("", first_row)), recomputed_layers: config.memory.recomputed_layers };
        let mut tape =
            Tape::recording(worker.device, worker.model.parameters(), worker.gradients).keeping_packs(is_cut);
        let Exercise { batch, positions, targets, .. } = &exercise;
        let states = worker.model.read(&mut tape, batch, &worker.model.head().reading(batch, positions), pass);
        let scale = match &scales {
            None => Scale::Same(weight as f32 / num_asked as f32),
            Some(scales) => Scale::Each(&scales[asked]),
        };
        let loss = worker.model.token_loss(&mut tape, states, targets, scale, &mut found);
        tape.backward(loss);
    }
    if let Some(config) = &config.worst_source {
        worst_source::update(source_weights, config, &found.losses, &exercise.sources);
    }
    found.sum / num_asked as f64
}

/// The loss on held-out text, each source for itself and all together, under masks that are the same every time: as many as
/// at the end of the stage, so that losses can be compared along it.
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
    let (mut all, mut num_asked, mut by_source) = (VocabularyLoss::default(), 0, BTreeMap::new());
    let total: u64 = text.held_out.iter().map(|source| source.shards.num_tokens()).sum();
    for source in text.held_out.iter().filter(|source| source.shards.num_tokens() > 0) {
        let share = source.shards.num_tokens() as f64 / total as f64;
        let most = (config.held_out_tokens.0 as f64 * share).ceil() as u64;
        let seed = seed.child(&source.name);
        let (found, count) = source_loss(config, (source, most), &text.specials, device, seed, &state.model)?;
        by_source.insert(source.name.clone(), found.sum / count.max(1) as f64);
        all.sum += found.sum;
        all.num_right += found.num_right;
        num_asked += count;
    }
    let count = num_asked.max(1) as f64;
    Ok(HeldOutReport {
        step: state.progress.step,
        num_tokens: state.progress.num_tokens,
        loss: all.sum / count,
        accuracy: all.num_right as f64 / count,
        by_source,
    })
}

/// The summed loss over about `most` tokens of a source, and how many of them were asked for.
fn source_loss(
    config: &PretrainConfig,
    (source, most): (&Source, u64),
    specials: &Specials,
    device: &Device,
    seed: Seed,
    model: &Model,
) -> Result<(VocabularyLoss, usize), TrainError> {
    let end = Cut {
        max_length: Ramp::constant(config.max_length.to),
        tokens_per_batch: Ramp::constant(config.tokens_per_batch.most()),
        ..config.cut(specials)
    };
    let (mut found, mut num_asked, mut num_tokens) = (VocabularyLoss::default(), 0, 0);
    for (batch, sequences) in loader::in_order(source, end)?.enumerate() {
        if num_tokens >= most {
            break;
        }
        let stream = seed.stream("held-out masks");
        // Terms are hidden as all else is, so that losses can be compared whatever the terms.
        let (sequences, terms) = (sequences?, Terms::default());
        let exercise =
            config.objective(config.mlm.mask_prob.to).exercise(specials, &terms, &sequences, stream, batch as u64);
        device.install(|| {
            let mut tape = Tape::inference(device, model.parameters());
            let asked = model.head().reading(&exercise.batch, &exercise.positions);
            let states = model.read(&mut tape, &exercise.batch, &asked, Pass::default());
            model.token_loss(&mut tape, states, &exercise.targets, Scale::Same(1.0), &mut found);
        });
        num_asked += exercise.targets.len();
        num_tokens += exercise.batch.ids().len() as u64;
    }
    Ok((found, num_asked))
}
