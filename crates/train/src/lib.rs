//! Objectives, loader, schedule, the loops of pretraining and adaptation, and checkpoints.
//!
//! Evaluation during training is an observer's work: this room does not know metrics or tasks.

pub mod adapt;
pub mod checkpoint;
pub mod curriculum;
pub mod extras;
pub mod loader;
pub mod objective;
pub mod pretrain;
pub mod ramp;
pub mod schedule;

use arable_core::Hint;
use arable_tokenize::ShardError;

/// What an observer wants after it saw an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// Go on.
    Continue,
    /// Stop as soon as the state is safe.
    Stop,
}

/// Training that cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The loss or its gradient is not a number.
    #[error("train on: loss {loss} and gradient norm {grad_norm} at step {step}")]
    Diverged {
        /// Steps done before.
        step: u64,
        /// The loss.
        loss: f64,
        /// The global gradient norm.
        grad_norm: f64,
    },
    /// There is nothing to train on.
    #[error("find any sequence to train on")]
    NoSequences,
    /// The mixture names a source that is not there.
    #[error("mix source `{name}`: the corpus has none of that name")]
    UnknownSource {
        /// What was named.
        name: String,
        /// The sources that there are.
        known: Vec<String>,
    },
    /// The mixture asks for a source that holds nothing.
    #[error("read from source `{name}`, which the mixture asks for: it holds no text after curation")]
    EmptySource {
        /// The source.
        name: String,
    },
    /// Shards could not be read.
    #[error("read shards")]
    Shards(#[from] ShardError),
    /// What an observer does went wrong (writing a checkpoint, say).
    #[error(transparent)]
    Observer(Box<dyn std::error::Error + Send + Sync>),
}

impl Hint for TrainError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Diverged { .. } => Some("lower the learning rate, or lengthen the warm-up".into()),
            Self::NoSequences => Some("the corpus holds no text after curation; see its quarantine for why".into()),
            Self::UnknownSource { known, .. } => Some(format!("the sources are: {}", known.join(", "))),
            Self::EmptySource { .. } => {
                Some("take it out of the mixture, or see the quarantine for what became of it".into())
            }
            Self::Shards(error) => error.hint(),
            Self::Observer(_) => None,
        }
    }
}
