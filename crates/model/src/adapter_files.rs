//! Adapters in files, as the library PEFT lays them out: `adapter_config.json` and `adapter_model.safetensors`.
//!
//! LoRA, DoRA and IA3 are PEFT's own, and so is the head of a task beside them (`modules_to_save`). For the other kinds
//! `peft_type` is a name of ours: `ARABLE_BOTTLENECK`, `ARABLE_BITFIT` and `ARABLE_SPARSE`. What PEFT has no place for is in
//! `arable.json`: the head, the names of its classes, and the digest of the base.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use arable_core::{Digest, Hint, Probability, Seed};
use arable_tensor::ParameterSpec;
use fs_err as fs;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::adapter::{
    AdapterConfig, AdapterError, BitfitConfig, BottleneckConfig, Chosen, Given, Ia3Config, LoraConfig, Module,
    SparseConfig, prefix,
};
use crate::build::Change;
use crate::head::Head;
use crate::transformer::Model;
use crate::weights::{WeightsError, floats, in_files};

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";
const FACTS: &str = "arable.json";
/// What PEFT puts in front of the names of modules.
const ROOT: &str = "base_model.model.";

/// A folder with an adapter that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AdapterFileError {
    /// A file is missing or damaged, or a weight in it.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// What the files describe does not fit the base.
    #[error("use the adapter in {dir}")]
    Adapter {
        /// The folder.
        dir: PathBuf,
        /// Why.
        source: AdapterError,
    },
    /// A setting without code.
    #[error("use the adapter of {path}: `{setting}` is {value}")]
    Setting {
        /// The file.
        path: PathBuf,
        /// The setting.
        setting: &'static str,
        /// What it is.
        value: String,
    },
    /// A weight that belongs to nothing of the base.
    #[error("place `{name}` of {path} in the base")]
    Stranger {
        /// The file.
        path: PathBuf,
        /// The weight.
        name: String,
    },
    /// The adapter was trained on another base.
    #[error("use the adapter in {dir} on this base: it was trained on one with other weights")]
    OtherBase {
        /// The folder.
        dir: PathBuf,
    },
}

impl Hint for AdapterFileError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Weights(error) => return error.hint(),
            Self::Adapter { source, .. } => return source.hint(),
            Self::Setting { .. } => {
                "Arable reads PEFT's LORA (with DoRA and rsLoRA) and IA3 without biases, patterns of alpha or transposed \
                 weights"
                    .into()
            }
            Self::Stranger { .. } => {
                "adapters change the linear layers of layers; is the base of the same family and size?".into()
            }
            Self::OtherBase { .. } => "name the base that the adapter was trained on".into(),
        })
    }
}

/// What PEFT has no place for.
#[derive(Debug, Serialize, Deserialize)]
struct Facts {
    head: Head,
    labels: Vec<String>,
    /// The digest of the base below its head.
    base: Digest,
}

/// What a folder with an adapter says of itself.
#[derive(Clone, Debug, Serialize)]
pub struct AdapterFacts {
    /// The kind, as PEFT calls it.
    pub peft_type: String,
    /// The settings that its weights depend on.
    pub settings: String,
    /// Its numbers, those of a head included.
    pub num_parameters: usize,
    /// The size of its weights' file.
    pub num_bytes: u64,
    /// The digest of the base below its head, where it is known.
    pub base: Option<Digest>,
    /// The names of the head's classes, where they are known.
    pub labels: Vec<String>,
}

/// Reads what a folder with an adapter says of itself.
///
/// # Errors
/// When a file is missing or damaged, or describes what there is no code for.
pub fn adapter_facts(dir: &Path) -> Result<AdapterFacts, AdapterFileError> {
    let path = dir.join(CONFIG);
    let json: Value = read_json(&path)?;
    let config = config_of_json(&path, &json)?;
    let path = dir.join(WEIGHTS);
    let bytes = fs::read(&path).map_err(WeightsError::from)?;
    let tensors = SafeTensors::deserialize(&bytes).map_err(|source| WeightsError::Safetensors { path, source })?;
    let facts: Option<Facts> = if dir.join(FACTS).exists() { Some(read_json(&dir.join(FACTS))?) } else { None };
    let sizes = tensors.iter().map(|(_, tensor)| tensor.shape().iter().product::<usize>());
    Ok(AdapterFacts {
        peft_type: json["peft_type"].as_str().unwrap_or_default().to_owned(),
        settings: serde_json::to_string(&config).expect("settings have a JSON form"),
        num_parameters: sizes.sum(),
        num_bytes: bytes.len() as u64,
        base: facts.as_ref().map(|facts| facts.base),
        labels: facts.map_or(Vec::new(), |facts| facts.labels),
    })
}

/// Whether a folder holds an adapter.
pub fn has_adapter(dir: &Path) -> bool {
    dir.join(CONFIG).exists()
}

fn base_digest(model: &Model) -> Digest {
    model.parameters().digest_of(|spec| spec.name.starts_with("model."))
}

/// Writes adapter number `idx` of a model, and the head where it is a task's, into the existing folder `dir`. `labels` name
/// its classes.
///
/// # Errors
/// When a file cannot be written.
///
/// # Panics
/// When the model does not have as many adapters.
pub fn save_adapter(model: &Model, idx: usize, labels: &[String], dir: &Path) -> Result<(), WeightsError> {
    let tensors = tensors(model, idx);
    let views = tensors.iter().map(|Stored { name, shape, dtype, bytes }| {
        (format!("{ROOT}{name}"), TensorView::new(*dtype, shape.clone(), bytes).expect("the values fill the shape"))
    });
    let metadata = [("format".to_owned(), "pt".to_owned())].into();
    let path = dir.join(WEIGHTS);
    let bytes = safetensors::serialize(views, Some(metadata))
        .map_err(|source| WeightsError::Safetensors { path: path.clone(), source })?;
    fs::write(path, bytes)?;
    write_json(&dir.join(CONFIG), &config_to_json(model, idx, &tensors))?;
    let facts = Facts { head: model.head(), labels: labels.to_vec(), base: base_digest(model) };
    write_json(&dir.join(FACTS), &json!(facts))
}

fn write_json(path: &Path, value: &Value) -> Result<(), WeightsError> {
    let text = serde_json::to_string_pretty(value).expect("a value has a JSON form");
    Ok(fs::write(path, text + "\n")?)
}

/// A tensor to be written.
struct Stored {
    name: String,
    shape: Vec<usize>,
    dtype: Dtype,
    bytes: Vec<u8>,
}

impl Stored {
    fn floats(name: String, shape: Vec<usize>, values: &[f32]) -> Self {
        Self { name, shape, dtype: Dtype::F32, bytes: bytemuck::cast_slice(values).to_vec() }
    }
}

fn is_of_task_head(model: &Model, spec: &ParameterSpec) -> bool {
    let is_head = !(spec.name.starts_with("model.") || spec.name.starts_with("adapters."));
    is_head && model.head().num_labels().is_some()
}

fn tensors(model: &Model, idx: usize) -> Vec<Stored> {
    let prefix = prefix(idx);
    let mut found = Vec::new();
    for (_, spec, mut values) in model.parameters().iter() {
        if let Some(key) = spec.name.strip_prefix(&prefix) {
            found.push(Stored::floats(key.to_owned(), spec.shape.clone(), values));
        } else if is_of_task_head(model, spec) {
            for (name, shape) in in_files(model, spec) {
                let (part, rest) = values.split_at(shape.iter().product());
                found.push(Stored::floats(name, shape, part));
                values = rest;
            }
        }
    }
    found.extend(entries(model, &prefix));
    found
}

/// The places of the entries that sparse changes are of, counted in their module.
fn entries(model: &Model, prefix: &str) -> Vec<Stored> {
    let mut found = Vec::new();
    for layer in model.stack() {
        for dense in [&layer.qkv, &layer.attn_out, &layer.mlp_in, &layer.mlp_out] {
            for change in &dense.changes {
                let Change::Sparse(sparse) = change else { continue };
                let name = &model.parameters().spec(sparse.values).name;
                let Some(module) = name.strip_prefix(prefix).and_then(|key| key.strip_suffix(".sparse_delta")) else {
                    continue;
                };
                let known = model.modules().into_iter().find(|known| known.name == module);
                let known = known.expect("an adapter changes modules of its model");
                let place =
                    |&(out, input): &(u32, u32)| (out - known.outputs.start as u32) * known.inputs as u32 + input;
                let places: Vec<u32> = sparse.entries.iter().map(place).collect();
                found.push(Stored {
                    name: format!("{module}.sparse_index"),
                    shape: vec![places.len()],
                    dtype: Dtype::U32,
                    bytes: bytemuck::cast_slice(&places).to_vec(),
                });
            }
        }
    }
    found
}

/// The parts of a head that PEFT keeps whole.
fn modules_to_save(model: &Model) -> Option<Vec<String>> {
    let prefix = model.architecture().family.files().prefix;
    let specs = model.parameters().iter().filter(|(_, spec, _)| is_of_task_head(model, spec));
    let names = specs.flat_map(|(_, spec, _)| in_files(model, spec)).map(|(name, _)| {
        let module = name.rsplit_once('.').map_or(name.as_str(), |(module, _)| module);
        let is_inside = module.starts_with(prefix);
        if is_inside { module.to_owned() } else { module.split('.').next().unwrap_or(module).to_owned() }
    });
    let names: BTreeSet<String> = names.collect();
    (!names.is_empty()).then(|| names.into_iter().collect())
}

fn config_to_json(model: &Model, idx: usize, tensors: &[Stored]) -> Value {
    let with_end = |end: &str| -> Vec<(String, &[usize])> {
        let named = tensors.iter().filter_map(|one| Some((one.name.strip_suffix(end)?.to_owned(), &one.shape[..])));
        named.collect()
    };
    let names = |found: &[(String, &[usize])]| found.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    let task_type = match model.head() {
        Head::CausalLm => json!("CAUSAL_LM"),
        Head::Sequence { .. } => json!("SEQ_CLS"),
        Head::Token { .. } => json!("TOKEN_CLS"),
        Head::MaskedLm | Head::Marked { .. } => Value::Null,
    };
    let own = match &model.adapters()[idx] {
        AdapterConfig::Lora(lora) | AdapterConfig::Dora(lora) => {
            let found = with_end(".lora_A.weight");
            let others = found.iter().filter(|(_, shape)| shape[0] != lora.rank);
            let pattern: Map<String, Value> = others.map(|(name, shape)| (name.clone(), json!(shape[0]))).collect();
            json!({
                "peft_type": "LORA", "r": lora.rank, "lora_alpha": lora.alpha(), "lora_dropout": lora.dropout,
                "use_rslora": lora.rslora, "use_dora": matches!(model.adapters()[idx], AdapterConfig::Dora(_)),
                "target_modules": names(&found), "rank_pattern": pattern, "alpha_pattern": {}, "bias": "none",
                "fan_in_fan_out": false, "init_lora_weights": true,
            })
        }
        AdapterConfig::Ia3(_) => {
            let found = with_end(".ia3_l");
            let inner: Vec<_> = found.iter().filter(|(_, shape)| shape[0] == 1).cloned().collect();
            json!({
                "peft_type": "IA3", "target_modules": names(&found), "feedforward_modules": names(&inner),
                "fan_in_fan_out": false, "init_ia3_weights": true,
            })
        }
        AdapterConfig::Bottleneck(own) => {
            json!({ "peft_type": "ARABLE_BOTTLENECK", "size": own.size, "after_attention": own.after_attention })
        }
        AdapterConfig::Bitfit(BitfitConfig {}) => json!({ "peft_type": "ARABLE_BITFIT" }),
        AdapterConfig::Sparse(own) => {
            json!({ "peft_type": "ARABLE_SPARSE", "density": own.density,
                    "target_modules": names(&with_end(".sparse_delta")) })
        }
    };
    let mut config = json!({
        "base_model_name_or_path": null, "task_type": task_type, "modules_to_save": modules_to_save(model),
        "inference_mode": true,
    });
    config.as_object_mut().expect("made as an object").extend(own.as_object().cloned().unwrap_or_default());
    config
}

/// What a folder says of its adapter.
fn config_of_json(path: &Path, config: &Value) -> Result<AdapterConfig, AdapterFileError> {
    let refuse = |setting: &'static str| AdapterFileError::Setting {
        path: path.to_owned(),
        setting,
        value: config[setting].to_string(),
    };
    let expect = |setting: &'static str, holds: &dyn Fn(&Value) -> bool| {
        if config[setting].is_null() || holds(&config[setting]) { Ok(()) } else { Err(refuse(setting)) }
    };
    let is_off = |value: &Value| *value == json!(false) || value.as_object().is_some_and(Map::is_empty);
    let count = |setting: &'static str| config[setting].as_u64().map(|n| n as usize).ok_or_else(|| refuse(setting));
    let flag = |setting: &str| config[setting] == json!(true);
    expect("fan_in_fan_out", &is_off)?;
    Ok(match config["peft_type"].as_str() {
        Some("LORA") => {
            for setting in ["alpha_pattern", "lora_bias", "use_qalora", "use_bdlora", "layer_replication"] {
                expect(setting, &is_off)?;
            }
            expect("bias", &|value| *value == json!("none"))?;
            let dropout = config["lora_dropout"].as_f64().unwrap_or(0.0);
            let lora = LoraConfig {
                rank: count("r")?,
                alpha: Some(config["lora_alpha"].as_f64().ok_or_else(|| refuse("lora_alpha"))?),
                dropout: Probability::new(dropout).map_err(|_| refuse("lora_dropout"))?,
                targets: Vec::new(),
                rslora: flag("use_rslora"),
            };
            if flag("use_dora") { AdapterConfig::Dora(lora) } else { AdapterConfig::Lora(lora) }
        }
        Some("IA3") => AdapterConfig::Ia3(Ia3Config::default()),
        Some("ARABLE_BOTTLENECK") => AdapterConfig::Bottleneck(BottleneckConfig {
            size: count("size")?,
            after_attention: flag("after_attention"),
        }),
        Some("ARABLE_BITFIT") => AdapterConfig::Bitfit(BitfitConfig {}),
        Some("ARABLE_SPARSE") => AdapterConfig::Sparse(SparseConfig {
            density: config["density"].as_f64().ok_or_else(|| refuse("density"))?,
            targets: Vec::new(),
        }),
        _ => return Err(refuse("peft_type")),
    })
}

/// The tensors of a folder.
struct File<'a> {
    path: PathBuf,
    tensors: SafeTensors<'a>,
    /// What names of modules begin with, but not where the base was a model without a head.
    prefix: &'static str,
}

impl File<'_> {
    fn find(&self, key: &str) -> Option<TensorView<'_>> {
        let bare = key.strip_prefix(self.prefix).unwrap_or(key);
        let names = [format!("{ROOT}{key}"), format!("{ROOT}{bare}")];
        names.iter().find_map(|name| self.tensors.tensor(name).ok())
    }

    /// A weight that must be there in a shape.
    fn require(&self, key: &str, shape: &[usize]) -> Result<Vec<f32>, WeightsError> {
        let missing = || WeightsError::Missing { path: self.path.clone(), name: format!("{ROOT}{key}") };
        let tensor = self.find(key).ok_or_else(missing)?;
        let values = floats(&tensor).filter(|_| tensor.shape() == shape).ok_or_else(|| WeightsError::Shape {
            path: self.path.clone(),
            name: format!("{ROOT}{key}"),
            expected: shape.to_vec(),
            got: tensor.shape().to_vec(),
            dtype: tensor.dtype(),
        })?;
        Ok(values.into_owned())
    }
}

impl Given for File<'_> {
    fn values(&self, key: &str, len: usize) -> Option<Vec<f32>> {
        floats(&self.find(key)?).map(std::borrow::Cow::into_owned).filter(|values| values.len() == len)
    }

    fn places(&self, key: &str) -> Option<Vec<u32>> {
        let tensor = self.find(key).filter(|tensor| tensor.dtype() == Dtype::U32)?;
        Some(tensor.data().chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
    }
}

/// `base` with the adapter in `dir`, which PEFT or [`save_adapter`] wrote, behind those that it has already. Where the adapter
/// has a head, the model gets it. The base is not read again: what lies below the head is shared with `base`, if that is
/// [`frozen`](Model::frozen) and its head is the same.
///
/// # Errors
/// When a file is missing or damaged, or when the adapter does not fit the base.
pub fn load_adapter(base: &Model, dir: &Path) -> Result<Model, AdapterFileError> {
    let path = dir.join(CONFIG);
    let json: Value = read_json(&path)?;
    let config = config_of_json(&path, &json)?;
    let path = dir.join(WEIGHTS);
    let bytes = fs::read(&path).map_err(WeightsError::from)?;
    let tensors =
        SafeTensors::deserialize(&bytes).map_err(|source| WeightsError::Safetensors { path: path.clone(), source })?;
    let file = File { path, tensors, prefix: base.architecture().family.files().prefix };
    let facts: Option<Facts> = if dir.join(FACTS).exists() { Some(read_json(&dir.join(FACTS))?) } else { None };
    if facts.as_ref().is_some_and(|facts| facts.base != base_digest(base)) {
        return Err(AdapterFileError::OtherBase { dir: dir.to_owned() });
    }
    let head = facts.map_or_else(|| head_in(&file, base, &json), |facts| facts.head);
    let mut model = if head == base.head() { base.clone() } else { base.with_head(head, Seed(0)) };
    let whole = head.num_labels().is_none();
    let fills_head = fill_head(&mut model, &file, head != base.head())?;
    model.parameters_mut().freeze(|spec| whole || spec.name.starts_with("model."));
    let chosen = chosen(&model, &file)?;
    let idx = model.adapters().len();
    model
        .attach(&config, &chosen, Seed(0), Some(&file))
        .map_err(|source| AdapterFileError::Adapter { dir: dir.to_owned(), source })?;
    check_all_used(&model, &file, idx, fills_head)?;
    Ok(model)
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, WeightsError> {
    let bytes = fs::read(path)?;
    serde_json::from_slice(&bytes).map_err(|source| WeightsError::Json { path: path.to_owned(), source })
}

/// The head beside an adapter that PEFT wrote, or else that of the base.
fn head_in(file: &File<'_>, base: &Model, config: &Value) -> Head {
    let pooling = base.architecture().style().pooling;
    let of_task = |num_labels: usize| match config["task_type"].as_str() {
        Some("SEQ_CLS") => Some(match base.head() {
            Head::Sequence { pooling, .. } => Head::Sequence { num_labels, pooling },
            _ => Head::Sequence { num_labels, pooling },
        }),
        Some("TOKEN_CLS") => Some(Head::Token { num_labels }),
        _ => None,
    };
    let last = ["classifier.weight", "score.weight", "classifier.out_proj.weight"];
    let rows = last.iter().find_map(|name| file.find(name)?.shape().first().copied());
    rows.and_then(of_task).unwrap_or(base.head())
}

/// Reads the head of a task, as far as it is there; a head that is not that of the base must be there whole.
fn fill_head(model: &mut Model, file: &File<'_>, is_new: bool) -> Result<bool, AdapterFileError> {
    let specs: Vec<_> = model.parameters().iter().map(|(id, spec, _)| (id, spec.clone())).collect();
    let specs: Vec<_> = specs.into_iter().filter(|(_, spec)| is_of_task_head(model, spec)).collect();
    for (id, spec) in &specs {
        let mut at = 0;
        for (name, shape) in in_files(model, spec) {
            let len: usize = shape.iter().product();
            if is_new || file.find(&name).is_some() {
                let values = file.require(&name, &shape)?;
                model.parameters_mut().value_mut(*id)[at..at + len].copy_from_slice(&values);
            }
            at += len;
        }
    }
    Ok(!specs.is_empty())
}

/// The linear layers that a file changes.
fn chosen(model: &Model, file: &File<'_>) -> Result<Vec<Chosen>, AdapterFileError> {
    let of_module = |module: Module| {
        let shape = |end: &str| file.find(&format!("{}.{end}", module.name)).map(|tensor| tensor.shape().to_vec());
        let rank = shape("lora_A.weight").and_then(|shape| shape.first().copied());
        let scales_inputs = shape("ia3_l").map(|shape| shape.first() == Some(&1));
        let is_sparse = shape("sparse_delta").is_some();
        let is_there = rank.is_some() || scales_inputs.is_some() || is_sparse;
        is_there.then(|| Chosen {
            module,
            rank: rank.unwrap_or_default(),
            scales_inputs: scales_inputs.unwrap_or_default(),
        })
    };
    let chosen: Vec<Chosen> = model.modules().into_iter().filter_map(of_module).collect();
    for one in &chosen {
        let Module { name, outputs, inputs, .. } = &one.module;
        let most = (outputs.len() * inputs) as u32;
        let places = file.places(&format!("{name}.sparse_index")).unwrap_or_default();
        if places.iter().any(|place| *place >= most) {
            let name = format!("{ROOT}{name}.sparse_index");
            return Err(AdapterFileError::Stranger { path: file.path.clone(), name });
        }
    }
    Ok(chosen)
}

/// Whether the file holds what the adapter asks for, and nothing else.
fn check_all_used(model: &Model, file: &File<'_>, idx: usize, fills_head: bool) -> Result<(), AdapterFileError> {
    let prefix = prefix(idx);
    let bare = |name: &str| name.strip_prefix(file.prefix).unwrap_or(name).to_owned();
    let mut used = BTreeSet::new();
    for (_, spec, _) in model.parameters().iter() {
        if let Some(key) = spec.name.strip_prefix(&prefix) {
            file.require(key, &spec.shape)?;
            used.insert(bare(key));
            used.extend(key.strip_suffix("_delta").map(|key| bare(&format!("{key}_index"))));
        } else if fills_head && is_of_task_head(model, spec) {
            used.extend(in_files(model, spec).iter().map(|(name, _)| bare(name)));
        }
    }
    let is_used = |name: &str| name.strip_prefix(ROOT).is_some_and(|key| used.contains(&bare(key)));
    match file.tensors.names().into_iter().filter(|name| !is_used(name)).min() {
        None => Ok(()),
        Some(name) => Err(AdapterFileError::Stranger { path: file.path.clone(), name: name.to_owned() }),
    }
}
