//! Under a perturbation, the same is to be said of hidden tokens (R-Drop, Liang et al. 2021, with more tokens hidden in the place
//! of other dropout).

use arable_core::{Probability, Seed};
use arable_model::{Batch, Reading};
use arable_tensor::Sequences;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::loader::Sequence;
use crate::objective::mlm::{MaskUnit, Terms, mask};
use crate::objective::vectors::{on_model, through};
use crate::objective::{Specials, Worker};
use crate::ramp::Ramp;

/// How texts are perturbed, and what is compared.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ConsistencyConfig {
    /// What the loss counts.
    pub weight: Ramp<f64>,
    /// Probability with which a token is hidden from both views, to be found in both.
    pub mask_prob: Probability,
    /// Probability with which one more is hidden from the second view.
    pub perturb_prob: Probability,
    /// Hidden tokens that are compared in a step, at most: each needs two distributions over the vocabulary.
    pub num_positions: usize,
}

impl Default for ConsistencyConfig {
    fn default() -> Self {
        let part = |value| Probability::new(value).expect("a literal in range");
        Self { weight: Ramp::constant(1.0), mask_prob: part(0.15), perturb_prob: part(0.15), num_positions: 256 }
    }
}

/// Two views of the same sequences, one after the other, and the rows that are compared: so many in each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Views {
    batch: Batch,
    rows: Vec<usize>,
}

/// Two views; none where nothing is hidden.
pub(crate) fn views(
    config: &ConsistencyConfig,
    specials: &Specials,
    sequences: &[Sequence],
    seed: Seed,
    step: u64,
) -> Option<Views> {
    let hidden =
        |p, name: &str| mask((MaskUnit::Token, p), specials, &Terms::default(), sequences, seed.stream(name), step);
    let first = hidden(config.mask_prob, "hidden from both views");
    let more = hidden(config.perturb_prob, "hidden from one view");
    let num_rows = first.batch.ids().len();
    let mut ids = first.batch.ids().repeat(2);
    more.positions.iter().for_each(|&at| ids[num_rows + at] = more.batch.ids()[at]);
    let lengths = || first.batch.sequences().iter().map(|rows| rows.len());
    let mut compared = first.positions;
    seed.stream("compared positions").at(step, 0).shuffle(&mut compared);
    compared.truncate(config.num_positions);
    compared.sort_unstable();
    let batch = Batch::new(ids, Sequences::of_lengths(lengths().chain(lengths())));
    let rows: Vec<usize> = compared.iter().copied().chain(compared.iter().map(|at| num_rows + at)).collect();
    (!rows.is_empty()).then_some(Views { batch, rows })
}

/// Adds the gradient of `weight` times the loss, which is returned: nats for each token compared.
pub(crate) fn work(worker: &mut Worker<'_>, Views { batch, rows }: &Views, weight: f64) -> f64 {
    through(worker, "consistency", (batch, &Reading::rows(rows.clone(), 1, batch)), |worker, vectors| {
        on_model(worker, vectors, weight as f32, |model, tape, x| {
            let logits = model.classify(tape, x, None);
            tape.symmetric_divergence(logits)
        })
    })
}
