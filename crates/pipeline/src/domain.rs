//! A domain: what its `arable.toml` says, completed and checked.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;
use arable_core::{Digest, Fraction, Hint, Seed};
use arable_corpus::{CorpusConfig, SampleConfig, SourceConfig, TaskConfig, TaskKind, check_order};
use arable_eval::BaselineConfig;
use arable_model::{AdapterConfig, Architecture, ModelConfig};
use arable_tokenize::TokenizerConfig;
use arable_train::adapt::FinetuneConfig;
use arable_train::curriculum::CurriculumConfig;
use arable_train::objective::tasks::TasksConfig;
use arable_train::pretrain::PretrainConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::advice::Advise;
use crate::base::Base;
use crate::buckets::StoreOptions;
use crate::config::{self, ConfigError, Loaded, Written};
use crate::plan::{self, StageConfig};
use crate::starting_point;

/// Everything that `arable.toml` can say.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The name of the domain; the run's folder is called so.
    pub name: String,
    /// The number that all randomness grows from.
    pub seed: Seed,
    /// The folder that paths of sources and tasks begin at, itself relative to the folder of `arable.toml`.
    pub data: String,
    /// What the model reads.
    pub corpus: CorpusConfig,
    /// What is expected of the corpus, by name: SQL expressions such as `reject_rate < 0.01`, for `arable check`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub check: BTreeMap<String, String>,
    /// General text that the vocabulary is compared with.
    pub reference: ReferenceConfig,
    /// The vocabulary.
    pub tokenizer: TokenizerConfig,
    /// The model: an encoder of some size, or one to go on from.
    pub model: ModelConfig,
    /// Pretraining on the corpus.
    pub pretrain: PretrainConfig,
    /// The stages of the pretraining, in order; what one does not say is as in `pretrain`. Without any, there is one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stage: Vec<StageConfig>,
    /// Small tests like the real tasks along the pretraining; none without this table.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probe: Option<ProbeConfig>,
    /// Adaptation to tasks and its measurement.
    pub adapt: AdaptConfig,
    /// Tasks by name.
    pub task: BTreeMap<String, TaskConfig>,
}

/// General text that the vocabulary is compared with.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ReferenceConfig {
    /// Where it is read from.
    pub source: Vec<SourceConfig>,
}

/// How tasks are learned and measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AdaptConfig {
    /// Parts of the training labels to learn from, in rising order.
    pub budgets: Vec<Fraction>,
    /// Repetitions with other label subsets, orders and initial heads.
    pub num_seeds: u64,
    /// Learning rates to choose from, for each arm and task, on the development set.
    pub learning_rates: Vec<f64>,
    /// The budget at which the learning rate is chosen.
    pub tune_budget: Fraction,
    /// Development examples used for choosing weights, rates and temperatures, at most.
    pub max_dev_examples: usize,
    /// Fine-tuning.
    pub finetune: FinetuneConfig,
    /// Train an adapter and the head of the pretrained model in the place of all its weights, such as
    /// `{ lora = { rank = 8 } }`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adapter: Option<AdapterConfig>,
    /// Other adapters for single tasks, by their names.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub adapters: BTreeMap<String, AdapterConfig>,
    /// The linear baseline.
    pub baseline: BaselineConfig,
    /// Resamples of the bootstrap intervals.
    pub num_resamples: usize,
}

/// Small tests like the real tasks along the pretraining: for each task a linear model on the frozen encoder and a short
/// fine-tuning, measured on development examples. They are made before the first step, now and then, and at the end of
/// each stage; batches and lengths are as in `adapt.finetune`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ProbeConfig {
    /// Steps between two of them: a multiple of `pretrain.checkpoint_every`.
    pub every: u64,
    /// The part of the training labels that they learn from.
    pub budget: Fraction,
    /// Repetitions with other labels, orders and heads. Their spread is the noise that gates compare with.
    pub num_seeds: u64,
    /// Steps of fine-tuning.
    pub num_steps: u64,
    /// The peak learning rate of fine-tuning.
    pub learning_rate: f64,
}

impl Default for ProbeConfig {
    fn default() -> Self {
        let budget = Fraction::new(0.1).expect("a literal in range");
        Self { every: 1000, budget, num_seeds: 3, num_steps: 60, learning_rate: 1e-3 }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: "domain".into(),
            seed: Seed(1),
            data: ".".into(),
            corpus: CorpusConfig::default(),
            check: BTreeMap::new(),
            reference: ReferenceConfig::default(),
            tokenizer: TokenizerConfig::default(),
            model: ModelConfig::default(),
            pretrain: PretrainConfig::default(),
            stage: Vec::new(),
            probe: None,
            adapt: AdaptConfig::default(),
            task: BTreeMap::new(),
        }
    }
}

impl Default for AdaptConfig {
    fn default() -> Self {
        let part = |value| Fraction::new(value).expect("a literal in range");
        Self {
            budgets: [0.01, 0.05, 0.1, 0.25, 0.5, 1.0].map(part).to_vec(),
            num_seeds: 5,
            learning_rates: vec![3e-4, 1e-3, 3e-3],
            tune_budget: part(0.25),
            max_dev_examples: 500,
            finetune: FinetuneConfig::default(),
            adapter: None,
            adapters: BTreeMap::new(),
            baseline: BaselineConfig::default(),
            num_resamples: 1000,
        }
    }
}

/// A domain that is ready to run.
#[derive(Clone, Debug)]
pub struct Domain {
    /// The configuration with its origins.
    pub loaded: Loaded<Config>,
    /// The text of `arable.toml` as it was written.
    pub written: String,
    /// The folder that paths of sources and tasks begin at.
    pub root: PathBuf,
    /// The model to go on from, if there is one.
    pub base: Option<Base>,
    /// What is known of buckets; nothing until somebody says it.
    pub store_options: StoreOptions,
}

impl Domain {
    /// Reads `path` and applies `sets` of the form `key.path=value`.
    ///
    /// # Errors
    /// When the file cannot be read or says what cannot be.
    pub fn load(path: &Path, sets: &[String]) -> Result<Self> {
        let loaded = config::load::<Config>(path, sets).advise()?;
        let written = fs_err::read_to_string(path)?;
        Self::of(loaded, written, path)
    }

    fn of(mut loaded: Loaded<Config>, written: String, path: &Path) -> Result<Self> {
        let set_by_flag = loaded.written.is_set("data");
        let base = if set_by_flag { Path::new(".") } else { path.parent().unwrap_or(Path::new(".")) };
        let root = base.join(&loaded.value.data);
        let root = root.canonicalize().map_err(|_| {
            let message = format!("find the folder `{}` that `data` names", root.display());
            loaded.written.rule("data", message, Some("pass the folder of your data with --set data=FOLDER"))
        });
        let root = root.advise()?;
        loaded.value.data = root.display().to_string();
        let base = open_base(&mut loaded, path.parent().unwrap_or(Path::new(".")))?;
        if let Some(base) = &base {
            starting_point::check(&loaded.value, &loaded.written, base).advise()?;
            // What a model with causal attention is trained on need not be said.
            if base.architecture.style().is_causal {
                loaded.value.pretrain.clm = Some(loaded.value.pretrain.clm.unwrap_or_default());
            }
        }
        check(&loaded.value, &loaded.written, base.as_ref()).advise()?;
        Ok(Self { loaded, written, root, base, store_options: StoreOptions::new() })
    }

    /// The shape of the model. Without a base the vocabulary may turn out smaller.
    ///
    /// # Errors
    /// When the heads do not divide the width into even parts.
    pub fn architecture(&self) -> Result<Architecture> {
        match &self.base {
            Some(base) => Ok(base.architecture.clone()),
            None => Ok(self.config().model.architecture(self.config().tokenizer.vocab_size)?),
        }
    }

    /// What the model is called: its size, or the family of the one to go on from.
    pub(crate) fn model_name(&self) -> &'static str {
        self.base.as_ref().map_or(self.config().model.size.name(), |base| base.family().name())
    }

    /// The model's part of the configuration without the place of a folder: what is in the folder counts, not where it is.
    pub(crate) fn model_identity(&self) -> ModelConfig {
        ModelConfig { from: None, ..self.config().model.clone() }
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.loaded.value
    }

    /// The digest of the resolved configuration: the run's identity.
    pub fn digest(&self) -> Digest {
        Digest::of_json(self.config())
    }
}

/// The folder that `model.from` names, made absolute.
fn open_base(loaded: &mut Loaded<Config>, beside: &Path) -> Result<Option<Base>> {
    let Some(from) = &loaded.value.model.from else { return Ok(None) };
    let beside = if loaded.written.is_set("model.from") { Path::new(".") } else { beside };
    let folder = beside.join(from);
    let folder = folder.canonicalize().map_err(|_| {
        let hint = "name a folder with `config.json`, `model.safetensors` and `tokenizer.json`";
        loaded.written.rule("model.from", format!("find the folder `{}`", folder.display()), Some(hint))
    });
    let folder = folder.advise()?;
    loaded.value.model.from = Some(folder.display().to_string());
    Ok(Some(Base::open(&folder)?))
}

/// Rules across values.
fn check(config: &Config, written: &Written, base: Option<&Base>) -> Result<(), ConfigError> {
    let rule = |holds: bool, key: &str, message: String, hint: &str| {
        if holds { Ok(()) } else { Err(written.rule(key, message, Some(hint))) }
    };
    let name_fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let is_name = !config.name.is_empty() && config.name.chars().all(name_fits) && !config.name.starts_with('.');
    rule(is_name, "name", format!("use `{}` as `name`", config.name), "letters, digits, `-`, `_` and `.` make a name")?;
    let some_source = !config.corpus.source.is_empty();
    rule(some_source, "corpus", "find any `corpus.source`".into(), "add a [[corpus.source]] with `name` and `path`")?;
    if let Some(near) = &config.corpus.dedup.near {
        let counts = near.ngram.min(near.num_bands).min(near.rows_per_band);
        let message = "look for near-duplicates with counts of 0".to_owned();
        rule(counts > 0, "corpus.dedup.near", message, "ngram, num_bands and rows_per_band are at least 1")?;
    }
    if let Some((key, message, hint)) = config.corpus.sample.as_ref().and_then(SampleConfig::flaw) {
        return Err(written.rule(&format!("corpus.sample.{key}"), message, Some(hint)));
    }
    let architecture = shape(config, written, base)?;
    let most = architecture.max_length();
    check_adapters(config, written, &architecture, base.is_some())?;
    let message = "extend the vocabulary of no model".to_owned();
    let hint = "leave it out: a vocabulary that is trained here is the domain's own; or name a model with `model.from`";
    rule(config.tokenizer.extend.is_none() || base.is_some(), "tokenizer.extend", message, hint)?;
    let is_causal = base.is_some_and(|base| base.architecture.style().is_causal);
    let message = "train an encoder on next tokens".to_owned();
    let hint = "leave `clm` out: encoders find hidden tokens, as `mlm` says";
    rule(config.pretrain.clm.is_none() || is_causal, "pretrain.clm", message, hint)?;
    let length = config.adapt.finetune.max_length;
    let message = format!("use `adapt.finetune.max_length` = {length} with `model.max_position_embeddings` = {most}");
    let hint = "a length is at least 8 and at most what the model takes";
    rule((8..=most).contains(&length), "adapt.finetune.max_length", message, hint)?;
    check_stages(config, written, most)?;
    let pretrain = &config.pretrain;
    for (key, value) in
        [("pretrain.held_out_every", pretrain.held_out_every), ("pretrain.checkpoint_every", pretrain.checkpoint_every)]
    {
        rule(value > 0, key, format!("use `{key}` = 0"), "count steps from 1")?;
    }
    check_probe(config, written)?;
    let rates = &config.adapt.learning_rates;
    let rates_fit = rates.iter().all(|rate| rate.is_finite() && *rate > 0.0) && !rates.is_empty();
    rule(rates_fit, "adapt.learning_rates", "use the learning rates".into(), "a learning rate is above 0")?;
    let budgets = &config.adapt.budgets;
    let rising = !budgets.is_empty() && budgets.windows(2).all(|pair| pair[0] < pair[1]);
    rule(rising, "adapt.budgets", "use `adapt.budgets`".into(), "write budgets in rising order, such as [0.1, 1.0]")?;
    let counts =
        config.adapt.num_seeds > 0 && config.adapt.max_dev_examples > 0 && config.adapt.finetune.batch_size > 0;
    rule(
        counts,
        "adapt",
        "use counts of 0 in `adapt`".into(),
        "num_seeds, max_dev_examples and batch_size are at least 1",
    )?;
    for (name, task) in &config.task {
        let key = format!("task.{name}.markers");
        let message = format!("use markers in the {} task `{name}`", task.kind.name());
        rule(
            task.markers.is_empty() || task.kind != TaskKind::Tagging,
            &key,
            message,
            "markers are for classification",
        )?;
    }
    Ok(())
}

/// The shape of the model.
fn shape(config: &Config, written: &Written, base: Option<&Base>) -> Result<Architecture, ConfigError> {
    if let Some(base) = base {
        return Ok(base.architecture.clone());
    }
    let hint = Some("64 is a good width of a head");
    let architecture = config.model.architecture(config.tokenizer.vocab_size);
    architecture.map_err(|error| written.rule("model", error.to_string(), hint))
}

/// Rules of the adapters: of the stages' and of the tasks'.
fn check_adapters(
    config: &Config,
    written: &Written,
    architecture: &Architecture,
    has_base: bool,
) -> Result<(), ConfigError> {
    let check = |key: &str, adapter: &AdapterConfig| {
        let fits = adapter.check(architecture);
        fits.map_err(|error| written.rule(key, error.to_string(), error.hint().as_deref()))
    };
    for (idx, stage) in plan::stages(config).iter().enumerate() {
        let Some(adapter) = &stage.pretrain.adapter else { continue };
        let key = match config.stage.get(idx).filter(|stage| stage.adapter.is_some()) {
            Some(stage) => format!("stage.{}.adapter", stage.name),
            None => "pretrain.adapter".to_owned(),
        };
        check(&key, adapter)?;
        if matches!(adapter, AdapterConfig::Bottleneck(_)) {
            let message = "merge bottlenecks into the weights at the end of a stage".to_owned();
            let hint = "what follows goes on from merged weights; take another kind of adapter";
            return Err(written.rule(&key, message, Some(hint)));
        }
        if idx == 0 && !has_base {
            let message = "train an adapter on a model that was never trained".to_owned();
            let hint = "put a stage without an adapter before it, or name a model with `model.from`";
            return Err(written.rule(&key, message, Some(hint)));
        }
    }
    config.adapt.adapter.iter().try_for_each(|adapter| check("adapt.adapter", adapter))?;
    for (task, adapter) in &config.adapt.adapters {
        let key = format!("adapt.adapters.{task}");
        if !config.task.contains_key(task) {
            let tasks = config.task.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            let hint = format!("the tasks are: {tasks}");
            return Err(written.rule(&key, format!("adapt to the task `{task}`"), Some(&hint)));
        }
        check(&key, adapter)?;
    }
    Ok(())
}

/// Rules of the probes.
/// Why tasks cannot be trained on beside text, with a hint.
fn joint_flaw(config: &Config, tasks: &TasksConfig) -> Option<(String, &'static str)> {
    if let Some(name) = tasks.shares.keys().find(|name| !config.task.contains_key(*name)) {
        return Some((format!("train on task `{name}`"), "name a [task.NAME] of the configuration"));
    }
    let shares = tasks.shares.values().all(|share| share.is_finite() && *share >= 0.0);
    if config.task.is_empty() || !shares || (!tasks.shares.is_empty() && tasks.shares.values().sum::<f64>() == 0.0) {
        return Some(("train on no task".into(), "add a [task.NAME], and shares above 0"));
    }
    if tasks.batch_size == 0 {
        return Some(("train on batches of 0 examples".into(), "`batch_size` is at least 1"));
    }
    // What was trained on all labels cannot say what few of them are worth.
    let few = config.adapt.budgets.iter().find(|budget| budget.get() < 1.0);
    few.map(|budget| {
        let message = format!("measure {} % of the labels after a stage that trains on all", 100.0 * budget.get());
        (message, "set `adapt.budgets = [1.0]`: what was trained on all labels cannot say what few are worth")
    })
}

fn check_probe(config: &Config, written: &Written) -> Result<(), ConfigError> {
    let Some(probe) = &config.probe else { return Ok(()) };
    let rule = |key: &str, message: String, hint: &str| Err(written.rule(&format!("probe{key}"), message, Some(hint)));
    if config.task.is_empty() {
        return rule("", "probe without a task".into(), "add a [task.NAME], or remove [probe]");
    }
    let every = config.pretrain.checkpoint_every;
    if probe.every == 0 || !probe.every.is_multiple_of(every) {
        let message = format!("probe every {} steps with a checkpoint every {every}", probe.every);
        return rule(
            ".every",
            message,
            "probes are made at checkpoints: give a multiple of `pretrain.checkpoint_every`",
        );
    }
    if probe.num_seeds < 2 {
        let message = format!("tell noise from {} repetition", probe.num_seeds);
        return rule(".num_seeds", message, "2 or more");
    }
    if probe.num_steps == 0 {
        return rule(".num_steps", "fine-tune for 0 steps".into(), "1 or more");
    }
    if !(probe.learning_rate.is_finite() && probe.learning_rate > 0.0) {
        let message = format!("use a learning rate of {}", probe.learning_rate);
        return rule(".learning_rate", message, "a learning rate is above 0");
    }
    Ok(())
}

/// Rules of the plan.
fn check_stages(config: &Config, written: &Written, most: usize) -> Result<(), ConfigError> {
    let sources: Vec<&str> = config.corpus.source.iter().map(|source| source.name.as_str()).collect();
    for (idx, stage) in plan::stages(config).iter().enumerate() {
        let key = |setting: &str| match config.stage.get(idx) {
            Some(stage) => format!("stage.{}.{setting}", stage.name),
            None => format!("pretrain.{setting}"),
        };
        if let Some((setting, message, hint)) = stage.flaw(most, &sources) {
            return Err(written.rule(&key(setting), message, Some(hint)));
        }
        if let Some((message, hint)) = stage.pretrain.tasks.as_ref().and_then(|tasks| joint_flaw(config, tasks)) {
            return Err(written.rule(&key("tasks"), message, Some(hint)));
        }
        if let Some(CurriculumConfig { by, .. }) = &stage.pretrain.curriculum {
            let place = key("curriculum.by");
            check_order(&place, by, &config.corpus)
                .map_err(|error| written.rule(&place, error.to_string(), error.hint().as_deref()))?;
        }
    }
    for (idx, stage) in config.stage.iter().enumerate() {
        let fits = !stage.name.is_empty()
            && stage.name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        let is_new = config.stage[..idx].iter().all(|before| before.name != stage.name);
        if !(fits && is_new) || stage.name == plan::ALONE {
            let message = format!("call a stage `{}`", stage.name);
            let hint = "a stage has a name of its own of lower-case letters, digits and `-`, other than `pretrain`";
            return Err(written.rule("stage", message, Some(hint)));
        }
    }
    Ok(())
}
