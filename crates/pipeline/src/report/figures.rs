//! The charts of the report, each from its part of the results; `None` where there is nothing to draw.

use maud::{Markup, html};

use super::chart::{Axis, Chart, Dot, Mark, Shape, class, shape, unit};
use super::findings::{self, budgets, summary};
use super::format;
use super::scale::{Scale, Spacing, extent};
use crate::results::{Arm, PretrainingFacts, PretrainingPoint, ProbeReport, ReliabilityBin, TaskResults};

const WIDE: (f64, f64) = (430.0, 280.0);
const MEDIUM: (f64, f64) = (310.0, 240.0);
const SMALL: (f64, f64) = (250.0, 250.0);

/// Score by label budget with intervals.
pub(super) fn efficiency(task: &TaskResults) -> Option<Markup> {
    let all = budgets(task);
    let metric = format::metric(&task.metric);
    let values = task.summaries.iter().flat_map(|own| [own.mean, own.low, own.high]);
    let chart = Chart {
        label: format!("{metric} on {} by labels used, for {}", task.name, arm_names(&findings::arms(task))),
        size: WIDE,
        x: Axis::budgets(&all)?,
        y: Axis::nice(&format!("test {metric}"), values, 5)?,
        marks: efficiency_marks(task, &all),
    };
    Some(chart.svg())
}

fn arm_names(arms: &[Arm]) -> String {
    arms.iter().map(|arm| arm.label()).collect::<Vec<_>>().join(", ")
}

/// Bands below lines below points; the pretrained arm on top.
fn efficiency_marks(task: &TaskResults, all: &[f64]) -> Vec<Mark> {
    let arms: Vec<Arm> = findings::arms(task).into_iter().rev().collect();
    let own = |arm: Arm| all.iter().filter_map(move |&budget| summary(task, arm, budget));
    let bands = arms.iter().map(|&arm| Mark::Band {
        class: class(arm).into(),
        points: own(arm).map(|own| (own.budget, own.low, own.high)).collect(),
    });
    // A band of one point is invisible, so a lone point gets a whisker.
    let whiskers = arms.iter().filter(|&&arm| own(arm).count() == 1).flat_map(|&arm| own(arm)).map(|own| Mark::Line {
        class: class(own.arm).into(),
        points: vec![(own.budget, own.low), (own.budget, own.high)],
    });
    let lines = arms.iter().map(|&arm| Mark::Line {
        class: class(arm).into(),
        points: own(arm).map(|own| (own.budget, own.mean)).collect(),
    });
    let dots = arms.iter().map(|&arm| Mark::Dots {
        class: class(arm).into(),
        shape: shape(arm),
        dots: own(arm).map(|own| Dot { x: own.budget, y: own.mean, radius: 4.0, title: summary_title(own) }).collect(),
    });
    bands.chain(whiskers).chain(lines).chain(dots).collect()
}

fn summary_title(own: &crate::results::Summary) -> String {
    format!(
        "{}, {} of the labels ({}): {} ({} to {}), {}",
        own.arm.label(),
        format::budget(own.budget),
        format::counted(own.num_examples, "example"),
        format::score(own.mean),
        format::score(own.low),
        format::score(own.high),
        format::counted(own.num_seeds, "seed"),
    )
}

/// The intervals of one row of the main table on the task's common axis.
pub(super) fn intervals(task: &TaskResults, budget: f64) -> Option<Markup> {
    let scale = Scale::new(Spacing::Linear, interval_extent(task)?, (5.0, 155.0));
    let rows = findings::arms(task).into_iter().enumerate().filter_map(|(at, arm)| {
        let own = summary(task, arm, budget)?;
        Some((arm, 6.0 + 10.0 * at as f64, scale.at(own.low)?, scale.at(own.mean)?, scale.at(own.high)?))
    });
    Some(html! {
        svg.intervals viewBox="0 0 160 32" aria-hidden="true" {
            @for (arm, y, low, mean, high) in rows {
                line.line.(class(arm)) x1=(unit(low)) x2=(unit(high)) y1=(y) y2=(y) {}
                g.dots.(class(arm)) { (shape(arm).draw(mean, y, 3.2)) }
            }
        }
    })
}

/// The lowest and highest end of any interval of the task.
pub(super) fn interval_extent(task: &TaskResults) -> Option<(f64, f64)> {
    extent(task.summaries.iter().flat_map(|own| [own.mean, own.low, own.high]))
}

/// Development score by step at the largest budget: every seed thin, their median thick.
pub(super) fn learning(task: &TaskResults) -> Option<Markup> {
    let budget = *findings::outer_budgets(task).last()?;
    let curves = |arm: Arm| -> Vec<&[(u64, f64)]> {
        findings::cells(task, arm, budget).map(|cell| cell.curve.as_slice()).filter(|curve| !curve.is_empty()).collect()
    };
    let arms = [Arm::Scratch, Arm::Pretrained].map(|arm| (arm, curves(arm)));
    let points = || arms.iter().flat_map(|(_, curves)| curves).flat_map(|curve| curve.iter());
    let metric = format::metric(&task.metric);
    let seeds = arms.iter().flat_map(|(arm, curves)| curves.iter().map(|curve| (*arm, "thin", to_points(curve))));
    let medians = arms.iter().map(|(arm, curves)| (*arm, "thick", to_points(&findings::median_curve(curves))));
    let lines = seeds.chain(medians).map(|(arm, weight, points)| line(class(arm), weight, points));
    let chart = Chart {
        label: format!("Development {metric} on {} by optimizer step, pretrained and scratch", task.name),
        size: WIDE,
        x: Axis::tight("optimizer steps", points().map(|point| point.0 as f64).chain([0.0]), 6)?,
        y: Axis::nice(&format!("development {metric}"), points().map(|point| point.1), 5)?,
        marks: convergence_rules(task).into_iter().chain(lines).collect(),
    };
    (points().next().is_some()).then(|| chart.svg())
}

fn line(class: &str, weight: &str, points: Vec<(f64, f64)>) -> Mark {
    Mark::Line { class: format!("{class} {weight}"), points }
}

fn to_points(curve: &[(u64, f64)]) -> Vec<(f64, f64)> {
    curve.iter().map(|&(step, score)| (step as f64, score)).collect()
}

fn convergence_rules(task: &TaskResults) -> Vec<Mark> {
    let Some(own) = task.convergence.as_ref().filter(|own| own.ratio.is_finite()) else { return Vec::new() };
    let rule = |arm: Arm, step: u64| Mark::Rule { class: class(arm).into(), x: step as f64 };
    let pretrained = own.pretrained_steps.map(|steps| rule(Arm::Pretrained, steps));
    [rule(Arm::Scratch, own.scratch_steps)].into_iter().chain(pretrained).collect()
}

/// Accuracy by confidence, before and after temperature scaling, over all seeds.
pub(super) fn reliability(task: &TaskResults, arm: Arm, budget: f64) -> Option<Markup> {
    let [before, after] = [false, true].map(|is_scaled| findings::pooled_reliability(task, arm, budget, is_scaled));
    if before.is_empty() && after.is_empty() {
        return None;
    }
    let chart = Chart {
        label: format!(
            "Share of right predictions by confidence, {} on {} at {} of the labels",
            arm.label(),
            task.name,
            format::budget(budget)
        ),
        size: SMALL,
        x: Axis::unit("confidence"),
        y: Axis::unit("share right"),
        marks: vec![
            Mark::Line { class: "diagonal".into(), points: vec![(0.0, 0.0), (1.0, 1.0)] },
            line(class(arm), "before", places(&before)),
            bin_dots(arm, "before", &before),
            line(class(arm), "after", places(&after)),
            bin_dots(arm, "after", &after),
        ],
    };
    Some(chart.svg())
}

fn places(bins: &[ReliabilityBin]) -> Vec<(f64, f64)> {
    bins.iter().map(|bin| (bin.confidence, bin.accuracy)).collect()
}

/// Points whose area grows with the predictions in the bin.
fn bin_dots(arm: Arm, when: &str, bins: &[ReliabilityBin]) -> Mark {
    let most = bins.iter().map(|bin| bin.count).max().unwrap_or(1) as f64;
    let dots = bins.iter().map(|bin| Dot {
        x: bin.confidence,
        y: bin.accuracy,
        radius: 1.6 + 3.4 * (bin.count as f64 / most).sqrt(),
        title: format!(
            "{when} scaling: {}, mean confidence {}, share right {}",
            format::counted(bin.count, "prediction"),
            format::score(bin.confidence),
            format::score(bin.accuracy)
        ),
    });
    Mark::Dots { class: format!("{} {when}", class(arm)), shape: Shape::Circle, dots: dots.collect() }
}

/// Training and held-out loss by step.
pub(super) fn pretraining_loss(facts: &PretrainingFacts) -> Option<Markup> {
    let steps = facts.curve.iter().map(|point| point.step).chain(facts.held_out.iter().map(|point| point.step));
    let losses = facts.curve.iter().map(|point| point.loss).chain(facts.held_out.iter().map(|point| point.loss));
    let training = facts.curve.iter().map(|point| (point.step as f64, point.loss)).collect();
    let held_out = facts.held_out.iter().map(|point| (point.step as f64, point.loss)).collect();
    let dots = facts.held_out.iter().map(|point| Dot {
        x: point.step as f64,
        y: point.loss,
        radius: 3.2,
        title: format!(
            "step {}, {} tokens: held-out loss {}, {} of masked tokens right",
            point.step,
            format::compact(point.num_tokens as f64),
            format::score(point.loss),
            format::percent(point.accuracy)
        ),
    });
    let chart = Chart {
        label: "Training and held-out loss by optimizer step".into(),
        size: MEDIUM,
        x: Axis::tight("optimizer steps", steps.map(|step| step as f64).chain([0.0]), 4)?,
        y: Axis::nice("loss, nats per masked token", losses, 5)?,
        marks: vec![
            line("tfidf", "noisy", training),
            line("pretrained", "thick", held_out),
            Mark::Dots { class: "pretrained".into(), shape: Shape::Circle, dots: dots.collect() },
        ],
    };
    Some(chart.svg())
}

/// What a task's probes found by step: fine-tuned with a band of one standard deviation, and frozen.
pub(super) fn probes(facts: &PretrainingFacts, task: &str) -> Option<Markup> {
    let own: Vec<&ProbeReport> = facts.probes.iter().filter(|report| report.task == task).collect();
    let metric = format::metric(&own.first()?.metric);
    let band: Vec<(f64, f64, f64)> = own
        .iter()
        .map(|own| (own.step as f64, own.finetuned - own.finetuned_deviation, own.finetuned + own.finetuned_deviation))
        .collect();
    let curve =
        |score: fn(&ProbeReport) -> f64| own.iter().map(|own| (own.step as f64, score(own))).collect::<Vec<_>>();
    let dots = own.iter().map(|own| Dot {
        x: own.step as f64,
        y: own.finetuned,
        radius: 3.2,
        title: format!(
            "step {}: {} fine-tuned, {} frozen, ECE {}",
            own.step,
            format::score(own.finetuned),
            format::score(own.linear),
            format::score(own.ece)
        ),
    });
    let values = band.iter().flat_map(|&(_, low, high)| [low, high]).chain(own.iter().map(|own| own.linear));
    let chart = Chart {
        label: format!("{metric} of probes on {task} by optimizer step"),
        size: MEDIUM,
        x: Axis::tight("optimizer steps", own.iter().map(|own| own.step as f64).chain([0.0]), 4)?,
        y: Axis::nice(&format!("development {metric}"), values, 5)?,
        marks: vec![
            Mark::Band { class: "pretrained".into(), points: band },
            line("tfidf", "thick", curve(|own| own.linear)),
            line("pretrained", "thick", curve(|own| own.finetuned)),
            Mark::Dots { class: "pretrained".into(), shape: Shape::Circle, dots: dots.collect() },
        ],
    };
    Some(chart.svg())
}

/// One quantity of the pretraining curve by step, from zero.
pub(super) fn pretraining_quantity(
    facts: &PretrainingFacts,
    title: &str,
    quantity: fn(&PretrainingPoint) -> f64,
) -> Option<Markup> {
    let points: Vec<(f64, f64)> = facts.curve.iter().map(|point| (point.step as f64, quantity(point))).collect();
    extent(points.iter().map(|point| point.1))?;
    let chart = Chart {
        label: format!("{title} by optimizer step"),
        size: MEDIUM,
        x: Axis::tight("optimizer steps", points.iter().map(|point| point.0).chain([0.0]), 4)?,
        y: Axis::nice(title, points.iter().map(|point| point.1).chain([0.0]), 4)?,
        marks: vec![line("pretrained", "noisy", points)],
    };
    Some(chart.svg())
}
