//! What a plan would take, from two steps of its model timed on this machine.

use anyhow::Result;
use arable_model::Architecture;
use arable_tensor::{Device, Precision};
use serde::Serialize;

use crate::bench;
use crate::domain::Domain;
use crate::plan::{self, Stage};

/// What one stage would take, about.
#[derive(Clone, Debug, Serialize)]
pub struct Estimate {
    /// The stage.
    pub stage: Stage,
    /// Optimizer steps.
    pub num_steps: u64,
    /// Seconds of training on this machine.
    pub wall_s: f64,
    /// Bytes of memory at most: weights, gradients, moments, packed weights, and what a part of a batch
    /// keeps for the backward pass.
    pub memory_bytes: f64,
}

/// Estimates every stage of the plan.
///
/// # Errors
/// When the model cannot be.
pub fn of_plan(domain: &Domain, device: &Device) -> Result<Vec<Estimate>> {
    let architecture = domain.architecture()?;
    plan::stages(domain.config()).into_iter().map(|stage| estimate(stage, &architecture, device)).collect()
}

fn estimate(stage: Stage, architecture: &Architecture, device: &Device) -> Result<Estimate> {
    let config = &stage.pretrain;
    let (length, tokens) = (config.max_length.at(0.5), config.tokens_per_batch.at(0.5));
    let mask = (100.0 * config.asked_share()).round() as usize;
    // A part of a large batch tells as much as the whole.
    let tokens = tokens.min(4096).max(length);
    let (tokens_per_s, num_parameters) = bench::training_rate(architecture, (tokens, length, mask), device);
    let at_once = config.tokens_per_batch.most().min(config.memory.tokens_at_a_time.max(2048));
    let kept = architecture.num_hidden_layers.saturating_sub(config.memory.recomputed_layers).max(1);
    let Architecture { hidden_size: h, intermediate_size: i, vocab_size, .. } = *architecture;
    let inside = if device.precision() == Precision::F32 { 4 } else { 2 };
    // Kept of each layer: the residual stream and its two norms' inputs in f32; normed, queries, keys, values, attended,
    // both halves of the gate and their product in the format of activations.
    let per_token = kept * (inside * (6 * h + 3 * i) + 12 * h);
    let logits = 4 * 2 * vocab_size * 512;
    // In 16 bits, for the way forward and for the way back: all of a batch that is cut, else of the decoder.
    let packed = match device.precision() {
        Precision::F32 => 0,
        _ if at_once < config.tokens_per_batch.most() => 4 * num_parameters,
        _ => 4 * vocab_size * h,
    };
    let memory_bytes = (16 * num_parameters + packed + per_token * at_once + logits) as f64;
    let wall_s = config.num_tokens.0 as f64 * config.num_passes() / tokens_per_s;
    Ok(Estimate { num_steps: stage.num_steps(), wall_s, memory_bytes, stage })
}
