//! Intervals by resampling seeds and test examples.

use arable_core::{Seed, Stream};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::scored::{HeadlineMetric, Scored};

/// A mean over seeds with its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interval {
    /// Mean over seeds.
    pub mean: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Repetitions; for a difference, those of the arm with fewer.
    pub num_seeds: usize,
}

/// Scores that cannot be resampled together.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BootstrapError {
    /// No seed was scored.
    #[error("resample the scores of no seed")]
    NoSeeds,
    /// The test set is empty.
    #[error("resample an empty test set")]
    NoExamples,
    /// Two seeds or arms were scored on different test sets.
    #[error("resample test sets of {left} and {right} examples together")]
    DifferentExamples {
        /// Examples of the first.
        left: usize,
        /// Examples of the other.
        right: usize,
    },
    /// Two seeds or arms were scored by different metrics.
    #[error("resample {} and {} together", .left.key(), .right.key())]
    DifferentMetrics {
        /// Metric of the first.
        left: HeadlineMetric,
        /// Metric of the other.
        right: HeadlineMetric,
    },
}

/// The mean of a metric over seeds, with a 95 % percentile interval (Efron 1979) over two levels: each resample draws
/// seeds with replacement and, once for all of them, test examples with replacement.
///
/// With one seed the interval holds the examples' part alone; with few seeds it is somewhat too narrow, as every
/// bootstrap of few things is. It is widened, where need be, to hold the mean. The result depends on `seed` alone.
///
/// # Errors
/// When there is no seed or no example, or seeds differ in metric or number of examples.
pub fn interval(per_seed: &[Scored], num_resamples: usize, seed: Seed) -> Result<Interval, BootstrapError> {
    check(per_seed)?;
    let scores = resample(per_seed[0].num_examples(), num_resamples, seed, |draw| {
        drawn_mean(per_seed, &draw.seeds(per_seed.len()), &draw.weights)
    });
    Ok(percentiles(plain_mean(per_seed), scores, per_seed.len()))
}

/// The difference `left - right` of two arms' means over seeds, with a 95 % interval of the paired bootstrap: both
/// arms meet the same resampled test examples. Arms of equally many seeds also meet the same resampled seeds, as equal
/// seeds share their labelled examples; otherwise each arm's seeds are drawn by themselves.
///
/// # Errors
/// As [`interval`], over both arms.
pub fn paired_difference(
    left: &[Scored],
    right: &[Scored],
    num_resamples: usize,
    seed: Seed,
) -> Result<Interval, BootstrapError> {
    check(left)?;
    check(right)?;
    check_alike(&left[0], &right[0])?;
    let scores = resample(left[0].num_examples(), num_resamples, seed, |draw| {
        let left_mean = drawn_mean(left, &draw.seeds(left.len()), &draw.weights);
        left_mean - drawn_mean(right, &draw.seeds(right.len()), &draw.weights)
    });
    Ok(percentiles(plain_mean(left) - plain_mean(right), scores, left.len().min(right.len())))
}

/// `value` with its 95 % percentile interval over things drawn with replacement: `score` takes how often each was drawn,
/// and resamples that have no score are left out.
pub(crate) fn resampled(
    value: f64,
    num_things: usize,
    num_resamples: usize,
    seed: Seed,
    score: impl Fn(&[u32]) -> Option<f64> + Sync,
) -> Interval {
    let scores = resample(num_things, num_resamples, seed, |draw| score(&draw.weights));
    percentiles(value, scores.into_iter().flatten().collect(), 1)
}

/// One resample.
struct Draw {
    stream: Stream,
    resample_idx: u64,
    /// How often each example was drawn.
    weights: Vec<u32>,
}

impl Draw {
    fn new(stream: Stream, resample_idx: u64, num_examples: usize) -> Self {
        let mut draws = stream.at(resample_idx, 0);
        let mut weights = vec![0; num_examples];
        (0..num_examples).for_each(|_| weights[draws.below(num_examples)] += 1);
        Self { stream, resample_idx, weights }
    }

    /// Seeds drawn with replacement: the same for equal counts, others for others.
    fn seeds(&self, num_seeds: usize) -> Vec<usize> {
        let mut draws = self.stream.at(self.resample_idx, num_seeds as u64);
        (0..num_seeds).map(|_| draws.below(num_seeds)).collect()
    }
}

fn resample<T: Send>(
    num_examples: usize,
    num_resamples: usize,
    seed: Seed,
    score: impl Fn(&Draw) -> T + Sync,
) -> Vec<T> {
    let stream = seed.stream("bootstrap");
    (0..num_resamples as u64).into_par_iter().map(|i| score(&Draw::new(stream, i, num_examples))).collect()
}

fn drawn_mean(per_seed: &[Scored], seeds: &[usize], weights: &[u32]) -> f64 {
    let value = |idx: &usize| per_seed[*idx].weighted(|example| f64::from(weights[example]));
    seeds.iter().map(value).sum::<f64>() / seeds.len() as f64
}

fn plain_mean(per_seed: &[Scored]) -> f64 {
    per_seed.iter().map(Scored::value).sum::<f64>() / per_seed.len() as f64
}

fn percentiles(mean: f64, mut scores: Vec<f64>, num_seeds: usize) -> Interval {
    scores.sort_by(f64::total_cmp);
    let end = |part| quantile(&scores, part).unwrap_or(mean);
    Interval { mean, low: end(0.025).min(mean), high: end(0.975).max(mean), num_seeds }
}

/// The quantile of sorted values, interpolated linearly as in numpy; `None` of nothing.
fn quantile(sorted: &[f64], part: f64) -> Option<f64> {
    let place = part * sorted.len().checked_sub(1)? as f64;
    let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    Some(below + (above - below) * place.fract())
}

fn check(per_seed: &[Scored]) -> Result<(), BootstrapError> {
    let first = per_seed.first().ok_or(BootstrapError::NoSeeds)?;
    if first.num_examples() == 0 {
        return Err(BootstrapError::NoExamples);
    }
    per_seed.iter().try_for_each(|other| check_alike(first, other))
}

fn check_alike(left: &Scored, right: &Scored) -> Result<(), BootstrapError> {
    if left.metric() != right.metric() {
        return Err(BootstrapError::DifferentMetrics { left: left.metric(), right: right.metric() });
    }
    if left.num_examples() != right.num_examples() {
        let (left, right) = (left.num_examples(), right.num_examples());
        return Err(BootstrapError::DifferentExamples { left, right });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::predictions::Predictions;

    /// Scores of `n` two-class examples, each right with probability `skill`.
    fn scored(skill: f64, n: usize, seed: u64, metric: HeadlineMetric) -> Scored {
        let mut draws = Seed(seed).stream("skill").at(0, 0);
        let gold: Vec<u32> = (0..n).map(|i| (i % 3 == 0).into()).collect();
        let right: Vec<bool> = gold.iter().map(|_| draws.uniform() < skill).collect();
        let logits =
            gold.iter().zip(right).flat_map(|(&g, right)| if (g == 0) == right { [1.0, 0.0] } else { [0.0, 1.0] });
        Scored::new(&Predictions::class(2, logits.collect(), gold).unwrap(), metric).unwrap()
    }

    #[test]
    fn width_is_that_of_the_binomial() {
        let one = scored(0.8, 1000, 1, HeadlineMetric::Accuracy);
        let got = interval(std::slice::from_ref(&one), 4000, Seed(5)).unwrap();
        let deviation = (got.mean * (1.0 - got.mean) / 1000.0).sqrt();
        assert!(((got.high - got.low) / (2.0 * 1.96 * deviation) - 1.0).abs() < 0.1, "{got:?}");
        assert_eq!(got.mean, one.value());
    }

    #[test]
    fn seeds_that_differ_widen_the_interval() {
        let seeds: Vec<Scored> =
            [0.6, 0.9, 0.75].iter().map(|&skill| scored(skill, 500, 7, HeadlineMetric::MacroF1)).collect();
        let spread = interval(&seeds, 1000, Seed(5)).unwrap();
        let single = interval(&seeds[2..], 1000, Seed(5)).unwrap();
        assert!(spread.low <= spread.mean && spread.mean <= spread.high);
        assert!(spread.high - spread.low > 1.5 * (single.high - single.low));
    }

    #[test]
    fn an_arm_equals_itself_and_a_better_one_shows() {
        let arm = |skill| [1, 2, 3].map(|seed| scored(skill, 400, seed, HeadlineMetric::MacroF1));
        let none = paired_difference(&arm(0.7), &arm(0.7), 200, Seed(1)).unwrap();
        assert_eq!((none.mean, none.low, none.high), (0.0, 0.0, 0.0));
        let gain = paired_difference(&arm(0.9), &arm(0.7)[..1], 200, Seed(1)).unwrap();
        assert!(gain.low > 0.0 && gain.num_seeds == 1);
    }

    #[test]
    fn threads_do_not_matter() {
        let seeds = [scored(0.7, 300, 1, HeadlineMetric::MacroF1), scored(0.8, 300, 2, HeadlineMetric::MacroF1)];
        let with = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| interval(&seeds, 100, Seed(9)).unwrap())
        };
        assert_eq!(with(1), with(3));
    }

    #[test]
    fn what_differs_is_not_mixed() {
        let accuracy = scored(0.7, 10, 1, HeadlineMetric::Accuracy);
        assert_eq!(interval(&[], 10, Seed(0)), Err(BootstrapError::NoSeeds));
        let other = scored(0.7, 11, 1, HeadlineMetric::Accuracy);
        let mixed = interval(&[accuracy.clone(), other], 10, Seed(0));
        assert_eq!(mixed, Err(BootstrapError::DifferentExamples { left: 10, right: 11 }));
        let metric = paired_difference(&[accuracy], &[scored(0.7, 10, 1, HeadlineMetric::MacroF1)], 10, Seed(0));
        assert!(matches!(metric, Err(BootstrapError::DifferentMetrics { .. })));
    }

    #[test]
    fn quantiles_interpolate() {
        assert_eq!(quantile(&[1.0, 2.0, 4.0], 0.75), Some(3.0));
        assert_eq!(quantile(&[], 0.5), None);
    }
}
