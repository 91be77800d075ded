//! Rules for what people read: decision records, README commands, no traces of one machine.

use std::path::Path;

use anyhow::Result;
use fs_err as fs;

use super::{files, shown};

/// Commands that README shows, each on a line of its own inside a fence.
const README_COMMANDS: [&str; 2] = ["cargo run --release -- demo", "cargo test --workspace"];
/// First folders of absolute paths that belong to one person's machine.
const MACHINE_FOLDERS: [&str; 4] = ["work", "home", "Users", "root"];
/// What is read for machine paths.
const TEXT: [&str; 12] = [".rs", ".md", ".toml", ".yml", ".yaml", ".json", ".py", ".sh", ".html", ".js", ".css", "run"];

/// Checks papers and text files.
pub fn check(root: &Path) -> Result<Vec<String>> {
    let mut problems = check_readme(&fs::read_to_string(root.join("README.md")).unwrap_or_default());
    problems.extend(check_decisions(&names(&root.join("docs/decisions"))?));
    for path in files(root, &TEXT)? {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        let lines = text.lines().enumerate().filter(|(_, line)| names_machine_path(line));
        problems.extend(lines.map(|(idx, _)| format!("{}:{}: path of one machine", shown(root, &path), idx + 1)));
    }
    Ok(problems)
}

/// Names of the Markdown files in `folder`, in order.
fn names(folder: &Path) -> Result<Vec<String>> {
    let paths = files(folder, &[".md"])?;
    Ok(paths.iter().filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned())).collect())
}

fn check_readme(text: &str) -> Vec<String> {
    let commands = fenced_lines(text);
    let missing = README_COMMANDS.iter().filter(|command| !commands.contains(*command));
    let mut problems: Vec<String> =
        missing.map(|command| format!("README.md: no command block has `{command}`")).collect();
    let unknown = commands.iter().filter_map(|line| line.strip_prefix("cargo xtask ")).filter(|command| {
        let name = command.split_whitespace().next().unwrap_or_default();
        !crate::COMMANDS.contains(&name)
    });
    problems.extend(unknown.map(|command| format!("README.md: `cargo xtask {command}` does not exist")));
    problems
}

/// Lines between fences, without a leading prompt and without a trailing comment.
fn fenced_lines(text: &str) -> Vec<&str> {
    let mut inside = false;
    let mut lines = Vec::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            inside = !inside;
        } else if inside {
            let command = line.trim().trim_start_matches("$ ");
            lines.push(command.split("  #").next().unwrap_or(command).trim_end());
        }
    }
    lines
}

/// Decision records are called `NNNN-title.md` and count from 0001 without gaps.
fn check_decisions(names: &[String]) -> Vec<String> {
    let mut problems = Vec::new();
    for (idx, name) in names.iter().enumerate() {
        let title = name.strip_prefix(&format!("{:04}-", idx + 1)).and_then(|rest| rest.strip_suffix(".md"));
        let is_plain = |title: &str| title.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        if !title.is_some_and(|title| !title.is_empty() && is_plain(title)) {
            problems.push(format!("docs/decisions/{name}: expected {:04}-title.md", idx + 1));
        }
    }
    problems
}

/// Whether an absolute path into one machine's folders stands in `line`.
fn names_machine_path(line: &str) -> bool {
    MACHINE_FOLDERS.iter().any(|folder| {
        let needle = format!("/{folder}/");
        line.match_indices(&needle).any(|(at, _)| !line[..at].ends_with(continues_path))
    })
}

/// Characters after which a slash does not begin an absolute path.
fn continues_path(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '/' | '}' | '>' | ')' | '~' | '$' | '*' | ':')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decisions_count_without_gaps() {
        let check =
            |names: &[&str]| check_decisions(&names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>()).len();
        assert_eq!(check(&["0001-a.md", "0002-b-c.md"]), 0);
        assert_eq!(check(&["0001-a.md", "0003-b.md"]), 1);
        assert_eq!(check(&["0001-A b.md"]), 1);
    }

    #[test]
    fn readme_commands_are_exact() {
        let text = "```sh\n$ cargo run --release -- demo\ncargo test --workspace  # all\n```";
        assert!(check_readme(text).is_empty());
        assert_eq!(check_readme(&text.replace("--release ", "")).len(), 1);
        assert_eq!(check_readme(&text.replace("```", "")).len(), 2);
        assert_eq!(check_readme(&format!("{text}\n```\ncargo xtask nothing\n```")).len(), 1);
    }

    #[test]
    fn machine_paths_are_absolute() {
        let slash = "/";
        assert!(names_machine_path(&format!("see {slash}home/jane/data")));
        assert!(names_machine_path(&format!("\"{slash}work/x\"")));
        assert!(!names_machine_path(&format!("https://example.org{slash}home/page and docs{slash}work/x")));
    }
}
