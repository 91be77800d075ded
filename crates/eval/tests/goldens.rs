//! The same numbers as scikit-learn, scipy and seqeval (`scripts/eval_goldens.py` makes `goldens.json`).

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use arable_core::{Input, Seed};
use arable_eval::{
    Agreement, LinearModel, Predictions, Problem, Ratings, Rows, SolverConfig, Targets, Vectorizer, VectorizerConfig,
    fit_temperature, metrics, spans,
};
use serde::Deserialize;

#[derive(Deserialize)]
struct Goldens {
    class: ClassCase,
    multilabel: MultilabelCase,
    spans: SpanCase,
    tfidf: TfidfCase,
    logistic: LogisticCase,
}

#[derive(Deserialize)]
struct ClassCase {
    num_classes: usize,
    logits: Vec<f32>,
    gold: Vec<u32>,
    metrics: BTreeMap<String, f64>,
    temperature: f64,
}

#[derive(Deserialize)]
struct MultilabelCase {
    num_labels: usize,
    logits: Vec<f32>,
    gold: Vec<bool>,
    metrics: BTreeMap<String, f64>,
}

#[derive(Deserialize)]
struct SpanCase {
    gold: Vec<Vec<String>>,
    predicted: Vec<Vec<String>>,
    precision: f64,
    recall: f64,
    f1: f64,
}

#[derive(Deserialize)]
struct TfidfCase {
    texts: Vec<String>,
    features: Vec<String>,
    rows: Vec<Vec<f64>>,
}

#[derive(Deserialize)]
struct LogisticCase {
    num_columns: usize,
    rows: Vec<Vec<f32>>,
    classes: Vec<u32>,
    labels: Vec<bool>,
    softmax: BTreeMap<String, LinearCase>,
    sigmoid: BTreeMap<String, LinearCase>,
}

#[derive(Deserialize)]
struct LinearCase {
    weights: Vec<f64>,
    intercepts: Vec<f64>,
    probabilities: Vec<f64>,
}

fn goldens() -> Goldens {
    serde_json::from_str(include_str!("goldens.json")).unwrap()
}

#[track_caller]
fn assert_near(name: &str, got: f64, expected: f64, tolerance: f64) {
    assert!((got - expected).abs() <= tolerance, "{name}: got {got}, expected {expected}");
}

fn assert_metrics(predictions: &Predictions, expected: &BTreeMap<String, f64>) {
    let mut got = metrics(predictions);
    // It has a test of its own, by its definition.
    assert!(got.remove("error_auroc").is_some());
    assert_eq!(got.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    expected.iter().for_each(|(name, value)| assert_near(name, got[name], *value, 1e-9));
}

#[test]
fn single_label_metrics_and_temperature() {
    let case = goldens().class;
    let predictions = Predictions::class(case.num_classes, case.logits, case.gold).unwrap();
    assert_metrics(&predictions, &case.metrics);
    assert_near("temperature", fit_temperature(&predictions), case.temperature, 1e-6);
}

#[test]
fn multi_label_metrics() {
    let case = goldens().multilabel;
    let predictions = Predictions::multilabel(case.num_labels, case.logits, case.gold).unwrap();
    assert_metrics(&predictions, &case.metrics);
}

#[test]
fn spans_as_in_seqeval() {
    let case = goldens().spans;
    let (mut hits, mut num_gold, mut num_predicted) = (0.0, 0.0, 0.0);
    for (gold, predicted) in case.gold.iter().zip(&case.predicted) {
        let gold = spans(gold.iter().map(String::as_str));
        let predicted = spans(predicted.iter().map(String::as_str));
        hits += predicted.iter().filter(|span| gold.contains(span)).count() as f64;
        num_gold += gold.len() as f64;
        num_predicted += predicted.len() as f64;
    }
    assert_near("precision", hits / num_predicted, case.precision, 1e-12);
    assert_near("recall", hits / num_gold, case.recall, 1e-12);
    assert_near("f1", 2.0 * hits / (num_gold + num_predicted), case.f1, 1e-12);
}

#[test]
fn tfidf_rows() {
    let case = goldens().tfidf;
    let inputs: Vec<Input> = case.texts.into_iter().map(Input::Text).collect();
    let vectorizer = Vectorizer::fit(&inputs, &VectorizerConfig::default());
    assert_eq!(vectorizer.num_features(), case.features.len());
    let rows = vectorizer.transform(&inputs);
    for (i, expected) in case.rows.iter().enumerate() {
        let got: BTreeMap<usize, f32> = rows.row(i).collect();
        for (column, feature) in case.features.iter().enumerate() {
            assert_eq!(vectorizer.column(feature), Some(column as u32), "{feature}");
            let got = got.get(&column).copied().unwrap_or(0.0);
            assert_near(feature, f64::from(got), expected[column], 1e-6);
        }
    }
}

#[test]
fn logistic_regression() {
    let case = goldens().logistic;
    let mut rows = Rows::new(case.num_columns);
    for row in &case.rows {
        rows.push(row.iter().enumerate().filter(|(_, value)| **value != 0.0).map(|(i, &value)| (i as u32, value)));
    }
    let classes = Targets::Classes { num_classes: 3, gold: case.classes };
    let labels = Targets::Labels { num_labels: 3, gold: case.labels };
    let softmax: fn(&[f64]) -> Vec<f64> = |logits| {
        let sum: f64 = logits.iter().map(|logit| logit.exp()).sum();
        logits.iter().map(|logit| logit.exp() / sum).collect()
    };
    let sigmoid: fn(&[f64]) -> Vec<f64> = |logits| logits.iter().map(|logit| 1.0 / (1.0 + (-logit).exp())).collect();
    for (targets, fits, link) in [(&classes, &case.softmax, softmax), (&labels, &case.sigmoid, sigmoid)] {
        let problem = Problem::new(&rows, targets);
        for (c, expected) in fits {
            let fit = problem.fit(c.parse().unwrap(), None, &SolverConfig { tolerance: 1e-9, max_steps: 1000 });
            assert!(fit.converged);
            assert_fit(&fit.model, &rows, expected, link);
        }
    }
}

fn assert_fit(model: &LinearModel, rows: &Rows, expected: &LinearCase, link: fn(&[f64]) -> Vec<f64>) {
    let near = |name: &str, got: &[f64], expected: &[f64]| {
        assert_eq!(got.len(), expected.len());
        got.iter().zip(expected).for_each(|(got, expected)| assert_near(name, *got, *expected, 1e-4));
    };
    near("weight", model.weights(), &expected.weights);
    near("intercept", model.intercepts(), &expected.intercepts);
    let logits: Vec<f64> = model.logits(rows).iter().map(|&logit| f64::from(logit)).collect();
    near("probability", &logits.chunks(3).flat_map(link).collect::<Vec<_>>(), &expected.probabilities);
}

#[derive(Deserialize)]
struct AgreementGoldens {
    cases: Vec<AgreementCase>,
}

#[derive(Deserialize)]
struct AgreementCase {
    rows: Vec<Vec<Option<u32>>>,
    cohen_of_the_first_two: f64,
    fleiss: f64,
    alpha: f64,
}

/// `scripts/label_goldens.py` makes `agreement_goldens.json` with scikit-learn, statsmodels and krippendorff.
#[test]
fn agreement() {
    let goldens: AgreementGoldens = serde_json::from_str(include_str!("agreement_goldens.json")).unwrap();
    for case in goldens.cases {
        let ratings = Ratings::new(case.rows);
        let first_two = ratings.pair(0, 1);
        for (ratings, measure, expected) in [
            (&first_two, Agreement::CohensKappa, case.cohen_of_the_first_two),
            (&ratings, Agreement::FleissKappa, case.fleiss),
            (&ratings, Agreement::KrippendorffsAlpha, case.alpha),
        ] {
            let got = ratings.agreement(measure, 200, Seed(1)).unwrap();
            assert!((got.mean - expected).abs() < 1e-9, "{measure:?}: {} instead of {expected}", got.mean);
            assert!(got.low < got.mean && got.mean < got.high);
        }
    }
}
