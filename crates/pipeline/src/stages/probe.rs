//! Small tests like the real tasks along a pretraining: what its encoder is worth for them by now.
//!
//! Each is made several times, with other labels, orders and heads: a linear model on the frozen encoder, and a short
//! fine-tuning. Only training and development examples are seen. Nothing here changes what is trained.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use arable_core::{Digest, Seed};
use arable_corpus::{Task, subset};
use arable_eval::{Predictions, Scored, Targets, by_class, calibrate, linear_probe, metrics};
use arable_ledger::Artifact;
use arable_model::{Model, Pooling};
use arable_tensor::Device;
use arable_tokenize::Vocabulary;
use arable_train::adapt::{EncodedExample, EncodedTarget, FinetuneConfig, features, finetune};

use crate::advice::Advise;
use crate::domain::{Config, ProbeConfig};
use crate::notice::Notice;
use crate::parallel;
use crate::results::ProbeReport;
use crate::run::Run;
use crate::stages::adapt::{dev_subset, headline};
use crate::stages::encode::{EncodedSet, Encoder};
use crate::stages::{pretrain, tasks, tokenizer};

/// What the numbers depend on, beside weights and tasks.
pub(crate) fn identity(config: &Config) -> Option<Digest> {
    let probe = config.probe.as_ref()?;
    let markers: Vec<&[String]> = config.task.values().map(|task| task.markers.as_slice()).collect();
    Some(Digest::of_json(&(probe, config.adapt.max_dev_examples, &config.adapt.finetune, markers)))
}

/// The tests of all tasks, ready to be made.
pub(crate) struct Probes {
    config: ProbeConfig,
    finetune: FinetuneConfig,
    seed: Seed,
    words: Vocabulary,
    pooling: Pooling,
    tasks: Vec<Probed>,
}

struct Probed {
    task: Task,
    markers: Vec<String>,
    train: EncodedSet,
    dev: EncodedSet,
}

/// What one repetition found.
struct Found {
    linear: f64,
    finetuned: f64,
    metrics: BTreeMap<String, f64>,
    by_class: BTreeMap<String, f64>,
}

impl Probes {
    /// The tests that the configuration asks for, of encoders such as `model`.
    pub(crate) fn load(
        run: &Run<'_>,
        vocabulary: &Artifact,
        tasks: &[Artifact],
        model: &Model,
    ) -> Result<Option<Self>> {
        let config = run.domain.config();
        let Some(probe) = config.probe.clone() else { return Ok(None) };
        let finetune = FinetuneConfig {
            min_steps: probe.num_steps,
            max_steps: probe.num_steps,
            num_evaluations: 1,
            ..config.adapt.finetune.clone()
        };
        let (words, pooling) = (tokenizer::load(vocabulary)?, model.architecture().style().pooling);
        let mut probes = Self { config: probe, finetune, seed: config.seed, words, pooling, tasks: Vec::new() };
        for (artifact, settings) in tasks.iter().zip(config.task.values()) {
            let task = tasks::load(artifact)?;
            let encoder = probes.encoder(&task, &settings.markers);
            let train = encoder.encode(&task.train)?;
            let idxs = dev_subset(&task, config.seed.child(&task.name), config.adapt.max_dev_examples);
            let dev = encoder.encode(&task.dev)?.select(&idxs);
            probes.tasks.push(Probed { markers: settings.markers.clone(), task, train, dev });
        }
        Ok(Some(probes))
    }

    /// Steps between two measurements.
    pub(crate) fn every(&self) -> u64 {
        self.config.every
    }

    /// Tasks that are measured.
    pub(crate) fn num_tasks(&self) -> usize {
        self.tasks.len()
    }

    fn encoder<'a>(&'a self, task: &'a Task, markers: &'a [String]) -> Encoder<'a> {
        let (labels, max_length) = (&task.labels, self.finetune.max_length);
        Encoder { vocabulary: &self.words, labels, kind: task.kind, markers, max_length, pooling: self.pooling }
    }

    /// Measures `model` as it is after `step` steps, for each task.
    pub(crate) fn measure(&self, run: &mut Run<'_>, model: &Model, step: u64) -> Result<Vec<ProbeReport>> {
        let repetitions = 0..self.config.num_seeds;
        let jobs: Vec<(usize, u64)> =
            (0..self.tasks.len()).flat_map(|idx| repetitions.clone().map(move |seed| (idx, seed))).collect();
        let mut found: BTreeMap<(usize, u64), Found> = BTreeMap::new();
        let job = |device: &Device, &(idx, seed): &(usize, u64)| Ok(((idx, seed), self.one(device, model, idx, seed)?));
        parallel::each(run, &jobs, job, |run, num_done, (place, result)| {
            let (task, num_total) = (&self.tasks[place.0].task.name, jobs.len());
            let what = format!("probe at step {step}: {:.1}", 100.0 * result.finetuned);
            run.reporter.notice(&Notice::Cell { task, what, num_done, num_total });
            found.insert(place, result);
        })?;
        let of_task = |idx: usize| found.range((idx, 0)..(idx + 1, 0)).map(|(_, found)| found).collect::<Vec<_>>();
        Ok((0..self.tasks.len()).map(|idx| self.report(idx, step, &of_task(idx))).collect())
    }

    fn one(&self, device: &Device, model: &Model, idx: usize, seed: u64) -> Result<Found> {
        let Probed { task, markers, train, dev } = &self.tasks[idx];
        let encoder = self.encoder(task, markers);
        let child = self.seed.child(&task.name).child(&format!("probe {seed}"));
        let mut idxs = subset(&task.train, self.config.budget, child.stream("label subsets").at(0, seed));
        idxs.sort_unstable();
        let train = train.select(&idxs);
        let model = model.with_head(encoder.head(), child);
        let linear = self.linear(device, &encoder, &model, &train, dev)?;
        let rate = self.config.learning_rate;
        let tuned = finetune(&self.finetune, rate, model, &train.pieces, device, child, &mut |_| 0.0).advise()?;
        let predictions = with_threshold(encoder.predict(&tuned.model, device, dev)?);
        let metric = headline(task.kind, &task.labels);
        let classes = by_class(&predictions, task.labels.names());
        Ok(Found {
            linear: Scored::new(&with_threshold(linear), metric)?.value(),
            finetuned: Scored::new(&predictions, metric)?.value(),
            metrics: metrics(&predictions),
            by_class: classes.into_iter().map(|(name, score)| (name, score.f1)).collect(),
        })
    }

    /// What a linear model on the states of the frozen encoder says of the development examples.
    fn linear(
        &self,
        device: &Device,
        encoder: &Encoder<'_>,
        model: &Model,
        train: &EncodedSet,
        dev: &EncodedSet,
    ) -> Result<Predictions> {
        let states = |set: &EncodedSet| features(model, device, &set.pieces);
        let (own, other) = (states(train), states(dev));
        let targets = targets(&train.pieces, encoder.labels.len());
        let logits = linear_probe(&own.concat(), &targets, &other.concat());
        let mut rest = logits.as_slice();
        let pieces = other.iter().map(|rows| {
            let (own, after) = rest.split_at(rows.len() * encoder.labels.len());
            rest = after;
            own.to_vec()
        });
        encoder.predictions(dev, pieces.collect())
    }

    fn report(&self, idx: usize, step: u64, found: &[&Found]) -> ProbeReport {
        let task = &self.tasks[idx].task;
        let mean = |value: &dyn Fn(&Found) -> f64| found.iter().map(|own| value(own)).sum::<f64>() / found.len() as f64;
        let deviation = |value: &dyn Fn(&Found) -> f64| {
            let (mean, degrees) = (mean(value), (found.len() as f64 - 1.0).max(1.0));
            (found.iter().map(|own| (value(own) - mean).powi(2)).sum::<f64>() / degrees).sqrt()
        };
        let names: BTreeSet<&String> = found.iter().flat_map(|own| own.by_class.keys()).collect();
        let of_class = |name: &String| mean(&|own| own.by_class.get(name).copied().unwrap_or(0.0));
        let metric = |name: &'static str| mean(&move |own: &Found| own.metrics.get(name).copied().unwrap_or(f64::NAN));
        ProbeReport {
            step,
            task: task.name.clone(),
            metric: headline(task.kind, &task.labels).key().to_owned(),
            num_seeds: found.len(),
            linear: mean(&|own| own.linear),
            linear_deviation: deviation(&|own| own.linear),
            finetuned: mean(&|own| own.finetuned),
            finetuned_deviation: deviation(&|own| own.finetuned),
            ece: metric("ece"),
            brier: metric("brier"),
            nll: metric("nll"),
            error_auroc: Some(metric("error_auroc")).filter(|auroc| auroc.is_finite()),
            by_class: names.into_iter().map(|name| (name.clone(), of_class(name))).collect(),
        }
    }
}

/// Multi-label predictions at their best threshold.
fn with_threshold(predictions: Predictions) -> Predictions {
    match calibrate(&predictions).threshold {
        Some(threshold) => predictions.with_threshold(threshold),
        None => predictions,
    }
}

/// What is right for each row of states.
fn targets(examples: &[EncodedExample], num_labels: usize) -> Targets {
    let (mut classes, mut switches) = (Vec::new(), Vec::new());
    for example in examples {
        match &example.target {
            EncodedTarget::Class(class) => classes.push(*class),
            EncodedTarget::Tags(tags) => classes.extend_from_slice(tags),
            EncodedTarget::Classes(each) => switches.extend(each.iter().map(|on| *on > 0.5)),
        }
    }
    if switches.is_empty() {
        Targets::Classes { num_classes: num_labels, gold: classes }
    } else {
        Targets::Labels { num_labels, gold: switches }
    }
}

/// What was found of each task where the plan began, before its `first` stage, and at the end of stage `last`.
pub(crate) fn since_start(first: &Artifact, last: &Artifact) -> Result<BTreeMap<String, [ProbeReport; 2]>> {
    let start = pretrain::probes_in(first.path())?.into_iter().filter(|report| report.step == 0);
    let mut found: BTreeMap<String, [ProbeReport; 2]> =
        start.map(|report| (report.task.clone(), [report.clone(), report])).collect();
    for report in pretrain::probes_in(last.path())? {
        if let Some(ends) = found.get_mut(&report.task) {
            ends[1] = report;
        }
    }
    Ok(found)
}

/// The facts that a gate may name: scores and calibration at the end of a stage, and what changed since the untouched
/// starting point, with the standard error of that change.
pub(crate) fn facts(probes: &BTreeMap<String, [ProbeReport; 2]>) -> Vec<(String, f64)> {
    let of_task = |(task, [start, end]): (&String, &[ProbeReport; 2])| {
        let fits = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
        let task: String = task.chars().map(fits).collect();
        let (change, noise) = end.change(start);
        let facts = [
            ("probe", end.finetuned),
            ("change_probe", change),
            ("noise_probe", noise),
            ("linear", end.linear),
            ("change_linear", end.linear - start.linear),
            ("ece", end.ece),
            ("change_ece", end.ece - start.ece),
            ("brier", end.brier),
            ("change_brier", end.brier - start.brier),
            // Where nothing is wrong, there is nothing to know.
            ("error_auroc", end.error_auroc.unwrap_or(1.0)),
            ("change_worst_class", end.worst_class(start).map_or(0.0, |(_, change)| change)),
        ];
        facts.map(|(name, value)| (format!("{name}_{task}"), value))
    };
    probes.iter().flat_map(of_task).collect()
}
