//! Python environments for what is compared with Python: made from the requirements in `scripts/`, beside the build.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::workspace_root;

/// The folder that builds go to.
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace_root().join("target"), PathBuf::from)
}

/// The interpreter of the environment `name`, which has what `scripts/<requirements>` lists.
pub fn environment(name: &str, requirements: &str) -> Result<PathBuf> {
    let folder = target().join(name);
    let python = folder.join("bin/python");
    if !python.exists() {
        done(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
    }
    let requirements = workspace_root().join("scripts").join(requirements);
    done(Command::new(&python).args(["-m", "pip", "install", "-q", "-r"]).arg(requirements))?;
    Ok(python)
}

/// The release build of the program.
pub fn program() -> Result<PathBuf> {
    done(Command::new("cargo").args(["build", "--release"]).current_dir(workspace_root()))?;
    Ok(target().join("release/arable"))
}

/// Runs a command to its end, which must be a good one.
pub fn done(command: &mut Command) -> Result<()> {
    ensure!(command.status().with_context(|| format!("start {command:?}"))?.success(), "{command:?} failed");
    Ok(())
}
