//! Vectors of texts that belong together are to be near each other (SimCSE, Gao et al. 2021; Contriever, Izacard et al. 2022;
//! DeCLUTR, Giorgi et al. 2021).

use arable_core::Seed;
use arable_model::{Batch, Pooling, Reading};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::adapt::batch_indices;
use crate::loader::Sequence;
use crate::objective::vectors::{on_model, through};
use crate::objective::{Specials, Worker};
use crate::ramp::Ramp;

/// How vectors of texts are drawn together and apart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ContrastiveConfig {
    /// What the loss counts.
    pub weight: Ramp<f64>,
    /// Which texts belong together.
    pub pairs: PairsOf,
    /// What cosines are divided by: the smaller, the more the nearest others count.
    pub temperature: f64,
    /// How a text becomes one vector.
    pub pooling: Pooling,
}

impl Default for ContrastiveConfig {
    fn default() -> Self {
        Self { weight: Ramp::constant(1.0), pairs: PairsOf::Dropout, temperature: 0.05, pooling: Pooling::Mean }
    }
}

/// Which texts belong together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PairsOf {
    /// A sequence and itself under other dropout, which has to be above 0.
    #[default]
    Dropout,
    /// Two neighbouring spans of a document: a sequence, cut at a word in its middle half.
    Spans,
    /// Two fields of each record of a file.
    Given(GivenPairs),
}

/// Pairs of texts in a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GivenPairs {
    /// The file, as of a source.
    pub path: String,
    /// The field of one text.
    pub first: String,
    /// The field of the other.
    pub second: String,
    /// Pairs in a step.
    #[serde(default = "default_batch_size")]
    pub batch_size: usize,
}

fn default_batch_size() -> usize {
    32
}

/// Sequences in two halves: number `i` of the first belongs to number `i` of the second.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pairs(pub(crate) Batch);

/// Shorter spans say nothing.
const MIN_SPAN: usize = 4;

/// The pairs of a step; none where there are fewer than two, which leaves nothing to be told apart.
pub(crate) fn pairs(
    config: &ContrastiveConfig,
    specials: &Specials,
    given: &[[Vec<u32>; 2]],
    sequences: &[Sequence],
    seed: Seed,
    step: u64,
) -> Option<Pairs> {
    let framed = |ids: &[u32]| specials.frame(ids.iter().copied());
    let ids = |sequence: &Sequence| sequence.tokens().map(|token| token.id).collect::<Vec<u32>>();
    let halves: [Vec<Vec<u32>>; 2] = match &config.pairs {
        PairsOf::Dropout => {
            let texts: Vec<Vec<u32>> =
                sequences.iter().filter(|sequence| sequence.len() >= MIN_SPAN).map(|own| framed(&ids(own))).collect();
            [texts.clone(), texts]
        }
        PairsOf::Spans => {
            let stream = seed.stream("spans");
            let cut = |(idx, sequence): (usize, &Sequence)| {
                let at = cut_at(sequence, stream.at(step, idx as u64).uniform())?;
                let ids = ids(sequence);
                Some((framed(&ids[..at]), framed(&ids[at..])))
            };
            let (first, second) = sequences.iter().enumerate().filter_map(cut).unzip();
            [first, second]
        }
        PairsOf::Given(GivenPairs { batch_size, .. }) => {
            let chosen = batch_indices(given.len(), *batch_size, step, seed.child("pairs"));
            [0, 1].map(|half| chosen.iter().map(|&idx| given[idx][half].clone()).collect())
        }
    };
    (halves[0].len() > 1).then(|| Pairs(Batch::pack(halves.iter().flatten().map(Vec::as_slice))))
}

/// The beginning of a word in the middle half of a sequence, at the place that `drawn` in `[0, 1)` says, or the next there is.
fn cut_at(sequence: &Sequence, drawn: f64) -> Option<usize> {
    let len = sequence.len();
    let wanted = (len as f64 * (0.25 + 0.5 * drawn)) as usize;
    let starts = sequence.tokens().enumerate().filter(|(_, token)| token.starts_word).map(|(at, _)| at);
    starts.filter(|&at| at >= MIN_SPAN && len - at >= MIN_SPAN).find(|&at| at >= wanted)
}

/// Adds the gradient of `weight` times the loss, which is returned.
pub(crate) fn work(worker: &mut Worker<'_>, config: &ContrastiveConfig, Pairs(batch): &Pairs, weight: f64) -> f64 {
    through(worker, "contrastive", (batch, &Reading::pooled(config.pooling, batch)), |worker, vectors| {
        on_model(worker, vectors, weight as f32, |_, tape, x| tape.info_nce(x, config.temperature as f32))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sequence(len: u32) -> Sequence {
        Sequence::new((0..len).map(|i| (10 + i) | if i % 3 == 0 { 1 << 31 } else { 0 }).collect())
    }

    #[test]
    fn spans_are_neighbours_and_cut_at_words() {
        let config = ContrastiveConfig { pairs: PairsOf::Spans, ..ContrastiveConfig::default() };
        let specials = Specials { start: vec![1], end: vec![2], mask: None };
        let sequences = [sequence(30), sequence(5), sequence(60)];
        let Pairs(batch) = pairs(&config, &specials, &[], &sequences, Seed(1), 3).unwrap();
        assert_eq!(batch.sequences().len(), 4, "five tokens have no two spans of four");
        for (half, len) in [(0, 30), (1, 60)] {
            let [first, second] = [half, half + 2].map(|idx| &batch.ids()[batch.sequences().rows(idx)]);
            assert_eq!((first[0], *second.last().unwrap()), (1, 2));
            let whole: Vec<u32> = [&first[1..first.len() - 1], &second[1..second.len() - 1]].concat();
            assert_eq!(whole, (10..10 + len).collect::<Vec<u32>>());
            assert_eq!((second[1] - 10) % 3, 0);
        }
        assert_eq!(pairs(&config, &specials, &[], &sequences[..2], Seed(1), 3), None);
    }
}
