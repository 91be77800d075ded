//! Times a training step on random tokens: `step PRECISION LAYERS HIDDEN HEADS INTERMEDIATE VOCAB TOKENS LENGTH MASK`.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a tool for developers")]

use arable_core::Seed;
use arable_model::{Batch, Head, Model, ModelConfig};
use arable_tensor::{AdamW, AdamWConfig, Device, Gradients, Precision, Tape};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let precision = if args[0] == "f32" { Precision::F32 } else { Precision::Bf16 };
    let n: Vec<usize> = args[1..9].iter().filter_map(|arg| arg.parse().ok()).collect();
    let mask = n[7];
    let config = ModelConfig {
        num_hidden_layers: Some(n[0]),
        hidden_size: Some(n[1]),
        num_attention_heads: Some(n[2]),
        intermediate_size: Some(n[3]),
        ..ModelConfig::default()
    };
    let architecture = config.architecture(n[4]).unwrap();
    let flops = architecture.flops_per_token(mask as f64 / 100.0, n[6]) * n[5] as f64;
    let mut model = Model::new(architecture, Head::MaskedLm, Seed(1));
    let device = Device::cpu(args.get(9).map_or(2, |n| n.parse().unwrap()), precision).unwrap();
    let mut draws = Seed(1).stream("ids").at(0, 0);
    let ids: Vec<u32> = (0..n[5]).map(|_| draws.below(n[4]) as u32).collect();
    let batch = Batch::pack(ids.chunks(n[6]));
    let positions: Vec<usize> = (0..n[5]).filter(|_| draws.below(100) < mask).collect();
    let targets: Vec<u32> = positions.iter().map(|&p| ids[p]).collect();
    let mut optimizer = AdamW::new(AdamWConfig::default(), model.parameters());
    let mut gradients = Gradients::zeros(model.parameters());
    let mut step = || {
        let start = std::time::Instant::now();
        let mut tape = Tape::recording(&device, model.parameters());
        let hidden = model.encode(&mut tape, &batch, None);
        let (loss, _) = model.masked_loss(&mut tape, hidden, &positions, &targets);
        let forward = start.elapsed().as_secs_f64();
        tape.backward(loss, 1.0, &mut gradients);
        let backward = start.elapsed().as_secs_f64();
        optimizer.step(&device, model.parameters_mut(), &mut gradients, 1e-4);
        (start.elapsed().as_secs_f64(), forward, backward)
    };
    let mut times: Vec<_> = (0..12).map(|_| device.install(&mut step)).collect();
    times.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (s, forward, backward) = times[times.len() / 2];
    println!(
        "{} tokens/s, {:.3} s a step (forward {forward:.3}, backward {:.3}, optimizer {:.3}), {:.0} GFLOP/s",
        (n[5] as f64 / s) as u64,
        s,
        backward - forward,
        s - backward,
        flops / s / 1e9
    );
}
