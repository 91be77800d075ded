//! Adapters in folders: shown, and merged into the weights of their base.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use arable_core::Hint;
pub use arable_model::Merge;
use arable_model::{AdapterFacts, Model, adapter_facts, load_adapter, merge_adapters};
use fs_err as fs;

use crate::advice::Advise;

/// What cannot be merged so.
#[derive(Debug, thiserror::Error)]
#[error("merge adapters: {problem}")]
pub struct BadMerge {
    problem: String,
    hint: &'static str,
}

impl Hint for BadMerge {
    fn hint(&self) -> Option<String> {
        Some(self.hint.to_owned())
    }
}

/// Files of a base beside its weights that a merged model needs too.
const BESIDE: [&str; 4] = ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"];

/// What a folder with an adapter says of itself.
///
/// # Errors
/// When a file is missing or damaged.
pub fn show(folder: &Path) -> Result<AdapterFacts> {
    adapter_facts(folder).advise()
}

/// Merges adapters, each with a weight, into the weights of their base; writes a model in the Hugging Face layout into the
/// folder `out`, which must not exist. The head is that of the first adapter.
///
/// # Errors
/// When a folder cannot be read or written, or when the adapters do not fit the base or each other.
pub fn merge(base: &Path, adapters: &[PathBuf], weights: &[f32], how: Merge, out: &Path) -> Result<()> {
    let refuse = |problem: String, hint| Err(BadMerge { problem, hint }).advise();
    if weights.len() != adapters.len() {
        let problem = format!("{} weights for {} adapters", weights.len(), adapters.len());
        return refuse(problem, "give one weight for each adapter, such as --weights 0.5,0.5");
    }
    if let Merge::Ties { density } = how
        && !(density > 0.0 && density <= 1.0)
    {
        return refuse(format!("a density of {density}"), "a density is above 0 and at most 1");
    }
    if out.exists() {
        bail!(BadMerge { problem: format!("{} exists", out.display()), hint: "name a new folder" });
    }
    let model = arable_model::load(base).advise()?.frozen();
    let models: Vec<Model> =
        adapters.iter().map(|folder| load_adapter(&model, folder).advise()).collect::<Result<_>>()?;
    let merged = merge_adapters(&models, weights, how).advise()?;
    let labels = adapters.first().map(|folder| show(folder)).transpose()?.map_or(Vec::new(), |facts| facts.labels);
    fs::create_dir_all(out)?;
    arable_model::save(&merged, &labels, out).advise()?;
    let beside = BESIDE.into_iter().filter(|name| base.join(name).exists());
    beside.into_iter().try_for_each(|name| fs::copy(base.join(name), out.join(name)).map(drop))?;
    Ok(())
}
