//! Whether `transformers` loads what the program exports, and computes the same: the bundled domain run for a few steps,
//! then its checkpoint and each task's export through `scripts/check_export.py`; and whether `peft` loads the adapters of the
//! same tasks, through `scripts/check_adapter.py`.

use std::path::{Path, PathBuf};
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
    done(Command::new(&python).arg(workspace_root().join("scripts/check_export.py")).args(&folders))?;
    KINDS.iter().try_for_each(|kind| check_adapters(&python, kind))
}

/// The kinds of adapters that PEFT knows.
const KINDS: [&str; 3] = ["lora", "dora", "ia3"];

/// Learns the tasks by adapters, on the pretraining that is there, and compares them.
fn check_adapters(python: &Path, kind: &str) -> Result<()> {
    let out = target().join("parity");
    let mut run = Command::new(program()?);
    run.arg("run").arg("--config").arg(domain().join("arable.toml")).arg("--out").arg(&out);
    run.args(SHORT.iter().flat_map(|setting| ["--set", setting]));
    done(run.arg("--set").arg(format!("adapt.adapter={{ {kind} = {{}} }}")))?;
    let made = out.join("glasshouse");
    let base = made.join("pretrain/checkpoints/latest");
    let adapters = ["adapt-diagnosis/adapter", "adapt-terms/adapter"].map(|folder| made.join(folder));
    let pairs = adapters.iter().map(|adapter| format!("{}:{}", base.display(), adapter.display()));
    let mut parity = Command::new("cargo");
    parity.args(["run", "--release", "--quiet", "-p", "arable-model", "--example", "parity"]).args(pairs);
    done(parity.current_dir(workspace_root()))?;
    done(Command::new(python).arg(workspace_root().join("scripts/check_adapter.py")).arg(&base).args(&adapters))
}
