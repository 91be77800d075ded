//! All metrics of one set of predictions by name.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::binary::roc_auc;
use crate::calibration::{Calibration, ReliabilityBin, expected_calibration_error, reliability};
use crate::predictions::Predictions;
use crate::scored::{HeadlineMetric, Scored};

/// The metrics that depend on probabilities, so on the temperature.
const CALIBRATED: [&str; 3] = ["nll", "brier", "ece"];

/// What one cell measures on its test set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measured {
    /// The keys of [`metrics`], and `nll_scaled`, `brier_scaled`, `ece_scaled` after temperature scaling.
    pub metrics: BTreeMap<String, f64>,
    /// Reliability diagram before temperature scaling.
    pub reliability: Vec<ReliabilityBin>,
    /// Reliability diagram after temperature scaling.
    pub reliability_scaled: Vec<ReliabilityBin>,
}

/// Every metric that the kind of task has, by name.
///
/// - All: `accuracy` (words for tagging, all labels of an example right for multi-label), `nll`, `brier`, `ece`.
/// - Single- and multi-label: `micro_f1`, `macro_f1` as in scikit-learn with `zero_division=0`.
/// - Tagging: `entity_precision`, `entity_recall`, `entity_f1` over exact spans (see [`crate::spans`]), with tags
///   decoded by [`crate::decode_tags`].
pub fn metrics(predictions: &Predictions) -> BTreeMap<String, f64> {
    let scored = HeadlineMetric::ALL.into_iter().filter_map(|metric| Scored::new(predictions, metric).ok());
    let mut metrics: BTreeMap<String, f64> = scored.flat_map(|scored| named(&scored)).collect();
    let bins = reliability(predictions);
    let calibrated = [nll(predictions), brier(predictions), expected_calibration_error(&bins)];
    metrics.extend(CALIBRATED.iter().map(|&name| name.to_owned()).zip(calibrated));
    metrics.extend(error_auroc(predictions).map(|auroc| ("error_auroc".to_owned(), auroc)));
    metrics
}

/// How well confidence tells right answers from wrong ones: the chance that a right one is the surer of the two (Hendrycks and
/// Gimpel 2017); 0.5 is chance. None where all are right, or all wrong.
pub fn error_auroc(predictions: &Predictions) -> Option<f64> {
    let mut sorted: Vec<(f64, bool)> = predictions.decisions().map(|decision| decision.confidence()).collect();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0).then_with(|| a.1.cmp(&b.1)));
    roc_auc(&sorted, &vec![1; sorted.len()])
}

fn named(scored: &Scored) -> Vec<(String, f64)> {
    let mut named = vec![(scored.metric().key().to_owned(), scored.value())];
    if scored.metric() == HeadlineMetric::EntityF1 {
        let total = scored.total();
        named.push(("entity_precision".to_owned(), total.precision()));
        named.push(("entity_recall".to_owned(), total.recall()));
    }
    named
}

/// Measures a test set with what was fitted on the development set.
pub fn measure(test: &Predictions, calibration: &Calibration) -> Measured {
    let test = match calibration.threshold {
        Some(threshold) => test.clone().with_threshold(threshold),
        None => test.clone(),
    };
    let scaled = test.scaled(calibration.temperature);
    let reliability_scaled = reliability(&scaled);
    let mut metrics = metrics(&test);
    metrics.insert("nll_scaled".to_owned(), nll(&scaled));
    metrics.insert("brier_scaled".to_owned(), brier(&scaled));
    metrics.insert("ece_scaled".to_owned(), expected_calibration_error(&reliability_scaled));
    Measured { metrics, reliability: reliability(&test), reliability_scaled }
}

/// Mean negative log-likelihood of the right answers, in nats: per example, per example and label, or per word.
pub fn nll(predictions: &Predictions) -> f64 {
    mean(predictions.decisions().map(|decision| decision.nll(1.0)))
}

/// Mean Brier score: the squared distance between probabilities and the right answer, summed over classes (in
/// `[0, 2]`); for multi-label tasks the mean over examples and labels of each label's squared distance (in `[0, 1]`).
pub fn brier(predictions: &Predictions) -> f64 {
    mean(predictions.decisions().map(|decision| decision.brier()))
}

/// The mean; 0 of nothing.
fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0usize), |(sum, count), value| (sum + value, count + 1));
    sum / count.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calibration::calibrate;
    use crate::predictions::TagSentence;

    fn sure(k: usize, gold: &[u32]) -> Vec<f32> {
        gold.iter().flat_map(|&g| (0..k as u32).map(move |c| if c == g { 60.0 } else { 0.0 })).collect()
    }

    #[test]
    fn perfect_predictions_are_perfect() {
        let gold = vec![0, 1, 2, 1];
        let class = Predictions::class(3, sure(3, &gold), gold).unwrap();
        let labels = Predictions::multilabel(2, vec![60.0, -60.0, -60.0, 60.0], vec![true, false, false, true]);
        let tags = ["B-A", "I-A", "O"].map(String::from).to_vec();
        let gold = vec![0, 1, 2, 0];
        let tagging = Predictions::tagging(tags, vec![TagSentence { logits: sure(3, &gold), gold }]);
        for predictions in [class, labels.unwrap(), tagging.unwrap()] {
            for (name, value) in metrics(&predictions) {
                let best = if CALIBRATED.contains(&name.as_str()) { 0.0 } else { 1.0 };
                assert!((value - best).abs() < 1e-9, "{name} is {value}");
            }
        }
    }

    #[test]
    fn who_is_unsure_of_errors_knows_them() {
        let class = |logits: Vec<f32>, gold: Vec<u32>| Predictions::class(2, logits, gold).unwrap();
        let knows = class(vec![9.0, 0.0, 9.0, 0.0, 0.0, 1.0], vec![0, 0, 0]);
        assert_eq!(error_auroc(&knows), Some(1.0));
        assert_eq!(error_auroc(&class(vec![1.0, 0.0, 9.0, 0.0], vec![0, 1])), Some(0.0));
        assert_eq!(error_auroc(&class(vec![1.0, 0.0], vec![0])), None);
    }

    #[test]
    fn scaling_changes_probabilities_only() {
        let dev = Predictions::class(2, vec![9.0, 0.0, 9.0, 0.0, 0.0, 9.0, 9.0, 0.0], vec![0, 1, 1, 0]).unwrap();
        let measured = measure(&dev, &calibrate(&dev));
        assert_eq!(measured.metrics["accuracy"], 0.75);
        // Three of four are right, so the best probability for all is 3/4.
        assert!((measured.metrics["nll_scaled"] - (-(0.75f64.ln()) * 0.75 - 0.25f64.ln() * 0.25)).abs() < 1e-6);
        assert!(measured.metrics["ece_scaled"] < 1e-6 && measured.metrics["ece"] > 0.2);
    }
}
