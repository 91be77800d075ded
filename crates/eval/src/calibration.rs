//! How well confidence fits: temperature, threshold and reliability.

use serde::{Deserialize, Serialize};

use crate::predictions::Predictions;

/// Bins of equal width in a reliability diagram.
pub const NUM_BINS: usize = 15;

/// Temperatures that [`fit_temperature`] can return. The bounds hold where the development set is predicted without a
/// mistake, or no better than by chance.
const TEMPERATURES: (f64, f64) = (0.01, 100.0);

/// What is fitted on the development set and applied to every other.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// What logits are divided by.
    pub temperature: f64,
    /// The probability (before scaling) above which a label is predicted; for multi-label tasks only.
    pub threshold: Option<f64>,
}

/// Choices whose confidence falls into one bin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReliabilityBin {
    /// Choices in the bin.
    pub count: usize,
    /// Their mean confidence; 0 in an empty bin.
    pub confidence: f64,
    /// The share of them that is right; 0 in an empty bin.
    pub accuracy: f64,
}

/// Fits temperature and, for multi-label tasks, threshold on the development set.
pub fn calibrate(dev: &Predictions) -> Calibration {
    let threshold = matches!(dev, Predictions::Multilabel(_)).then(|| fit_threshold(dev));
    Calibration { temperature: fit_temperature(dev), threshold }
}

/// The temperature in `[0.01, 100]` with the lowest negative log-likelihood of `dev` (Guo et al., "On calibration of
/// modern neural networks", 2017).
///
/// The likelihood is convex in the inverse temperature, so its slope has one sign change, found by bisection. Never
/// worse on `dev` than 1, which is also the answer for an empty set.
pub fn fit_temperature(dev: &Predictions) -> f64 {
    let slope = |beta: f64| dev.decisions().map(|decision| decision.nll_slope(beta)).sum::<f64>();
    let nll = |beta: f64| dev.decisions().map(|decision| decision.nll(beta)).sum::<f64>();
    let (mut low, mut high) = (TEMPERATURES.0.ln(), TEMPERATURES.1.ln());
    while high - low > 1e-9 {
        let middle = 0.5 * (low + high);
        // A rising slope at 1/T asks for a smaller 1/T.
        if slope((-middle).exp()) > 0.0 { low = middle } else { high = middle }
    }
    let temperature = (0.5 * (low + high)).exp();
    if nll(1.0 / temperature) < nll(1.0) { temperature } else { 1.0 }
}

/// The probability threshold with the highest micro-F1 on `dev`, halfway between the neighbouring probabilities'
/// logits; of equals the highest. Used for all arms alike, as a fixed one half is unfair to arms that say "yes"
/// rarely. One half for tasks that are not multi-label and where nothing is gold.
pub fn fit_threshold(dev: &Predictions) -> f64 {
    let Predictions::Multilabel(labels) = dev else { return 0.5 };
    let mut scores: Vec<(f32, bool)> = labels.scores().collect();
    scores.sort_by(|a, b| b.0.total_cmp(&a.0));
    let num_gold = scores.iter().filter(|(_, gold)| *gold).count();
    let (mut hits, mut best_f1, mut best) = (0, 0.0, None);
    for (i, &(logit, gold)) in scores.iter().enumerate() {
        hits += usize::from(gold);
        let next = scores.get(i + 1).map(|(next, _)| *next);
        let f1 = 2.0 * hits as f64 / (i + 1 + num_gold) as f64;
        if f1 > best_f1 && next != Some(logit) {
            (best_f1, best) = (f1, Some(between(next, logit)));
        }
    }
    best.map_or(0.5, crate::predictions::sigmoid)
}

/// Halfway between two logits; a little below the last.
fn between(below: Option<f32>, above: f32) -> f64 {
    let above = f64::from(above);
    below.map_or(above - 1e-3, |below| 0.5 * (f64::from(below) + above))
}

/// The reliability diagram: [`NUM_BINS`] bins `(low, high]` of equal width over confidence, the probability of the
/// likeliest answer. Choices are examples, examples x labels, or words (each taken alone, before decoding).
pub fn reliability(predictions: &Predictions) -> Vec<ReliabilityBin> {
    let mut bins = vec![ReliabilityBin::default(); NUM_BINS];
    for (confidence, right) in predictions.decisions().map(|decision| decision.confidence()) {
        let idx = (confidence * NUM_BINS as f64).ceil() as usize;
        let bin = &mut bins[idx.clamp(1, NUM_BINS) - 1];
        bin.count += 1;
        bin.confidence += confidence;
        bin.accuracy += f64::from(u8::from(right));
    }
    for bin in bins.iter_mut().filter(|bin| bin.count > 0) {
        bin.confidence /= bin.count as f64;
        bin.accuracy /= bin.count as f64;
    }
    bins
}

/// The expected calibration error of a reliability diagram: the distance between accuracy and confidence, averaged
/// over choices (Naeini et al. 2015); 0 for an empty diagram.
pub fn expected_calibration_error(bins: &[ReliabilityBin]) -> f64 {
    let num_choices = bins.iter().map(|bin| bin.count).sum::<usize>().max(1) as f64;
    bins.iter().map(|bin| bin.count as f64 / num_choices * (bin.accuracy - bin.confidence).abs()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{HeadlineMetric, Scored, nll};
    use proptest::prelude::*;

    fn class_predictions() -> impl Strategy<Value = Predictions> {
        (2usize..6, 1usize..30).prop_flat_map(|(num_classes, n)| {
            let logits = prop::collection::vec(-20f32..20.0, num_classes * n);
            let gold = prop::collection::vec(0..num_classes as u32, n);
            (logits, gold).prop_map(move |(logits, gold)| Predictions::class(num_classes, logits, gold).unwrap())
        })
    }

    fn multilabel_predictions() -> impl Strategy<Value = Predictions> {
        (1usize..5, 1usize..20).prop_flat_map(|(num_labels, n)| {
            // Coarse logits, so that ties occur.
            let logits = prop::collection::vec((-8i8..8).prop_map(f32::from), num_labels * n);
            let gold = prop::collection::vec(any::<bool>(), num_labels * n);
            (logits, gold).prop_map(move |(logits, gold)| Predictions::multilabel(num_labels, logits, gold).unwrap())
        })
    }

    proptest! {
        #[test]
        fn temperature_never_harms_dev(dev in prop_oneof![class_predictions(), multilabel_predictions()]) {
            let temperature = fit_temperature(&dev);
            prop_assert!(nll(&dev.scaled(temperature)) <= nll(&dev) * (1.0 + 1e-6) + 1e-9);
            for other in [0.5, 0.9, 1.1, 2.0] {
                let other = (temperature * other).clamp(TEMPERATURES.0, TEMPERATURES.1);
                prop_assert!(nll(&dev.scaled(temperature)) <= nll(&dev.scaled(other)) * (1.0 + 1e-6) + 1e-6);
            }
        }

        #[test]
        fn bins_hold_every_choice(dev in class_predictions()) {
            let bins = reliability(&dev);
            prop_assert_eq!(bins.iter().map(|bin| bin.count).sum::<usize>(), dev.num_examples());
            prop_assert!((0.0..=1.0).contains(&expected_calibration_error(&bins)));
        }

        #[test]
        fn no_threshold_beats_the_fitted(dev in multilabel_predictions()) {
            let f1 = |threshold| {
                Scored::new(&dev.clone().with_threshold(threshold), HeadlineMetric::MicroF1).unwrap().value()
            };
            let fitted = f1(fit_threshold(&dev));
            for logit in -9..9 {
                prop_assert!(fitted >= f1(crate::predictions::sigmoid(f64::from(logit) + 0.5)) - 1e-12);
            }
        }
    }

    #[test]
    fn an_empty_set_changes_nothing() {
        let empty = Predictions::class(2, vec![], vec![]).unwrap();
        assert_eq!(calibrate(&empty), Calibration { temperature: 1.0, threshold: None });
        assert_eq!(expected_calibration_error(&reliability(&empty)), 0.0);
    }
}
