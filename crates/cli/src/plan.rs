//! What the commands about plans and past steps do and print.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use anyhow::Result;
use arable_pipeline::audit::{self, Difference, NotAsItWas, Replayed, Verified};
use arable_pipeline::domain::Domain;
use arable_pipeline::estimate::{self, Estimate};
use arable_pipeline::rollback;
use arable_pipeline::run::{Run, stored_precision};
use serde_json::json;

use crate::args::Global;
use crate::commands::{device, find_run, load, out, precision};
use crate::errors::Usage;
use crate::labels::{cut, print};
use crate::profile;
use crate::progress::Printer;

/// Shows what a run would do, stage by stage, and about how long it would take.
pub fn plan(global: &Global) -> Result<()> {
    let domain = load(global)?;
    let device = device(global, precision(global))?;
    let (mut printer, flag) = (Printer::new(global.verbose), AtomicBool::new(false));
    let steps = Run::new(&domain, &out(global), &device, &mut printer, &flag)?.plan()?;
    let estimates = estimate::of_plan(&domain, &device)?;
    let mut text = String::new();
    for (kind, done) in &steps {
        text += &format!("{kind:<24} {}\n", if *done { "done" } else { "to do" });
    }
    text += "\nstage             tokens    steps    length     batch       rate   time  memory\n";
    estimates.iter().for_each(|estimate| text += &estimate_text(estimate));
    print(global, &json!({ "steps": steps, "stages": estimates }), &text)
}

fn estimate_text(estimate: &Estimate) -> String {
    let Estimate { stage, num_steps, wall_s, memory_bytes } = estimate;
    let config = &stage.pretrain;
    let ramp = |[from, to]: [usize; 2]| if from == to { from.to_string() } else { format!("{from}-{to}") };
    let mut text = format!(
        "{:<15} {:>6.1} M {num_steps:>8} {:>9} {:>9} {:>10.1e} {:>6} {:>6.1}G\n",
        cut(&stage.name, 15),
        config.num_tokens.0 as f64 / 1e6,
        ramp(config.max_length.ends()),
        ramp(config.tokens_per_batch.ends()),
        config.learning_rate,
        crate::progress::short_time(*wall_s),
        memory_bytes / 1e9,
    );
    let weighed = |name: &str, [from, to]: [f64; 2]| match from == to {
        true => format!("{name} {from}"),
        false => format!("{name} {from} to {to}"),
    };
    let shares: Vec<String> = config.mixture.iter().map(|(name, share)| weighed(name, share.ends())).collect();
    let objectives = config.objectives();
    let weights: Vec<String> = objectives.iter().map(|(name, weight)| weighed(name, weight.ends())).collect();
    let lines = [("mixture", shares), ("objectives", if objectives.len() > 1 { weights } else { Vec::new() })];
    for (what, listed) in lines.into_iter().filter(|(_, listed)| !listed.is_empty()) {
        text += &cut(&format!("  {what}: {}", listed.join(", ")), 80);
        text.push('\n');
    }
    if let Some(gate) = &stage.gate {
        text += &cut(&format!("  gate: {} ({:?})", gate.holds, gate.on_fail), 80);
        text.push('\n');
    }
    text
}

/// Does `work` with a run as it was started.
fn within<T>(global: &Global, name: Option<&str>, work: impl FnOnce(&mut Run<'_>) -> Result<T>) -> Result<T> {
    let folder = find_run(global, name)?;
    let domain = Domain::load(&folder.join("resolved.toml"), &[])?;
    let device = device(global, stored_precision(&folder)?)?;
    let (mut printer, flag) = (Printer::new(global.verbose), AtomicBool::new(false));
    work(&mut Run::new(&domain, &out(global), &device, &mut printer, &flag)?)
}

/// Goes back to a checkpoint, or undoes that.
pub fn rollback(global: &Global, name: Option<&str>, to: Option<&str>, why: &str, restart_data: bool) -> Result<()> {
    within(global, name, |run| {
        let Some(target) = to else {
            rollback::undo(run, why)?;
            eprintln!("undone; `arable resume` goes on as before");
            return Ok(());
        };
        let done = rollback::to(run, target, why, restart_data)?;
        let text = format!(
            "stage `{}` goes on from step {} ({}); what came after stays on the disk\n\
             `arable resume` goes on from there, `arable run` with the settings in arable.toml\n",
            done.stage,
            done.step,
            done.checkpoint.short()
        );
        print(global, &done, &text)
    })
}

/// Computes a past step again.
pub fn replay(global: &Global, name: Option<&str>, stage: Option<&str>, step: u64) -> Result<()> {
    let replayed = within(global, name, |run| audit::replay(run, stage, step))?;
    print(global, &replayed, &replay_text(&replayed))?;
    if replayed.is_equal() {
        return Ok(());
    }
    let what = format!("step {step} of stage `{}`", replayed.stage);
    let first = replayed.first_difference.unwrap_or(step);
    Err(NotAsItWas { what, found: format!("step {first} is the first that differs") }.into())
}

fn replay_text(replayed: &Replayed) -> String {
    let Replayed { stage, from_step, step, then, now, weights, .. } = replayed;
    let mut text = format!("stage {stage}, step {step}, computed again from step {from_step}\n\n");
    text += "             then                     now\n";
    let rows = [
        ("loss", then.loss, now.loss),
        ("|gradient|", then.grad_norm, now.grad_norm),
        ("rate", then.learning_rate, now.learning_rate),
    ];
    for (what, then, now) in rows {
        text += &format!("{what:<12} {then:<24} {now:<24}\n");
    }
    let then = weights.0.map_or("no checkpoint".to_owned(), |digest| digest.short().to_string());
    text += &format!("{:<12} {then:<24} {:<24}\n", "weights", weights.1.short().to_string());
    text + if replayed.is_equal() { "\nequal, bit for bit\n" } else { "\nnot equal\n" }
}

/// Verifies every byte of a run.
pub fn verify(global: &Global, name: Option<&str>) -> Result<()> {
    let folder = find_run(global, name)?;
    let verified = audit::verify(&folder)?;
    let Verified { num_artifacts, num_checkpoints, num_bytes, num_steps, flaws } = &verified;
    let mut text = format!(
        "{num_artifacts} artifacts ({:.1} MB), {num_checkpoints} checkpoints, {num_steps} steps on record\n",
        *num_bytes as f64 / 1e6
    );
    flaws.iter().for_each(|flaw| text += &format!("broken: {flaw}\n"));
    print(global, &verified, &text)?;
    if flaws.is_empty() {
        return Ok(());
    }
    Err(NotAsItWas { what: format!("the run in {}", folder.display()), found: flaws.join("; ") }.into())
}

/// Says how two runs differ, or what shifted between two profiles.
pub fn diff(global: &Global, before: &str, after: &str) -> Result<()> {
    if before == after {
        return Err(Usage(format!("compare `{before}` with itself")).into());
    }
    let folders = [before, after].map(|name| out(global).join(name));
    if !folders.iter().all(|folder| is_run(folder)) {
        return profile::diff(global, before, after);
    }
    let found = audit::diff(&folders[0], &folders[1])?;
    print(global, &found, &difference_text(&found))
}

fn is_run(folder: &Path) -> bool {
    folder.join("run.json").is_file()
}

fn difference_text(found: &Difference) -> String {
    let mut text = String::new();
    for (title, rows) in [("settings", &found.settings), ("program and machine", &found.environment)] {
        text += &format!("{title}{}\n", if rows.is_empty() { ": the same" } else { "" });
        for (key, a, b) in rows {
            text += &format!("  {:<34} {:<20} {}\n", cut(key, 34), cut(a, 20), cut(b, 20));
        }
    }
    text += "artifacts\n";
    for (kind, same) in &found.artifacts {
        text += &format!("  {kind:<34} {}\n", if *same { "the same" } else { "different" });
    }
    for (stage, step) in &found.steps {
        text += &match step {
            None => format!("{stage}: every step the same, bit for bit\n"),
            Some(step) => format!("{stage}: part at step {step}\n"),
        };
    }
    text + &found.shift.as_ref().map_or_else(String::new, |shift| format!("\n{}", profile::shift_text(shift)))
}
