//! `arable adapter`: what an adapter is, and several as one model.

use std::path::Path;

use anyhow::Result;
use arable_pipeline::adapters::{self, Merge};

use crate::args::{AdapterCommand, Global, MergeMethod};

/// Does what was asked about adapters.
pub fn adapter(global: &Global, command: &AdapterCommand) -> Result<()> {
    match command {
        AdapterCommand::Show { folder } => show(global, folder),
        AdapterCommand::Merge { base, adapters, weights, method, density, to } => {
            let weights = if weights.is_empty() { vec![1.0; adapters.len()] } else { weights.clone() };
            let how = match method {
                MergeMethod::Linear => Merge::Linear,
                MergeMethod::Ties => Merge::Ties { density: *density },
            };
            adapters::merge(base, adapters, &weights, how, to)?;
            eprintln!("wrote {}", to.display());
            Ok(())
        }
    }
}

fn show(global: &Global, folder: &Path) -> Result<()> {
    let facts = adapters::show(folder)?;
    if global.json {
        println!("{}", serde_json::to_string_pretty(&facts)?);
        return Ok(());
    }
    eprintln!("{}: {} numbers in {} bytes", facts.peft_type, facts.num_parameters, facts.num_bytes);
    eprintln!("settings: {}", facts.settings);
    if let Some(base) = &facts.base {
        eprintln!("base: {}", base.short());
    }
    if !facts.labels.is_empty() {
        eprintln!("labels: {}", facts.labels.join(", "));
    }
    Ok(())
}
