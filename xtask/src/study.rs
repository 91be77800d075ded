//! An experiment: the same domain under several settings, with seeds and intervals. What was run is not run again.
//!
//! ```text
//! studies/<name>.toml ──> `arable run`, arm by arm and seed by seed ──> means, differences and intervals as Markdown
//! ```

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use fs_err as fs;
use serde::Deserialize;
use serde_json::Value;

use crate::python::{program, target};
use crate::workspace_root;

/// What is compared with what.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Study {
    /// The configuration that all arms begin with.
    config: PathBuf,
    /// Settings of all arms, as `--set` takes them.
    #[serde(default)]
    set: Vec<String>,
    /// Seeds: each is a run of its own of every arm.
    seeds: Vec<u64>,
    /// The first is what the others are compared with.
    arm: Vec<Arm>,
    /// Labels that scores are shown for, as a part of all.
    budgets: Vec<f64>,
    /// Whether the arm without any pretraining and the linear one are shown.
    #[serde(default)]
    baselines: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Arm {
    name: String,
    #[serde(default)]
    set: Vec<String>,
    /// Another configuration than that of the study.
    config: Option<PathBuf>,
}

/// A number of each run, in the order of the seeds.
type Numbers = BTreeMap<String, Vec<f64>>;

/// Runs a study and prints its table.
pub fn run(path: &Path, data: &Path) -> Result<()> {
    let text = fs::read_to_string(path)?;
    let study: Study = toml::from_str(&text).with_context(|| format!("read the study {}", path.display()))?;
    ensure!(study.arm.len() > 1 && study.seeds.len() > 1, "a study has two arms and two seeds at least");
    let stem = path.file_stem().context("a study is a file")?;
    let out = target().join("studies").join(stem);
    fs::create_dir_all(&out)?;
    let program = program()?;
    let mut found: Vec<(String, Numbers)> = study.arm.iter().map(|arm| (arm.name.clone(), Numbers::new())).collect();
    let baselines =
        [("from scratch", "scratch"), ("TF-IDF + linear", "tfidf")].map(|(name, key)| (name.to_owned(), key));
    let mut beside: Vec<(String, Numbers)> = baselines.iter().map(|(name, _)| (name.clone(), Numbers::new())).collect();
    for seed in &study.seeds {
        for (idx, arm) in study.arm.iter().enumerate() {
            let folder = one(&study, arm, *seed, &program, data, &out)?;
            let results: Value = serde_json::from_slice(&fs::read(folder.join("results.json"))?)?;
            add(&mut found[idx].1, scores(&results, "pretrained", &study.budgets).chain(costs(&results)));
            add(&mut found[idx].1, adaptation(&results, &folder)?.into_iter());
            if idx == 0 && study.baselines {
                for ((_, key), (_, numbers)) in baselines.iter().zip(&mut beside) {
                    add(numbers, scores(&results, key, &study.budgets));
                }
            }
            eprintln!("{}, seed {seed}: done", arm.name);
        }
    }
    found.extend(beside.into_iter().filter(|(_, numbers)| !numbers.is_empty()));
    let page = table(&found);
    fs::write(out.join("table.md"), &page)?;
    eprintln!("{page}");
    Ok(())
}

/// One run of one arm: its folder.
fn one(study: &Study, arm: &Arm, seed: u64, program: &Path, data: &Path, out: &Path) -> Result<PathBuf> {
    let config = workspace_root().join(arm.config.as_ref().unwrap_or(&study.config));
    let name = format!("{}-{seed}", arm.name.replace(|c: char| !c.is_ascii_alphanumeric(), "-"));
    let mut command = Command::new(program);
    command.args(["run", "--out"]).arg(out).arg("--config").arg(&config).current_dir(workspace_root());
    let own = [format!("seed={seed}"), format!("name={name}"), format!("data={}", data.display())];
    for set in study.set.iter().chain(&arm.set).chain(&own) {
        command.arg("--set").arg(set);
    }
    // A gate that does not hold is a result, too.
    let status = command.status().context("start arable")?;
    ensure!(matches!(status.code(), Some(0 | 3)), "{name} failed: {status}");
    Ok(out.join(name))
}

fn add(numbers: &mut Numbers, found: impl Iterator<Item = (String, f64)>) {
    found.for_each(|(name, value)| numbers.entry(name).or_default().push(value));
}

/// Mean test scores of an arm in percent, by task and budget.
fn scores<'a>(results: &'a Value, arm: &'a str, budgets: &'a [f64]) -> impl Iterator<Item = (String, f64)> + 'a {
    let tasks = results["tasks"].as_array().into_iter().flatten();
    tasks.flat_map(move |task| {
        budgets.iter().filter_map(move |budget| {
            let cells = task["cells"].as_array()?.iter();
            let own = cells.filter(|cell| cell["arm"] == arm && cell["budget"].as_f64() == Some(*budget));
            let metric = task["metric"].as_str()?;
            let values: Vec<f64> = own.filter_map(|cell| cell["metrics"][metric].as_f64()).collect();
            let name = format!("{}, {} % of labels", task["name"].as_str()?, 100.0 * budget);
            (!values.is_empty()).then(|| (name, 100.0 * values.iter().sum::<f64>() / values.len() as f64))
        })
    })
}

/// The held-out loss of each source at the end, and the seconds of pretraining.
fn costs(results: &Value) -> impl Iterator<Item = (String, f64)> {
    let pretraining = &results["pretraining"];
    let last = pretraining["stages"].as_array().and_then(|stages| stages.last());
    let losses = last.and_then(|stage| stage["held_out"].as_object()).into_iter().flatten();
    let losses = losses.filter_map(|(source, ends)| Some((format!("held-out loss, {source}"), ends[1].as_f64()?)));
    let seconds = pretraining["wall_s"].as_f64().map(|seconds| ("pretraining, s".to_owned(), seconds));
    losses.chain(seconds).collect::<Vec<_>>().into_iter()
}

/// What learning a task costs: the mean time of one model, tests too, and the weights that are kept of it.
fn adaptation(results: &Value, folder: &Path) -> Result<Vec<(String, f64)>> {
    let mut rows = Vec::new();
    for task in results["tasks"].as_array().into_iter().flatten() {
        let name = task["name"].as_str().context("a task has a name")?;
        let cells = task["cells"].as_array().into_iter().flatten().filter(|cell| cell["arm"] == "pretrained");
        let times: Vec<f64> = cells.filter_map(|cell| cell["wall_s"].as_f64()).collect();
        rows.push((format!("{name}, s"), mean(&times)));
        let kept = ["adapter", "export"].map(|kept| folder.join(format!("adapt-{name}")).join(kept));
        let kept = kept.iter().find(|kept| kept.exists()).context("a task keeps an adapter or a model")?;
        let mut bytes = 0;
        for file in fs::read_dir(kept)? {
            let file = file?;
            if file.path().extension().is_some_and(|end| end == "safetensors") {
                bytes += file.metadata()?.len();
            }
        }
        rows.push((format!("{name}, MB"), bytes as f64 / 1e6));
    }
    Ok(rows)
}

/// A row for each number: means over seeds, and differences from the first arm with 95 % intervals over the same seeds.
fn table(arms: &[(String, Numbers)]) -> String {
    let mut page =
        format!("| | {} |\n|---|{}\n", join(arms.iter().map(|(name, _)| name.clone())), "---|".repeat(arms.len()));
    let (_, first) = &arms[0];
    for (row, base) in first {
        let cell = |(idx, (_, numbers)): (usize, &(String, Numbers))| match numbers.get(row) {
            None => String::new(),
            Some(values) if idx == 0 => format!("{:.2} \u{b1} {:.2}", mean(values), deviation(values)),
            Some(values) => {
                let differences: Vec<f64> = values.iter().zip(base).map(|(own, base)| own - base).collect();
                let (middle, half) = (mean(&differences), half_interval(&differences));
                format!("{:.2} ({middle:+.2}, {:+.2} to {:+.2})", mean(values), middle - half, middle + half)
            }
        };
        let cells = join(arms.iter().enumerate().map(cell));
        writeln!(page, "| {row} | {cells} |").expect("a text takes more text");
    }
    page
}

fn join(cells: impl Iterator<Item = String>) -> String {
    cells.collect::<Vec<_>>().join(" | ")
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The standard deviation of a sample.
fn deviation(values: &[f64]) -> f64 {
    let middle = mean(values);
    let squares: f64 = values.iter().map(|value| (value - middle).powi(2)).sum();
    (squares / (values.len() as f64 - 1.0).max(1.0)).sqrt()
}

/// Half of the 95 % interval of a mean (Student 1908).
fn half_interval(values: &[f64]) -> f64 {
    /// The 97.5 % points of Student's t for 1 to 9 degrees of freedom.
    const T: [f64; 9] = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262];
    let degrees = values.len().saturating_sub(1).clamp(1, T.len());
    T[degrees - 1] * deviation(values) / (values.len() as f64).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_have_the_interval_of_their_seeds() {
        let numbers = |values: [f64; 3]| Numbers::from([("score".to_owned(), values.to_vec())]);
        let page = table(&[("a".to_owned(), numbers([1.0, 2.0, 3.0])), ("b".to_owned(), numbers([2.0, 4.0, 3.0]))]);
        // Differences 1, 2, 0: mean 1, deviation 1, and 4.303 / sqrt(3) around it.
        assert_eq!(page, "| | a | b |\n|---|---|---|\n| score | 2.00 \u{b1} 1.00 | 3.00 (+1.00, -1.48 to +3.48) |\n");
    }
}
