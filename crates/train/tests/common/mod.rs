//! A small corpus and a small pretraining on it.

#![allow(clippy::unwrap_used, reason = "a test fails where its corpus cannot be made")]
#![allow(dead_code, reason = "not every test needs all of it")]

use std::path::Path;
use std::slice;

use arable_core::{Count, Probability, Seed};
use arable_model::{Architecture, Head, Model, ModelConfig, Pooling, Size};
use arable_tensor::{Device, Precision};
use arable_tokenize::{Role, Shards, TokenizerConfig, Vocabulary, pack, train};
use arable_train::adapt::{EncodedExample, EncodedTarget};
use arable_train::loader::Source;
use arable_train::objective::mlm::Terms;
use arable_train::objective::{Aids, Specials, TaskExamples};
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
        self.model_of(&ModelConfig { size: Size::Nano, ..ModelConfig::default() })
    }

    /// A model that was not trained.
    pub fn model_of(&self, config: &ModelConfig) -> Model {
        let architecture: Architecture = config.architecture(self.vocabulary.size()).unwrap();
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
        let mut state = Pretraining::new(config, model, &self.aids(), Seed(2));
        let device = Device::cpu(num_threads, precision).unwrap();
        assert!(self.go_on(config, &device, &mut state, observer));
        state
    }

    /// Goes on with a pretraining. Returns whether it came to its end.
    pub fn go_on(
        &self,
        config: &PretrainConfig,
        device: &Device,
        state: &mut Pretraining,
        observer: &mut dyn Observer,
    ) -> bool {
        let vocabulary = &self.vocabulary;
        let specials = Specials {
            start: vocabulary.frame().start.clone(),
            end: vocabulary.frame().end.clone(),
            mask: vocabulary.role_id(Role::Mask),
        };
        let (train, held_out) = (slice::from_ref(&self.train), slice::from_ref(&self.held_out));
        let text = Text { train, held_out, specials, aids: &self.aids() };
        pretrain(config, &text, device, Seed(2), state, observer).unwrap()
    }

    /// Terms, pairs and two tasks: which of two words a text begins with, and which words are pumps.
    pub fn aids(&self) -> Aids {
        let framed = |text: &str| {
            let frame = self.vocabulary.frame();
            [&frame.start[..], &self.vocabulary.encode(text).ids, &frame.end].concat()
        };
        let example = |idx: usize| {
            let words = [WORDS[idx % 2], WORDS[idx % 7], WORDS[idx % 12]].map(str::to_owned);
            let (ids, firsts) = self.vocabulary.encode_words(&words);
            let ids = [&self.vocabulary.frame().start[..], &ids, &self.vocabulary.frame().end].concat();
            (ids, firsts.into_iter().map(|at| at + 1).collect::<Vec<_>>(), words)
        };
        let whole = |idx: usize| {
            let (ids, ..) = example(idx);
            EncodedExample { ids, positions: vec![], second_from: None, target: EncodedTarget::Class((idx % 2) as u32) }
        };
        let each = |idx: usize| {
            let (ids, positions, words) = example(idx);
            let target = EncodedTarget::Tags(words.iter().map(|word| u32::from(word == "pump")).collect());
            EncodedExample { ids, positions, second_from: None, target }
        };
        let task = |name: &str, head, examples| TaskExamples { name: name.to_owned(), head, examples };
        Aids {
            terms: Terms::new(Probability::new(0.6).unwrap(), [self.vocabulary.encode(" pressure").ids]),
            pairs: (0..40).map(|idx| [framed(WORDS[idx % 12]), framed(&format!("the {}", WORDS[idx % 12]))]).collect(),
            tasks: vec![
                task("first", Head::Sequence { num_labels: 2, pooling: Pooling::Mean }, (0..40).map(whole).collect()),
                task("pumps", Head::Token { num_labels: 2 }, (0..40).map(each).collect()),
            ],
        }
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
