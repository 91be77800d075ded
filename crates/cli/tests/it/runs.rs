//! What a run does, what a second one does not, and what commands show.

use std::time::Instant;

use crate::domain::{Domain, artifacts};

#[test]
fn a_run_ends_in_a_report_and_a_second_one_has_nothing_to_do() {
    let domain = Domain::new();
    let said = domain.ok(&["run"]);
    assert!(said.contains("TF-IDF + linear") && said.contains("report.html"), "{said}");
    for name in ["arable.toml", "resolved.toml", "environment.json", "run.json", "results.json", "report.html"] {
        assert!(domain.path("runs/small").join(name).exists(), "{name}");
    }
    for link in ["latest", "best"] {
        assert!(domain.path("runs/small/pretrain/checkpoints").join(link).join("model.safetensors").exists(), "{link}");
    }
    let export = domain.path("runs/small/adapt-kind/export");
    let card = std::fs::read_to_string(export.join("README.md")).unwrap();
    assert!(card.starts_with("---\nlibrary_name: transformers") && card.contains("| 100 % |"), "{card}");
    assert!(std::fs::read_to_string(export.join("eval_results.yaml")).unwrap().contains("    ece: "));
    let start = Instant::now();
    let said = domain.ok(&["run"]);
    assert!(said.contains("nothing to do"), "{said}");
    assert!(start.elapsed().as_secs_f64() < 1.0, "a run with nothing to do is over in a second");
    let listed = domain.ok(&["runs"]);
    assert!(listed.contains("small") && listed.contains("done"), "{listed}");
    assert!(domain.ok(&["report"]).contains("TF-IDF + linear"));
    assert!(domain.ok(&["run", "--dry-run"]).lines().filter(|line| line.ends_with(" done")).count() >= 6);
    let environment = domain.path("runs/small/environment.json");
    let written = std::fs::read_to_string(&environment).unwrap();
    std::fs::write(environment, written.replace("\"precision\": \"", "\"precision\": \"x")).unwrap();
    let said = domain.fails(1, &["resume"]);
    assert!(said.contains("precision `x") && said.contains("hint: "), "another precision would be another run: {said}");
}

#[test]
fn a_change_rebuilds_what_depends_on_it_alone() {
    let domain = Domain::new();
    domain.ok(&["run"]);
    let said = domain.ok(&["run", "--set", "pretrain.learning_rate=1e-3"]);
    let outcome = |kind: &str| said.lines().find(|line| line.starts_with(kind)).unwrap().contains("unchanged");
    assert!(outcome("corpus") && outcome("tokenizer") && outcome("shards"), "{said}");
    assert!(!outcome("pretrain") && !outcome("adapt-kind"), "{said}");
    assert_eq!(artifacts(&domain.path("runs"), "pretrain").len(), 2);
}

#[test]
fn settings_are_shown_with_their_origin() {
    let domain = Domain::new();
    let output = domain.arable(&["config", "show", "--origin", "--set", "seed=9"]);
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(shown.lines().any(|line| line.starts_with("seed = 9") && line.contains("--set")), "{shown}");
    assert!(shown.lines().any(|line| line.starts_with("pretrain.max_length = 64") && line.contains("line")), "{shown}");
    assert!(shown.lines().any(|line| line.contains("weight_decay") && line.contains("default")), "{shown}");
    let schema = domain.arable(&["config", "schema"]).stdout;
    let schema: serde_json::Value = serde_json::from_slice(&schema).unwrap();
    assert!(schema["properties"]["pretrain"].is_object());
}

#[test]
fn the_json_of_a_run_is_on_stdout_alone() {
    let domain = Domain::new();
    let output = domain.arable(&["run", "--json"]);
    let results: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(results["tasks"][0]["name"], "kind");
}

#[test]
fn init_writes_a_configuration_that_is_read() {
    let domain = Domain::new();
    domain.ok(&["init", "turbines"]);
    assert!(domain.fails(2, &["init", "turbines"]).contains("exists"));
    let said = domain.fails(2, &["run", "--config", "turbines/arable.toml"]);
    assert!(said.contains("documents"), "the documents are missing, the configuration is fine: {said}");
}
