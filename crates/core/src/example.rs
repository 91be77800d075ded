//! An input with its label.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// What a task shows the model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Input {
    /// One text.
    Text(String),
    /// Two texts, such as a question and a passage.
    Pair(String, String),
    /// A sentence cut into words, for tagging.
    Words(Vec<String>),
}

/// What a task asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// One class out of several.
    Class(String),
    /// Any number of classes.
    Classes(Vec<String>),
    /// One IOB2 tag for each word (`O`, `B-Disease`, `I-Disease`).
    Tags(Vec<String>),
}

/// A labelled input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Example {
    /// Unique in its task.
    pub id: String,
    /// What must stay on one side of a split.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// What the model sees.
    pub input: Input,
    /// What it is to answer.
    pub target: Target,
}

impl Input {
    /// The whole input as one text, words joined by single spaces.
    pub fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Pair(first, second) => format!("{first} {second}"),
            Self::Words(words) => words.join(" "),
        }
    }
}

impl Target {
    /// Every label that occurs in the target.
    pub fn labels(&self) -> &[String] {
        match self {
            Self::Class(label) => std::slice::from_ref(label),
            Self::Classes(labels) | Self::Tags(labels) => labels,
        }
    }
}

/// The labels of a task in sorted order; a label's index is its class index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabelSet(Vec<String>);

impl LabelSet {
    /// The labels that occur in `examples`.
    pub fn of<'a>(examples: impl IntoIterator<Item = &'a Example>) -> Self {
        let labels: BTreeSet<&String> = examples.into_iter().flat_map(|example| example.target.labels()).collect();
        Self(labels.into_iter().cloned().collect())
    }

    /// The labels by class index.
    pub fn names(&self) -> &[String] {
        &self.0
    }

    /// How many labels there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The class index of `label`, or `None` when the set does not have it.
    pub fn index(&self, label: &str) -> Option<usize> {
        self.0.binary_search_by(|known| known.as_str().cmp(label)).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_sets_are_sorted_and_unique() {
        let example = |label: &str| Example {
            id: label.into(),
            group: None,
            input: Input::Text("x".into()),
            target: Target::Class(label.into()),
        };
        let labels = LabelSet::of(&[example("b"), example("a"), example("b")]);
        assert_eq!(labels.names(), ["a", "b"]);
        assert_eq!(labels.index("b"), Some(1));
        assert_eq!(labels.index("c"), None);
    }
}
