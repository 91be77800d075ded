//! Which room may use which: the table of the architecture page.

use std::path::Path;

use anyhow::Result;
use fs_err as fs;
use toml::Table;

use super::shown;

/// Each room with the rooms that it may use besides `core`.
const MAY_USE: [(&str, &[&str]); 15] = [
    ("core", &[]),
    ("ledger", &[]),
    ("knowledge", &[]),
    ("expression", &[]),
    ("corpus", &["expression", "knowledge"]),
    ("tokenize", &[]),
    ("synthesis", &["corpus", "knowledge"]),
    ("tensor", &[]),
    ("model", &["tensor"]),
    ("train", &["model", "tensor", "tokenize"]),
    ("eval", &["model", "tensor", "tokenize"]),
    ("guard", &[]),
    ("serve", &["ledger", "tokenize", "model", "guard"]),
    (
        "pipeline",
        &["ledger", "knowledge", "corpus", "tokenize", "synthesis", "tensor", "model", "train", "eval", "guard"],
    ),
    ("cli", &["pipeline", "serve", "ledger"]),
];

/// Checks every manifest below `crates/`.
pub fn check(root: &Path) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    for entry in fs::read_dir(root.join("crates"))? {
        let path = entry?.path().join("Cargo.toml");
        if !path.is_file() {
            continue;
        }
        let room = path.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy().into_owned();
        let found = check_manifest(&room, &fs::read_to_string(&path)?)?;
        problems.extend(found.into_iter().map(|problem| format!("{}: {problem}", shown(root, &path))));
    }
    problems.sort();
    Ok(problems)
}

fn check_manifest(room: &str, text: &str) -> Result<Vec<String>> {
    let manifest: Table = toml::from_str(text)?;
    let mut problems = Vec::new();
    let Some((_, may_use)) = MAY_USE.iter().find(|(name, _)| *name == room) else {
        return Ok(vec![format!("room `{room}` is not in the table of rooms")]);
    };
    for used in rooms_used(&manifest) {
        if used != "core" && !may_use.contains(&used.as_str()) {
            problems.push(format!("`{room}` must not use `{used}`"));
        }
    }
    if lookup(&manifest, &["lints", "workspace"]).and_then(toml::Value::as_bool) != Some(true) {
        problems.push("lacks `[lints] workspace = true`".to_owned());
    }
    let name = lookup(&manifest, &["package", "name"]).and_then(toml::Value::as_str).unwrap_or_default();
    if name != format!("arable-{room}") && !(room == "cli" && name == "arable") {
        problems.push(format!("package of room `{room}` is called `{name}`"));
    }
    Ok(problems)
}

/// Rooms that the shipped code depends on; tests may use what they need.
fn rooms_used(manifest: &Table) -> Vec<String> {
    let tables = ["dependencies", "build-dependencies"].into_iter().filter_map(|key| manifest.get(key)?.as_table());
    tables.flat_map(Table::keys).filter_map(|name| name.strip_prefix("arable-")).map(str::to_owned).collect()
}

fn lookup<'a>(table: &'a Table, path: &[&str]) -> Option<&'a toml::Value> {
    let (last, parents) = path.split_last()?;
    parents.iter().try_fold(table, |table, key| table.get(*key)?.as_table())?.get(*last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forbidden_edges_are_named() {
        let manifest = |uses: &str| {
            format!("package.name = 'arable-train'\nlints.workspace = true\n[dependencies]\n{uses}.workspace = true\n")
        };
        assert_eq!(check_manifest("train", &manifest("arable-model")).unwrap(), Vec::<String>::new());
        assert_eq!(check_manifest("train", &manifest("arable-eval")).unwrap(), ["`train` must not use `eval`"]);
        let without_lints = manifest("serde").replace("lints.workspace = true", "");
        assert_eq!(check_manifest("train", &without_lints).unwrap(), ["lacks `[lints] workspace = true`"]);
        assert_eq!(check_manifest("cellar", &manifest("serde")).unwrap().len(), 1);
    }
}
