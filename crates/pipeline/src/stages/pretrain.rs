//! A stage of the pretraining: the loop with its metrics, event files and checkpoints.

use std::collections::{BTreeMap, VecDeque};
use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use arable_core::{Digest, Seed};
use arable_ledger::{Artifact, Draft, Fingerprint, newest_valid, seal, workspace};
use arable_model::{Head, Model, ModelConfig};
use arable_tokenize::{Role, Vocabulary};
use arable_train::curriculum::{self, CurriculumConfig};
use arable_train::loader::Source;
use arable_train::objective::{Aids, Specials};
use arable_train::pretrain::{
    Event, HeldOutReport, MemoryConfig, Observer, PretrainConfig, Pretraining, StepReport, Text,
};
use arable_train::ramp::Ramp;
use arable_train::{Control, checkpoint};
use fs_err as fs;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::advice::Advise;
use crate::notice::{Cancelled, Notice};
use crate::plan::{self, Stage};
use crate::results::{HeldOutPoint, PretrainingFacts, PretrainingPoint, ProbeReport, SourceShare, StageFacts};
use crate::rollback;
use crate::run::{CODE_VERSION, Run};
use crate::stages::gate::{Plan, Trained};
use crate::stages::probe::{self, Probes};
use crate::stages::{aids, checkpoint_steps, read_json, shards, tokenizer, write_json};
use crate::tensorboard::{self, EventWriter};

pub(crate) const CHECKPOINTS: &str = "checkpoints";
/// Of a stage that trains an adapter: the adapter, and the model that it is merged into.
const ADAPTER: &str = "adapter";
const MERGED: &str = "merged";
const METRICS: &str = "metrics.jsonl";
const CLOCK: &str = "clock.json";
/// What a checkpoint was made from: the resolved stage, code, machine, and the checkpoint before.
pub(crate) const ORIGIN: &str = "origin.json";
/// What probes had found so far in the stage of a checkpoint.
pub(crate) const PROBES: &str = "probes.json";
/// Checkpoints kept beside each other and beside the best; older ones are deleted.
const NUM_KEPT: usize = 3;

/// All that the weights of a stage depend on, and its probes.
type StageIdentity = (ModelConfig, PretrainConfig, &'static str, [Option<Digest>; 2]);

pub(crate) fn config(run: &Run<'_>, stage: &Stage) -> Result<StageIdentity> {
    let pretrain = PretrainConfig { memory: MemoryConfig::default(), ..stage.pretrain.clone() };
    let from = rollback::of_stage(run.folder(), stage)?.map(|rollback| rollback.identity());
    let probed = probe::identity(run.domain.config());
    Ok((run.domain.model_identity(), pretrain, run.device.precision().name(), [from, probed]))
}

/// What a stage begins with: vocabulary, tokens, the weights of the stage before or of the model to go on from, and the
/// tasks that are probed.
pub(crate) fn inputs(run: &Run<'_>, stage: &Stage, made: Made<'_>) -> Result<Vec<Digest>> {
    let base = run.domain.base.as_ref().map(|base| base.digest);
    let before = made.before.map(weights_digest).transpose()?.or(base);
    let probed = if run.domain.config().probe.is_some() { made.tasks } else { &[] };
    let own = [made.vocabulary.digest(), made.tokens.digest()];
    let beside = aids::inputs(run, &stage.pretrain, made.tasks)?;
    Ok(own.into_iter().chain(before).chain(probed.iter().map(Artifact::digest)).chain(beside).collect())
}

/// The artifacts that a stage is made from.
#[derive(Clone, Copy)]
pub(crate) struct Made<'a> {
    pub tasks: &'a [Artifact],
    pub vocabulary: &'a Artifact,
    pub tokens: &'a Artifact,
    /// The stage before.
    pub before: Option<&'a Artifact>,
}

/// One line of `metrics.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Metric {
    Step(StepReport),
    HeldOut(HeldOutReport),
    Probe(ProbeReport),
}

impl Metric {
    pub(crate) fn step(&self) -> u64 {
        match self {
            Self::Step(report) => report.step,
            Self::HeldOut(report) => report.step,
            Self::Probe(report) => report.step,
        }
    }
}

/// Trains a stage, from its newest checkpoint where there is one.
pub(crate) fn run(run: &mut Run<'_>, stage: &Stage, made: Made<'_>) -> Result<Artifact> {
    let config = config(run, stage)?;
    let inputs = inputs(run, stage, made)?;
    let fingerprint = run.fingerprint("checkpoint", &config, &inputs);
    let rollback = rollback::of_stage(run.folder(), stage)?;
    run.stage(&stage.kind(), &config, &inputs, |run, draft| {
        let words = tokenizer::load(made.vocabulary)?;
        let text = Read::open(run, stage, &words, made)?;
        let (pretrain, folder) = (&stage.pretrain, draft.path());
        let mut state = match (resume(run, pretrain, folder)?, rollback) {
            (Some(state), _) => state,
            (None, Some(rollback)) => {
                write_metrics(folder, rollback.probes(run)?.into_iter().map(Metric::Probe))?;
                rollback.state(run, pretrain, made.tokens.digest())?
            }
            (None, None) => begin(run, pretrain, &text, made)?,
        };
        let (seed, device) = (stage_seed(run, stage), run.device);
        let mut observer = Watch::new(run, draft, fingerprint, stage, made, &state)?;
        observer.probe(&state)?;
        let done = arable_train::pretrain::pretrain(pretrain, &text.view(), device, seed, &mut state, &mut observer);
        observer.finish(&state)?;
        if !done.advise()? {
            return Err(Cancelled.into());
        }
        if pretrain.adapter.is_some() {
            keep_adapter(&state.model, folder, made.vocabulary.path())?;
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

/// The seed of a stage: stages draw independently.
pub(crate) fn stage_seed(run: &Run<'_>, stage: &Stage) -> Seed {
    let seed = run.domain.config().seed;
    if stage.name == plan::ALONE { seed } else { seed.child(&stage.name) }
}

/// The text of a stage, opened.
pub(crate) struct Read {
    train: Vec<Source>,
    held_out: Vec<Source>,
    specials: Specials,
    aids: Aids,
    vocab_size: usize,
}

impl Read {
    pub(crate) fn open(run: &Run<'_>, stage: &Stage, words: &Vocabulary, made: Made<'_>) -> Result<Self> {
        let (config, seed) = (&stage.pretrain, stage_seed(run, stage));
        let (train, held_out) = shards::load(made.tokens)?;
        let mut train = config.sources(train).advise()?;
        if let Some(CurriculumConfig { by, order }) = &config.curriculum {
            for (source, keys) in train.iter_mut().zip(shards::order(made.tokens, by)?) {
                let stream = seed.child(&source.name).stream("curriculum");
                source.places = Some(curriculum::places(*order, &keys, stream));
            }
        }
        // What is held out is measured whole, whatever the mixture.
        let everything = PretrainConfig { mixture: BTreeMap::new(), ..config.clone() };
        Ok(Self {
            train,
            held_out: everything.sources(held_out).advise()?,
            specials: specials(config, words)?,
            aids: aids::load(run, config, (words, run.domain.architecture()?.style().pooling), made.tasks)?,
            vocab_size: words.size(),
        })
    }

    pub(crate) fn view(&self) -> Text<'_> {
        Text { train: &self.train, held_out: &self.held_out, specials: self.specials.clone(), aids: &self.aids }
    }

    /// How often each token occurs in the sources of the mixture.
    fn counts(&self) -> Result<Vec<u64>> {
        let mut all = vec![0; self.vocab_size];
        for source in self.train.iter().filter(|source| source.weight != Ramp::constant(0.0)) {
            let counts = source.shards.counts(self.vocab_size).advise()?;
            all.iter_mut().zip(counts).for_each(|(all, count)| *all += count);
        }
        Ok(all)
    }
}

/// Where a stage begins: at the weights of the stage before, of the model to go on from, or at random ones; in any case with
/// a fresh optimizer, for which the schedule warms up again.
pub(crate) fn begin(run: &Run<'_>, config: &PretrainConfig, text: &Read, made: Made<'_>) -> Result<Pretraining> {
    let seed = run.domain.config().seed;
    let model = match (made.before, &run.domain.base) {
        (Some(before), _) => load(before)?,
        (None, Some(base)) => base.model(&tokenizer::load(made.vocabulary)?, || text.counts(), seed)?,
        (None, None) => {
            let architecture = run.domain.config().model.architecture(text.vocab_size)?;
            let mut model = Model::new(architecture, Head::MaskedLm, seed);
            model.set_prior(&text.counts()?);
            model
        }
    };
    let model = match &config.adapter {
        Some(adapter) => model.with_adapter(adapter, seed).advise()?,
        None => model,
    };
    let is_drawn = made.before.is_none() && run.domain.base.is_none();
    Ok(Pretraining { is_drawn, ..Pretraining::new(config, model, &text.aids, seed) })
}

/// Keeps the adapter that a stage trained in a folder of its own, and beside it the model that it is merged into: what follows
/// goes on from there.
fn keep_adapter(model: &Model, folder: &Path, vocabulary: &Path) -> Result<()> {
    let [adapter, merged] = [ADAPTER, MERGED].map(|name| folder.join(name));
    [&adapter, &merged].into_iter().try_for_each(fs::create_dir_all)?;
    arable_model::save_adapter(model, 0, &[], &adapter).advise()?;
    arable_model::save(&model.merged().advise()?, &[], &merged).advise()?;
    copy_vocabulary(vocabulary, &merged)
}

fn copy_vocabulary(from: &Path, to: &Path) -> Result<()> {
    for entry in ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"] {
        fs::copy(from.join(entry), to.join(entry))?;
    }
    Ok(())
}

/// The special tokens that a stage puts in. One that hides tokens needs a stand-in for them.
pub(crate) fn specials(config: &PretrainConfig, vocabulary: &Vocabulary) -> Result<Specials> {
    let mask = if config.clm.is_some() { None } else { Some(vocabulary.require(Role::Mask).advise()?) };
    let frame = vocabulary.frame();
    Ok(Specials { start: frame.start.clone(), end: frame.end.clone(), mask })
}

/// The newest whole checkpoint. Metrics of later steps are forgotten: they will be made again, and how many is said.
fn resume(run: &mut Run<'_>, config: &PretrainConfig, folder: &Path) -> Result<Option<Pretraining>> {
    let (newest, broken) = newest_valid(&folder.join(CHECKPOINTS), "step-").advise()?;
    for flaw in broken {
        run.reporter.notice(&Notice::Warning(format!("passed over a broken checkpoint: {flaw}")));
    }
    let state = newest.as_ref().map(|artifact| checkpoint::read(config, artifact.path()).advise()).transpose()?;
    let step = state.as_ref().map_or(0, |state| state.progress.step);
    let (kept, lost): (Vec<Metric>, Vec<Metric>) =
        metrics(folder)?.into_iter().partition(|metric| metric.step() <= step);
    let num_lost = lost.iter().filter(|metric| matches!(metric, Metric::Step(_))).count();
    write_metrics(folder, kept)?;
    if let Some(events) = event_file(folder)? {
        tensorboard::truncate_after(&events, step)?;
    }
    if num_lost > 0 || state.is_some() {
        let num_tokens = state.as_ref().map_or(0, |state| state.progress.num_tokens);
        run.reporter.notice(&Notice::Resumed { step, num_tokens, total: config.num_tokens.0, num_lost });
    }
    Ok(state)
}

fn write_metrics(folder: &Path, metrics: impl IntoIterator<Item = Metric>) -> Result<()> {
    let lines: Vec<String> =
        metrics.into_iter().map(|metric| serde_json::to_string(&metric)).collect::<Result<_, _>>()?;
    let text = lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect::<String>();
    Ok(arable_ledger::write_atomic(&folder.join(METRICS), text.as_bytes())?)
}

/// The lines of `metrics.jsonl`; a last line cut off by a kill is passed over.
pub(crate) fn metrics(folder: &Path) -> Result<Vec<Metric>> {
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
    origin: Value,
    /// The checkpoint before.
    parent: Option<Digest>,
    total: u64,
    probes: Option<Probes>,
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
        stage: &Stage,
        made: Made<'_>,
        state: &Pretraining,
    ) -> Result<Self> {
        let folder = draft.path().to_owned();
        fs::create_dir_all(folder.join(CHECKPOINTS))?;
        let events = event_file(&folder)?.unwrap_or_else(|| folder.join(tensorboard::file_name(now())));
        let earlier = if state.progress.step > 0 { clock(&folder)? } else { Clock::default() };
        let start = Instant::now();
        let probes = Probes::load(run, made.vocabulary, made.tasks, &state.model)?;
        let origin = json!({
            "stage": stage,
            "model": run.domain.model_identity(),
            "base": run.domain.base.as_ref().map(|base| base.digest),
            "tokens": made.tokens.digest(),
            "before": made.before.map(Artifact::digest),
            "code_version": CODE_VERSION,
            "machine": run.facts().machine,
            "precision": run.device.precision().name(),
        });
        Ok(Self {
            run,
            vocabulary: made.vocabulary.path().to_owned(),
            fingerprint,
            origin,
            parent: newest_valid(&folder.join(CHECKPOINTS), "step-").advise()?.0.map(|artifact| artifact.digest()),
            total: stage.pretrain.num_tokens.0,
            probes,
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

    /// Measures what the encoder is worth for the tasks by now, where that is due and was not done before a kill.
    fn probe(&mut self, state: &Pretraining) -> Result<()> {
        let Some(probes) = &self.probes else { return Ok(()) };
        let step = state.progress.step;
        let is_due = step.is_multiple_of(probes.every()) || state.progress.num_tokens >= self.total;
        let known: Vec<String> =
            probes_in(&self.folder)?.into_iter().filter(|own| own.step == step).map(|own| own.task).collect();
        if !is_due || known.len() == probes.num_tasks() {
            return Ok(());
        }
        // What a stage leaves is its adapter merged into the weights.
        let merged = (!state.model.adapters().is_empty()).then(|| state.model.merged()).transpose().advise()?;
        let found = probes.measure(self.run, merged.as_ref().unwrap_or(&state.model), step)?;
        for report in found.into_iter().filter(|report| !known.contains(&report.task)) {
            let scalars = [
                ("linear", report.linear),
                ("finetuned", report.finetuned),
                ("ece", report.ece),
                ("brier", report.brier),
                ("nll", report.nll),
            ];
            let knows = report.error_auroc.map(|auroc| ("error_auroc", auroc));
            for (name, value) in scalars.into_iter().chain(knows) {
                self.events.scalar(&format!("probe_{name}/{}", report.task), step, now(), value)?;
            }
            self.run.reporter.notice(&Notice::Probed { report: &report });
            self.write(&Metric::Probe(report))?;
        }
        // The time it took says nothing about the speed of training.
        self.recent = [(Instant::now(), state.progress.num_tokens)].into();
        Ok(())
    }

    fn on_step(&mut self, report: &StepReport, waited: Duration) -> Result<()> {
        self.waited_s += waited.as_secs_f64();
        self.write(&Metric::Step(report.clone()))?;
        let scalars = [
            ("train/loss", report.loss),
            ("train/grad_norm", report.grad_norm),
            ("train/learning_rate", report.learning_rate),
            ("train/num_tokens", report.num_tokens as f64),
        ];
        for (tag, value) in scalars {
            self.events.scalar(tag, report.step, now(), value)?;
        }
        for (name, &loss) in &report.objectives {
            self.events.scalar(&format!("train_loss/{name}"), report.step, now(), loss)?;
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
        self.write(&Metric::HeldOut(report.clone()))?;
        self.events.scalar("held_out/loss", report.step, now(), report.loss)?;
        self.events.scalar("held_out/accuracy", report.step, now(), report.accuracy)?;
        for (source, &loss) in &report.by_source {
            self.events.scalar(&format!("held_out_loss/{source}"), report.step, now(), loss)?;
        }
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
        copy_vocabulary(&self.vocabulary, &beside)?;
        write_json(&beside.join(ORIGIN), &json!({ "parent": self.parent, "origin": self.origin }))?;
        if self.probes.is_some() {
            write_json(&beside.join(PROBES), &probes_in(&self.folder)?)?;
        }
        let summary = json!({ "step": state.progress.step, "weights": state.model.parameters().digest() });
        self.parent = Some(seal(&checkpoints.join(&name), &self.fingerprint, summary).advise()?.digest());
        self.save_clock()?;
        point(&checkpoints, "latest", &name)?;
        let held_out = held_out_curve(&self.folder)?;
        let kept = held_out.iter().filter(|report| checkpoints.join(checkpoint_name(report.step)).exists());
        if let Some(best) = kept.min_by(|a, b| a.loss.total_cmp(&b.loss)) {
            point(&checkpoints, "best", &checkpoint_name(best.step))?;
        }
        delete_old(&checkpoints)?;
        // It takes long, and whoever stops it has the checkpoint.
        self.probe(state)
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

pub(crate) fn checkpoint_name(step: u64) -> String {
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

/// Deletes all checkpoints but the newest and the best; none while the newest may not replace them.
fn delete_old(checkpoints: &Path) -> Result<()> {
    let best = fs::read_link(checkpoints.join("best")).ok();
    let steps = checkpoint_steps(checkpoints);
    let newest = steps.last().map(|step| Artifact::open(&checkpoints.join(checkpoint_name(*step))));
    if newest.is_none_or(|opened| opened.is_err()) {
        return Ok(());
    }
    for step in steps.into_iter().rev().skip(NUM_KEPT) {
        let name = checkpoint_name(step);
        if best.as_deref() != Some(Path::new(&name)) {
            fs::remove_dir_all(checkpoints.join(name))?;
        }
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
    let merged = pretrained.path().join(MERGED);
    let folder = if merged.exists() { merged } else { final_checkpoint(pretrained)? };
    arable_model::load(&folder).advise()
}

/// The head of a task that the pretraining trained beside the text, where it did.
pub(crate) fn task_head(pretrained: &Artifact, task: &str) -> Result<Option<Model>> {
    Ok(checkpoint::task_heads(&final_checkpoint(pretrained)?).advise()?.remove(task))
}

/// Where a stage ended.
pub(crate) fn state(config: &PretrainConfig, pretrained: &Artifact) -> Result<Pretraining> {
    checkpoint::read(config, &final_checkpoint(pretrained)?).advise()
}

fn final_checkpoint(pretrained: &Artifact) -> Result<PathBuf> {
    let (newest, _) = newest_valid(&pretrained.path().join(CHECKPOINTS), "step-").advise()?;
    Ok(newest.ok_or_else(|| anyhow::anyhow!("find a checkpoint in {}", pretrained.path().display()))?.path().to_owned())
}

/// What probes found along a stage.
pub(crate) fn probes_in(folder: &Path) -> Result<Vec<ProbeReport>> {
    let probed = |metric| if let Metric::Probe(report) = metric { Some(report) } else { None };
    Ok(metrics(folder)?.into_iter().filter_map(probed).collect())
}

/// What later stages depend on: the weights, not the clock readings beside them.
pub(crate) fn weights_digest(pretrained: &Artifact) -> Result<Digest> {
    Ok(serde_json::from_value(pretrained.manifest().summary["weights"].clone())?)
}

/// What the report says of the pretraining: the curves of all stages, one after the other.
pub(crate) fn facts(run: &Run<'_>, plan: &Plan, tokens: &Artifact) -> Result<PretrainingFacts> {
    let model = load(plan.pretrained())?;
    let mut facts = PretrainingFacts {
        model: run.domain.model_name().to_owned(),
        num_parameters: model.parameters().num_elements(),
        ..PretrainingFacts::default()
    };
    for trained in &plan.trained {
        let path = trained.artifact.path();
        let (steps, num_tokens) = (facts.curve.last().map_or(0, |point| point.step), facts.num_tokens);
        let metrics = metrics(path)?;
        for metric in &metrics {
            match metric {
                Metric::Step(report) => facts.curve.push(PretrainingPoint {
                    step: steps + report.step,
                    num_tokens: num_tokens + report.num_tokens,
                    loss: report.loss,
                    grad_norm: report.grad_norm,
                    learning_rate: report.learning_rate,
                }),
                Metric::HeldOut(report) if report.step > 0 => facts.held_out.push(HeldOutPoint {
                    step: steps + report.step,
                    num_tokens: num_tokens + report.num_tokens,
                    loss: report.loss,
                    accuracy: report.accuracy,
                }),
                Metric::Probe(report) => {
                    facts.probes.push(ProbeReport { step: steps + report.step, ..report.clone() });
                }
                Metric::HeldOut(_) => {}
            }
        }
        let pretrain = &trained.stage.pretrain;
        let stage = stage_facts(&plan.trained[0].artifact, trained, &metrics, tokens)?;
        let per_token = model.architecture().flops_per_token(pretrain.asked_share(), pretrain.max_length.at(0.5));
        facts.num_tokens += stage.num_tokens;
        facts.flops += per_token * stage.num_tokens as f64;
        let Clock { wall_s, waited_s } = clock(path)?;
        facts.wall_s += wall_s;
        facts.waited_s += waited_s;
        facts.stages.push(stage);
    }
    facts.curve = thinned(facts.curve);
    Ok(facts)
}

fn stage_facts(first_stage: &Artifact, trained: &Trained, metrics: &[Metric], tokens: &Artifact) -> Result<StageFacts> {
    let state = final_checkpoint(&trained.artifact)?;
    let progress = checkpoint::progress(&state).advise()?;
    let names = shards::facts(tokens)?.into_iter().map(|source| source.name);
    let total = progress.num_tokens.max(1) as f64;
    let sources = names.zip(&progress.cursor.sources).map(|(name, place)| SourceShare {
        name,
        asked: place.num_asked / total,
        reached: place.num_tokens as f64 / total,
        num_passes: place.epoch,
    });
    let mut held_out = metrics.iter().filter_map(|metric| match metric {
        Metric::HeldOut(report) => Some(report),
        Metric::Step(_) | Metric::Probe(_) => None,
    });
    let before = held_out.clone().next().filter(|report| report.step == 0).map(|report| &report.by_source);
    let after = held_out.next_back().map(|report| &report.by_source);
    let loss =
        |(name, after): (&String, &f64)| (name.clone(), (before.and_then(|before| before.get(name)).copied(), *after));
    Ok(StageFacts {
        name: trained.stage.name.clone(),
        num_steps: progress.step,
        num_tokens: progress.num_tokens,
        sources: sources.filter(|source| source.asked > 0.0 || source.reached > 0.0).collect(),
        held_out: after.into_iter().flatten().map(loss).collect(),
        probes: probe::since_start(first_stage, &trained.artifact)?,
        gate: trained.gate.clone(),
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
