//! Replaced-token detection (ELECTRA, Clark et al. 2020): a small generator puts likely tokens in the place of hidden ones, and the
//! model tells which tokens of the text are not the original ones.
//!
//! Generator and model share no embeddings: the narrow generator would need another layer to fit them, and shared ones pull
//! in two directions (He et al. 2021, DeBERTaV3).

use arable_core::Draws;
use arable_model::{Batch, Head, Pass, Reading};
use arable_tensor::Tape;
use arable_tensor::ops::loss::{Scale, VocabularyLoss};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::extras::Kind;
use crate::objective::vectors::{on_extra, through};
use crate::objective::{Exercise, Part, Worker};
use crate::ramp::Ramp;

/// How tokens are replaced. Which ones, `mlm` says; with `mlm = { weight = 0 }` the model itself finds no hidden tokens, as in
/// ELECTRA.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RtdConfig {
    /// What the loss of the model counts, beside the generator's, which counts 1 for the generator alone.
    pub weight: Ramp<f64>,
    /// Layers of the generator; by default as many as the model has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generator_layers: Option<usize>,
    /// Width of the generator, as a part of the model's.
    pub generator_width: f64,
}

impl Default for RtdConfig {
    fn default() -> Self {
        Self { weight: Ramp::constant(50.0), generator_layers: None, generator_width: 0.25 }
    }
}

const GENERATOR: &str = "generator";
const DISCRIMINATOR: &str = "discriminator";

impl RtdConfig {
    /// The models that it trains beside.
    pub(crate) fn extras(&self) -> [(String, Kind); 2] {
        // Never as wide as the model: that would begin with its weights.
        let (num_layers, width) = (self.generator_layers.unwrap_or(usize::MAX), self.generator_width.min(0.99));
        [
            (GENERATOR.to_owned(), Kind::Small { num_layers, width }),
            (DISCRIMINATOR.to_owned(), Kind::Head(Head::Token { num_labels: 2 })),
        ]
    }
}

/// Rows whose distributions over the vocabulary exist at a time.
const TOKENS_AT_ONCE: usize = 2048;

/// Trains the generator on an exercise, and adds the gradient of `weight` times the loss of telling its tokens from the original
/// ones. Returns that loss, nats per token, and the generator's, nats per hidden token.
pub(crate) fn work(worker: &mut Worker<'_>, exercise: &Exercise, num_specials: [usize; 2], weight: f64) -> [f64; 2] {
    let generator_loss = train_generator(worker, exercise);
    let replaced = replaced(worker, exercise);
    let rows: Vec<usize> = replaced
        .sequences()
        .iter()
        .flat_map(|rows| rows.start + num_specials[0]..rows.end.saturating_sub(num_specials[1]))
        .collect();
    if rows.is_empty() {
        return [0.0, generator_loss];
    }
    let mut original = exercise.batch.ids().to_vec();
    exercise.positions.iter().zip(&exercise.targets).for_each(|(&at, &id)| original[at] = id);
    let targets: Vec<u32> = rows.iter().map(|&row| u32::from(replaced.ids()[row] != original[row])).collect();
    let loss = through(worker, "rtd", (&replaced, &Reading::rows(rows, 1, &replaced)), |worker, vectors| {
        on_extra(worker, DISCRIMINATOR, vectors, weight as f32, |head, tape, x| {
            let logits = head.classify(tape, x, None);
            tape.cross_entropy(logits, &targets)
        })
    });
    [loss, generator_loss]
}

fn train_generator(worker: &mut Worker<'_>, exercise: &Exercise) -> f64 {
    let num_asked = exercise.targets.len().max(1) as f64;
    let mut found = VocabularyLoss::default();
    let generator = worker.extras.get_mut(GENERATOR);
    let parts = exercise.parts(worker.memory.tokens_at_a_time);
    let is_cut = parts.len() > 1;
    for Part { exercise: Exercise { batch, positions, targets, .. }, .. } in parts {
        let mut tape = Tape::recording(worker.device, generator.model.parameters(), &mut generator.gradients)
            .keeping_packs(is_cut);
        let asked = generator.model.head().reading(&batch, &positions);
        let states = generator.model.read(&mut tape, &batch, &asked, Pass::default());
        let scale = Scale::Same((1.0 / num_asked) as f32);
        let loss = generator.model.token_loss(&mut tape, states, &targets, scale, &mut found);
        tape.backward(loss);
    }
    found.sum / num_asked
}

/// The batch with tokens that the generator drew in the place of hidden ones; row `i` draws from `stream.at(step, i)`.
fn replaced(worker: &mut Worker<'_>, exercise: &Exercise) -> Batch {
    let stream = worker.seed.stream("replaced tokens");
    let (step, device) = (worker.step, worker.device);
    let generator = &worker.extras.get_mut(GENERATOR).model;
    let mut ids = exercise.batch.ids().to_vec();
    for Part { exercise: Exercise { batch: part, positions, .. }, first_row, .. } in exercise.parts(TOKENS_AT_ONCE) {
        let mut tape = Tape::inference(device, generator.parameters());
        let states = generator.read(&mut tape, &part, &generator.head().reading(&part, &positions), Pass::default());
        let logits = generator.classify(&mut tape, states, None);
        let (cols, logits) = (tape.value(logits).cols(), tape.value(logits).to_vec());
        for (&at, row) in positions.iter().zip(logits.chunks_exact(cols)) {
            let at = first_row + at;
            ids[at] = drawn(row, stream.at(step, at as u64));
        }
    }
    Batch::new(ids, exercise.batch.sequences().clone()).with_types(exercise.batch.types())
}

/// A class drawn with its probability.
fn drawn(logits: &[f32], mut draws: Draws) -> u32 {
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weights: Vec<f64> = logits.iter().map(|&logit| f64::from(logit - top).exp()).collect();
    let mut left = draws.uniform() * weights.iter().sum::<f64>();
    let class = weights.iter().position(|weight| {
        left -= weight;
        left < 0.0
    });
    class.unwrap_or(weights.len() - 1) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use arable_core::Seed;

    #[test]
    fn tokens_are_drawn_with_their_probabilities() {
        let logits = [0.0, 3.0_f32.ln(), f32::NEG_INFINITY];
        let count = |class| {
            let stream = Seed(1).stream("test");
            (0..4000).filter(|&idx| drawn(&logits, stream.at(0, idx)) == class).count() as f64 / 4000.0
        };
        assert!((count(0) - 0.25).abs() < 0.03 && (count(1) - 0.75).abs() < 0.03 && count(2) == 0.0);
    }
}
