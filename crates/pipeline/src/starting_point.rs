//! Settings that a model to go on from says itself, or that do not go with it.

use crate::base::Base;
use crate::config::{ConfigError, Written};
use crate::domain::Config;

/// Settings that a folder says itself.
const OF_FOLDER: [&str; 8] = [
    "model.size",
    "model.hidden_size",
    "model.num_hidden_layers",
    "model.num_attention_heads",
    "model.intermediate_size",
    "model.local_attention",
    "model.global_attn_every_n_layers",
    "model.max_position_embeddings",
];
/// Settings of a vocabulary that is trained.
const OF_TRAINED: [&str; 3] = ["tokenizer.vocab_size", "tokenizer.min_frequency", "tokenizer.lowercase"];

/// The first setting that does not go with `base`.
pub(crate) fn check(config: &Config, written: &Written, base: &Base) -> Result<(), ConfigError> {
    let refuse = |key: &str, message: String, hint: &str| Err(written.rule(key, message, Some(hint)));
    if let Some(key) = OF_FOLDER.into_iter().find(|key| written.has(key)) {
        let hint = "leave it out: the folder says the model's shape";
        return refuse(key, format!("use `{key}` together with `model.from`"), hint);
    }
    if let Some(key) = OF_TRAINED.into_iter().find(|key| written.has(key)) {
        let hint = "leave it out: the folder has its vocabulary";
        return refuse(key, format!("use `{key}` together with `model.from`"), hint);
    }
    let name = base.family().name();
    let hidden = config.stage.iter().find(|stage| stage.mlm.is_some()).map(|stage| format!("stage.{}.mlm", stage.name));
    let hidden = hidden.or_else(|| written.has("pretrain.mlm").then(|| "pretrain.mlm".to_owned()));
    match hidden.filter(|_| base.architecture.style().is_causal) {
        Some(key) => {
            let hint = "leave `mlm` out: models with causal attention are trained on next tokens";
            refuse(&key, format!("hide tokens from a model of the family {name}"), hint)
        }
        None => Ok(()),
    }
}
