//! Pretraining: the loop with its metrics, event files and checkpoints.

use std::collections::VecDeque;
use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use arable_core::Digest;
use arable_ledger::{Artifact, Draft, Fingerprint, newest_valid, seal, workspace};
use arable_model::{Head, Model, ModelConfig};
use arable_tokenize::Vocabulary;
use arable_train::objective::mlm::Specials;
use arable_train::pretrain::{
    Event, HeldOutReport, MemoryConfig, Observer, PretrainConfig, Pretraining, StepReport, Text,
};
use arable_train::{Control, checkpoint};
use fs_err as fs;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::advice::Advise;
use crate::notice::{Cancelled, Notice};
use crate::results::{HeldOutPoint, PretrainingFacts, PretrainingPoint};
use crate::run::Run;
use crate::stages::{read_json, shards, tokenizer, write_json};
use crate::tensorboard::{self, EventWriter};

const CHECKPOINTS: &str = "checkpoints";
const METRICS: &str = "metrics.jsonl";
const CLOCK: &str = "clock.json";
/// Checkpoints kept beside each other and beside the best; older ones are deleted.
const NUM_KEPT: usize = 3;

/// All that the weights depend on.
pub(crate) fn config(run: &Run<'_>) -> (ModelConfig, PretrainConfig, &'static str) {
    let config = run.domain.config();
    let pretrain = PretrainConfig { memory: MemoryConfig::default(), ..config.pretrain.clone() };
    (config.model.clone(), pretrain, run.device.precision().name())
}

/// One line of `metrics.jsonl`.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Metric {
    Step(StepReport),
    HeldOut(HeldOutReport),
}

impl Metric {
    fn step(&self) -> u64 {
        match self {
            Self::Step(report) => report.step,
            Self::HeldOut(report) => report.step,
        }
    }
}

/// Pretrains the encoder, from the newest checkpoint where there is one.
pub(crate) fn run(run: &mut Run<'_>, vocabulary: &Artifact, tokens: &Artifact) -> Result<Artifact> {
    let config = config(run);
    let inputs = [vocabulary.digest(), tokens.digest()];
    let fingerprint = run.fingerprint("checkpoint", &config, &inputs);
    run.stage("pretrain", &config, &inputs, |run, draft| {
        let words = tokenizer::load(vocabulary)?;
        let (train, held_out) = shards::load(tokens)?;
        let text = Text { train: &train, held_out: &held_out, specials: specials(&words) };
        let (model_config, pretrain_config) = (&config.0, &run.domain.config().pretrain);
        let folder = draft.path();
        let mut state = match resume(run, pretrain_config, folder)? {
            Some(state) => state,
            None => {
                let architecture = model_config.architecture(words.size())?;
                let mut model = Model::new(architecture, Head::MaskedLm, run.domain.config().seed);
                model.set_prior(&train.counts(words.size())?);
                Pretraining::new(pretrain_config, model)
            }
        };
        let (seed, device) = (run.domain.config().seed, run.device);
        let mut observer = Watch::new(run, draft, fingerprint, pretrain_config, vocabulary.path(), &state)?;
        let done = arable_train::pretrain::pretrain(pretrain_config, &text, device, seed, &mut state, &mut observer);
        observer.finish(&state)?;
        if !done.advise()? {
            return Err(Cancelled.into());
        }
        let last = held_out_curve(folder)?.last().map_or(f64::NAN, |report| report.loss);
        let text = format!(
            "{} parameters, {:.1} M tokens, held-out loss {last:.3}",
            state.model.parameters().num_elements(),
            state.progress.num_tokens as f64 / 1e6,
        );
        Ok(json!({ "text": text, "weights": state.model.parameters().digest() }))
    })
}

pub(crate) fn specials(vocabulary: &Vocabulary) -> Specials {
    Specials { cls: vocabulary.cls_id(), sep: vocabulary.sep_id(), mask: vocabulary.mask_id() }
}

/// The newest whole checkpoint. Metrics of later steps are forgotten: they will be made again.
fn resume(run: &mut Run<'_>, config: &PretrainConfig, folder: &Path) -> Result<Option<Pretraining>> {
    let (newest, broken) = newest_valid(&folder.join(CHECKPOINTS), "step-").advise()?;
    for flaw in broken {
        run.reporter.notice(&Notice::Warning(format!("passed over a broken checkpoint: {flaw}")));
    }
    let state = newest.as_ref().map(|artifact| checkpoint::read(config, artifact.path()).advise()).transpose()?;
    let step = state.as_ref().map_or(0, |state| state.progress.step);
    let kept: Vec<Metric> = metrics(folder)?.into_iter().filter(|metric| metric.step() <= step).collect();
    let lines: Vec<String> = kept.iter().map(serde_json::to_string).collect::<Result<_, _>>()?;
    let text = lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect::<String>();
    arable_ledger::write_atomic(&folder.join(METRICS), text.as_bytes())?;
    if let Some(events) = event_file(folder)? {
        tensorboard::truncate_after(&events, step)?;
    }
    if let Some(state) = &state {
        let (step, num_tokens) = (state.progress.step, state.progress.num_tokens);
        run.reporter.notice(&Notice::Resumed { step, num_tokens, total: config.num_tokens.0 });
    }
    Ok(state)
}

/// The lines of `metrics.jsonl`; a last line cut off by a kill is passed over.
fn metrics(folder: &Path) -> Result<Vec<Metric>> {
    let path = folder.join(METRICS);
    if !path.exists() {
        return Ok(Vec::new());
    }
    let lines = BufReader::new(fs::File::open(path)?).lines();
    let lines = lines.collect::<Result<Vec<_>, _>>()?;
    Ok(lines.iter().map_while(|line| serde_json::from_str(line).ok()).collect())
}

fn event_file(folder: &Path) -> Result<Option<PathBuf>> {
    let mut names: Vec<PathBuf> = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    names.retain(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("events.out")));
    names.sort();
    Ok(names.pop())
}

fn held_out_curve(folder: &Path) -> Result<Vec<HeldOutReport>> {
    let held_out = |metric| if let Metric::HeldOut(report) = metric { Some(report) } else { None };
    Ok(metrics(folder)?.into_iter().filter_map(held_out).collect())
}

/// Writes metrics, events and checkpoints, and passes on what happens.
struct Watch<'r, 'a> {
    run: &'r mut Run<'a>,
    folder: PathBuf,
    vocabulary: PathBuf,
    fingerprint: Fingerprint,
    total: u64,
    metrics: fs::File,
    events: EventWriter,
    recent: VecDeque<(Instant, u64)>,
    start: Instant,
    earlier_s: f64,
    waited_s: f64,
}

impl<'r, 'a> Watch<'r, 'a> {
    fn new(
        run: &'r mut Run<'a>,
        draft: &Draft,
        fingerprint: Fingerprint,
        config: &PretrainConfig,
        vocabulary: &Path,
        state: &Pretraining,
    ) -> Result<Self> {
        let folder = draft.path().to_owned();
        fs::create_dir_all(folder.join(CHECKPOINTS))?;
        let events = event_file(&folder)?.unwrap_or_else(|| folder.join(tensorboard::file_name(now())));
        let earlier = if state.progress.step > 0 { clock(&folder)? } else { Clock::default() };
        let start = Instant::now();
        Ok(Self {
            run,
            vocabulary: vocabulary.to_owned(),
            fingerprint,
            total: config.num_tokens.0,
            metrics: fs::OpenOptions::new().create(true).append(true).open(folder.join(METRICS))?,
            events: EventWriter::append_to(&events, now())?,
            recent: [(start, state.progress.num_tokens)].into(),
            start,
            earlier_s: earlier.wall_s,
            waited_s: earlier.waited_s,
            folder,
        })
    }

    fn write(&mut self, metric: &Metric) -> Result<()> {
        Ok(writeln!(self.metrics, "{}", serde_json::to_string(metric)?)?)
    }

    fn on_step(&mut self, report: &StepReport, waited: Duration) -> Result<()> {
        self.waited_s += waited.as_secs_f64();
        self.write(&Metric::Step(*report))?;
        let scalars = [
            ("train/loss", report.loss),
            ("train/grad_norm", report.grad_norm),
            ("train/learning_rate", report.learning_rate),
            ("train/num_tokens", report.num_tokens as f64),
        ];
        for (tag, value) in scalars {
            self.events.scalar(tag, report.step, now(), value)?;
        }
        self.recent.push_back((Instant::now(), report.num_tokens));
        if self.recent.len() > 30 {
            self.recent.pop_front();
        }
        let ((first, before), (last, after)) = (self.recent[0], self.recent[self.recent.len() - 1]);
        let tokens_per_s = (after - before) as f64 / (last - first).as_secs_f64().max(1e-9);
        self.run.reporter.notice(&Notice::Step { report, total: self.total, tokens_per_s });
        Ok(())
    }

    fn on_held_out(&mut self, report: &HeldOutReport) -> Result<()> {
        self.write(&Metric::HeldOut(*report))?;
        self.events.scalar("held_out/loss", report.step, now(), report.loss)?;
        self.events.scalar("held_out/accuracy", report.step, now(), report.accuracy)?;
        self.events.flush()?;
        let Clock { wall_s, waited_s } = self.clock();
        self.run.reporter.notice(&Notice::HeldOut { report, waiting: waited_s / wall_s });
        Ok(())
    }

    fn on_checkpoint(&mut self, state: &Pretraining) -> Result<()> {
        self.metrics.sync_data()?;
        self.events.flush()?;
        let checkpoints = self.folder.join(CHECKPOINTS);
        let name = checkpoint_name(state.progress.step);
        let beside = workspace(&checkpoints.join(&name)).advise()?;
        checkpoint::write(state, &beside).advise()?;
        for entry in ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"] {
            fs::copy(self.vocabulary.join(entry), beside.join(entry))?;
        }
        let summary = json!({ "step": state.progress.step, "weights": state.model.parameters().digest() });
        seal(&checkpoints.join(&name), &self.fingerprint, summary).advise()?;
        self.save_clock()?;
        point(&checkpoints, "latest", &name)?;
        let held_out = held_out_curve(&self.folder)?;
        let kept = held_out.iter().filter(|report| checkpoints.join(checkpoint_name(report.step)).exists());
        if let Some(best) = kept.min_by(|a, b| a.loss.total_cmp(&b.loss)) {
            point(&checkpoints, "best", &checkpoint_name(best.step))?;
        }
        delete_old(&checkpoints)
    }

    fn clock(&self) -> Clock {
        Clock { wall_s: self.earlier_s + self.start.elapsed().as_secs_f64(), waited_s: self.waited_s }
    }

    fn save_clock(&self) -> Result<()> {
        write_json(&self.folder.join(CLOCK), &self.clock())
    }

    /// At the end the folder holds the last checkpoint as the model, and metrics and events that are on disk.
    fn finish(mut self, state: &Pretraining) -> Result<()> {
        self.events.flush()?;
        self.metrics.sync_data()?;
        if state.progress.num_tokens >= self.total {
            self.save_clock()?;
        }
        Ok(())
    }
}

/// Where the time went, over all interruptions.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Clock {
    wall_s: f64,
    waited_s: f64,
}

fn clock(folder: &Path) -> Result<Clock> {
    let path = folder.join(CLOCK);
    if path.exists() { read_json(&path) } else { Ok(Clock::default()) }
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

fn checkpoint_name(step: u64) -> String {
    format!("step-{step:06}")
}

/// Makes `link` point to the checkpoint `name`: `latest`, and `best` by held-out loss.
fn point(checkpoints: &Path, link: &str, name: &str) -> Result<()> {
    let link = checkpoints.join(link);
    if link.is_symlink() {
        fs::remove_file(&link)?;
    }
    #[cfg(unix)]
    fs::os::unix::fs::symlink(name, link)?;
    #[cfg(not(unix))]
    let _ = name;
    Ok(())
}

/// Deletes all checkpoints but the newest and the best.
fn delete_old(checkpoints: &Path) -> Result<()> {
    let mut names: Vec<PathBuf> = fs::read_dir(checkpoints)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    let is_checkpoint = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name.strip_prefix("step-").is_some_and(|digits| digits.bytes().all(|digit| digit.is_ascii_digit()))
    };
    names.retain(is_checkpoint);
    names.sort();
    let best = fs::read_link(checkpoints.join("best")).ok();
    let is_best = |path: &PathBuf| best.as_deref().is_some_and(|best| path.ends_with(best));
    for old in names.iter().rev().skip(NUM_KEPT).filter(|path| !is_best(path)) {
        fs::remove_dir_all(old)?;
    }
    Ok(())
}

impl Observer for Watch<'_, '_> {
    fn observe(&mut self, event: &Event<'_>) -> Result<Control, Box<dyn Error + Send + Sync>> {
        match event {
            Event::Step { report, waited } => self.on_step(report, *waited)?,
            Event::HeldOut(report) => self.on_held_out(report)?,
            Event::Checkpoint(state) => self.on_checkpoint(state)?,
        }
        let cancelled = self.run.cancel.load(Ordering::Relaxed);
        Ok(if cancelled { Control::Stop } else { Control::Continue })
    }
}

/// The pretrained model.
pub(crate) fn load(pretrained: &Artifact) -> Result<Model> {
    arable_model::load(&final_checkpoint(pretrained)?).advise()
}

fn final_checkpoint(pretrained: &Artifact) -> Result<PathBuf> {
    let (newest, _) = newest_valid(&pretrained.path().join(CHECKPOINTS), "step-").advise()?;
    Ok(newest.ok_or_else(|| anyhow::anyhow!("find a checkpoint in {}", pretrained.path().display()))?.path().to_owned())
}

/// What later stages depend on: the weights, not the clock readings beside them.
pub(crate) fn weights_digest(pretrained: &Artifact) -> Result<Digest> {
    Ok(serde_json::from_value(pretrained.manifest().summary["weights"].clone())?)
}

/// What the report says of the pretraining.
pub(crate) fn facts(run: &Run<'_>, pretrained: &Artifact) -> Result<PretrainingFacts> {
    let metrics = metrics(pretrained.path())?;
    let (mut curve, mut held_out) = (Vec::new(), Vec::new());
    for metric in &metrics {
        match metric {
            Metric::Step(report) => curve.push(PretrainingPoint {
                step: report.step,
                num_tokens: report.num_tokens,
                loss: report.loss,
                grad_norm: report.grad_norm,
                learning_rate: report.learning_rate,
            }),
            Metric::HeldOut(report) => held_out.push(HeldOutPoint {
                step: report.step,
                num_tokens: report.num_tokens,
                loss: report.loss,
                accuracy: report.accuracy,
            }),
        }
    }
    let num_tokens = curve.last().map_or(0, |point| point.num_tokens);
    let config = run.domain.config();
    let model = load(pretrained)?;
    let Clock { wall_s, waited_s } = clock(pretrained.path())?;
    let pretrain = &config.pretrain;
    let flops = model.architecture().flops_per_token(pretrain.mlm.mask_prob.get(), pretrain.max_length);
    Ok(PretrainingFacts {
        model: config.model.size.name().to_owned(),
        num_parameters: model.parameters().num_elements(),
        num_tokens,
        flops: flops * num_tokens as f64,
        wall_s,
        waited_s,
        curve: thinned(curve),
        held_out,
    })
}

/// At most a few hundred points: each the mean loss of its stretch.
fn thinned(curve: Vec<PretrainingPoint>) -> Vec<PretrainingPoint> {
    let per_point = curve.len().div_ceil(300).max(1);
    let mean = |points: &[PretrainingPoint]| {
        let mut last = points[points.len() - 1].clone();
        last.loss = points.iter().map(|point| point.loss).sum::<f64>() / points.len() as f64;
        last
    };
    curve.chunks(per_point).map(mean).collect()
}
