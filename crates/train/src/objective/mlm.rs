//! Masked language modelling (Devlin et al. 2019) as ModernBERT does it: 30 % of the tokens, always `[MASK]`.

use std::collections::BTreeMap;

use arable_core::{Draws, Probability, Stream};
use arable_model::Batch;
use arable_tensor::Sequences;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::loader::{Sequence, Token};
use crate::objective::clm::is_one;
use crate::objective::{Exercise, Specials};
use crate::ramp::Ramp;

/// Which tokens are hidden from the model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MlmConfig {
    /// Probability with which a token is masked; it may fall along a stage, as `[0.4, 0.2]` (Yang et al. 2023).
    pub mask_prob: Ramp<Probability>,
    /// What is masked together.
    pub unit: MaskUnit,
    /// Terms of the domain, which are masked more often than the rest and as a whole (Sun et al. 2019, ERNIE; Lin et al. 2021,
    /// EntityBERT).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub terms: Option<TermsConfig>,
    /// What the loss counts beside those of other objectives.
    #[serde(skip_serializing_if = "is_one")]
    pub weight: Ramp<f64>,
}

/// Terms that are masked more often.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TermsConfig {
    /// A file with a term in each line.
    pub file: String,
    /// Probability with which a term is masked.
    #[serde(default = "half")]
    pub mask_prob: Probability,
}

fn half() -> Probability {
    Probability::new(0.5).expect("a literal in range")
}

/// Terms as tokens, to be found in text.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    mask_prob: Option<Probability>,
    /// By their first token, the longest first.
    by_first: BTreeMap<u32, Vec<Vec<u32>>>,
}

impl Terms {
    /// Terms that are masked with a probability; each may be written in several ways.
    pub fn new(mask_prob: Probability, terms: impl IntoIterator<Item = Vec<u32>>) -> Self {
        let mut by_first: BTreeMap<u32, Vec<Vec<u32>>> = BTreeMap::new();
        for term in terms.into_iter().filter(|term| !term.is_empty()) {
            by_first.entry(term[0]).or_default().push(term);
        }
        by_first.values_mut().for_each(|terms| terms.sort_by_key(|term| std::cmp::Reverse(term.len())));
        Self { mask_prob: Some(mask_prob), by_first }
    }

    /// The length of the longest term that begins at token `at` and ends with a word; 0 where there is none.
    fn len_at(&self, tokens: &[Token], at: usize) -> usize {
        let Some(terms) = self.by_first.get(&tokens[at].id).filter(|_| tokens[at].starts_word) else { return 0 };
        let is_there = |term: &&Vec<u32>| {
            let ids = tokens[at..].iter().map(|token| token.id).take(term.len());
            ids.eq(term.iter().copied()) && tokens.get(at + term.len()).is_none_or(|after| after.starts_word)
        };
        terms.iter().find(is_there).map_or(0, Vec::len)
    }
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
        Self { mask_prob, unit: MaskUnit::Token, terms: None, weight: Ramp::constant(1.0) }
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
    terms: &Terms,
    sequences: &[Sequence],
    stream: Stream,
    step: u64,
) -> Exercise {
    let stand_in = specials.mask.expect("a vocabulary without a mask is refused before");
    let (mut ids, mut lengths) = (Vec::new(), Vec::new());
    let (mut positions, mut targets, mut sources) = (Vec::new(), Vec::new(), Vec::new());
    for (i, sequence) in sequences.iter().enumerate() {
        let mut draws = stream.at(step, i as u64);
        ids.extend_from_slice(&specials.start);
        let mut hiding = Hiding::new(unit, p);
        let tokens: Vec<Token> = sequence.tokens().collect();
        let mut term: Option<(usize, bool)> = None;
        for (at, token) in tokens.iter().enumerate() {
            if let (Some(p), None) = (terms.mask_prob, term) {
                let len = terms.len_at(&tokens, at);
                term = (len > 0).then(|| (len, draws.uniform() < p.get()));
            }
            let hidden = match &mut term {
                None => hiding.next(token.starts_word, &mut draws),
                Some((_, hidden)) => *hidden,
            };
            term = term.and_then(|(left, hidden)| (left > 1).then_some((left - 1, hidden)));
            if hidden {
                sources.push(sequence.source);
                positions.push(ids.len());
                targets.push(token.id);
            }
            ids.push(if hidden { stand_in } else { token.id });
        }
        ids.extend_from_slice(&specials.end);
        lengths.push(sequence.len() + specials.num_tokens());
    }
    let sequences = Sequences::of_lengths(lengths);
    Exercise { batch: Batch::new(ids, sequences), positions, targets, sources }
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
        mask(
            (unit, Probability::new(0.3).unwrap()),
            &specials,
            &Terms::default(),
            sequences,
            Seed(1).stream("mask"),
            step,
        )
    }

    #[test]
    fn the_asked_share_is_masked_and_targets_are_the_originals() {
        let sequences = words();
        let masked = masked(MaskUnit::Token, &sequences, 0);
        let share = masked.positions.len() as f64 / 3000.0;
        assert!((share - 0.3).abs() < 0.04, "{share}");
        let originals: Vec<u32> = sequences[0].tokens().map(|token| token.id).collect();
        for (&position, &target) in masked.positions.iter().zip(&masked.targets) {
            assert_eq!(masked.batch.ids()[position], MASK);
            assert_eq!(originals[position - 1], target);
        }
        let visible = masked.batch.ids().iter().filter(|&&id| id != MASK).count();
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
    fn terms_are_hidden_whole_and_more_often() {
        let specials = Specials { start: vec![2], end: vec![3], mask: Some(MASK) };
        let part = |value| Probability::new(value).unwrap();
        // Of the ninety words, the one that begins with 10 and the run of two that begins with 40; not one that goes on.
        let terms = Terms::new(part(0.8), [vec![10, 11, 12], vec![40, 41, 42, 43, 44, 45], vec![70, 71]]);
        let (mut in_terms, mut others) = ([0, 0], [0, 0]);
        for step in 0..40 {
            let words = words();
            let found = mask((MaskUnit::Token, part(0.1)), &specials, &terms, &words, Seed(1).stream("mask"), step);
            let hidden: Vec<bool> = found.batch.ids()[1..3001].iter().map(|&id| id == MASK).collect();
            for (at, token) in words[0].tokens().enumerate() {
                let is_term = (10..13).contains(&token.id) || (40..46).contains(&token.id);
                let counts = if is_term { &mut in_terms } else { &mut others };
                *counts = [counts[0] + usize::from(hidden[at]), counts[1] + 1];
                if is_term && ![10, 40].contains(&token.id) {
                    assert_eq!(hidden[at], hidden[at - 1], "token {} of a term", token.id);
                }
            }
        }
        let share = |[num, all]: [usize; 2]| num as f64 / all as f64;
        assert!((share(in_terms) - 0.8).abs() < 0.03 && (share(others) - 0.1).abs() < 0.01, "{in_terms:?} {others:?}");
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
