//! The linear arm: what labels alone give without a neural network.

use arable_core::{Example, Input, LabelSet, Target};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::calibration::calibrate;
use crate::logistic::{LinearModel, Problem, SolverConfig, Targets};
use crate::metrics::nll;
use crate::predictions::{Predictions, PredictionsError, TagSentence};
use crate::scored::{HeadlineMetric, MetricError, Scored};
use crate::sparse::Rows;
use crate::tagger::TagFeatures;
use crate::tfidf::{Vectorizer, VectorizerConfig};

/// How the linear arm is built and chosen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BaselineConfig {
    /// Inverse regularisation strengths to choose from on the development set.
    pub c_grid: Vec<f64>,
    /// Features of texts.
    pub text: VectorizerConfig,
    /// Words that a feature must occur on in the training sentences of a tagging task.
    pub min_word_count: usize,
    /// Largest entry of the gradient at which training stops.
    pub tolerance: f64,
    /// Training steps at most, for each strength.
    pub max_steps: u64,
}

impl Default for BaselineConfig {
    fn default() -> Self {
        Self {
            c_grid: vec![1.0, 3.0, 10.0, 30.0, 100.0],
            text: VectorizerConfig::default(),
            min_word_count: 2,
            tolerance: 1e-4,
            max_steps: 300,
        }
    }
}

/// A trained linear arm's answers.
#[derive(Clone, Debug)]
pub struct BaselineRun {
    /// The chosen inverse regularisation strength.
    pub c: f64,
    /// Features.
    pub num_features: usize,
    /// Training steps over all strengths.
    pub num_steps: u64,
    /// Answers on the development set.
    pub dev: Predictions,
    /// Answers on the test set.
    pub test: Predictions,
}

/// Why the linear arm cannot be trained.
#[derive(Debug, thiserror::Error)]
pub enum BaselineError {
    /// A split without examples.
    #[error("fit a linear model with an empty {split} split")]
    EmptySplit {
        /// `training` or `development`.
        split: &'static str,
    },
    /// No strength to choose from, or one that is not above 0.
    #[error("choose from the regularisation strengths {grid:?}")]
    Grid {
        /// The strengths given.
        grid: Vec<f64>,
    },
    /// A label that the label set does not have.
    #[error("find label `{label}` of example `{id}` in the label set")]
    UnknownLabel {
        /// The example.
        id: String,
        /// Its label.
        label: String,
    },
    /// An example whose target or input is of another kind than that of the first training example, or whose tags do
    /// not match its words.
    #[error("use example `{id}` in a {task} task")]
    Mismatch {
        /// The example.
        id: String,
        /// The kind of task.
        task: &'static str,
    },
    /// The task does not have the metric.
    #[error(transparent)]
    Metric(#[from] MetricError),
    /// The answers do not hold together, as when training diverged.
    #[error(transparent)]
    Predictions(#[from] PredictionsError),
}

impl arable_core::Hint for BaselineError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Grid { .. } => Some("Give at least one strength, each above 0".to_owned()),
            Self::Metric(error) => error.hint(),
            _ => None,
        }
    }
}

/// What kind of task the examples make, by the first target.
#[derive(Clone, Copy, PartialEq)]
enum Task {
    Class,
    Multilabel,
    Tagging,
}

/// One split as numbers.
struct Split {
    rows: Rows,
    targets: Targets,
    /// Words of each sentence, for tagging.
    lens: Option<Vec<usize>>,
}

/// What turns examples into rows.
enum Features {
    Text(Vectorizer),
    Words(TagFeatures),
}

impl Features {
    fn split(&self, task: Task, examples: &[Example], labels: &LabelSet) -> Result<Split, BaselineError> {
        match self {
            Self::Text(vectorizer) => text_split(task, examples, labels, vectorizer),
            Self::Words(features) => word_split(examples, labels, features),
        }
    }
}

/// Trains the linear arm on `train`, chooses its regularisation by `metric` on `dev` and answers `dev` and `test`.
///
/// Texts become TF-IDF rows ([`Vectorizer`]), the words of tagging tasks rows of [`TagFeatures`]; logistic regression
/// ([`Problem`]) turns rows into logits. Of equal scores the one with lower negative log-likelihood wins. Multi-label
/// candidates are compared each at its own best threshold.
///
/// # Errors
/// When a split is empty, an example does not fit the task or label set, or the task does not have the metric.
pub fn fit_baseline(
    train: &[Example],
    dev: &[Example],
    test: &[Example],
    labels: &LabelSet,
    metric: HeadlineMetric,
    config: &BaselineConfig,
) -> Result<BaselineRun, BaselineError> {
    let first = train.first().ok_or(BaselineError::EmptySplit { split: "training" })?;
    if dev.is_empty() {
        return Err(BaselineError::EmptySplit { split: "development" });
    }
    let task = Task::of(&first.target);
    for example in train.iter().chain(dev).chain(test) {
        task.check(example)?;
    }
    let features = match task {
        Task::Tagging => Features::Words(TagFeatures::fit(words(train), config.min_word_count)),
        _ => Features::Text(Vectorizer::fit(inputs(train), &config.text)),
    };
    let split = |examples| features.split(task, examples, labels);
    let (train, dev, test) = (split(train)?, split(dev)?, split(test)?);
    let (model, c, num_steps) = fit_best(&train, &dev, labels, metric, config)?;
    let (dev, test) = (dev.predictions(&model, labels)?, test.predictions(&model, labels)?);
    Ok(BaselineRun { c, num_features: train.rows.num_columns(), num_steps, dev, test })
}

/// Fits every strength, each from the one before, and keeps the best on `dev`.
fn fit_best(
    train: &Split,
    dev: &Split,
    labels: &LabelSet,
    metric: HeadlineMetric,
    config: &BaselineConfig,
) -> Result<(LinearModel, f64, u64), BaselineError> {
    let mut grid = config.c_grid.clone();
    grid.sort_by(f64::total_cmp);
    if grid.is_empty() || grid.iter().any(|&c| !(c > 0.0 && c.is_finite())) {
        return Err(BaselineError::Grid { grid });
    }
    let problem = Problem::new(&train.rows, &train.targets);
    let solver = SolverConfig { tolerance: config.tolerance, max_steps: config.max_steps };
    let (mut num_steps, mut before) = (0, None);
    let mut best: Option<((f64, f64), LinearModel, f64)> = None;
    for c in grid {
        let fit = problem.fit(c, before.as_ref(), &solver);
        num_steps += fit.num_steps;
        let rank = rank(dev.predictions(&fit.model, labels)?, metric)?;
        if best.as_ref().is_none_or(|(best, ..)| rank > *best) {
            best = Some((rank, fit.model.clone(), c));
        }
        before = Some(fit.model);
    }
    let (_, model, c) = best.expect("the grid is not empty");
    Ok((model, c, num_steps))
}

/// The score to compare by; of equals the likelihood.
fn rank(dev: Predictions, metric: HeadlineMetric) -> Result<(f64, f64), MetricError> {
    let likelihood = -nll(&dev);
    let dev = match calibrate(&dev).threshold {
        Some(threshold) => dev.with_threshold(threshold),
        None => dev,
    };
    Ok((Scored::new(&dev, metric)?.value(), likelihood))
}

impl Task {
    fn of(target: &Target) -> Self {
        match target {
            Target::Class(_) => Self::Class,
            Target::Classes(_) => Self::Multilabel,
            Target::Tags(_) => Self::Tagging,
        }
    }

    fn check(self, example: &Example) -> Result<(), BaselineError> {
        let task = match self {
            Self::Class => "single-label",
            Self::Multilabel => "multi-label",
            Self::Tagging => "tagging",
        };
        let fits = match (&example.target, &example.input) {
            (Target::Tags(tags), Input::Words(words)) => self == Self::Tagging && tags.len() == words.len(),
            (Target::Tags(_), _) => false,
            (target, _) => self == Self::of(target),
        };
        if fits { Ok(()) } else { Err(BaselineError::Mismatch { id: example.id.clone(), task }) }
    }
}

impl Split {
    fn predictions(&self, model: &LinearModel, labels: &LabelSet) -> Result<Predictions, PredictionsError> {
        let logits = model.logits(&self.rows);
        match (&self.targets, &self.lens) {
            (Targets::Labels { num_labels, gold }, _) => Predictions::multilabel(*num_labels, logits, gold.clone()),
            (Targets::Classes { num_classes, gold }, None) => Predictions::class(*num_classes, logits, gold.clone()),
            (Targets::Classes { num_classes, gold }, Some(lens)) => {
                Predictions::tagging(labels.names().to_vec(), sentences(lens, *num_classes, &logits, gold))
            }
        }
    }
}

fn sentences(lens: &[usize], num_tags: usize, logits: &[f32], gold: &[u32]) -> Vec<TagSentence> {
    let mut start = 0;
    let mut cut = |len: usize| {
        let range = start..start + len;
        start = range.end;
        let logits = logits[range.start * num_tags..range.end * num_tags].to_vec();
        TagSentence { logits, gold: gold[range].to_vec() }
    };
    lens.iter().map(|&len| cut(len)).collect()
}

fn text_split(
    task: Task,
    examples: &[Example],
    labels: &LabelSet,
    vectorizer: &Vectorizer,
) -> Result<Split, BaselineError> {
    let gold = gold(examples, labels)?;
    let targets = match task {
        Task::Multilabel => Targets::Labels { num_labels: labels.len(), gold: one_hot(&gold, labels.len()) },
        _ => Targets::Classes { num_classes: labels.len(), gold: gold.concat() },
    };
    Ok(Split { rows: vectorizer.transform(inputs(examples)), targets, lens: None })
}

fn word_split(examples: &[Example], labels: &LabelSet, features: &TagFeatures) -> Result<Split, BaselineError> {
    let gold = gold(examples, labels)?;
    let lens = Some(gold.iter().map(Vec::len).collect());
    let targets = Targets::Classes { num_classes: labels.len(), gold: gold.concat() };
    Ok(Split { rows: features.transform(words(examples)), targets, lens })
}

fn inputs(examples: &[Example]) -> impl Iterator<Item = &Input> {
    examples.iter().map(|example| &example.input)
}

fn words(examples: &[Example]) -> impl Iterator<Item = &[String]> {
    examples.iter().map(|example| match &example.input {
        Input::Words(words) => words.as_slice(),
        _ => &[],
    })
}

/// The class indices of each example's labels.
fn gold(examples: &[Example], labels: &LabelSet) -> Result<Vec<Vec<u32>>, BaselineError> {
    let index = |example: &Example, label: &String| match labels.index(label) {
        Some(index) => Ok(index as u32),
        None => Err(BaselineError::UnknownLabel { id: example.id.clone(), label: label.clone() }),
    };
    let of = |example: &Example| example.target.labels().iter().map(|label| index(example, label)).collect();
    examples.iter().map(of).collect()
}

fn one_hot(gold: &[Vec<u32>], num_labels: usize) -> Vec<bool> {
    let mut rows = vec![false; gold.len() * num_labels];
    for (i, labels) in gold.iter().enumerate() {
        labels.iter().for_each(|&label| rows[i * num_labels + label as usize] = true);
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(i: usize, input: Input, target: Target) -> Example {
        Example { id: format!("example-{i}"), group: None, input, target }
    }

    /// Whether `cause` occurs decides the class, the labels and the tags.
    fn examples(task: Task, n: usize) -> Vec<Example> {
        let text =
            |i: usize| format!("word{} {} tail{}", i % 7, if i.is_multiple_of(3) { "cause" } else { "chance" }, i % 5);
        let make = |i: usize| {
            let label = if i.is_multiple_of(3) { "yes" } else { "no" }.to_owned();
            match task {
                Task::Class => example(i, Input::Text(text(i)), Target::Class(label)),
                Task::Multilabel => example(i, Input::Text(text(i)), Target::Classes(vec![label])),
                Task::Tagging => {
                    let tag = if i.is_multiple_of(3) { "B-Cause" } else { "O" };
                    let tags = ["O", tag, "O"].map(str::to_owned).to_vec();
                    example(i, Input::Words(text(i).split(' ').map(str::to_owned).collect()), Target::Tags(tags))
                }
            }
        };
        (0..n).map(make).collect()
    }

    #[test]
    fn what_is_easy_is_learnt() {
        for task in [Task::Class, Task::Multilabel, Task::Tagging] {
            let all = examples(task, 90);
            let (train, rest) = all.split_at(60);
            let metric = if task == Task::Tagging { HeadlineMetric::EntityF1 } else { HeadlineMetric::MacroF1 };
            let run =
                fit_baseline(train, &rest[..15], &rest[15..], &LabelSet::of(&all), metric, &BaselineConfig::default());
            let run = run.unwrap();
            assert_eq!(Scored::new(&run.test, metric).unwrap().value(), 1.0);
            assert!(run.num_steps > 0 && run.num_features > 3);
        }
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let (class, tags) = (examples(Task::Class, 9), examples(Task::Tagging, 9));
        let labels = LabelSet::of(&class);
        let fit = |train: &[Example], dev: &[Example], grid: &[f64]| {
            let config = BaselineConfig { c_grid: grid.to_vec(), ..BaselineConfig::default() };
            fit_baseline(train, dev, &[], &labels, HeadlineMetric::Accuracy, &config).err()
        };
        assert!(matches!(fit(&[], &class, &[1.0]), Some(BaselineError::EmptySplit { split: "training" })));
        assert!(matches!(fit(&class, &tags, &[1.0]), Some(BaselineError::Mismatch { .. })));
        assert!(matches!(fit(&tags, &tags, &[1.0]), Some(BaselineError::UnknownLabel { .. })));
        assert!(matches!(fit(&class, &class, &[0.0]), Some(BaselineError::Grid { .. })));
        assert!(fit(&class, &class, &[1.0]).is_none());
    }
}
