//! The same doubtful labels as cleanlab (`scripts/label_goldens.py` makes `noise_goldens.json`).

#![allow(clippy::unwrap_used)]

use arable_core::{Example, Input, LabelSet, Target};
use arable_corpus::label_noise;
use serde::Deserialize;

#[derive(Deserialize)]
struct Goldens {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    num_classes: usize,
    probabilities: Vec<f64>,
    given: Vec<usize>,
    issues: Vec<usize>,
    joint: Vec<f64>,
}

#[test]
fn doubtful_labels_are_those_of_cleanlab() {
    let goldens: Goldens = serde_json::from_str(include_str!("noise_goldens.json")).unwrap();
    for Case { num_classes, probabilities, given, issues, joint } in goldens.cases {
        let example = |(idx, class): (usize, &usize)| Example {
            id: format!("{idx:04}"),
            group: None,
            input: Input::Text(format!("text {idx}")),
            target: Target::Class(class.to_string()),
        };
        let examples: Vec<Example> = given.iter().enumerate().map(example).collect();
        let labels = LabelSet::of(&examples);
        assert_eq!(labels.len(), num_classes);
        let noise = label_noise(&examples, &labels, &probabilities);
        let mut found: Vec<usize> = noise.suspects.iter().map(|suspect| suspect.id.parse().unwrap()).collect();
        found.sort_unstable();
        assert_eq!(found, issues, "{num_classes} classes");
        // cleanlab rounds counts to whole examples before it divides.
        for (got, expected) in noise.joint.iter().zip(&joint) {
            assert!((got - expected).abs() < 1.0 / given.len() as f64, "{got} and {expected}");
        }
    }
}
