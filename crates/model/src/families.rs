//! Families of models: what sets them apart, how their settings and weights are called in files. Data; the code that
//! builds a model from it is in `transformer.rs`.

use arable_tensor::{Activation, NormKind};
use serde::{Deserialize, Serialize};

use crate::config::Pooling;

/// Models that are built alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// Warner et al. 2024; what Arable trains from scratch.
    ModernBert,
    /// Devlin et al. 2019, with MiniLM (Wang et al. 2020) and most encoders of sentences.
    Bert,
    /// Liu et al. 2019.
    Roberta,
    /// Touvron et al. 2023, with SmolLM.
    Llama,
    /// Yang et al. 2024.
    Qwen2,
    /// Yang et al. 2025.
    Qwen3,
}

/// Where norms stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In front of attention and feed-forward part; what they compute is added to what was not normalised.
    Before,
    /// Behind each sum.
    After,
}

/// What is the same in all models of a family.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    /// What norms divide by.
    pub norm: NormKind,
    /// Whether norms add a bias.
    pub norm_bias: bool,
    /// Where norms stand.
    pub place: Place,
    /// Whether the sum of embeddings is normalised.
    pub embeddings_norm: bool,
    /// Whether the first layer normalises its input.
    pub first_norm: bool,
    /// Whether queries, keys and values have a bias.
    pub qkv_bias: bool,
    /// Whether the other linear layers have one.
    pub bias: bool,
    /// Whether each head of queries and keys is normalised.
    pub head_norm: bool,
    /// Whether a token sees what is before it alone.
    pub is_causal: bool,
    /// Whether the feed-forward part is gated.
    pub is_gated: bool,
    /// The activations that a model may have, as `config.json` calls them; the first is the usual one.
    pub activations: &'static [(&'static str, Activation)],
    /// How a classified sequence becomes one vector.
    pub pooling: Pooling,
    /// The head over tokens of the vocabulary.
    pub lm: HeadStyle,
    /// The head over classes of sequences.
    pub sequence: HeadStyle,
    /// The head over classes of tokens.
    pub token: HeadStyle,
}

/// What a head is made of.
#[derive(Clone, Copy, Debug)]
pub struct HeadStyle {
    /// What stands before its last layer.
    pub transform: Option<Transform>,
    /// Whether its last layer has a bias.
    pub bias: bool,
}

/// A linear layer, an activation and perhaps a norm.
#[derive(Clone, Copy, Debug)]
pub struct Transform {
    /// Whether the linear layer has a bias.
    pub bias: bool,
    /// The activation; `None` is that of the layers.
    pub activation: Option<Activation>,
    /// Whether a norm follows, of the model's kind.
    pub has_norm: bool,
}

impl HeadStyle {
    /// As ModernBERT has it for everything; also the head over markers, which is ours alone.
    pub(crate) const OURS: Self = Self {
        transform: Some(Transform { bias: false, activation: Some(Activation::Gelu), has_norm: true }),
        bias: true,
    };
    /// A last layer alone.
    const BARE: Self = Self { transform: None, bias: true };
    const BARE_WITHOUT_BIAS: Self = Self { transform: None, bias: false };
    const BERT: Self = Self { transform: Some(Transform { bias: true, activation: None, has_norm: true }), bias: true };
    const POOLER: Self = Self {
        transform: Some(Transform { bias: true, activation: Some(Activation::Tanh), has_norm: false }),
        bias: true,
    };
}

const GELU: (&str, Activation) = ("gelu", Activation::Gelu);
const GELUS: [(&str, Activation); 3] =
    [GELU, ("gelu_new", Activation::GeluTanh), ("gelu_pytorch_tanh", Activation::GeluTanh)];

const MODERN_BERT_STYLE: Style = Style {
    norm: NormKind::Layer,
    norm_bias: false,
    place: Place::Before,
    embeddings_norm: true,
    first_norm: false,
    qkv_bias: false,
    bias: false,
    head_norm: false,
    is_causal: false,
    is_gated: true,
    activations: &[GELU],
    pooling: Pooling::Mean,
    lm: HeadStyle::OURS,
    sequence: HeadStyle::OURS,
    token: HeadStyle::OURS,
};

const BERT_STYLE: Style = Style {
    norm_bias: true,
    place: Place::After,
    qkv_bias: true,
    bias: true,
    is_gated: false,
    activations: &GELUS,
    pooling: Pooling::Cls,
    lm: HeadStyle::BERT,
    sequence: HeadStyle::POOLER,
    token: HeadStyle::BARE,
    ..MODERN_BERT_STYLE
};

const LLAMA_STYLE: Style = Style {
    norm: NormKind::Rms,
    embeddings_norm: false,
    first_norm: true,
    is_causal: true,
    activations: &[("silu", Activation::Silu)],
    pooling: Pooling::Last,
    lm: HeadStyle::BARE_WITHOUT_BIAS,
    sequence: HeadStyle::BARE_WITHOUT_BIAS,
    token: HeadStyle::BARE,
    ..MODERN_BERT_STYLE
};

/// The name of a part of ours and the names in files of what it holds, stacked row by row. `{}` is the number of a layer.
pub(crate) type Names = &'static [(&'static str, &'static [&'static str])];

/// A setting that has to be so where it is set: its place in `config.json`, the JSON texts that may stand there, and a
/// hint.
pub(crate) type Fixed = (&'static str, &'static [&'static str], &'static str);

/// How a family's files are written.
pub(crate) struct Files {
    /// The family's `model_type`.
    pub model_type: &'static str,
    /// What the names of its classes begin with.
    pub class: &'static str,
    /// What the names of weights begin with, but not in files of a model without a head.
    pub prefix: &'static str,
    /// What `config.json` calls the number added in norms.
    pub norm_eps: &'static str,
    /// What `config.json` calls the activation.
    pub activation: &'static str,
    /// Settings that have to be so.
    pub fixed: &'static [Fixed],
    /// More settings that are written, as JSON.
    pub written: &'static str,
    /// Names of the weights below the heads.
    pub names: Names,
    /// Names of the head over tokens of the vocabulary.
    pub lm: Names,
    /// Names of the head over classes of sequences.
    pub sequence: Names,
    /// Names of the head over classes of tokens.
    pub token: Names,
}

const NO: &[&str] = &["false", "null"];
const BIASES: &str = "Arable reads models of this family without these biases";
const ROPE: &str = "Arable has plain rotary positions alone; use a base that was not stretched to longer texts";
const WINDOW: &str = "use a base in which every layer sees all that is before it";
const ENCODER: &str = "use an encoder, with absolute positions and without cross-attention";
const GELU_ONLY: &[&str] = &["\"gelu\""];

const SCALING_TYPE: Fixed = ("/rope_scaling/type", &["\"default\""], ROPE);
const SCALING_ROPE_TYPE: Fixed = ("/rope_scaling/rope_type", &["\"default\""], ROPE);
const ROPE_TYPE: Fixed = ("/rope_parameters/rope_type", &["\"default\""], ROPE);
const ROPE_PART: Fixed = ("/rope_parameters/partial_rotary_factor", &["1.0"], ROPE);
const PART: Fixed = ("/partial_rotary_factor", &["1.0"], ROPE);

const MODERN_BERT: Files = Files {
    model_type: "modernbert",
    class: "ModernBert",
    prefix: "model.",
    norm_eps: "norm_eps",
    activation: "hidden_activation",
    fixed: &[
        ("/attention_bias", NO, BIASES),
        ("/mlp_bias", NO, BIASES),
        ("/norm_bias", NO, BIASES),
        ("/classifier_bias", NO, BIASES),
        ("/classifier_activation", GELU_ONLY, "the head's activation is GELU"),
        ("/tie_word_embeddings", &["true"], "the decoder of an encoder is tied to its embeddings"),
    ],
    written: r#"{
        "attention_bias": false, "mlp_bias": false, "norm_bias": false, "classifier_bias": false, "decoder_bias": true,
        "classifier_activation": "gelu", "attention_dropout": 0.0, "mlp_dropout": 0.0, "embedding_dropout": 0.0,
        "classifier_dropout": 0.0, "initializer_cutoff_factor": 2.0
    }"#,
    names: &[],
    lm: &[],
    sequence: &[],
    token: &[],
};

const BERT_FIXED: [Fixed; 4] = [
    ("/position_embedding_type", &["\"absolute\""], ENCODER),
    ("/is_decoder", NO, ENCODER),
    ("/add_cross_attention", NO, ENCODER),
    ("/tie_word_embeddings", &["true"], "the decoder of an encoder is tied to its embeddings"),
];

const BERT: Files = Files {
    model_type: "bert",
    class: "Bert",
    prefix: "bert.",
    norm_eps: "layer_norm_eps",
    activation: "hidden_act",
    fixed: &BERT_FIXED,
    written: r#"{ "position_embedding_type": "absolute", "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1 }"#,
    names: &[
        ("model.embeddings.tok_embeddings", &["bert.embeddings.word_embeddings"]),
        ("model.embeddings.positions", &["bert.embeddings.position_embeddings"]),
        ("model.embeddings.types", &["bert.embeddings.token_type_embeddings"]),
        ("model.embeddings.norm", &["bert.embeddings.LayerNorm"]),
        (
            "model.layers.{}.attn.Wqkv",
            &[
                "bert.encoder.layer.{}.attention.self.query",
                "bert.encoder.layer.{}.attention.self.key",
                "bert.encoder.layer.{}.attention.self.value",
            ],
        ),
        ("model.layers.{}.attn.Wo", &["bert.encoder.layer.{}.attention.output.dense"]),
        ("model.layers.{}.attn_norm", &["bert.encoder.layer.{}.attention.output.LayerNorm"]),
        ("model.layers.{}.mlp.Wi", &["bert.encoder.layer.{}.intermediate.dense"]),
        ("model.layers.{}.mlp.Wo", &["bert.encoder.layer.{}.output.dense"]),
        ("model.layers.{}.mlp_norm", &["bert.encoder.layer.{}.output.LayerNorm"]),
    ],
    lm: &[
        ("head.dense", &["cls.predictions.transform.dense"]),
        ("head.norm", &["cls.predictions.transform.LayerNorm"]),
        ("decoder", &["cls.predictions"]),
    ],
    sequence: &[("head.dense", &["bert.pooler.dense"])],
    token: &[],
};

const ROBERTA: Files = Files {
    model_type: "roberta",
    class: "Roberta",
    prefix: "roberta.",
    names: &[
        ("model.embeddings.tok_embeddings", &["roberta.embeddings.word_embeddings"]),
        ("model.embeddings.positions", &["roberta.embeddings.position_embeddings"]),
        ("model.embeddings.types", &["roberta.embeddings.token_type_embeddings"]),
        ("model.embeddings.norm", &["roberta.embeddings.LayerNorm"]),
        (
            "model.layers.{}.attn.Wqkv",
            &[
                "roberta.encoder.layer.{}.attention.self.query",
                "roberta.encoder.layer.{}.attention.self.key",
                "roberta.encoder.layer.{}.attention.self.value",
            ],
        ),
        ("model.layers.{}.attn.Wo", &["roberta.encoder.layer.{}.attention.output.dense"]),
        ("model.layers.{}.attn_norm", &["roberta.encoder.layer.{}.attention.output.LayerNorm"]),
        ("model.layers.{}.mlp.Wi", &["roberta.encoder.layer.{}.intermediate.dense"]),
        ("model.layers.{}.mlp.Wo", &["roberta.encoder.layer.{}.output.dense"]),
        ("model.layers.{}.mlp_norm", &["roberta.encoder.layer.{}.output.LayerNorm"]),
    ],
    lm: &[("head.dense", &["lm_head.dense"]), ("head.norm", &["lm_head.layer_norm"]), ("decoder", &["lm_head"])],
    sequence: &[("head.dense", &["classifier.dense"]), ("classifier", &["classifier.out_proj"])],
    ..BERT
};

const LLAMA: Files = Files {
    model_type: "llama",
    class: "Llama",
    prefix: "model.",
    norm_eps: "rms_norm_eps",
    activation: "hidden_act",
    fixed: &[
        ("/attention_bias", NO, BIASES),
        ("/mlp_bias", NO, BIASES),
        ("/pretraining_tp", &["1"], "set `pretraining_tp` to 1; it changes nothing but the order of sums"),
        SCALING_TYPE,
        SCALING_ROPE_TYPE,
        ROPE_TYPE,
        ROPE_PART,
        PART,
    ],
    written: r#"{ "attention_bias": false, "mlp_bias": false, "attention_dropout": 0.0, "use_cache": true }"#,
    names: &[
        ("model.embeddings.tok_embeddings", &["model.embed_tokens"]),
        ("model.layers.{}.attn_norm", &["model.layers.{}.input_layernorm"]),
        (
            "model.layers.{}.attn.Wqkv",
            &[
                "model.layers.{}.self_attn.q_proj",
                "model.layers.{}.self_attn.k_proj",
                "model.layers.{}.self_attn.v_proj",
            ],
        ),
        ("model.layers.{}.attn.query_norm", &["model.layers.{}.self_attn.q_norm"]),
        ("model.layers.{}.attn.key_norm", &["model.layers.{}.self_attn.k_norm"]),
        ("model.layers.{}.attn.Wo", &["model.layers.{}.self_attn.o_proj"]),
        ("model.layers.{}.mlp_norm", &["model.layers.{}.post_attention_layernorm"]),
        ("model.layers.{}.mlp.Wi", &["model.layers.{}.mlp.gate_proj", "model.layers.{}.mlp.up_proj"]),
        ("model.layers.{}.mlp.Wo", &["model.layers.{}.mlp.down_proj"]),
        ("model.final_norm", &["model.norm"]),
    ],
    lm: &[("decoder", &["lm_head"])],
    sequence: &[("classifier", &["score"])],
    token: &[("classifier", &["score"])],
};

const QWEN2: Files = Files {
    model_type: "qwen2",
    class: "Qwen2",
    fixed: &[("/use_sliding_window", NO, WINDOW), SCALING_TYPE, SCALING_ROPE_TYPE, ROPE_TYPE, ROPE_PART, PART],
    written: r#"{ "attention_dropout": 0.0, "use_cache": true, "use_sliding_window": false }"#,
    ..LLAMA
};

const QWEN3: Files = Files {
    model_type: "qwen3",
    class: "Qwen3",
    fixed: &[
        ("/attention_bias", NO, BIASES),
        ("/use_sliding_window", NO, WINDOW),
        SCALING_TYPE,
        SCALING_ROPE_TYPE,
        ROPE_TYPE,
        ROPE_PART,
        PART,
    ],
    written: r#"{ "attention_bias": false, "attention_dropout": 0.0, "use_cache": true, "use_sliding_window": false }"#,
    ..LLAMA
};

impl Family {
    /// Every family.
    pub const ALL: [Self; 6] = [Self::ModernBert, Self::Bert, Self::Roberta, Self::Llama, Self::Qwen2, Self::Qwen3];

    /// What is the same in all its models.
    pub fn style(self) -> Style {
        match self {
            Self::ModernBert => MODERN_BERT_STYLE,
            Self::Bert => BERT_STYLE,
            Self::Roberta => Style {
                lm: HeadStyle {
                    transform: Some(Transform { bias: true, activation: Some(Activation::Gelu), has_norm: true }),
                    bias: true,
                },
                ..BERT_STYLE
            },
            Self::Llama => LLAMA_STYLE,
            Self::Qwen2 => Style { qkv_bias: true, ..LLAMA_STYLE },
            Self::Qwen3 => Style { head_norm: true, ..LLAMA_STYLE },
        }
    }

    /// How its files are written.
    pub(crate) fn files(self) -> &'static Files {
        match self {
            Self::ModernBert => &MODERN_BERT,
            Self::Bert => &BERT,
            Self::Roberta => &ROBERTA,
            Self::Llama => &LLAMA,
            Self::Qwen2 => &QWEN2,
            Self::Qwen3 => &QWEN3,
        }
    }

    /// Its `model_type`.
    pub fn name(self) -> &'static str {
        self.files().model_type
    }
}

/// What the weight `name` of ours holds, stacked row by row: the names in the family's files.
pub(crate) fn names_in_files(tables: [Names; 2], name: &str) -> Vec<String> {
    let (part, kind) = name.rsplit_once('.').expect("weights are called after their parts");
    let (pattern, layer) = match part.strip_prefix("model.layers.").and_then(|rest| rest.split_once('.')) {
        Some((layer, rest)) => (format!("model.layers.{{}}.{rest}"), layer),
        None => (part.to_owned(), ""),
    };
    match tables.into_iter().flatten().find(|(ours, _)| *ours == pattern) {
        Some((_, theirs)) => theirs.iter().map(|their| format!("{}.{kind}", their.replace("{}", layer))).collect(),
        None => vec![name.to_owned()],
    }
}
