//! What a model's states are used for.

use arable_tensor::{Activation, Format, Norm, Tape, Var};
use serde::{Deserialize, Serialize};

use crate::batch::Batch;
use crate::build::Dense;
use crate::config::{Architecture, Pooling};
use crate::families::HeadStyle;
use crate::reading::Reading;

/// What the states of the last layer are used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Head {
    /// Predict masked tokens.
    MaskedLm,
    /// Predict the next token.
    CausalLm,
    /// One vector of logits for each sequence.
    Sequence {
        /// Classes.
        num_labels: usize,
        /// How the sequence becomes one vector.
        pooling: Pooling,
    },
    /// One vector of logits for each chosen token.
    Token {
        /// Classes.
        num_labels: usize,
    },
    /// One vector of logits for each sequence, from the tokens at its markers side by side (Baldini Soares et al.
    /// 2019, "entity start").
    Marked {
        /// Classes.
        num_labels: usize,
        /// Markers in each sequence.
        num_markers: usize,
    },
}

impl Head {
    /// The head over tokens of the vocabulary that a model has.
    pub fn lm(architecture: &Architecture) -> Self {
        if architecture.style().is_causal { Self::CausalLm } else { Self::MaskedLm }
    }

    /// Its classes; `None` are the tokens of the vocabulary.
    pub fn num_labels(self) -> Option<usize> {
        match self {
            Self::MaskedLm | Self::CausalLm => None,
            Self::Sequence { num_labels, .. } | Self::Token { num_labels } | Self::Marked { num_labels, .. } => {
                Some(num_labels)
            }
        }
    }

    /// What it classifies from in `batch`. `positions` are rows of it: chosen tokens, markers in the order of the sequences; unused
    /// by a sequence head.
    pub fn reading(self, batch: &Batch, positions: &[usize]) -> Reading {
        match self {
            Self::Sequence { pooling, .. } => Reading::pooled(pooling, batch),
            _ => Reading::rows(positions.to_vec(), self.num_inputs(), batch),
        }
    }

    pub(crate) fn num_inputs(self) -> usize {
        if let Self::Marked { num_markers, .. } = self { num_markers } else { 1 }
    }

    pub(crate) fn style(self, architecture: &Architecture) -> HeadStyle {
        let style = architecture.style();
        match self {
            Self::MaskedLm | Self::CausalLm => style.lm,
            Self::Sequence { .. } => style.sequence,
            Self::Token { .. } => style.token,
            Self::Marked { .. } => HeadStyle::OURS,
        }
    }
}

/// The weights of a head.
#[derive(Clone, Debug)]
pub(crate) struct HeadWeights {
    pub transform: Option<Transformed>,
    /// The last layer: a decoder or a classifier.
    pub out: Dense,
}

/// The weights before a head's last layer.
#[derive(Clone, Debug)]
pub(crate) struct Transformed {
    pub dense: Dense,
    pub activation: Activation,
    pub norm: Option<Norm>,
}

impl HeadWeights {
    /// What the last layer reads.
    pub fn transformed(&self, tape: &mut Tape<'_>, x: Var) -> Var {
        let Some(Transformed { dense, activation, norm }) = &self.transform else { return x };
        let x = dense.forward(tape, x, Format::F32, None);
        let x = tape.activation(x, *activation);
        norm.map_or(x, |norm| tape.norm(x, norm, Format::F32))
    }
}
