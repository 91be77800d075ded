//! Sizes and shapes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The `[model]` part of a configuration: a size by name, and numbers that depart from it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ModelConfig {
    /// The size that numbers left out are taken from.
    pub size: Size,
    /// Width of a token's representation.
    pub hidden_size: Option<usize>,
    /// Number of layers.
    pub num_hidden_layers: Option<usize>,
    /// Attention heads in a layer; must divide `hidden_size` into even parts.
    pub num_attention_heads: Option<usize>,
    /// Width inside the gated feed-forward part.
    pub intermediate_size: Option<usize>,
    /// Tokens that a local layer sees: half of it to either side.
    pub local_attention: Option<usize>,
    /// Every how many layers one sees everything.
    pub global_attn_every_n_layers: Option<usize>,
    /// The longest sequence, in tokens.
    pub max_position_embeddings: Option<usize>,
}

/// Named sizes. The counts of parameters are for a vocabulary of 8,192.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Size {
    /// 4 layers of width 128: about 1.6 M parameters, 0.8 M with a vocabulary of 2,048.
    Nano,
    /// 4 layers of width 256: about 4 M parameters.
    #[default]
    Mini,
    /// 6 layers of width 384: about 11 M parameters.
    Small,
    /// The published ModernBERT-base: 22 layers of width 768.
    Base,
}

impl Size {
    /// The size's name in a configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nano => "nano",
            Self::Mini => "mini",
            Self::Small => "small",
            Self::Base => "base",
        }
    }

    /// `(hidden_size, num_hidden_layers, num_attention_heads, intermediate_size)`.
    fn shape(self) -> (usize, usize, usize, usize) {
        match self {
            Self::Nano => (128, 4, 2, 192),
            Self::Mini => (256, 4, 4, 384),
            Self::Small => (384, 6, 6, 576),
            Self::Base => (768, 22, 12, 1152),
        }
    }
}

/// How a sequence becomes one vector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Pooling {
    /// The first token.
    Cls,
    /// The mean of all tokens.
    #[default]
    Mean,
}

/// Everything that fixes the shape of an encoder, named as in a Hugging Face `config.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Architecture {
    /// Pieces in the vocabulary.
    pub vocab_size: usize,
    /// Width of a token's representation.
    pub hidden_size: usize,
    /// Number of layers.
    pub num_hidden_layers: usize,
    /// Attention heads in a layer.
    pub num_attention_heads: usize,
    /// Width inside the gated feed-forward part.
    pub intermediate_size: usize,
    /// Tokens that a local layer sees: half of it to either side.
    pub local_attention: usize,
    /// Every how many layers one sees everything.
    pub global_attn_every_n_layers: usize,
    /// The longest sequence, in tokens.
    pub max_position_embeddings: usize,
    /// Base of the rotary positions in layers that see everything.
    pub global_rope_theta: f64,
    /// Base of the rotary positions in local layers.
    pub local_rope_theta: f64,
    /// Added to the variance in norms.
    pub norm_eps: f64,
    /// Standard deviation of initial weights.
    pub initializer_range: f64,
    /// Id of the padding token.
    pub pad_token_id: u32,
    /// Id of the token that begins a sequence.
    pub cls_token_id: u32,
    /// Id of the token that ends a sequence.
    pub sep_token_id: u32,
}

/// A shape that cannot be built.
#[derive(Debug, thiserror::Error)]
#[error("divide `hidden_size` = {hidden_size} into `num_attention_heads` = {num_attention_heads} parts of even width")]
pub struct ShapeError {
    hidden_size: usize,
    num_attention_heads: usize,
}

impl ModelConfig {
    /// The complete shape, with the special token ids that every Arable vocabulary begins with.
    ///
    /// # Errors
    /// When the heads do not divide the width into even parts.
    pub fn architecture(&self, vocab_size: usize) -> Result<Architecture, ShapeError> {
        let (hidden, layers, heads, intermediate) = self.size.shape();
        let (hidden_size, num_attention_heads) =
            (self.hidden_size.unwrap_or(hidden), self.num_attention_heads.unwrap_or(heads));
        if num_attention_heads == 0 || hidden_size == 0 || hidden_size % (2 * num_attention_heads) != 0 {
            return Err(ShapeError { hidden_size, num_attention_heads });
        }
        Ok(Architecture {
            vocab_size,
            hidden_size,
            num_hidden_layers: self.num_hidden_layers.unwrap_or(layers),
            num_attention_heads,
            intermediate_size: self.intermediate_size.unwrap_or(intermediate),
            local_attention: self.local_attention.unwrap_or(128),
            global_attn_every_n_layers: self.global_attn_every_n_layers.unwrap_or(3).max(1),
            max_position_embeddings: self.max_position_embeddings.unwrap_or(512),
            global_rope_theta: 160_000.0,
            local_rope_theta: 10_000.0,
            norm_eps: 1e-5,
            // Keeps the variance at any width (LeCun et al. 1998); the usual 0.02 suits a width of 2,500, and at the
            // widths here attention begins blind and training waits at the unigram loss.
            initializer_range: (hidden_size as f64).powf(-0.5),
            pad_token_id: 0,
            cls_token_id: 2,
            sep_token_id: 3,
        })
    }
}

impl Architecture {
    /// Whether layer `idx` sees everything.
    pub fn is_global(&self, layer_idx: usize) -> bool {
        layer_idx.is_multiple_of(self.global_attn_every_n_layers)
    }

    /// Floating-point operations of a forward and a backward pass for each token, with `masked_share` of the tokens
    /// decoded and sequences of `length` tokens: three times two for each weight and score used.
    pub fn flops_per_token(&self, masked_share: f64, length: usize) -> f64 {
        let (hidden, intermediate) = (self.hidden_size as f64, self.intermediate_size as f64);
        let attention: f64 = (0..self.num_hidden_layers)
            .map(|idx| if self.is_global(idx) { length } else { length.min(self.local_attention + 1) })
            .map(|seen| 2.0 * hidden * seen as f64)
            .sum();
        let layers = self.num_hidden_layers as f64 * (4.0 * hidden * hidden + 3.0 * hidden * intermediate);
        let head = masked_share * hidden * (hidden + self.vocab_size as f64);
        6.0 * (layers + attention + head)
    }

    /// The `config.json` that `transformers` reads, for versions with and without `rope_parameters`.
    pub(crate) fn to_json(&self) -> Value {
        let kind = |idx| if self.is_global(idx) { "full_attention" } else { "sliding_attention" };
        let layer_types: Vec<_> = (0..self.num_hidden_layers).map(kind).collect();
        let mut value = serde_json::to_value(self).expect("numbers have a JSON form");
        let more = json!({
            "model_type": "modernbert",
            "attention_bias": false,
            "mlp_bias": false,
            "norm_bias": false,
            "classifier_bias": false,
            "decoder_bias": true,
            "hidden_activation": "gelu",
            "classifier_activation": "gelu",
            "attention_dropout": 0.0,
            "mlp_dropout": 0.0,
            "embedding_dropout": 0.0,
            "classifier_dropout": 0.0,
            "initializer_cutoff_factor": 2.0,
            "bos_token_id": self.cls_token_id,
            "eos_token_id": self.sep_token_id,
            "tie_word_embeddings": true,
            "layer_types": layer_types,
            "rope_parameters": {
                "full_attention": { "rope_type": "default", "rope_theta": self.global_rope_theta },
                "sliding_attention": { "rope_type": "default", "rope_theta": self.local_rope_theta },
            },
            "dtype": "float32",
            "torch_dtype": "float32",
        });
        let object = value.as_object_mut().expect("a struct is an object");
        object.extend(more.as_object().cloned().into_iter().flatten());
        value
    }

    /// Reads a ModernBERT `config.json` of any `transformers` version.
    pub(crate) fn from_json(config: &Value) -> Result<Self, ConfigJsonError> {
        let mut config = config.clone();
        let theta = |kind: &str, config: &Value| config["rope_parameters"][kind]["rope_theta"].as_f64();
        let global = theta("full_attention", &config).or(config["global_rope_theta"].as_f64()).unwrap_or(160_000.0);
        let local = theta("sliding_attention", &config).or(config["local_rope_theta"].as_f64()).unwrap_or(10_000.0);
        for (key, want) in [
            ("attention_bias", json!(false)),
            ("mlp_bias", json!(false)),
            ("norm_bias", json!(false)),
            ("classifier_bias", json!(false)),
            ("hidden_activation", json!("gelu")),
            ("classifier_activation", json!("gelu")),
            ("model_type", json!("modernbert")),
        ] {
            let found = config.get(key).unwrap_or(&want);
            if *found != want {
                return Err(ConfigJsonError::Unsupported { key: key.to_owned(), value: found.to_string() });
            }
        }
        config["global_rope_theta"] = json!(global);
        config["local_rope_theta"] = json!(local);
        Ok(Self::deserialize(&config)?)
    }
}

/// A `config.json` that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigJsonError {
    /// A setting that this architecture does not have.
    #[error("use `{key}` = {value}")]
    Unsupported {
        /// The setting.
        key: String,
        /// Its value.
        value: String,
    },
    /// A setting that is missing or of the wrong type.
    #[error(transparent)]
    Shape(#[from] serde_json::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_the_parameters_they_say() {
        for (size, low, high) in [
            (Size::Nano, 0.7e6, 2e6),
            (Size::Mini, 3.5e6, 4.6e6),
            (Size::Small, 10e6, 14e6),
            (Size::Base, 1.1e8, 1.6e8),
        ] {
            let config = ModelConfig { size, ..ModelConfig::default() };
            let model =
                crate::Model::new(config.architecture(8192).unwrap(), crate::Head::MaskedLm, arable_core::Seed(1));
            let count = model.parameters().num_elements() as f64;
            assert!((low..high).contains(&count), "{size:?}: {count}");
        }
    }

    #[test]
    fn config_json_round_trip() {
        let architecture = ModelConfig::default().architecture(500).unwrap();
        assert_eq!(Architecture::from_json(&architecture.to_json()).unwrap(), architecture);
        let odd = ModelConfig { num_attention_heads: Some(3), ..ModelConfig::default() };
        assert!(odd.architecture(500).is_err());
    }
}
