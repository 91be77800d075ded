//! The gradient of every objective against finite differences of its loss, through a small model.

use arable_core::{Probability, Seed};
use arable_model::{Head, Model, ModelConfig, Pooling};
use arable_tensor::{Device, Gradients, Precision};

use super::consistency::ConsistencyConfig;
use super::contrastive::{ContrastiveConfig, PairsOf};
use super::denoise::DenoiseConfig;
use super::rtd::RtdConfig;
use super::tasks::TasksConfig;
use super::{ALL, Aids, Specials, TaskExamples, Worker};
use crate::adapt::{EncodedExample, EncodedTarget};
use crate::extras::Extras;
use crate::loader::Sequence;
use crate::objective::clm::ClmConfig;
use crate::pretrain::{PretrainConfig, Text, do_work};
use crate::ramp::Ramp;

const VOCAB: u32 = 40;

fn sequences() -> Vec<Sequence> {
    let mut draws = Seed(5).stream("sequences").at(0, 0);
    let mut token =
        |at: usize| (5 + draws.below(VOCAB as usize - 5) as u32) | if at.is_multiple_of(2) { 1 << 31 } else { 0 };
    [14, 9, 20].map(|len| Sequence::new((0..len).map(&mut token).collect())).to_vec()
}

fn aids() -> Aids {
    let example = |idx: u32| EncodedExample {
        ids: vec![1, 5 + idx, 9, 10 + idx, 2],
        positions: vec![],
        second_from: None,
        target: EncodedTarget::Class(idx % 3),
    };
    let head = Head::Sequence { num_labels: 3, pooling: Pooling::Mean };
    Aids {
        tasks: vec![TaskExamples { name: "t".into(), head, examples: (0..6).map(example).collect() }],
        ..Aids::default()
    }
}

/// A stage with one objective.
fn only(name: &str) -> PretrainConfig {
    let mut config = PretrainConfig { dropout: Probability::new(0.1).unwrap(), ..PretrainConfig::default() };
    config.mlm.weight = Ramp::constant(if name == "mlm" { 0.7 } else { 0.0 });
    match name {
        "mlm" => {}
        "clm" => config.clm = Some(ClmConfig { weight: Ramp::constant(0.7) }),
        "rtd" => config.rtd = Some(RtdConfig { generator_width: 0.5, ..RtdConfig::default() }),
        "contrastive" => {
            config.contrastive = Some(ContrastiveConfig { pairs: PairsOf::Spans, ..ContrastiveConfig::default() });
        }
        "denoise" => config.denoise = Some(DenoiseConfig::default()),
        "consistency" => config.consistency = Some(ConsistencyConfig::default()),
        "tasks" => config.tasks = Some(TasksConfig::default()),
        _ => panic!("a new objective needs its gradient checked here: {name}"),
    }
    config
}

/// The weighed loss, and the gradients by the model and by each extra model.
fn run(config: &PretrainConfig, model: &Model, extras: &mut Extras) -> (f64, Vec<Vec<f32>>) {
    let (device, aids) = (Device::cpu(1, Precision::F32).unwrap(), aids());
    let specials = Specials { start: vec![1], end: vec![2], mask: Some(4) };
    let text = Text { train: &[], held_out: &[], specials, aids: &aids };
    let mut gradients = Gradients::zeros(model.parameters());
    extras.0.iter_mut().for_each(|extra| extra.gradients = Gradients::zeros(extra.model.parameters()));
    let mut total = 0.0;
    for (weight, work) in config.works(&text, &sequences(), 0.0, (Seed(3), 0)) {
        let mut worker = Worker {
            model,
            device: &device,
            gradients: &mut gradients,
            extras,
            memory: config.memory,
            dropout: config.dropout,
            seed: Seed(3),
            step: 0,
        };
        let found = do_work(config, &text, &mut worker, &mut [], &work, weight);
        total += found.iter().map(|(_, loss, counts)| loss * counts * weight).sum::<f64>();
    }
    let mut all = vec![gradients.flat(model.parameters()).to_vec()];
    all.extend(extras.0.iter_mut().map(|extra| extra.gradients.flat(extra.model.parameters()).to_vec()));
    (total, all)
}

/// The elements with the largest gradients, some of which are looked at.
fn largest(gradient: &[f32]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..gradient.len()).collect();
    order.sort_by(|&a, &b| gradient[b].abs().total_cmp(&gradient[a].abs()));
    order.into_iter().step_by(7).take(12).collect()
}

#[test]
fn gradients_are_finite_differences() {
    let shape = ModelConfig {
        hidden_size: Some(16),
        num_attention_heads: Some(2),
        num_hidden_layers: Some(2),
        intermediate_size: Some(16),
        ..ModelConfig::default()
    };
    for name in ALL {
        let config = only(name);
        let mut model = Model::new(shape.architecture(VOCAB as usize).unwrap(), Head::MaskedLm, Seed(1));
        // Matrices as they are drawn are so small that nothing bends.
        let matrices = model.parameters().iter().filter(|(_, spec, _)| spec.shape.len() == 2).map(|(id, ..)| id);
        for id in matrices.collect::<Vec<_>>() {
            model.parameters_mut().value_mut(id).iter_mut().for_each(|weight| *weight *= 3.0);
        }
        let mut extras = Extras::new(&config, &model, &aids(), Seed(2));
        let (loss, gradients) = run(&config, &model, &mut extras);
        assert!(loss > 0.0, "{name}: {loss}");
        for (which, gradient) in gradients.iter().enumerate() {
            // What the generator says is drawn from, which has no gradient; its own loss does not count here.
            if which > 0 && extras.0[which - 1].name == "generator" {
                continue;
            }
            for idx in largest(gradient) {
                let at = |change: f32| {
                    let (mut model, mut extras) = (model.clone(), extras.clone());
                    let changed = if which == 0 { &mut model } else { &mut extras.0[which - 1].model };
                    changed.parameters_mut().flat_mut()[idx] += change;
                    run(&config, &model, &mut extras).0
                };
                let expected = (at(2e-3) - at(-2e-3)) / 4e-3;
                let found = f64::from(gradient[idx]);
                assert!(
                    (expected - found).abs() < 0.02 * found.abs() + 2e-3 * loss.max(1.0),
                    "{name}, model {which}, element {idx}: {found} where differences say {expected}"
                );
            }
        }
    }
}
