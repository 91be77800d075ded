//! Masked language modelling (Devlin et al. 2019) as ModernBERT does it: 30 % of the tokens, always `[MASK]`.

use std::ops::Range;

use arable_core::{Draws, Probability, Stream};
use arable_model::Batch;
use arable_tensor::Sequences;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::loader::Sequence;
use crate::ramp::Ramp;

/// Which tokens are hidden from the model.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MlmConfig {
    /// Probability with which a token is masked; it may fall along a stage, as `[0.4, 0.2]` (Yang et al. 2023).
    pub mask_prob: Ramp<Probability>,
    /// What is masked together.
    pub unit: MaskUnit,
}

/// What is masked together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MaskUnit {
    /// Each token by itself.
    #[default]
    Token,
    /// All tokens of a word.
    Word,
    /// Runs of words, 4.5 on average and 10 at most, of a geometric distribution (SpanBERT, Joshi et al. 2020).
    Span,
}

/// The chance that a span ends after a word.
const SPAN_END: f64 = 0.2;
/// Words of a span, at most.
const LONGEST_SPAN: usize = 10;

impl Default for MlmConfig {
    fn default() -> Self {
        let mask_prob = Ramp::constant(Probability::new(0.3).expect("a literal in range"));
        Self { mask_prob, unit: MaskUnit::Token }
    }
}

/// Decides token by token what is hidden.
struct Hiding {
    unit: MaskUnit,
    /// The chance that a unit begins here, given that none goes on.
    p: f64,
    hidden: bool,
    words_left: usize,
}

impl Hiding {
    fn new(unit: MaskUnit, p: Probability) -> Self {
        let p = p.get();
        // Spans begin less often than tokens are hidden: with mean length m, p = s / (s + m (1 - s)).
        let mean = (1.0 - (1.0 - SPAN_END).powi(LONGEST_SPAN as i32)) / SPAN_END;
        let p = if unit == MaskUnit::Span && p < 1.0 { p / (p + mean * (1.0 - p)) } else { p };
        Self { unit, p, hidden: false, words_left: 0 }
    }

    fn next(&mut self, starts_word: bool, draws: &mut Draws) -> bool {
        match self.unit {
            MaskUnit::Token => self.hidden = draws.uniform() < self.p,
            MaskUnit::Word if starts_word => self.hidden = draws.uniform() < self.p,
            MaskUnit::Span if starts_word => {
                if self.words_left == 0 && draws.uniform() < self.p {
                    let mut words = 1;
                    while words < LONGEST_SPAN && draws.uniform() >= SPAN_END {
                        words += 1;
                    }
                    self.words_left = words;
                    self.hidden = true;
                } else {
                    self.hidden = self.words_left > 0;
                }
                self.words_left = self.words_left.saturating_sub(1);
            }
            MaskUnit::Word | MaskUnit::Span => {}
        }
        self.hidden
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

/// Hides tokens of `sequences`, each with probability `p`; sequence `i` draws from `stream.at(step, i)`.
pub fn mask(
    (unit, p): (MaskUnit, Probability),
    specials: Specials,
    sequences: &[Sequence],
    stream: Stream,
    step: u64,
) -> MaskedBatch {
    let (mut ids, mut lengths) = (Vec::new(), Vec::new());
    let (mut positions, mut targets) = (Vec::new(), Vec::new());
    for (i, sequence) in sequences.iter().enumerate() {
        let mut draws = stream.at(step, i as u64);
        ids.push(specials.cls);
        let mut hiding = Hiding::new(unit, p);
        for token in sequence.tokens() {
            let hidden = hiding.next(token.starts_word, &mut draws);
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

#[cfg(test)]
mod tests {
    use super::*;
    use arable_core::Seed;

    const SPECIALS: Specials = Specials { cls: 2, sep: 3, mask: 4 };

    fn words() -> Vec<Sequence> {
        // words of three tokens each
        vec![Sequence::new((0..3000u32).map(|i| (10 + i % 90) | if i % 3 == 0 { 1 << 31 } else { 0 }).collect())]
    }

    fn masked(unit: MaskUnit, sequences: &[Sequence], step: u64) -> MaskedBatch {
        mask((unit, Probability::new(0.3).unwrap()), SPECIALS, sequences, Seed(1).stream("mask"), step)
    }

    #[test]
    fn the_asked_share_is_masked_and_targets_are_the_originals() {
        let sequences = words();
        let masked = masked(MaskUnit::Token, &sequences, 0);
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
        let masked = masked(MaskUnit::Word, &words(), 0);
        assert!(!masked.positions.is_empty() && masked.positions.len().is_multiple_of(3));
        for word in masked.positions.chunks(3) {
            assert!(word[0] % 3 == 1 && word[2] == word[0] + 2);
        }
    }

    #[test]
    fn spans_are_whole_words_of_the_asked_share_and_length() {
        let (mut num_hidden, mut spans) = (0, Vec::new());
        for step in 0..40 {
            let masked = masked(MaskUnit::Span, &words(), step);
            num_hidden += masked.positions.len();
            let mut runs: Vec<(usize, usize)> = Vec::new();
            for &at in &masked.positions {
                match runs.last_mut() {
                    Some((_, end)) if *end == at => *end += 1,
                    _ => runs.push((at, at + 1)),
                }
            }
            assert!(runs.iter().all(|(start, end)| start % 3 == 1 && (end - start) % 3 == 0));
            spans.extend(runs.iter().map(|(start, end)| (end - start) / 3));
        }
        let share = num_hidden as f64 / (40.0 * 3000.0);
        assert!((share - 0.3).abs() < 0.02, "{share}");
        // Spans of 4.5 words on average; those that touch make longer runs.
        let mean = spans.iter().sum::<usize>() as f64 / spans.len() as f64;
        assert!((4.4..5.2).contains(&mean), "{mean}");
    }
}
