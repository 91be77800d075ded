//! Documents in an order (Bengio et al. 2009, "Curriculum learning") instead of shuffled ones.

use arable_core::Stream;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The order in which a stage reads the documents of each source.
///
/// A stage that cannot read all of a source reads a part drawn by chance, in order: the order decides when a document is
/// read, never whether.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CurriculumConfig {
    /// What documents are ordered by: a name or an expression of `arable data attributes`, such as `reading_ease`,
    /// `num_words` or `time`.
    pub by: String,
    /// What comes first.
    #[serde(default)]
    pub order: Order,
}

/// What comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// The smallest, or the earliest.
    #[default]
    Rising,
    /// The largest, or the latest.
    Falling,
    /// Nothing: the control. The same documents, read in an order drawn by chance.
    Shuffled,
}

/// The place of each document in the order, from 0 to below 1. `keys` say what they are ordered by, or NaN; documents
/// without a key, and those with equal ones, are placed by chance. Document `i` draws from `stream.at(0, i)`.
pub fn places(order: Order, keys: &[f64], stream: Stream) -> Vec<f32> {
    let drawn: Vec<f64> = (0..keys.len()).map(|idx| stream.at(0, idx as u64).uniform()).collect();
    let (mut known, mut unknown): (Vec<usize>, Vec<usize>) =
        (0..keys.len()).partition(|&idx| order != Order::Shuffled && !keys[idx].is_nan());
    known.sort_by(|&a, &b| {
        let by_key = keys[a].total_cmp(&keys[b]);
        let by_key = if order == Order::Falling { by_key.reverse() } else { by_key };
        by_key.then_with(|| drawn[a].total_cmp(&drawn[b]))
    });
    unknown.sort_by(|&a, &b| drawn[a].total_cmp(&drawn[b]));
    let mut places = vec![0.0; keys.len()];
    for sorted in [known, unknown] {
        let num = sorted.len() as f64;
        sorted.into_iter().enumerate().for_each(|(at, idx)| places[idx] = (at as f64 / num) as f32);
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;
    use arable_core::Seed;

    #[test]
    fn keys_order_and_chance_fills_in() {
        let keys = [3.0, f64::NAN, 1.0, 2.0, 2.0, f64::NAN];
        let stream = Seed(1).stream("places");
        let rising = places(Order::Rising, &keys, stream);
        assert_eq!((rising[2], rising[0]), (0.0, 0.75));
        assert_eq!(rising[3] + rising[4], 0.75);
        assert_eq!(rising[1] + rising[5], 0.5);
        let falling = places(Order::Falling, &keys, stream);
        assert_eq!((falling[0], falling[2]), (0.0, 0.75));
        let mut shuffled = places(Order::Shuffled, &keys, stream);
        shuffled.sort_by(f32::total_cmp);
        assert_eq!(shuffled, (0..6).map(|at| (f64::from(at) / 6.0) as f32).collect::<Vec<_>>());
    }
}
