//! Losses with their batch preparation, one file each.

pub mod clm;
pub mod mlm;

use std::ops::Range;

use arable_core::{Probability, Stream};
use arable_model::Batch;
use serde::{Deserialize, Serialize};

use crate::loader::Sequence;

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
}

/// What is asked of a model.
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
}

/// Some sequences of a batch, with what is asked of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// What was cut out; rows count from its first token.
    pub exercise: Exercise,
    /// The number of its first token in the whole batch.
    pub first_row: usize,
}

impl Objective {
    /// Makes an exercise of `sequences`; sequence `i` draws from `stream.at(step, i)`.
    ///
    /// # Panics
    /// When tokens are to be hidden and `specials` have none that stands for them.
    pub fn exercise(self, specials: &Specials, sequences: &[Sequence], stream: Stream, step: u64) -> Exercise {
        match self {
            Self::Mlm(unit, p) => mlm::mask((unit, p), specials, sequences, stream, step),
            Self::Clm => clm::exercise(specials, sequences),
        }
    }
}

impl Exercise {
    /// The exercise in parts of at most `num_tokens` tokens, which end where blocks of sequences end.
    pub fn parts(&self, num_tokens: usize) -> Vec<Part> {
        let blocks = self.batch.blocks();
        let mut ranges: Vec<Range<usize>> = Vec::new();
        for block in blocks.iter() {
            match ranges.last_mut() {
                Some(part) if block.end - part.start <= num_tokens => part.end = block.end,
                _ => ranges.push(block),
            }
        }
        ranges.into_iter().map(|rows| self.part(rows)).collect()
    }

    fn part(&self, rows: Range<usize>) -> Part {
        let chosen =
            self.positions.partition_point(|&at| at < rows.start)..self.positions.partition_point(|&at| at < rows.end);
        let exercise = Self {
            batch: self.batch.some(rows.clone()),
            positions: self.positions[chosen.clone()].iter().map(|at| at - rows.start).collect(),
            targets: self.targets[chosen].to_vec(),
        };
        Part { exercise, first_row: rows.start }
    }
}
