//! The plan, stage by stage: each is trained, measured, and let through or not.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use arable_core::Hint;
use arable_corpus::expectations;
use arable_ledger::Artifact;
use arable_train::pretrain::{HeldOutReport, held_out_loss};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::advice::Advise;
use crate::notice::Notice;
use crate::plan::{self, GateConfig, OnFail, Stage};
use crate::results::{GateFacts, ProbeReport};
use crate::run::Run;
use crate::stages::pretrain::{self, Made, Read};
use crate::stages::{file, probe, read_json, tokenizer, write_json};

/// A stage that was trained.
pub(crate) struct Trained {
    pub stage: Stage,
    pub artifact: Artifact,
    pub gate: Option<GateFacts>,
}

/// Gates that do not hold.
#[derive(Debug, thiserror::Error)]
#[error("pass the gate of stage `{stage}`: `{holds}` does not hold ({found})")]
pub struct GateFailed {
    /// The stage.
    pub stage: String,
    /// What was to hold.
    pub holds: String,
    /// The facts that it reads.
    pub found: String,
}

impl Hint for GateFailed {
    fn hint(&self) -> Option<String> {
        let stage = &self.stage;
        Some(format!(
            "what was trained stays: loosen `stage.{stage}.gate.holds`, or change the stage, or `arable rollback --to {stage}/STEP`"
        ))
    }
}

/// What was trained.
pub(crate) struct Plan {
    pub trained: Vec<Trained>,
    /// The stage that adaptation begins with: the last that was not rolled back.
    last: usize,
}

impl Plan {
    /// What adaptation begins with.
    pub(crate) fn pretrained(&self) -> &Artifact {
        &self.trained[self.last].artifact
    }
}

/// Measurements at both ends of a stage.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Measured {
    before: HeldOutReport,
    after: HeldOutReport,
    /// Standard deviation of the loss at the end over draws of masks.
    noise: f64,
}

/// Draws of masks that the noise floor is measured over.
const NUM_DRAWS: u64 = 5;

/// Trains all stages in order.
pub(crate) fn run_plan(
    run: &mut Run<'_>,
    tasks: &[Artifact],
    vocabulary: &Artifact,
    tokens: &Artifact,
) -> Result<Plan> {
    let (mut trained, mut last): (Vec<Trained>, Option<usize>) = (Vec::new(), None);
    for stage in plan::stages(run.domain.config()) {
        let before = last.map(|idx| trained[idx].artifact.clone());
        let made = Made { tasks, vocabulary, tokens, before: before.as_ref() };
        let artifact = pretrain::run(run, &stage, made)?;
        let first = trained.first().map_or(&artifact, |first| &first.artifact);
        let probes = probe::since_start(first, &artifact)?;
        let gate = stage.gate.as_ref().map(|gate| judge(run, &stage, gate, made, &artifact, &probes)).transpose()?;
        if !gate.as_ref().is_some_and(|gate| gate.rolled_back) {
            last = Some(trained.len());
        }
        trained.push(Trained { stage, artifact, gate });
    }
    let last = last.context("the first stage is not rolled back")?;
    Ok(Plan { trained, last })
}

fn judge(
    run: &mut Run<'_>,
    stage: &Stage,
    gate: &GateConfig,
    made: Made<'_>,
    artifact: &Artifact,
    probes: &BTreeMap<String, [ProbeReport; 2]>,
) -> Result<GateFacts> {
    let measured = measure(run, stage, made, artifact)?;
    let facts = [measured.facts(), probe::facts(probes)].concat();
    let facts: Vec<(&str, f64)> = facts.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    let asked = [(stage.name.clone(), gate.holds.clone())].into();
    let verdict = expectations(&asked, &facts).advise()?.remove(0);
    let found: Vec<String> = verdict.facts.iter().map(|(name, value)| format!("{name} = {value:.4}")).collect();
    let failed = GateFailed { stage: stage.name.clone(), holds: gate.holds.clone(), found: found.join(", ") };
    // Before the first stage there is nothing to go back to.
    let stops = gate.on_fail == OnFail::Stop || gate.on_fail == OnFail::RollBack && made.before.is_none();
    let rolled_back = !verdict.holds && gate.on_fail == OnFail::RollBack && !stops;
    if !verdict.holds {
        let what = match rolled_back {
            true => "go on from where the stage began",
            false if stops => "stop",
            false => "go on",
        };
        run.decide(&format!("{what} after stage `{}`", stage.name), &failed.to_string())?;
        if stops {
            return Err(failed).advise();
        }
        run.reporter.notice(&Notice::Warning(format!("failed to {failed}; {what}")));
        if rolled_back {
            run.failed_gates.push(failed);
        }
    }
    Ok(GateFacts { holds: gate.holds.clone(), passed: verdict.holds, rolled_back, facts: verdict.facts })
}

/// Measures a stage at its end, with other masks than those seen in training, and with several draws of them.
fn measure(run: &mut Run<'_>, stage: &Stage, made: Made<'_>, artifact: &Artifact) -> Result<Measured> {
    let inputs = [pretrain::weights_digest(artifact)?, made.tokens.digest()];
    let found = run.stage(&format!("gate-{}", stage.name), &stage.pretrain, &inputs, |run, draft| {
        let words = tokenizer::load(made.vocabulary)?;
        let text = Read::open(run, stage, &words, made)?;
        let end = pretrain::state(&stage.pretrain, artifact)?;
        let start = pretrain::begin(run, &stage.pretrain, &text, made)?;
        let seed = pretrain::stage_seed(run, stage).child("gate");
        let at = |draw: u64, state| {
            held_out_loss(&stage.pretrain, &text.view(), run.device, seed.child(&draw.to_string()), state).advise()
        };
        let draws = (0..NUM_DRAWS).map(|draw| at(draw, &end)).collect::<Result<Vec<_>>>()?;
        let losses: Vec<f64> = draws.iter().map(|report| report.loss).collect();
        let measured = Measured { before: at(0, &start)?, after: draws[0].clone(), noise: deviation(&losses) };
        write_json(&draft.path().join("measured.json"), &measured)?;
        let text = format!("held-out loss {:.3} -> {:.3}", measured.before.loss, measured.after.loss);
        Ok(json!({ "text": text }))
    })?;
    read_json(&file(&found, "measured.json")?)
}

/// The standard deviation of a sample.
fn deviation(values: &[f64]) -> f64 {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (squares / (values.len() - 1) as f64).sqrt()
}

impl Measured {
    /// The facts that a gate may name.
    fn facts(&self) -> Vec<(String, f64)> {
        let Self { before, after, noise } = self;
        let mut facts = vec![
            ("loss".to_owned(), after.loss),
            ("change".to_owned(), after.loss - before.loss),
            ("noise".to_owned(), *noise),
            ("accuracy".to_owned(), after.accuracy),
            ("accuracy_change".to_owned(), after.accuracy - before.accuracy),
        ];
        for (source, loss) in &after.by_source {
            let was = before.by_source.get(source).copied().unwrap_or(f64::NAN);
            facts.push((format!("loss_{source}"), *loss));
            facts.push((format!("change_{source}"), loss - was));
        }
        facts
    }
}
