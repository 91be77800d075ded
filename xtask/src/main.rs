//! Developer commands: `cargo xtask <command>`.

// Like `cli`, this is a program for people: it prints.
#![allow(clippy::print_stderr)]

mod glasshouse;
mod parity;
mod peers;
mod python;
mod study;
mod tidy;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};

/// Every command.
const COMMANDS: [&str; 5] =
    ["bench-peers [engine | products | curation]", "glasshouse [--check]", "parity", "study FILE", "tidy"];

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["bench-peers"] => peers::engine(&data()).and_then(|()| peers::curation(&data())),
        ["bench-peers", "engine"] => peers::engine(&data()),
        ["bench-peers", "products"] => peers::products(),
        ["bench-peers", "curation"] => peers::curation(&data()),
        ["glasshouse"] => glasshouse::write(&domain()),
        ["glasshouse", "--check"] => check_glasshouse(),
        ["parity"] => parity::check(),
        ["study", file] => study::run(Path::new(file), &data()),
        ["tidy"] => check_tidy(),
        _ => bail!("usage: cargo xtask {}", COMMANDS.join(" | ")),
    }
}

fn check_glasshouse() -> Result<()> {
    let stale = glasshouse::stale(&domain())?;
    ensure!(stale.is_empty(), "stale: {}; run `cargo xtask glasshouse`", stale.join(", "));
    Ok(())
}

fn check_tidy() -> Result<()> {
    let problems = tidy::check(&workspace_root())?;
    ensure!(problems.is_empty(), "{} broken rules:\n{}", problems.len(), problems.join("\n"));
    Ok(())
}

/// The folder of the bundled domain.
fn domain() -> PathBuf {
    workspace_root().join("domains/glasshouse")
}

/// The folder of public data, which is no part of the project: found as the tests find it.
fn data() -> PathBuf {
    std::env::var_os("ARABLE_DATA").map_or_else(|| workspace_root().join("../shared/data"), PathBuf::from)
}

/// The folder that holds the workspace's `Cargo.toml`.
fn workspace_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace").to_owned()
}
