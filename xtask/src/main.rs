//! Developer commands: `cargo xtask <command>`.

mod glasshouse;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["glasshouse"] => glasshouse::write(&workspace_root().join("domains/glasshouse")),
        _ => bail!("usage: cargo xtask glasshouse | tidy"),
    }
}

/// The folder that holds the workspace's `Cargo.toml`.
fn workspace_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace").to_owned()
}
