//! Every objective: the same bits however a batch is cut, on any number of threads, and after a stop; and it learns.

#![allow(clippy::unwrap_used, reason = "a test fails where its fixture cannot be read")]

mod common;

use std::error::Error;

use arable_core::{Digest, Probability};
use arable_model::ModelConfig;
use arable_tensor::{Device, Precision};
use arable_train::objective::consistency::ConsistencyConfig;
use arable_train::objective::contrastive::{ContrastiveConfig, GivenPairs, PairsOf};
use arable_train::objective::denoise::DenoiseConfig;
use arable_train::objective::rtd::RtdConfig;
use arable_train::objective::tasks::{Balance, TasksConfig};
use arable_train::objective::worst_source::WorstSourceConfig;
use arable_train::pretrain::{Event, MemoryConfig, Observer, PretrainConfig, Pretraining, StepReport};
use arable_train::ramp::Ramp;
use arable_train::{Control, checkpoint};

use common::{Corpus, config};

/// Keeps what steps found, and stops after one of them.
#[derive(Default)]
struct Watch {
    steps: Vec<StepReport>,
    stop_after: Option<u64>,
}

impl Observer for Watch {
    fn observe(&mut self, event: &Event<'_>) -> Result<Control, Box<dyn Error + Send + Sync>> {
        let Event::Step { report, .. } = event else { return Ok(Control::Continue) };
        self.steps.push((*report).clone());
        Ok(if self.stop_after == Some(report.step) { Control::Stop } else { Control::Continue })
    }
}

fn small() -> ModelConfig {
    ModelConfig {
        hidden_size: Some(64),
        num_attention_heads: Some(2),
        num_hidden_layers: Some(2),
        intermediate_size: Some(64),
        ..ModelConfig::default()
    }
}

/// Each objective by itself, where it can be, or beside hidden tokens.
fn objectives() -> Vec<(&'static str, PretrainConfig)> {
    let only = |change: &dyn Fn(&mut PretrainConfig)| {
        let mut own = config(3, MemoryConfig::default());
        own.mlm.weight = Ramp::constant(0.0);
        own.learning_rate = 1e-3;
        change(&mut own);
        own
    };
    let contrastive = |pairs: PairsOf| Some(ContrastiveConfig { pairs, ..ContrastiveConfig::default() });
    let given = GivenPairs { path: String::new(), first: String::new(), second: String::new(), batch_size: 12 };
    vec![
        ("mlm", only(&|own| own.mlm.weight = Ramp { from: 1.0, to: 0.5 })),
        ("rtd", only(&|own| own.rtd = Some(RtdConfig { generator_width: 0.5, ..RtdConfig::default() }))),
        ("contrastive", only(&|own| own.contrastive = contrastive(PairsOf::Dropout))),
        ("contrastive", only(&|own| own.contrastive = contrastive(PairsOf::Spans))),
        ("contrastive", only(&|own| own.contrastive = contrastive(PairsOf::Given(given.clone())))),
        ("denoise", only(&|own| own.denoise = Some(DenoiseConfig::default()))),
        ("consistency", only(&|own| own.consistency = Some(ConsistencyConfig::default()))),
        ("tasks", only(&|own| own.tasks = Some(TasksConfig { balance: Balance::Random, ..TasksConfig::default() }))),
        (
            "mlm",
            only(&|own| {
                own.mlm.weight = Ramp::constant(1.0);
                own.worst_source = Some(WorstSourceConfig::default());
                own.contrastive = contrastive(PairsOf::Spans);
            }),
        ),
    ]
}

fn digests(state: &Pretraining) -> Vec<Digest> {
    let extras = state.extras.0.iter().map(|extra| extra.model.parameters().digest());
    std::iter::once(state.model.parameters().digest()).chain(extras).collect()
}

#[test]
fn every_objective_comes_to_the_same_bits() {
    let corpus = Corpus::new(400, 60);
    let precision = Precision::fastest();
    for (name, config) in objectives() {
        let run = |tokens_at_a_time, recomputed_layers, num_threads| {
            let memory = MemoryConfig { tokens_at_a_time, recomputed_layers };
            let config = PretrainConfig { memory, ..config.clone() };
            let mut watch = Watch::default();
            let model = corpus.model_of(&small());
            let state = corpus.pretrain_from(model, &config, (num_threads, precision), &mut watch);
            (digests(&state), watch.steps)
        };
        let (want, steps) = run(100_000, 0, 2);
        assert_eq!(steps.len(), 3, "{name}");
        for case in [(1, 0, 1), (2048, 1, 3)] {
            let (found, again) = run(case.0, case.1, case.2);
            assert_eq!(again, steps, "{name}: {case:?}");
            assert_eq!(found, want, "{name}: {case:?}");
        }
        // Stopped after a step, written, read, and gone on with.
        let folder = tempfile::tempdir().unwrap();
        let device = Device::cpu(2, precision).unwrap();
        let mut state = Pretraining::new(&config, corpus.model_of(&small()), &corpus.aids(), arable_core::Seed(2));
        let mut watch = Watch { stop_after: Some(1), ..Watch::default() };
        assert!(!corpus.go_on(&config, &device, &mut state, &mut watch));
        checkpoint::write(&state, folder.path()).unwrap();
        let mut state = checkpoint::read(&config, folder.path()).unwrap();
        assert!(corpus.go_on(&config, &device, &mut state, &mut Watch::default()));
        assert_eq!(digests(&state), want, "{name}: after a stop");
        if name == "tasks" {
            let heads = checkpoint::task_heads(folder.path()).unwrap();
            assert_eq!(heads.keys().collect::<Vec<_>>(), ["first", "pumps"]);
        }
    }
}

#[test]
fn every_objective_learns() {
    let corpus = Corpus::new(400, 60);
    // Untrained models say the same of everything, so that there is nothing for consistency to gain; its gradient has a check.
    for (name, config) in objectives().into_iter().filter(|(name, _)| *name != "consistency") {
        // As few tokens as make many steps short.
        let config = PretrainConfig {
            num_tokens: arable_core::Count(40_000),
            tokens_per_batch: Ramp::constant(1000),
            dropout: Probability::new(0.1).unwrap(),
            ..config
        };
        let mut watch = Watch::default();
        corpus.pretrain_from(corpus.model_of(&small()), &config, (2, Precision::fastest()), &mut watch);
        let loss = |report: &StepReport| match name {
            "mlm" | "contrastive" | "denoise" => report.loss,
            _ => report.objectives.iter().filter(|(name, _)| *name != "generator").map(|(_, loss)| loss).sum(),
        };
        let mean = |steps: &[StepReport]| steps.iter().map(loss).sum::<f64>() / steps.len() as f64;
        let num = watch.steps.len();
        let (first, last) = (mean(&watch.steps[..5]), mean(&watch.steps[num - 5..]));
        assert!(last < first, "{name}: {first} -> {last}");
    }
}
