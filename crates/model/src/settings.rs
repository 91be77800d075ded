//! `config.json`, read and written.

use arable_core::Hint;
use serde_json::{Map, Value, json};

use crate::config::{Architecture, Local, Positions};
use crate::families::Family;

/// A `config.json` that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// A model that Arable has no code for.
    #[error("build a model of `model_type` = {found}")]
    Family {
        /// What stands there.
        found: String,
    },
    /// A setting that Arable has no code for.
    #[error("use `{key}` = {value}")]
    Unsupported {
        /// The setting.
        key: String,
        /// Its value.
        value: String,
        /// What to do.
        hint: &'static str,
    },
    /// A setting that is missing or of another type.
    #[error("find a number as `{key}`")]
    Number {
        /// The setting.
        key: &'static str,
    },
}

impl Hint for SettingsError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Family { .. } => {
                let names: Vec<&str> = Family::ALL.into_iter().map(Family::name).collect();
                Some(format!("Arable builds models of {}, as `transformers` saves them", names.join(", ")))
            }
            Self::Unsupported { hint, .. } => Some((*hint).to_owned()),
            Self::Number { .. } => Some("use the `config.json` that belongs to the weights".to_owned()),
        }
    }
}

/// Settings that only others read.
const CARRIED: [&str; 6] =
    ["pad_token_id", "bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id", "decoder_start_token_id"];

/// What is read.
struct Settings<'a>(&'a Value);

impl Settings<'_> {
    fn some_count(&self, key: &'static str) -> Option<usize> {
        self.0[key].as_u64().map(|count| count as usize)
    }

    fn count(&self, key: &'static str) -> Result<usize, SettingsError> {
        self.some_count(key).ok_or(SettingsError::Number { key })
    }

    fn number(&self, key: &'static str) -> Result<f64, SettingsError> {
        self.0[key].as_f64().ok_or(SettingsError::Number { key })
    }

    /// The base of rotary positions, in the layout of newer and of older versions.
    fn theta(&self, newer: &str, older: &str, usual: f64) -> f64 {
        self.0.pointer(newer).and_then(Value::as_f64).or(self.0[older].as_f64()).unwrap_or(usual)
    }

    /// Refuses what there is no code for.
    fn check(&self, family: Family) -> Result<(), SettingsError> {
        for &(place, allowed, hint) in family.files().fixed {
            let found = self.0.pointer(place).filter(|found| !found.is_null()).map(Value::to_string);
            if let Some(value) = found.filter(|found| !allowed.contains(&found.as_str())) {
                let key = place.trim_start_matches('/').replace('/', ".");
                return Err(SettingsError::Unsupported { key, value, hint });
            }
        }
        let types = self.0["layer_types"].as_array().map(Vec::as_slice).unwrap_or_default();
        match types.iter().find(|found| family.style().is_causal && *found != "full_attention") {
            Some(found) => Err(SettingsError::Unsupported {
                key: "layer_types".to_owned(),
                value: found.to_string(),
                hint: "use a base in which every layer sees all that is before it",
            }),
            None => Ok(()),
        }
    }

    fn positions(&self, family: Family) -> Result<Positions, SettingsError> {
        Ok(match family {
            Family::ModernBert => {
                let local = Local {
                    window: self.count("local_attention")?,
                    global_every: self.count("global_attn_every_n_layers")?.max(1),
                    theta: self.theta("/rope_parameters/sliding_attention/rope_theta", "local_rope_theta", 10_000.0),
                };
                let theta = self.theta("/rope_parameters/full_attention/rope_theta", "global_rope_theta", 160_000.0);
                Positions::Rotary { theta, local: Some(local) }
            }
            Family::Bert => {
                Positions::Learned { num_before: 0, num_types: self.some_count("type_vocab_size").unwrap_or(2) }
            }
            // RoBERTa counts from the place after its padding token's.
            Family::Roberta => Positions::Learned {
                num_before: self.some_count("pad_token_id").unwrap_or(1) + 1,
                num_types: self.some_count("type_vocab_size").unwrap_or(1),
            },
            Family::Llama | Family::Qwen2 | Family::Qwen3 => {
                let theta = self.theta("/rope_parameters/rope_theta", "rope_theta", 10_000.0);
                Positions::Rotary { theta, local: None }
            }
        })
    }
}

impl Architecture {
    /// Reads the `config.json` of any `transformers` version.
    ///
    /// # Errors
    /// When it is of another family, says what there is no code for, or lacks a number.
    pub(crate) fn from_json(config: &Value) -> Result<Self, SettingsError> {
        let is_of = |family: &Family| config["model_type"] == family.name();
        let unknown = || SettingsError::Family { found: config["model_type"].to_string() };
        let family = Family::ALL.into_iter().find(is_of).ok_or_else(unknown)?;
        let (settings, style) = (Settings(config), family.style());
        settings.check(family)?;
        let key = family.files().activation;
        let called = config[key].as_str().unwrap_or(style.activations[0].0);
        let activation = style.activations.iter().find(|(name, _)| *name == called);
        let activation = activation.ok_or_else(|| SettingsError::Unsupported {
            key: key.to_owned(),
            value: called.to_owned(),
            hint: "Arable has the family's usual activations alone",
        })?;
        let (hidden_size, num_attention_heads) =
            (settings.count("hidden_size")?, settings.count("num_attention_heads")?);
        let carried = CARRIED.iter().filter_map(|key| Some(((*key).to_owned(), config.get(*key)?.clone())));
        Ok(Self {
            family,
            vocab_size: settings.count("vocab_size")?,
            hidden_size,
            num_hidden_layers: settings.count("num_hidden_layers")?,
            num_attention_heads,
            num_key_value_heads: settings.some_count("num_key_value_heads").unwrap_or(num_attention_heads),
            head_dim: settings.some_count("head_dim").unwrap_or(hidden_size / num_attention_heads.max(1)),
            intermediate_size: settings.count("intermediate_size")?,
            activation: activation.1,
            positions: settings.positions(family)?,
            max_position_embeddings: settings.count("max_position_embeddings")?,
            norm_eps: settings.number(family.files().norm_eps)?,
            // Decoders have a table of their own unless it is said.
            is_tied: config["tie_word_embeddings"].as_bool().unwrap_or(!style.is_causal),
            initializer_range: config["initializer_range"].as_f64().unwrap_or(0.02),
            carried: carried.collect(),
        })
    }

    /// The `config.json` that `transformers` reads, of versions with and without `rope_parameters`.
    pub(crate) fn to_json(&self) -> Value {
        let (files, style) = (self.family.files(), self.style());
        let called = style.activations.iter().find(|(_, activation)| *activation == self.activation);
        let mut value = json!({
            "model_type": files.model_type,
            "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size,
            "num_hidden_layers": self.num_hidden_layers,
            "num_attention_heads": self.num_attention_heads,
            "intermediate_size": self.intermediate_size,
            "max_position_embeddings": self.max_position_embeddings,
            files.norm_eps: self.norm_eps,
            files.activation: called.expect("a family's models have its activations").0,
            "initializer_range": self.initializer_range,
            "tie_word_embeddings": self.is_tied,
            "dtype": "float32",
            "torch_dtype": "float32",
        });
        let written = serde_json::from_str(files.written).expect("a table of this program is JSON");
        for more in [written, self.positions_to_json(), Value::Object(self.carried.clone())] {
            let object = value.as_object_mut().expect("made as an object");
            object.extend(more.as_object().cloned().into_iter().flatten());
        }
        value
    }

    fn positions_to_json(&self) -> Value {
        let rope = |theta: f64| json!({ "rope_type": "default", "rope_theta": theta });
        match self.positions {
            Positions::Learned { num_types, .. } => json!({ "type_vocab_size": num_types }),
            Positions::Rotary { theta, local: None } => json!({
                "num_key_value_heads": self.num_key_value_heads,
                "head_dim": self.head_dim,
                "rope_theta": theta,
                "rope_parameters": rope(theta),
            }),
            Positions::Rotary { theta, local: Some(local) } => {
                let kind = |idx| if self.local(idx).is_none() { "full_attention" } else { "sliding_attention" };
                json!({
                    "local_attention": local.window,
                    "global_attn_every_n_layers": local.global_every,
                    "global_rope_theta": theta,
                    "local_rope_theta": local.theta,
                    "layer_types": (0..self.num_hidden_layers).map(kind).collect::<Vec<_>>(),
                    "rope_parameters": { "full_attention": rope(theta), "sliding_attention": rope(local.theta) },
                })
            }
        }
    }
}

/// The settings of classes, where a head has any.
pub(crate) fn labels_to_json(labels: &[String]) -> Map<String, Value> {
    let mut settings = Map::new();
    if !labels.is_empty() {
        let by_id: Map<String, Value> =
            labels.iter().enumerate().map(|(idx, label)| (idx.to_string(), json!(label))).collect();
        let by_label: Map<String, Value> =
            labels.iter().enumerate().map(|(idx, label)| (label.clone(), json!(idx))).collect();
        settings.insert("id2label".into(), Value::Object(by_id));
        settings.insert("label2id".into(), Value::Object(by_label));
    }
    settings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ModelConfig;

    /// A `config.json` of each family.
    fn configs() -> Vec<Value> {
        let of = |family: Family| {
            json!({
                "model_type": family.name(), "vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 3,
                "num_attention_heads": 4, "intermediate_size": 48, "max_position_embeddings": 64,
                family.files().norm_eps: 1e-6, "local_attention": 8, "global_attn_every_n_layers": 3, "pad_token_id": 1,
            })
        };
        Family::ALL.into_iter().map(of).collect()
    }

    #[test]
    fn what_is_written_is_read() {
        let own = ModelConfig::default().architecture(500).unwrap();
        assert_eq!(Architecture::from_json(&own.to_json()).unwrap(), own);
        for config in configs() {
            let read = Architecture::from_json(&config).unwrap();
            assert_eq!(Architecture::from_json(&read.to_json()).unwrap(), read);
        }
    }

    #[test]
    fn what_there_is_no_code_for_is_refused_with_advice() {
        for (model_type, key, value) in [
            ("gpt2", "vocab_size", json!(50)),
            ("modernbert", "mlp_bias", json!(true)),
            ("bert", "position_embedding_type", json!("relative_key")),
            ("bert", "hidden_act", json!("relu")),
            ("roberta", "is_decoder", json!(true)),
            ("llama", "rope_scaling", json!({ "rope_type": "llama3", "factor": 8.0 })),
            ("llama", "attention_bias", json!(true)),
            ("qwen2", "use_sliding_window", json!(true)),
            ("qwen3", "rope_parameters", json!({ "rope_type": "yarn" })),
            ("qwen3", "layer_types", json!(["full_attention", "sliding_attention"])),
            ("llama", "hidden_size", json!("wide")),
        ] {
            let mut config =
                configs().into_iter().find(|config| config["model_type"] == model_type).unwrap_or_default();
            config["model_type"] = json!(model_type);
            config[key] = value;
            let error = Architecture::from_json(&config).unwrap_err();
            assert!(error.hint().is_some(), "{error}");
            assert!(model_type == "gpt2" || error.to_string().contains(key), "{error}");
        }
    }
}
