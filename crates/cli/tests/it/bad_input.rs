//! What is wrong is said, with a hint and the right exit code, and nothing is left half-written.

use std::process::Command;

use crate::domain::{Domain, artifacts, text};

/// Runs a domain that was spoilt by `spoil` and checks what is said.
fn check(spoil: impl Fn(&Domain), args: &[&str], says: &[&str]) {
    let domain = Domain::new();
    spoil(&domain);
    let said = domain.fails(2, args);
    for part in says.iter().chain(&["error: failed to", "hint: "]) {
        assert!(said.contains(part), "`{part}` in:\n{said}");
    }
    if domain.path("runs/artifacts").exists() {
        let trained = artifacts(&domain.path("runs"), "pretrain");
        assert!(trained.iter().all(|path| path.extension().is_some_and(|end| end == "partial")), "{trained:?}");
    }
}

fn edit(domain: &Domain, from: &str, to: &str) {
    let text = std::fs::read_to_string(domain.path("arable.toml")).unwrap();
    assert!(text.contains(from));
    domain.write("arable.toml", text.replace(from, to));
}

#[test]
fn missing_files_are_named() {
    check(|domain| edit(domain, "notes.jsonl", "note.jsonl"), &["run"], &["note.jsonl"]);
    check(|domain| edit(domain, "kind.jsonl", "kinds.jsonl"), &["run"], &["kinds.jsonl"]);
    check(|_| (), &["run", "--config", "nowhere.toml"], &["nowhere.toml"]);
    check(|_| (), &["run", "--set", "data=/no/such/folder"], &["/no/such/folder", "--set data="]);
}

#[test]
fn a_wrong_column_names_those_there_are() {
    check(
        |domain| edit(domain, "path = \"notes.jsonl\"", "path = \"notes.jsonl\"\ntext = \"body\""),
        &["run"],
        &["body"],
    );
    check(
        |domain| edit(domain, "train = \"kind.jsonl\"", "train = \"kind.jsonl\"\nlabel = \"lable\""),
        &["run"],
        &["lable"],
    );
}

#[test]
fn an_empty_corpus_is_refused() {
    check(|domain| domain.write("notes.jsonl", ""), &["run"], &["notes"]);
}

#[test]
fn undecodable_bytes_are_refused_when_there_are_many_and_quarantined_when_few() {
    check(|domain| domain.write("notes.jsonl", [0xFF; 2000]), &["run"], &["notes"]);
    let domain = Domain::new();
    let mut bytes = std::fs::read(domain.path("notes.jsonl")).unwrap();
    bytes.extend_from_slice(b"\xFF\xFE broken\n");
    domain.write("notes.jsonl", bytes);
    domain.ok(&["run"]);
    let results = std::fs::read_to_string(domain.path("runs/small/results.json")).unwrap();
    let results: serde_json::Value = serde_json::from_str(&results).unwrap();
    assert_eq!(results["corpus"]["sources"][0]["num_rejected"], 1);
    assert!(domain.path("runs/small/corpus/quarantine.jsonl.zst").exists());
}

#[test]
fn a_label_that_training_never_saw_is_named() {
    let spoil = |domain: &Domain| {
        domain.write("test.jsonl", "{\"id\": \"1\", \"text\": \"The pump sings at dawn.\", \"label\": \"music\"}\n");
        edit(domain, "train = \"kind.jsonl\"", "train = \"kind.jsonl\"\ntest = \"test.jsonl\"");
    };
    check(spoil, &["run"], &["music", "test.jsonl", "unseen_labels"]);
}

#[test]
fn settings_that_cannot_be_are_refused() {
    check(|_| (), &["run", "--set", "pretrain.lerning_rate=1"], &["lerning_rate", "learning_rate"]);
    check(|domain| edit(domain, "vocab_size", "vocabsize"), &["run"], &["vocabsize", "vocab_size", "arable.toml:"]);
    check(|_| (), &["run", "--set", "pretrain.mlm.mask_prob=1.5"], &["1.5"]);
    check(|_| (), &["run", "--set", "pretrain.max_length=4096"], &["max_position_embeddings"]);
    check(|_| (), &["run", "--set", "model.num_attention_heads=5"], &["num_attention_heads"]);
    check(|_| (), &["run", "--set", "pretrain.learning_rate=1e9"], &["at step", "learning rate"]);
}

#[test]
fn flags_without_effect_are_refused() {
    let domain = Domain::new();
    assert!(domain.fails(2, &["runs", "--threads", "2"]).contains("--threads"));
    assert!(domain.fails(2, &["bench", "stpe"]).contains("step"));
    assert!(domain.fails(2, &["bench", "step", "--tokens", "1"]).contains("one sequence"));
    assert!(domain.fails(2, &["report"]).contains("find a run"));
    assert_eq!(domain.arable(&["plough"]).status.code(), Some(2));
}

/// On a disk of a few hundred kilobytes: a clear error, exit code 1, and a run that ends well once there is room.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_loses_nothing() {
    let domain = Domain::new();
    std::fs::create_dir(domain.path("runs")).unwrap();
    let script =
        "mount -t tmpfs -o size=400k tmpfs runs || exit 77; \"$0\" run; code=$?; ls runs/artifacts; exit $code";
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", script, env!("CARGO_BIN_EXE_arable")])
        .current_dir(domain.path("."))
        .output();
    let output = match output {
        Ok(output) if output.status.code() != Some(77) && !text(&output).contains("unshare") => output,
        _ => return eprintln!("SKIPPED: a full disk needs the right to mount"),
    };
    let said = text(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("space") && said.contains("hint: "), "{said}");
    let whole = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!whole.lines().any(|name| name.starts_with("pretrain-") && !name.ends_with(".partial")), "{whole}");
}
