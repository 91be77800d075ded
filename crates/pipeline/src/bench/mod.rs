//! How fast this machine does what Arable does, as shares of what it can do at best, measured in the same run.

mod engine;
mod text;

use std::fmt::Write as _;
use std::time::Instant;

use anyhow::Result;
use arable_core::Hint;
use arable_model::{Architecture, ModelConfig};
use arable_tensor::Device;
use serde::Serialize;

use crate::advice::Advise;

/// What can be timed.
pub const PARTS: [&str; 7] = ["kernels", "operations", "loader", "tokenizer", "step", "finetune", "inference"];

/// The shape of the model and of its batches.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Shape {
    /// Layers.
    pub layers: usize,
    /// Width of a token's state.
    pub hidden: usize,
    /// Tokens in the vocabulary.
    pub vocab: usize,
    /// Tokens in a batch.
    pub tokens: usize,
    /// Tokens in a sequence.
    pub length: usize,
    /// Percentage of tokens that are masked.
    pub mask: usize,
}

/// One timed case.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The part that it belongs to.
    pub part: &'static str,
    /// What is timed.
    pub case: String,
    /// Median time in seconds.
    pub seconds: f64,
    /// The rate, in units a second.
    pub rate: f64,
    /// The unit: `FLOP`, `B` or `token`.
    pub unit: &'static str,
    /// The rate as a share of the peak; none for tokens.
    pub share_of_peak: Option<f64>,
}

/// All that was timed.
#[derive(Clone, Debug, Serialize)]
pub struct Benchmark {
    /// The shape asked for.
    pub shape: Shape,
    /// Threads that compute.
    pub threads: usize,
    /// Number format of matrix operands.
    pub precision: &'static str,
    /// The matrix peak in FLOP/s.
    pub peak_flops: f64,
    /// The peak of copying in bytes per second.
    pub peak_bytes: f64,
    /// The cases.
    pub rows: Vec<Row>,
}

/// Times one of [`PARTS`], or all of them.
///
/// # Errors
/// When the shape cannot be built.
pub fn run(part: Option<&str>, shape: Shape, device: &Device) -> Result<Benchmark> {
    let mut bench = Bench { device, shape, architecture: architecture(shape).advise()?, found: empty(shape, device) };
    for each in PARTS.into_iter().filter(|each| part.is_none_or(|part| part == *each)) {
        match each {
            "kernels" => bench.kernels(),
            "operations" => bench.operations(),
            "loader" => bench.loader()?,
            "tokenizer" => bench.tokenizer()?,
            "step" => bench.step(),
            "finetune" => bench.finetune(),
            _ => bench.inference(),
        }
    }
    Ok(bench.found)
}

/// Tokens that a model of `architecture` trains on in a second in batches of `(tokens, length, mask)` as in [`Shape`], by a
/// second step of it, and the number of its parameters.
pub(crate) fn training_rate(
    architecture: &Architecture,
    (tokens, length, mask): (usize, usize, usize),
    device: &Device,
) -> (f64, usize) {
    let Architecture { num_hidden_layers: layers, hidden_size: hidden, vocab_size: vocab, .. } = *architecture;
    let shape = Shape { layers, hidden, vocab, tokens, length, mask };
    let found = Benchmark { shape, threads: 0, precision: "", peak_flops: 0.0, peak_bytes: 0.0, rows: Vec::new() };
    let (mut step, num_parameters) = Bench { device, shape, architecture: architecture.clone(), found }.stepper();
    step();
    let start = Instant::now();
    step();
    (tokens as f64 / start.elapsed().as_secs_f64(), num_parameters)
}

fn empty(shape: Shape, device: &Device) -> Benchmark {
    let (threads, precision) = (device.num_threads(), device.precision().name());
    let (peak_flops, peak_bytes) = (device.peak_flops(), device.peak_bytes());
    Benchmark { shape, threads, precision, peak_flops, peak_bytes, rows: Vec::new() }
}

/// A shape that no model or batch can have.
#[derive(Debug, thiserror::Error)]
#[error("build a model and a batch of this shape")]
pub struct BadShape;

impl Hint for BadShape {
    fn hint(&self) -> Option<String> {
        let wanted = "at least one layer, an even width (from 128 on a multiple of 64), a vocabulary of 16, sequences of 2 \
                      tokens, a batch that holds one sequence, and at most 100 % masked";
        Some(wanted.to_owned())
    }
}

/// ModernBERT's proportions: heads of 64, one and a half times as wide inside.
fn architecture(shape: Shape) -> Result<Architecture, BadShape> {
    let config = ModelConfig {
        num_hidden_layers: Some(shape.layers),
        hidden_size: Some(shape.hidden),
        num_attention_heads: Some((shape.hidden / 64).max(1)),
        intermediate_size: Some(shape.hidden * 3 / 2),
        max_position_embeddings: Some(shape.length.max(512)),
        ..ModelConfig::default()
    };
    let holds = shape.layers > 0 && shape.vocab >= 16 && shape.mask <= 100;
    let fits = shape.length >= 2 && shape.tokens >= shape.length;
    config.architecture(shape.vocab).ok().filter(|_| holds && fits).ok_or(BadShape)
}

struct Bench<'a> {
    device: &'a Device,
    shape: Shape,
    architecture: Architecture,
    found: Benchmark,
}

/// Repetitions of which the median counts, after one that does not.
const REPEATS: usize = 9;

impl Bench<'_> {
    /// Times `work`, which does `amount` units of `unit`.
    fn time(
        &mut self,
        part: &'static str,
        case: impl Into<String>,
        amount: f64,
        unit: &'static str,
        work: impl FnMut(),
    ) {
        let seconds = median_seconds(work);
        let rate = amount / seconds;
        let peak = match unit {
            "FLOP" => Some(self.found.peak_flops),
            "B" => Some(self.found.peak_bytes),
            _ => None,
        };
        let share_of_peak = peak.map(|peak| rate / peak);
        self.found.rows.push(Row { part, case: case.into(), seconds, rate, unit, share_of_peak });
    }
}

fn median_seconds(mut work: impl FnMut()) -> f64 {
    work();
    let mut times = [(); REPEATS].map(|()| {
        let start = Instant::now();
        work();
        start.elapsed().as_secs_f64()
    });
    times.sort_by(f64::total_cmp);
    times[REPEATS / 2]
}

impl Benchmark {
    /// A table of at most 80 columns.
    pub fn table(&self) -> String {
        let mut out = format!(
            "{} threads, {}; matrix peak {:.0} GFLOP/s, copying {:.1} GB/s\n\n",
            self.threads,
            self.precision,
            self.peak_flops / 1e9,
            self.peak_bytes / 1e9
        );
        writeln!(out, "{:<11}{:<36}{:>10}{:>16}{:>7}", "part", "case", "time", "rate", "peak")
            .expect("a string takes all");
        for row in &self.rows {
            let rate = match row.unit {
                "FLOP" => format!("{:.0} GFLOP/s", row.rate / 1e9),
                "B" => format!("{:.1} GB/s", row.rate / 1e9),
                unit if row.rate >= 1e6 => format!("{:.1} M {unit}s/s", row.rate / 1e6),
                unit => format!("{:.0} {unit}s/s", row.rate),
            };
            let share = row.share_of_peak.map_or(String::new(), |share| format!("{:.0} %", 100.0 * share));
            let time = format!("{:.2} ms", 1e3 * row.seconds);
            writeln!(out, "{:<11}{:<36}{time:>10}{rate:>16}{share:>7}", row.part, row.case)
                .expect("a string takes all");
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use arable_tensor::Precision;

    use super::*;

    const SMALL: Shape = Shape { layers: 1, hidden: 64, vocab: 300, tokens: 64, length: 32, mask: 15 };

    #[test]
    fn every_part_is_timed_and_fits_the_terminal() {
        let device = Device::cpu(1, Precision::fastest()).unwrap();
        let found = run(None, SMALL, &device).unwrap();
        for part in PARTS {
            assert!(found.rows.iter().any(|row| row.part == part), "{part}");
        }
        assert!(found.rows.iter().all(|row| row.rate > 0.0 && row.rate.is_finite()), "{found:?}");
        assert!(found.peak_flops > 1e8 && found.peak_bytes > 1e7);
        assert!(found.table().lines().all(|line| line.chars().count() <= 80), "{}", found.table());
    }

    #[test]
    fn what_cannot_be_timed_is_refused() {
        let device = Device::cpu(1, Precision::F32).unwrap();
        assert!(run(Some("step"), Shape { tokens: 8, ..SMALL }, &device).is_err());
    }
}
