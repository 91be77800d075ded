//! Sizes and shapes.

use arable_tensor::Activation;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::families::{Family, Style};

/// The `[model]` part of a configuration: a size by name, and numbers that depart from it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ModelConfig {
    /// A folder in the Hugging Face layout to go on from, itself relative to the folder of `arable.toml`: ModernBERT, BERT,
    /// RoBERTa, Llama, Qwen2 or Qwen3. It says shape and vocabulary, so that nothing else is set beside it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
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
    /// The last token, which alone has seen all others where attention is causal.
    Last,
}

/// Everything that fixes the shape of a model below its head.
#[derive(Clone, Debug, PartialEq)]
pub struct Architecture {
    /// The family, which fixes what has no number.
    pub family: Family,
    /// Pieces in the vocabulary.
    pub vocab_size: usize,
    /// Width of a token's representation.
    pub hidden_size: usize,
    /// Number of layers.
    pub num_hidden_layers: usize,
    /// Heads of queries in a layer.
    pub num_attention_heads: usize,
    /// Heads of keys and of values in a layer.
    pub num_key_value_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Width inside the feed-forward part.
    pub intermediate_size: usize,
    /// The activation of the feed-forward part.
    pub activation: Activation,
    /// How a token's place is told.
    pub positions: Positions,
    /// Places for tokens: the longest sequence, and those that the family leaves empty.
    pub max_position_embeddings: usize,
    /// Added to the variance in norms.
    pub norm_eps: f64,
    /// Whether the decoder is the table of embeddings.
    pub is_tied: bool,
    /// Standard deviation of initial weights.
    pub initializer_range: f64,
    /// Settings that only others read, such as ids of special tokens, as they stand in `config.json`.
    pub carried: Map<String, Value>,
}

/// How a token's place is told.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Positions {
    /// By turning queries and keys (Su et al. 2021).
    Rotary {
        /// The base in layers that see everything.
        theta: f64,
        /// Layers that see what is near.
        local: Option<Local>,
    },
    /// By a learned vector, to which one is added that tells the texts of a pair apart.
    Learned {
        /// Rows of the table before that of the first token.
        num_before: usize,
        /// Texts that are told apart.
        num_types: usize,
    },
}

/// Layers that see what is near.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Local {
    /// Tokens that such a layer sees: half of it to either side.
    pub window: usize,
    /// Every how many layers one sees everything.
    pub global_every: usize,
    /// The base of their rotary positions.
    pub theta: f64,
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
        let local = Local {
            window: self.local_attention.unwrap_or(128),
            global_every: self.global_attn_every_n_layers.unwrap_or(3).max(1),
            theta: 10_000.0,
        };
        let ids = json!({
            "pad_token_id": 0, "cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3,
        });
        Ok(Architecture {
            family: Family::ModernBert,
            vocab_size,
            hidden_size,
            num_hidden_layers: self.num_hidden_layers.unwrap_or(layers),
            num_attention_heads,
            num_key_value_heads: num_attention_heads,
            head_dim: hidden_size / num_attention_heads,
            intermediate_size: self.intermediate_size.unwrap_or(intermediate),
            activation: Activation::Gelu,
            positions: Positions::Rotary { theta: 160_000.0, local: Some(local) },
            max_position_embeddings: self.max_position_embeddings.unwrap_or(512),
            norm_eps: 1e-5,
            is_tied: true,
            // Keeps the variance at any width (LeCun et al. 1998); the usual 0.02 suits a width of 2,500, and at the
            // widths here attention begins blind and training waits at the unigram loss.
            initializer_range: (hidden_size as f64).powf(-0.5),
            carried: ids.as_object().cloned().unwrap_or_default(),
        })
    }
}

impl Architecture {
    /// What is the same in all models of the family.
    pub fn style(&self) -> Style {
        self.family.style()
    }

    /// The longest sequence, in tokens.
    pub fn max_length(&self) -> usize {
        match self.positions {
            Positions::Rotary { .. } => self.max_position_embeddings,
            Positions::Learned { num_before, .. } => self.max_position_embeddings - num_before,
        }
    }

    /// Layers of the kind of layer `idx` that see what is near; `None` where it sees everything.
    pub(crate) fn local(&self, layer_idx: usize) -> Option<Local> {
        let Positions::Rotary { local, .. } = self.positions else { return None };
        local.filter(|local| !layer_idx.is_multiple_of(local.global_every))
    }

    /// Floating-point operations of a forward and a backward pass for each token, with `decoded_share` of the tokens
    /// decoded and sequences of `length` tokens: three times two for each weight and score used. Behind the last attention there are
    /// decoded tokens alone.
    pub fn flops_per_token(&self, decoded_share: f64, length: usize) -> f64 {
        let (style, hidden) = (self.style(), self.hidden_size as f64);
        let inside = (self.num_attention_heads * self.head_dim) as f64;
        let keys = (self.num_key_value_heads * self.head_dim) as f64;
        let seen = |idx| match self.local(idx) {
            Some(local) => length.min(local.window + 1) as f64,
            None if style.is_causal => length as f64 / 2.0,
            None => length as f64,
        };
        let attention: f64 = (0..self.num_hidden_layers).map(|idx| 2.0 * inside * seen(idx)).sum();
        let feed_forward = (if style.is_gated { 3.0 } else { 2.0 }) * self.intermediate_size as f64;
        let num_layers = self.num_hidden_layers as f64;
        let num_behind = (num_layers - 1.0).max(0.0) + decoded_share * num_layers.min(1.0);
        let layers = hidden * (num_layers * (inside + 2.0 * keys) + num_behind * (inside + feed_forward));
        let transform = if style.lm.transform.is_some() { hidden } else { 0.0 };
        6.0 * (layers + attention + decoded_share * hidden * (transform + self.vocab_size as f64))
    }
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
    fn heads_divide_the_width() {
        let odd = ModelConfig { num_attention_heads: Some(3), ..ModelConfig::default() };
        assert!(odd.architecture(500).is_err());
    }
}
