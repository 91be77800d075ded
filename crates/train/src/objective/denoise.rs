//! A text is to be made again from its vector (RetroMAE, Xiao et al. 2022): a decoder of one layer sees the vector in the place
//! of the first token, and so little of the text that it has to rely on it. A denoising sentence embedding as TSDAE is (Wang
//! et al. 2021), for encoders without cross-attention.

use arable_core::{Probability, Seed};
use arable_model::{Batch, Pass, Pooling, Reading};
use arable_tensor::ops::loss::{Scale, VocabularyLoss};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::loader::Sequence;
use crate::objective::mlm::{MaskUnit, Terms, mask};
use crate::objective::vectors::{on_extra, through};
use crate::objective::{Exercise, Specials, Worker};
use crate::ramp::Ramp;

/// How texts are hidden and made again.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DenoiseConfig {
    /// What the loss counts.
    pub weight: Ramp<f64>,
    /// Probability with which a token is hidden from the encoder.
    pub mask_prob: Probability,
    /// Probability with which a token is hidden from the decoder, which is to find it.
    pub decoder_mask_prob: Probability,
    /// How a text becomes one vector.
    pub pooling: Pooling,
}

impl Default for DenoiseConfig {
    fn default() -> Self {
        let part = |value| Probability::new(value).expect("a literal in range");
        Self { weight: Ramp::constant(1.0), mask_prob: part(0.3), decoder_mask_prob: part(0.6), pooling: Pooling::Mean }
    }
}

/// What the encoder sees, and what the decoder sees and is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Noised {
    encoder: Batch,
    decoder: Exercise,
}

/// Hides tokens from both.
pub(crate) fn noised(
    config: &DenoiseConfig,
    specials: &Specials,
    sequences: &[Sequence],
    seed: Seed,
    step: u64,
) -> Noised {
    let hidden =
        |p, name: &str| mask((MaskUnit::Token, p), specials, &Terms::default(), sequences, seed.stream(name), step);
    Noised {
        encoder: hidden(config.mask_prob, "hidden from encoder").batch,
        decoder: hidden(config.decoder_mask_prob, "hidden from decoder"),
    }
}

/// Adds the gradient of `weight` times the loss, which is returned: nats per token that the decoder has to find.
pub(crate) fn work(worker: &mut Worker<'_>, config: &DenoiseConfig, noised: &Noised, weight: f64) -> f64 {
    let Noised { encoder, decoder } = noised;
    let num_asked = decoder.targets.len().max(1) as f64;
    let mut found = VocabularyLoss::default();
    through(worker, "denoise", (encoder, &Reading::pooled(config.pooling, encoder)), |worker, vectors| {
        on_extra(worker, "decoder", vectors, 1.0, |model, tape, x| {
            let asked = model.head().reading(&decoder.batch, &decoder.positions);
            let states = model.read_after(tape, (&decoder.batch, x), &asked, Pass::default());
            let scale = Scale::Same((weight / num_asked) as f32);
            model.token_loss(tape, states, &decoder.targets, scale, &mut found)
        })
    });
    found.sum / num_asked
}
