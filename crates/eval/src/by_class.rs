//! Which classes go wrong.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::iob::{decode_tags, spans};
use crate::predictions::Predictions;
use crate::scored::{Count, Sums};

/// How well one class (label, kind of entity) is found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ClassScore {
    /// The share of what is called so that is so.
    pub precision: f64,
    /// The share of what is so that is called so.
    pub recall: f64,
    /// Their harmonic mean.
    pub f1: f64,
    /// How often the class is right.
    pub support: usize,
}

/// Scores of each class that occurs in gold or predictions, by its name in `names`; of each kind of entity for tagging (exact spans, tags
/// decoded as for the entity F1).
pub fn by_class(predictions: &Predictions, names: &[String]) -> BTreeMap<String, ClassScore> {
    let mut sums: BTreeMap<String, Sums> = BTreeMap::new();
    let mut add = |name: &str, hit: bool, predicted: bool, gold: bool| {
        let count = Count { group: 0, hits: hit.into(), predicted: predicted.into(), gold: gold.into() };
        sums.entry(name.to_owned()).or_default().add(count, 1.0);
    };
    let name = |idx: usize| names[idx].as_str();
    match predictions {
        Predictions::Class(class) => {
            for (predicted, gold) in class.pairs() {
                add(name(gold), predicted == gold, false, true);
                add(name(predicted), false, true, false);
            }
        }
        Predictions::Multilabel(multilabel) => {
            for (idx, (predicted, gold)) in multilabel.rows().flat_map(Iterator::enumerate) {
                if predicted || gold {
                    add(name(idx), predicted && gold, predicted, gold);
                }
            }
        }
        Predictions::Tagging(tagging) => {
            let tags = tagging.tags();
            for sentence in tagging.sentences() {
                let decoded = decode_tags(tags, &sentence.logits);
                let predicted = spans(decoded.iter().map(|&tag| tags[tag].as_str()));
                let gold = spans(sentence.gold.iter().map(|&tag| tags[tag as usize].as_str()));
                predicted.iter().for_each(|span| add(span.kind, false, true, false));
                gold.iter().for_each(|span| add(span.kind, predicted.contains(span), false, true));
            }
        }
    }
    let score = |sums: Sums| ClassScore {
        precision: sums.precision(),
        recall: sums.recall(),
        f1: sums.f1(),
        support: sums.gold as usize,
    };
    sums.into_iter().map(|(name, sums)| (name, score(sums))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::predictions::TagSentence;

    fn one_hot(num_classes: usize, predicted: &[usize]) -> Vec<f32> {
        predicted.iter().flat_map(|&p| (0..num_classes).map(move |class| f32::from(u8::from(class == p)))).collect()
    }

    fn labels(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn classes_by_hand() {
        let class = Predictions::class(3, one_hot(3, &[0, 0, 1, 2]), vec![0, 1, 1, 1]).unwrap();
        let found = by_class(&class, &labels(&["a", "b", "c"]));
        assert_eq!(found["a"], ClassScore { precision: 0.5, recall: 1.0, f1: 2.0 / 3.0, support: 1 });
        assert_eq!(found["b"], ClassScore { precision: 1.0, recall: 1.0 / 3.0, f1: 0.5, support: 3 });
        assert_eq!(found["c"], ClassScore::default());
        let switches = Predictions::multilabel(2, vec![1.0, -1.0, 1.0, -1.0], vec![true, false, false, false]).unwrap();
        let found = by_class(&switches, &labels(&["a", "b"]));
        assert_eq!((found["a"].precision, found.contains_key("b")), (0.5, false));
    }

    #[test]
    fn entities_are_counted_by_kind() {
        let names = ["B-A", "B-B", "I-A", "I-B", "O"];
        let sentence = TagSentence { logits: one_hot(5, &[0, 2, 4, 1, 0]), gold: vec![0, 2, 4, 0, 0] };
        let tagging = Predictions::tagging(names.map(String::from).to_vec(), vec![sentence]).unwrap();
        let found = by_class(&tagging, &labels(&names));
        assert_eq!((found["A"].precision, found["A"].support), (1.0, 3));
        assert!((found["A"].recall - 2.0 / 3.0).abs() < 1e-12);
        assert_eq!(found["B"], ClassScore::default());
    }
}
