//! Scores as sums over examples, so that a resampled score is a weighted sum and needs no second evaluation.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::iob::{decode_tags, spans};
use crate::predictions::{ClassPredictions, MultilabelPredictions, Predictions, TagSentence, TaggingPredictions};

/// The metric by which a task is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HeadlineMetric {
    /// The share of examples (words for tagging) that are right; for multi-label tasks, right in every label.
    Accuracy,
    /// F1 of all labels taken together; equal to accuracy where labels exclude each other.
    MicroF1,
    /// The mean of each label's F1.
    MacroF1,
    /// F1 of entities whose span and kind are exactly right.
    EntityF1,
}

impl HeadlineMetric {
    /// All metrics.
    pub const ALL: [Self; 4] = [Self::Accuracy, Self::MicroF1, Self::MacroF1, Self::EntityF1];

    /// The metric's key in [`crate::metrics`].
    pub fn key(self) -> &'static str {
        match self {
            Self::Accuracy => "accuracy",
            Self::MicroF1 => "micro_f1",
            Self::MacroF1 => "macro_f1",
            Self::EntityF1 => "entity_f1",
        }
    }
}

/// A metric that a kind of task does not have.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("compute {} of a {task} task", .metric.key())]
pub struct MetricError {
    /// The metric.
    pub metric: HeadlineMetric,
    /// The kind of task.
    pub task: &'static str,
}

impl arable_core::Hint for MetricError {
    fn hint(&self) -> Option<String> {
        Some(match self.metric {
            HeadlineMetric::EntityF1 => "Use `accuracy`, `micro_f1` or `macro_f1`".to_owned(),
            _ => "Use `entity_f1` or `accuracy`".to_owned(),
        })
    }
}

/// What one example adds to one group's counts. F1 is `2 * hits / (predicted + gold)`; accuracy is the case in which
/// every choice is both predicted and gold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "[u32; 4]", into = "[u32; 4]")]
pub(crate) struct Count {
    /// The class for macro-F1, else 0.
    pub(crate) group: u32,
    pub(crate) hits: u32,
    pub(crate) predicted: u32,
    pub(crate) gold: u32,
}

impl From<[u32; 4]> for Count {
    fn from([group, hits, predicted, gold]: [u32; 4]) -> Self {
        Self { group, hits, predicted, gold }
    }
}

impl From<Count> for [u32; 4] {
    fn from(count: Count) -> Self {
        [count.group, count.hits, count.predicted, count.gold]
    }
}

/// A metric of one set of predictions, kept example by example: small enough to store, enough to resample.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scored {
    /// The metric.
    metric: HeadlineMetric,
    /// Groups that count even when they are empty. As in scikit-learn, macro-F1 of a multi-label task averages over
    /// all labels, that of a single-label task over those that occur in gold or predictions.
    num_fixed_groups: u32,
    /// What each example adds.
    examples: Vec<Vec<Count>>,
}

/// Sums of one group's counts.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Sums {
    pub(crate) hits: f64,
    pub(crate) predicted: f64,
    pub(crate) gold: f64,
}

impl Sums {
    pub(crate) fn add(&mut self, count: Count, weight: f64) {
        self.hits += weight * f64::from(count.hits);
        self.predicted += weight * f64::from(count.predicted);
        self.gold += weight * f64::from(count.gold);
    }

    pub(crate) fn f1(&self) -> f64 {
        ratio(2.0 * self.hits, self.predicted + self.gold)
    }

    pub(crate) fn precision(&self) -> f64 {
        ratio(self.hits, self.predicted)
    }

    pub(crate) fn recall(&self) -> f64 {
        ratio(self.hits, self.gold)
    }
}

/// `0 / 0` is 0, as scikit-learn's `zero_division=0`.
fn ratio(numerator: f64, denominator: f64) -> f64 {
    if denominator > 0.0 { numerator / denominator } else { 0.0 }
}

impl Scored {
    /// Counts `metric` on every example. Tags are decoded by [`decode_tags`].
    ///
    /// # Errors
    /// When the kind of task does not have the metric.
    pub fn new(predictions: &Predictions, metric: HeadlineMetric) -> Result<Self, MetricError> {
        let (num_fixed_groups, examples) = match predictions {
            Predictions::Class(class) => (0, class_counts(class, metric)?),
            Predictions::Multilabel(labels) => {
                let macro_labels = if metric == HeadlineMetric::MacroF1 { labels.num_labels() } else { 0 };
                (macro_labels as u32, multilabel_counts(labels, metric)?)
            }
            Predictions::Tagging(tagging) => (0, tagging_counts(tagging, metric)?),
        };
        Ok(Self { metric, num_fixed_groups, examples })
    }

    /// The metric.
    pub fn metric(&self) -> HeadlineMetric {
        self.metric
    }

    /// Examples; for tagging, sentences.
    pub fn num_examples(&self) -> usize {
        self.examples.len()
    }

    /// The metric's value, in `[0, 1]`; 0 where nothing is gold or predicted.
    pub fn value(&self) -> f64 {
        self.weighted(|_| 1.0)
    }

    /// The value with every example counted `weight(index)` times.
    pub(crate) fn weighted(&self, weight: impl Fn(usize) -> f64) -> f64 {
        let mut groups = vec![Sums::default(); self.num_groups()];
        for (i, counts) in self.examples.iter().enumerate() {
            let weight = weight(i);
            if weight > 0.0 {
                counts.iter().for_each(|&count| groups[count.group as usize].add(count, weight));
            }
        }
        let counts = |(i, sums): &(usize, &Sums)| {
            *i < self.num_fixed_groups as usize || sums.predicted + sums.gold > 0.0
        };
        let scores: Vec<f64> = groups.iter().enumerate().filter(counts).map(|(_, sums)| sums.f1()).collect();
        ratio(scores.iter().sum(), scores.len() as f64)
    }

    /// All counts summed up, whatever their group.
    pub(crate) fn total(&self) -> Sums {
        let mut total = Sums::default();
        self.examples.iter().flatten().for_each(|&count| total.add(count, 1.0));
        total
    }

    fn num_groups(&self) -> usize {
        let last = self.examples.iter().flatten().map(|count| count.group as usize + 1).max();
        last.unwrap_or(0).max(self.num_fixed_groups as usize)
    }
}

fn class_counts(class: &ClassPredictions, metric: HeadlineMetric) -> Result<Vec<Vec<Count>>, MetricError> {
    match metric {
        HeadlineMetric::Accuracy | HeadlineMetric::MicroF1 => {
            Ok(class.pairs().map(|(predicted, gold)| vec![choice(predicted == gold)]).collect())
        }
        HeadlineMetric::MacroF1 => Ok(class.pairs().map(|(predicted, gold)| class_pair(predicted, gold)).collect()),
        HeadlineMetric::EntityF1 => Err(MetricError { metric, task: "single-label" }),
    }
}

fn choice(right: bool) -> Count {
    Count { group: 0, hits: right.into(), predicted: 1, gold: 1 }
}

fn class_pair(predicted: usize, gold: usize) -> Vec<Count> {
    let (predicted, gold) = (predicted as u32, gold as u32);
    if predicted == gold {
        return vec![Count { group: gold, hits: 1, predicted: 1, gold: 1 }];
    }
    vec![
        Count { group: predicted, hits: 0, predicted: 1, gold: 0 },
        Count { group: gold, hits: 0, predicted: 0, gold: 1 },
    ]
}

fn multilabel_counts(labels: &MultilabelPredictions, metric: HeadlineMetric) -> Result<Vec<Vec<Count>>, MetricError> {
    let row = |row: &mut dyn Iterator<Item = (bool, bool)>| match metric {
        HeadlineMetric::Accuracy => vec![choice(row.all(|(predicted, gold)| predicted == gold))],
        _ => label_counts(row, metric == HeadlineMetric::MacroF1),
    };
    match metric {
        HeadlineMetric::EntityF1 => Err(MetricError { metric, task: "multi-label" }),
        _ => Ok(labels.rows().map(|mut pairs| row(&mut pairs)).collect()),
    }
}

fn label_counts(row: &mut dyn Iterator<Item = (bool, bool)>, by_label: bool) -> Vec<Count> {
    let of_label = |(label, (predicted, gold)): (usize, (bool, bool))| Count {
        group: label as u32,
        hits: (predicted && gold).into(),
        predicted: predicted.into(),
        gold: gold.into(),
    };
    let present = row.enumerate().filter(|(_, (predicted, gold))| *predicted || *gold).map(of_label);
    if by_label { present.collect() } else { vec![present.fold(Count::default(), sum)] }
}

fn sum(a: Count, b: Count) -> Count {
    Count { group: 0, hits: a.hits + b.hits, predicted: a.predicted + b.predicted, gold: a.gold + b.gold }
}

fn tagging_counts(tagging: &TaggingPredictions, metric: HeadlineMetric) -> Result<Vec<Vec<Count>>, MetricError> {
    let count: fn(&[String], &TagSentence) -> Count = match metric {
        HeadlineMetric::Accuracy => word_count,
        HeadlineMetric::EntityF1 => entity_count,
        _ => return Err(MetricError { metric, task: "tagging" }),
    };
    Ok(tagging.sentences().iter().map(|sentence| vec![count(tagging.tags(), sentence)]).collect())
}

fn word_count(tags: &[String], sentence: &TagSentence) -> Count {
    let decoded = decode_tags(tags, &sentence.logits);
    let right = decoded.iter().zip(&sentence.gold).filter(|(tag, gold)| **tag == **gold as usize).count();
    let words = sentence.gold.len() as u32;
    Count { group: 0, hits: right as u32, predicted: words, gold: words }
}

fn entity_count(tags: &[String], sentence: &TagSentence) -> Count {
    let decoded = decode_tags(tags, &sentence.logits);
    let predicted = spans(decoded.iter().map(|&tag| tags[tag].as_str()));
    let gold = spans(sentence.gold.iter().map(|&tag| tags[tag as usize].as_str()));
    // Both lists are in order of their starts, which differ, so a search finds equals.
    let hits = predicted.iter().filter(|span| gold.binary_search(span).is_ok()).count();
    Count { group: 0, hits: hits as u32, predicted: predicted.len() as u32, gold: gold.len() as u32 }
}
