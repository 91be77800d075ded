//! Masked language modelling (Devlin et al. 2019) as ModernBERT does it: 30 % of the tokens, always `[MASK]`.

use arable_core::{Draws, Probability, Stream};
use arable_model::Batch;
use arable_tensor::Sequences;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::loader::Sequence;
use crate::objective::{Exercise, Specials};
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

/// Hides tokens of `sequences`, each with probability `p`; sequence `i` draws from `stream.at(step, i)`.
///
/// # Panics
/// When no token stands for what is hidden.
pub fn mask(
    (unit, p): (MaskUnit, Probability),
    specials: &Specials,
    sequences: &[Sequence],
    stream: Stream,
    step: u64,
) -> Exercise {
    let stand_in = specials.mask.expect("a vocabulary without a mask is refused before");
    let (mut ids, mut lengths) = (Vec::new(), Vec::new());
    let (mut positions, mut targets) = (Vec::new(), Vec::new());
    for (i, sequence) in sequences.iter().enumerate() {
        let mut draws = stream.at(step, i as u64);
        ids.extend_from_slice(&specials.start);
        let mut hiding = Hiding::new(unit, p);
        for token in sequence.tokens() {
            let hidden = hiding.next(token.starts_word, &mut draws);
            if hidden {
                positions.push(ids.len());
                targets.push(token.id);
            }
            ids.push(if hidden { stand_in } else { token.id });
        }
        ids.extend_from_slice(&specials.end);
        lengths.push(sequence.len() + specials.num_tokens());
    }
    let sequences = Sequences::of_lengths(lengths);
    Exercise { batch: Batch { ids, types: Vec::new(), sequences }, positions, targets }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arable_core::Seed;

    const MASK: u32 = 4;

    fn words() -> Vec<Sequence> {
        // words of three tokens each
        vec![Sequence::new((0..3000u32).map(|i| (10 + i % 90) | if i % 3 == 0 { 1 << 31 } else { 0 }).collect())]
    }

    fn masked(unit: MaskUnit, sequences: &[Sequence], step: u64) -> Exercise {
        let specials = Specials { start: vec![2], end: vec![3], mask: Some(MASK) };
        mask((unit, Probability::new(0.3).unwrap()), &specials, sequences, Seed(1).stream("mask"), step)
    }

    #[test]
    fn the_asked_share_is_masked_and_targets_are_the_originals() {
        let sequences = words();
        let masked = masked(MaskUnit::Token, &sequences, 0);
        let share = masked.positions.len() as f64 / 3000.0;
        assert!((share - 0.3).abs() < 0.04, "{share}");
        let originals: Vec<u32> = sequences[0].tokens().map(|token| token.id).collect();
        for (&position, &target) in masked.positions.iter().zip(&masked.targets) {
            assert_eq!(masked.batch.ids[position], MASK);
            assert_eq!(originals[position - 1], target);
        }
        let visible = masked.batch.ids.iter().filter(|&&id| id != MASK).count();
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
