//! Models that objectives train beside the encoder: a generator, a decoder, heads. They are part of a pretraining's state, and
//! end with its stage; heads of tasks are what adaptation may begin with.

use arable_core::Seed;
use arable_model::{Head, Model};
use arable_tensor::{AdamW, Device, Gradients};
use serde::{Deserialize, Serialize};

use crate::objective::Aids;
use crate::pretrain::PretrainConfig;

/// What an extra model is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A smaller model of the family: layers, and their width as a part of the encoder's.
    Small {
        /// Layers.
        num_layers: usize,
        /// Width, as a part.
        width: f64,
    },
    /// A head over states of the encoder.
    Head(Head),
}

/// An extra model.
#[derive(Clone, Debug)]
pub struct Extra {
    /// Its name: `generator`, `discriminator`, `decoder`, or `task NAME`.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// It.
    pub model: Model,
    /// Its optimizer.
    pub optimizer: AdamW,
    pub(crate) gradients: Gradients,
}

/// All extra models of a stage.
#[derive(Clone, Debug, Default)]
pub struct Extras(pub Vec<Extra>);

impl Extra {
    /// An extra model with random weights beside `encoder`.
    pub(crate) fn new(config: &PretrainConfig, name: &str, kind: Kind, encoder: &Model, seed: Seed) -> Self {
        let seed = seed.child(name);
        let model = match kind {
            Kind::Small { num_layers, width } => encoder.small(num_layers, width, seed),
            Kind::Head(head) => encoder.head_alone(head, seed),
        };
        let optimizer = AdamW::new(config.adamw(), model.parameters());
        let gradients = Gradients::zeros(model.parameters());
        Self { name: name.to_owned(), kind, model, optimizer, gradients }
    }
}

impl Extras {
    /// Those that a stage asks for.
    pub fn new(config: &PretrainConfig, encoder: &Model, aids: &Aids, seed: Seed) -> Self {
        let mut wanted: Vec<(String, Kind)> = Vec::new();
        if let Some(rtd) = &config.rtd {
            wanted.extend(rtd.extras());
        }
        if config.denoise.is_some() {
            wanted.push(("decoder".to_owned(), Kind::Small { num_layers: 1, width: 1.0 }));
        }
        if config.tasks.is_some() {
            wanted.extend(aids.tasks.iter().map(|task| (format!("task {}", task.name), Kind::Head(task.head))));
        }
        Self(wanted.into_iter().map(|(name, kind)| Extra::new(config, &name, kind, encoder, seed)).collect())
    }

    /// The extra model of a name.
    pub fn get(&self, name: &str) -> Option<&Extra> {
        self.0.iter().find(|extra| extra.name == name)
    }

    pub(crate) fn get_mut(&mut self, name: &str) -> &mut Extra {
        self.0.iter_mut().find(|extra| extra.name == name).expect("what an objective asks for is there")
    }

    /// A step of each optimizer, by gradients that were added up; each has its own norm.
    pub(crate) fn step(&mut self, device: &Device, learning_rate: f64) {
        for Extra { model, optimizer, gradients, .. } in &mut self.0 {
            optimizer.step(device, model.parameters_mut(), gradients, learning_rate);
        }
    }
}
