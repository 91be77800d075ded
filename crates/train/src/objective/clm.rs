//! Causal language modelling (Radford et al. 2018): every token from those before it.

use arable_model::Batch;
use arable_tensor::Sequences;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::loader::Sequence;
use crate::objective::{Exercise, Specials};
use crate::ramp::Ramp;

/// Each token of a sequence but the first is to be found.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ClmConfig {
    /// What the loss counts beside those of other objectives.
    #[serde(skip_serializing_if = "is_one")]
    pub weight: Ramp<f64>,
}

impl Default for ClmConfig {
    fn default() -> Self {
        Self { weight: Ramp::constant(1.0) }
    }
}

/// Whether a loss counts once all along: so it is where there was no weight.
pub(crate) fn is_one(weight: &Ramp<f64>) -> bool {
    *weight == Ramp::constant(1.0)
}

/// Each row of a sequence but its last asks for the token of the row behind it.
pub fn exercise(specials: &Specials, sequences: &[Sequence]) -> Exercise {
    let (mut ids, mut lengths) = (Vec::new(), Vec::new());
    for sequence in sequences {
        ids.extend_from_slice(&specials.start);
        ids.extend(sequence.tokens().map(|token| token.id));
        ids.extend_from_slice(&specials.end);
        lengths.push(sequence.len() + specials.num_tokens());
    }
    let packed = Sequences::of_lengths(lengths);
    let asked = |rows: std::ops::Range<usize>| rows.start..rows.end.saturating_sub(1);
    let positions: Vec<usize> = packed.iter().flat_map(asked).collect();
    let targets = positions.iter().map(|row| ids[row + 1]).collect();
    let source = |(rows, sequence): (_, &Sequence)| std::iter::repeat_n(sequence.source, asked(rows).len());
    let sources = packed.iter().zip(sequences).flat_map(source).collect();
    Exercise { batch: Batch::new(ids, packed), positions, targets, sources }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_token_is_asked_for_from_the_one_before() {
        let specials = Specials { start: vec![1], ..Specials::default() };
        let sequences = [vec![10, 11, 12], vec![20], vec![]].map(Sequence::new);
        let found = exercise(&specials, &sequences);
        assert_eq!(**found.batch.ids(), [1, 10, 11, 12, 1, 20, 1]);
        assert_eq!(found.positions, [0, 1, 2, 4]);
        assert_eq!(found.targets, [10, 11, 12, 20]);
        let without = exercise(&Specials::default(), &sequences);
        assert_eq!((without.positions, without.targets), (vec![0, 1], vec![11, 12]));
    }
}
