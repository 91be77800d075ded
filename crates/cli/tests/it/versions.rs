//! Versions of the corpus: listed, compared, written out again.

use std::fs;

use serde_json::{Value, json};

use crate::domain::{Domain, artifacts};

/// The digests of the versions, the newest first.
fn listed(domain: &Domain) -> Vec<String> {
    let output = domain.arable(&["data", "log", "--json"]);
    let versions: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    versions.iter().map(|version| version["digest"].as_str().unwrap().to_owned()).collect()
}

fn curate(domain: &Domain) {
    domain.ok(&["check", "--set", "check.some=num_train > 0"]);
}

#[test]
fn versions_are_listed_compared_and_written_out() {
    let domain = Domain::new();
    let none = domain.fails(2, &["data", "log"]);
    assert!(none.contains("find a version of the corpus") && none.contains("hint: `arable run`"), "{none}");
    curate(&domain);
    domain.ok(&["data", "restore", "latest", "--to", domain.path("first").to_str().unwrap()]);

    // One document goes, one is changed, one comes, one becomes a copy of another.
    let notes = fs::read_to_string(domain.path("notes.jsonl")).unwrap();
    let mut lines: Vec<Value> = notes.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    lines[5]["text"] = "This one has other words than it had before.".into();
    lines[9]["text"] = lines[8]["text"].clone();
    let gone = lines.pop().unwrap();
    lines.push(serde_json::json!({ "id": "new", "text": "A new note that was never here in the morning." }));
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    fs::write(domain.path("notes.jsonl"), text).unwrap();
    curate(&domain);

    let versions = listed(&domain);
    assert_eq!(versions.len(), 2);
    let log = domain.ok(&["data", "log"]);
    assert!(log.contains(&versions[1][..12]) && log.lines().all(|line| line.len() <= 80), "{log}");
    let output = domain.arable(&["data", "diff", "--json"]);
    let diff: Value = serde_json::from_slice(&output.stdout).unwrap();
    let name = |line: &Value| format!("notes/{}", line["id"].as_str().unwrap());
    assert_eq!(diff["added"], serde_json::json!(["notes/new"]));
    assert_eq!(diff["changed"], serde_json::json!([name(&lines[5])]));
    let removed: Vec<&str> = diff["removed"].as_array().unwrap().iter().map(|pair| pair[1].as_str().unwrap()).collect();
    assert_eq!(removed.len(), 2, "{diff}");
    assert!(removed.contains(&"not read") && removed.iter().any(|reason| reason.starts_with("equal to notes/")));
    assert!(diff["removed"].to_string().contains(&name(&gone)), "{diff}");
    let said = domain.ok(&["data", "diff"]);
    assert!(said.contains("notes/new") && said.lines().all(|line| line.chars().count() <= 80), "{said}");

    let again = domain.path("again");
    domain.ok(&["data", "restore", &versions[1][..8], "--to", again.to_str().unwrap()]);
    for name in ["train.jsonl", "held_out.jsonl", "quarantine.jsonl", "croissant.json", "facts.json", "manifest.json"] {
        let [one, other] = ["first", "again"].map(|folder| fs::read(domain.path(folder).join(name)).unwrap());
        let same = one == other;
        assert_eq!(same, name != "croissant.json", "{name}: the description has the folder's name");
    }
    let train = fs::read_to_string(again.join("train.jsonl")).unwrap();
    let croissant: Value = serde_json::from_slice(&fs::read(again.join("croissant.json")).unwrap()).unwrap();
    assert_eq!(croissant["distribution"][0]["contentSize"], format!("{} B", train.len()));
    assert_eq!(croissant["recordSet"][0]["field"].as_array().unwrap().len(), 3, "id, source and text");
    let taken = domain.fails(2, &["data", "restore", "latest", "--to", again.to_str().unwrap()]);
    assert!(taken.contains("there is something already"), "{taken}");
    let unknown = domain.fails(2, &["data", "show", "zzz"]);
    assert!(unknown.contains("0 versions") && unknown.contains(&versions[0][..12]), "{unknown}");
}

#[test]
fn what_is_known_of_a_document_travels_to_its_version() {
    let domain = Domain::new();
    let notes = fs::read_to_string(domain.path("notes.jsonl")).unwrap();
    let marked = |(idx, line): (usize, &str)| {
        let mut record: Value = serde_json::from_str(line).unwrap();
        let site = ["north", "south"][idx % 2];
        record["meta"] = json!({ "site": site, "kinds": ["a", "b"] });
        if idx % 4 == 0 {
            record["terms"] = "CC-BY-4.0".into();
        }
        format!("{record}\n")
    };
    domain.write("notes.jsonl", notes.lines().enumerate().map(marked).collect::<String>());
    let source = |setting: &str| format!("corpus.source.notes.{setting}");
    let settings = [
        source("origin=\"meta/site\""),
        source("labels=\"meta/kinds\""),
        source("licence=\"terms\""),
        source("default_licence=\"CC0-1.0\""),
        "corpus.keep=\"origin = 'north' AND labels LIKE '%b%' AND licence IS NOT NULL\"".to_owned(),
        "check.some=\"num_train > 0\"".to_owned(),
    ];
    let sets: Vec<&str> = settings.iter().flat_map(|set| ["--set", set]).collect();
    domain.ok(&[&["check"], &sets[..]].concat());
    domain.ok(&["data", "restore", "latest", "--to", "out"]);
    let train = fs::read_to_string(domain.path("out/train.jsonl")).unwrap();
    let documents: Vec<Value> = train.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(documents.len() > 150 && documents.iter().all(|document| document["origin"] == "north"));
    assert!(documents.iter().all(|document| document["labels"] == json!(["a", "b"])));
    let croissant: Value = serde_json::from_slice(&fs::read(domain.path("out/croissant.json")).unwrap()).unwrap();
    let pages = ["CC-BY-4.0", "CC0-1.0"].map(|name| format!("https://spdx.org/licenses/{name}.html"));
    assert_eq!(croissant["license"], json!(pages));
    let fields = croissant["recordSet"][0]["field"].as_array().unwrap().iter().map(|field| field["name"].as_str());
    assert_eq!(fields.flatten().collect::<Vec<_>>(), ["id", "source", "origin", "licence", "labels", "text"]);
}

#[test]
fn a_flipped_byte_is_found() {
    let domain = Domain::new();
    curate(&domain);
    let shown = domain.ok(&["data", "show"]);
    assert!(shown.contains("train.jsonl.zst") && shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
    let train = artifacts(&domain.path("runs"), "corpus")[0].join("train.jsonl.zst");
    let mut bytes = fs::read(&train).unwrap();
    bytes[99] ^= 1;
    fs::write(&train, bytes).unwrap();
    for command in [&["data", "show"][..], &["data", "restore", "latest", "--to", "x"]] {
        let broken = domain.fails(1, command);
        assert!(broken.contains("train.jsonl.zst"), "{broken}");
    }
    let log = domain.ok(&["data", "log"]);
    assert!(log.contains("warning") && log.contains("train.jsonl.zst"), "{log}");
}
