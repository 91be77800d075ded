//! Whether `transformers` loads what the program exports, and computes the same: the bundled domain run for a few steps,
//! then its checkpoint and each task's export through `scripts/check_export.py`.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;
use fs_err as fs;

use crate::python::{done, environment, program, target};
use crate::{domain, workspace_root};

/// Settings that make the run short. What is exported has the same form after any number of steps.
const SHORT: [&str; 4] =
    ["pretrain.num_tokens=100000", "adapt.budgets=[0.1]", "adapt.num_seeds=1", "adapt.learning_rates=[1e-3]"];

/// Makes the exports and compares them.
pub fn check() -> Result<()> {
    let python = environment("parity-venv", "requirements.txt")?;
    let out = target().join("parity");
    if out.exists() {
        fs::remove_dir_all(&out)?;
    }
    let mut run = Command::new(program()?);
    run.arg("run").arg("--config").arg(domain().join("arable.toml")).arg("--out").arg(&out);
    run.args(SHORT.iter().flat_map(|setting| ["--set", setting]));
    done(&mut run)?;
    let made = out.join("glasshouse");
    let folders: Vec<PathBuf> = ["pretrain/checkpoints/latest", "adapt-diagnosis/export", "adapt-terms/export"]
        .map(|folder| made.join(folder))
        .into();
    let mut parity = Command::new("cargo");
    parity.args(["run", "--release", "--quiet", "-p", "arable-model", "--example", "parity"]).args(&folders);
    done(parity.current_dir(workspace_root()))?;
    done(Command::new(python).arg(workspace_root().join("scripts/check_export.py")).args(&folders))
}
