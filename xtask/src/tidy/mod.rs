//! Rules of the house that no compiler checks. `cargo xtask tidy` and `cargo test` run the same checks.

mod edges;
mod papers;
mod sources;

use std::path::{Path, PathBuf};

use anyhow::Result;
use fs_err as fs;

/// Every broken rule in the workspace at `root`, one line each.
///
/// # Errors
/// When a file cannot be read or a Rust file cannot be parsed.
pub fn check(root: &Path) -> Result<Vec<String>> {
    let mut problems = edges::check(root)?;
    problems.extend(sources::check(root)?);
    problems.extend(papers::check(root)?);
    Ok(problems)
}

/// Files below `folder` whose name ends in one of `endings`, in order of path; build and run outputs left out.
fn files(folder: &Path, endings: &[&str]) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    if !folder.is_dir() {
        return Ok(found);
    }
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && !matches!(name.as_str(), "target" | "runs" | ".git" | ".venv" | "__pycache__" | "shared") {
            found.extend(files(&path, endings)?);
        } else if path.is_file() && endings.iter().any(|ending| name.ends_with(ending)) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// `path` as seen from `root`, with forward slashes.
fn shown(root: &Path, path: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).to_string_lossy().replace('\\', "/")
}

#[cfg(test)]
mod tests {
    #[test]
    fn workspace_is_tidy() {
        let problems = super::check(&crate::workspace_root()).unwrap();
        assert!(problems.is_empty(), "{} broken rules:\n{}", problems.len(), problems.join("\n"));
    }
}
