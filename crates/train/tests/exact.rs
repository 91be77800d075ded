//! The same weights, bit for bit, however a batch is cut, whatever is recomputed, and on any number of threads.

#![allow(clippy::unwrap_used, reason = "a test fails where its fixture cannot be read")]

mod common;

use std::error::Error;
use std::path::Path;

use arable_core::{Digest, Probability, Seed};
use arable_model::{Architecture, Head, Model, architecture_of};
use arable_tensor::Precision;
use arable_train::Control;
use arable_train::objective::clm::ClmConfig;
use arable_train::pretrain::{Event, MemoryConfig, Observer, PretrainConfig, Trained};

use common::{Corpus, config};

/// Keeps the losses of all steps.
#[derive(Default)]
struct Losses(Vec<f64>);

impl Observer for Losses {
    fn observe(&mut self, event: &Event<'_>) -> Result<Control, Box<dyn Error + Send + Sync>> {
        if let Event::Step { report, .. } = event {
            self.0.push(report.loss);
        }
        Ok(Control::Continue)
    }
}

/// The losses of the steps and the weights in the end.
fn outcome(corpus: &Corpus, model: Model, config: &PretrainConfig, machine: (usize, Precision)) -> (Vec<f64>, Digest) {
    let mut losses = Losses::default();
    let state = corpus.pretrain_from(model, config, machine, &mut losses);
    (losses.0, state.model.parameters().digest())
}

/// The precisions that this machine has, each with dropout and without: without, a token that stands in many rows is one row of
/// the first product.
fn kinds() -> impl Iterator<Item = (Precision, Probability)> {
    let precisions = Precision::ALL.into_iter().filter(|precision| precision.is_available());
    precisions.flat_map(|precision| [0.0, 0.1].map(|p| (precision, Probability::new(p).unwrap())))
}

#[test]
fn memory_options_and_threads_change_no_bit() {
    let corpus = Corpus::new(400, 300);
    for (precision, dropout) in kinds() {
        let outcome = |(tokens_at_a_time, recomputed_layers, num_threads)| {
            let memory = MemoryConfig { tokens_at_a_time, recomputed_layers };
            let config = PretrainConfig { dropout, ..config(3, memory) };
            outcome(&corpus, corpus.model(), &config, (num_threads, precision))
        };
        let want = outcome((100_000, 0, 2));
        assert_eq!(want.0.len(), 3);
        for case in [(1, 0, 2), (2048, 0, 1), (4096, 0, 3), (5000, 2, 7), (100_000, 4, 2), (1, 4, 2)] {
            assert_eq!(outcome(case), want, "{case:?} in {} with dropout {}", precision.name(), dropout.get());
        }
    }
}

/// A small model of another family that was not trained, for the vocabulary of the corpus.
fn model_of(family: &str, corpus: &Corpus) -> Model {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(family);
    let tiny = architecture_of(&path).unwrap();
    let architecture = Architecture { vocab_size: corpus.vocabulary.size(), max_position_embeddings: 300, ..tiny };
    let head = Head::lm(&architecture);
    Model::new(architecture, head, Seed(1))
}

/// The same of every kind of layer that there is: decoders on next tokens, encoders on hidden ones.
#[test]
fn every_family_trains_to_the_same_bits() {
    let corpus = Corpus::new(400, 300);
    for family in ["bert-mlm", "qwen2-clm", "qwen3-clm"] {
        let clm = family.ends_with("clm").then_some(ClmConfig::default());
        for (precision, dropout) in kinds() {
            let outcome = |(tokens_at_a_time, recomputed_layers, num_threads)| {
                let memory = MemoryConfig { tokens_at_a_time, recomputed_layers };
                let config = PretrainConfig { clm, dropout, ..config(2, memory) };
                outcome(&corpus, model_of(family, &corpus), &config, (num_threads, precision))
            };
            let want = outcome((100_000, 0, 1));
            assert!(want.0[1] < want.0[0], "{family}: the loss falls: {:?}", want.0);
            for case in [(1, 1, 2), (4096, 0, 3), (100_000, 2, 7)] {
                assert_eq!(
                    outcome(case),
                    want,
                    "{family}: {case:?} in {} with dropout {}",
                    precision.name(),
                    dropout.get()
                );
            }
        }
    }
}

/// What is frozen stays as it is, bit for bit, and everything else moves.
#[test]
fn frozen_weights_do_not_move() {
    let corpus = Corpus::new(100, 60);
    let frozen = Trained { last_layers: Some(2), embeddings_rate: 0.0 };
    let config = PretrainConfig { train: frozen, ..config(2, MemoryConfig::default()) };
    let state = corpus.pretrain(&config, (2, Precision::F32), &mut Losses::default());
    let before = corpus.model();
    let num_layers = before.architecture().num_hidden_layers;
    assert!(num_layers > 2);
    for ((_, spec, was), (_, _, is)) in before.parameters().iter().zip(state.model.parameters().iter()) {
        let is_frozen = spec.name.starts_with("model.embeddings.")
            || (0..num_layers - 2).any(|layer| spec.name.starts_with(&format!("model.layers.{layer}.")));
        assert_eq!(was == is, is_frozen, "{}", spec.name);
    }
}
