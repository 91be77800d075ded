//! What a run found out: plain data between the stages that measure and the report that shows.

use std::collections::BTreeMap;

pub use arable_corpus::{Association, Edge, Measure, Profile, Sampled, SplitCheck};
pub use arable_eval::{Convergence, ReliabilityBin};
use serde::{Deserialize, Serialize};

/// Everything the final table and `report.html` show.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Results {
    /// What was run, and on what.
    pub run: RunFacts,
    /// What the sources hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<Profile>,
    /// What was read, kept and left out.
    pub corpus: CorpusFacts,
    /// How the vocabulary fits the domain.
    pub tokenizer: TokenizerFacts,
    /// How pretraining went.
    pub pretraining: PretrainingFacts,
    /// One entry for each task, in the order of the configuration.
    pub tasks: Vec<TaskResults>,
}

/// What is needed to repeat the run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunFacts {
    /// The run's name.
    pub name: String,
    /// The digest of the resolved configuration, in hexadecimal.
    pub config_digest: String,
    /// The version of the program.
    pub code_version: String,
    /// The resolved configuration, as TOML.
    pub resolved_toml: String,
    /// Machine facts by name (processor, cores, memory, operating system), in order of the names.
    pub machine: BTreeMap<String, String>,
    /// How many threads computed.
    pub num_threads: usize,
    /// The precision of matrix work: `f32`, `bf16` or `i16`.
    pub precision: String,
    /// Wall-clock seconds by stage, in the order in which they ran; 0 for a stage that was already done.
    pub stages: Vec<(String, f64)>,
}

/// What was read, kept and left out.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct CorpusFacts {
    /// One entry for each source.
    pub sources: Vec<SourceFacts>,
    /// Documents left out for having too few words.
    pub num_too_short: usize,
    /// Documents for which `keep` does not hold.
    #[serde(default)]
    pub num_filtered: usize,
    /// What the conditions of `keep` did, in order.
    #[serde(default)]
    pub rules: Vec<RuleFacts>,
    /// Documents removed because an equal text came before.
    pub num_exact_duplicates: usize,
    /// Documents removed because a text equal after normalisation came before.
    pub num_normalized_duplicates: usize,
    /// Documents removed because most of their text occurs in another.
    #[serde(default)]
    pub num_near_duplicates: usize,
    /// Documents removed because they hold a held-out example of any task.
    pub num_overlap: usize,
    /// One entry for each task: what the overlap check found.
    pub overlap: Vec<OverlapFacts>,
    /// Documents left out because the sample asks for no more of their kind.
    #[serde(default)]
    pub num_sampled_out: usize,
    /// What the sample asked for and reached, where one was drawn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample: Option<Sampled>,
    /// What a look at training and held-out documents found, once they were cut apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<SplitCheck>,
    /// Personal data in the documents kept.
    #[serde(default)]
    pub pii: Vec<PiiFacts>,
    /// Documents kept for training.
    pub num_train: usize,
    /// Documents kept aside for the held-out loss.
    pub num_held_out: usize,
    /// Words (separated by white space) in the training documents.
    pub num_train_words: usize,
    /// Rejected records by reason.
    pub rejects: BTreeMap<String, usize>,
}

/// What one condition of `keep` did.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct RuleFacts {
    /// The rules that it stands in, and what it says.
    pub name: String,
    /// Documents for which it does not hold.
    pub num_failed: usize,
    /// Documents for which it alone does not hold.
    pub num_failed_alone: usize,
}

/// Personal data of one kind.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct PiiFacts {
    /// `email`, `phone` and so on.
    pub kind: String,
    /// Places where it was found.
    pub num_found: usize,
    /// Documents with such places.
    pub num_documents: usize,
    /// Whether a mask stands in its place now.
    pub is_masked: bool,
}

/// Counts of one source.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct SourceFacts {
    /// The source's name.
    pub name: String,
    /// Records read as documents.
    pub num_documents: usize,
    /// Words (separated by white space) in them.
    pub num_words: usize,
    /// Records that could not be read.
    pub num_rejected: usize,
    /// Documents that passed deduplication and the overlap check.
    pub num_kept: usize,
    /// Files that were not UTF-8, by the encoding that they were decoded from.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub decoded: BTreeMap<String, usize>,
}

/// Overlap between the corpus and the held-out examples of one task.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct OverlapFacts {
    /// The task's name.
    pub task: String,
    /// Held-out examples looked for.
    pub num_examples: usize,
    /// Held-out examples found in the corpus.
    pub num_examples_found: usize,
    /// Documents removed for it.
    pub num_documents_removed: usize,
}

/// How the vocabulary fits the domain.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct TokenizerFacts {
    /// Pieces in the vocabulary.
    pub vocab_size: usize,
    /// Tokens per word of held-out domain text under the domain vocabulary.
    pub fertility_domain: f64,
    /// The same text under a vocabulary of equal size trained on general text, where there is such text.
    pub fertility_general: Option<f64>,
    /// Tokens per word of the same text after so many tokens were added to the vocabulary of the model to go on from; the
    /// last round gained too little and is not in the vocabulary, unless as many were added as it says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extension: Vec<(usize, f64)>,
    /// Tokens that were added so.
    #[serde(default)]
    pub num_added: usize,
    /// Tokens in the training shards.
    pub num_train_tokens: usize,
}

/// How pretraining went.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct PretrainingFacts {
    /// The model's size by name, such as `mini`.
    pub model: String,
    /// Parameters in the model.
    pub num_parameters: usize,
    /// Tokens seen.
    pub num_tokens: u64,
    /// Floating-point operations of forward and backward passes.
    pub flops: f64,
    /// Seconds of computing, over all interruptions.
    pub wall_s: f64,
    /// Seconds of these that steps waited for their batches.
    pub waited_s: f64,
    /// Training points, thinned to at most a few hundred.
    pub curve: Vec<PretrainingPoint>,
    /// Held-out loss (nats per masked token) by step.
    pub held_out: Vec<HeldOutPoint>,
    /// What probes found along the way, with the steps of all stages counted on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub probes: Vec<ProbeReport>,
    /// The stages of the plan, in order.
    #[serde(default)]
    pub stages: Vec<StageFacts>,
}

/// What came of one stage of the plan.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StageFacts {
    /// The stage's name.
    pub name: String,
    /// Optimizer steps.
    pub num_steps: u64,
    /// Tokens seen.
    pub num_tokens: u64,
    /// The mixture, asked for and reached.
    pub sources: Vec<SourceShare>,
    /// Held-out loss of each source at the beginning, where the model had learned something before, and at the end.
    pub held_out: BTreeMap<String, (Option<f64>, f64)>,
    /// What each task's probe found of the untouched starting point of the plan, and at the end of the stage.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub probes: BTreeMap<String, [ProbeReport; 2]>,
    /// What its gate said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<GateFacts>,
}

/// What small tests of one task found of an encoder: means over repetitions, on development examples.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProbeReport {
    /// Pretraining steps done.
    pub step: u64,
    /// The task.
    pub task: String,
    /// What a score is.
    pub metric: String,
    /// Repetitions.
    pub num_seeds: usize,
    /// The score of a linear model on the frozen encoder.
    pub linear: f64,
    /// Its standard deviation over repetitions.
    pub linear_deviation: f64,
    /// The score after a short fine-tuning.
    pub finetuned: f64,
    /// Its standard deviation over repetitions.
    pub finetuned_deviation: f64,
    /// Expected calibration error of the fine-tuned model, without scaling.
    pub ece: f64,
    /// Its Brier score.
    pub brier: f64,
    /// Its negative log-likelihood: what its uncertainty is worth.
    pub nll: f64,
    /// How well its confidence tells right answers from wrong ones: the area under the ROC curve, where there are both.
    #[serde(default)]
    pub error_auroc: Option<f64>,
    /// Its F1 of each class, or kind of entity.
    pub by_class: BTreeMap<String, f64>,
}

impl ProbeReport {
    /// The score after fine-tuning less that of `start`, and the standard error of this difference over repetitions.
    pub fn change(&self, start: &Self) -> (f64, f64) {
        let variance = |report: &Self| report.finetuned_deviation.powi(2) / report.num_seeds.max(1) as f64;
        (self.finetuned - start.finetuned, (variance(self) + variance(start)).sqrt())
    }

    /// The class that lost most since `start`, and how much F1 it lost or won.
    pub fn worst_class(&self, start: &Self) -> Option<(&str, f64)> {
        let change = |(name, f1): (&'_ String, &f64)| f1 - start.by_class.get(name).copied().unwrap_or(0.0);
        let changes = self.by_class.iter().map(|(name, f1)| (name.as_str(), change((name, f1))));
        changes.min_by(|a, b| a.1.total_cmp(&b.1))
    }
}

/// The share of one source in a stage.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SourceShare {
    /// The source.
    pub name: String,
    /// Its share of the tokens, as the mixture asked.
    pub asked: f64,
    /// Its share of the tokens seen.
    pub reached: f64,
    /// Whole passes over it: above 1, text was repeated.
    pub num_passes: u64,
}

/// What a gate said.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GateFacts {
    /// The expression.
    pub holds: String,
    /// Whether it holds.
    pub passed: bool,
    /// Whether the stage was undone for it.
    pub rolled_back: bool,
    /// The facts that it reads.
    pub facts: Vec<(String, f64)>,
}

/// One point of the pretraining curve.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct PretrainingPoint {
    /// Optimizer steps done.
    pub step: u64,
    /// Tokens seen.
    pub num_tokens: u64,
    /// Training loss, nats per masked token.
    pub loss: f64,
    /// Global gradient norm before clipping.
    pub grad_norm: f64,
    /// Learning rate.
    pub learning_rate: f64,
}

/// One held-out measurement.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct HeldOutPoint {
    /// Optimizer steps done.
    pub step: u64,
    /// Tokens seen.
    pub num_tokens: u64,
    /// Held-out loss, nats per masked token.
    pub loss: f64,
    /// Share of masked tokens predicted exactly.
    pub accuracy: f64,
}

/// What is compared on each task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Arm {
    /// The pretrained encoder, fine-tuned.
    Pretrained,
    /// The same architecture from random weights.
    Scratch,
    /// TF-IDF features and a linear classifier.
    Tfidf,
}

impl Arm {
    /// All arms, in the order in which tables show them.
    pub const ALL: [Self; 3] = [Self::Pretrained, Self::Scratch, Self::Tfidf];

    /// The name that tables show.
    pub fn label(self) -> &'static str {
        match self {
            Self::Pretrained => "pretrained",
            Self::Scratch => "scratch",
            Self::Tfidf => "TF-IDF + linear",
        }
    }
}

/// Everything measured on one task.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TaskResults {
    /// The task's name.
    pub name: String,
    /// `classification`, `multilabel` or `tagging`.
    pub kind: String,
    /// The headline metric, a key of every cell's `metrics`.
    pub metric: String,
    /// Training examples at 100 % of the labels.
    pub num_train: usize,
    /// Development examples.
    pub num_dev: usize,
    /// Test examples.
    pub num_test: usize,
    /// Classes.
    pub num_labels: usize,
    /// What a look at the three parts found.
    #[serde(default)]
    pub split: SplitCheck,
    /// One entry for each arm, budget and seed.
    pub cells: Vec<Cell>,
    /// Cells of equal arm and budget taken together.
    pub summaries: Vec<Summary>,
    /// How much faster the pretrained arm learns at 100 % of the labels, where both neural arms ran.
    pub convergence: Option<Convergence>,
}

/// One fine-tuning, measured on the test set.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Cell {
    /// What was trained.
    pub arm: Arm,
    /// Part of the training labels used, in `(0, 1]`.
    pub budget: f64,
    /// Labelled examples used.
    pub num_examples: usize,
    /// Which repetition, from 0.
    pub seed: u64,
    /// The learning rate (inverse regularisation strength for the linear arm), chosen on the development set.
    pub learning_rate: f64,
    /// Optimizer steps done.
    pub num_steps: u64,
    /// Seconds of computing.
    pub wall_s: f64,
    /// Test metrics by name: `accuracy`, `macro_f1`, `micro_f1`, `entity_f1`, `nll`, `brier`, `ece`, and the last three
    /// after temperature scaling as `nll_scaled`, `brier_scaled`, `ece_scaled`.
    pub metrics: BTreeMap<String, f64>,
    /// Development score by step, in steps that rise.
    pub curve: Vec<(u64, f64)>,
    /// Reliability diagram before temperature scaling.
    pub reliability: Vec<ReliabilityBin>,
    /// Reliability diagram after temperature scaling.
    pub reliability_scaled: Vec<ReliabilityBin>,
}

/// The headline metric of one arm at one budget, over seeds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Summary {
    /// What was trained.
    pub arm: Arm,
    /// Part of the training labels used.
    pub budget: f64,
    /// Labelled examples used.
    pub num_examples: usize,
    /// Mean over seeds.
    pub mean: f64,
    /// Lower end of the 95 % bootstrap interval over seeds and test examples.
    pub low: f64,
    /// Upper end of it.
    pub high: f64,
    /// Repetitions.
    pub num_seeds: usize,
}
