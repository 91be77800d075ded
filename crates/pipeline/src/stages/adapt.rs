//! Adaptation to the tasks at several label budgets, against the same architecture from scratch and a linear model.
//!
//! Every measurement is a file of its own in the stage's working folder, so that a kill loses at most one.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use arable_core::{Digest, Fraction, LabelSet, Seed};
use arable_corpus::{Task, TaskConfig, TaskKind, subset};
use arable_eval::{
    Calibration, Curve, HeadlineMetric, Predictions, Scored, calibrate, convergence, fit_baseline, interval, measure,
    seed_convergence,
};
use arable_ledger::Artifact;
use arable_model::{Architecture, Model};
use arable_tensor::Device;
use arable_train::adapt::{FinetuneConfig, Finetuned, finetune};
use fs_err as fs;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::advice::Advise;
use crate::domain::AdaptConfig;
use crate::notice::Notice;
use crate::parallel;
use crate::results::{Arm, Cell, Convergence, Summary, TaskResults};
use crate::run::Run;
use crate::stages::encode::{EncodedSet, Encoder};
use crate::stages::tasks;
use crate::stages::{card, pretrain, read_json, tokenizer, write_json};

pub(crate) fn kind(name: &str) -> String {
    tasks::kind(name).replacen("task-", "adapt-", 1)
}

pub(crate) fn config(run: &Run<'_>, name: &str) -> (AdaptConfig, Vec<String>, &'static str) {
    let config = run.domain.config();
    // The adapter of this task alone is a part of its identity.
    let own = config.adapt.adapters.get(name).or(config.adapt.adapter.as_ref()).cloned();
    let adapt = AdaptConfig { adapter: own, adapters: BTreeMap::new(), ..config.adapt.clone() };
    (adapt, config.task[name].markers.clone(), run.device.precision().name())
}

pub(crate) fn inputs(task: &Artifact, vocabulary: &Artifact, pretrained: &Artifact) -> Result<[Digest; 3]> {
    Ok([task.digest(), vocabulary.digest(), pretrain::weights_digest(pretrained)?])
}

/// Adapts to every task.
pub(crate) fn run_all(
    run: &mut Run<'_>,
    tasks: &[Artifact],
    vocabulary: &Artifact,
    pretrained: &Artifact,
) -> Result<Vec<Artifact>> {
    let configs: Vec<(String, TaskConfig)> = run.domain.config().task.clone().into_iter().collect();
    let each = configs.iter().zip(tasks);
    each.map(|((name, task), artifact)| one(run, name, task, artifact, vocabulary, pretrained)).collect()
}

fn one(
    run: &mut Run<'_>,
    name: &str,
    task_config: &TaskConfig,
    task: &Artifact,
    vocabulary: &Artifact,
    pretrained: &Artifact,
) -> Result<Artifact> {
    let config = config(run, name);
    let inputs = inputs(task, vocabulary, pretrained)?;
    run.stage(&kind(name), &config, &inputs, |run, draft| {
        let task = tasks::load(task)?;
        let words = tokenizer::load(vocabulary)?;
        let base = pretrain::load(pretrained)?;
        let encoder = Encoder {
            vocabulary: &words,
            labels: &task.labels,
            kind: task.kind,
            markers: &task_config.markers,
            max_length: config.0.finetune.max_length,
            pooling: base.architecture().style().pooling,
        };
        // Of another kind than the task's own, it is of no use.
        let head = pretrain::task_head(pretrained, name)?.filter(|head| head.head() == encoder.head());
        let bench = Bench { head, ..Bench::new(run, &config.0, &task, &encoder, &base)? };
        let results = bench.measure_all(run, draft.path())?;
        write_json(&draft.path().join("results.json"), &results)?;
        let is_adapter = config.0.adapter.is_some();
        let folder = draft.path().join(kept(is_adapter));
        card::write(run, &results, !task_config.markers.is_empty(), is_adapter, &folder)?;
        Ok(json!({ "text": summary_line(&results) }))
    })
}

fn summary_line(results: &TaskResults) -> String {
    let at = |arm: Arm| {
        let of_arm = results.summaries.iter().filter(|summary| summary.arm == arm);
        let last = of_arm.max_by(|a, b| a.budget.total_cmp(&b.budget));
        last.map_or(String::new(), |summary| format!("{} {:.1}", arm.label(), 100.0 * summary.mean))
    };
    format!("{} {}: {}", results.name, results.metric, Arm::ALL.map(at).join(", "))
}

/// The development examples that are used, at most `num_most`.
pub(crate) fn dev_subset(task: &Task, seed: Seed, num_most: usize) -> Vec<usize> {
    let mut idxs: Vec<usize> = (0..task.dev.len()).collect();
    seed.stream("development subset").at(0, 0).shuffle(&mut idxs);
    idxs.truncate(num_most);
    idxs.sort_unstable();
    idxs
}

/// The headline metric of a kind of task.
pub(crate) fn headline(kind: TaskKind, labels: &LabelSet) -> HeadlineMetric {
    match kind {
        TaskKind::Tagging => HeadlineMetric::EntityF1,
        TaskKind::Multilabel => HeadlineMetric::MicroF1,
        // With few classes the rare ones count as much as the others; with many, micro-F1 is what is published.
        TaskKind::Classification if labels.len() <= 4 => HeadlineMetric::MacroF1,
        TaskKind::Classification => HeadlineMetric::MicroF1,
    }
}

/// A cell as it is kept: what the report shows, and what intervals are computed from.
#[derive(Serialize, Deserialize)]
struct StoredCell {
    cell: Cell,
    scored: Scored,
}

/// Which measurement: what is trained, on which part of the labels, which repetition.
type Place = (Arm, Fraction, u64);

/// Everything that the measurements of one task share.
struct Bench<'a> {
    config: &'a AdaptConfig,
    task: &'a Task,
    encoder: &'a Encoder<'a>,
    base: &'a Model,
    /// The head to begin with, where one was trained beside the text.
    head: Option<Model>,
    metric: HeadlineMetric,
    seed: Seed,
    train: EncodedSet,
    dev: EncodedSet,
    dev_idxs: Vec<usize>,
    test: EncodedSet,
}

impl<'a> Bench<'a> {
    fn new(
        run: &Run<'_>,
        config: &'a AdaptConfig,
        task: &'a Task,
        encoder: &'a Encoder<'a>,
        base: &'a Model,
    ) -> Result<Self> {
        let seed = run.domain.config().seed.child(&task.name);
        let dev_idxs = dev_subset(task, seed, config.max_dev_examples);
        Ok(Self {
            config,
            task,
            encoder,
            base,
            head: None,
            metric: headline(task.kind, &task.labels),
            seed,
            train: encoder.encode(&task.train)?,
            dev: encoder.encode(&task.dev)?.select(&dev_idxs),
            dev_idxs,
            test: encoder.encode(&task.test)?,
        })
    }

    fn measure_all(&self, run: &mut Run<'_>, folder: &Path) -> Result<TaskResults> {
        fs::create_dir_all(folder.join("cells"))?;
        let rates = self.tune(run, folder)?;
        let plan = self.plan();
        let path =
            |&(arm, budget, seed): &Place| folder.join(format!("cells/{}-{}-{seed}.json", name_of(arm), budget.get()));
        let todo: Vec<Place> = plan.iter().filter(|place| !path(place).exists()).copied().collect();
        let num_before = plan.len() - todo.len();
        let job = |device: &Device, place: &Place| {
            let cell = self.cell(device, folder, *place, rates[&place.0])?;
            write_json(&path(place), &cell)?;
            let score = 100.0 * cell.cell.metrics[self.metric.key()];
            Ok(format!("{} at {:.0} %: {score:.1}", place.0.label(), 100.0 * place.1.get()))
        };
        parallel::each(run, &todo, job, |run, num_done, what| {
            let (num_done, num_total) = (num_before + num_done, plan.len());
            run.reporter.notice(&Notice::Cell { task: &self.task.name, what, num_done, num_total });
        })?;
        self.results(plan.iter().map(|place| read_json(&path(place))).collect::<Result<_>>()?)
    }

    /// Budgets from small to large; the linear arm has nothing random but the choice of labels.
    fn plan(&self) -> Vec<Place> {
        let mut plan = Vec::new();
        for &budget in &self.config.budgets {
            for arm in Arm::ALL {
                let repeats = if arm == Arm::Tfidf && budget.get() >= 1.0 { 1 } else { self.config.num_seeds };
                plan.extend((0..repeats).map(|seed| (arm, budget, seed)));
            }
        }
        plan
    }

    fn subset(&self, budget: Fraction, seed: u64) -> Vec<usize> {
        let mut idxs = subset(&self.task.train, budget, self.seed.stream("label subsets").at(0, seed));
        idxs.sort_unstable();
        idxs
    }

    /// The learning rate of each arm (of the linear one, the inverse regularisation strength), chosen at one budget.
    fn tune(&self, run: &mut Run<'_>, folder: &Path) -> Result<BTreeMap<Arm, f64>> {
        let path = |&(arm, rate): &(Arm, f64)| folder.join(format!("cells/tune-{}-{rate:e}.json", name_of(arm)));
        let trials: Vec<(Arm, f64)> = Arm::ALL.into_iter().flat_map(|arm| self.grid(arm)).collect();
        let todo: Vec<(Arm, f64)> = trials.iter().filter(|trial| !path(trial).exists()).copied().collect();
        let job = |device: &Device, trial: &(Arm, f64)| {
            let score = self.trial(device, *trial)?;
            write_json(&path(trial), &score)?;
            Ok(format!("{} with {:.0e}: {:.1} on dev", trial.0.label(), trial.1, 100.0 * score))
        };
        parallel::each(run, &todo, job, |run, num_done, what| {
            let num_total = todo.len();
            run.reporter.notice(&Notice::Cell { task: &self.task.name, what, num_done, num_total });
        })?;
        let mut best: BTreeMap<Arm, (f64, f64)> = BTreeMap::new();
        for trial in &trials {
            let score: f64 = read_json(&path(trial))?;
            // The first of equals.
            if best.get(&trial.0).is_none_or(|&(top, _)| score > top) {
                best.insert(trial.0, (score, trial.1));
            }
        }
        Ok(best.into_iter().map(|(arm, (_, rate))| (arm, rate)).collect())
    }

    fn grid(&self, arm: Arm) -> Vec<(Arm, f64)> {
        let values = if arm == Arm::Tfidf { &self.config.baseline.c_grid } else { &self.config.learning_rates };
        values.iter().map(|&value| (arm, value)).collect()
    }

    /// The development score of an arm with one setting.
    fn trial(&self, device: &Device, (arm, value): (Arm, f64)) -> Result<f64> {
        let idxs = self.subset(self.config.tune_budget, 0);
        if arm == Arm::Tfidf {
            return Ok(self.scored(&self.baseline(&idxs, &[value])?.dev)?.value());
        }
        match self.finetuned(device, arm, &idxs, 0, value) {
            Ok(tuned) => Ok(tuned.curve.iter().map(|point| point.1).fold(0.0, f64::max)),
            // A rate at which training diverges is not chosen.
            Err(error) if is_divergence(&error) => Ok(0.0),
            Err(error) => Err(error),
        }
    }

    fn finetuned(&self, device: &Device, arm: Arm, idxs: &[usize], seed: u64, rate: f64) -> Result<Finetuned> {
        let child = self.seed.child(&format!("{} {seed}", name_of(arm)));
        let model = match arm {
            Arm::Pretrained => {
                let model = match &self.head {
                    Some(head) => self.base.with_head_of(head),
                    None => self.base.with_head(self.encoder.head(), child),
                };
                match &self.config.adapter {
                    Some(adapter) => model.with_adapter(adapter, child).advise()?,
                    None => model,
                }
            }
            _ => Model::new(Architecture::clone(self.base.architecture()), self.encoder.head(), child),
        };
        let examples = self.train.select(idxs).pieces;
        let mut score = |model: &Model| {
            let predictions = self.encoder.predict(model, device, &self.dev);
            predictions.ok().and_then(|found| self.scored(&found).ok()).map_or(0.0, |scored| scored.value())
        };
        let config: &FinetuneConfig = &self.config.finetune;
        finetune(config, rate, model, &examples, device, child, &mut score).advise()
    }

    fn scored(&self, predictions: &Predictions) -> Result<Scored> {
        Ok(match calibrate(predictions).threshold {
            Some(threshold) => Scored::new(&predictions.clone().with_threshold(threshold), self.metric)?,
            None => Scored::new(predictions, self.metric)?,
        })
    }

    fn cell(&self, device: &Device, folder: &Path, (arm, budget, seed): Place, rate: f64) -> Result<StoredCell> {
        let start = Instant::now();
        let idxs = self.subset(budget, seed);
        let (dev, test, curve, num_steps) = if arm == Arm::Tfidf {
            let found = self.baseline(&idxs, &[rate])?;
            (found.dev, found.test, Vec::new(), found.num_steps)
        } else {
            let tuned = self.finetuned(device, arm, &idxs, seed, rate)?;
            let dev = self.encoder.predict(&tuned.model, device, &self.dev)?;
            let test = self.encoder.predict(&tuned.model, device, &self.test)?;
            if (arm, seed) == (Arm::Pretrained, 0) && self.config.budgets.last() == Some(&budget) {
                self.export(folder, &tuned.model, &calibrate(&dev))?;
            }
            (dev, test, tuned.curve, tuned.num_steps)
        };
        let calibration = calibrate(&dev);
        let measured = measure(&test, &calibration);
        let test = calibration.threshold.map_or(test.clone(), |threshold| test.with_threshold(threshold));
        let metrics = measured.metrics.into_iter().filter(|(_, value)| value.is_finite()).collect::<BTreeMap<_, _>>();
        let cell = Cell {
            arm,
            budget: budget.get(),
            num_examples: idxs.len(),
            seed,
            learning_rate: rate,
            num_steps,
            wall_s: start.elapsed().as_secs_f64(),
            metrics,
            curve,
            reliability: measured.reliability,
            reliability_scaled: measured.reliability_scaled,
        };
        Ok(StoredCell { cell, scored: Scored::new(&test, self.metric)? })
    }

    fn baseline(&self, idxs: &[usize], grid: &[f64]) -> Result<arable_eval::BaselineRun> {
        let train: Vec<_> = idxs.iter().map(|&idx| self.task.train[idx].clone()).collect();
        let dev: Vec<_> = self.dev_idxs.iter().map(|&idx| self.task.dev[idx].clone()).collect();
        let config = arable_eval::BaselineConfig { c_grid: grid.to_vec(), ..self.config.baseline.clone() };
        Ok(fit_baseline(&train, &dev, &self.task.test, &self.task.labels, self.metric, &config)?)
    }

    fn results(&self, stored: Vec<StoredCell>) -> Result<TaskResults> {
        let mut summaries = Vec::new();
        for &budget in &self.config.budgets {
            for arm in Arm::ALL {
                let group = stored.iter().filter(|stored| stored.cell.arm == arm && stored.cell.budget == budget.get());
                let group: Vec<&StoredCell> = group.collect();
                let scored: Vec<Scored> = group.iter().map(|stored| stored.scored.clone()).collect();
                let found = interval(&scored, self.config.num_resamples, self.seed)?;
                summaries.push(Summary {
                    arm,
                    budget: budget.get(),
                    num_examples: group.first().map_or(0, |stored| stored.cell.num_examples),
                    mean: found.mean,
                    low: found.low,
                    high: found.high,
                    num_seeds: group.len(),
                });
            }
        }
        let cells: Vec<Cell> = stored.into_iter().map(|stored| stored.cell).collect();
        Ok(TaskResults {
            name: self.task.name.clone(),
            kind: self.task.kind.name().to_owned(),
            metric: self.metric.key().to_owned(),
            num_train: self.task.train.len(),
            num_dev: self.task.dev.len(),
            num_test: self.task.test.len(),
            num_labels: self.task.labels.len(),
            split: self.task.split.clone(),
            convergence: self.convergence(&cells),
            cells,
            summaries,
        })
    }

    fn convergence(&self, cells: &[Cell]) -> Option<Convergence> {
        let budget = self.config.budgets.last()?.get();
        let curve = |arm: Arm, seed: u64| -> Option<&Curve> {
            let cell = cells.iter().find(|cell| cell.arm == arm && cell.budget == budget && cell.seed == seed)?;
            Some(cell.curve.as_slice())
        };
        let seeds = (0..self.config.num_seeds)
            .filter_map(|seed| seed_convergence(curve(Arm::Scratch, seed)?, curve(Arm::Pretrained, seed)?));
        convergence(&seeds.collect::<Vec<_>>())
    }

    /// The model of the pretrained arm's first cell at the largest budget, as `transformers` reads it; its adapter with the
    /// head, as `peft` reads it, where it has one.
    fn export(&self, folder: &Path, model: &Model, calibration: &Calibration) -> Result<()> {
        let is_adapter = !model.adapters().is_empty();
        let folder = folder.join(kept(is_adapter));
        fs::create_dir_all(&folder)?;
        let labels = self.task.labels.names();
        match is_adapter {
            true => arable_model::save_adapter(model, 0, labels, &folder),
            false => arable_model::save(model, labels, &folder),
        }
        .advise()?;
        self.encoder.vocabulary.save(&folder, self.encoder.max_length).advise()?;
        let facts = json!({ "temperature": calibration.temperature, "threshold": calibration.threshold });
        write_json(&folder.join("calibration.json"), &facts)
    }
}

/// The folder with what was learned of a task.
fn kept(is_adapter: bool) -> &'static str {
    if is_adapter { "adapter" } else { "export" }
}

fn name_of(arm: Arm) -> &'static str {
    match arm {
        Arm::Pretrained => "pretrained",
        Arm::Scratch => "scratch",
        Arm::Tfidf => "tfidf",
    }
}

fn is_divergence(error: &anyhow::Error) -> bool {
    let found = crate::advice::find::<arable_train::TrainError>(error);
    matches!(found, Some(arable_train::TrainError::Diverged { .. }))
}
