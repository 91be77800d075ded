//! What a checkpoint holds beside the model: optimizer moments and counts.
//!
//! Folder, digest and atomic rename are the caller's work; this writes and reads the files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use arable_core::{Hint, Seed};
use arable_model::{AdapterFileError, Model, WeightsError};
use arable_tensor::{AdamW, Moments};
use fs_err as fs;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use crate::extras::{Extra, Extras, Kind};
use crate::pretrain::{PretrainConfig, Pretraining, Progress};

/// A checkpoint that cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// A file could not be written or read.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The model's files.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The files of the model's adapter.
    #[error(transparent)]
    Adapter(#[from] AdapterFileError),
    /// A file is damaged.
    #[error("read {path}: {what}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
}

impl Hint for CheckpointError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Io(_) => None,
            Self::Weights(error) => error.hint(),
            Self::Adapter(error) => error.hint(),
            Self::Damaged { .. } => Some("delete this checkpoint; an earlier one will be used".into()),
        }
    }
}

const OPTIMIZER: &str = "optimizer.safetensors";
const STATE: &str = "trainer_state.json";
/// What objectives train beside the model: weights and moments, and what each is.
const EXTRAS: &str = "extras.safetensors";
const EXTRA_KINDS: &str = "extras.json";

/// Writes model, its adapter (of a stage that trains one), optimizer and counts into the existing folder `dir`.
///
/// # Errors
/// When a file cannot be written.
pub fn write(state: &Pretraining, dir: &Path) -> Result<(), CheckpointError> {
    arable_model::save(&state.model, &[], dir)?;
    if !state.model.adapters().is_empty() {
        arable_model::save_adapter(&state.model, 0, &[], dir)?;
    }
    let moments = state.optimizer.moments();
    write_floats(&dir.join(OPTIMIZER), &[("exp_avg".into(), &moments.first), ("exp_avg_sq".into(), &moments.second)])?;
    write_extras(&state.extras, dir)?;
    let text = serde_json::to_string_pretty(&state.progress).expect("counts have a JSON form");
    Ok(fs::write(dir.join(STATE), text + "\n")?)
}

fn write_floats(path: &Path, parts: &[(String, &[f32])]) -> Result<(), CheckpointError> {
    let tensors = parts.iter().map(|(name, values)| {
        let view = TensorView::new(Dtype::F32, vec![values.len()], bytemuck::cast_slice(values));
        (name, view.expect("the values fill the shape"))
    });
    let bytes = safetensors::serialize(tensors, None).map_err(|error| damaged(path, error))?;
    Ok(fs::write(path, bytes)?)
}

fn write_extras(Extras(extras): &Extras, dir: &Path) -> Result<(), CheckpointError> {
    if extras.is_empty() {
        return Ok(());
    }
    let kinds: Vec<(&str, Kind)> = extras.iter().map(|extra| (extra.name.as_str(), extra.kind)).collect();
    let text = serde_json::to_string_pretty(&kinds).expect("kinds have a JSON form");
    fs::write(dir.join(EXTRA_KINDS), text + "\n")?;
    let parts = extras.iter().flat_map(|Extra { name, model, optimizer, .. }| {
        let moments = optimizer.moments();
        let parts = [model.parameters().flat(), &moments.first[..], &moments.second[..]];
        PARTS.into_iter().zip(parts).map(move |(part, values)| (format!("{name}/{part}"), values))
    });
    write_floats(&dir.join(EXTRAS), &parts.collect::<Vec<_>>())
}

/// What there is of an extra model.
const PARTS: [&str; 3] = ["weights", "exp_avg", "exp_avg_sq"];

/// The extra models in what [`write`] wrote, beside `model`, after so many steps.
fn read_extras(config: &PretrainConfig, model: &Model, num_steps: u64, dir: &Path) -> Result<Extras, CheckpointError> {
    let kinds = dir.join(EXTRA_KINDS);
    if !kinds.exists() {
        return Ok(Extras::default());
    }
    let known: Vec<(String, Kind)> =
        serde_json::from_slice(&fs::read(&kinds)?).map_err(|error| damaged(&kinds, error))?;
    let path = dir.join(EXTRAS);
    let bytes = fs::read(&path)?;
    let tensors = SafeTensors::deserialize(&bytes).map_err(|error| damaged(&path, error))?;
    let extras = known.into_iter().map(|(name, kind)| {
        let mut extra = Extra::new(config, &name, kind, model, Seed(0));
        let num = extra.model.parameters().num_elements();
        let mut floats = PARTS.map(|part| floats(&path, &tensors, &format!("{name}/{part}"), num)).into_iter();
        let mut next = || floats.next().expect("there are three parts");
        let (weights, first, second) = (next()?, next()?, next()?);
        extra.model.parameters_mut().flat_mut().copy_from_slice(&weights);
        extra.optimizer =
            AdamW::resumed(config.adamw(), extra.model.parameters(), Moments { first, second, num_steps });
        Ok(extra)
    });
    Ok(Extras(extras.collect::<Result<_, CheckpointError>>()?))
}

/// The heads of tasks in what [`write`] wrote, by the names of the tasks.
///
/// # Errors
/// When a file is missing or damaged.
pub fn task_heads(dir: &Path) -> Result<BTreeMap<String, Model>, CheckpointError> {
    if !dir.join(EXTRA_KINDS).exists() {
        return Ok(BTreeMap::new());
    }
    let model = arable_model::load(dir)?;
    let Extras(extras) = read_extras(&PretrainConfig::default(), &model, 0, dir)?;
    let heads = extras.into_iter().filter_map(|extra| {
        let task = extra.name.strip_prefix("task ")?.to_owned();
        Some((task, extra.model))
    });
    Ok(heads.collect())
}

fn floats(path: &Path, tensors: &SafeTensors<'_>, name: &str, num: usize) -> Result<Vec<f32>, CheckpointError> {
    let tensor = tensors.tensor(name).map_err(|error| damaged(path, error))?;
    let values: Vec<f32> = bytemuck::allocation::pod_collect_to_vec(tensor.data());
    if values.len() == num { Ok(values) } else { Err(damaged(path, format!("expected {num} values"))) }
}

/// The counts in what [`write`] wrote.
///
/// # Errors
/// When the file is missing or damaged.
pub fn progress(dir: &Path) -> Result<Progress, CheckpointError> {
    let path = dir.join(STATE);
    serde_json::from_slice(&fs::read(&path)?).map_err(|error| damaged(&path, error))
}

/// Reads what [`write`] wrote.
///
/// # Errors
/// When a file is missing or damaged.
pub fn read(config: &PretrainConfig, dir: &Path) -> Result<Pretraining, CheckpointError> {
    let mut model = arable_model::load(dir)?;
    if arable_model::has_adapter(dir) {
        model = arable_model::load_adapter(&model, dir)?;
    }
    let progress = progress(dir)?;
    let path = dir.join(OPTIMIZER);
    let bytes = fs::read(&path)?;
    let tensors = SafeTensors::deserialize(&bytes).map_err(|error| damaged(&path, error))?;
    let moment = |name: &str| floats(&path, &tensors, name, model.parameters().num_free());
    let moments = Moments { first: moment("exp_avg")?, second: moment("exp_avg_sq")?, num_steps: progress.step };
    let optimizer = config.optimizer(&model, Some(moments));
    let extras = read_extras(config, &model, progress.step, dir)?;
    Ok(Pretraining { model, optimizer, extras, progress, is_drawn: false })
}

fn damaged(path: &Path, what: impl ToString) -> CheckpointError {
    CheckpointError::Damaged { path: path.to_owned(), what: what.to_string() }
}
