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
        let mut groups = vec![Sums::default(); self.num_fixed_groups as usize];
        for (i, counts) in self.examples.iter().enumerate() {
            let weight = weight(i);
            if weight > 0.0 {
                counts.iter().for_each(|&count| add_to(&mut groups, count, weight));
            }
        }
        let counts =
            |(i, sums): &(usize, &Sums)| *i < self.num_fixed_groups as usize || sums.predicted + sums.gold > 0.0;
        let scores: Vec<f64> = groups.iter().enumerate().filter(counts).map(|(_, sums)| sums.f1()).collect();
        ratio(scores.iter().sum(), scores.len() as f64)
    }

    /// All counts summed up, whatever their group.
    pub(crate) fn total(&self) -> Sums {
        let mut total = Sums::default();
        self.examples.iter().flatten().for_each(|&count| total.add(count, 1.0));
        total
    }
}

fn add_to(groups: &mut Vec<Sums>, count: Count, weight: f64) {
    let group = count.group as usize;
    if group >= groups.len() {
        groups.resize(group + 1, Sums::default());
    }
    groups[group].add(count, weight);
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
    match metric {
        HeadlineMetric::Accuracy => {
            Ok(labels.rows().map(|mut row| vec![choice(row.all(|(predicted, gold)| predicted == gold))]).collect())
        }
        HeadlineMetric::MicroF1 => {
            Ok(labels.rows().map(|row| vec![label_counts(row).fold(Count::default(), sum)]).collect())
        }
        HeadlineMetric::MacroF1 => Ok(labels.rows().map(|row| label_counts(row).collect()).collect()),
        HeadlineMetric::EntityF1 => Err(MetricError { metric, task: "multi-label" }),
    }
}

/// The labels of one example that are predicted or gold.
fn label_counts(row: impl Iterator<Item = (bool, bool)>) -> impl Iterator<Item = Count> {
    row.enumerate().filter(|(_, (predicted, gold))| *predicted || *gold).map(|(label, (predicted, gold))| Count {
        group: label as u32,
        hits: (predicted && gold).into(),
        predicted: predicted.into(),
        gold: gold.into(),
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    /// One-hot logits for `predicted`.
    fn one_hot(num_classes: usize, predicted: &[usize]) -> Vec<f32> {
        predicted.iter().flat_map(|&p| (0..num_classes).map(move |class| f32::from(u8::from(class == p)))).collect()
    }

    #[test]
    fn values_by_hand() {
        let class = Predictions::class(4, one_hot(4, &[0, 0, 1, 2]), vec![0, 1, 1, 1]).unwrap();
        let value = |metric| Scored::new(&class, metric).unwrap().value();
        assert_eq!(value(HeadlineMetric::Accuracy), 0.5);
        assert_eq!(value(HeadlineMetric::MicroF1), 0.5);
        // Class 3 is absent and does not count; class 2 is predicted only and counts as 0.
        assert_eq!(value(HeadlineMetric::MacroF1), (2.0 / 3.0 + 0.5 + 0.0) / 3.0);
    }

    #[test]
    fn entities_need_exact_spans_and_kinds() {
        let tags: Vec<String> = ["B-A", "B-B", "I-A", "I-B", "O"].map(String::from).to_vec();
        let sentence = TagSentence { logits: one_hot(5, &[0, 2, 4, 1, 0]), gold: vec![0, 2, 4, 0, 0] };
        let tagging = Predictions::tagging(tags, vec![sentence]).unwrap();
        let entities = Scored::new(&tagging, HeadlineMetric::EntityF1).unwrap();
        assert_eq!(entities.value(), 2.0 * 2.0 / 6.0);
        assert_eq!(Scored::new(&tagging, HeadlineMetric::Accuracy).unwrap().value(), 0.8);
        assert!(Scored::new(&tagging, HeadlineMetric::MacroF1).is_err());
    }

    #[test]
    fn stored_scores_keep_their_value() {
        let labels = Predictions::multilabel(2, vec![1.0, -1.0, -1.0, -1.0], vec![true, false, false, true]).unwrap();
        for metric in [HeadlineMetric::Accuracy, HeadlineMetric::MicroF1, HeadlineMetric::MacroF1] {
            let scored = Scored::new(&labels, metric).unwrap();
            let text = serde_json::to_string(&scored).unwrap();
            assert_eq!(serde_json::from_str::<Scored>(&text).unwrap(), scored);
        }
        assert_eq!(Scored::new(&labels, HeadlineMetric::MacroF1).unwrap().value(), 0.5);
    }
}
