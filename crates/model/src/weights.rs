//! Weight files in the Hugging Face layout: `config.json` and `model.safetensors`.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use arable_core::{Hint, Seed};
use fs_err as fs;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};

use crate::config::{Architecture, ConfigJsonError, Pooling};
use crate::modernbert::{Head, Model};

/// A model folder that cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// A file could not be read or written.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// `config.json` is not JSON.
    #[error("read {path} as JSON")]
    Json {
        /// The file.
        path: PathBuf,
        /// Where it goes wrong.
        source: serde_json::Error,
    },
    /// `config.json` describes something else.
    #[error("read {path} as a ModernBERT configuration")]
    Config {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        source: ConfigJsonError,
    },
    /// `model.safetensors` is damaged.
    #[error("read {path} as safetensors")]
    Safetensors {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: safetensors::SafeTensorError,
    },
    /// A weight is not in the file.
    #[error("find `{name}` in {path}")]
    Missing {
        /// The file.
        path: PathBuf,
        /// The weight.
        name: String,
    },
    /// A weight has another shape or number format.
    #[error("use `{name}` of {path}: expected {expected:?} in F32, BF16 or F16, got {got:?} in {dtype:?}")]
    Shape {
        /// The file.
        path: PathBuf,
        /// The weight.
        name: String,
        /// The shape that the configuration asks for.
        expected: Vec<usize>,
        /// The shape in the file.
        got: Vec<usize>,
        /// The number format in the file.
        dtype: Dtype,
    },
}

impl Hint for WeightsError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Io(_) => None,
            Self::Safetensors { .. } | Self::Json { .. } => {
                Some("the file is damaged or cut short; restore it or use an earlier checkpoint".into())
            }
            Self::Config { .. } => Some("Arable reads ModernBERT folders as `transformers` saves them".into()),
            Self::Missing { .. } | Self::Shape { .. } => {
                Some("config.json and model.safetensors must come from the same model".into())
            }
        }
    }
}

impl Head {
    fn architecture_name(self) -> &'static str {
        match self {
            Self::MaskedLm => "ModernBertForMaskedLM",
            Self::Sequence { .. } => "ModernBertForSequenceClassification",
            Self::Token { .. } => "ModernBertForTokenClassification",
            Self::Marked { .. } => "ArableForMarkedClassification",
        }
    }

    fn of_json(config: &Value) -> Self {
        let num_labels = config["id2label"].as_object().map_or(2, serde_json::Map::len);
        let pooling = if config["classifier_pooling"] == "mean" { Pooling::Mean } else { Pooling::Cls };
        match config["architectures"][0].as_str() {
            Some("ModernBertForSequenceClassification") => Self::Sequence { num_labels, pooling },
            Some("ModernBertForTokenClassification") => Self::Token { num_labels },
            Some("ArableForMarkedClassification") => {
                Self::Marked { num_labels, num_markers: config["num_markers"].as_u64().unwrap_or(2) as usize }
            }
            _ => Self::MaskedLm,
        }
    }
}

/// Writes `config.json` and `model.safetensors` into the existing folder `dir`. `labels` name the classes.
///
/// # Errors
/// When a file cannot be written.
pub fn save(model: &Model, labels: &[String], dir: &Path) -> Result<(), WeightsError> {
    let mut config = model.architecture().to_json();
    config["architectures"] = json!([model.head().architecture_name()]);
    if !labels.is_empty() {
        config["id2label"] = labels.iter().enumerate().map(|(idx, label)| (idx.to_string(), json!(label))).collect();
        config["label2id"] = labels.iter().enumerate().map(|(idx, label)| (label.clone(), json!(idx))).collect();
    }
    config["classifier_pooling"] = match model.head() {
        Head::Sequence { pooling: Pooling::Mean, .. } => json!("mean"),
        _ => json!("cls"),
    };
    if let Head::Marked { num_markers, .. } = model.head() {
        config["num_markers"] = json!(num_markers);
    }
    let text = serde_json::to_string_pretty(&config).expect("a configuration has a JSON form");
    fs::write(dir.join("config.json"), text + "\n")?;
    let tensors = model.parameters().iter().map(|(_, spec, value)| {
        let view = TensorView::new(Dtype::F32, spec.shape.clone(), bytemuck::cast_slice(value));
        (spec.name.clone(), view.expect("the values fill the shape"))
    });
    let metadata = [("format".to_owned(), "pt".to_owned())].into();
    let path = dir.join("model.safetensors");
    let bytes = safetensors::serialize(tensors, Some(metadata))
        .map_err(|source| WeightsError::Safetensors { path: path.clone(), source })?;
    Ok(fs::write(path, bytes)?)
}

/// Reads a folder that `save` or `transformers` wrote.
///
/// # Errors
/// When a file is missing, damaged or describes another architecture.
pub fn load(dir: &Path) -> Result<Model, WeightsError> {
    let path = dir.join("config.json");
    let config: Value = serde_json::from_slice(&fs::read(&path)?)
        .map_err(|source| WeightsError::Json { path: path.clone(), source })?;
    let architecture = Architecture::from_json(&config).map_err(|source| WeightsError::Config { path, source })?;
    let mut model = Model::new(architecture, Head::of_json(&config), Seed(0));
    let path = dir.join("model.safetensors");
    let bytes = fs::read(&path)?;
    let tensors =
        SafeTensors::deserialize(&bytes).map_err(|source| WeightsError::Safetensors { path: path.clone(), source })?;
    let specs: Vec<_> = model.parameters().iter().map(|(id, spec, _)| (id, spec.clone())).collect();
    for (id, spec) in specs {
        let missing = || WeightsError::Missing { path: path.clone(), name: spec.name.clone() };
        let bare = spec.name.strip_prefix("model.").unwrap_or(&spec.name);
        let tensor = tensors.tensor(&spec.name).or_else(|_| tensors.tensor(bare)).map_err(|_| missing())?;
        let values = floats(&tensor).filter(|_| tensor.shape() == spec.shape).ok_or_else(|| WeightsError::Shape {
            path: path.clone(),
            name: spec.name.clone(),
            expected: spec.shape.clone(),
            got: tensor.shape().to_vec(),
            dtype: tensor.dtype(),
        })?;
        model.parameters_mut().value_mut(id).copy_from_slice(&values);
    }
    Ok(model)
}

fn floats<'a>(tensor: &TensorView<'a>) -> Option<Cow<'a, [f32]>> {
    let words = || tensor.data().chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
    match tensor.dtype() {
        Dtype::F32 => Some(bytemuck::try_cast_slice(tensor.data()).map_or_else(
            |_| tensor.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
            Cow::Borrowed,
        )),
        Dtype::BF16 => Some(words().map(|bits| half::bf16::from_bits(bits).to_f32()).collect()),
        Dtype::F16 => Some(words().map(|bits| half::f16::from_bits(bits).to_f32()).collect()),
        _ => None,
    }
}
