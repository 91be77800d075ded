//! Faults planted in real text, and how many of them curation finds.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a survey that prints what it found")]

mod common;

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;

use arable_core::{Document, Draws, Probability, Seed};
use arable_corpus::{
    AttributeTable, CorpusConfig, Documents, HeldOutSet, NearConfig, Profile, Scorers, SourceConfig, TaskConfig,
    TaskKind, measure_all, profile, read_source, read_task, shift, write_documents,
};

use common::{Curated, curated, data};

/// A fault, how to plant it in a text, and which share of it is to be found.
struct Fault {
    name: &'static str,
    min_recall: f64,
    plant: fn(&str, &mut Draws, &[String]) -> Vec<u8>,
}

/// Replaces each word by another of the text with probability `rate`.
fn edited(text: &str, draws: &mut Draws, rate: f64) -> String {
    let words: Vec<&str> = text.split(' ').collect();
    let mut out: Vec<&str> = words.clone();
    for word in &mut out {
        if draws.uniform() < rate {
            *word = words[draws.below(words.len())];
        }
    }
    out.join(" ")
}

fn json(text: &str) -> Vec<u8> {
    serde_json::json!({ "text": text }).to_string().into_bytes()
}

const FAULTS: [Fault; 8] = [
    Fault { name: "copy", min_recall: 1.0, plant: |text, _, _| json(text) },
    Fault {
        name: "copy in capitals, spaced otherwise",
        min_recall: 1.0,
        plant: |text, _, _| json(&text.to_uppercase().replace(' ', "  \t")),
    },
    Fault { name: "copy, 0.5 % of the words changed", min_recall: 0.95, plant: |t, d, _| json(&edited(t, d, 0.005)) },
    Fault { name: "copy, 1 % of the words changed", min_recall: 0.9, plant: |t, d, _| json(&edited(t, d, 0.01)) },
    Fault { name: "copy, 2 % of the words changed", min_recall: 0.4, plant: |t, d, _| json(&edited(t, d, 0.02)) },
    Fault {
        name: "a test sentence inside, in capitals",
        min_recall: 1.0,
        plant: |text, draws, leaks| {
            let middle = text.char_indices().nth(text.chars().count() / 2).map_or(0, |(at, _)| at);
            let leak = leaks[draws.below(leaks.len())].to_uppercase();
            json(&format!(
                "{} {leak} {}",
                &text[..middle].to_lowercase().replace('e', "u"),
                text[middle..].replace('a', "o")
            ))
        },
    },
    Fault {
        name: "bytes that are not UTF-8",
        min_recall: 1.0,
        plant: |text, _, _| [&json(text)[..12], b"\xe9\xff", &json(text)[12..]].concat(),
    },
    Fault { name: "a record cut off", min_recall: 1.0, plant: |text, _, _| json(text)[..20].to_vec() },
];

fn curated_near(folder: &Path, sets: &[HeldOutSet]) -> Curated {
    let source = |name: &str| SourceConfig::new(name, &format!("{name}.jsonl"));
    let mut config = CorpusConfig { source: ["real", "planted"].map(source).to_vec(), ..CorpusConfig::default() };
    config.dedup.near = Some(NearConfig::default());
    config.max_reject_rate = Probability::new(1.0).unwrap();
    curated(&config, folder, sets, Seed(1)).unwrap()
}

/// The places of documents and records of the source `planted` that were left out, by line.
fn left_out(curated: &Curated) -> BTreeSet<u64> {
    let line = |id: &str| id.rsplit('#').next().and_then(|line| line.parse().ok());
    let dropped = curated.dropped.iter().filter(|dropped| dropped.document.source == "planted");
    let rejected = curated.rejects.iter().filter(|reject| reject["source"] == "planted");
    let rejected = rejected.map(|reject| reject["line"].as_u64().unwrap());
    dropped.filter_map(|dropped| line(&dropped.document.id.to_string())).chain(rejected).collect()
}

#[test]
fn planted_faults_are_found() {
    const NUM_EACH: usize = 100;
    let Some(data) = data() else { return };
    let task = {
        let path = |part: &str| format!("biomed/tasks/scicite/{part}.jsonl");
        let mut config = TaskConfig::new(TaskKind::Classification, &path("train"));
        (config.dev, config.test) = (Some(path("dev")), Some(path("test")));
        read_task("scicite", &config, &data, Seed(1)).unwrap()
    };
    let long = |text: &&String| text.split_whitespace().count() > 15;
    let texts: Vec<String> = task.test.iter().map(|example| example.input.text()).collect();
    let leaks: Vec<String> = texts.iter().filter(long).cloned().collect();
    let records = read_source(&SourceConfig::new("s", "biomed/corpus/abstracts.jsonl.gz"), &data).unwrap();
    let real: Vec<String> = records.map(|record| record.unwrap().unwrap().text).collect();
    // Clean text of the same kind, to see what is left out without a fault.
    let (clean, real) = real.split_at(NUM_EACH);

    let folder = tempfile::tempdir().unwrap();
    let mut file = std::fs::File::create(folder.path().join("real.jsonl")).unwrap();
    real.iter().for_each(|text| writeln!(file, "{}", String::from_utf8(json(text)).unwrap()).unwrap());
    let mut file = std::fs::File::create(folder.path().join("planted.jsonl")).unwrap();
    let mut draws = Seed(9).stream("faults").at(0, 0);
    let mut order: Vec<usize> = (0..real.len()).collect();
    draws.shuffle(&mut order);
    let mut originals = order.into_iter().map(|idx| &real[idx]);
    for fault in &FAULTS {
        for text in originals.by_ref().take(NUM_EACH) {
            file.write_all(&[&(fault.plant)(text, &mut draws, &leaks)[..], b"\n"].concat()).unwrap();
        }
    }
    clean.iter().for_each(|text| writeln!(file, "{}", String::from_utf8(json(text)).unwrap()).unwrap());

    let found = left_out(&curated_near(folder.path(), &[HeldOutSet::of_task(&CorpusConfig::default().overlap, &task)]));
    for (idx, fault) in FAULTS.iter().enumerate() {
        let lines = (idx * NUM_EACH) as u64 + 1..=((idx + 1) * NUM_EACH) as u64;
        let recall = found.range(lines).count() as f64 / NUM_EACH as f64;
        println!("| {} | {recall:.2} |", fault.name);
        assert!(recall >= fault.min_recall, "{}: {recall}", fault.name);
    }
    let num_wrong = found.range((FAULTS.len() * NUM_EACH) as u64 + 1..).count();
    println!("| none (the share left out) | {:.2} |", num_wrong as f64 / NUM_EACH as f64);
    assert!(num_wrong <= 2, "{num_wrong} of {NUM_EACH} clean documents are left out");
}

fn profiled(documents: &[Document]) -> Profile {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("documents");
    write_documents(&path, documents).unwrap();
    let documents = Documents::open(&path).unwrap();
    let attributes = folder.path().join("attributes");
    measure_all(&documents, &Scorers::default(), &attributes).unwrap();
    profile(&documents, &AttributeTable::open(&attributes, &documents).unwrap(), None).unwrap()
}

/// Abstracts dealt out to months by chance, and months a part of which are film reviews: what is said to have shifted
/// since the month before.
#[test]
fn shifted_months_are_found() {
    const PER_MONTH: usize = 500;
    let Some(root) = data() else { return };
    let read = |path: &str| {
        let source = SourceConfig::new("notes", path);
        read_source(&source, &root).unwrap().filter_map(|record| record.unwrap().ok()).collect::<Vec<Document>>()
    };
    let mut abstracts = read("biomed/corpus/abstracts.jsonl.gz");
    let reviews = read("general/corpus/reviews.jsonl.gz");
    Seed(5).stream("months").at(0, 0).shuffle(&mut abstracts);
    let months: Vec<&[Document]> = abstracts.chunks_exact(PER_MONTH).collect();
    let profiles: Vec<Profile> = months.iter().map(|month| profiled(month)).collect();
    let false_alarms = profiles.windows(2).filter(|pair| shift(&pair[0], &pair[1]).unwrap().is_any()).count();
    println!(
        "{} months of {PER_MONTH}; of {} that did not shift, said to have: {false_alarms}",
        months.len(),
        months.len() - 1
    );
    for share in [0.01, 0.02, 0.05, 0.1] {
        let num_planted = (share * PER_MONTH as f64) as usize;
        let (mut num_found, mut num_shown, mut num_right) = (0, 0, 0);
        for (idx, before) in profiles[..profiles.len() - 1].iter().enumerate() {
            let planted = &reviews[idx * num_planted..(idx + 1) * num_planted];
            let month = [&months[idx + 1][num_planted..], planted].concat();
            let found = shift(before, &profiled(&month)).unwrap();
            num_found += usize::from(found.is_any());
            let shown = found.examples();
            let is_planted = |id: &&String| planted.iter().any(|own| own.id == **id);
            (num_shown, num_right) = (num_shown + shown.len(), num_right + shown.iter().filter(is_planted).count());
        }
        println!(
            "{share}: {num_found} of {} found; of {num_shown} documents shown, {num_right} are planted",
            months.len() - 1
        );
        assert!(share < 0.1 || num_found == months.len() - 1, "{share}: {num_found}");
    }
    assert!(false_alarms <= 1, "{false_alarms}");
}
