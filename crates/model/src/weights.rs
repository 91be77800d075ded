//! Weight files in the Hugging Face layout: `config.json` and `model.safetensors`.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use arable_core::{Hint, Seed};
use arable_tensor::{ParameterId, ParameterSpec};
use fs_err as fs;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};

use crate::adapter::is_of_adapter;
use crate::config::{Architecture, Pooling};
use crate::families::{Names, names_in_files};
use crate::head::Head;
use crate::settings::{SettingsError, labels_to_json};
use crate::transformer::Model;

/// The file with all weights, and the one that says which files they are spread over.
const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

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
    #[error("read the model in {path}")]
    Config {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        source: SettingsError,
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
            Self::Config { source, .. } => source.hint(),
            Self::Missing { .. } | Self::Shape { .. } => {
                Some("config.json and model.safetensors must come from the same model".into())
            }
        }
    }
}

/// What the class that a model was saved as says of its head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    /// No head at all.
    Bare,
    Headed(Head),
}

impl Class {
    fn of_json(config: &Value, architecture: &Architecture) -> Self {
        let num_labels = config["id2label"].as_object().map_or(2, serde_json::Map::len);
        let pooling = match (architecture.style().pooling, config["classifier_pooling"].as_str()) {
            (Pooling::Mean, Some("mean")) => Pooling::Mean,
            (Pooling::Mean, _) => Pooling::Cls,
            (pooling, _) => pooling,
        };
        let name = config["architectures"][0].as_str().unwrap_or_default();
        let num_markers = || config["num_markers"].as_u64().unwrap_or(2) as usize;
        match name.split_once("For") {
            Some((_, "SequenceClassification")) => Self::Headed(Head::Sequence { num_labels, pooling }),
            Some((_, "TokenClassification")) => Self::Headed(Head::Token { num_labels }),
            Some((_, "MarkedClassification")) => Self::Headed(Head::Marked { num_labels, num_markers: num_markers() }),
            None if name.ends_with("Model") => Self::Bare,
            _ => Self::Headed(Head::lm(architecture)),
        }
    }
}

fn class_name(model: &Model) -> String {
    let class = model.architecture().family.files().class;
    match model.head() {
        Head::MaskedLm => format!("{class}ForMaskedLM"),
        Head::CausalLm => format!("{class}ForCausalLM"),
        Head::Sequence { .. } => format!("{class}ForSequenceClassification"),
        Head::Token { .. } => format!("{class}ForTokenClassification"),
        Head::Marked { .. } => "ArableForMarkedClassification".to_owned(),
    }
}

/// The names of the weights in the family's files, those of the head included.
fn tables(architecture: &Architecture, head: Head) -> [Names; 2] {
    let files = architecture.family.files();
    let of_head = match head {
        Head::MaskedLm | Head::CausalLm => files.lm,
        Head::Sequence { .. } => files.sequence,
        Head::Token { .. } => files.token,
        Head::Marked { .. } => &[],
    };
    [files.names, of_head]
}

/// The shapes of what a weight holds, stacked row by row: all of it, queries and keys and values, or two halves.
fn shapes_in_files(architecture: &Architecture, spec: &ParameterSpec, num_parts: usize) -> Vec<Vec<usize>> {
    let heads = [architecture.num_attention_heads, architecture.num_key_value_heads, architecture.num_key_value_heads];
    let with_rows =
        |rows: usize| spec.shape.iter().enumerate().map(|(idx, &len)| if idx == 0 { rows } else { len }).collect();
    match num_parts {
        3 => heads.iter().map(|num| with_rows(num * architecture.head_dim)).collect(),
        _ => vec![with_rows(spec.shape[0] / num_parts); num_parts],
    }
}

/// A weight of ours as it stands in files: names with shapes.
pub(crate) fn in_files(model: &Model, spec: &ParameterSpec) -> Vec<(String, Vec<usize>)> {
    let names = names_in_files(tables(model.architecture(), model.head()), &spec.name);
    let shapes = shapes_in_files(model.architecture(), spec, names.len());
    names.into_iter().zip(shapes).collect()
}

/// Writes `config.json` and `model.safetensors` into the existing folder `dir`, without what adapters change. `labels` name
/// the classes.
///
/// # Errors
/// When a file cannot be written.
pub fn save(model: &Model, labels: &[String], dir: &Path) -> Result<(), WeightsError> {
    let mut config = model.architecture().to_json();
    config["architectures"] = json!([class_name(model)]);
    config.as_object_mut().expect("made as an object").extend(labels_to_json(labels));
    if model.architecture().style().pooling == Pooling::Mean {
        config["classifier_pooling"] = match model.head() {
            Head::Sequence { pooling: Pooling::Mean, .. } => json!("mean"),
            _ => json!("cls"),
        };
    }
    if let Head::Marked { num_markers, .. } = model.head() {
        config["num_markers"] = json!(num_markers);
    }
    let text = serde_json::to_string_pretty(&config).expect("a configuration has a JSON form");
    fs::write(dir.join("config.json"), text + "\n")?;
    let mut tensors = Vec::new();
    for (_, spec, mut value) in model.parameters().iter().filter(|(_, spec, _)| !is_of_adapter(spec)) {
        for (name, shape) in in_files(model, spec) {
            let (part, rest) = value.split_at(shape.iter().product());
            let view = TensorView::new(Dtype::F32, shape, bytemuck::cast_slice(part));
            tensors.push((name, view.expect("the values fill the shape")));
            value = rest;
        }
    }
    let metadata = [("format".to_owned(), "pt".to_owned())].into();
    let path = dir.join(WEIGHTS);
    let bytes = safetensors::serialize(tensors, Some(metadata))
        .map_err(|source| WeightsError::Safetensors { path: path.clone(), source })?;
    Ok(fs::write(path, bytes)?)
}

/// Reads a folder that `save` or `transformers` wrote.
///
/// # Errors
/// When a file is missing, damaged or describes what there is no code for, or when a weight is missing.
pub fn load(dir: &Path) -> Result<Model, WeightsError> {
    let (config, architecture) = read_config(dir)?;
    let head = match Class::of_json(&config, &architecture) {
        Class::Headed(head) => head,
        Class::Bare => Head::lm(&architecture),
    };
    let mut model = Model::new(architecture, head, Seed(0));
    let files = Files::read(dir)?;
    let specs: Vec<_> = model.parameters().iter().map(|(id, spec, _)| (id, spec.clone())).collect();
    specs.into_iter().try_for_each(|(id, spec)| fill(&mut model, &files, id, &spec))?;
    Ok(model)
}

/// A model to go on from.
#[derive(Clone, Debug)]
pub struct Base {
    /// It, with a head over tokens of the vocabulary.
    pub model: Model,
    /// Whether the head was in the folder; or else it is a fresh one.
    pub has_head: bool,
}

/// Reads a folder for training to go on: whatever its head was, the model gets one over tokens of the vocabulary, from the
/// folder where it holds one (encoders of sentences do not), or else drawn from `seed`.
///
/// # Errors
/// As [`load`].
pub fn load_base(dir: &Path, seed: Seed) -> Result<Base, WeightsError> {
    let (_, architecture) = read_config(dir)?;
    let head = Head::lm(&architecture);
    let mut model = Model::new(architecture, head, seed);
    let files = Files::read(dir)?;
    let specs: Vec<_> = model.parameters().iter().map(|(id, spec, _)| (id, spec.clone())).collect();
    let is_below = |spec: &ParameterSpec| spec.name.starts_with("model.");
    let has_head = specs.iter().filter(|(_, spec)| !is_below(spec)).all(|(_, spec)| {
        in_files(&model, spec).iter().all(|(name, _)| files.find(name, model.architecture()).is_some())
    });
    let wanted = specs.into_iter().filter(|(_, spec)| has_head || is_below(spec));
    wanted.into_iter().try_for_each(|(id, spec)| fill(&mut model, &files, id, &spec))?;
    Ok(Base { model, has_head })
}

/// The shape that a folder's `config.json` describes.
///
/// # Errors
/// When the file is missing, damaged or describes what there is no code for.
pub fn architecture_of(dir: &Path) -> Result<Architecture, WeightsError> {
    Ok(read_config(dir)?.1)
}

fn read_config(dir: &Path) -> Result<(Value, Architecture), WeightsError> {
    let path = dir.join("config.json");
    let config: Value = serde_json::from_slice(&fs::read(&path)?)
        .map_err(|source| WeightsError::Json { path: path.clone(), source })?;
    let architecture = Architecture::from_json(&config).map_err(|source| WeightsError::Config { path, source })?;
    Ok((config, architecture))
}

/// The bytes of a folder's files of weights.
struct Files(Vec<(PathBuf, Vec<u8>)>);

/// The files in `dir` that hold weights.
///
/// # Errors
/// When the file that lists them is damaged.
pub fn weight_files(dir: &Path) -> Result<Vec<PathBuf>, WeightsError> {
    let path = dir.join(INDEX);
    if dir.join(WEIGHTS).exists() || !path.exists() {
        return Ok(vec![dir.join(WEIGHTS)]);
    }
    let index: Value = serde_json::from_slice(&fs::read(&path)?)
        .map_err(|source| WeightsError::Json { path: path.clone(), source })?;
    let names = index["weight_map"].as_object().into_iter().flat_map(serde_json::Map::values).filter_map(Value::as_str);
    // A name with a folder in it is none that `transformers` writes.
    let names: std::collections::BTreeSet<&str> = names.filter(|name| !name.contains(['/', '\\'])).collect();
    Ok(names.into_iter().map(|name| dir.join(name)).collect())
}

impl Files {
    fn read(dir: &Path) -> Result<Self, WeightsError> {
        let files: Vec<_> = weight_files(dir)?
            .into_iter()
            .map(|path| Ok((path.clone(), fs::read(path)?)))
            .collect::<Result<_, WeightsError>>()?;
        for (path, bytes) in &files {
            SafeTensors::deserialize(bytes)
                .map_err(|source| WeightsError::Safetensors { path: path.clone(), source })?;
        }
        Ok(Self(files))
    }

    /// A weight, by its name or by that which it has in files of models without a head, or in those of the first BERT.
    fn find(&self, name: &str, architecture: &Architecture) -> Option<(&Path, TensorView<'_>)> {
        let bare = name.strip_prefix(architecture.family.files().prefix).unwrap_or(name);
        let old = |name: &str| {
            name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
        };
        let names = [name.to_owned(), bare.to_owned(), old(name), old(bare)];
        self.0.iter().find_map(|(path, bytes)| {
            let tensors = SafeTensors::deserialize(bytes).ok()?;
            let tensor = names.iter().find_map(|name| tensors.tensor(name).ok())?;
            Some((path.as_path(), tensor))
        })
    }
}

/// Reads one weight.
fn fill(model: &mut Model, files: &Files, id: ParameterId, spec: &ParameterSpec) -> Result<(), WeightsError> {
    let mut at = 0;
    for (name, shape) in in_files(model, spec) {
        let first = || files.0.first().map(|(path, _)| path.clone()).unwrap_or_default();
        let missing = || WeightsError::Missing { path: first(), name: name.clone() };
        let (path, tensor) = files.find(&name, model.architecture()).ok_or_else(missing)?;
        let values = floats(&tensor).filter(|_| tensor.shape() == shape).ok_or_else(|| WeightsError::Shape {
            path: path.to_owned(),
            name: name.clone(),
            expected: shape,
            got: tensor.shape().to_vec(),
            dtype: tensor.dtype(),
        })?;
        model.parameters_mut().value_mut(id)[at..at + values.len()].copy_from_slice(&values);
        at += values.len();
    }
    Ok(())
}

pub(crate) fn floats<'a>(tensor: &TensorView<'a>) -> Option<Cow<'a, [f32]>> {
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
