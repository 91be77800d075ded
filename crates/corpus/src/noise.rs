//! Wrong labels: examples whose label does not fit what a model says that never saw it.

use std::collections::BTreeMap;

use arable_core::{Example, LabelSet, Target};
use serde::{Deserialize, Serialize};

/// An example whose label is doubtful.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Suspect {
    /// The example.
    pub id: String,
    /// Its label.
    pub given: String,
    /// The label that is more likely.
    pub suggested: String,
    /// Why it is doubtful.
    pub reason: Doubt,
    /// What a person is to read.
    pub text: String,
}

/// Why a label is doubtful.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Doubt {
    /// Another example has the same text and another label.
    Conflict {
        /// An example with the suggested label.
        other: String,
    },
    /// The label is unlikely by out-of-fold predictions, in a pair of labels that are mixed up as often as this.
    Unlikely {
        /// Probability of the given label.
        p_given: f64,
        /// Probability of the suggested label.
        p_suggested: f64,
        /// Estimated share of the examples with the given label whose right label is the suggested one.
        mixed_up: f64,
    },
}

impl std::fmt::Display for Doubt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Conflict { other } => write!(f, "the same text has the suggested label in {other}"),
            Self::Unlikely { p_given, p_suggested, mixed_up } => write!(
                f,
                "probability {p_given:.2} against {p_suggested:.2}; about {:.1} % of this label are wrong this way",
                100.0 * mixed_up
            ),
        }
    }
}

/// What was found about the labels of a set of examples.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelNoise {
    /// Estimated share of all examples that have label `row` and should have label `column`: `k x k`, sums to 1.
    pub joint: Vec<f64>,
    /// The share of examples whose label is the likeliest one. Where it is low, the model is too weak for the estimate, and
    /// hard examples are taken for wrong labels.
    pub accuracy: f64,
    /// Doubtful examples, the most doubtful first.
    pub suspects: Vec<Suspect>,
}

impl LabelNoise {
    /// The estimated share of wrong labels.
    pub fn rate(&self) -> f64 {
        let k = self.joint.len().isqrt();
        (0..k * k).filter(|at| at / k != at % k).map(|at| self.joint[at]).sum()
    }
}

/// Finds doubtful labels. `probabilities` are `examples x labels`, each row by a model that was not trained on its
/// example nor on any with the same text.
///
/// Confident learning, pruning by noise rate (Northcutt, Jiang, Chuang, "Confident learning: estimating uncertainty in
/// dataset labels", 2021), ranked by the margin between the given label and the most likely other one. Examples with
/// equal texts and different labels come first: one of them is wrong for sure.
///
/// # Panics
/// When there is not one probability for each example and label, or an example has no label of the set.
pub fn label_noise(examples: &[Example], labels: &LabelSet, probabilities: &[f64]) -> LabelNoise {
    let k = labels.len();
    assert_eq!(probabilities.len(), examples.len() * k, "a probability for each example and label");
    // By id, so that the order in which examples come decides neither ties nor roundings.
    let mut order: Vec<usize> = (0..examples.len()).collect();
    order.sort_by_key(|&idx| &examples[idx].id);
    let probabilities: &[f64] =
        &order.iter().flat_map(|&idx| &probabilities[idx * k..][..k]).copied().collect::<Vec<f64>>();
    let examples: Vec<&Example> = order.iter().map(|&idx| &examples[idx]).collect();
    let given: Vec<usize> = examples.iter().map(|example| class_of(example, labels)).collect();
    let counts = expected_counts(k, probabilities, &given);
    let mut suspects: Vec<(f64, Suspect)> = Vec::new();
    for (idx, suggested) in conflicts(&examples, &given) {
        // Below every margin: a contradiction in the data itself.
        suspects.push((-2.0, suspect(&examples, labels, (idx, given[idx]), suggested)));
    }
    let conflicting: Vec<String> = suspects.iter().map(|(_, suspect)| suspect.id.clone()).collect();
    for idx in unlikely(k, probabilities, &given, &counts) {
        let row = &probabilities[idx * k..][..k];
        let (from, to) = (given[idx], likeliest_other(row, given[idx]));
        let num_given: f64 = counts[from * k..][..k].iter().sum();
        let mixed_up = counts[from * k + to] / num_given;
        let reason = Doubt::Unlikely { p_given: row[from], p_suggested: row[to], mixed_up };
        if !conflicting.contains(&examples[idx].id) {
            suspects.push((row[from] - row[to], suspect(&examples, labels, (idx, from), (to, reason))));
        }
    }
    suspects.sort_by(|a, b| a.0.total_cmp(&b.0).then_with(|| a.1.id.cmp(&b.1.id)));
    let rows = probabilities.chunks_exact(k).zip(&given);
    let num_likeliest = rows.filter(|(row, given)| row[likeliest_other(row, **given)] <= row[**given]).count();
    let accuracy = num_likeliest as f64 / examples.len().max(1) as f64;
    let joint = counts.iter().map(|count| count / examples.len().max(1) as f64).collect();
    LabelNoise { joint, accuracy, suspects: suspects.into_iter().map(|(_, suspect)| suspect).collect() }
}

fn class_of(example: &Example, labels: &LabelSet) -> usize {
    match &example.target {
        Target::Class(label) => labels.index(label).expect("an example has a label of the set"),
        _ => panic!("an example has one label"),
    }
}

fn suspect(examples: &[&Example], labels: &LabelSet, (idx, given): (usize, usize), to: (usize, Doubt)) -> Suspect {
    let name = |class: usize| labels.names()[class].clone();
    let (suggested, reason) = to;
    let Example { id, input, .. } = examples[idx];
    Suspect { id: id.clone(), given: name(given), suggested: name(suggested), reason, text: input.text() }
}

/// Examples whose text occurs elsewhere with another label that is more frequent there, or as frequent.
fn conflicts(examples: &[&Example], given: &[usize]) -> Vec<(usize, (usize, Doubt))> {
    let mut by_text: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (idx, example) in examples.iter().enumerate() {
        by_text.entry(example.input.text()).or_default().push(idx);
    }
    let mut found = Vec::new();
    for alike in by_text.values().filter(|alike| alike.len() > 1) {
        let count = |class: usize| alike.iter().filter(|&&idx| given[idx] == class).count();
        for &idx in alike {
            let others = alike.iter().copied().filter(|&other| given[other] != given[idx]);
            // Of equally frequent labels that of the example whose id comes first.
            let best = others.min_by_key(|&other| (usize::MAX - count(given[other]), other));
            if let Some(other) = best.filter(|&other| count(given[other]) >= count(given[idx])) {
                found.push((idx, (given[other], Doubt::Conflict { other: examples[other].id.clone() })));
            }
        }
    }
    found
}

/// How many examples with label `row` should have label `column`: the confident joint, its rows scaled to the number of
/// examples with each label.
fn expected_counts(k: usize, probabilities: &[f64], given: &[usize]) -> Vec<f64> {
    let mut num_given = vec![0.0; k];
    let mut thresholds = vec![0.0; k];
    for (row, &class) in probabilities.chunks_exact(k).zip(given) {
        num_given[class] += 1.0;
        thresholds[class] += row[class];
    }
    thresholds.iter_mut().zip(&num_given).for_each(|(sum, count)| *sum /= f64::max(*count, 1.0));
    let mut counts = vec![0.0; k * k];
    for (row, &class) in probabilities.chunks_exact(k).zip(given) {
        let confident = (0..k).filter(|&other| num_given[other] > 0.0 && row[other] >= thresholds[other] - 1e-6);
        if let Some(other) = confident.reduce(|best, other| if row[other] > row[best] { other } else { best }) {
            counts[class * k + other] += 1.0;
        }
    }
    for class in 0..k {
        let row = &mut counts[class * k..][..k];
        // A label that nobody is sure of still has an example.
        row[class] = f64::max(row[class], 1.0);
        let scale = num_given[class] / row.iter().sum::<f64>();
        row.iter_mut().for_each(|count| *count *= scale);
    }
    counts
}

/// The examples with the largest margins for each pair of labels, as many as the pair is expected to be mixed up, less
/// those whose label is the likeliest all the same.
fn unlikely(k: usize, probabilities: &[f64], given: &[usize], counts: &[f64]) -> Vec<usize> {
    let mut is_found = vec![false; given.len()];
    for (from, counts) in counts.chunks_exact(k).enumerate() {
        let counts = rounded(counts);
        let of_label: Vec<usize> = (0..given.len()).filter(|&idx| given[idx] == from).collect();
        for to in (0..k).filter(|&to| to != from && counts[to] > 0) {
            let margin = |idx: usize| probabilities[idx * k + to] - probabilities[idx * k + from];
            let mut ranked = of_label.clone();
            ranked.sort_by(|&a, &b| margin(b).total_cmp(&margin(a)).then(a.cmp(&b)));
            ranked.iter().take(counts[to]).for_each(|&idx| is_found[idx] = true);
        }
    }
    let doubted = |idx: &usize| {
        let row = &probabilities[idx * k..][..k];
        row[likeliest_other(row, given[*idx])] > row[given[*idx]]
    };
    (0..given.len()).filter(|&idx| is_found[idx]).filter(doubted).collect()
}

/// Whole numbers with the same sum, the largest remainders rounded up.
fn rounded(counts: &[f64]) -> Vec<usize> {
    let mut whole: Vec<usize> = counts.iter().map(|count| count.floor() as usize).collect();
    let missing = (counts.iter().sum::<f64>().round() as usize).saturating_sub(whole.iter().sum());
    let mut order: Vec<usize> = (0..counts.len()).collect();
    order.sort_by(|&a, &b| counts[b].fract().total_cmp(&counts[a].fract()).then(a.cmp(&b)));
    order.iter().take(missing).for_each(|&at| whole[at] += 1);
    whole
}

fn likeliest_other(row: &[f64], given: usize) -> usize {
    let others = (0..row.len()).filter(|&class| class != given);
    others.reduce(|best, class| if row[class] > row[best] { class } else { best }).unwrap_or(given)
}

#[cfg(test)]
mod tests {
    use arable_core::{Input, Seed};

    use super::*;

    fn example(id: usize, text: &str, label: &str) -> Example {
        Example {
            id: format!("e{id:04}"),
            group: None,
            input: Input::Text(text.to_owned()),
            target: Target::Class(label.to_owned()),
        }
    }

    const NAMES: [&str; 3] = ["leak", "noise", "wear"];

    /// Examples of three classes of which `rate` of the first have the label of the second, with the probabilities of
    /// a model that is right about most.
    fn planted(n: usize, rate: f64) -> (Vec<Example>, Vec<f64>, Vec<bool>) {
        let mut draws = Seed(4).stream("planted").at(0, 0);
        let (mut examples, mut probabilities, mut wrong) = (Vec::new(), Vec::new(), Vec::new());
        for id in 0..n {
            let right = id % 3;
            let is_wrong = right == 0 && draws.uniform() < rate;
            examples.push(example(id, &format!("text {id}"), NAMES[if is_wrong { 1 } else { right }]));
            wrong.push(is_wrong);
            let sure = 0.4 + 0.55 * draws.uniform();
            let rest = (1.0 - sure) * draws.uniform();
            let mut row = [rest, rest, rest];
            row[right] = sure;
            row[(right + 1) % 3] = 1.0 - sure - rest;
            probabilities.extend(row);
        }
        (examples, probabilities, wrong)
    }

    #[test]
    fn planted_noise_is_found_and_its_rate_estimated() {
        let (examples, probabilities, wrong) = planted(3000, 0.2);
        let labels = LabelSet::of(&examples);
        let noise = label_noise(&examples, &labels, &probabilities);
        let planted: Vec<&str> =
            examples.iter().zip(&wrong).filter(|(_, wrong)| **wrong).map(|(example, _)| example.id.as_str()).collect();
        let found = noise.suspects.iter().filter(|suspect| planted.contains(&suspect.id.as_str())).count();
        let (precision, recall) = (found as f64 / noise.suspects.len() as f64, found as f64 / planted.len() as f64);
        assert!(precision > 0.9 && recall > 0.75, "precision {precision}, recall {recall}");
        assert!((noise.rate() - planted.len() as f64 / 3000.0).abs() < 0.02, "{}", noise.rate());
        assert!((noise.joint.iter().sum::<f64>() - 1.0).abs() < 1e-9);
        // "noise" was given for "leak": row 1, column 0.
        let largest = (0..9).filter(|at| at / 3 != at % 3).max_by(|&a, &b| noise.joint[a].total_cmp(&noise.joint[b]));
        assert_eq!(largest, Some(3));
    }

    #[test]
    fn the_order_of_examples_does_not_matter() {
        let (mut examples, mut probabilities, _) = planted(300, 0.2);
        let labels = LabelSet::of(&examples);
        let before = label_noise(&examples, &labels, &probabilities);
        examples.reverse();
        probabilities = probabilities.chunks_exact(3).rev().flatten().copied().collect();
        assert_eq!(label_noise(&examples, &labels, &probabilities).suspects, before.suspects);
    }

    #[test]
    fn equal_texts_with_different_labels_are_doubtful_whatever_the_model_says() {
        let examples =
            [example(1, "oil", "leak"), example(2, "oil", "leak"), example(3, "oil", "wear"), example(4, "x", "wear")];
        let labels = LabelSet::of(&examples);
        let sure = [0.9, 0.1, 0.9, 0.1, 0.1, 0.9, 0.1, 0.9];
        let noise = label_noise(&examples, &labels, &sure);
        assert_eq!(noise.suspects.len(), 1);
        let Suspect { id, given, suggested, reason, .. } = &noise.suspects[0];
        assert_eq!((id.as_str(), given.as_str(), suggested.as_str()), ("e0003", "wear", "leak"));
        assert_eq!(*reason, Doubt::Conflict { other: "e0001".to_owned() });
    }

    #[test]
    fn a_model_that_agrees_doubts_nothing() {
        let (examples, probabilities, _) = planted(300, 0.0);
        assert!(label_noise(&examples, &LabelSet::of(&examples), &probabilities).suspects.is_empty());
        let nothing = label_noise(&[], &LabelSet::of(&examples), &[]);
        assert!(nothing.suspects.is_empty() && nothing.rate().is_finite());
    }

    #[test]
    fn rounding_keeps_the_sum() {
        assert_eq!(rounded(&[1.5, 0.7, 0.8]), [1, 1, 1]);
        assert_eq!(rounded(&[2.0, 0.0]), [2, 0]);
    }
}
