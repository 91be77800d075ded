//! A small generated domain and the program on it.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use arable_core::Seed;
use tempfile::TempDir;

/// A folder with an `arable.toml`, documents and a task.
pub struct Domain {
    dir: TempDir,
}

const CONFIG: &str = r#"
name = "small"
[[corpus.source]]
name = "notes"
path = "notes.jsonl"
[corpus]
held_out = 0.1
[tokenizer]
vocab_size = 400
[model]
size = "nano"
num_hidden_layers = 2
hidden_size = 32
intermediate_size = 48
[pretrain]
num_tokens = 12000
tokens_per_batch = 256
max_length = 64
held_out_every = 20
checkpoint_every = 7
[adapt]
budgets = [0.5, 1.0]
num_seeds = 1
learning_rates = [1e-3]
num_resamples = 50
[adapt.finetune]
min_steps = 4
max_steps = 8
num_evaluations = 2
[adapt.baseline]
c_grid = [1.0]
[task.kind]
kind = "classification"
train = "kind.jsonl"
"#;

const SUBJECTS: [&str; 6] = ["pump", "valve", "rotor", "seal", "bearing", "filter"];
const VERBS: [&str; 5] = ["leaks", "rattles", "overheats", "stalls", "hums"];
const PLACES: [&str; 4] = ["near the inlet", "under load", "after the start", "at night"];

/// Sentence number `idx` and whether it is about heat.
fn sentence(idx: u64) -> (String, bool) {
    let mut draws = Seed(5).stream("sentences").at(idx, 0);
    let mut pick = |words: &[&'static str]| words[draws.below(words.len())];
    let (subject, verb, place) = (pick(&SUBJECTS), pick(&VERBS), pick(&PLACES));
    (format!("The {subject} {verb} {place}, seen on shift {idx}."), verb == "overheats" || verb == "hums")
}

impl Domain {
    /// The domain in a fresh folder.
    pub fn new() -> Self {
        let domain = Self { dir: TempDir::new().unwrap() };
        let (mut notes, mut task) = (String::new(), String::new());
        for idx in 0..400 {
            let text: Vec<String> = (0..4).map(|part| sentence(idx * 4 + part).0).collect();
            writeln!(notes, "{}", serde_json::json!({ "id": idx.to_string(), "text": text.join(" ") })).unwrap();
        }
        for idx in 10_000..10_120 {
            let (text, hot) = sentence(idx);
            let label = if hot { "heat" } else { "other" };
            writeln!(task, "{}", serde_json::json!({ "id": idx.to_string(), "text": text, "label": label })).unwrap();
        }
        domain.write("notes.jsonl", notes);
        domain.write("kind.jsonl", task);
        domain.write("arable.toml", CONFIG);
        domain
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), content).unwrap();
    }

    /// The program with `args`, in the domain's folder.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_arable"));
        command.args(args).current_dir(self.dir.path());
        command
    }

    pub fn arable(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs, expecting success; what was said to people.
    pub fn ok(&self, args: &[&str]) -> String {
        let output = self.arable(args);
        assert_eq!(output.status.code(), Some(0), "{args:?}: {}", text(&output));
        text(&output)
    }

    /// Runs, expecting exit code `code`; what was said to people.
    pub fn fails(&self, code: i32, args: &[&str]) -> String {
        let output = self.arable(args);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {}", text(&output));
        text(&output)
    }

    /// The digest of the final weights of the run called `small` below `out`.
    pub fn weights(&self, out: &str) -> String {
        self.weights_of(out, "pretrain")
    }

    /// The digest of the weights at the end of a stage.
    pub fn weights_of(&self, out: &str, stage: &str) -> String {
        let manifest = self.path(out).join("small").join(stage).join("manifest.json");
        let manifest: serde_json::Value = serde_json::from_slice(&std::fs::read(manifest).unwrap()).unwrap();
        manifest["summary"]["weights"].as_str().unwrap().to_owned()
    }
}

/// What a program said to people.
pub fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The artifact folders of a kind below `out`.
pub fn artifacts(out: &Path, kind: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(out.join("artifacts")).unwrap().map(|entry| entry.unwrap().path());
    let of_kind = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with(&format!("{kind}-"));
    entries.filter(of_kind).collect()
}
