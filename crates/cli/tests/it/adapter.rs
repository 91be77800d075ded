//! Adapters in place of whole models: of tasks, of stages, and merged.

use serde_json::Value;

use crate::domain::Domain;

/// A plan whose second stage trains an adapter.
const STAGES: &str = r#"
[[stage]]
name = "whole"
num_tokens = 6000
[[stage]]
name = "thin"
num_tokens = 6000
adapter = { lora = { rank = 4, dropout = 0.1 } }
[[stage]]
name = "rest"
num_tokens = 3000
"#;

fn staged() -> Domain {
    let domain = Domain::new();
    let config = std::fs::read_to_string(domain.path("arable.toml")).unwrap();
    domain.write("arable.toml", config + STAGES);
    domain
}

fn json(domain: &Domain, path: &str) -> Value {
    serde_json::from_slice(&std::fs::read(domain.path(path)).unwrap()).unwrap()
}

fn weights(domain: &Domain, out: &str, stage: &str) -> Value {
    json(domain, &format!("{out}/small/pretrain-{stage}/manifest.json"))["summary"]["weights"].clone()
}

const LORA: [&str; 2] = ["--set", "adapt.adapter={ lora = { rank = 4 } }"];

#[test]
fn a_task_is_learned_by_an_adapter() {
    let domain = Domain::new();
    domain.ok(&["run"]);
    let before = domain.weights("runs");
    let base = domain.path("runs/small/pretrain/checkpoints/latest");
    let bytes = std::fs::read(base.join("model.safetensors")).unwrap();
    let said = domain.ok(&[&["run"][..], &LORA].concat());
    assert!(said.contains("pretrain"), "{said}");
    assert_eq!(domain.weights("runs"), before);
    assert!(std::fs::read(base.join("model.safetensors")).unwrap() == bytes, "the base stays, byte for byte");
    let folder = "runs/small/adapt-kind/adapter";
    assert_eq!(json(&domain, &format!("{folder}/adapter_config.json"))["peft_type"], "LORA");
    let size = |path: &str| std::fs::metadata(domain.path(path)).unwrap().len();
    assert!(!domain.path("runs/small/adapt-kind/export").exists());
    assert!(size(&format!("{folder}/adapter_model.safetensors")) < bytes.len() as u64 / 2);
    assert!(domain.path(folder).join("calibration.json").exists() && domain.path(folder).join("README.md").exists());
    domain.ok(&[&["run", "--threads", "1", "--out", "other"][..], &LORA].concat());
    let adapter =
        |out: &str| std::fs::read(domain.path(out).join("small/adapt-kind/adapter/adapter_model.safetensors"));
    assert!(adapter("runs").unwrap() == adapter("other").unwrap(), "any number of threads");
    let said = domain.ok(&["adapter", "show", folder]);
    assert!(said.contains("LORA") && said.contains("labels: heat, other"), "{said}");
    let base = base.to_str().unwrap();
    domain.ok(&["adapter", "merge", base, folder, "--to", "merged"]);
    assert!(domain.path("merged/tokenizer.json").exists() && size("merged/model.safetensors") > 0);
    let twice = ["adapter", "merge", base, folder, folder, "--weights", "0.5,0.5", "--method", "ties", "--to", "ties"];
    domain.ok(&twice);
    for (args, said) in [
        (vec!["adapter", "merge", base, folder, "--weights", "1,2", "--to", "x"], "one weight for each"),
        (vec!["adapter", "merge", base, folder, "--to", "merged"], "exists"),
        (vec!["adapter", "merge", "merged", folder, "--to", "x"], "other weights"),
        (vec!["run", "--set", "adapt.adapter={ lora = { rank = 0 } }"], "rank of 0"),
        (vec!["run", "--set", "adapt.adapter={ lora = { targets = ['q_proj'] } }"], "Wqkv"),
        (vec!["run", "--set", "adapt.adapter={ bitfit = {} }"], "it has none"),
        (vec!["run", "--set", "adapt.adapters={ kinds = { ia3 = {} } }"], "the tasks are: kind"),
    ] {
        let output = domain.fails(2, &args);
        assert!(output.contains(said), "{args:?}: {output}");
    }
}

#[test]
fn a_stage_trains_an_adapter_that_the_next_begins_with() {
    let domain = staged();
    domain.ok(&["run"]);
    let folder = "runs/small/pretrain-thin";
    assert_eq!(json(&domain, &format!("{folder}/adapter/adapter_config.json"))["r"], 4);
    let read = |path: String| std::fs::read(domain.path(&path)).unwrap();
    let model = "model.safetensors";
    let whole = read(format!("runs/small/pretrain-whole/checkpoints/latest/{model}"));
    assert!(read(format!("{folder}/checkpoints/latest/{model}")) == whole, "the base stays, byte for byte");
    assert!(read(format!("{folder}/merged/{model}")) != whole);
    let moments = read(format!("{folder}/checkpoints/latest/optimizer.safetensors")).len();
    assert!(moments < whole.len() / 2, "moments of the adapter alone: {moments}");
    let results = json(&domain, "runs/small/results.json");
    let [before, after] =
        [0, 1].map(|end| results["pretraining"]["stages"][1]["held_out"]["notes"][end].as_f64().unwrap());
    assert!(after < before, "{before} -> {after}");
    let next = results["pretraining"]["stages"][2]["held_out"]["notes"][0].as_f64().unwrap();
    assert!((next - after).abs() < 0.2, "the next stage begins where this one ended: {after}, {next}");
    domain.ok(&["run", "--threads", "3", "--out", "other"]);
    for stage in ["thin", "rest"] {
        assert_eq!(weights(&domain, "runs", stage), weights(&domain, "other", stage));
    }
    for step in ["3", "15"] {
        let said = domain.ok(&["replay", "--stage", "thin", "--step", step]);
        assert!(said.contains("equal, bit for bit"), "{said}");
    }
    domain.ok(&["rollback", "--to", "thin/step-14"]);
    let said = domain.fails(2, &["run", "--set", "stage.thin.adapter={ ia3 = {} }"]);
    assert!(said.contains("the adapter of the stage"), "{said}");
    domain.ok(&["run"]);
    assert_eq!(weights(&domain, "runs", "rest"), weights(&domain, "other", "rest"));
    domain.ok(&["verify"]);
    for (set, said) in [
        ("pretrain.adapter={ lora = {} }", "never trained"),
        ("stage.thin.adapter={ bottleneck = {} }", "merge bottlenecks"),
        ("stage.thin.train={ last_layers = 1 }", "in the place of all weights"),
    ] {
        let output = domain.fails(2, &["plan", "--set", set]);
        assert!(output.contains(said), "{set}: {output}");
    }
}
