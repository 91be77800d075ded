//! What a checkpoint holds beside the model: optimizer moments and counts.
//!
//! Folder, digest and atomic rename are the caller's work; this writes and reads the files.

use std::path::{Path, PathBuf};

use arable_core::Hint;
use arable_model::WeightsError;
use arable_tensor::Moments;
use fs_err as fs;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

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
            Self::Damaged { .. } => Some("delete this checkpoint; an earlier one will be used".into()),
        }
    }
}

const OPTIMIZER: &str = "optimizer.safetensors";
const STATE: &str = "trainer_state.json";

/// Writes model, optimizer and counts into the existing folder `dir`.
///
/// # Errors
/// When a file cannot be written.
pub fn write(state: &Pretraining, dir: &Path) -> Result<(), CheckpointError> {
    arable_model::save(&state.model, &[], dir)?;
    let moments = state.optimizer.moments();
    let view = |values: &'_ [f32]| (vec![values.len()], bytemuck::cast_slice::<f32, u8>(values).to_vec());
    let parts = [("exp_avg", view(&moments.first)), ("exp_avg_sq", view(&moments.second))];
    let tensors = parts.iter().map(|(name, (shape, bytes))| {
        (*name, TensorView::new(Dtype::F32, shape.clone(), bytes).expect("the values fill the shape"))
    });
    let path = dir.join(OPTIMIZER);
    let bytes = safetensors::serialize(tensors, None).map_err(|error| damaged(&path, error))?;
    fs::write(&path, bytes)?;
    let text = serde_json::to_string_pretty(&state.progress).expect("counts have a JSON form");
    Ok(fs::write(dir.join(STATE), text + "\n")?)
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
    let model = arable_model::load(dir)?;
    let progress = progress(dir)?;
    let path = dir.join(OPTIMIZER);
    let bytes = fs::read(&path)?;
    let tensors = SafeTensors::deserialize(&bytes).map_err(|error| damaged(&path, error))?;
    let moment = |name: &str| {
        let tensor = tensors.tensor(name).map_err(|error| damaged(&path, error))?;
        let values: Vec<f32> = bytemuck::allocation::pod_collect_to_vec(tensor.data());
        if values.len() == model.parameters().num_elements() {
            Ok(values)
        } else {
            Err(damaged(&path, format!("expected {} values", model.parameters().num_elements())))
        }
    };
    let moments = Moments { first: moment("exp_avg")?, second: moment("exp_avg_sq")?, num_steps: progress.step };
    let optimizer = config.optimizer(&model, Some(moments));
    Ok(Pretraining { model, optimizer, progress })
}

fn damaged(path: &Path, what: impl ToString) -> CheckpointError {
    CheckpointError::Damaged { path: path.to_owned(), what: what.to_string() }
}
