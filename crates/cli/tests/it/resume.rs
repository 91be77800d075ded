//! The same weights, whatever interrupts the run and however many threads compute.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread::sleep;
use std::time::Duration;

use arable_core::Seed;
use serde_json::Value;

use crate::domain::{Domain, artifacts, text};

#[test]
fn threads_change_no_bit_of_weights_and_scores() {
    let domain = Domain::new();
    let found: Vec<(String, Vec<Value>)> = [1, 2, 3, 7]
        .into_iter()
        .map(|num_threads| {
            let out = format!("out-{num_threads}");
            domain.ok(&["run", "--out", &out, "--threads", &num_threads.to_string()]);
            (domain.weights(&out), scores(&domain.path(&out)))
        })
        .collect();
    assert!(found.iter().all(|each| *each == found[0]), "{found:?}");
}

/// What was measured of every cell, less the clock.
fn scores(out: &Path) -> Vec<Value> {
    let results: Value =
        serde_json::from_str(&std::fs::read_to_string(out.join("small/results.json")).unwrap()).unwrap();
    let cells = results["tasks"][0]["cells"].as_array().unwrap();
    assert_eq!(cells.len(), 6);
    cells.iter().map(|cell| serde_json::json!([cell["arm"], cell["metrics"], cell["curve"]])).collect()
}

/// Long enough to be caught in the middle.
pub const LONG: [&str; 2] = ["--set", "pretrain.num_tokens=60000"];

/// How often the test kills: a dozen times, or as `ARABLE_KILLS` says (1,000 take about ten minutes).
fn num_kills_wanted() -> u64 {
    std::env::var("ARABLE_KILLS").map_or(12, |text| text.parse().expect("ARABLE_KILLS is a number"))
}

/// Stages that have all the kinds of state that there are: models beside the model, an order of documents, weights of sources.
const STAGES: &str = r#"
[[stage]]
name = "tokens"
num_tokens = 20000
curriculum = { by = "num_words" }
worst_source = {}
[[stage]]
name = "vectors"
num_tokens = 20000
contrastive = { pairs = "spans", weight = [0.1, 0.5] }
denoise = { weight = 0.5 }
[[stage]]
name = "joint"
num_tokens = 20000
mlm = { weight = 0 }
rtd = { generator_width = 0.5 }
tasks = { batch_size = 4 }
[[stage]]
name = "thin"
num_tokens = 20000
denoise = { weight = 0.5 }
adapter = { lora = { dropout = 0.1 } }
"#;

/// Runs over several stages are killed at random moments until they are through, one run after the other.
#[test]
fn kills_change_no_bit_of_the_weights() {
    let domain = Domain::new();
    let config = std::fs::read_to_string(domain.path("arable.toml")).unwrap();
    domain.write("arable.toml", config.replace("budgets = [0.5, 1.0]", "budgets = [1.0]") + STAGES);
    domain.ok(&["run", "--out", "whole"]);
    let weights = |out: &str| {
        ["tokens", "vectors", "joint", "thin"].map(|stage| domain.weights_of(out, &format!("pretrain-{stage}")))
    };
    let want = weights("whole");
    let mut moments = Seed(11).stream("moments").at(0, 0);
    let (mut num_kills, wanted) = (0, num_kills_wanted());
    for run in 0.. {
        let out = format!("runs-{run}");
        loop {
            let started = domain.path(&out).join("small/run.json").exists();
            let command = [if started { "resume" } else { "run" }];
            let mut command = domain.command(&[&command[..], &["--out", &out]].concat());
            let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            sleep(Duration::from_millis(20 + moments.below(400) as u64));
            if child.try_wait().unwrap().is_some_and(|status| status.success()) {
                break;
            }
            child.kill().unwrap();
            child.wait().unwrap();
            num_kills += 1;
            if num_kills == wanted {
                domain.ok(&["resume", "--out", &out]);
                break;
            }
        }
        assert_eq!(weights(&out), want, "run {run} after {num_kills} kills");
        if num_kills == wanted {
            return;
        }
        std::fs::remove_dir_all(domain.path(&out)).unwrap();
    }
}

/// The whole checkpoints of a working folder, oldest first.
fn checkpoints(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder.join("checkpoints")).into_iter().flatten().flatten();
    let is_step = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        name.strip_prefix("step-").is_some_and(|step| step.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let mut steps: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(is_step).collect();
    steps.sort();
    steps
}

/// A truncated checkpoint is named and passed over, and the run still ends with the same bits.
#[test]
fn a_truncated_checkpoint_is_passed_over() {
    let domain = Domain::new();
    domain.ok(&[&["run", "--out", "whole"][..], &LONG].concat());
    let mut child =
        domain.command(&[&["run"][..], &LONG].concat()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let steps = loop {
        sleep(Duration::from_millis(2));
        assert!(child.try_wait().unwrap().is_none(), "the run is caught before its end");
        let working = domain.path("runs/artifacts").exists().then(|| artifacts(&domain.path("runs"), "pretrain"));
        let Some(folder) = working.and_then(|found| found.into_iter().next()) else { continue };
        if checkpoints(&folder).len() >= 2 {
            child.kill().unwrap();
            child.wait().unwrap();
            break checkpoints(&folder);
        }
    };
    let newest = steps.last().unwrap().join("model.safetensors");
    let bytes = std::fs::read(&newest).unwrap();
    std::fs::write(&newest, &bytes[..bytes.len() / 2]).unwrap();
    let output = domain.arable(&["resume"]);
    assert!(output.status.success(), "{}", text(&output));
    assert!(text(&output).contains("passed over a broken checkpoint"), "{}", text(&output));
    assert_eq!(domain.weights("runs"), domain.weights("whole"));
}

#[cfg(unix)]
#[test]
fn ctrl_c_stops_at_a_checkpoint_with_exit_code_4() {
    let domain = Domain::new();
    let args = ["run", "--set", "pretrain.num_tokens=3000000"];
    let child = domain.command(&args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    sleep(Duration::from_millis(1500));
    let status = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(status.success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(4), "{}", text(&output));
    assert!(text(&output).contains("arable resume"), "{}", text(&output));
    assert!(domain.ok(&["runs"]).contains("cancelled"));
}
