//! Logits with gold labels: what every arm hands over.

/// What a model answered on one split, beside what is right.
#[derive(Clone, Debug, PartialEq)]
pub enum Predictions {
    /// One class out of several for each example.
    Class(ClassPredictions),
    /// Any number of labels for each example.
    Multilabel(MultilabelPredictions),
    /// One tag for each word.
    Tagging(TaggingPredictions),
}

/// Single-label predictions: `logits` is `n x k`, row by row.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassPredictions {
    num_classes: usize,
    logits: Vec<f32>,
    gold: Vec<u32>,
}

/// Multi-label predictions: `logits` and `gold` are `n x k`, row by row.
#[derive(Clone, Debug, PartialEq)]
pub struct MultilabelPredictions {
    num_labels: usize,
    logits: Vec<f32>,
    gold: Vec<bool>,
    /// A label is predicted when its logit lies above this.
    cutoff: f64,
}

/// Tagging predictions: sentences over one tag set.
#[derive(Clone, Debug, PartialEq)]
pub struct TaggingPredictions {
    tags: Vec<String>,
    sentences: Vec<TagSentence>,
}

/// One tagged sentence.
#[derive(Clone, Debug, PartialEq)]
pub struct TagSentence {
    /// Words x tags, row by row.
    pub logits: Vec<f32>,
    /// The right tag of each word, as an index into the tag set.
    pub gold: Vec<u32>,
}

/// Predictions that do not hold together.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum PredictionsError {
    /// No class, label or tag to choose from.
    #[error("score predictions over an empty label set")]
    NoLabels,
    /// The number of logits is not examples times labels.
    #[error("match {got} logits with {expected} (at {place})")]
    Shape {
        /// The index of the sentence for tagging, else 0.
        place: usize,
        /// Logits that the gold labels ask for.
        expected: usize,
        /// Logits given.
        got: usize,
    },
    /// A gold label outside the label set.
    #[error("find gold label {label} among {num_labels} labels (at {place})")]
    GoldOutOfRange {
        /// The index of the example, or of the word in its sentence.
        place: usize,
        /// The gold label.
        label: u32,
        /// Size of the label set.
        num_labels: usize,
    },
    /// A logit that is infinite or not a number: the model diverged.
    #[error("use logit {index}, which is not finite")]
    NotFinite {
        /// The index of the logit in its row-by-row list.
        index: usize,
    },
}

/// One choice that a model made, the unit of likelihood and calibration.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Decision<'a> {
    /// One out of several.
    Among { logits: &'a [f32], gold: usize },
    /// Yes or no.
    Binary { logit: f32, gold: bool },
}

impl Predictions {
    /// Single-label predictions; `logits` is `gold.len() x num_classes`.
    ///
    /// # Errors
    /// When shapes differ, a gold label is out of range or a logit is not finite.
    pub fn class(num_classes: usize, logits: Vec<f32>, gold: Vec<u32>) -> Result<Self, PredictionsError> {
        check(0, num_classes, &logits, &gold)?;
        Ok(Self::Class(ClassPredictions { num_classes, logits, gold }))
    }

    /// Multi-label predictions; `logits` and `gold` are examples x `num_labels`. A label is predicted when its
    /// probability is above one half, until [`Self::with_threshold`] says otherwise.
    ///
    /// # Errors
    /// When shapes differ or a logit is not finite.
    pub fn multilabel(num_labels: usize, logits: Vec<f32>, gold: Vec<bool>) -> Result<Self, PredictionsError> {
        if num_labels == 0 {
            return Err(PredictionsError::NoLabels);
        }
        if logits.len() != gold.len() || !gold.len().is_multiple_of(num_labels) {
            let expected = gold.len().next_multiple_of(num_labels);
            return Err(PredictionsError::Shape { place: 0, expected, got: logits.len() });
        }
        check_finite(&logits)?;
        Ok(Self::Multilabel(MultilabelPredictions { num_labels, logits, gold, cutoff: 0.0 }))
    }

    /// Tagging predictions; each sentence's logits are words x `tags.len()`.
    ///
    /// # Errors
    /// When shapes differ, a gold tag is out of range or a logit is not finite.
    pub fn tagging(tags: Vec<String>, sentences: Vec<TagSentence>) -> Result<Self, PredictionsError> {
        for (place, sentence) in sentences.iter().enumerate() {
            check(place, tags.len(), &sentence.logits, &sentence.gold)?;
        }
        Ok(Self::Tagging(TaggingPredictions { tags, sentences }))
    }

    /// Examples; for tagging, sentences.
    pub fn num_examples(&self) -> usize {
        match self {
            Self::Class(class) => class.gold.len(),
            Self::Multilabel(labels) => labels.gold.len() / labels.num_labels,
            Self::Tagging(tagging) => tagging.sentences.len(),
        }
    }

    /// The same predictions with every logit divided by `temperature`. What is predicted stays: the cutoff of
    /// multi-label predictions moves along.
    ///
    /// # Panics
    /// When `temperature` is not above 0.
    #[must_use]
    pub fn scaled(&self, temperature: f64) -> Self {
        assert!(temperature > 0.0, "a temperature is above 0");
        let scale = |logits: &mut Vec<f32>| {
            logits.iter_mut().for_each(|logit| *logit = (f64::from(*logit) / temperature) as f32);
        };
        let mut scaled = self.clone();
        match &mut scaled {
            Self::Class(class) => scale(&mut class.logits),
            Self::Multilabel(labels) => {
                scale(&mut labels.logits);
                labels.cutoff /= temperature;
            }
            Self::Tagging(tagging) => tagging.sentences.iter_mut().for_each(|sentence| scale(&mut sentence.logits)),
        }
        scaled
    }

    /// The same predictions, a label being predicted when its probability is above `threshold`, in `(0, 1)`. Nothing
    /// changes where labels exclude each other.
    #[must_use]
    pub fn with_threshold(mut self, threshold: f64) -> Self {
        if let Self::Multilabel(labels) = &mut self {
            labels.cutoff = (threshold / (1.0 - threshold)).ln();
        }
        self
    }

    /// Every choice in order: examples, examples x labels, or words.
    pub(crate) fn decisions(&self) -> Box<dyn Iterator<Item = Decision<'_>> + '_> {
        match self {
            Self::Class(class) => Box::new(among(class.num_classes, &class.logits, &class.gold)),
            Self::Multilabel(labels) => {
                Box::new(labels.logits.iter().zip(&labels.gold).map(|(&logit, &gold)| Decision::Binary { logit, gold }))
            }
            Self::Tagging(tagging) => Box::new(
                tagging
                    .sentences
                    .iter()
                    .flat_map(|sentence| among(tagging.tags.len(), &sentence.logits, &sentence.gold)),
            ),
        }
    }
}

impl ClassPredictions {
    /// Probabilities, examples x classes, row by row.
    pub fn probabilities(&self) -> impl Iterator<Item = f64> {
        probabilities(&self.logits, self.num_classes)
    }

    /// Pairs of predicted (largest logit, the first of equals) and right class.
    pub fn pairs(&self) -> impl Iterator<Item = (usize, usize)> {
        self.logits.chunks_exact(self.num_classes).map(argmax).zip(self.gold.iter().map(|&gold| gold as usize))
    }
}

impl MultilabelPredictions {
    /// Labels to choose from.
    pub fn num_labels(&self) -> usize {
        self.num_labels
    }

    /// For each example, pairs of predicted and right for each label.
    pub fn rows(&self) -> impl Iterator<Item = impl Iterator<Item = (bool, bool)>> {
        let rows = self.logits.chunks_exact(self.num_labels).zip(self.gold.chunks_exact(self.num_labels));
        rows.map(|(logits, gold)| logits.iter().map(|&l| f64::from(l) > self.cutoff).zip(gold.iter().copied()))
    }

    /// Pairs of logit and right, over all examples and labels.
    pub(crate) fn scores(&self) -> impl Iterator<Item = (f32, bool)> {
        self.logits.iter().copied().zip(self.gold.iter().copied())
    }
}

impl TaggingPredictions {
    /// Probabilities, words of all sentences x tags, row by row.
    pub fn probabilities(&self) -> impl Iterator<Item = f64> {
        self.sentences.iter().flat_map(|sentence| probabilities(&sentence.logits, self.tags.len()))
    }

    /// The tag set.
    pub fn tags(&self) -> &[String] {
        &self.tags
    }

    /// The sentences.
    pub fn sentences(&self) -> &[TagSentence] {
        &self.sentences
    }
}

impl Decision<'_> {
    /// Negative log-likelihood of the right answer in nats, with logits times `beta`.
    pub(crate) fn nll(&self, beta: f64) -> f64 {
        match *self {
            Self::Among { logits, gold } => {
                let top = beta * max(logits);
                let sum: f64 = logits.iter().map(|&logit| (beta * f64::from(logit) - top).exp()).sum();
                sum.ln() + top - beta * f64::from(logits[gold])
            }
            Self::Binary { logit, gold } => {
                let margin = beta * f64::from(if gold { -logit } else { logit });
                margin.max(0.0) + (-margin.abs()).exp().ln_1p()
            }
        }
    }

    /// The derivative of [`Self::nll`] by `beta`; it rises with `beta`.
    pub(crate) fn nll_slope(&self, beta: f64) -> f64 {
        match *self {
            Self::Among { logits, gold } => {
                let top = max(logits);
                let (sum, weighted) = logits.iter().fold((0.0, 0.0), |(sum, weighted), &logit| {
                    let weight = (beta * (f64::from(logit) - top)).exp();
                    (sum + weight, weighted + weight * f64::from(logit))
                });
                weighted / sum - f64::from(logits[gold])
            }
            Self::Binary { logit, gold } => {
                (sigmoid(beta * f64::from(logit)) - f64::from(u8::from(gold))) * f64::from(logit)
            }
        }
    }

    /// Squared distance between probabilities and the right answer, summed over classes (Brier 1950, in `[0, 2]`);
    /// of the one probability of a yes-or-no choice, in `[0, 1]`.
    pub(crate) fn brier(&self) -> f64 {
        match *self {
            Self::Among { logits, gold } => {
                let (top, sum) = normalizer(logits);
                let square = |(class, &logit): (usize, &f32)| {
                    let probability = (f64::from(logit) - top).exp() / sum;
                    (probability - f64::from(u8::from(class == gold))).powi(2)
                };
                logits.iter().enumerate().map(square).sum()
            }
            Self::Binary { logit, gold } => (sigmoid(f64::from(logit)) - f64::from(u8::from(gold))).powi(2),
        }
    }

    /// The probability of the likeliest answer, and whether that answer is right.
    pub(crate) fn confidence(&self) -> (f64, bool) {
        match *self {
            Self::Among { logits, gold } => (1.0 / normalizer(logits).1, argmax(logits) == gold),
            Self::Binary { logit, gold } => (sigmoid(f64::from(logit.abs())), (logit > 0.0) == gold),
        }
    }
}

/// The index of the largest value, the first of equals.
pub(crate) fn argmax(values: &[f32]) -> usize {
    values.iter().enumerate().fold(0, |best, (i, &value)| if value > values[best] { i } else { best })
}

/// The logistic function.
/// Softmax of each row.
fn probabilities(logits: &[f32], num_columns: usize) -> impl Iterator<Item = f64> {
    logits.chunks_exact(num_columns).flat_map(|row| {
        let top = f64::from(row[argmax(row)]);
        let sum: f64 = row.iter().map(|&logit| (f64::from(logit) - top).exp()).sum();
        row.iter().map(move |&logit| (f64::from(logit) - top).exp() / sum)
    })
}

pub(crate) fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

fn max(logits: &[f32]) -> f64 {
    f64::from(logits[argmax(logits)])
}

fn normalizer(logits: &[f32]) -> (f64, f64) {
    let top = max(logits);
    (top, logits.iter().map(|&logit| (f64::from(logit) - top).exp()).sum())
}

fn among<'a>(num_labels: usize, logits: &'a [f32], gold: &'a [u32]) -> impl Iterator<Item = Decision<'a>> + use<'a> {
    let rows = logits.chunks_exact(num_labels).zip(gold);
    rows.map(|(logits, &gold)| Decision::Among { logits, gold: gold as usize })
}

fn check(place: usize, num_labels: usize, logits: &[f32], gold: &[u32]) -> Result<(), PredictionsError> {
    if num_labels == 0 {
        return Err(PredictionsError::NoLabels);
    }
    let expected = gold.len() * num_labels;
    if logits.len() != expected {
        return Err(PredictionsError::Shape { place, expected, got: logits.len() });
    }
    if let Some((place, &label)) = gold.iter().enumerate().find(|(_, label)| **label as usize >= num_labels) {
        return Err(PredictionsError::GoldOutOfRange { place, label, num_labels });
    }
    check_finite(logits)
}

fn check_finite(logits: &[f32]) -> Result<(), PredictionsError> {
    match logits.iter().position(|logit| !logit.is_finite()) {
        Some(index) => Err(PredictionsError::NotFinite { index }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn illegal_predictions_cannot_exist() {
        assert_eq!(Predictions::class(0, vec![], vec![]), Err(PredictionsError::NoLabels));
        assert!(matches!(Predictions::class(2, vec![0.0; 3], vec![0, 1]), Err(PredictionsError::Shape { .. })));
        assert!(matches!(
            Predictions::class(2, vec![0.0; 2], vec![2]),
            Err(PredictionsError::GoldOutOfRange { label: 2, .. })
        ));
        assert!(matches!(
            Predictions::class(2, vec![0.0, f32::NAN], vec![1]),
            Err(PredictionsError::NotFinite { index: 1 })
        ));
        assert!(matches!(
            Predictions::multilabel(2, vec![0.0; 3], vec![true; 3]),
            Err(PredictionsError::Shape { expected: 4, got: 3, .. })
        ));
        let sentence = TagSentence { logits: vec![0.0; 3], gold: vec![0] };
        assert!(matches!(
            Predictions::tagging(vec!["O".into(), "B-X".into()], vec![sentence]),
            Err(PredictionsError::Shape { place: 0, expected: 2, got: 3 })
        ));
    }

    #[test]
    fn slopes_are_derivatives() {
        let logits = [1.5, -0.3, 0.7];
        for decision in [Decision::Among { logits: &logits, gold: 2 }, Decision::Binary { logit: 0.8, gold: false }] {
            let numeric = (decision.nll(1.3 + 1e-6) - decision.nll(1.3 - 1e-6)) / 2e-6;
            assert!((numeric - decision.nll_slope(1.3)).abs() < 1e-8);
        }
    }

    #[test]
    fn scaling_keeps_decisions() {
        let labels = Predictions::multilabel(2, vec![0.9, -2.0, 0.1, 3.0], vec![true, false, true, true]).unwrap();
        let labels = labels.with_threshold(0.6);
        let decided = |predictions: &Predictions| match predictions {
            Predictions::Multilabel(labels) => labels.rows().flatten().map(|(yes, _)| yes).collect::<Vec<_>>(),
            _ => unreachable!(),
        };
        assert_eq!(decided(&labels), [true, false, false, true]);
        assert_eq!(decided(&labels.scaled(5.0)), decided(&labels));
    }
}
