//! Fine-tuning on labelled examples, with the best weights on the development set kept.

use arable_core::{Probability, Seed};
use arable_model::{Batch, Dropout, Model, Pass};
use arable_tensor::{AdamW, AdamWConfig, Device, Gradients, Tape, Var};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{TrainError, schedule};

/// How long and how a model is fine-tuned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FinetuneConfig {
    /// Passes over the labelled examples, at most.
    pub num_epochs: usize,
    /// Optimizer steps, at least, however few examples there are.
    pub min_steps: u64,
    /// Optimizer steps, at most.
    pub max_steps: u64,
    /// Examples in a batch.
    pub batch_size: usize,
    /// Tokens in a sequence, at most, special ones included; longer inputs are cut.
    pub max_length: usize,
    /// Part of the steps in which the learning rate rises; it falls linearly after.
    pub warmup: Probability,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Probability of dropout.
    pub dropout: Probability,
    /// Measurements on the development set, at most.
    pub num_evaluations: u64,
    /// Measurements without a better score after which to stop.
    pub patience: u64,
}

impl Default for FinetuneConfig {
    fn default() -> Self {
        let part = |value| Probability::new(value).expect("a literal in range");
        Self {
            num_epochs: 10,
            min_steps: 200,
            max_steps: 2000,
            batch_size: 32,
            max_length: 128,
            warmup: part(0.1),
            weight_decay: 0.01,
            dropout: part(0.1),
            num_evaluations: 20,
            patience: 6,
        }
    }
}

/// An example as a model sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct EncodedExample {
    /// Token ids with `[CLS]` and `[SEP]`.
    pub ids: Vec<u32>,
    /// Tokens to classify from, counted from the first: markers, or the first token of each word; else empty.
    pub positions: Vec<usize>,
    /// The token at which the second text of a pair begins.
    pub second_from: Option<usize>,
    /// The answer.
    pub target: EncodedTarget,
}

/// The answer to an example, in class indices.
#[derive(Clone, Debug, PartialEq)]
pub enum EncodedTarget {
    /// One class.
    Class(u32),
    /// 1 for each class that applies and 0 for the others.
    Classes(Vec<f32>),
    /// A class for each of the example's positions.
    Tags(Vec<u32>),
}

/// A fine-tuned model and how it got there.
pub struct Finetuned {
    /// The model with the best development score.
    pub model: Model,
    /// Development score by step.
    pub curve: Vec<(u64, f64)>,
    /// The step of the kept weights.
    pub best_step: u64,
    /// Steps done.
    pub num_steps: u64,
    /// Tokens seen in training.
    pub num_tokens: u64,
}

impl FinetuneConfig {
    /// Optimizer steps for so many examples.
    pub fn num_steps(&self, num_examples: usize) -> u64 {
        let steps = (num_examples * self.num_epochs).div_ceil(self.batch_size) as u64;
        steps.clamp(self.min_steps.min(self.max_steps), self.max_steps)
    }
}

/// Fine-tunes `model`. `score` measures a model on the development set, higher being better.
///
/// # Errors
/// When there is no example or the loss diverges.
pub fn finetune(
    config: &FinetuneConfig,
    learning_rate: f64,
    mut model: Model,
    examples: &[EncodedExample],
    device: &Device,
    seed: Seed,
    score: &mut dyn FnMut(&Model) -> f64,
) -> Result<Finetuned, TrainError> {
    if examples.is_empty() {
        return Err(TrainError::NoSequences);
    }
    let adamw = AdamWConfig { weight_decay: config.weight_decay, ..AdamWConfig::default() };
    let mut optimizer = AdamW::new(adamw, model.parameters());
    let mut gradients = Gradients::zeros(model.parameters());
    let num_steps = config.num_steps(examples.len());
    let every = (num_steps / config.num_evaluations.max(1)).max(1);
    let mut best = (f64::NEG_INFINITY, 0, model.clone());
    let (mut curve, mut num_tokens, mut done) = (Vec::new(), 0, 0);
    for step in 0..num_steps {
        let chosen = batch_indices(examples.len(), config.batch_size, step, seed);
        let batch: Vec<&EncodedExample> = chosen.iter().map(|&idx| &examples[idx]).collect();
        let dropout = Dropout { p: config.dropout, stream: seed.stream("dropout"), step, first_row: 0 };
        let rate = learning_rate * schedule::linear((step as f64 + 0.5) / num_steps as f64, config.warmup);
        let (loss_value, tokens, grad_norm) = device.install(|| {
            let mut tape = Tape::recording(device, model.parameters(), &mut gradients);
            let (loss, tokens) = task_loss(&model, &mut tape, &batch, dropout);
            let loss_value = f64::from(tape.value(loss).scalar());
            tape.backward(loss);
            (loss_value, tokens, optimizer.step(device, model.parameters_mut(), &mut gradients, rate))
        });
        if !(loss_value.is_finite() && grad_norm.is_finite()) {
            return Err(TrainError::Diverged { step, loss: loss_value, grad_norm });
        }
        num_tokens += tokens as u64;
        done = step + 1;
        if done % every == 0 || done == num_steps {
            let value = score(&model);
            curve.push((done, value));
            if value > best.0 {
                best = (value, done, model.clone());
            } else if done - best.1 >= config.patience * every {
                break;
            }
        }
    }
    Ok(Finetuned { model: best.2, curve, best_step: best.1, num_steps: done, num_tokens })
}

/// The examples of batch `step`: every epoch is a permutation of its own.
pub(crate) fn batch_indices(num_examples: usize, batch_size: usize, step: u64, seed: Seed) -> Vec<usize> {
    let batch_size = batch_size.min(num_examples);
    let per_epoch = num_examples.div_ceil(batch_size) as u64;
    let (epoch, batch) = (step / per_epoch, (step % per_epoch) as usize);
    let mut order: Vec<usize> = (0..num_examples).collect();
    seed.stream("order").at(epoch, 0).shuffle(&mut order);
    order.into_iter().skip(batch * batch_size).take(batch_size).collect()
}

fn task_loss(model: &Model, tape: &mut Tape<'_>, batch: &[&EncodedExample], dropout: Dropout) -> (Var, usize) {
    let (packed, positions) = pack(batch);
    let pass = Pass { dropout: Some(dropout), ..Pass::default() };
    let states = model.read(tape, &packed, &model.head().reading(&packed, &positions), pass);
    let logits = model.classify(tape, states, Some(dropout));
    (target_loss(tape, logits, batch), packed.ids().len())
}

/// The mean loss of logits against the answers to examples.
pub(crate) fn target_loss(tape: &mut Tape<'_>, logits: Var, batch: &[&EncodedExample]) -> Var {
    let (mut classes, mut switches) = (Vec::new(), Vec::new());
    for example in batch {
        match &example.target {
            EncodedTarget::Class(class) => classes.push(*class),
            EncodedTarget::Tags(tags) => classes.extend_from_slice(tags),
            EncodedTarget::Classes(each) => switches.extend_from_slice(each),
        }
    }
    if switches.is_empty() {
        tape.cross_entropy(logits, &classes)
    } else {
        tape.binary_cross_entropy(logits, &switches)
    }
}

pub(crate) fn pack(batch: &[&EncodedExample]) -> (Batch, Vec<usize>) {
    let mut packed = Batch::pack(batch.iter().map(|example| example.ids.as_slice()));
    if batch.iter().any(|example| example.second_from.is_some()) {
        let types = |example: &&EncodedExample| {
            let (len, from) = (example.ids.len(), example.second_from.unwrap_or(usize::MAX));
            (0..len).map(move |at| u32::from(at >= from))
        };
        packed = packed.with_types(batch.iter().flat_map(types).collect::<Vec<u32>>());
    }
    let starts = packed.sequences().iter().map(|rows| rows.start);
    let positions = starts.zip(batch).flat_map(|(start, example)| example.positions.iter().map(move |at| start + at));
    let positions = positions.collect();
    (packed, positions)
}

/// Tokens in a batch of [`predict`], about.
const PREDICT_TOKENS: usize = 8192;

/// Logits of each example: `[num_labels]`, or `[num_positions * num_labels]` for tagging.
pub fn predict(model: &Model, device: &Device, examples: &[EncodedExample]) -> Vec<Vec<f32>> {
    let logits = |tape: &mut Tape<'_>, read| model.classify(tape, read, None);
    read_out(model, device, examples, &logits).into_iter().map(|rows| rows.concat()).collect()
}

/// The states of the encoder that the head would classify from, for each example: one row of `[hidden]` (of
/// `[num_markers * hidden]`), or one for each position for tagging.
pub fn features(model: &Model, device: &Device, examples: &[EncodedExample]) -> Vec<Vec<Vec<f32>>> {
    read_out(model, device, examples, &|_, read| read)
}

/// What becomes of the states that the head would classify from: a row for each answer.
type ReadOut<'a> = dyn Fn(&mut Tape<'_>, Var) -> Var + Sync + 'a;

fn read_out(model: &Model, device: &Device, examples: &[EncodedExample], read: &ReadOut<'_>) -> Vec<Vec<Vec<f32>>> {
    let mut found = Vec::with_capacity(examples.len());
    let mut rest = examples;
    while !rest.is_empty() {
        let mut num_tokens = 0;
        let fits = rest.iter().take_while(|example| {
            num_tokens += example.ids.len();
            num_tokens <= PREDICT_TOKENS
        });
        let (batch, after) = rest.split_at(fits.count().max(1));
        rest = after;
        found.extend(read_batch(model, device, batch, read));
    }
    found
}

fn read_batch(model: &Model, device: &Device, batch: &[EncodedExample], read: &ReadOut<'_>) -> Vec<Vec<Vec<f32>>> {
    let refs: Vec<&EncodedExample> = batch.iter().collect();
    let (packed, positions) = pack(&refs);
    let (cols, values) = device.install(|| {
        let mut tape = Tape::inference(device, model.parameters());
        let states = model.read(&mut tape, &packed, &model.head().reading(&packed, &positions), Pass::default());
        let rows = read(&mut tape, states);
        (tape.value(rows).cols(), tape.value(rows).to_vec())
    });
    let mut rows = values.chunks_exact(cols).map(<[f32]>::to_vec);
    let num_rows = |example: &EncodedExample| match &example.target {
        EncodedTarget::Tags(_) => example.positions.len(),
        EncodedTarget::Class(_) | EncodedTarget::Classes(_) => 1,
    };
    batch.iter().map(|example| rows.by_ref().take(num_rows(example)).collect()).collect()
}
