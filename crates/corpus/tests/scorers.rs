//! Attributes that depend on examples, a target and tasks, against public data sets, where they are at hand.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a survey that prints what it found")]

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use arable_core::Seed;
use arable_corpus::{
    AttributeTable, Attributes, Block, Bm25Config, ColumnsError, CorpusConfig, Documents, QualityConfig,
    RelevanceConfig, Scorers, SourceConfig, TaskConfig, TaskKind, measure_all, read_corpus, read_task,
};

use common::data;

const ABSTRACTS: &str = "biomed/corpus/abstracts.jsonl.gz";
const REVIEWS: &str = "general/corpus/reviews.jsonl.gz";
const SOURCES: [(&str, &str); 5] = [
    ("medquad", "biomed/corpus/medquad.jsonl.gz"),
    ("abstracts", ABSTRACTS),
    ("craft", "biomed/corpus/craft.jsonl.gz"),
    ("history", "general/corpus/history.jsonl.gz"),
    ("reviews", REVIEWS),
];

fn config() -> CorpusConfig {
    let text = || "text".to_owned();
    CorpusConfig {
        source: SOURCES.iter().map(|(name, path)| SourceConfig::new(name, path)).collect(),
        quality: Some(QualityConfig { good: ABSTRACTS.into(), bad: REVIEWS.into(), text: text() }),
        relevance: Some(RelevanceConfig { target: ABSTRACTS.into(), text: text() }),
        bm25: Some(Bm25Config::default()),
        ..CorpusConfig::default()
    }
}

/// The chance that a value of `high` is above one of `low`; half of it where they are equal.
fn auc(high: &[f64], low: &[f64]) -> f64 {
    let mut low = low.to_vec();
    low.sort_by(f64::total_cmp);
    let below = |value: &f64| {
        let (less, not_more) =
            (low.partition_point(|other| other < value), low.partition_point(|other| other <= value));
        (less + not_more) as f64 / 2.0
    };
    high.iter().map(below).sum::<f64>() / (high.len() * low.len()) as f64
}

/// The attributes of the documents of each source.
fn by_source(documents: &Documents, table: &AttributeTable) -> BTreeMap<String, Vec<Attributes>> {
    let mut all: BTreeMap<String, Vec<Attributes>> = BTreeMap::new();
    let work = |block: Block| {
        let attributes = table.block(&block)?;
        Ok(block.documents.into_iter().map(|document| document.source).zip(attributes).collect::<Vec<_>>())
    };
    let take = |some: Vec<_>| {
        some.into_iter().for_each(|(source, own)| all.entry(source).or_default().push(own));
        Ok::<_, ColumnsError>(())
    };
    documents.each(work, take).unwrap();
    all
}

#[test]
fn scores_tell_the_domain_from_other_text() {
    let Some(data) = data() else { return };
    let config = config();
    let folder = tempfile::tempdir().unwrap();
    let [stored, rejects, attributes] = ["documents", "rejects", "attributes"].map(|name| folder.path().join(name));
    read_corpus(&config.source, config.max_reject_rate, &data, [&stored, &rejects]).unwrap();
    let documents = Documents::open(&stored).unwrap();
    let task = |name: &str, data: &Path| {
        let path = |part: &str| format!("biomed/tasks/{name}/{part}.jsonl");
        let mut config = TaskConfig::new(TaskKind::Classification, &path("train"));
        (config.dev, config.test) = (Some(path("dev")), Some(path("test")));
        read_task(name, &config, data, Seed(1)).unwrap()
    };
    let start = Instant::now();
    let scorers = Scorers::new(&config, &data, &documents, &[task("scicite", &data)], Seed(1)).unwrap();
    let ready = start.elapsed();
    measure_all(&documents, &scorers, &attributes).unwrap();
    println!("{} documents: ready in {ready:.1?}, measured in {:.1?}", documents.len(), start.elapsed() - ready);

    let held_out = scorers.held_out_quality.unwrap();
    let side = |wanted: bool| -> Vec<f64> {
        held_out.predictions.iter().filter(|(_, is_good)| *is_good == wanted).map(|(quality, _)| *quality).collect()
    };
    let of_examples = auc(&side(true), &side(false));
    println!("quality: ROC AUC {of_examples:.4} on {} examples held out", held_out.predictions.len());
    assert!(of_examples > 0.95);
    println!("scicite: {}", scorers.queries["scicite"].join(" "));

    let table = AttributeTable::open(&attributes, &documents).unwrap();
    let all = by_source(&documents, &table);
    let column = |source: &str, of: fn(&Attributes) -> f64| all[source].iter().map(of).collect::<Vec<_>>();
    let quality = |own: &Attributes| own.quality.unwrap();
    let weight = |own: &Attributes| own.domain_weight.unwrap();
    let bm25 = |own: &Attributes| own.task_bm25.unwrap();
    for (name, of, above, below, least) in [
        ("quality", quality as fn(&Attributes) -> f64, "craft", "history", 0.95),
        ("domain_weight", weight, "craft", "reviews", 0.95),
        ("domain_weight", weight, "craft", "history", 0.95),
        ("task_bm25", bm25, "craft", "history", 0.95),
        // The task is about how one cites: its words are those of scholars, not of medicine.
        ("task_bm25", bm25, "abstracts", "reviews", 0.7),
    ] {
        let found = auc(&column(above, of), &column(below, of));
        println!("{name}: {above} above {below}, ROC AUC {found:.3}");
        assert!(found > least, "{name}: {above} above {below}: {found}");
    }
    for (source, own) in &all {
        let flagged = own.iter().filter(|own| own.num_hazard_terms > 0.0).count();
        println!("hazardous terms in {:.1} % of {source}", 100.0 * flagged as f64 / own.len() as f64);
    }
}
