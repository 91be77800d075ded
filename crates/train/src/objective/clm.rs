//! Causal language modelling (Radford et al. 2018): every token from those before it.

use arable_model::Batch;
use arable_tensor::Sequences;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::loader::Sequence;
use crate::objective::{Exercise, Specials};

/// Nothing to choose: each token of a sequence but the first is to be found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ClmConfig {}

/// Each row of a sequence but its last asks for the token of the row behind it.
pub fn exercise(specials: &Specials, sequences: &[Sequence]) -> Exercise {
    let (mut ids, mut lengths) = (Vec::new(), Vec::new());
    for sequence in sequences {
        ids.extend_from_slice(&specials.start);
        ids.extend(sequence.tokens().map(|token| token.id));
        ids.extend_from_slice(&specials.end);
        lengths.push(sequence.len() + specials.num_tokens());
    }
    let sequences = Sequences::of_lengths(lengths);
    let positions: Vec<usize> = sequences.iter().flat_map(|rows| rows.start..rows.end.saturating_sub(1)).collect();
    let targets = positions.iter().map(|row| ids[row + 1]).collect();
    Exercise { batch: Batch { ids, types: Vec::new(), sequences }, positions, targets }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_token_is_asked_for_from_the_one_before() {
        let specials = Specials { start: vec![1], ..Specials::default() };
        let sequences = [vec![10, 11, 12], vec![20], vec![]].map(Sequence::new);
        let found = exercise(&specials, &sequences);
        assert_eq!(found.batch.ids, [1, 10, 11, 12, 1, 20, 1]);
        assert_eq!(found.positions, [0, 1, 2, 4]);
        assert_eq!(found.targets, [10, 11, 12, 20]);
        let without = exercise(&Specials::default(), &sequences);
        assert_eq!((without.positions, without.targets), (vec![0, 1], vec![11, 12]));
    }
}
