//! What a model that says yes or no is worth, with intervals.

use arable_core::Seed;
use serde::{Deserialize, Serialize};

use crate::bootstrap::{Interval, resampled};
use crate::calibration::NUM_BINS;

/// How good probabilities of "yes" are, each with its 95 % interval over resampled examples.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct BinaryMetrics {
    /// The share of examples on the right side of 0.5.
    pub accuracy: Interval,
    /// The chance that an example whose answer is yes has a higher probability than one whose answer is no: the area under
    /// the ROC curve (Hanley and McNeil 1982).
    pub roc_auc: Interval,
    /// The distance between probability and share of yes, averaged over bins of equal width (Naeini et al. 2015). Its
    /// resamples lie somewhat too high, as chance moves bins apart.
    pub ece: Interval,
}

/// A number for sorted pairs, each taken as often as its weight says.
type Score = fn(&[(f64, bool)], &[u32]) -> Option<f64>;

/// Scores pairs of a probability of yes and whether the answer is yes; `None` unless there are both answers.
pub fn binary(predictions: &[(f64, bool)], num_resamples: usize, seed: Seed) -> Option<BinaryMetrics> {
    let mut sorted = predictions.to_vec();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0).then_with(|| a.1.cmp(&b.1)));
    let metric = |score: Score| {
        let value = score(&sorted, &vec![1; sorted.len()])?;
        Some(resampled(value, sorted.len(), num_resamples, seed, |weights| score(&sorted, weights)))
    };
    Some(BinaryMetrics { accuracy: metric(accuracy)?, roc_auc: metric(roc_auc)?, ece: metric(ece)? })
}

fn accuracy(sorted: &[(f64, bool)], weights: &[u32]) -> Option<f64> {
    let right = sorted.iter().zip(weights).filter(|((p, yes), _)| (*p > 0.5) == *yes);
    let num: u32 = weights.iter().sum();
    (num > 0).then(|| f64::from(right.map(|(_, weight)| weight).sum::<u32>()) / f64::from(num))
}

/// Counts, for each yes, the noes below it, and half of those beside it.
pub(crate) fn roc_auc(sorted: &[(f64, bool)], weights: &[u32]) -> Option<f64> {
    let (mut num_yes, mut num_no, mut pairs, mut at) = (0.0, 0.0, 0.0, 0);
    for equal in sorted.chunk_by(|a, b| a.0.total_cmp(&b.0).is_eq()) {
        let here = equal.iter().zip(&weights[at..]);
        let (yes, no) = here.fold((0.0, 0.0), |(yes, no), (&(_, is_yes), &weight)| {
            let weight = f64::from(weight);
            if is_yes { (yes + weight, no) } else { (yes, no + weight) }
        });
        pairs += yes * (num_no + 0.5 * no);
        (num_yes, num_no, at) = (num_yes + yes, num_no + no, at + equal.len());
    }
    (num_yes > 0.0 && num_no > 0.0).then(|| pairs / (num_yes * num_no))
}

fn ece(sorted: &[(f64, bool)], weights: &[u32]) -> Option<f64> {
    let mut gaps = [0.0; NUM_BINS];
    let mut num = 0.0;
    for (&(p, is_yes), &weight) in sorted.iter().zip(weights) {
        let (weight, bin) = (f64::from(weight), (p * NUM_BINS as f64) as usize);
        gaps[bin.min(NUM_BINS - 1)] += weight * (p - f64::from(u8::from(is_yes)));
        num += weight;
    }
    (num > 0.0).then(|| gaps.iter().map(|gap| gap.abs()).sum::<f64>() / num)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_area_is_the_share_of_pairs_in_order() {
        let mut draws = Seed(3).stream("pairs").at(0, 0);
        let predictions: Vec<(f64, bool)> = (0..200)
            .map(|_| {
                let is_yes = draws.uniform() < 0.3;
                // A coarse grid, so that many are equal.
                (((draws.uniform() + if is_yes { 0.4 } else { 0.0 }) * 7.0).floor() / 10.0, is_yes)
            })
            .collect();
        let (yes, no): (Vec<_>, Vec<_>) = predictions.iter().partition(|(_, is_yes)| *is_yes);
        let pairs = yes.iter().flat_map(|(a, _)| no.iter().map(move |(b, _)| (a, b)));
        let order = |(a, b): (&f64, &f64)| {
            if a > b {
                1.0
            } else if a < b {
                0.0
            } else {
                0.5
            }
        };
        let expected = pairs.map(order).sum::<f64>() / (yes.len() * no.len()) as f64;
        let found = binary(&predictions, 200, Seed(1)).unwrap();
        assert!((found.roc_auc.mean - expected).abs() < 1e-12, "{found:?}");
        assert!(found.roc_auc.low < expected - 0.01 && found.roc_auc.high > expected + 0.01, "{found:?}");
        assert_eq!(found, binary(&predictions, 200, Seed(1)).unwrap());
    }

    #[test]
    fn probabilities_that_are_right_on_average_are_calibrated() {
        let half: Vec<(f64, bool)> = (0..100).map(|i| (0.75, i % 4 != 0)).collect();
        let found = binary(&half, 50, Seed(1)).unwrap();
        assert!(found.ece.mean < 1e-12 && (found.accuracy.mean - 0.75).abs() < 1e-12, "{found:?}");
        assert!((found.roc_auc.mean - 0.5).abs() < 1e-12, "{found:?}");
        let sure: Vec<(f64, bool)> = (0..100).map(|i| (1.0, i % 4 != 0)).collect();
        assert!((binary(&sure, 50, Seed(1)).unwrap().ece.mean - 0.25).abs() < 1e-12);
        assert!(binary(&[(0.3, true)], 50, Seed(1)).is_none() && binary(&[], 50, Seed(1)).is_none());
    }
}
