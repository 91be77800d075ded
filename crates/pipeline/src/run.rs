//! The life of a run, top to bottom.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Instant, SystemTime};

use anyhow::Result;
use arable_core::Digest;
use arable_ledger::{Artifact, Decision, Draft, Fingerprint, Outcome, RunRecord, RunStatus, StageRecord, Store};
use arable_tensor::{Device, Precision};
use fs_err as fs;
use serde::Serialize;
use serde_json::Value;

use crate::advice::{self, Advise, with_hint};
use crate::config;
use crate::domain::Domain;
use crate::notice::{Cancelled, Notice, Reporter};
use crate::plan;
use crate::report;
use crate::results::{Results, RunFacts};
use crate::stages::gate::{self, GateFailed};
use crate::stages::{self, adapt, attributes, corpus, documents, profile, shards, tasks, tokenizer};

/// The version of the program.
pub const CODE_VERSION: &str = env!("CARGO_PKG_VERSION");

/// Kinds of artifacts and how often their results changed for the same configuration and inputs since the last version
/// of the program. Whoever changes results raises the number, and what older code made is made again.
const REVISIONS: [(&str, u32); 10] = [
    ("documents", 2),
    ("reference", 2),
    ("attributes", 3),
    ("profile", 3),
    ("task", 2),
    ("corpus", 4),
    ("shards", 3),
    ("pretrain", 6),
    ("checkpoint", 6),
    ("adapt", 4),
];

/// The version of the code that makes artifacts of a kind, part of their fingerprints.
fn code_version(kind: &str) -> String {
    let revision = REVISIONS.iter().find(|(prefix, _)| kind.starts_with(prefix)).map_or(1, |found| found.1);
    format!("{CODE_VERSION}.{revision}")
}

/// A run: a domain, a place for its outputs, a device, and someone who watches.
pub struct Run<'a> {
    pub(crate) domain: &'a Domain,
    pub(crate) device: &'a Device,
    pub(crate) reporter: &'a mut dyn Reporter,
    pub(crate) cancel: &'a AtomicBool,
    store: Store,
    folder: PathBuf,
    stages: Vec<StageRecord>,
    /// Gates that do not hold and did not stop the run.
    pub(crate) failed_gates: Vec<GateFailed>,
}

/// What a finished run says.
pub struct Finished {
    /// Everything that was measured.
    pub results: Results,
    /// The run's folder.
    pub folder: PathBuf,
    /// Whether every stage was already done.
    pub nothing_to_do: bool,
    /// A gate that does not hold: the run worked, and what it was to reach is not reached.
    pub failed_gate: Option<GateFailed>,
}

impl<'a> Run<'a> {
    /// A run of `domain` below the folder `out`.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn new(
        domain: &'a Domain,
        out: &Path,
        device: &'a Device,
        reporter: &'a mut dyn Reporter,
        cancel: &'a AtomicBool,
    ) -> Result<Self> {
        let store = Store::open(&out.join("artifacts")).advise()?;
        let folder = out.join(&domain.config().name);
        Ok(Self { domain, device, reporter, cancel, store, folder, stages: Vec::new(), failed_gates: Vec::new() })
    }

    /// Does what is not done yet, in order, and reports.
    ///
    /// # Errors
    /// When a stage fails or the run is cancelled. What was done stays done.
    pub fn execute(mut self) -> Result<Finished> {
        self.begin()?;
        let result = self.work();
        let status = match &result {
            Ok(_) => RunStatus::Done,
            Err(error) if advice::find::<Cancelled>(error).is_some() => RunStatus::Cancelled,
            Err(error) => RunStatus::Failed { error: format!("{error:#}") },
        };
        let line = result.as_ref().ok().map(report::one_line);
        self.record(status, line)?;
        let nothing_to_do = self.stages.iter().all(|stage| stage.outcome == Outcome::Reused);
        let failed_gate = self.failed_gates.pop();
        Ok(Finished { results: result?, folder: self.folder, nothing_to_do, failed_gate })
    }

    fn work(&mut self) -> Result<Results> {
        let tasks = tasks::run(self)?;
        let read = documents::run(self)?;
        let attributes = attributes::run(self, &read, &tasks)?;
        let profile = profile::run(self, &read, &attributes)?;
        let corpus = corpus::run(self, &tasks, &read, &attributes)?;
        let tokenizer = tokenizer::run(self, &corpus, read.reference.as_ref())?;
        let from = shards::From { corpus: &corpus, vocabulary: &tokenizer, read: &read, attributes: &attributes };
        let shards = shards::run(self, from)?;
        let plan = gate::run_plan(self, &tasks, &tokenizer, &shards)?;
        let adapted = adapt::run_all(self, &tasks, &tokenizer, plan.pretrained())?;
        let parts = stages::Parts { profile, corpus, tokenizer, shards, plan, adapted };
        let results = stages::results(self, &parts)?;
        self.write_report(&results)?;
        Ok(results)
    }

    /// The stages with what each would do, without doing anything. A stage after one that is not done has no known
    /// inputs yet, and is to do.
    ///
    /// # Errors
    /// When sources or tasks cannot be read.
    pub fn plan(&mut self) -> Result<Vec<(String, bool)>> {
        Ok(stages::planned(self)?.steps)
    }

    /// The run's folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Records a decision about the run.
    pub(crate) fn decide(&self, what: &str, why: &str) -> Result<()> {
        let decision = Decision { at: now(), what: what.to_owned(), why: why.to_owned() };
        Ok(arable_ledger::decide(&self.folder, &decision)?)
    }

    /// The artifact of a stage: found, or built by `build` in a working folder that survives a kill.
    pub(crate) fn stage(
        &mut self,
        kind: &str,
        config: &impl Serialize,
        inputs: &[Digest],
        build: impl FnOnce(&mut Self, &Draft) -> Result<Value>,
    ) -> Result<Artifact> {
        let fingerprint = self.fingerprint(kind, config, inputs);
        let start = Instant::now();
        let (artifact, outcome) = match self.store.find(&fingerprint).advise()? {
            Some(artifact) => (artifact, Outcome::Reused),
            None => {
                self.check_cancelled()?;
                self.reporter.notice(&Notice::StageStarted { kind });
                let draft = self.store.begin(&fingerprint).advise()?;
                let summary = build(self, &draft)?;
                (draft.commit(summary).advise()?, Outcome::Built)
            }
        };
        let wall_s = if outcome == Outcome::Built { start.elapsed().as_secs_f64() } else { 0.0 };
        let summary = artifact.manifest().summary["text"].as_str().unwrap_or_default().to_owned();
        self.reporter.notice(&Notice::StageDone { kind, outcome, wall_s, summary });
        let folder = fingerprint.folder();
        self.stages.push(StageRecord { kind: kind.to_owned(), digest: artifact.digest(), folder, outcome, wall_s });
        Ok(artifact)
    }

    pub(crate) fn fingerprint(&self, kind: &str, config: &impl Serialize, inputs: &[Digest]) -> Fingerprint {
        Fingerprint {
            kind: kind.to_owned(),
            config_digest: Digest::of_json(config),
            inputs: inputs.to_vec(),
            seed: self.domain.config().seed,
            code_version: code_version(kind),
        }
    }

    pub(crate) fn is_done(&self, kind: &str, config: &impl Serialize, inputs: &[Digest]) -> Result<Option<Artifact>> {
        self.store.find(&self.fingerprint(kind, config, inputs)).advise()
    }

    /// Where the artifact of a stage is, or is being made.
    pub(crate) fn folder_of(&self, kind: &str, config: &impl Serialize, inputs: &[Digest]) -> PathBuf {
        let fingerprint = self.fingerprint(kind, config, inputs);
        let whole = self.store.folder(&fingerprint);
        if whole.exists() { whole } else { self.store.draft_folder(&fingerprint) }
    }

    pub(crate) fn check_cancelled(&self) -> Result<()> {
        if self.cancel.load(Ordering::Relaxed) { Err(Cancelled.into()) } else { Ok(()) }
    }

    pub(crate) fn facts(&self) -> RunFacts {
        RunFacts {
            name: self.domain.config().name.clone(),
            config_digest: self.domain.digest().to_string(),
            code_version: CODE_VERSION.to_owned(),
            resolved_toml: config::to_toml(self.domain.config()),
            machine: machine(),
            num_threads: self.device.num_threads(),
            precision: self.device.precision().name().to_owned(),
            stages: self.stages.iter().map(|stage| (stage.kind.clone(), stage.wall_s)).collect(),
        }
    }

    fn begin(&self) -> Result<()> {
        fs::create_dir_all(&self.folder)?;
        let write = |name: &str, text: &str| arable_ledger::write_atomic(&self.folder.join(name), text.as_bytes());
        write("arable.toml", &self.domain.written)?;
        write("resolved.toml", &config::to_toml(self.domain.config()))?;
        let mut environment = machine();
        environment.insert("precision".into(), self.device.precision().name().into());
        environment.insert("threads".into(), self.device.num_threads().to_string());
        write("plan.json", &(serde_json::to_string_pretty(&plan::stages(self.domain.config()))? + "\n"))?;
        write("environment.json", &(serde_json::to_string_pretty(&environment)? + "\n"))?;
        self.record(RunStatus::Running, None)
    }

    fn record(&self, status: RunStatus, result_line: Option<String>) -> Result<()> {
        let now = now();
        let earlier = arable_ledger::read_record(&self.folder).ok();
        let running = status == RunStatus::Running;
        let started = earlier.filter(|_| !running).map_or_else(|| now.clone(), |record| record.started);
        let record = RunRecord {
            name: self.domain.config().name.clone(),
            config_digest: self.domain.digest(),
            code_version: CODE_VERSION.to_owned(),
            seed: self.domain.config().seed,
            status,
            started,
            finished: (!running).then_some(now),
            stages: self.stages.clone(),
            result_line,
        };
        arable_ledger::write_record(&self.folder, &record).advise()
    }

    fn write_report(&self, results: &Results) -> Result<()> {
        let write = |name: &str, text: &str| arable_ledger::write_atomic(&self.folder.join(name), text.as_bytes());
        write("results.json", &(serde_json::to_string_pretty(results)? + "\n"))?;
        write("report.md", &report::markdown(results))?;
        write("report.html", &report::html(results))?;
        for stage in &self.stages {
            link(&self.folder.join(&stage.kind), &Path::new("../artifacts").join(&stage.folder))?;
        }
        Ok(())
    }
}

fn now() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string()
}

/// The precision that the run in `folder` computes in.
///
/// # Errors
/// When its `environment.json` cannot be read or names none that is known: going on in another would be another run.
pub fn stored_precision(folder: &Path) -> Result<Precision> {
    let path = folder.join("environment.json");
    let environment: BTreeMap<String, String> = stages::read_json(&path)?;
    let name = environment.get("precision").map_or("", String::as_str);
    Precision::of_name(name).ok_or_else(|| {
        let known = Precision::ALL.map(Precision::name).join("`, `");
        let what = format!("compute in the precision `{name}` of `{}`", path.display());
        with_hint(what, format!("this version knows `{known}`; start anew with `arable run`"))
    })
}

/// Makes `link` point to `target`; where links are not to be had, the run's record names the folders all the same.
fn link(link: &Path, target: &Path) -> Result<()> {
    if link.is_symlink() {
        fs::remove_file(link)?;
    }
    #[cfg(unix)]
    fs::os::unix::fs::symlink(target, link)?;
    #[cfg(not(unix))]
    let _ = target;
    Ok(())
}

/// `24684084 kB` as people say it.
fn in_gib(text: &str) -> Option<String> {
    let kilobytes: f64 = text.trim_end_matches(" kB").parse().ok()?;
    Some(format!("{:.1} GiB", kilobytes / f64::from(1 << 20)))
}

/// Facts about the machine, by name.
fn machine() -> BTreeMap<String, String> {
    let file = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, key: &str| {
        let line = text.lines().find(|line| line.starts_with(key))?;
        Some(line.split(':').nth(1)?.trim().to_owned())
    };
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let known = [
        ("cores", Some(cores.to_string())),
        ("memory", field(&file("/proc/meminfo"), "MemTotal").and_then(|text| in_gib(&text))),
        ("operating system", Some(format!("{} {}", std::env::consts::OS, std::env::consts::ARCH))),
        ("processor", field(&file("/proc/cpuinfo"), "model name")),
    ];
    known.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}
