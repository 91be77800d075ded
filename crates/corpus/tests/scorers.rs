//! Attributes that depend on examples, a target and tasks, against public data sets, where they are at hand.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a survey that prints what it found")]

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use arable_core::{Document, Seed};
use arable_corpus::{
    Attributes, Bm25Config, CorpusConfig, QualityConfig, RelevanceConfig, Scorers, SourceConfig, Task, TaskConfig,
    TaskKind, measure_all, read_corpus, read_task,
};

use common::data;

/// Sources of the domain, then others.
const SOURCES: [(&str, &str); 6] = [
    ("medquad", "biomed/corpus/medquad.jsonl.gz"),
    ("abstracts", "biomed/corpus/abstracts.jsonl.gz"),
    ("craft", "biomed/corpus/craft.jsonl.gz"),
    ("novels", "general/corpus/novels.jsonl.gz"),
    ("history", "general/corpus/history.jsonl.gz"),
    ("reviews", "general/corpus/reviews.jsonl.gz"),
];
const DOMAIN: [&str; 3] = ["medquad", "abstracts", "craft"];

fn config() -> CorpusConfig {
    CorpusConfig {
        source: SOURCES.iter().map(|(name, path)| SourceConfig::new(name, path)).collect(),
        quality: Some(QualityConfig {
            good: SOURCES[1].1.to_owned(),
            bad: SOURCES[5].1.to_owned(),
            text: "text".to_owned(),
        }),
        relevance: Some(RelevanceConfig { target: SOURCES[1].1.to_owned(), text: "text".to_owned() }),
        bm25: Some(Bm25Config::default()),
        ..CorpusConfig::default()
    }
}

fn task(name: &str, kind: TaskKind, extension: &str, data: &Path) -> Task {
    let path = |part: &str| format!("biomed/tasks/{name}/{part}.{extension}");
    let mut config = TaskConfig::new(kind, &path("train"));
    (config.dev, config.test) = (Some(path("dev")), Some(path("test")));
    read_task(name, &config, data, Seed(1)).unwrap()
}

/// The chance that a value of `high` is above one of `low`; half of it where they are equal.
fn auc(high: &[f64], low: &[f64]) -> f64 {
    let mut values: Vec<(f64, bool)> = high.iter().map(|value| (*value, true)).collect();
    values.extend(low.iter().map(|value| (*value, false)));
    values.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut below, mut sum) = (0.0, 0.0);
    for equal in values.chunk_by(|a, b| a.0.total_cmp(&b.0).is_eq()) {
        let num_high = equal.iter().filter(|(_, is_high)| *is_high).count() as f64;
        let num_low = equal.len() as f64 - num_high;
        sum += num_high * (below + 0.5 * num_low);
        below += num_low;
    }
    sum / (high.len() as f64 * low.len() as f64)
}

/// The values of an attribute by source.
fn by_source<'a>(
    documents: &'a [Document],
    attributes: &[Attributes],
    of: impl Fn(&Attributes) -> f64,
) -> BTreeMap<&'a str, Vec<f64>> {
    let mut values: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for (document, attributes) in documents.iter().zip(attributes) {
        values.entry(&document.source).or_default().push(of(attributes));
    }
    values
}

#[test]
fn scores_tell_the_domain_from_other_text() {
    let Some(data) = data() else { return };
    let config = config();
    let documents = read_corpus(&config, &data).unwrap().documents;
    let num_bytes: usize = documents.iter().map(|document| document.text.len()).sum();
    let tasks = [
        task("question-type", TaskKind::Classification, "jsonl", &data),
        task("hallmarks", TaskKind::Multilabel, "jsonl", &data),
        task("ncbi-disease-ner", TaskKind::Tagging, "conll", &data),
    ];
    let timed = |what: &str, config: &CorpusConfig| {
        let start = Instant::now();
        let scorers = Scorers::new(config, &data, &documents, &tasks, Seed(1)).unwrap();
        let made = start.elapsed();
        let attributes = measure_all(&documents, &scorers);
        println!("{what}: ready in {:.2?}, measured in {:.2?}", made, start.elapsed() - made);
        (scorers, attributes)
    };
    println!("{} documents, {:.0} MB, {} threads", documents.len(), num_bytes as f64 / 1e6, rayon::current_num_threads());
    let alone = CorpusConfig { quality: None, relevance: None, bm25: None, ..config.clone() };
    timed("nothing", &alone);
    timed("quality", &CorpusConfig { quality: config.quality.clone(), ..alone.clone() });
    timed("relevance", &CorpusConfig { relevance: config.relevance.clone(), ..alone.clone() });
    timed("bm25", &CorpusConfig { bm25: config.bm25.clone(), ..alone });
    let (scorers, attributes) = timed("all", &config);

    let held_out = scorers.held_out_quality.unwrap();
    let side = |wanted: bool| -> Vec<f64> {
        held_out.predictions.iter().filter(|(_, is_good)| *is_good == wanted).map(|(quality, _)| *quality).collect()
    };
    let (good, bad) = (side(true), side(false));
    let num_right = good.iter().filter(|q| **q > 0.5).count() + bad.iter().filter(|q| **q < 0.5).count();
    let mut ece = [(0.0, 0.0); 10];
    for (q, is_good) in &held_out.predictions {
        let bin = &mut ece[((q * 10.0) as usize).min(9)];
        bin.0 += q; bin.1 += f64::from(u8::from(*is_good));
    }
    let ece: f64 = ece.iter().map(|(q, g)| (q - g).abs()).sum::<f64>() / held_out.predictions.len() as f64;
    println!(
        "quality: {} good, {} bad held out, AUC {:.4}, accuracy {:.4} ece {ece:.4} {:?} {:?}",
        good.len(), bad.len(), auc(&good, &bad), num_right as f64 / held_out.predictions.len() as f64,
        good.iter().copied().fold(1.0, f64::min), bad.iter().copied().fold(0.0, f64::max),
    );
    for (task, words) in &scorers.queries {
        println!("{task}: {}", words.join(" "));
    }
    for (name, of) in [
        ("quality", (|own: &Attributes| own.quality.unwrap()) as fn(&Attributes) -> f64),
        ("domain_weight", |own| own.domain_weight.unwrap()),
        ("task_bm25", |own| own.task_bm25.unwrap()),
        ("num_abuse_terms", |own| own.num_abuse_terms.min(1.0)),
        ("num_sexual_terms", |own| own.num_sexual_terms.min(1.0)),
        ("num_self_harm_terms", |own| own.num_self_harm_terms.min(1.0)),
        ("num_violence_terms", |own| own.num_violence_terms.min(1.0)),
        ("num_weapon_terms", |own| own.num_weapon_terms.min(1.0)),
    ] {
        let values = by_source(&documents, &attributes, of);
        let means: Vec<String> = values
            .iter()
            .map(|(source, values)| format!("{source} {:.4}", values.iter().sum::<f64>() / values.len() as f64))
            .collect();
        println!("{name}: {}", means.join(", "));
        for own in DOMAIN {
            for other in ["novels", "reviews", "history"] {
                print!(" {own}>{other} {:.3}", auc(&values[own], &values[other]));
            }
        }
        println!();
    }
}
