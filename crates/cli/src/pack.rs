//! The bundled domain and the scaffold of a new one.

use std::path::{Path, PathBuf};

use anyhow::Result;
use fs_err as fs;
use rust_embed::RustEmbed;

#[derive(RustEmbed)]
#[folder = "../../domains/glasshouse"]
struct Glasshouse;

/// What `arable init` writes.
pub const SCAFFOLD: &str = include_str!("scaffold.toml");

/// Writes the bundled domain into `folder`, over what is there, and returns the path of its `arable.toml`.
pub fn unpack(folder: &Path) -> Result<PathBuf> {
    for name in Glasshouse::iter() {
        let path = folder.join(name.as_ref());
        fs::create_dir_all(path.parent().unwrap_or(folder))?;
        if let Some(file) = Glasshouse::get(&name) {
            fs::write(path, file.data)?;
        }
    }
    Ok(folder.join("arable.toml"))
}
