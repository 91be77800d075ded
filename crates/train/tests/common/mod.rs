//! A small corpus and a small pretraining on it.

#![allow(clippy::unwrap_used, reason = "a test fails where its corpus cannot be made")]

use std::path::Path;
use std::slice;

use arable_core::{Count, Probability, Seed};
use arable_model::{Architecture, Head, Model, ModelConfig, Size};
use arable_tensor::{Device, Precision};
use arable_tokenize::{Role, Shards, TokenizerConfig, Vocabulary, pack, train};
use arable_train::loader::Source;
use arable_train::objective::Specials;
use arable_train::pretrain::{MemoryConfig, Observer, PretrainConfig, Pretraining, Text, pretrain};
use arable_train::ramp::Ramp;
use tempfile::TempDir;

/// A source with all of a mixture.
pub fn source(shards: Shards) -> Source {
    Source { name: "pumps".into(), shards, weight: Ramp::constant(1.0), places: None }
}

/// Shards in a folder of their own.
pub struct Corpus {
    pub vocabulary: Vocabulary,
    pub train: Source,
    pub held_out: Source,
    _folder: TempDir,
}

const WORDS: [&str; 12] =
    ["pump", "valve", "leaks", "the", "a", "bearing", "hot", "runs", "oil", "pressure", "falls", "again"];

impl Corpus {
    /// Documents of between one and `longest` words.
    pub fn new(num_documents: usize, longest: usize) -> Self {
        let mut draws = Seed(7).stream("corpus").at(0, 0);
        let document = |_| {
            let words = (0..=draws.below(longest)).map(|_| WORDS[draws.below(WORDS.len())]);
            words.collect::<Vec<_>>().join(" ")
        };
        let documents: Vec<String> = (0..num_documents).map(document).collect();
        let config = TokenizerConfig { vocab_size: 300, ..TokenizerConfig::default() };
        let vocabulary = train(&config, &documents, &[]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let shards = |name: &str, documents: &[String]| {
            let path: &Path = &folder.path().join(name);
            std::fs::create_dir(path).unwrap();
            pack(&vocabulary, documents, None, path).unwrap();
            source(Shards::open(path).unwrap())
        };
        let (train, held_out) = (shards("train", &documents), shards("held_out", &documents[..4]));
        Self { vocabulary, train, held_out, _folder: folder }
    }

    /// A model of width 128 that was not trained.
    pub fn model(&self) -> Model {
        let model = ModelConfig { size: Size::Nano, ..ModelConfig::default() };
        let architecture: Architecture = model.architecture(self.vocabulary.size()).unwrap();
        Model::new(architecture, Head::MaskedLm, Seed(1))
    }

    /// Pretrains [`Self::model`] with dropout.
    pub fn pretrain(
        &self,
        config: &PretrainConfig,
        machine: (usize, Precision),
        observer: &mut dyn Observer,
    ) -> Pretraining {
        self.pretrain_from(self.model(), config, machine, observer)
    }

    /// Pretrains a model with dropout.
    pub fn pretrain_from(
        &self,
        model: Model,
        config: &PretrainConfig,
        (num_threads, precision): (usize, Precision),
        observer: &mut dyn Observer,
    ) -> Pretraining {
        let device = Device::cpu(num_threads, precision).unwrap();
        let vocabulary = &self.vocabulary;
        let specials = Specials {
            start: vocabulary.frame().start.clone(),
            end: vocabulary.frame().end.clone(),
            mask: vocabulary.role_id(Role::Mask),
        };
        let (train, held_out) = (slice::from_ref(&self.train), slice::from_ref(&self.held_out));
        let text = Text { train, held_out, specials };
        let mut state = Pretraining::new(config, model);
        assert!(pretrain(config, &text, &device, Seed(2), &mut state, observer).unwrap());
        state
    }
}

/// A few steps of several blocks each.
pub fn config(num_steps: u64, memory: MemoryConfig) -> PretrainConfig {
    PretrainConfig {
        num_tokens: Count(num_steps * 7000 - 3000),
        tokens_per_batch: Ramp::constant(7000),
        dropout: Probability::new(0.1).unwrap(),
        held_out_every: 1000,
        memory,
        ..PretrainConfig::default()
    }
}
