//! The linear arm on public data, where it is at hand.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::path::PathBuf;

use arable_core::{Example, Input, LabelSet, Target};
use arable_eval::{BaselineConfig, HeadlineMetric, VectorizerConfig, calibrate, fit_baseline, measure};
use serde_json::Value;

/// The folder of a task, or `None` with a loud line when there is no data.
fn task(name: &str) -> Option<PathBuf> {
    let beside = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    let root = std::env::var_os("ARABLE_DATA").map_or_else(beside, PathBuf::from);
    let folder = root.join("biomed/tasks").join(name);
    if !folder.is_dir() {
        println!("SKIPPED: no data at {}; set ARABLE_DATA", folder.display());
        return None;
    }
    Some(folder)
}

fn strings(value: &Value) -> Vec<String> {
    value.as_array().unwrap().iter().map(|label| label.as_str().unwrap().to_owned()).collect()
}

fn jsonl(text: &str) -> Vec<Example> {
    let example = |line: &str| {
        let record: Value = serde_json::from_str(line).unwrap();
        let text = |field: &str| record[field].as_str().map(str::to_owned);
        let input = match text("question") {
            Some(question) => Input::Pair(question, text("text").unwrap()),
            None => Input::Text(text("text").unwrap()),
        };
        let target = text("label").map_or_else(|| Target::Classes(strings(&record["labels"])), Target::Class);
        Example { id: text("id").unwrap(), group: None, input, target }
    };
    text.lines().map(example).collect()
}

fn conll(text: &str) -> Vec<Example> {
    let blocks = text.split("\n\n").filter(|block| !block.trim().is_empty()).enumerate();
    let example = |(i, block): (usize, &str)| {
        let (words, tags) =
            block.trim().lines().map(|line| line.split_once('\t').unwrap()).map(|(w, t)| (w.into(), t.into())).unzip();
        Example { id: i.to_string(), group: None, input: Input::Words(words), target: Target::Tags(tags) }
    };
    blocks.map(example).collect()
}

/// Fewer features than usual, so that the tests take seconds.
fn quick(grid: &[f64]) -> BaselineConfig {
    let text = VectorizerConfig { max_features: 15_000, ..VectorizerConfig::default() };
    BaselineConfig { c_grid: grid.to_vec(), text, ..BaselineConfig::default() }
}

/// The headline metric on the test set with all labels; `None` when there is no data.
fn score(name: &str, metric: HeadlineMetric, config: &BaselineConfig) -> Option<f64> {
    let folder = task(name)?;
    let read = |split: &str| match fs_err::read_to_string(folder.join(format!("{split}.conll"))) {
        Ok(text) => conll(&text),
        Err(_) => jsonl(&fs_err::read_to_string(folder.join(format!("{split}.jsonl"))).unwrap()),
    };
    let [train, dev, test] = ["train", "dev", "test"].map(read);
    let labels = LabelSet::of(train.iter().chain(&dev).chain(&test));
    let start = std::time::Instant::now();
    let run = fit_baseline(&train, &dev, &test, &labels, metric, config).unwrap();
    let calibration = calibrate(&run.dev);
    let measured = measure(&run.test, &calibration);
    println!(
        "{name}: C {}, {} features, {} steps, {:.1} s, {calibration:?}, {:.4?}",
        run.c,
        run.num_features,
        run.num_steps,
        start.elapsed().as_secs_f64(),
        measured.metrics
    );
    Some(measured.metrics[metric.key()])
}

#[test]
fn scicite() {
    let Some(score) = score("scicite", HeadlineMetric::MacroF1, &quick(&[1.0, 10.0])) else { return };
    assert!((0.73..0.82).contains(&score), "macro-F1 {score}");
}

#[test]
fn chemprot() {
    let Some(score) = score("chemprot", HeadlineMetric::MicroF1, &quick(&[3.0, 30.0])) else { return };
    assert!(score > 0.55, "micro-F1 {score}");
}

#[test]
fn hallmarks() {
    let Some(score) = score("hallmarks", HeadlineMetric::MicroF1, &quick(&[10.0])) else { return };
    assert!(score > 0.4, "micro-F1 {score}");
}

#[test]
fn ncbi_disease() {
    let Some(score) = score("ncbi-disease-ner", HeadlineMetric::EntityF1, &quick(&[10.0])) else { return };
    assert!(score > 0.65, "entity-F1 {score}");
}

/// All tasks with the default grid: `cargo test --release -p arable-eval --test real_data -- --ignored --nocapture`.
#[test]
#[ignore = "minutes; prints what the linear arm reaches"]
fn survey() {
    let tasks = [
        ("scicite", HeadlineMetric::MacroF1),
        ("chemprot", HeadlineMetric::MicroF1),
        ("hallmarks", HeadlineMetric::MicroF1),
        ("pubmedqa", HeadlineMetric::Accuracy),
        ("question-type", HeadlineMetric::MacroF1),
        ("ncbi-disease-ner", HeadlineMetric::EntityF1),
        ("bc5cdr-ner", HeadlineMetric::EntityF1),
    ];
    for (name, metric) in tasks {
        assert!(score(name, metric, &BaselineConfig::default()).is_none_or(|score| score > 0.2));
    }
}
