//! Masked language modelling (Devlin et al. 2019) as ModernBERT does it: 30 % of the tokens, always `[MASK]`.

use std::ops::Range;

use arable_core::{Draws, Probability, Stream};
use arable_model::Batch;
use arable_tensor::Sequences;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::loader::Sequence;

/// Which tokens are hidden from the model.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MlmConfig {
    /// Probability with which a token (or a word) is masked.
    pub mask_prob: Probability,
    /// Whether words are masked whole.
    pub whole_word: bool,
}

impl Default for MlmConfig {
    fn default() -> Self {
        Self { mask_prob: Probability::new(0.3).expect("a literal in range"), whole_word: false }
    }
}

/// Special tokens that the objective puts in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Specials {
    /// Begins a sequence.
    pub cls: u32,
    /// Ends a sequence.
    pub sep: u32,
    /// Stands for a hidden token.
    pub mask: u32,
}

/// A batch with hidden tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MaskedBatch {
    /// What the model sees.
    pub batch: Batch,
    /// Rows of hidden tokens, in order.
    pub positions: Vec<usize>,
    /// What they were.
    pub targets: Vec<u32>,
}

/// Some sequences of a batch, with their hidden tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// What was cut out; rows count from its first token.
    pub masked: MaskedBatch,
    /// The number of its first token in the whole batch.
    pub first_row: usize,
}

impl MaskedBatch {
    /// The batch in parts of at most `num_tokens` tokens, which end where blocks of sequences end.
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
        let masked = Self {
            batch: self.batch.some(rows.clone()),
            positions: self.positions[chosen.clone()].iter().map(|at| at - rows.start).collect(),
            targets: self.targets[chosen].to_vec(),
        };
        Part { masked, first_row: rows.start }
    }
}

/// Hides tokens of `sequences`; sequence `i` draws from `stream.at(step, i)`.
pub fn mask(config: &MlmConfig, specials: Specials, sequences: &[Sequence], stream: Stream, step: u64) -> MaskedBatch {
    let (mut ids, mut lengths) = (Vec::new(), Vec::new());
    let (mut positions, mut targets) = (Vec::new(), Vec::new());
    for (i, sequence) in sequences.iter().enumerate() {
        let mut draws = stream.at(step, i as u64);
        ids.push(specials.cls);
        let mut hidden = false;
        for token in sequence.tokens() {
            if token.starts_word || !config.whole_word {
                hidden = draw(&mut draws, config.mask_prob);
            }
            if hidden {
                positions.push(ids.len());
                targets.push(token.id);
            }
            ids.push(if hidden { specials.mask } else { token.id });
        }
        ids.push(specials.sep);
        lengths.push(sequence.len() + 2);
    }
    let sequences = Sequences::of_lengths(lengths);
    MaskedBatch { batch: Batch { ids, sequences }, positions, targets }
}

fn draw(draws: &mut Draws, p: Probability) -> bool {
    draws.uniform() < p.get()
}

#[cfg(test)]
mod tests {
    use super::*;
    use arable_core::Seed;

    const SPECIALS: Specials = Specials { cls: 2, sep: 3, mask: 4 };

    fn words() -> Vec<Sequence> {
        // words of three tokens each
        vec![Sequence::new((0..3000u32).map(|i| (10 + i % 90) | if i % 3 == 0 { 1 << 31 } else { 0 }).collect())]
    }

    #[test]
    fn the_asked_share_is_masked_and_targets_are_the_originals() {
        let sequences = words();
        let masked = mask(&MlmConfig::default(), SPECIALS, &sequences, Seed(1).stream("mask"), 0);
        let share = masked.positions.len() as f64 / 3000.0;
        assert!((share - 0.3).abs() < 0.04, "{share}");
        let originals: Vec<u32> = sequences[0].tokens().map(|token| token.id).collect();
        for (&position, &target) in masked.positions.iter().zip(&masked.targets) {
            assert_eq!(masked.batch.ids[position], SPECIALS.mask);
            assert_eq!(originals[position - 1], target);
        }
        let visible = masked.batch.ids.iter().filter(|&&id| id != SPECIALS.mask).count();
        assert_eq!(visible, 3002 - masked.positions.len());
    }

    #[test]
    fn whole_words_are_masked_together() {
        let config = MlmConfig { whole_word: true, ..MlmConfig::default() };
        let masked = mask(&config, SPECIALS, &words(), Seed(1).stream("mask"), 0);
        assert!(!masked.positions.is_empty() && masked.positions.len().is_multiple_of(3));
        for word in masked.positions.chunks(3) {
            assert!(word[0] % 3 == 1 && word[2] == word[0] + 2);
        }
    }
}
