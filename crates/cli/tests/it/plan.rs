//! Stages, gates, and the way back.

use std::path::PathBuf;

use serde_json::Value;

use crate::domain::{Domain, artifacts};

/// Two sources and a plan of two stages over them, the second with a ramp of everything that ramps.
const PLAN: &str = r#"
[[corpus.source]]
name = "asides"
path = "asides.jsonl"
[[stage]]
name = "general"
num_tokens = 6000
mixture = { asides = 1 }
[[stage]]
name = "domain"
num_tokens = 9000
mixture = { notes = [1, 3], asides = [1, 0] }
tokens_per_batch = [128, 256]
max_length = [32, 64]
schedule = { cosine = { floor = 0.1 } }
mlm = { mask_prob = [0.4, 0.2], unit = "span" }
"#;

fn staged(more: &str) -> Domain {
    let domain = Domain::new();
    let aside =
        |idx: usize| format!(r#"{{"id": "a{idx}", "text": "The gardener of house {idx} waters roses, not pumps."}}"#);
    domain.write("asides.jsonl", (0..300).map(aside).collect::<Vec<_>>().join("\n"));
    let config = std::fs::read_to_string(domain.path("arable.toml")).unwrap();
    domain.write("arable.toml", config + PLAN + more);
    domain
}

fn results(domain: &Domain) -> Value {
    serde_json::from_slice(&std::fs::read(domain.path("runs/small/results.json")).unwrap()).unwrap()
}

fn weights(domain: &Domain, out: &str) -> Value {
    let manifest = domain.path(out).join("small/pretrain-domain/manifest.json");
    let manifest: Value = serde_json::from_slice(&std::fs::read(manifest).unwrap()).unwrap();
    manifest["summary"]["weights"].clone()
}

fn checkpoints(domain: &Domain) -> Vec<PathBuf> {
    let folder = domain.path("runs/small/pretrain-domain/checkpoints");
    let mut found: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.retain(|path| !path.is_symlink());
    found.sort();
    found
}

fn last_step(domain: &Domain) -> u64 {
    let last = checkpoints(domain).pop().unwrap();
    last.file_name().unwrap().to_str().unwrap().strip_prefix("step-").unwrap().parse().unwrap()
}

#[test]
fn stages_follow_one_another_in_the_shares_asked_for() {
    let domain = staged("");
    let said = domain.ok(&["plan"]);
    assert!(said.contains("pretrain-general         to do"), "{said}");
    assert!(said.lines().all(|line| line.chars().count() <= 80), "{said}");
    domain.ok(&["run"]);
    let results = results(&domain);
    let stages = results["pretraining"]["stages"].as_array().unwrap();
    assert_eq!(stages.len(), 2);
    for source in stages.iter().flat_map(|stage| stage["sources"].as_array().unwrap()) {
        let (asked, reached) = (source["asked"].as_f64().unwrap(), source["reached"].as_f64().unwrap());
        assert!((asked - reached).abs() < 0.02 && reached > 0.05, "{source}");
    }
    assert_eq!(stages[0]["sources"].as_array().unwrap().len(), 1);
    // A model drawn at random is not measured before it is trained.
    let first = &stages[0]["held_out"]["notes"];
    assert!(first[0].is_null() && first[1].as_f64().is_some(), "{first}");
    // What was learned in the second stage is the notes; the first knew nothing of them.
    let [before, after] = [0, 1].map(|end| stages[1]["held_out"]["notes"][end].as_f64().unwrap());
    assert!(after < before - 0.3, "{before} -> {after}");
    assert!(domain.ok(&["run"]).contains("nothing to do"));
    // A later stage is trained again without the earlier one.
    let said = domain.ok(&["run", "--set", "stage.domain.learning_rate=1e-3"]);
    assert!(
        said.contains("pretrain-general      unchanged") && !said.contains("pretrain-domain       unchanged"),
        "{said}"
    );
}

/// An order of documents changes what is learned, and neither threads nor a kill show; its control reads the same documents.
#[test]
fn a_curriculum_orders_what_a_stage_reads() {
    let domain = staged("curriculum = { by = \"num_words + length(text) / 100.0\" }\n");
    domain.ok(&["run"]);
    domain.ok(&["run", "--threads", "3", "--out", "other"]);
    assert_eq!(weights(&domain, "runs"), weights(&domain, "other"));
    let step = last_step(&domain) - 1;
    domain.ok(&["replay", "--step", &step.to_string()]);
    let rising = weights(&domain, "runs");
    for set in ["order=\"shuffled\"", "order=\"falling\"", "by=\"source\""] {
        domain.ok(&["run", "--set", &format!("stage.domain.curriculum.{set}"), "--out", "others"]);
        assert_ne!(weights(&domain, "others"), rising, "{set}");
    }
    let said = domain.fails(2, &["run", "--set", "stage.domain.curriculum.by=num_wrds"]);
    assert!(said.contains("`stage.domain.curriculum.by`") && said.contains("did you mean `num_words`?"), "{said}");
}

#[test]
fn a_run_goes_back_to_a_checkpoint_and_comes_to_the_same_bits() {
    let domain = staged("");
    domain.ok(&["run"]);
    let (whole, num_artifacts) = (weights(&domain, "runs"), artifacts(&domain.path("runs"), "pretrain-domain").len());
    let target = checkpoints(&domain)[0].file_name().unwrap().to_str().unwrap().to_owned();
    let said = domain.ok(&["rollback", "--to", &format!("domain/{target}"), "--why", "a doubt"]);
    assert!(said.contains("stays on the disk"), "{said}");
    let said = domain.ok(&["resume"]);
    assert!(said.contains("resumed from step"), "{said}");
    assert_eq!(weights(&domain, "runs"), whole, "the same settings come to the same weights");
    assert_eq!(artifacts(&domain.path("runs"), "pretrain-domain").len(), num_artifacts + 1);
    // Other settings go on from the checkpoint.
    let rate = ["run", "--set", "stage.domain.learning_rate=1e-4"];
    assert!(domain.ok(&rate).contains("resumed from step"));
    assert_ne!(weights(&domain, "runs"), whole);
    // What the place in the data depends on is refused, unless the data is read anew.
    let shorter = ["run", "--set", "stage.domain.max_length=32"];
    let said = domain.fails(2, &shorter);
    assert!(said.contains("place in the data depends") && said.contains("--restart-data"), "{said}");
    domain.ok(&["run"]);
    domain.ok(&["rollback", "--to", &format!("domain/{target}"), "--restart-data"]);
    domain.ok(&shorter);
    let wider = domain.fails(2, &["run", "--set", "model.hidden_size=64"]);
    assert!(wider.contains("settings of the model"), "{wider}");
    domain.ok(&["run"]);
    domain.ok(&["rollback", "--undo", "--why", "no doubt"]);
    domain.ok(&["resume"]);
    assert_eq!(weights(&domain, "runs"), whole);
    let decisions = std::fs::read_to_string(domain.path("runs/small/decisions.jsonl")).unwrap();
    assert!(decisions.contains("a doubt") && decisions.contains("reading the data anew"), "{decisions}");
    for (target, said) in [("domain/step-9999", "there are checkpoints of steps"), ("step-x", "say STAGE/step-N")] {
        assert!(domain.fails(2, &["rollback", "--to", target]).contains(said));
    }
    assert!(domain.fails(2, &["rollback", "--undo"]).contains("none is in force"));
}

#[test]
fn a_past_step_is_computed_again_and_a_run_is_verified() {
    let domain = staged("");
    domain.ok(&["run"]);
    let step = last_step(&domain);
    for (stage, step) in [("domain", step), ("domain", step - 5), ("domain", 2), ("general", 3)] {
        let said = domain.ok(&["replay", "--stage", stage, "--step", &step.to_string()]);
        assert!(said.contains("equal, bit for bit"), "{stage} {step}: {said}");
    }
    assert!(domain.fails(2, &["replay", "--step", "9999"]).contains("has not done it"));
    let said = domain.ok(&["verify"]);
    assert!(said.contains("checkpoints") && !said.contains("broken"), "{said}");
    // One bit of the last checkpoint before the end, and one number of the record.
    let weights = checkpoints(&domain)[0].join("model.safetensors");
    let mut bytes = std::fs::read(&weights).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&weights, bytes).unwrap();
    let said = domain.fails(3, &["verify"]);
    assert!(said.contains("broken") && said.contains("model.safetensors"), "{said}");
    // What is broken is not computed with.
    let said = domain.fails(1, &["replay", "--stage", "domain", "--step", "3"]);
    assert!(said.contains("pretrain-domain") && said.contains("delete the folder"), "{said}");
}

#[test]
fn runs_are_compared() {
    let domain = staged("");
    domain.ok(&["run"]);
    domain.ok(&["run", "--set", "name=other", "--set", "stage.domain.learning_rate=1e-3"]);
    let said = domain.ok(&["diff", "small", "other"]);
    assert!(said.contains("stage.domain.learning_rate") && said.contains("0.001"), "{said}");
    assert!(said.contains("pretrain-general: every step the same"), "{said}");
    assert!(said.contains("pretrain-domain: part at step 1"), "{said}");
    assert!(said.lines().all(|line| line.chars().count() <= 80), "{said}");
}

#[test]
fn gates_stop_warn_and_roll_back() {
    let gate = |on_fail: &str| format!("gate = {{ holds = \"change_notes < -9\", on_fail = \"{on_fail}\" }}\n");
    let domain = staged(&gate("stop"));
    let said = domain.fails(3, &["run"]);
    assert!(said.contains("gate of stage `domain`") && said.contains("change_notes = -"), "{said}");
    // What was trained is not trained again when the gate is loosened.
    let held = ["run", "--set", "stage.domain.gate.holds=change_notes < -2 * noise"];
    let said = domain.ok(&held);
    assert!(said.contains("pretrain-domain       unchanged"), "{said}");
    let facts = &results(&domain)["pretraining"]["stages"][1]["gate"];
    assert_eq!(facts["passed"], true);
    assert!(facts["facts"].as_array().unwrap().len() == 2, "{facts}");
    let said = domain.ok(&["run", "--set", "stage.domain.gate.on_fail=warn"]);
    assert!(said.contains("warning: failed to pass the gate"), "{said}");
    let said = domain.fails(3, &["run", "--set", "stage.domain.gate.on_fail=roll_back"]);
    assert!(said.contains("go on from where the stage began") && said.contains("report:"), "{said}");
    assert_eq!(results(&domain)["pretraining"]["stages"][1]["gate"]["rolled_back"], true);
    let said = domain.fails(2, &["run", "--set", "stage.domain.gate.holds=chnge < 0"]);
    assert!(said.contains("chnge"), "{said}");
}

#[test]
fn plans_that_cannot_be_are_refused() {
    let domain = staged("");
    for (set, said) in [
        ("stage.domain.mixture={ poems = 1.0 }", "mix source `poems`"),
        ("stage.domain.mlm.mask_prob=[0.1, 1.5]", "1.5"),
        ("stage.domain.tokens_per_batch=[256, 16]", "at least one sequence"),
        ("stage.general.name=domain", "a name of its own"),
        ("stage.general.gte={}", "gate"),
    ] {
        let output = domain.fails(2, &["plan", "--set", set]);
        assert!(output.contains(said), "{set}: {output}");
    }
}

#[test]
fn probes_watch_a_plan_and_a_gate_compares_with_their_noise() {
    let probe = ["--set", "probe={ every = 7, num_seeds = 2, num_steps = 4, budget = 0.5 }"];
    let domain = staged("");
    domain.ok(&["run", "--out", "plain"]);
    let said = domain.ok(&[&["run"][..], &probe].concat());
    assert!(said.contains("step 0: kind") && said.contains("frozen"), "{said}");
    assert_eq!(weights(&domain, "runs"), weights(&domain, "plain"));
    let found = results(&domain);
    let probes = found["pretraining"]["probes"].as_array().unwrap().clone();
    assert_eq!(probes[0]["step"], 0);
    assert!(probes.len() > 4 && probes.iter().all(|probe| probe["task"] == "kind"), "{probes:?}");
    let [start, end] = [0, 1].map(|idx| found["pretraining"]["stages"][1]["probes"]["kind"][idx].clone());
    assert_eq!(start, probes[0], "changes are from the untouched starting point, over all stages");
    assert!(start["by_class"]["heat"].is_number() && end["ece"].is_number());
    let gate = "stage.domain.gate={ holds = 'change_probe_kind > 2 * noise_probe_kind AND ece_kind < -1' }";
    let said = domain.fails(3, &[&["run", "--set", gate][..], &probe].concat());
    assert!(said.contains("change_probe_kind = ") && said.contains("noise_probe_kind = "), "{said}");
    for (set, said) in [("probe.every=5", "multiple"), ("probe.num_seeds=1", "noise"), ("probe.num_steps=0", "0 steps")]
    {
        let output = domain.fails(2, &[&["plan"][..], &probe, &["--set", set]].concat());
        assert!(output.contains(said), "{set}: {output}");
    }
}

/// Stages with every objective beside one another, killed and gone on with, on other numbers of threads.
#[test]
fn objectives_share_a_plan() {
    let more = r#"
[[stage]]
name = "vectors"
num_tokens = 6000
dropout = 0.1
mlm = { weight = [1, 0.5], terms = { file = "terms.txt" } }
contrastive = { weight = 0.1, pairs = { given = { path = "pairs.jsonl", first = "a", second = "b", batch_size = 8 } } }
denoise = { weight = 0.2 }
worst_source = { rate = 0.05 }
[[stage]]
name = "joint"
num_tokens = 6000
mlm = { weight = 0 }
rtd = { weight = 20, generator_width = 0.5 }
consistency = { weight = 0.5 }
tasks = { batch_size = 8 }
"#;
    let domain = staged(more);
    domain.write("terms.txt", "pump\nbearing\n\nwater roses\n");
    let pair = |idx: usize| format!(r#"{{"a": "The pump leaks {idx}", "b": "A leak of pump {idx}, seen at night."}}"#);
    domain.write("pairs.jsonl", (0..40).map(pair).collect::<Vec<_>>().join("\n"));
    let said = domain.fails(2, &["run"]);
    assert!(said.contains("a stage that trains on all") && said.contains("adapt.budgets = [1.0]"), "{said}");
    let set = ["--set", "adapt.budgets=[1.0]"];
    let said = domain.ok(&[&["plan"], &set[..]].concat());
    assert!(said.contains("contrastive") && said.contains("rtd"), "{said}");
    assert!(said.lines().all(|line| line.chars().count() <= 80), "{said}");
    domain.ok(&[&["run"], &set[..]].concat());
    domain.ok(&[&["run", "--threads", "3", "--out", "other"], &set[..]].concat());
    assert_eq!(domain.weights_of("runs", "pretrain-joint"), domain.weights_of("other", "pretrain-joint"));
    domain.ok(&["replay", "--stage", "joint", "--step", "12"]);
    // What each objective found is in the metrics; a source's weight is in the state.
    let metrics = std::fs::read_to_string(domain.path("runs/small/pretrain-joint/metrics.jsonl")).unwrap();
    assert!(["\"rtd\"", "\"generator\"", "\"consistency\"", "\"task kind\""].iter().all(|name| metrics.contains(name)));
    let state = domain.path("runs/small/pretrain-vectors/checkpoints/latest/trainer_state.json");
    let state: Value = serde_json::from_slice(&std::fs::read(state).unwrap()).unwrap();
    assert_eq!(state["source_weights"].as_array().unwrap().len(), 2);
    for (wrong, says) in [
        ("stage.vectors.contrastive={pairs=\"dropout\", weight=1}", "pairs = \"spans\""),
        ("stage.vectors.contrastive.temperature=0", "0.05 is usual"),
        ("stage.vectors.contrastive.pairs.given.first=c", "`c`"),
        ("stage.joint.tasks.shares={other=1}", "name a [task.NAME]"),
        ("stage.joint.rtd.generator_width=2", "between 0 and 1"),
        ("stage.vectors.mlm.terms.file=nowhere.txt", "nowhere.txt"),
    ] {
        let mut args = [&["run", "--out", "wrong", "--set", wrong], &set[..]].concat();
        if wrong.contains("dropout") {
            args.extend(["--set", "stage.vectors.dropout=0"]);
        }
        let said = domain.fails(2, &args);
        assert!(said.contains(says) && said.contains("hint: "), "{wrong}: {said}");
    }
}
