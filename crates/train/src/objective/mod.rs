//! Losses with their batch preparation, one file each.
//!
//! What needs tokens alone ([`mlm`], [`clm`], [`rtd`]) works on an [`Exercise`]. What needs one vector of a sequence or of a
//! token ([`contrastive`], [`denoise`], [`consistency`], [`tasks`], and the second half of [`rtd`]) goes through
//! [`vectors`], which takes gradients by vectors back through the model part by part.

pub mod clm;
pub mod consistency;
pub mod contrastive;
pub mod denoise;
pub mod mlm;
pub mod rtd;
pub mod tasks;
#[cfg(test)]
mod tests;
mod vectors;
pub mod worst_source;

use std::ops::Range;

use arable_core::{Probability, Seed, Stream};
use arable_model::{Batch, Dropout, Model};
use arable_tensor::{Device, Gradients};
use serde::{Deserialize, Serialize};

use crate::extras::Extras;
use crate::loader::Sequence;

pub use tasks::TaskExamples;

/// Special tokens that objectives put in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Specials {
    /// Before each sequence.
    pub start: Vec<u32>,
    /// Behind each sequence.
    pub end: Vec<u32>,
    /// Stands for a hidden token.
    pub mask: Option<u32>,
}

impl Specials {
    /// Tokens that each sequence is longer by.
    pub fn num_tokens(&self) -> usize {
        self.start.len() + self.end.len()
    }

    /// Some tokens between the special ones.
    pub(crate) fn frame(&self, tokens: impl IntoIterator<Item = u32>) -> Vec<u32> {
        self.start.iter().copied().chain(tokens).chain(self.end.iter().copied()).collect()
    }
}

/// What objectives read beside the text.
#[derive(Clone, Debug, Default)]
pub struct Aids {
    /// Terms of the domain, each as the tokens that stand for it within text.
    pub terms: mlm::Terms,
    /// Pairs of texts that belong together, each between its special tokens.
    pub pairs: Vec<[Vec<u32>; 2]>,
    /// Labelled examples to train on.
    pub tasks: Vec<TaskExamples>,
}

/// The names of all objectives.
pub const ALL: [&str; 7] = ["mlm", "clm", "rtd", "contrastive", "denoise", "consistency", "tasks"];

/// What is asked of a model about tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Objective {
    /// To find hidden tokens.
    Mlm(mlm::MaskUnit, Probability),
    /// To find the next token.
    Clm,
}

/// A batch and what is asked of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exercise {
    /// What the model sees.
    pub batch: Batch,
    /// Rows from which a token is to be found, in order.
    pub positions: Vec<usize>,
    /// The tokens.
    pub targets: Vec<u32>,
    /// The number of the source that each of them is from.
    pub sources: Vec<usize>,
}

/// Some sequences of a batch, with what is asked of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// What was cut out; rows count from its first token.
    pub exercise: Exercise,
    /// The number of its first token in the whole batch.
    pub first_row: usize,
    /// The places of its targets among all of the batch.
    pub asked: Range<usize>,
}

/// A piece of work for one step.
#[derive(Clone, Debug)]
pub enum Work {
    /// Tokens are to be found.
    Tokens(Exercise),
    /// Tokens are to be found by a generator, and its finds by the model.
    Replaced(Exercise),
    /// Sequences are to find their partners.
    Contrastive(contrastive::Pairs),
    /// A sequence is to be made again from its vector.
    Denoise(denoise::Noised),
    /// Two views of a text are to say the same.
    Consistency(consistency::Views),
    /// Examples of a task, by its number.
    Task(usize, Vec<usize>),
}

/// What a piece of work is done with.
pub(crate) struct Worker<'a> {
    pub model: &'a Model,
    pub device: &'a Device,
    pub gradients: &'a mut Gradients,
    pub extras: &'a mut Extras,
    pub memory: crate::pretrain::MemoryConfig,
    /// Probability of dropout.
    pub dropout: Probability,
    pub seed: Seed,
    pub step: u64,
}

impl Worker<'_> {
    /// The dropout of one objective, from row `first_row` of its batch on.
    pub fn dropout(&self, name: &str, first_row: usize) -> Dropout {
        let stream =
            if name.is_empty() { self.seed.stream("dropout") } else { self.seed.stream(&format!("dropout {name}")) };
        Dropout { p: self.dropout, stream, step: self.step, first_row }
    }
}

impl Objective {
    /// Makes an exercise of `sequences`; sequence `i` draws from `stream.at(step, i)`.
    ///
    /// # Panics
    /// When tokens are to be hidden and `specials` have none that stands for them.
    pub fn exercise(
        self,
        specials: &Specials,
        terms: &mlm::Terms,
        sequences: &[Sequence],
        stream: Stream,
        step: u64,
    ) -> Exercise {
        match self {
            Self::Mlm(unit, p) => mlm::mask((unit, p), specials, terms, sequences, stream, step),
            Self::Clm => clm::exercise(specials, sequences),
        }
    }
}

impl Exercise {
    /// The exercise in parts of at most `num_tokens` tokens, which end where blocks of sequences end.
    pub fn parts(&self, num_tokens: usize) -> Vec<Part> {
        self.batch.parts(num_tokens).into_iter().map(|rows| self.part(rows)).collect()
    }

    fn part(&self, rows: Range<usize>) -> Part {
        let asked =
            self.positions.partition_point(|&at| at < rows.start)..self.positions.partition_point(|&at| at < rows.end);
        let exercise = Self {
            batch: self.batch.some(rows.clone()),
            positions: self.positions[asked.clone()].iter().map(|at| at - rows.start).collect(),
            targets: self.targets[asked.clone()].to_vec(),
            sources: self.sources[asked.clone()].to_vec(),
        };
        Part { exercise, first_row: rows.start, asked }
    }
}
