//! The plan of a pretraining: its stages, each with every setting filled in.

use std::collections::BTreeMap;

use arable_core::{Count, Probability};
use arable_model::AdapterConfig;
use arable_train::curriculum::CurriculumConfig;
use arable_train::objective::clm::ClmConfig;
use arable_train::objective::consistency::ConsistencyConfig;
use arable_train::objective::contrastive::{ContrastiveConfig, PairsOf};
use arable_train::objective::denoise::DenoiseConfig;
use arable_train::objective::mlm::MlmConfig;
use arable_train::objective::rtd::RtdConfig;
use arable_train::objective::tasks::TasksConfig;
use arable_train::objective::worst_source::WorstSourceConfig;
use arable_train::pretrain::{PretrainConfig, Trained};
use arable_train::ramp::Ramp;
use arable_train::schedule::ScheduleConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::Config;

/// One stage of a plan, as it is written: what it does not say is as in `[pretrain]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StageConfig {
    /// What the stage is called; unique in the plan.
    pub name: String,
    /// Tokens to train on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub num_tokens: Option<Count>,
    /// Shares of the sources by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mixture: Option<BTreeMap<String, Ramp<f64>>>,
    /// The order in which documents are read, such as `{ by = "reading_ease", order = "falling" }`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub curriculum: Option<CurriculumConfig>,
    /// Tokens in a batch, at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_per_batch: Option<Ramp<usize>>,
    /// Tokens in a sequence, at most, special ones included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_length: Option<Ramp<usize>>,
    /// The peak learning rate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learning_rate: Option<f64>,
    /// How the learning rate rises and falls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<ScheduleConfig>,
    /// Decoupled weight decay of AdamW.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight_decay: Option<f64>,
    /// Probability of dropout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dropout: Option<Probability>,
    /// Which tokens are hidden.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mlm: Option<MlmConfig>,
    /// Next tokens are found, by models with causal attention.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clm: Option<ClmConfig>,
    /// Replaced tokens are told from original ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtd: Option<RtdConfig>,
    /// Vectors of texts that belong together are drawn together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contrastive: Option<ContrastiveConfig>,
    /// A text is made again from its vector.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub denoise: Option<DenoiseConfig>,
    /// Under a perturbation, the same is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consistency: Option<ConsistencyConfig>,
    /// Labelled examples of the tasks are trained on beside the text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tasks: Option<TasksConfig>,
    /// The source that is learned worst counts more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worst_source: Option<WorstSourceConfig>,
    /// Which weights are trained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train: Option<Trained>,
    /// Train an adapter in the place of the weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter: Option<AdapterConfig>,
    /// What must hold at the end of the stage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<GateConfig>,
}

/// What must hold at the end of a stage before the next one begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GateConfig {
    /// An SQL expression over what was measured, such as `change < -noise AND change_novels < 0.1`; `arable plan` lists
    /// the names.
    pub holds: String,
    /// What happens when it does not hold.
    #[serde(default)]
    pub on_fail: OnFail,
}

/// What happens when a gate does not hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnFail {
    /// The run stops, with exit code 3. What was trained stays.
    #[default]
    Stop,
    /// A warning, and the run goes on.
    Warn,
    /// The run goes on from where the stage began, as if it had not been, and ends with exit code 3.
    RollBack,
}

/// One stage with every setting filled in.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Stage {
    /// What it is called.
    pub name: String,
    /// How it trains.
    pub pretrain: PretrainConfig,
    /// What must hold at its end.
    pub gate: Option<GateConfig>,
}

impl Stage {
    /// The kind of its artifact.
    pub fn kind(&self) -> String {
        if self.name == ALONE { ALONE.to_owned() } else { format!("{ALONE}-{}", self.name) }
    }

    /// Optimizer steps, about: batches of mixed lengths are seldom full.
    pub fn num_steps(&self) -> u64 {
        let [from, to] = self.pretrain.tokens_per_batch.ends();
        (2.0 * self.pretrain.num_tokens.0 as f64 / (from + to) as f64).ceil() as u64
    }
}

/// The name of the only stage of a configuration without any `[[stage]]`.
pub const ALONE: &str = "pretrain";

/// The stages in order; without any `[[stage]]`, one as `[pretrain]` says.
pub fn stages(config: &Config) -> Vec<Stage> {
    let defaults = &config.pretrain;
    if config.stage.is_empty() {
        return vec![Stage { name: ALONE.to_owned(), pretrain: defaults.clone(), gate: None }];
    }
    config.stage.iter().map(|stage| stage.resolve(defaults)).collect()
}

impl StageConfig {
    fn resolve(&self, defaults: &PretrainConfig) -> Stage {
        let d = defaults.clone();
        let pretrain = PretrainConfig {
            num_tokens: self.num_tokens.unwrap_or(d.num_tokens),
            mixture: self.mixture.clone().unwrap_or(d.mixture),
            curriculum: self.curriculum.clone().or(d.curriculum),
            tokens_per_batch: self.tokens_per_batch.unwrap_or(d.tokens_per_batch),
            max_length: self.max_length.unwrap_or(d.max_length),
            learning_rate: self.learning_rate.unwrap_or(d.learning_rate),
            schedule: self.schedule.unwrap_or(d.schedule),
            weight_decay: self.weight_decay.unwrap_or(d.weight_decay),
            dropout: self.dropout.unwrap_or(d.dropout),
            mlm: self.mlm.clone().unwrap_or(d.mlm),
            clm: self.clm.or(d.clm),
            rtd: self.rtd.or(d.rtd),
            contrastive: self.contrastive.clone().or(d.contrastive),
            denoise: self.denoise.or(d.denoise),
            consistency: self.consistency.or(d.consistency),
            tasks: self.tasks.clone().or(d.tasks),
            worst_source: self.worst_source.or(d.worst_source),
            train: self.train.unwrap_or(d.train),
            adapter: self.adapter.clone().or(d.adapter),
            ..d
        };
        Stage { name: self.name.clone(), pretrain, gate: self.gate.clone() }
    }
}

/// A setting of a stage that cannot be: its key below the stage, what was tried, and a hint.
pub(crate) type Flaw = (&'static str, String, &'static str);

impl Stage {
    /// The first setting that cannot be, for a model that takes sequences of `most` tokens and a corpus with `sources`.
    pub(crate) fn flaw(&self, most: usize, sources: &[&str]) -> Option<Flaw> {
        let config = &self.pretrain;
        let lengths = config.max_length.ends();
        if let Some(length) = lengths.iter().find(|length| !(8..=most).contains(*length)) {
            let message = format!("use `max_length` = {length} with `model.max_position_embeddings` = {most}");
            return Some(("max_length", message, "a length is at least 8 and at most what the model takes"));
        }
        let batches = config.tokens_per_batch.ends();
        if let Some(idx) = (0..2).find(|&idx| batches[idx] < lengths[idx]) {
            let message = format!("fill batches of {} tokens with sequences of {}", batches[idx], lengths[idx]);
            return Some(("tokens_per_batch", message, "a batch holds at least one sequence"));
        }
        if config.num_tokens.0 == 0 {
            return Some(("num_tokens", "train on 0 tokens".into(), "give a budget such as \"50M\""));
        }
        if !(config.learning_rate.is_finite() && config.learning_rate > 0.0) {
            let message = format!("use a learning rate of {}", config.learning_rate);
            return Some(("learning_rate", message, "a learning rate is above 0"));
        }
        if !(0.0..=f64::MAX).contains(&config.train.embeddings_rate) {
            let message = format!("use an `embeddings_rate` of {}", config.train.embeddings_rate);
            return Some(("train.embeddings_rate", message, "0 freezes them, 1 trains them as the rest"));
        }
        if config.adapter.is_some() && config.train != Trained::default() {
            let message = "choose which weights are trained beside an adapter".to_owned();
            return Some(("train", message, "an adapter is trained in the place of all weights; leave `train` out"));
        }
        objective_flaw(config).or_else(|| mixture_flaw(&config.mixture, sources))
    }
}

fn objective_flaw(config: &PretrainConfig) -> Option<Flaw> {
    let objectives = config.objectives();
    let ends = objectives.iter().flat_map(|(_, weight)| weight.ends());
    if ends.into_iter().any(|end| !(0.0..=f64::MAX).contains(&end)) {
        return Some(("mlm.weight", "weigh an objective below 0".into(), "a weight is 0 or more"));
    }
    if (0..2).any(|end| objectives.iter().all(|(_, weight)| weight.ends()[end] == 0.0)) {
        return Some((
            "mlm.weight",
            "train on nothing".into(),
            "at the beginning and at the end some objective has a weight",
        ));
    }
    let (is_causal, has_tokens) =
        (config.clm.is_some(), objectives.iter().any(|(name, _)| ["mlm", "clm"].contains(name)));
    let hiding = [
        ("rtd", config.rtd.is_some()),
        ("denoise", config.denoise.is_some()),
        ("consistency", config.consistency.is_some()),
    ];
    if let Some((key, _)) = hiding.into_iter().find(|(_, is_there)| *is_there && is_causal) {
        return Some((
            key,
            format!("use `{key}` with a model of causal attention"),
            "it hides tokens, which encoders find",
        ));
    }
    if config.mlm.terms.is_some() && is_causal {
        return Some(("mlm.terms", "hide terms from a model of causal attention".into(), "leave it out"));
    }
    if config.worst_source.is_some() && !has_tokens {
        let message = "weigh sources where no tokens are to be found".to_owned();
        return Some(("worst_source", message, "it weighs the loss of `mlm` or `clm`, whose weight is 0"));
    }
    if let Some(contrastive) = &config.contrastive {
        if contrastive.pairs == PairsOf::Dropout && config.dropout.get() == 0.0 {
            let message = "tell a sequence from itself without dropout".to_owned();
            return Some(("contrastive.pairs", message, "set `dropout = 0.1`, or `pairs = \"spans\"`"));
        }
        if !(contrastive.temperature.is_finite() && contrastive.temperature > 0.0) {
            return Some(("contrastive.temperature", "use that temperature".into(), "0.05 is usual"));
        }
    }
    if let Some(rtd) = &config.rtd {
        let fits = rtd.generator_width > 0.0 && rtd.generator_width < 1.0 && rtd.generator_layers != Some(0);
        if !fits {
            let message = "make a generator of that size".to_owned();
            return Some((
                "rtd.generator_width",
                message,
                "a part of the model's width between 0 and 1, and a layer at least",
            ));
        }
    }
    None
}

fn mixture_flaw(mixture: &BTreeMap<String, Ramp<f64>>, sources: &[&str]) -> Option<Flaw> {
    const KEY: &str = "mixture";
    if let Some(name) = mixture.keys().find(|name| !sources.contains(&name.as_str())) {
        let message = format!("mix source `{name}`; there are {}", sources.join(", "));
        return Some((KEY, message, "a mixture names sources of the corpus"));
    }
    let ends = || mixture.values().map(Ramp::ends);
    if ends().flatten().any(|share| !(0.0..=f64::MAX).contains(&share)) {
        return Some((KEY, "mix shares below 0".into(), "a share is 0 or more; only their ratios count"));
    }
    let nothing = |end: usize| ends().map(|ends| ends[end]).sum::<f64>() == 0.0;
    let is_empty = !mixture.is_empty() && (nothing(0) || nothing(1));
    is_empty.then(|| (KEY, "mix nothing".into(), "at the beginning and at the end some source has a share above 0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn a_stage_is_as_pretrain_says_but_for_what_it_says() {
        assert_eq!(stages(&config("")).iter().map(Stage::kind).collect::<Vec<_>>(), ["pretrain"]);
        let plan = stages(&config(
            "pretrain.learning_rate = 1e-3\npretrain.num_tokens = '5M'\n\
             [[stage]]\nname = 'general'\nmixture = { novels = 1 }\n\
             [[stage]]\nname = 'domain'\nnum_tokens = '2M'\nmixture = { novels = [1, 0.1], notes = 3 }\n\
             max_length = [64, 128]\nschedule = { cosine = { floor = 0.1 } }\ntrain = { last_layers = 2 }\n\
             gate = { holds = 'change < 0', on_fail = 'roll_back' }",
        ));
        assert_eq!(plan[1].kind(), "pretrain-domain");
        let [general, domain] = [0, 1].map(|idx| &plan[idx].pretrain);
        assert_eq!((general.num_tokens, domain.num_tokens), (Count(5_000_000), Count(2_000_000)));
        assert_eq!((general.learning_rate, domain.learning_rate), (1e-3, 1e-3));
        assert_eq!((general.max_length.at(0.5), domain.max_length.at(0.5)), (128, 96));
        assert_eq!(plan[1].gate.as_ref().unwrap().on_fail, OnFail::RollBack);
        assert!(plan.iter().all(|stage| stage.flaw(512, &["novels", "notes"]).is_none()));
    }

    #[test]
    fn what_cannot_be_is_named() {
        for (text, key, said) in [
            ("mixture = { poems = 1 }", "mixture", "mix source `poems`"),
            ("mixture = { novels = -1 }", "mixture", "below 0"),
            ("mixture = { novels = [1, 0] }", "mixture", "mix nothing"),
            ("max_length = [64, 1024]", "max_length", "1024"),
            ("max_length = [4, 64]", "max_length", "4"),
            ("tokens_per_batch = [4096, 100]", "tokens_per_batch", "100"),
            ("num_tokens = 0", "num_tokens", "0 tokens"),
            ("learning_rate = 0.0", "learning_rate", "of 0"),
            ("train = { embeddings_rate = -1.0 }", "train.embeddings_rate", "-1"),
        ] {
            let plan = stages(&config(&format!("[[stage]]\nname = 'a'\n{text}")));
            let (found, message, _) = plan[0].flaw(512, &["novels"]).expect(text);
            assert_eq!(found, key);
            assert!(message.contains(said), "{message}");
        }
    }
}
